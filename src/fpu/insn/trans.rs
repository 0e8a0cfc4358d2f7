//! The transcendental instructions.

use super::Fpu;
use super::Operand;
use super::soft::{Env, F80, flag, trans};

impl Fpu {
    /// Replaces ST(0) by `op` of it; out of range, sets C2 and leaves it.
    fn trigonometric(&mut self, op: fn(F80, &mut Env) -> Option<F80>) {
        let mut out_of_range = false;
        self.monadic(|a, env| {
            op(a, env).unwrap_or_else(|| {
                out_of_range = true;
                a
            })
        });
        self.set_codes(flag::C2, if out_of_range { flag::C2 } else { 0 });
    }

    /// Replaces ST(0) by the first value that `op` makes of it and pushes the second; out of range, sets C2 and
    /// does neither.
    fn trigonometric_pair(&mut self, op: impl FnOnce(F80, &mut Env) -> Option<(F80, F80)>) {
        let mut env = self.env();
        let indefinite = Some((F80::INDEFINITE, F80::INDEFINITE));
        let pair = if self.is_empty(0) {
            env.stack_underflow();
            indefinite
        } else if self.is_full() {
            env.stack_overflow();
            indefinite
        } else {
            op(self.st(0), &mut env)
        };
        self.settle(&env);
        self.set_codes(flag::C2, if pair.is_none() { flag::C2 } else { 0 });
        if let Some((replaced, pushed)) = pair
            && !env.stops()
        {
            self.set_st(0, replaced);
            self.push(pushed);
        }
    }

    /// Takes the sine of ST(0). SDM Vol. 2A, "FSIN".
    pub fn fsin(&mut self) {
        self.trigonometric(trans::sin);
    }

    /// Takes the cosine of ST(0). SDM Vol. 2A, "FCOS".
    pub fn fcos(&mut self) {
        self.trigonometric(trans::cos);
    }

    /// Replaces ST(0) by its sine and pushes its cosine. SDM Vol. 2A, "FSINCOS".
    pub fn fsincos(&mut self) {
        self.trigonometric_pair(|a, env| trans::sin_cos(a, env).map(|both| (both.sin, both.cos)));
    }

    /// Replaces ST(0) by its tangent and pushes 1, or the NaN that the tangent is. SDM Vol. 2A, "FPTAN".
    pub fn fptan(&mut self) {
        self.trigonometric_pair(|a, env| {
            let tangent = trans::tan(a, env)?;
            Some((tangent, if tangent.is_nan() { tangent } else { F80::ONE }))
        });
    }

    /// Replaces ST(1) by the angle of the point (ST(0), ST(1)) and pops. SDM Vol. 2A, "FPATAN".
    pub fn fpatan(&mut self) {
        self.dyadic(1, Operand::St(0), 1, |y, x, env| trans::arctangent(x, y, env));
    }

    /// Replaces ST(0) by 2 to its power less 1. SDM Vol. 2A, "F2XM1".
    pub fn f2xm1(&mut self) {
        self.monadic(trans::power_minus_one);
    }

    /// Replaces ST(1) by ST(1)·log2 ST(0) and pops. SDM Vol. 2A, "FYL2X".
    pub fn fyl2x(&mut self) {
        self.dyadic(1, Operand::St(0), 1, |y, x, env| trans::log2(x, y, env));
    }

    /// Replaces ST(1) by ST(1)·log2 (ST(0) + 1) and pops. SDM Vol. 2A, "FYL2XP1".
    pub fn fyl2xp1(&mut self) {
        self.dyadic(1, Operand::St(0), 1, |y, x, env| trans::log2_plus_one(x, y, env));
    }
}
