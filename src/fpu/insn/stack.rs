//! FXCH, FCMOVcc, FFREE, FINCSTP and FDECSTP.

use super::Fpu;
use super::soft::{F80, flag};
use crate::fpu::way::Way;

impl Fpu {
    /// Exchanges ST(0) and ST(`i`); the masked response to an empty one is to take it for the indefinite.
    /// SDM Vol. 2A, "FXCH".
    #[inline(always)]
    pub fn fxch<W: Way>(&mut self, i: u8) -> Result<(), W::Else> {
        let (a, b) = (self.number(0), self.number(i));
        let (from_a, from_b) = (self.register(a), self.register(b));
        if !from_a.word.is_empty() && !from_b.word.is_empty() {
            self.settle_quick(0, false);
            self.set_register(a, from_b);
            self.set_register(b, from_a);
            return Ok(());
        }
        W::general(|| {
            self.fxch_empty(i);
            Ok(())
        })
    }

    const fn fxch_empty(&mut self, i: u8) {
        let mut env = self.env();
        env.stack_underflow();
        let a = if self.is_empty(0) { F80::INDEFINITE } else { self.st(0) };
        let b = if self.is_empty(i) { F80::INDEFINITE } else { self.st(i) };
        self.settle(&env);
        if !env.stops() {
            self.set_st(0, b);
            self.set_st(i, a);
        }
    }

    /// Copies ST(`i`) to ST(0) if the condition holds. SDM Vol. 2A, "FCMOVcc".
    #[inline(always)]
    pub fn fcmov<W: Way>(&mut self, i: u8, condition: bool) -> Result<(), W::Else> {
        let (a, b) = (self.number(0), self.number(i));
        if !self.tag(a).is_empty() && !self.tag(b).is_empty() {
            self.set_register(a, self.register(if condition { b } else { a }));
            return Ok(());
        }
        W::general(|| {
            let mut env = self.env();
            env.stack_underflow();
            self.settle(&env);
            if !env.stops() {
                self.set_st(0, F80::INDEFINITE);
            }
            Ok(())
        })
    }

    /// Marks ST(`i`) as empty. SDM Vol. 2A, "FFREE".
    #[inline]
    pub const fn ffree(&mut self, i: u8) {
        self.empty(self.number(i));
        self.set_codes(flag::C1, 0);
    }

    /// Marks ST(`i`) as empty and pops: the undocumented FFREEP, `DF C0+i`.
    #[inline]
    pub const fn ffreep(&mut self, i: u8) {
        self.ffree(i);
        self.pop(1);
    }

    /// Increments TOP without marking anything as empty. SDM Vol. 2A, "FINCSTP".
    #[inline]
    pub const fn fincstp(&mut self) {
        self.top = self.number(1);
        self.set_codes(flag::C1, 0);
    }

    /// Decrements TOP without marking anything as empty. SDM Vol. 2A, "FDECSTP".
    #[inline]
    pub const fn fdecstp(&mut self) {
        self.top = self.number(7);
        self.set_codes(flag::C1, 0);
    }
}
