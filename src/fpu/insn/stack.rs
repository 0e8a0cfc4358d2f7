//! FXCH, FCMOVcc, FFREE, FINCSTP and FDECSTP.

use super::Fpu;
use super::general;
use super::soft::{F80, flag};

impl Fpu {
    /// Exchanges ST(0) and ST(`i`); the masked response to an empty one is to take it for the indefinite.
    /// SDM Vol. 2A, "FXCH".
    #[inline(always)]
    pub fn fxch(&mut self, i: u8) {
        if !self.is_empty(0) && !self.is_empty(i) {
            let (a, b) = (self.st(0), self.st(i));
            self.settle_quick(false, false);
            self.replace(0, b);
            return self.replace(i, a);
        }
        general(self, i, Self::fxch_empty);
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
    pub fn fcmov(&mut self, i: u8, condition: bool) {
        if !self.is_empty(0) && !self.is_empty(i) {
            return self.replace(0, self.st(if condition { i } else { 0 }));
        }
        general(self, (), |fpu, ()| {
            let mut env = fpu.env();
            env.stack_underflow();
            fpu.settle(&env);
            if !env.stops() {
                fpu.set_st(0, F80::INDEFINITE);
            }
        });
    }

    /// Marks ST(`i`) as empty. SDM Vol. 2A, "FFREE".
    #[inline]
    pub const fn ffree(&mut self, i: u8) {
        self.full[self.number(i)] = false;
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
        self.top = (self.top + 1) & 7;
        self.set_codes(flag::C1, 0);
    }

    /// Decrements TOP without marking anything as empty. SDM Vol. 2A, "FDECSTP".
    #[inline]
    pub const fn fdecstp(&mut self) {
        self.top = self.top.wrapping_sub(1) & 7;
        self.set_codes(flag::C1, 0);
    }
}
