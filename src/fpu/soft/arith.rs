//! FADD, FSUB, FMUL, FDIV and FSQRT.
//!
//! All of them round to the precision control. Sources in memory are widened first (see
//! [`convert`](super::convert)) and may have reported a denormal of their own format.

use super::env::{Env, Rounding};
use super::f80::{BIAS, F80, Num};
use super::round::{HALF, denormal_stops, invalid, nan_of_one, nan_of_two, round, shift_right_jam};
use crate::cpu::float::undisturbed;

/// Adds. SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline]
pub fn add(a: F80, b: F80, env: &mut Env) -> F80 {
    add_signed(a, b, 0, env)
}

/// Subtracts `b` from `a`. SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline]
pub fn sub(a: F80, b: F80, env: &mut Env) -> F80 {
    add_signed(a, b, 0x8000, env)
}

/// Subtracts `a` from `b`. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline]
pub fn sub_reversed(a: F80, b: F80, env: &mut Env) -> F80 {
    add_signed(b, a, 0x8000, env)
}

#[inline(always)]
fn add_signed(a: F80, b: F80, flip: u16, env: &mut Env) -> F80 {
    if a.is_normal() && b.is_normal() && !env.has_denormal() {
        return add_finite(Num::normal(a), Num::normal(F80 { se: b.se ^ flip, ..b }), env);
    }
    env.rarely(|env| add_special(a, b, flip, env))
}

#[cold]
#[inline(never)]
fn add_special(a: F80, b: F80, flip: u16, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(a, b, env) {
        return nan;
    }
    let b = F80 { se: b.se ^ flip, ..b };
    if a.is_infinite() && b.is_infinite() && a.sign() != b.sign() {
        return invalid(env);
    }
    if denormal_stops(a.is_denormal() || b.is_denormal(), env) {
        return a;
    }
    if a.is_infinite() {
        return a;
    }
    if b.is_infinite() {
        return b;
    }
    match (a.is_zero(), b.is_zero()) {
        (true, true) if a.sign() == b.sign() => a,
        (true, true) => exact_zero(env),
        (true, false) => round_alone(b, env),
        (false, true) => round_alone(a, env),
        (false, false) => add_finite(Num::finite(a), Num::finite(b), env),
    }
}

/// The sum of opposite numbers: +0, but −0 when rounding down.
#[inline]
fn exact_zero(env: &Env) -> F80 {
    F80::zero(if env.rounding() == Rounding::DOWN { 0x8000 } else { 0 })
}

/// Adding zero still rounds the other operand to the precision control.
fn round_alone(a: F80, env: &mut Env) -> F80 {
    let n = Num::finite(a);
    round(n.sign, n.exp, n.sig, 0, env)
}

// The finite paths avoid branches that depend on the operands' bits: on real data those are mispredicted half of the
// time, which costs more than all the rest.

#[inline(always)]
fn add_finite(a: Num, b: Num, env: &mut Env) -> F80 {
    let swap = (a.exp, a.sig) < (b.exp, b.sig);
    let big = if swap { b.sig } else { a.sig };
    let small = if swap { a.sig } else { b.sig };
    let exp = a.exp.max(b.exp);
    let sign = if swap { b.sign } else { a.sign };
    let distance = a.exp.abs_diff(b.exp);
    // One bit of headroom for the carry; what is shifted out beyond 63 bits leaves a sticky bit.
    let small = if distance < 64 {
        (u128::from(small) << 63) >> distance
    } else {
        let (kept, lost) = shift_right_jam(small, 0, distance - 63);
        u128::from(kept | u64::from(lost != 0))
    };
    let negate = 0u128.wrapping_sub(u128::from(a.sign != b.sign));
    let sum = (u128::from(big) << 63).wrapping_add(small ^ negate).wrapping_sub(negate);
    if sum == 0 {
        return exact_zero(env);
    }
    let shift = sum.leading_zeros();
    let sum = sum << shift;
    round(sign, exp + 1 - shift as i32, (sum >> 64) as u64, sum as u64, env)
}

/// Multiplies. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline]
pub fn mul(a: F80, b: F80, env: &mut Env) -> F80 {
    if a.is_normal() && b.is_normal() && !env.has_denormal() {
        return mul_finite(Num::normal(a), Num::normal(b), env);
    }
    env.rarely(|env| mul_special(a, b, env))
}

#[cold]
#[inline(never)]
fn mul_special(a: F80, b: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(a, b, env) {
        return nan;
    }
    let sign = a.sign() ^ b.sign();
    let infinite = a.is_infinite() || b.is_infinite();
    let zero = a.is_zero() || b.is_zero();
    if infinite && zero {
        return invalid(env);
    }
    if denormal_stops(a.is_denormal() || b.is_denormal(), env) {
        return a;
    }
    if infinite {
        return F80::infinity(sign);
    }
    if zero {
        return F80::zero(sign);
    }
    mul_finite(Num::finite(a), Num::finite(b), env)
}

