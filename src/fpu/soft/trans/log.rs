//! FYL2X and FYL2XP1.

use super::super::env::{Env, flag};
use super::super::f80::{BIAS, F80, Num};
use super::super::round::{denormal_stops, invalid, nan_of_two};
use super::fixed::{ODD_RECIPROCALS, Wide, mul_high, positive};

/// 2·log2 e.
const TWO_LOG2_E: Wide = Wide { exp: 1, mant: 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89 };
/// √2 in units of 2^-127.
const SQRT_2: u128 = 0xb504_f333_f9de_6484_597d_89b3_754a_be9f;
/// Fraction bits of a logarithm with its integer part, which has 15.
const LOG_BITS: i32 = 112;

/// A logarithm: 0 if `magnitude` is `None`.
struct Log {
    sign: u16,
    magnitude: Option<Wide>,
    exact: bool,
}

impl Log {
    /// Multiplies by `y` and rounds.
    fn times(self, y: Num, env: &mut Env) -> F80 {
        let sign = self.sign ^ y.sign;
        match self.magnitude {
            None => F80::zero(sign),
            Some(log) if self.exact => log.times(Wide::of(y)).round_exact(sign, env),
            Some(log) => log.times(Wide::of(y)).round(sign, env),
        }
    }
}

/// log2((1 + s)/(1 − s)) for s from 0 to about 0.1716, which is 2·log2 e·artanh s.
fn log2_of_ratio(s: Wide) -> Wide {
    let fixed = s.to_fixed(128);
    let square = mul_high(fixed, fixed);
    let rest = mul_high(square, positive(square, &ODD_RECIPROCALS));
    s.times(Wide { exp: 0, mant: 1 << 127 | rest >> 1 }).times(TWO_LOG2_E)
}

/// log2 of a positive number.
fn log2_of(x: Wide) -> Log {
    let halve = x.mant > SQRT_2;
    let characteristic = x.exp + i32::from(halve);
    // m − 1 and m + 1 for m from √½ to √2, in units of 2^-127.
    let one = 1u128 << 127;
    let (sign, difference, sum) = if halve {
        // Beyond √2 the sum of the halves is below 2.
        let m = x.mant >> 1;
        (0x8000, one - m - (x.mant & 1), Wide { exp: 0, mant: one + m })
    } else {
        (0, x.mant - one, Wide { exp: 1, mant: one | (x.mant - one) >> 1 })
    };
    let whole_sign = if characteristic < 0 { 0x8000 } else { 0 };
    let whole = u128::from(characteristic.unsigned_abs()) << LOG_BITS;
    let whole_wide = |units| Wide::normalized(127 - LOG_BITS, units);
    if difference == 0 {
        let magnitude = if whole == 0 { None } else { Some(whole_wide(whole)) };
        return Log { sign: whole_sign, magnitude, exact: true };
    }
    let fraction = log2_of_ratio(Wide::normalized(0, difference).over(sum));
    if whole == 0 {
        return Log { sign, magnitude: Some(fraction), exact: false };
    }
    // The fraction is at most one half.
    let fraction = fraction.to_fixed(LOG_BITS);
    let total = if sign == whole_sign { whole + fraction } else { whole - fraction };
    Log { sign: whole_sign, magnitude: Some(whole_wide(total)), exact: false }
}

/// Takes `y`·log2 `x`. SDM Vol. 2A, "FYL2X".
pub fn log2(x: F80, y: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(x, y, env) {
        return nan;
    }
    let sign = x.sign() ^ y.sign();
    if x.is_zero() {
        if y.is_zero() {
            return invalid(env);
        }
        if y.is_infinite() {
            return y.chs();
        }
        env.zero_divide();
        return F80::infinity(y.sign() ^ 0x8000);
    }
    if x.is_negative() {
        return invalid(env);
    }
    let one = x == F80::ONE;
    if (y.is_infinite() && one) || (x.is_infinite() && y.is_zero()) {
        return invalid(env);
    }
    if denormal_stops(x.is_denormal() || y.is_denormal(), env) {
        return x;
    }
    if x.is_infinite() {
        return F80::infinity(sign);
    }
    let below = if x.exponent() < BIAS { 0x8000 } else { 0 };
    if y.is_infinite() {
        return F80::infinity(y.sign() ^ below);
    }
    if y.is_zero() {
        return F80::zero(y.sign() ^ below);
    }
    log2_of(Wide::of(Num::finite(x))).times(Num::finite(y), env)
}

/// Takes `y`·log2(`x` + 1). SDM Vol. 2A, "FYL2XP1".
///
/// The manual defines it for |`x`| < 1 − √½ only; beyond, it goes on to −1, and from there down the result is `x`.
pub fn log2_plus_one(x: F80, y: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(x, y, env) {
        return nan;
    }
    let sign = x.sign() ^ y.sign();
    if (x.is_zero() && y.is_infinite()) || (x.is_infinite() && y.is_zero()) {
        return invalid(env);
    }
    if x.is_infinite() && x.is_negative() {
        return invalid(env);
    }
    if denormal_stops(x.is_denormal() || y.is_denormal(), env) {
        return x;
    }
    if x.is_infinite() || y.is_infinite() {
        return F80::infinity(sign);
    }
    if x.is_zero() || y.is_zero() {
        return F80::zero(sign);
    }
    let n = Num::finite(x);
    let negative = n.sign != 0;
    if negative && n.exp >= BIAS {
        env.raise(flag::PE);
        return x;
    }
    let wide = Wide::of(n);
    let log = if wide.exp < -2 {
        // log2((1 + s)/(1 − s)) with s = x/(2 + x); 2 ± x in units of 2^-126.
        let two = 1u128 << 127;
        let fixed = wide.to_fixed(126);
        let sum = if negative { two - fixed } else { two + fixed };
        let magnitude = log2_of_ratio(wide.over(Wide::normalized(1, sum)));
        Log { sign: n.sign, magnitude: Some(magnitude), exact: false }
    } else if wide.exp < 127 {
        log2_of(one_plus(negative, wide))
    } else {
        log2_of(wide)
    };
    log.times(Num::finite(y), env)
}

/// 1 ± x, for x from ¼ to 2^127, and below 1 if it is subtracted; exact up to 2^63.
fn one_plus(negative: bool, x: Wide) -> Wide {
    if negative {
        return Wide::normalized(0, (1 << 127) - x.to_fixed(127));
    }
    // One bit of headroom for the carry.
    let exp = x.exp.max(0) + 1;
    Wide::normalized(exp, x.to_fixed(127 - exp) + (1 << (127 - exp)))
}
