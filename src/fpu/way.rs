//! The two ways of an instruction that computes in software.
//!
//! What programs do nearly always is short ([`soft::quick`](super::soft::quick)), and is a handler by itself: it calls nobody, so it
//! keeps nothing on the host's stack. Where it does not know what to do, it has done nothing yet, and hands over to the whole
//! instruction. A body is written once, for both.

use crate::cpu::Fault;

/// One of the two.
pub trait Way {
    /// Why an instruction is not done.
    type Else: From<Fault>;
    /// Whether it is [`Short`]. Who takes it has looked at [`Fpu::is_short`](super::Fpu::is_short).
    const SHORT: bool;
    /// Does what the short way does not know.
    ///
    /// # Errors
    /// What comes of it, or in the short way that it is no short one.
    fn general<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Self::Else>;
}

/// The short way and no other.
#[derive(Clone, Copy, Debug)]
pub struct Short;

/// Nothing has been done: the [`Whole`] instruction is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotShort;

impl From<Fault> for NotShort {
    /// The whole instruction faults as well.
    #[inline(always)]
    fn from(_: Fault) -> NotShort {
        NotShort
    }
}

impl Way for Short {
    type Else = NotShort;
    const SHORT: bool = true;
    #[inline(always)]
    fn general<R>(_: impl FnOnce() -> Result<R, Fault>) -> Result<R, NotShort> {
        Err(NotShort)
    }
}

/// The short way if it is known, else the general one.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl Way for Whole {
    type Else = Fault;
    const SHORT: bool = false;
    #[inline(always)]
    fn general<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
        run()
    }
}
