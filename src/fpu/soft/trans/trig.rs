//! FSIN, FCOS, FSINCOS and FPTAN.

use super::super::env::{Env, flag};
use super::super::f80::{BIAS, F80, Num};
use super::super::round::{denormal_stops, invalid, nan_of_one};
use super::fixed::{Wide, alternating, mul_high};

/// π/2 in units of 2^-65, from the 66 bits of π that silicon reduces by.
const HALF_PI: u128 = 0x3_243f_6a88_85a3_08d3;
/// The fraction bits of [`HALF_PI`].
const REDUCTION_BITS: i32 = 65;

/// 1/n! for n = `first`, `first` + 2, …, in units of 2^-128.
const fn reciprocal_factorials<const N: usize>(first: u128) -> [u128; N] {
    let mut table = [0; N];
    let mut value = u128::MAX;
    let mut n = 1;
    let mut k = 0;
    while k < N {
        n += 1;
        value /= n;
        if n >= first && (n - first).is_multiple_of(2) {
            table[k] = value;
            k += 1;
        }
    }
    table
}

/// 1/3!, 1/5!, …
const SIN: [u128; 16] = reciprocal_factorials(3);
/// 1/2!, 1/4!, …
const COS: [u128; 16] = reciprocal_factorials(2);

/// The sine and the cosine of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SinCos {
    /// The sine.
    pub sin: F80,
    /// The cosine.
    pub cos: F80,
}

/// What an argument is before any computing.
enum Argument {
    /// The operation ends with this value.
    Done(F80),
    /// Zero, with its sign.
    Zero(F80),
    /// A finite number below 2^63 in magnitude.
    Finite(Num),
    /// A finite number of 2^63 or more in magnitude.
    TooLarge,
}

fn argument(a: F80, env: &mut Env) -> Argument {
    if let Some(nan) = nan_of_one(a, env) {
        return Argument::Done(nan);
    }
    if a.is_infinite() {
        return Argument::Done(invalid(env));
    }
    if a.is_zero() {
        return Argument::Zero(a);
    }
    if denormal_stops(a.is_denormal(), env) {
        return Argument::Done(a);
    }
    if a.exponent() >= BIAS + 63 {
        return Argument::TooLarge;
    }
    Argument::Finite(Num::finite(a))
}

/// An argument brought to ±`rest`, at most π/4, plus `quadrant` times π/2.
struct Reduced {
    sign: u16,
    rest: Wide,
    quadrant: u32,
}

fn reduce(n: Num) -> Reduced {
    let exp = n.exp - BIAS;
    if exp < -1 {
        return Reduced { sign: n.sign, rest: Wide::of(n), quadrant: 0 };
    }
    // Exact: 64 bits moved by at most 64. No multiple of π of 66 bits, an odd number, has only 64, so that the
    // rest is not 0.
    let units = u128::from(n.sig) << (exp - 63 + REDUCTION_BITS);
    let mut quadrant = (units / HALF_PI) as u32;
    let mut rest = units % HALF_PI;
    let mut sign = n.sign;
    if rest > HALF_PI / 2 {
        rest = HALF_PI - rest;
        quadrant = quadrant.wrapping_add(1);
        sign ^= 0x8000;
    }
    // The quadrants of a negative argument count the other way.
    if n.sign != 0 {
        quadrant = quadrant.wrapping_neg();
    }
    Reduced { sign, rest: Wide::normalized(127 - REDUCTION_BITS, rest), quadrant: quadrant & 3 }
}

impl Reduced {
    /// The square of the rest in units of 2^-128.
    fn square(&self) -> u128 {
        let shift = -2 * (self.rest.exp + 1);
        if shift < 128 { mul_high(self.rest.mant, self.rest.mant) >> shift } else { 0 }
    }

