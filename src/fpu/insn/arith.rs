//! The instructions that compute: FADD to FDIVR, FSQRT, FABS, FCHS, FRNDINT, FSCALE, FPREM, FPREM1, FXTRACT.

use super::Fpu;
use super::Operand;
use super::soft::rem::{self, Remainder};
use super::soft::{Env, F80, arith, convert, flag, scale};

impl Fpu {
    /// Replaces ST(`destination`) by `op` of it and the source, then pops `pops` times.
    #[inline(always)]
    pub(super) fn dyadic(
        &mut self,
        destination: u8,
        source: Operand,
        pops: u8,
        op: impl FnOnce(F80, F80, &mut Env) -> F80,
    ) {
        let mut env = self.env();
        let value = match source.read(self, &mut env) {
            Some(b) if !self.is_empty(destination) => op(self.st(destination), b, &mut env),
            _ => {
                env = self.env();
                env.stack_underflow();
                F80::INDEFINITE
            }
        };
        self.settle(&env);
        if !env.stops() {
            self.set_st(destination, value);
            self.pop(pops);
        }
    }

    /// Replaces ST(0) by `op` of it.
    #[inline(always)]
    pub(super) fn monadic(&mut self, op: impl FnOnce(F80, &mut Env) -> F80) {
        self.dyadic(0, Operand::St(0), 0, |a, _, env| op(a, env));
    }

    /// Adds the source to ST(`destination`), then pops `pops` times. SDM Vol. 2A, "FADD/FADDP/FIADD".
    #[inline]
    pub fn fadd(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::add);
    }

    /// Subtracts the source from ST(`destination`), then pops `pops` times. SDM Vol. 2A, "FSUB/FSUBP/FISUB".
    #[inline]
    pub fn fsub(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::sub);
    }

    /// Replaces ST(`destination`) by the source less it, then pops `pops` times.
    /// SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
    #[inline]
    pub fn fsubr(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::sub_reversed);
    }

    /// Multiplies ST(`destination`) by the source, then pops `pops` times. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
    #[inline]
    pub fn fmul(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::mul);
    }

    /// Divides ST(`destination`) by the source, then pops `pops` times. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
    #[inline]
    pub fn fdiv(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::div);
    }

    /// Replaces ST(`destination`) by the source divided by it, then pops `pops` times.
    /// SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
    #[inline]
    pub fn fdivr(&mut self, destination: u8, source: Operand, pops: u8) {
        self.dyadic(destination, source, pops, arith::div_reversed);
    }

    /// Takes the square root of ST(0). SDM Vol. 2A, "FSQRT".
    #[inline]
    pub fn fsqrt(&mut self) {
        self.monadic(arith::sqrt);
    }

    /// Clears the sign of ST(0). SDM Vol. 2A, "FABS".
    #[inline]
    pub fn fabs(&mut self) {
        self.monadic(|a, _| a.abs());
    }

    /// Inverts the sign of ST(0). SDM Vol. 2A, "FCHS".
    #[inline]
    pub fn fchs(&mut self) {
        self.monadic(|a, _| a.chs());
    }

    /// Rounds ST(0) to an integral value. SDM Vol. 2A, "FRNDINT".
    #[inline]
    pub fn frndint(&mut self) {
        self.monadic(convert::round_to_integral);
    }

    /// Scales ST(0) by 2 to the power of ST(1) truncated. SDM Vol. 2A, "FSCALE".
    #[inline]
    pub fn fscale(&mut self) {
        self.dyadic(0, Operand::St(1), 0, scale::scale);
    }

    /// Replaces ST(0) by its remainder by ST(1), the quotient truncated. SDM Vol. 2A, "FPREM".
    pub fn fprem(&mut self) {
        self.remainder(rem::truncated);
    }

    /// Replaces ST(0) by its remainder by ST(1), the quotient rounded to nearest. SDM Vol. 2A, "FPREM1".
    pub fn fprem1(&mut self) {
        self.remainder(rem::nearest);
    }

    fn remainder(&mut self, op: fn(F80, F80, &mut Env) -> Remainder) {
        let mut codes = None;
        self.dyadic(0, Operand::St(1), 0, |a, b, env| {
            let remainder = op(a, b, env);
            codes = remainder.codes;
            remainder.value
        });
        match codes {
            Some(codes) => self.set_codes(flag::CODES, codes),
            None => self.set_codes(flag::C2, 0),
        }
    }

    /// Replaces ST(0) by its exponent and pushes its significand. SDM Vol. 2A, "FXTRACT".
    pub fn fxtract(&mut self) {
        self.replace_and_push(|a, env| {
            let parts = scale::extract(a, env);
            (parts.exponent, parts.significand)
        });
    }

    /// Replaces ST(0) by the first value that `op` makes of it and pushes the second.
    #[inline]
    fn replace_and_push(&mut self, op: impl FnOnce(F80, &mut Env) -> (F80, F80)) {
        let mut env = self.env();
        let (replaced, pushed) = if self.is_empty(0) {
            env.stack_underflow();
            (F80::INDEFINITE, F80::INDEFINITE)
        } else if self.is_full() {
            env.stack_overflow();
            (F80::INDEFINITE, F80::INDEFINITE)
        } else {
            op(self.st(0), &mut env)
        };
        self.settle(&env);
        if !env.stops() {
            self.set_st(0, replaced);
            self.push(pushed);
        }
    }
}
