//! Conversions between binary80 and the formats in memory.
//!
//! `widen_*` give the value of a source operand for another operation, which then reports what there is to report;
//! `from_*` are the loads themselves (FLD, FILD); `to_*` are the stores (FST, FIST, FISTTP).

use super::env::{Env, Rounding, flag};
use super::f80::{BIAS, F80, INTEGER, Num};
use super::round::{HALF, denormal_stops, nan_of_one, rounds_away, shift_right_jam};

/// A binary interchange format narrower than binary80, by its layout.
struct Narrow {
    /// Bits of the fraction field.
    fraction_bits: u32,
    /// Bits of the exponent field.
    exponent_bits: u32,
    /// The exponent's bias.
    bias: i32,
}

const BINARY32: Narrow = Narrow { fraction_bits: 23, exponent_bits: 8, bias: 127 };
const BINARY64: Narrow = Narrow { fraction_bits: 52, exponent_bits: 11, bias: 1023 };

impl Narrow {
    const fn exp_max(&self) -> i32 {
        (1 << self.exponent_bits) - 1
    }

    #[inline(always)]
    fn widen(&self, bits: u64, env: &mut Env) -> F80 {
        let sign = if (bits >> (self.fraction_bits + self.exponent_bits)) & 1 != 0 { 0x8000 } else { 0 };
        let exp = ((bits >> self.fraction_bits) as i32) & self.exp_max();
        // The fraction, below where the integer bit goes.
        let fraction = (bits << (63 - self.fraction_bits)) & (INTEGER - 1);
        if exp == self.exp_max() {
            return F80::new(sign | 0x7fff, INTEGER | fraction);
        }
        if exp != 0 {
            return F80::new(sign | (exp - self.bias + BIAS) as u16, INTEGER | fraction);
        }
        if fraction == 0 {
            return F80::zero(sign);
        }
        env.denormal_source();
        let shift = fraction.leading_zeros();
        F80::new(sign | (1 - self.bias + BIAS - shift as i32) as u16, fraction << shift)
    }

    #[inline(always)]
    fn pack(&self, sign: u16, exp: i32, fraction: u64) -> u64 {
        let sign = u64::from(sign >> 15) << (self.fraction_bits + self.exponent_bits);
        sign | ((exp as u64) << self.fraction_bits) | fraction
    }

    #[inline(always)]
    fn narrow(&self, a: F80, env: &mut Env) -> u64 {
        if !a.is_normal() {
            return env.rarely(|env| self.narrow_special(a, env));
        }
        self.narrow_finite(Num::normal(a), env)
    }

    #[cold]
    #[inline(never)]
    fn narrow_special(&self, a: F80, env: &mut Env) -> u64 {
        if let Some(nan) = nan_of_one(a, env) {
            return self.pack(
                nan.sign(),
                self.exp_max(),
                (nan.sig & (INTEGER - 1)) >> (63 - self.fraction_bits),
            );
        }
        if a.is_infinite() {
            return self.pack(a.sign(), self.exp_max(), 0);
        }
        if a.is_zero() {
            return self.pack(a.sign(), 0, 0);
        }
        self.narrow_finite(Num::finite(a), env)
    }

    /// Rounds `sig` to its upper bits, `drop` fewer than 64. Gives what is left in the low bits, which may have
    /// carried, and whether it is inexact and was rounded away from zero.
    #[inline(always)]
    fn round(sign: u16, sig: u64, low: u64, drop: u32, env: &Env) -> (u64, bool, bool) {
        let kept = sig >> drop;
        let rest = (sig << (64 - drop)) | u64::from(low != 0);
        let away = rounds_away(env.rounding(), sign != 0, kept & 1 != 0, rest);
        (kept + u64::from(away), rest != 0, away)
    }

    #[inline(always)]
    fn narrow_finite(&self, a: Num, env: &mut Env) -> u64 {
        let drop = 63 - self.fraction_bits;
        let hidden = 1u64 << self.fraction_bits;
        let exp = a.exp - BIAS + self.bias;
        let (kept, inexact, away) = Self::round(a.sign, a.sig, 0, drop, env);
        let carried = exp + i32::from(kept == hidden << 1);
        if carried >= self.exp_max() {
            return env.rarely(|env| self.overflow(a.sign, env));
        }
        if exp <= 0 {
            return env.rarely(|env| self.underflow(a, exp, carried <= 0, env));
        }
        env.inexact(inexact, away);
        // The hidden bit is added into the exponent, and so is a carry.
        self.pack(a.sign, exp - 1, 0) + kept
    }

    #[cold]
    #[inline(never)]
    fn overflow(&self, sign: u16, env: &mut Env) -> u64 {
        env.raise(flag::OE);
        // Nothing is stored then, and nothing said of its precision.
        if !env.masked(flag::OE) {
            return 0;
        }
        env.raise(flag::PE);
        if rounds_away(env.rounding(), sign != 0, true, HALF | 1) {
            env.raise(flag::C1);
            return self.pack(sign, self.exp_max(), 0);
        }
        self.pack(sign, self.exp_max() - 1, (1 << self.fraction_bits) - 1)
    }

    #[cold]
    #[inline(never)]
    fn underflow(&self, a: Num, exp: i32, tiny: bool, env: &mut Env) -> u64 {
        if tiny && !env.masked(flag::UE) {
            env.raise(flag::UE);
            return 0;
        }
        let (sig, low) = shift_right_jam(a.sig, 0, (1 - exp) as u32);
        let (kept, inexact, away) = Self::round(a.sign, sig, low, 63 - self.fraction_bits, env);
        if tiny && inexact {
            env.raise(flag::UE);
        }
        env.inexact(inexact, away);
        self.pack(a.sign, 0, 0) + kept
    }
}

