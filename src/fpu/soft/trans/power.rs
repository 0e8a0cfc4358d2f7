//! F2XM1.

use super::super::env::{Env, flag};
use super::super::f80::{BIAS, F80, Num};
use super::super::round::{denormal_stops, nan_of_one};
use super::fixed::{Wide, alternating, mul_high, positive};

/// ln 2.
const LN_2: Wide = Wide { exp: -1, mant: 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af };

/// 1/(k + 1)! in units of 2^-127.
const COEFFICIENTS: [u128; 32] = {
    let mut table = [0; 32];
    let mut value = 1 << 127;
    let mut k = 0;
    while k < table.len() {
        value /= k as u128 + 1;
        table[k] = value;
        k += 1;
    }
    table
};

/// Takes 2^`a` − 1 for |`a`| ≤ 1. SDM Vol. 2A, "F2XM1". Beyond, where the manual leaves the result undefined, finite
/// arguments stay as they are, as on AMD processors.
pub fn power_minus_one(a: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_one(a, env) {
        return nan;
    }
    if a.is_infinite() {
        return if a.is_negative() { F80::ONE.chs() } else { a };
    }
    if a.is_zero() || denormal_stops(a.is_denormal(), env) {
        return a;
    }
    if a.exponent() >= BIAS {
        env.raise(flag::PE);
        return if a == F80::ONE.chs() { F80::new(0xbffe, a.sig) } else { a };
    }
    let n = Num::finite(a);
    let t = Wide::of(n).times(LN_2);
    // (e^t − 1)/t in units of 2^-127.
    let fixed = t.to_fixed(128);
    let factor = if n.sign == 0 { positive(fixed, &COEFFICIENTS) } else { alternating(fixed, &COEFFICIENTS) };
    Wide::normalized(t.exp + 1, mul_high(t.mant, factor)).round(n.sign, env)
}