    /// sin of the rest, less its sign.
    fn sin(&self) -> Wide {
        let square = self.square();
        // 1 itself does not fit; what is as near below it rounds as the true value does.
        let factor = 0u128.wrapping_sub(mul_high(square, alternating(square, &SIN)).max(1));
        self.rest.times(Wide { exp: -1, mant: factor })
    }

    /// cos of the rest.
    fn cos(&self) -> Wide {
        let square = self.square();
        Wide { exp: -1, mant: 0u128.wrapping_sub(mul_high(square, alternating(square, &COS)).max(1)) }
    }

    /// tan of the rest, less its sign.
    fn tan(&self) -> Wide {
        if self.rest.exp > -32 {
            return self.sin().over(self.cos());
        }
        // x + x³/3; the next term is beyond 128 bits.
        let Wide { exp, mant } = self.rest;
        match mant.overflowing_add(mul_high(mant, self.square() / 3)) {
            (mant, false) => Wide { exp, mant },
            (mant, true) => Wide { exp: exp + 1, mant: mant >> 1 | 1 << 127 },
        }
    }

    fn sin_value(&self, env: &mut Env) -> F80 {
        let negate = if self.quadrant >= 2 { 0x8000 } else { 0 };
        if self.quadrant & 1 == 0 {
            self.sin().round(self.sign ^ negate, env)
        } else {
            self.cos().round(negate, env)
        }
    }

    fn cos_value(&self, env: &mut Env) -> F80 {
        let negate = if matches!(self.quadrant, 1 | 2) { 0x8000 } else { 0 };
        if self.quadrant & 1 == 0 {
            self.cos().round(negate, env)
        } else {
            self.sin().round(self.sign ^ negate, env)
        }
    }
}

/// Takes the sine. SDM Vol. 2A, "FSIN". `None`: the argument is 2^63 or more in magnitude.
pub fn sin(a: F80, env: &mut Env) -> Option<F80> {
    match argument(a, env) {
        Argument::Done(value) | Argument::Zero(value) => Some(value),
        Argument::Finite(n) => Some(reduce(n).sin_value(env)),
        Argument::TooLarge => None,
    }
}

/// Takes the cosine. SDM Vol. 2A, "FCOS". `None`: the argument is 2^63 or more in magnitude.
pub fn cos(a: F80, env: &mut Env) -> Option<F80> {
    match argument(a, env) {
        Argument::Done(value) => Some(value),
        Argument::Zero(_) => Some(F80::ONE),
        Argument::Finite(n) => Some(reduce(n).cos_value(env)),
        Argument::TooLarge => None,
    }
}

/// Takes both; C1 tells of the sine's rounding. SDM Vol. 2A, "FSINCOS". `None`: the argument is 2^63 or more in magnitude.
pub fn sin_cos(a: F80, env: &mut Env) -> Option<SinCos> {
    match argument(a, env) {
        Argument::Done(value) => Some(SinCos { sin: value, cos: value }),
        Argument::Zero(value) => Some(SinCos { sin: value, cos: F80::ONE }),
        Argument::Finite(n) => {
            let reduced = reduce(n);
            let mut cos_env = *env;
            let cos = reduced.cos_value(&mut cos_env);
            let sin = reduced.sin_value(env);
            env.raise(cos_env.flags() & !flag::C1);
            Some(SinCos { sin, cos })
        }
        Argument::TooLarge => None,
    }
}

/// Takes the tangent. SDM Vol. 2A, "FPTAN". `None`: the argument is 2^63 or more in magnitude.
pub fn tan(a: F80, env: &mut Env) -> Option<F80> {
    match argument(a, env) {
        Argument::Done(value) | Argument::Zero(value) => Some(value),
        Argument::Finite(n) => {
            let reduced = reduce(n);
            Some(if reduced.quadrant & 1 == 0 {
                reduced.tan().round(reduced.sign, env)
            } else {
                reduced.cos().over(reduced.sin()).round(reduced.sign ^ 0x8000, env)
            })
        }
        Argument::TooLarge => None,
    }
}
