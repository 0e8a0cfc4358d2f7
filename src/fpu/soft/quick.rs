//! What programs compute most of the time: numbers that are neither zero, denormal, infinite nor NaNs, with such a number for a
//! result, rounded to nearest with 64 bits, under a control word that masks all exceptions ([`is_plain`]).
//!
//! Each function is that case of the one that its comment names, small enough to be a part of a handler, and gives `None` where
//! that one has to decide. No branch depends on bits of the operands that could go either way.

use super::compare::Comparison;
use super::env::flag;
use super::f80::{BIAS, F80, INTEGER};
use super::round::HALF;

/// What an operation gives, and what it raises: nothing but `#P` and C1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick<T> {
    /// The result.
    pub value: T,
    /// [`flag::PE`].
    pub inexact: bool,
    /// [`flag::C1`]: rounded away from zero.
    pub away: bool,
}

/// Whether a control word asks for what is done here.
#[inline(always)]
#[must_use]
pub const fn is_plain(control: u16) -> bool {
    /// Masks, precision control, rounding control.
    const RELEVANT: u16 = flag::EXCEPTIONS | 3 << 8 | 3 << 10;
    /// All masked, 64 bits, to nearest.
    const PLAIN: u16 = flag::EXCEPTIONS | 3 << 8;
    control & RELEVANT == PLAIN
}

/// Rounds as [`round`](super::round::round()).
#[inline(always)]
fn round(sign: u16, exp: i32, sig: u64, low: u64) -> Option<Quick<F80>> {
    // With room for a carry, and none into the smallest normal number.
    if !(1..0x7ffe).contains(&exp) {
        return None;
    }
    // More than a half carries, and so does a half if the last place is odd.
    let (_, away) = low.overflowing_add(HALF - 1 + (sig & 1));
    let (sum, carry) = sig.overflowing_add(u64::from(away));
    let sig = sum | u64::from(carry) << 63;
    Some(Quick { value: F80::new(sign | (exp + i32::from(carry)) as u16, sig), inexact: low != 0, away })
}

/// [`arith::add`](super::arith::add), of ±`b`: `flip` is what its sign is changed by.
#[inline(always)]
fn add_signed(a: F80, b: F80, flip: u16) -> Option<Quick<F80>> {
    if !a.is_normal() || !b.is_normal() {
        return None;
    }
    let magnitude = |x: F80| u128::from(x.se & 0x7fff) << 64 | u128::from(x.sig);
    let swap = magnitude(a) < magnitude(b);
    let (big, small) = if swap { (b.sig, a.sig) } else { (a.sig, b.sig) };
    let exp = a.exponent().max(b.exponent());
    let sign = (if swap { b.se ^ flip } else { a.se }) & 0x8000;
    let distance = a.exponent().abs_diff(b.exponent());
    // Nothing is lost then.
    if distance > 63 {
        return None;
    }
    let small = (u128::from(small) << 63) >> (distance & 63);
    let negate = 0u128.wrapping_sub(u128::from((a.se ^ b.se ^ flip) >> 15));
    let sum = (u128::from(big) << 63).wrapping_add(small ^ negate).wrapping_sub(negate);
    let high = (sum >> 64) as u64;
    // So much cancels seldom.
    if high == 0 {
        return None;
    }
    let shift = high.leading_zeros() & 63;
    let sum = sum << shift;
    round(sign, exp + 1 - shift as i32, (sum >> 64) as u64, sum as u64)
}

/// [`arith::add`](super::arith::add).
#[inline(always)]
#[must_use]
pub fn add(a: F80, b: F80) -> Option<Quick<F80>> {
    add_signed(a, b, 0)
}

/// [`arith::sub`](super::arith::sub).
#[inline(always)]
#[must_use]
pub fn sub(a: F80, b: F80) -> Option<Quick<F80>> {
    add_signed(a, b, 0x8000)
}

/// [`arith::sub_reversed`](super::arith::sub_reversed).
#[inline(always)]
#[must_use]
pub fn sub_reversed(a: F80, b: F80) -> Option<Quick<F80>> {
    add_signed(b, a, 0x8000)
}

