//! The instructions on the canonical state, less their memory accesses.
//!
//! Each follows SDM Vol. 1, 8.4 and 8.5, in what it leaves undone: an unmasked `#IS`, `#IA`, `#D` or `#Z` leaves the
//! destination and the stack as they were; an unmasked `#O` or `#U` does so too when the destination is memory, and
//! else delivers a wrapped exponent. The exception's flag, ES and B are set, and the next waiting instruction raises
//! `#MF`.
//!
//! Where the manual says nothing, or something else than AMD processors do, the processors are followed:
//!
//! - A load of an `m32fp` or `m64fp` completes in spite of an unmasked `#D`.
//! - FCOM and FUCOM write C3, C2 and C0, and FCOMI and FUCOMI EFLAGS, even if an unmasked exception stops the pop.
//! - FCOMI, FUCOMI and FCMOVcc leave C1 alone but at a stack fault; FFREE clears it.
//! - FPREM and FPREM1 of an invalid operand or a NaN clear C1 and C2 and keep C0 and C3; else the four are written.
//! - An unmasked `#O` or `#U` of a store to memory reports neither `#P` nor C1.
//! - FLD ST(i) of an empty register onto a full stack is an underflow.
//! - FSCALE beyond what an unmasked `#O` or `#U` can wrap gives an infinity or zero with `#P`.
//! - FXTRACT, FSINCOS and FPTAN of an empty register onto a full stack are underflows.
//!
//! What programs do most has a short way ([`quick`](super::soft::quick)) before the general one. Such an instruction is generic over the
//! [`Way`](super::way::Way): the whole of it is always done, and of the short way an error says that it was not, and nothing has changed.

mod arith;
mod compare;
mod load;
mod stack;
mod store;
mod trans;

pub use load::Operand;
pub use store::Store;

use super::soft::{self, Env, F80, flag};
use super::{Fpu, Register, STATUS_APART, Tag, Word};

impl Fpu {
    /// Starts an operation under the current control word.
    #[inline]
    const fn env(&self) -> Env {
        Env::new(self.control)
    }

    /// Enters what an operation raised into the status word; C1 is cleared if it was not raised.
    #[inline]
    const fn settle(&mut self, env: &Env) {
        self.status |= env.flags() & !STATUS_APART;
        self.settle_quick((env.flags() & flag::PE) as u64, env.flags() & flag::C1 != 0);
        if env.unmasked() != 0 {
            self.status |= flag::ES | flag::B;
        }
    }

    /// Enters what a short way raised: `#P` if anything was rounded off, and whether that was away from zero.
    #[inline(always)]
    const fn settle_quick(&mut self, lost: u64, away: bool) {
        self.lost |= lost;
        self.away = away;
    }

    /// Enters what an operation raised as [`Fpu::settle`] does, but touches C1 on a stack fault only.
    #[inline]
    const fn settle_keeping_c1(&mut self, env: &Env) {
        let away = self.away;
        self.settle(env);
        if env.flags() & flag::SF == 0 {
            self.away |= away;
        }
    }

    /// Replaces the condition codes in `mask` by those in `codes`.
    #[inline]
    const fn set_codes(&mut self, mask: u16, codes: u16) {
        self.status = self.status & !(mask & !flag::C1) | codes & !flag::C1;
        if mask & flag::C1 != 0 {
            self.away = codes & flag::C1 != 0;
        }
    }

    /// Empties ST(0) and increments TOP, `count` times.
    #[inline(always)]
    const fn pop(&mut self, count: u8) {
        let mut left = count;
        while left != 0 {
            self.empty(self.top);
            self.top = self.number(1);
            left -= 1;
        }
    }

    /// Decrements TOP and sets the new ST(0).
    #[inline]
    const fn push(&mut self, value: F80) {
        self.push_register(Register::new(value, Tag::of(value)));
    }

    /// As [`Fpu::push`], of what is known already.
    #[inline(always)]
    const fn push_register(&mut self, register: Register) {
        // Where ST(7) was.
        self.top = self.number(7);
        self.set_register(self.top, register);
    }

    /// Whether a push would overflow the stack.
    #[inline]
    const fn is_full(&self) -> bool {
        !self.is_empty(7)
    }
}
