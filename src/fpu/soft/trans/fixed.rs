//! 128-bit arithmetic for the series.

use super::super::env::{Env, flag};
use super::super::f80::{BIAS, F80, Num};
use super::super::round::round_extended;

/// A positive number of 128 significant bits: `mant` × 2^(`exp` − 127), bit 127 of `mant` set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    /// The unbiased exponent.
    pub exp: i32,
    /// The significand.
    pub mant: u128,
}

impl Wide {
    /// Makes `mant` × 2^(`exp` − 127) of a significand that is not 0.
    pub(super) const fn normalized(exp: i32, mant: u128) -> Self {
        let shift = mant.leading_zeros();
        Self { exp: exp - shift as i32, mant: mant << (shift & 127) }
    }

    /// The magnitude of a number.
    pub(super) const fn of(n: Num) -> Self {
        Self { exp: n.exp - BIAS, mant: (n.sig as u128) << 64 }
    }

    /// The product, truncated.
    pub(super) const fn times(self, other: Self) -> Self {
        Self::normalized(self.exp + other.exp + 1, mul_high(self.mant, other.mant))
    }

    /// The quotient, truncated.
    pub(super) const fn over(self, other: Self) -> Self {
        if self.mant < other.mant {
            Self { exp: self.exp - other.exp - 1, mant: divide(self.mant, 0, other.mant) }
        } else {
            let (high, low) = (self.mant >> 1, self.mant << 127);
            Self { exp: self.exp - other.exp, mant: divide(high, low, other.mant) }
        }
    }

    /// The number in units of 2^-`fraction_bits`, truncated; it must be below 2^(128 − `fraction_bits`).
    pub(super) const fn to_fixed(self, fraction_bits: i32) -> u128 {
        let shift = 127 - fraction_bits - self.exp;
        if shift < 0 || shift > 127 { 0 } else { self.mant >> shift }
    }

    /// Rounds to binary80 with the sign `sign` and raises `#P`, the number standing for one slightly larger.
    pub(super) fn round(self, sign: u16, env: &mut Env) -> F80 {
        self.round_with(sign, 1, env)
    }

    /// Rounds to binary80 with the sign `sign`, and raises `#P`, and `#U` if tiny, even if the number fits: silicon
    /// does not find out.
    pub(super) fn round_exact(self, sign: u16, env: &mut Env) -> F80 {
        if self.exp + BIAS <= 0 {
            env.raise(flag::UE);
        }
        self.round_with(sign, 0, env)
    }

    fn round_with(self, sign: u16, sticky: u64, env: &mut Env) -> F80 {
        env.raise(flag::PE);
        round_extended(sign, self.exp + BIAS, (self.mant >> 64) as u64, self.mant as u64 | sticky, env)
    }
}

/// The upper half of a product of 128-bit numbers.
pub(super) const fn mul_high(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0) = (a >> 64, a & LOW);
    let (b1, b0) = (b >> 64, b & LOW);
    let (high, middle, cross) = (a1 * b1, a1 * b0, a0 * b1);
    let carries = (middle & LOW) + (cross & LOW) + ((a0 * b0) >> 64);
    high + (middle >> 64) + (cross >> 64) + (carries >> 64)
}

/// Divides `high` × 2^128 + `low` by `divisor`, which has bit 127 set and is greater than `high`.
const fn divide(high: u128, low: u128, divisor: u128) -> u128 {
    let (first, rest) = divide_step(high, (low >> 64) as u64, divisor);
    let (second, _) = divide_step(rest, low as u64, divisor);
    (first as u128) << 64 | second as u128
}

/// One digit of 64 bits: divides `high` × 2^64 + `next`, where `high` is below `divisor`.
const fn divide_step(high: u128, next: u64, divisor: u128) -> (u64, u128) {
    let (d1, d0) = (divisor >> 64, divisor as u64 as u128);
    let mut digit = high / d1;
    if digit > u64::MAX as u128 {
        digit = u64::MAX as u128;
    }
    // The upper half of the divisor alone makes the digit too large, by 2 at most.
    let mut over = high - digit * d1;
    while over >> 64 == 0 && digit * d0 > (over << 64 | next as u128) {
        digit -= 1;
        over += d1;
    }
    // Beyond 128 bits the terms cancel.
    (digit as u64, (over << 64 | next as u128).wrapping_sub(digit * d0))
}

/// Sums c0 − z·(c1 − z·(c2 − …)) for `z` in units of 2^-128, in the units of the coefficients, which must decrease.
pub(super) fn alternating(z: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, &c| c - mul_high(z, sum))
}

/// Sums c0 + z·(c1 + z·(c2 + …)) for `z` in units of 2^-128, in the units of the coefficients.
pub(super) fn positive(z: u128, coefficients: &[u128]) -> u128 {
    coefficients.iter().rev().fold(0, |sum, &c| c + mul_high(z, sum))
}

/// 1/(3 + 2k) in units of 2^-128: what the series of the arctangent and of its hyperbolic sibling go on with.
pub(super) const ODD_RECIPROCALS: [u128; 24] = {
    let mut table = [0; 24];
    let mut k = 0;
    while k < table.len() {
        table[k] = u128::MAX / (3 + 2 * k as u128);
        k += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotients_multiply_back() {
        let mut state = 1u128;
        for _ in 0..20_000 {
            state = state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
            let edge = if state & 3 == 0 { u128::MAX << 64 } else { 0 };
            let a = Wide { exp: 0, mant: state | edge | 1 << 127 };
            let b = Wide { exp: 0, mant: state.rotate_left(64) | 1 << 127 | edge >> (state & 63) };
            let back = a.over(b).times(b);
            // A digit of the quotient less, times the divisor, and the product's own truncation.
            let (exp, off) = (back.exp - a.exp, a.mant.abs_diff(back.mant));
            assert!((exp == 0 && off <= 4) || (exp == -1 && a.mant == 1 << 127), "{a:?} {b:?} {back:?}");
        }
    }
}
