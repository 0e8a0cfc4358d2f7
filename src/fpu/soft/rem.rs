//! FPREM and FPREM1.

use super::env::{Env, flag};
use super::f80::{F80, Num};
use super::round::{denormal_stops, invalid, nan_of_two, round_extended};

/// A remainder, and the condition codes that go with it: C2 when it is partial, else the three low bits of the
/// quotient in C0 (bit 2), C3 (bit 1) and C1 (bit 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remainder {
    /// What replaces ST(0).
    pub value: F80,
    /// C0, C1, C2 and C3; `None` when there is no remainder, which clears C1 and C2 and leaves C0 and C3.
    pub codes: Option<u16>,
}

/// Takes the remainder of `a` by `b` with the quotient truncated. SDM Vol. 2A, "FPREM".
///
/// Exponents that differ by 64 or more are brought nearer by 32 to 63, and the remainder is partial.
pub fn truncated(a: F80, b: F80, env: &mut Env) -> Remainder {
    remainder(a, b, false, env)
}

/// Takes the remainder of `a` by `b` with the quotient rounded to nearest, ties to even. SDM Vol. 2A, "FPREM1".
///
/// It becomes partial as that of [`truncated`] does.
pub fn nearest(a: F80, b: F80, env: &mut Env) -> Remainder {
    remainder(a, b, true, env)
}

const fn whole(value: F80) -> Remainder {
    Remainder { value, codes: Some(0) }
}

const fn none(value: F80) -> Remainder {
    Remainder { value, codes: None }
}

fn remainder(a: F80, b: F80, nearest: bool, env: &mut Env) -> Remainder {
    if !(a.is_normal() && b.is_normal()) {
        if let Some(nan) = nan_of_two(a, b, env) {
            return none(nan);
        }
        if a.is_infinite() || b.is_zero() {
            return none(invalid(env));
        }
        if denormal_stops(a.is_denormal() || b.is_denormal(), env) {
            return none(a);
        }
        if a.is_zero() {
            return whole(a);
        }
        if b.is_infinite() {
            return whole(a.unchanged());
        }
    }
    reduce(Num::finite(a), Num::finite(b), nearest, env)
}

fn reduce(a: Num, b: Num, nearest: bool, env: &mut Env) -> Remainder {
    let distance = a.exp - b.exp;
    if distance >= 64 {
        let step = (distance & 31) | 32;
        let rest = ((u128::from(a.sig) << step) % u128::from(b.sig)) as u64;
        let value = normalize(a.sign, b.exp + distance - step, rest, env);
        return Remainder { value, codes: Some(flag::C2) };
    }
    // Below −1 the quotient is less than one half.
    if distance < if nearest { -1 } else { 0 } {
        return whole(round_extended(a.sign, a.exp, a.sig, 0, env));
    }
    if distance == -1 {
        // a < b < 4a: the quotient rounds to 1 beyond one half, and to 0 at it.
        if a.sig <= b.sig {
            return whole(round_extended(a.sign, a.exp, a.sig, 0, env));
        }
        // b − a at a's scale, one bit below b's: 2b − a < a fits.
        let rest = (u128::from(b.sig) * 2 - u128::from(a.sig)) as u64;
        return Remainder {
            value: normalize(a.sign ^ 0x8000, a.exp, rest, env),
            codes: Some(quotient_codes(1)),
        };
    }
    let dividend = u128::from(a.sig) << distance;
    let divisor = u128::from(b.sig);
    let mut quotient = (dividend / divisor) as u64;
    let mut rest = (dividend as u64).wrapping_sub(quotient.wrapping_mul(b.sig));
    let mut sign = a.sign;
    if nearest && (rest > b.sig - rest || (rest == b.sig - rest && quotient & 1 != 0)) {
        rest = b.sig - rest;
        sign ^= 0x8000;
        quotient = quotient.wrapping_add(1);
    }
    let value = if rest == 0 { F80::zero(a.sign) } else { normalize(sign, b.exp, rest, env) };
    Remainder { value, codes: Some(quotient_codes(quotient)) }
}

const fn quotient_codes(quotient: u64) -> u16 {
    let mut codes = 0;
    if quotient & 1 != 0 {
        codes |= flag::C1;
    }
    if quotient & 2 != 0 {
        codes |= flag::C3;
    }
    if quotient & 4 != 0 {
        codes |= flag::C0;
    }
    codes
}

fn normalize(sign: u16, exp: i32, rest: u64, env: &mut Env) -> F80 {
    if rest == 0 {
        return F80::zero(sign);
    }
    let shift = rest.leading_zeros();
    round_extended(sign, exp - shift as i32, rest << shift, 0, env)
}
