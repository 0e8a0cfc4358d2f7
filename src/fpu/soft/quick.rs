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

impl<T> Quick<T> {
    /// The same of another result.
    #[inline(always)]
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Quick<U> {
        Quick { value: change(self.value), lost: self.lost, away: self.away }
    }
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

/// The sum of two numbers and a carry, and the carry out of it. The compiler does not think of the processor's flag by itself.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn add_with_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let mut sum = 0;
    let carry = std::arch::x86_64::_addcarry_u64(carry.into(), a, b, &mut sum);
    (sum, carry != 0)
}

/// The same on any host.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[inline(always)]
fn add_with_carry_anywhere(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let sum = u128::from(a) + u128::from(b) + u128::from(carry);
    (sum as u64, sum >> 64 != 0)
}

#[cfg(not(target_arch = "x86_64"))]
use add_with_carry_anywhere as add_with_carry;

/// Sign and exponent of a result: the sign bit of `sign`, and the smallest exponent of a normal number and `above`.
#[inline(always)]
const fn sign_and_exponent(sign: u32, above: u32) -> Option<u16> {
    if above < 0x7ffe { Some(((sign & 0x8000) + above + 1) as u16) } else { None }
}

/// Rounds a significand as [`round`](super::round::round()), by what is below it.
#[inline(always)]
fn round(sig: u64, low: u64) -> Option<Quick<u64>> {
    // More than a half is rounded away from zero, and so is a half if the last place is odd. No branch: halves are not rare where
    // programs compute with short numbers.
    let (_, away) = add_with_carry(low, HALF - 1, sig & 1 != 0);
    let (value, _) = add_with_carry(sig, 0, away);
    // A carry out of it is seldom.
    if value == 0 { None } else { Some(Quick { value, lost: low, away }) }
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
    // One bit of headroom for the carry.
    let small = wide(small >> 1 >> (distance & 63), small << (63u32.wrapping_sub(distance) & 63));
    let negative = u64::from((a_se ^ b_se) >> 15 & 1);
    let mask = 0u64.wrapping_sub(negative);
    // Minus something is plus its complement and 1.
    let sum = wide(big >> 1, big << 63 | negative).wrapping_add(small ^ wide(mask, mask));
    let (high, low) = ((sum >> 64) as u64, sum as u64);
    // So much cancels seldom.
    if high == 0 {
        return None;
    }
    // Something would be lost. Asked here and no earlier: the compiler would put selections behind the branch, and have to compare again.
    if distance > 63 {
        return None;
    }
    let place = high.ilog2();
    let shift = place ^ 63;
    let high = high << shift | low >> 1 >> place;
    let result = round(high, low << shift)?;
    let se = sign_and_exponent(big_se, (big_se & 0x7fff).wrapping_sub(shift))?;
    Some(result.map(|sig| F80::new(se, sig)))
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
    let carry = high >> 63;
    let above = a.exponent() + b.exponent() + carry as i32 - BIAS - 1;
    let se = sign_and_exponent(u32::from(a.se ^ b.se), above.cast_unsigned())?;
    // Doubled unless its highest bit is set. Sums: a shift of two words (SHLD) takes some processors long.
    let (twice_low, carried) = add_with_carry(low, low, false);
    let (twice_high, _) = add_with_carry(high, high, carried);
    let is_set = high.cast_signed() < 0;
    let sig = select_unpredictable(is_set, high, twice_high);
    let low = select_unpredictable(is_set, low, twice_low);
    Some(round(sig, low)?.map(|sig| F80::new(se, sig)))
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

/// [`convert::widen_f32`](super::convert::widen_f32) and [`convert::from_f32`](super::convert::from_f32), if the first is true.
#[inline(always)]
#[must_use]
pub const fn widen_f32(bits: u32) -> (bool, F80) {
    // The exponent, below as many copies of the sign as there is room for.
    let se = bits.cast_signed() >> 23;
    // Neither 0 nor all ones.
    let is_normal = se.wrapping_add(1) & 0xfe != 0;
    let se = (se & 0x80ff) as u16 + (BIAS - 127) as u16;
    (is_normal, F80::new(se, INTEGER | (bits as u64) << 40))
}

/// [`convert::widen_f64`](super::convert::widen_f64) and [`convert::from_f64`](super::convert::from_f64), if the first is true.
#[inline(always)]
#[must_use]
pub const fn widen_f64(bits: u64) -> (bool, F80) {
    // As for 32 bits.
    let se = (bits.cast_signed() >> 52) as i32;
    let is_normal = se.wrapping_add(1) & 0x7fe != 0;
    let se = (se & 0x87ff) as u16 + (BIAS - 1023) as u16;
    (is_normal, F80::new(se, INTEGER | bits << 11))
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
    Some(narrow(a, 23, 127)?.map(|bits| bits as u32))
}

/// [`convert::to_f64`](super::convert::to_f64).
#[inline(always)]
#[must_use]
pub fn to_f64(a: F80) -> Option<Quick<u64>> {
    narrow(a, 52, 1023)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_carries_are_those_of_any_host() {
        let edges = [0, 1, 2, HALF - 2, HALF - 1, HALF, HALF + 1, u64::MAX - 1, u64::MAX];
        for a in edges {
            for b in edges {
                for carry in [false, true] {
                    let (here, there) = (add_with_carry(a, b, carry), add_with_carry_anywhere(a, b, carry));
                    assert_eq!(here, there, "{a:#x} + {b:#x} + {carry}");
                }
            }
        }
    }
}
