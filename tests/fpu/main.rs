//! The soft FPU against an x87: the same instruction on the same state must leave the same state.
//!
//! On x86-64 each instruction runs on the host and on the model, from random states full of edge cases; `TABLE86_CASES`
//! sets how many (default: a few thousand). On every host there are besides `silicon.txt`, with a digest of what each
//! instruction left on an AMD processor from the first states, and `transcendental.txt` with values; there,
//! `TABLE86_BLESS=1 cargo test --test fpu recorded` writes both anew.

mod cases;
mod harness;
mod instructions;
#[cfg(target_arch = "x86_64")]
mod native;
mod recorded;
#[cfg(target_arch = "x86_64")]
mod silicon;
mod transcendental;

/// Whether what is recorded of AMD processors shall be recorded anew, and this is one.
#[cfg(target_arch = "x86_64")]
fn is_to_record() -> bool {
    std::env::var_os("TABLE86_BLESS").is_some_and(|value| value == "1") && native::is_amd()
}
