//! FSCALE and FXTRACT.

use super::convert::from_i64;
use super::env::Env;
use super::f80::{BIAS, F80, Num};
use super::round::{denormal_stops, invalid, nan_of_one, nan_of_two, round_extended};

/// Multiplies `a` by 2 to the power of `b` truncated to an integer. SDM Vol. 2A, "FSCALE".
pub fn scale(a: F80, b: F80, env: &mut Env) -> F80 {
    if !(a.is_normal() && b.is_normal()) {
        if let Some(nan) = nan_of_two(a, b, env) {
            return nan;
        }
        if b.is_infinite() && if b.is_negative() { a.is_infinite() } else { a.is_zero() } {
            return invalid(env);
        }
        if denormal_stops(a.is_denormal() || b.is_denormal(), env) {
            return a;
        }
        if b.is_infinite() {
            return if b.is_negative() { F80::zero(a.sign()) } else { F80::infinity(a.sign()) };
        }
        if a.is_infinite() || a.is_zero() {
            return a;
        }
        if b.is_zero() {
            return a.unchanged();
        }
    }
    let n = Num::finite(a);
    round_extended(n.sign, n.exp + power(b), n.sig, 0, env)
}

/// `b` truncated, or at least as far from zero as matters.
fn power(b: F80) -> i32 {
    const FAR: i32 = 0x1_0000;
    let places = b.exponent() - BIAS;
    let magnitude = match places {
        i32::MIN..0 => 0,
        0..16 => (b.sig >> (63 - places)) as i32,
        _ => FAR,
    };
    if b.is_negative() { -magnitude } else { magnitude }
}

/// What FXTRACT makes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// The unbiased exponent, which replaces ST(0).
    pub exponent: F80,
    /// The significand with the number's sign, which is pushed.
    pub significand: F80,
}

/// Splits a number. SDM Vol. 2A, "FXTRACT". Zero raises `#Z` and has the exponent −∞.
pub fn extract(a: F80, env: &mut Env) -> Parts {
    if let Some(nan) = nan_of_one(a, env) {
        return Parts { exponent: nan, significand: nan };
    }
    if a.is_infinite() {
        return Parts { exponent: F80::INFINITY, significand: a };
    }
    if a.is_zero() {
        env.zero_divide();
        return Parts { exponent: F80::INFINITY.chs(), significand: a };
    }
    if denormal_stops(a.is_denormal(), env) {
        return Parts { exponent: a, significand: a };
    }
    let n = Num::finite(a);
    Parts { exponent: from_i64(i64::from(n.exp - BIAS)), significand: F80::new(n.sign | BIAS as u16, n.sig) }
}
