//! The instructions that compute: FADD to FDIVR, FSQRT, FABS, FCHS, FRNDINT, FSCALE, FPREM, FPREM1, FXTRACT.

use super::soft::quick::{self, Quick};
use super::soft::rem::{self, Remainder};
use super::soft::{Env, F80, arith, convert, flag, scale};
use super::{Fpu, Operand, Tag};
use crate::fpu::way::Way;

/// An operation that has a short way. A type and no closure, so that the short way is always inlined.
trait Dyadic {
    /// The short way, of normal numbers.
    fn quick(a: F80, b: F80) -> Option<Quick<F80>>;
    /// Every case.
    fn general(a: F80, b: F80, env: &mut Env) -> F80;
}

macro_rules! dyadic {
    ($($name:ident: $op:ident),*) => {$(
        struct $name;
        impl Dyadic for $name {
            #[inline(always)]
            fn quick(a: F80, b: F80) -> Option<Quick<F80>> {
                quick::$op(a, b)
            }
            fn general(a: F80, b: F80, env: &mut Env) -> F80 {
                arith::$op(a, b, env)
            }
        }
    )*};
}

dyadic!(Add: add, Sub: sub, SubReversed: sub_reversed, Mul: mul);

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

    /// As [`Fpu::dyadic`], on the short way first.
    #[inline(always)]
    fn dyadic_quick<W: Way, O: Dyadic>(
        &mut self,
        destination: u8,
        source: Operand,
        pops: u8,
    ) -> Result<(), W::Else> {
        let n = self.number(destination);
        if (W::SHORT || self.short)
            && let Some(b) = source.read_normal(self, self.word(n))
            && let Some(result) = O::quick(self.value(n), b)
        {
            self.settle_quick(result.lost, result.away);
            self.replace(n, result.value, Tag::NORMAL);
            self.pop(pops);
            return Ok(());
        }
        W::general(|| {
            self.dyadic(destination, source, pops, O::general);
            Ok(())
        })
    }

    /// Replaces ST(0) by `op` of it, which raises nothing and changes the sign at most.
    #[inline(always)]
    fn silent<W: Way>(&mut self, op: impl FnOnce(F80) -> F80) -> Result<(), W::Else> {
        let word = self.word(self.top);
        if !word.is_empty() {
            self.settle_quick(0, false);
            self.replace(self.top, op(self.st(0)), word.tag());
            return Ok(());
        }
        W::general(|| {
            self.monadic(|a, _| op(a));
            Ok(())
        })
    }

    /// Replaces ST(0) by `op` of it.
    #[inline(always)]
    pub(super) fn monadic(&mut self, op: impl FnOnce(F80, &mut Env) -> F80) {
        self.dyadic(0, Operand::St(0), 0, |a, _, env| op(a, env));
    }

    /// Adds the source to ST(`destination`), then pops `pops` times. SDM Vol. 2A, "FADD/FADDP/FIADD".
    #[inline(always)]
    pub fn fadd<W: Way>(&mut self, destination: u8, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.dyadic_quick::<W, Add>(destination, source, pops)
    }

    /// Subtracts the source from ST(`destination`), then pops `pops` times. SDM Vol. 2A, "FSUB/FSUBP/FISUB".
    #[inline(always)]
    pub fn fsub<W: Way>(&mut self, destination: u8, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.dyadic_quick::<W, Sub>(destination, source, pops)
    }

    /// Replaces ST(`destination`) by the source less it, then pops `pops` times.
    /// SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
    #[inline(always)]
    pub fn fsubr<W: Way>(&mut self, destination: u8, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.dyadic_quick::<W, SubReversed>(destination, source, pops)
    }

    /// Multiplies ST(`destination`) by the source, then pops `pops` times. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
    #[inline(always)]
    pub fn fmul<W: Way>(&mut self, destination: u8, source: Operand, pops: u8) -> Result<(), W::Else> {
        self.dyadic_quick::<W, Mul>(destination, source, pops)
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
    #[inline(always)]
    pub fn fabs<W: Way>(&mut self) -> Result<(), W::Else> {
        self.silent::<W>(F80::abs)
    }

    /// Inverts the sign of ST(0). SDM Vol. 2A, "FCHS".
    #[inline(always)]
    pub fn fchs<W: Way>(&mut self) -> Result<(), W::Else> {
        self.silent::<W>(F80::chs)
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
