//! FXCH, FCMOVcc, FFREE, FINCSTP and FDECSTP.

use super::Fpu;
use super::soft::{F80, flag};

impl Fpu {
    /// Exchanges ST(0) and ST(`i`); the masked response to an empty one is to take it for the indefinite.
    /// SDM Vol. 2A, "FXCH".
    #[inline]
    pub const fn fxch(&mut self, i: u8) {
        let mut env = self.env();
        let (mut a, mut b) = (self.st(0), self.st(i));
        if self.is_empty(0) || self.is_empty(i) {
            env.stack_underflow();
            a = if self.is_empty(0) { F80::INDEFINITE } else { a };
            b = if self.is_empty(i) { F80::INDEFINITE } else { b };
        }
        self.settle(&env);
        if !env.stops() {
            self.set_st(0, b);
            self.set_st(i, a);
        }
    }

    /// Copies ST(`i`) to ST(0) if the condition holds. SDM Vol. 2A, "FCMOVcc".
    #[inline]
    pub const fn fcmov(&mut self, i: u8, condition: bool) {
        let mut env = self.env();
        let value = if self.is_empty(0) || self.is_empty(i) {
            env.stack_underflow();
            F80::INDEFINITE
        } else if condition {
            self.st(i)
        } else {
            self.st(0)
        };
        self.settle_keeping_c1(&env);
        if !env.stops() {
            self.set_st(0, value);
        }
    }

    /// Marks ST(`i`) as empty. SDM Vol. 2A, "FFREE".
    #[inline]
    pub const fn ffree(&mut self, i: u8) {
        self.tags &= !(1 << (self.top.wrapping_add(i) & 7));
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