/// Widens the bits of an `m32fp` source exactly. A signaling NaN stays one; a denormal is reported to `env`.
#[inline]
pub fn widen_f32(bits: u32, env: &mut Env) -> F80 {
    BINARY32.widen(u64::from(bits), env)
}

/// Widens the bits of an `m64fp` source exactly. A signaling NaN stays one; a denormal is reported to `env`.
#[inline]
pub fn widen_f64(bits: u64, env: &mut Env) -> F80 {
    BINARY64.widen(bits, env)
}

/// Converts an integer exactly; zero becomes +0. Serves all widths. SDM Vol. 2A, "FILD".
#[inline]
#[must_use]
pub const fn from_i64(value: i64) -> F80 {
    let sign = if value < 0 { 0x8000 } else { 0 };
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return F80::ZERO;
    }
    let shift = magnitude.leading_zeros();
    F80::new(sign | (BIAS + 63 - shift as i32) as u16, magnitude << shift)
}

/// Loads an `m32fp`: quiets a signaling NaN with `#IA`, reports a denormal with `#D`. SDM Vol. 2A, "FLD".
#[inline]
pub fn from_f32(bits: u32, env: &mut Env) -> F80 {
    let a = widen_f32(bits, env);
    nan_of_one(a, env).unwrap_or(a)
}

/// Loads an `m64fp`, as [`from_f32`].
#[inline]
pub fn from_f64(bits: u64, env: &mut Env) -> F80 {
    let a = widen_f64(bits, env);
    nan_of_one(a, env).unwrap_or(a)
}

/// Rounds to the bits of an `m32fp`. SDM Vol. 2A, "FST/FSTP".
///
/// Raises `#IA` for signaling NaNs and unsupported encodings, `#O`, `#U`, `#P`; a denormal source is not reported.
#[inline]
pub fn to_f32(a: F80, env: &mut Env) -> u32 {
    BINARY32.narrow(a, env) as u32
}

/// Rounds to the bits of an `m64fp`, as [`to_f32`].
#[inline]
pub fn to_f64(a: F80, env: &mut Env) -> u64 {
    BINARY64.narrow(a, env)
}

/// The magnitude of `a` rounded to an integer, and whether that is inexact and away from zero. `None` when it does
/// not fit 64 bits, or is none.
#[inline]
pub(super) fn integer_magnitude(a: F80, rounding: Rounding) -> Option<(u64, bool, bool)> {
    let exp = a.exponent();
    if a.sig & INTEGER == 0 && exp != 0 || exp > BIAS + 63 {
        return None;
    }
    let (whole, rest) = shift_right_jam(a.sig, 0, (BIAS + 63 - exp) as u32);
    let away = rounds_away(rounding, a.is_negative(), whole & 1 != 0, rest);
    whole.checked_add(u64::from(away)).map(|whole| (whole, rest != 0, away))
}

/// Converts to a signed integer of `bits` bits, or gives the integer indefinite, the most negative one, with `#IA`.
#[inline]
fn to_integer(a: F80, bits: u32, rounding: Rounding, env: &mut Env) -> i64 {
    let limit = 1u64 << (bits - 1);
    match integer_magnitude(a, rounding) {
        Some((whole, inexact, away)) if whole < limit || (whole == limit && a.is_negative()) => {
            env.inexact(inexact, away);
            let value = whole as i64;
            if a.is_negative() { value.wrapping_neg() } else { value }
        }
        _ => {
            env.invalid();
            (limit as i64).wrapping_neg()
        }
    }
}

/// Rounds to an `m16int`. SDM Vol. 2A, "FIST/FISTP".
#[inline]
pub fn to_i16(a: F80, env: &mut Env) -> i16 {
    to_integer(a, 16, env.rounding(), env) as i16
}

/// Rounds to an `m32int`. SDM Vol. 2A, "FIST/FISTP".
#[inline]
pub fn to_i32(a: F80, env: &mut Env) -> i32 {
    to_integer(a, 32, env.rounding(), env) as i32
}

/// Rounds to an `m64int`. SDM Vol. 2A, "FIST/FISTP".
#[inline]
pub fn to_i64(a: F80, env: &mut Env) -> i64 {
    to_integer(a, 64, env.rounding(), env)
}

/// Truncates to an `m16int`. SDM Vol. 2A, "FISTTP".
#[inline]
pub fn truncate_i16(a: F80, env: &mut Env) -> i16 {
    to_integer(a, 16, Rounding::ZERO, env) as i16
}

/// Truncates to an `m32int`. SDM Vol. 2A, "FISTTP".
#[inline]
pub fn truncate_i32(a: F80, env: &mut Env) -> i32 {
    to_integer(a, 32, Rounding::ZERO, env) as i32
}

/// Truncates to an `m64int`. SDM Vol. 2A, "FISTTP".
#[inline]
pub fn truncate_i64(a: F80, env: &mut Env) -> i64 {
    to_integer(a, 64, Rounding::ZERO, env)
}

/// Rounds to an integral value. SDM Vol. 2A, "FRNDINT".
#[inline]
pub fn round_to_integral(a: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_one(a, env) {
        return nan;
    }
    if a.is_zero() || a.exponent() >= BIAS + 63 {
        return a;
    }
    if denormal_stops(a.is_denormal(), env) {
        return a;
    }
    let Some((whole, inexact, away)) = integer_magnitude(a, env.rounding()) else { return a };
    env.inexact(inexact, away);
    if whole == 0 {
        return F80::zero(a.sign());
    }
    let shift = whole.leading_zeros();
    F80::new(a.sign() | (BIAS + 63 - shift as i32) as u16, whole << shift)
}
