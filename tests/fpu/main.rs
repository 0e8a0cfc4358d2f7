//! The soft FPU against the x87 of AMD processors: the same instruction on the same state must leave the same state.
//!
//! On such a processor each instruction runs on it and on the model, from random states full of edge cases;
//! `TABLE86_CASES` sets how many (default: a few thousand). Elsewhere `silicon.txt` stands in, with a digest of what
//! each instruction left on silicon from the first states, and `transcendental.txt` with values; vendors differ where
//! the manual lets them.

mod cases;
mod harness;
mod instructions;
#[cfg(target_arch = "x86_64")]
mod native;
mod recorded;
#[cfg(target_arch = "x86_64")]
mod silicon;
mod transcendental;
