//! The soft FPU against an x87: the same instruction on the same state must leave the same state.
//!
//! On x86-64 each instruction runs on the host and on the model, from random states full of edge cases; `TABLE86_CASES`
//! sets how many (default: a few thousand). On every host there are besides `silicon.txt`, with a digest of what each
//! instruction left on an AMD processor from the first states, and `transcendental.txt` with values.

mod cases;
mod harness;
mod instructions;
#[cfg(target_arch = "x86_64")]
mod native;
mod recorded;
#[cfg(target_arch = "x86_64")]
mod silicon;
mod transcendental;