/// [`arith::mul`](super::arith::mul).
#[inline(always)]
#[must_use]
pub fn mul(a: F80, b: F80) -> Option<Quick<F80>> {
    if !a.is_normal() || !b.is_normal() {
        return None;
    }
    let product = u128::from(a.sig) * u128::from(b.sig);
    let below = (product >> 127) as i32 ^ 1;
    // Doubled if it is below: an addition, for a shift by a variable costs more.
    let product = product + (product & 0u128.wrapping_sub(below as u128));
    let exp = a.exponent() + b.exponent() - (BIAS - 1) - below;
    round((a.se ^ b.se) & 0x8000, exp, (product >> 64) as u64, product as u64)
}

/// [`compare`](super::compare::compare()) and [`compare_quiet`](super::compare::compare_quiet), of zeros, too.
#[inline(always)]
#[must_use]
pub fn compare(a: F80, b: F80) -> Option<Comparison> {
    let known = |x: F80| x.is_normal() || x.is_zero();
    if !known(a) || !known(b) {
        return None;
    }
    let number = |x: F80| {
        let negate = 0i128.wrapping_sub(i128::from(x.se >> 15));
        ((i128::from(x.se & 0x7fff) << 64 | i128::from(x.sig)) ^ negate) - negate
    };
    Some(Some(number(a).cmp(&number(b))))
}

/// [`convert::widen_f32`](super::convert::widen_f32) and [`convert::from_f32`](super::convert::from_f32), of zeros, too.
#[inline(always)]
#[must_use]
pub const fn widen_f32(bits: u32) -> Option<F80> {
    let exp = bits >> 23 & 0xff;
    if exp.wrapping_sub(1) < 0xfe {
        let se = (bits >> 16) as u16 & 0x8000 | (exp as u16 + (BIAS - 127) as u16);
        return Some(F80::new(se, INTEGER | (bits as u64) << 40));
    }
    if bits << 1 == 0 { Some(F80::zero((bits >> 16) as u16)) } else { None }
}

/// [`convert::widen_f64`](super::convert::widen_f64) and [`convert::from_f64`](super::convert::from_f64), of zeros, too.
#[inline(always)]
#[must_use]
pub const fn widen_f64(bits: u64) -> Option<F80> {
    let exp = (bits >> 52) as u32 & 0x7ff;
    if exp.wrapping_sub(1) < 0x7fe {
        let se = (bits >> 48) as u16 & 0x8000 | (exp as u16 + (BIAS - 1023) as u16);
        return Some(F80::new(se, INTEGER | bits << 11));
    }
    if bits << 1 == 0 { Some(F80::zero((bits >> 48) as u16)) } else { None }
}

/// Rounds a normal number to a format with `fraction` bits of fraction and its exponent biased by `bias`.
#[inline(always)]
fn narrow(a: F80, fraction: u32, bias: i32) -> Option<Quick<u64>> {
    let drop = 63 - fraction;
    let exp = a.exponent() - (BIAS - bias);
    // As in `round`.
    if a.sig & INTEGER == 0 || !(1..2 * bias).contains(&exp) {
        return None;
    }
    let rest = a.sig & ((1 << drop) - 1);
    let kept = a.sig >> drop;
    let away = (rest + (1 << (drop - 1)) - 1 + (kept & 1)) >> drop;
    // The hidden bit is added into the exponent, and so is a carry.
    let sign = u64::from(a.se >> 15) << if fraction == 52 { 63 } else { 31 };
    let value = sign + ((exp as u64 - 1) << fraction) + kept + away;
    Some(Quick { value, inexact: rest != 0, away: away != 0 })
}

/// [`convert::to_f32`](super::convert::to_f32), of zeros, too.
#[inline(always)]
#[must_use]
pub fn to_f32(a: F80) -> Option<Quick<u32>> {
    if let Some(Quick { value, inexact, away }) = narrow(a, 23, 127) {
        return Some(Quick { value: value as u32, inexact, away });
    }
    a.is_zero().then(|| Quick { value: u32::from(a.se) << 16, inexact: false, away: false })
}

/// [`convert::to_f64`](super::convert::to_f64), of zeros, too.
#[inline(always)]
#[must_use]
pub fn to_f64(a: F80) -> Option<Quick<u64>> {
    let zero = || a.is_zero().then(|| Quick { value: u64::from(a.se) << 48, inexact: false, away: false });
    narrow(a, 52, 1023).or_else(zero)
}
