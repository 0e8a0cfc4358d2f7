//! Packed integers in XMM registers only. Rows: `opcodes/sse_integer.toml`.

use super::mmx;
use crate::cpu::vector::{V128, Vector};

/// Joins the low halves. SDM Vol. 2B, "PUNPCKLQDQ".
#[inline(always)]
pub fn punpcklqdq(a: V128, b: V128) -> V128 {
    mmx::interleave::<u64, V128, V128>(a, b, 0)
}

/// Joins the high halves. SDM Vol. 2B, "PUNPCKHQDQ".
#[inline(always)]
pub fn punpckhqdq(a: V128, b: V128) -> V128 {
    mmx::interleave::<u64, V128, V128>(a, b, 1)
}

/// The number that a pair of bits gives to lane `at` of four.
#[inline(always)]
fn choice(order: u8, at: usize) -> usize {
    usize::from(order >> (2 * (at & 3)) & 3)
}

/// Picks doublewords by pairs of bits. SDM Vol. 2B, "PSHUFD".
#[inline(always)]
pub fn pshufd(source: V128, order: u8) -> V128 {
    V128::from_lanes(|at| source.lane::<u32>(choice(order, at)))
}

/// Picks among the high words. SDM Vol. 2B, "PSHUFHW".
#[inline(always)]
pub fn pshufhw(source: V128, order: u8) -> V128 {
    V128::from_lanes(|at| source.lane::<u16>(if at < 4 { at } else { 4 + choice(order, at) }))
}

/// Picks among the low words. SDM Vol. 2B, "PSHUFLW".
#[inline(always)]
pub fn pshuflw(source: V128, order: u8) -> V128 {
    V128::from_lanes(|at| source.lane::<u16>(if at < 4 { choice(order, at) } else { at }))
}

/// Shifts right by bytes. SDM Vol. 2B, "PSRLDQ".
#[inline(always)]
pub fn psrldq(a: V128, bytes: u8) -> V128 {
    V128::from(u128::from(a).checked_shr(u32::from(bytes) * 8).unwrap_or(0))
}

/// Shifts left by bytes. SDM Vol. 2B, "PSLLDQ".
#[inline(always)]
pub fn pslldq(a: V128, bytes: u8) -> V128 {
    V128::from(u128::from(a).checked_shl(u32::from(bytes) * 8).unwrap_or(0))
}
