//! Packed integers in XMM registers only. Rows: `opcodes/sse_integer.toml`.

use super::mmx::{self, truth};
use super::sse_float::native;
use crate::cpu::Word;
#[cfg(trap_memory)]
use crate::cpu::native;
use crate::cpu::native::Native;
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
pub fn pshufd(source: V128, order: u8, h: Native) -> V128 {
    native!(h, native::shuffle(source, order), V128::from_lanes(|at| source.lane::<u32>(choice(order, at))))
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

/// Sign-extends bytes to words. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxbw<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i16::from(source.lane::<i8>(at)))
}

/// Sign-extends bytes to doublewords. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxbd<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i32::from(source.lane::<i8>(at)))
}

/// Sign-extends bytes to quadwords. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxbq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i64::from(source.lane::<i8>(at)))
}

/// Sign-extends words to doublewords. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxwd<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i32::from(source.lane::<i16>(at)))
}

/// Sign-extends words to quadwords. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxwq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i64::from(source.lane::<i16>(at)))
}

/// Sign-extends doublewords to quadwords. SDM Vol. 2B, "PMOVSX".
#[inline(always)]
pub fn pmovsxdq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| i64::from(source.lane::<i32>(at)))
}

/// Zero-extends bytes to words. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxbw<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u16::from(source.lane::<u8>(at)))
}

/// Zero-extends bytes to doublewords. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxbd<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u32::from(source.lane::<u8>(at)))
}

/// Zero-extends bytes to quadwords. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxbq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u64::from(source.lane::<u8>(at)))
}

/// Zero-extends words to doublewords. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxwd<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u32::from(source.lane::<u16>(at)))
}

/// Zero-extends words to quadwords. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxwq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u64::from(source.lane::<u16>(at)))
}

/// Zero-extends doublewords to quadwords. SDM Vol. 2B, "PMOVZX".
#[inline(always)]
pub fn pmovzxdq<S: Vector>(source: S) -> V128 {
    V128::from_lanes(|at| u64::from(source.lane::<u32>(at)))
}

/// Multiplies the even signed doublewords. SDM Vol. 2B, "PMULDQ".
#[inline(always)]
pub fn pmuldq(a: V128, b: V128) -> V128 {
    a.zip(b, |a: i64, b: i64| i64::from(a as i32) * i64::from(b as i32))
}

/// Multiplies doublewords; the low halves. SDM Vol. 2B, "PMULLD".
#[inline(always)]
pub fn pmulld(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::pmulld(a, b), a.zip(b, i32::wrapping_mul))
}

/// Compares quadwords for equality. SDM Vol. 2B, "PCMPEQQ".
#[inline(always)]
pub fn pcmpeqq(a: V128, b: V128) -> V128 {
    a.zip(b, |a: i64, b: i64| truth(a == b))
}

/// Tells where signed quadwords are greater. SDM Vol. 2B, "PCMPGTQ".
#[inline(always)]
pub fn pcmpgtq(a: V128, b: V128) -> V128 {
    a.zip(b, |a: i64, b: i64| truth(a > b))
}

/// Packs signed doublewords to unsigned words, saturating. SDM Vol. 2B, "PACKUSDW".
#[inline(always)]
pub fn packusdw(a: V128, b: V128) -> V128 {
    mmx::pack(a, b, |dword: i32| dword.clamp(0, 0xffff) as u16)
}

/// Takes the smaller signed bytes. SDM Vol. 2B, "PMINSB".
#[inline(always)]
pub fn pminsb(a: V128, b: V128) -> V128 {
    a.zip(b, i8::min)
}

/// Takes the smaller signed doublewords. SDM Vol. 2B, "PMINSD".
#[inline(always)]
pub fn pminsd(a: V128, b: V128) -> V128 {
    a.zip(b, i32::min)
}

/// Takes the smaller unsigned words. SDM Vol. 2B, "PMINUW".
#[inline(always)]
pub fn pminuw(a: V128, b: V128) -> V128 {
    a.zip(b, u16::min)
}

/// Takes the smaller unsigned doublewords. SDM Vol. 2B, "PMINUD".
#[inline(always)]
pub fn pminud(a: V128, b: V128) -> V128 {
    a.zip(b, u32::min)
}

/// Takes the larger signed bytes. SDM Vol. 2B, "PMAXSB".
#[inline(always)]
pub fn pmaxsb(a: V128, b: V128) -> V128 {
    a.zip(b, i8::max)
}

/// Takes the larger signed doublewords. SDM Vol. 2B, "PMAXSD".
#[inline(always)]
pub fn pmaxsd(a: V128, b: V128) -> V128 {
    a.zip(b, i32::max)
}

/// Takes the larger unsigned words. SDM Vol. 2B, "PMAXUW".
#[inline(always)]
pub fn pmaxuw(a: V128, b: V128) -> V128 {
    a.zip(b, u16::max)
}

/// Takes the larger unsigned doublewords. SDM Vol. 2B, "PMAXUD".
#[inline(always)]
pub fn pmaxud(a: V128, b: V128) -> V128 {
    a.zip(b, u32::max)
}

/// Finds the smallest unsigned word, and the first place where it is. SDM Vol. 2B, "PHMINPOSUW".
#[inline(always)]
pub fn phminposuw(source: V128) -> V128 {
    // The place in the low bits decides among equal words.
    let mut least = u32::MAX;
    for at in 0..8 {
        least = least.min(u32::from(source.lane::<u16>(at)) << 3 | at as u32);
    }
    V128::ZERO.with_lane(0, (least >> 3) as u16).with_lane(1, least as u16 & 7)
}

/// Sums absolute differences of four bytes of `b` with those of `a` at eight places. SDM Vol. 2B, "MPSADBW".
#[inline(always)]
pub fn mpsadbw(a: V128, b: V128, places: u8) -> V128 {
    let (start, block) = (usize::from(places & 4), usize::from(places & 3) * 4);
    let difference =
        |at: usize, byte: usize| a.lane::<u8>(start + at + byte).abs_diff(b.lane::<u8>(block + byte));
    V128::from_lanes(|at| V128::sum(4, |byte| u16::from(difference(at, byte))))
}

/// Inserts a byte. SDM Vol. 2B, "PINSRB".
#[inline(always)]
pub fn pinsrb<S: Word>(a: V128, source: S, at: u8) -> V128 {
    a.with_lane(usize::from(at & 15), source.u32() as u8)
}

/// Inserts a doubleword. SDM Vol. 2B, "PINSRD".
#[inline(always)]
pub fn pinsrd(a: V128, source: u32, at: u8) -> V128 {
    a.with_lane(usize::from(at & 3), source)
}

/// Extracts a byte. SDM Vol. 2B, "PEXTRB".
#[inline(always)]
pub fn pextrb<D: Word>(a: V128, at: u8) -> D {
    D::low(u64::from(a.lane::<u8>(usize::from(at & 15))))
}

/// Extracts a doubleword. SDM Vol. 2B, "PEXTRD".
#[inline(always)]
pub fn pextrd(a: V128, at: u8) -> u32 {
    a.lane(usize::from(at & 3))
}
