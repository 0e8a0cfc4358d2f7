//! What programs compute most of the time: numbers that are neither zero, denormal, infinite nor NaNs, with such a number for a
//! result, rounded to nearest with 64 bits, under a control word that masks all exceptions ([`is_plain`]).
//!
//! Each function is that case of the one that its comment names, small enough to be a part of a handler, and gives `None` where
//! that one has to decide. No branch depends on bits of the operands that could go either way. That operands are normal, the caller
//! has made sure of.

use super::compare::Comparison;
use super::env::flag;
use super::f80::{BIAS, F80, INTEGER};
use super::round::HALF;
use std::hint::select_unpredictable;

/// What an operation gives, and what it raises: nothing but `#P` and C1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quick<T> {
    /// The result.
    pub value: T,
    /// What was rounded off, in any place: [`flag::PE`] if it is not 0.
    pub lost: u64,
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

/// Rounds as [`round`](super::round::round()): `sign` is in place, and the exponent `above` the smallest one of a normal number.
#[inline(always)]
fn round(sign: u32, above: u32, sig: u64, low: u64) -> Option<Quick<F80>> {
    if above >= 0x7ffe {
        return None;
    }
    // More than a half is rounded away from zero, and so is a half if the last place is odd.
    let (_, away) = low.overflowing_add(HALF - 1 + (sig & 1));
    // A carry is seldom.
    let sig = sig.checked_add(u64::from(away))?;
    Some(Quick { value: F80::new((sign + above + 1) as u16, sig), lost: low, away })
}

/// [`arith::add`](super::arith::add), of ±`b`: `flip` is what its sign is changed by.
#[inline(always)]
fn add_signed(a: F80, b: F80, flip: u16) -> Option<Quick<F80>> {
    let magnitude = |x: F80| u128::from(x.se & 0x7fff) << 64 | u128::from(x.sig);
    let swap = magnitude(a) < magnitude(b);
    let (a_se, b_se) = (u32::from(a.se), u32::from(b.se ^ flip));
    let (big, big_se) = (select_unpredictable(swap, b.sig, a.sig), select_unpredictable(swap, b_se, a_se));
    let (small, small_se) =
        (select_unpredictable(swap, a.sig, b.sig), select_unpredictable(swap, a_se, b_se));
    let distance = big_se.wrapping_sub(small_se) & 0x7fff;
    // Nothing is lost then.
    if distance > 63 {
        return None;
    }
    // One bit of headroom for the carry.
    let small = wide(small >> 1 >> distance, small << (63 ^ distance));
    let negative = u64::from((big_se ^ small_se) >> 15 & 1);
    let mask = 0u64.wrapping_sub(negative);
    // Minus something is plus its complement and 1.
    let sum = wide(big >> 1, big << 63 | negative).wrapping_add(small ^ wide(mask, mask));
    let (high, low) = ((sum >> 64) as u64, sum as u64);
    // So much cancels seldom.
    if high == 0 {
        return None;
    }
    let place = high.ilog2();
    let shift = place ^ 63;
    let high = high << shift | low >> 1 >> place;
    round(big_se & 0x8000, (big_se & 0x7fff).wrapping_sub(shift), high, low << shift)
}

/// A number of 128 bits.
#[inline(always)]
fn wide(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
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
    let product = u128::from(a.sig) * u128::from(b.sig);
    let (high, low) = ((product >> 64) as u64, product as u64);
    // Doubled unless its highest bit is set.
    let carry = high >> 63;
    let mask = carry.wrapping_sub(1);
    let product = product.wrapping_add(wide(high & mask, low & mask));
    let above = a.exponent() + b.exponent() + carry as i32 - BIAS - 1;
    let sign = u32::from((a.se ^ b.se) & 0x8000);
    round(sign, above.cast_unsigned(), (product >> 64) as u64, product as u64)
}

/// Whether [`compare`] knows how a value compares.
#[inline(always)]
#[must_use]
pub const fn is_comparable(a: F80) -> bool {
    a.is_normal() || a.is_zero()
}

/// [`compare`](super::compare::compare()) and [`compare_quiet`](super::compare::compare_quiet), of zeros, too.
#[inline(always)]
#[must_use]
pub fn compare(a: F80, b: F80) -> Comparison {
    let number = |x: F80| {
        let negate = 0i128.wrapping_sub(i128::from(x.se >> 15));
        ((i128::from(x.se & 0x7fff) << 64 | i128::from(x.sig)) ^ negate) - negate
    };
    Some(number(a).cmp(&number(b)))
}

/// [`convert::widen_f32`](super::convert::widen_f32) and [`convert::from_f32`](super::convert::from_f32).
#[inline(always)]
#[must_use]
pub const fn widen_f32(bits: u32) -> Option<F80> {
    let exp = bits >> 23 & 0xff;
    if exp.wrapping_sub(1) < 0xfe {
        let se = (bits >> 16) as u16 & 0x8000 | (exp as u16 + (BIAS - 127) as u16);
        return Some(F80::new(se, INTEGER | (bits as u64) << 40));
    }
    None
}

/// [`convert::widen_f64`](super::convert::widen_f64) and [`convert::from_f64`](super::convert::from_f64).
#[inline(always)]
#[must_use]
pub const fn widen_f64(bits: u64) -> Option<F80> {
    let exp = (bits >> 52) as u32 & 0x7ff;
    if exp.wrapping_sub(1) < 0x7fe {
        let se = (bits >> 48) as u16 & 0x8000 | (exp as u16 + (BIAS - 1023) as u16);
        return Some(F80::new(se, INTEGER | bits << 11));
    }
    None
}

/// Rounds a normal number to a format with `fraction` bits of fraction and its exponent biased by `bias`.
#[inline(always)]
fn narrow(a: F80, fraction: u32, bias: u32) -> Option<Quick<u64>> {
    let drop = 63 - fraction;
    // How far the exponent is above that of the smallest normal number, in the upper 15 bits.
    let above = (u32::from(a.se) << 17).wrapping_sub((BIAS.cast_unsigned() - bias + 1) << 17);
    // With room for a carry.
    if above >= (2 * bias - 1) << 17 {
        return None;
    }
    let rest = a.sig & ((1 << drop) - 1);
    let kept = a.sig >> drop;
    let away = (rest + (1 << (drop - 1)) - 1 + (kept & 1)) >> drop;
    // The hidden bit is added into the exponent, and so is a carry.
    let sign = u64::from(a.se >> 15) << if fraction == 52 { 63 } else { 31 };
    let value = sign + (u64::from(above) << (fraction - 17)) + kept + away;
    Some(Quick { value, lost: rest, away: away != 0 })
}

/// [`convert::to_f32`](super::convert::to_f32).
#[inline(always)]
#[must_use]
pub fn to_f32(a: F80) -> Option<Quick<u32>> {
    let Quick { value, lost, away } = narrow(a, 23, 127)?;
    Some(Quick { value: value as u32, lost, away })
}

/// [`convert::to_f64`](super::convert::to_f64).
#[inline(always)]
#[must_use]
pub fn to_f64(a: F80) -> Option<Quick<u64>> {
    narrow(a, 52, 1023)
}