#[inline(always)]
fn mul_finite(a: Num, b: Num, env: &mut Env) -> F80 {
    let product = u128::from(a.sig) * u128::from(b.sig);
    let below = (product >> 127) as i32 ^ 1;
    let product = product << below;
    let exp = a.exp + b.exp - (BIAS - 1) - below;
    round(a.sign ^ b.sign, exp, (product >> 64) as u64, product as u64, env)
}

/// Divides `a` by `b`. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline]
pub fn div(a: F80, b: F80, env: &mut Env) -> F80 {
    if a.is_normal() && b.is_normal() && !env.has_denormal() {
        return div_finite(Num::normal(a), Num::normal(b), env);
    }
    env.rarely(|env| div_special(a, b, env))
}

/// Divides `b` by `a`. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline]
pub fn div_reversed(a: F80, b: F80, env: &mut Env) -> F80 {
    div(b, a, env)
}

#[cold]
#[inline(never)]
fn div_special(a: F80, b: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(a, b, env) {
        return nan;
    }
    let sign = a.sign() ^ b.sign();
    if (a.is_infinite() && b.is_infinite()) || (a.is_zero() && b.is_zero()) {
        return invalid(env);
    }
    if b.is_zero() && !a.is_infinite() {
        env.zero_divide();
        return F80::infinity(sign);
    }
    if denormal_stops(a.is_denormal() || b.is_denormal(), env) {
        return a;
    }
    if a.is_infinite() {
        return F80::infinity(sign);
    }
    if b.is_infinite() || a.is_zero() {
        return F80::zero(sign);
    }
    div_finite(Num::finite(a), Num::finite(b), env)
}

#[inline(always)]
fn div_finite(a: Num, b: Num, env: &mut Env) -> F80 {
    let below = a.sig < b.sig;
    let dividend = u128::from(a.sig) << if below { 64 } else { 63 };
    let divisor = u128::from(b.sig);
    let quotient = (dividend / divisor) as u64;
    let remainder = (dividend as u64).wrapping_sub(quotient.wrapping_mul(b.sig));
    round(a.sign ^ b.sign, a.exp - b.exp + BIAS - i32::from(below), quotient, rest_of(remainder, b.sig), env)
}

/// Turns a remainder below `divisor` into a rest that compares with zero and one half as the fraction does.
#[inline]
pub(super) fn rest_of(remainder: u64, divisor: u64) -> u64 {
    if remainder == 0 {
        return 0;
    }
    match remainder.cmp(&(divisor - remainder)) {
        core::cmp::Ordering::Less => 1,
        core::cmp::Ordering::Equal => HALF,
        core::cmp::Ordering::Greater => HALF | 1,
    }
}

/// Takes the square root. SDM Vol. 2A, "FSQRT".
#[inline]
pub fn sqrt(a: F80, env: &mut Env) -> F80 {
    if a.is_normal() && !a.is_negative() {
        return sqrt_finite(Num::normal(a), env);
    }
    env.rarely(|env| sqrt_special(a, env))
}

#[cold]
#[inline(never)]
fn sqrt_special(a: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_one(a, env) {
        return nan;
    }
    if a.is_zero() {
        return a;
    }
    if a.is_negative() {
        return invalid(env);
    }
    if a.is_infinite() || denormal_stops(a.is_denormal(), env) {
        return a;
    }
    sqrt_finite(Num::finite(a), env)
}

#[inline(always)]
fn sqrt_finite(a: Num, env: &mut Env) -> F80 {
    let exp = a.exp - BIAS;
    let radicand = u128::from(a.sig) << if exp & 1 == 0 { 63 } else { 64 };
    let (root, remainder) = undisturbed(|| isqrt(radicand));
    // (root + ½)² = root² + root + ¼: the half is never met exactly.
    let rest = if remainder > u128::from(root) { HALF | 1 } else { u64::from(remainder != 0) };
    round(0, (exp >> 1) + BIAS, root, rest, env)
}

/// The integer square root, rounded down, of a number of at least 2^126, and the remainder.
#[inline]
fn isqrt(n: u128) -> (u64, u128) {
    const TWO_32: f64 = 4_294_967_296.0;
    // 52 good bits from the host, then one Newton step, which leaves an error below 1.
    let estimate = (((n >> 64) as u64) as f64).sqrt() * TWO_32;
    let root = estimate as u64;
    let error = n.wrapping_sub(u128::from(root) * u128::from(root)) as i128;
    let correction = ((error >> 16) as i64 as f64) * 32768.0 / estimate;
    // Of a root near 2^64 the step may reach beyond.
    let root = i128::from(root) + i128::from(correction as i64);
    let root = if root >> 64 != 0 { u64::MAX } else { root as u64 };
    // Now one too many or one too few at most.
    let rest = n.wrapping_sub(u128::from(root) * u128::from(root)) as i128;
    let twice = i128::from(root) * 2;
    let (root, rest, twice) =
        if rest < 0 { (root.wrapping_sub(1), rest + twice - 1, twice - 2) } else { (root, rest, twice) };
    let (root, rest) = if rest > twice { (root.wrapping_add(1), rest - twice - 1) } else { (root, rest) };
    (root, rest as u128)
}
