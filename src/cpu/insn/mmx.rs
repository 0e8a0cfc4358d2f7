//! Packed integers in MMX and XMM registers. Rows: `opcodes/mmx.toml`.
//!
//! A body serves both: it is a function of [`Vector`]s, whichever their width.

use super::sse_float::native;
#[cfg(trap_memory)]
use crate::cpu::native;
use crate::cpu::native::Native;
use crate::cpu::vector::{Lane, V128, Vector};
use crate::cpu::{Exec, Fault, Word};

/// What every x86-64 does by one instruction, else what plain Rust does: the compiler does not always see that it is one.
macro_rules! by_host {
    ($host:expr, $soft:expr) => {{
        #[cfg(trap_memory)]
        let value = $host;
        #[cfg(not(trap_memory))]
        let value = $soft;
        value
    }};
}

/// Copies, zero-extended or cut. SDM Vol. 2B, "MOVD/MOVQ".
#[inline(always)]
pub fn copy<S: Vector, D: Vector>(source: S) -> D {
    source.resize()
}

/// Stores the bytes of `source` whose mask has its top bit set at DS:EDI. SDM Vol. 2B, "MASKMOVQ".
#[inline(always)]
pub fn maskmov<V: Vector>(x: Exec, source: V, mask: V) -> Result<(), Fault> {
    let string = x.string();
    let edi = x.reg::<u32>(7);
    let offset = if string.addr16 { edi & 0xffff } else { edi };
    let addr = x.within(string.source, offset, V::BYTES as u32)?;
    // AMD's processors want all of the bytes to be writable, whatever the mask.
    let last = V::BYTES as u32 - 1;
    if x.behind(addr, last) == addr.wrapping_add(last) {
        x.probe_write(addr, V::BYTES as u32)?;
    } else {
        for at in 0..=last {
            x.probe_write(x.behind(addr, at), 1)?;
        }
    }
    for at in 0..V::BYTES {
        if mask.lane::<i8>(at) < 0 {
            x.store(x.behind(addr, at as u32), source.lane::<u8>(at))?;
        }
    }
    Ok(())
}

/// Marks all x87 registers as empty. SDM Vol. 2A, "EMMS".
#[inline(always)]
pub fn emms(x: Exec) -> Result<(), Fault> {
    x.wait_for_fpu()?;
    x.fpu().emms();
    Ok(())
}

/// Adds bytes, wrapping. SDM Vol. 2B, "PADDB".
#[inline(always)]
pub fn paddb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::wrapping_add)
}

/// Adds words, wrapping. SDM Vol. 2B, "PADDW".
#[inline(always)]
pub fn paddw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u16::wrapping_add)
}

/// Adds doublewords, wrapping. SDM Vol. 2B, "PADDD".
#[inline(always)]
pub fn paddd<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u32::wrapping_add)
}

/// Adds quadwords, wrapping. SDM Vol. 2B, "PADDQ".
#[inline(always)]
pub fn paddq<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u64::wrapping_add)
}

/// Adds signed bytes, saturating. SDM Vol. 2B, "PADDSB".
#[inline(always)]
pub fn paddsb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i8::saturating_add)
}

/// Adds signed words, saturating. SDM Vol. 2B, "PADDSW".
#[inline(always)]
pub fn paddsw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i16::saturating_add)
}

/// Adds unsigned bytes, saturating. SDM Vol. 2B, "PADDUSB".
#[inline(always)]
pub fn paddusb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::saturating_add)
}

/// Adds unsigned words, saturating. SDM Vol. 2B, "PADDUSW".
#[inline(always)]
pub fn paddusw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u16::saturating_add)
}

/// Subtracts bytes, wrapping. SDM Vol. 2B, "PSUBB".
#[inline(always)]
pub fn psubb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::wrapping_sub)
}

/// Subtracts words, wrapping. SDM Vol. 2B, "PSUBW".
#[inline(always)]
pub fn psubw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u16::wrapping_sub)
}

/// Subtracts doublewords, wrapping. SDM Vol. 2B, "PSUBD".
#[inline(always)]
pub fn psubd<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u32::wrapping_sub)
}

/// Subtracts quadwords, wrapping. SDM Vol. 2B, "PSUBQ".
#[inline(always)]
pub fn psubq<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u64::wrapping_sub)
}

/// Subtracts signed bytes, saturating. SDM Vol. 2B, "PSUBSB".
#[inline(always)]
pub fn psubsb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i8::saturating_sub)
}

/// Subtracts signed words, saturating. SDM Vol. 2B, "PSUBSW".
#[inline(always)]
pub fn psubsw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i16::saturating_sub)
}

/// Subtracts unsigned bytes, saturating. SDM Vol. 2B, "PSUBUSB".
#[inline(always)]
pub fn psubusb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::saturating_sub)
}

/// Subtracts unsigned words, saturating. SDM Vol. 2B, "PSUBUSW".
#[inline(always)]
pub fn psubusw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u16::saturating_sub)
}

/// Multiplies words; the low halves. SDM Vol. 2B, "PMULLW".
#[inline(always)]
pub fn pmullw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i16::wrapping_mul)
}

/// Multiplies signed words; the high halves. SDM Vol. 2B, "PMULHW".
#[inline(always)]
pub fn pmulhw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i16, b: i16| ((i32::from(a) * i32::from(b)) >> 16) as i16)
}

/// Multiplies unsigned words; the high halves. SDM Vol. 2B, "PMULHUW".
#[inline(always)]
pub fn pmulhuw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u16, b: u16| ((u32::from(a) * u32::from(b)) >> 16) as u16)
}

/// Multiplies signed words and adds neighbouring products. SDM Vol. 2B, "PMADDWD".
#[inline(always)]
pub fn pmaddwd<V: Vector>(a: V, b: V) -> V {
    by_host!(native::pmaddwd(a.resize(), b.resize()).resize(), {
        let product = |at: usize| i32::from(a.lane::<i16>(at)) * i32::from(b.lane::<i16>(at));
        // Only (-2^15)^2 twice is too large.
        V::from_lanes(|at| product(2 * at).wrapping_add(product(2 * at + 1)))
    })
}

/// Multiplies the even unsigned doublewords. SDM Vol. 2B, "PMULUDQ".
#[inline(always)]
pub fn pmuludq<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u64, b: u64| u64::from(a as u32) * u64::from(b as u32))
}

/// Averages unsigned bytes, rounding up. SDM Vol. 2B, "PAVGB".
#[inline(always)]
pub fn pavgb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u8, b: u8| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8)
}

/// Averages unsigned words, rounding up. SDM Vol. 2B, "PAVGW".
#[inline(always)]
pub fn pavgw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u16, b: u16| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16)
}

/// Sums the absolute differences of bytes, eight at a time. SDM Vol. 2B, "PSADBW".
#[inline(always)]
pub fn psadbw<V: Vector>(a: V, b: V) -> V {
    by_host!(native::psadbw(a.resize(), b.resize()).resize(), {
        let difference = |at: usize| u64::from(a.lane::<u8>(at).abs_diff(b.lane::<u8>(at)));
        V::from_lanes(|at| V::sum(8, |byte| difference(8 * at + byte)))
    })
}

/// Takes the smaller unsigned bytes. SDM Vol. 2B, "PMINUB".
#[inline(always)]
pub fn pminub<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::min)
}

/// Takes the larger unsigned bytes. SDM Vol. 2B, "PMAXUB".
#[inline(always)]
pub fn pmaxub<V: Vector>(a: V, b: V) -> V {
    a.zip(b, u8::max)
}

/// Takes the smaller signed words. SDM Vol. 2B, "PMINSW".
#[inline(always)]
pub fn pminsw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i16::min)
}

/// Takes the larger signed words. SDM Vol. 2B, "PMAXSW".
#[inline(always)]
pub fn pmaxsw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, i16::max)
}

/// Ands. SDM Vol. 2B, "PAND".
#[inline(always)]
pub fn pand<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u64, b: u64| a & b)
}

/// Ands `b` with the complement of `a`. SDM Vol. 2B, "PANDN".
#[inline(always)]
pub fn pandn<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u64, b: u64| !a & b)
}

/// Ors. SDM Vol. 2B, "POR".
#[inline(always)]
pub fn por<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u64, b: u64| a | b)
}

/// Exclusive-ors. SDM Vol. 2B, "PXOR".
#[inline(always)]
pub fn pxor<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: u64, b: u64| a ^ b)
}

/// All ones where it holds.
#[inline(always)]
pub(super) fn truth<L: From<bool> + std::ops::Neg<Output = L>>(holds: bool) -> L {
    -L::from(holds)
}

/// Compares bytes for equality. SDM Vol. 2B, "PCMPEQB".
#[inline(always)]
pub fn pcmpeqb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i8, b: i8| truth(a == b))
}

/// Compares words for equality. SDM Vol. 2B, "PCMPEQW".
#[inline(always)]
pub fn pcmpeqw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i16, b: i16| truth(a == b))
}

/// Compares doublewords for equality. SDM Vol. 2B, "PCMPEQD".
#[inline(always)]
pub fn pcmpeqd<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i32, b: i32| truth(a == b))
}

/// Tells where signed bytes are greater. SDM Vol. 2B, "PCMPGTB".
#[inline(always)]
pub fn pcmpgtb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i8, b: i8| truth(a > b))
}

/// Tells where signed words are greater. SDM Vol. 2B, "PCMPGTW".
#[inline(always)]
pub fn pcmpgtw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i16, b: i16| truth(a > b))
}

/// Tells where signed doublewords are greater. SDM Vol. 2B, "PCMPGTD".
#[inline(always)]
pub fn pcmpgtd<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i32, b: i32| truth(a > b))
}

/// What says how far to shift: an immediate, or the low 64 bits of a vector.
pub trait Count: Copy {
    /// As a number; what does not fit is larger than any lane.
    fn count(self) -> u32;
}

impl Count for u8 {
    #[inline(always)]
    fn count(self) -> u32 {
        u32::from(self)
    }
}

impl Count for u64 {
    #[inline(always)]
    fn count(self) -> u32 {
        u32::try_from(self).unwrap_or(u32::MAX)
    }
}

impl Count for V128 {
    #[inline(always)]
    fn count(self) -> u32 {
        self.lane::<u64>(0).count()
    }
}

/// Shifts words right, zeros in. SDM Vol. 2B, "PSRLW".
#[inline(always)]
pub fn psrlw<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u16| a.checked_shr(count.count()).unwrap_or(0))
}

/// Shifts doublewords right, zeros in. SDM Vol. 2B, "PSRLD".
#[inline(always)]
pub fn psrld<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u32| a.checked_shr(count.count()).unwrap_or(0))
}

/// Shifts quadwords right, zeros in. SDM Vol. 2B, "PSRLQ".
#[inline(always)]
pub fn psrlq<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u64| a.checked_shr(count.count()).unwrap_or(0))
}

/// Shifts words right, signs in. SDM Vol. 2B, "PSRAW".
#[inline(always)]
pub fn psraw<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: i16| a >> count.count().min(15))
}

/// Shifts doublewords right, signs in. SDM Vol. 2B, "PSRAD".
#[inline(always)]
pub fn psrad<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: i32| a >> count.count().min(31))
}

/// Shifts words left. SDM Vol. 2B, "PSLLW".
#[inline(always)]
pub fn psllw<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u16| a.checked_shl(count.count()).unwrap_or(0))
}

/// Shifts doublewords left. SDM Vol. 2B, "PSLLD".
#[inline(always)]
pub fn pslld<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u32| a.checked_shl(count.count()).unwrap_or(0))
}

/// Shifts quadwords left. SDM Vol. 2B, "PSLLQ".
#[inline(always)]
pub fn psllq<V: Vector, C: Count>(a: V, count: C) -> V {
    a.map(|a: u64| a.checked_shl(count.count()).unwrap_or(0))
}

/// Packs by an instruction for 128 bits: two vectors of 64 are the halves of one.
#[cfg(trap_memory)]
#[inline(always)]
fn pack_by<V: Vector>(a: V, b: V, instruction: fn(V128, V128) -> V128) -> V {
    if V::BYTES == 16 {
        return instruction(a.resize(), b.resize()).resize();
    }
    let both = V128::ZERO.with_lane(0, a.lane::<u64>(0)).with_lane(1, b.lane::<u64>(0));
    instruction(both, both).resize()
}

/// Interleaves the high lanes by one of two instructions for 128 bits: those of 64 bits are the upper half of their low ones.
#[cfg(trap_memory)]
#[inline(always)]
fn high_by<V: Vector>(a: V, b: V, low: fn(V128, V128) -> V128, high: fn(V128, V128) -> V128) -> V {
    if V::BYTES == 16 {
        return high(a.resize(), b.resize()).resize();
    }
    V::ZERO.with_lane(0, low(a.resize(), b.resize()).lane::<u64>(1))
}

/// Packs the lanes of `a`, then those of `b`, into lanes of half the width.
#[inline(always)]
pub(super) fn pack<V: Vector, W: Lane, N: Lane>(a: V, b: V, narrow: impl Fn(W) -> N) -> V {
    let half = V::lanes::<W>();
    V::from_lanes(|at| narrow(if at < half { a.lane(at) } else { b.lane(at - half) }))
}

/// Packs words to signed bytes, saturating. SDM Vol. 2B, "PACKSSWB".
#[inline(always)]
pub fn packsswb<V: Vector>(a: V, b: V) -> V {
    by_host!(pack_by(a, b, native::packsswb), pack(a, b, |word: i16| word.clamp(-0x80, 0x7f) as i8))
}

/// Packs doublewords to signed words, saturating. SDM Vol. 2B, "PACKSSDW".
#[inline(always)]
pub fn packssdw<V: Vector>(a: V, b: V) -> V {
    by_host!(pack_by(a, b, native::packssdw), pack(a, b, |dword: i32| dword.clamp(-0x8000, 0x7fff) as i16))
}

/// Packs signed words to unsigned bytes, saturating. SDM Vol. 2B, "PACKUSWB".
#[inline(always)]
pub fn packuswb<V: Vector>(a: V, b: V) -> V {
    by_host!(pack_by(a, b, native::packuswb), pack(a, b, |word: i16| word.clamp(0, 0xff) as u8))
}

/// Takes lanes of `a` and `b` in turn, from number `from` on.
#[inline(always)]
pub(super) fn interleave<L: Lane, V: Vector, B: Vector>(a: V, b: B, from: usize) -> V {
    V::from_lanes(|at| if at % 2 == 0 { a.lane::<L>(from + at / 2) } else { b.lane::<L>(from + at / 2) })
}

/// Interleaves the high bytes. SDM Vol. 2B, "PUNPCKHBW".
#[inline(always)]
pub fn punpckhbw<V: Vector>(a: V, b: V) -> V {
    by_host!(
        high_by(a, b, native::punpcklbw, native::punpckhbw),
        interleave::<u8, V, V>(a, b, V::lanes::<u8>() / 2)
    )
}

/// Interleaves the high words. SDM Vol. 2B, "PUNPCKHWD".
#[inline(always)]
pub fn punpckhwd<V: Vector>(a: V, b: V) -> V {
    by_host!(
        high_by(a, b, native::punpcklwd, native::punpckhwd),
        interleave::<u16, V, V>(a, b, V::lanes::<u16>() / 2)
    )
}

/// Interleaves the high doublewords. SDM Vol. 2B, "PUNPCKHDQ".
#[inline(always)]
pub fn punpckhdq<V: Vector>(a: V, b: V) -> V {
    by_host!(
        high_by(a, b, native::punpckldq, native::punpckhdq),
        interleave::<u32, V, V>(a, b, V::lanes::<u32>() / 2)
    )
}

/// Interleaves the low bytes. SDM Vol. 2B, "PUNPCKLBW".
#[inline(always)]
pub fn punpcklbw<V: Vector, B: Vector>(a: V, b: B) -> V {
    by_host!(native::punpcklbw(a.resize(), b.resize()).resize(), interleave::<u8, V, B>(a, b, 0))
}

/// Interleaves the low words. SDM Vol. 2B, "PUNPCKLWD".
#[inline(always)]
pub fn punpcklwd<V: Vector, B: Vector>(a: V, b: B) -> V {
    by_host!(native::punpcklwd(a.resize(), b.resize()).resize(), interleave::<u16, V, B>(a, b, 0))
}

/// Interleaves the low doublewords. SDM Vol. 2B, "PUNPCKLDQ".
#[inline(always)]
pub fn punpckldq<V: Vector, B: Vector>(a: V, b: B) -> V {
    by_host!(native::punpckldq(a.resize(), b.resize()).resize(), interleave::<u32, V, B>(a, b, 0))
}

/// Picks words by pairs of bits. SDM Vol. 2B, "PSHUFW".
#[inline(always)]
pub fn pshufw(source: u64, order: u8) -> u64 {
    Vector::from_lanes(|at| source.lane::<u16>(usize::from(order >> (2 * at) & 3)))
}

/// Inserts a word. SDM Vol. 2B, "PINSRW".
#[inline(always)]
pub fn pinsrw<V: Vector, S: Word>(a: V, source: S, at: u8) -> V {
    a.with_lane(usize::from(at) % V::lanes::<u16>(), source.u32() as u16)
}

/// Extracts a word. SDM Vol. 2B, "PEXTRW".
#[inline(always)]
pub fn pextrw<V: Vector, D: Word>(a: V, at: u8) -> D {
    D::low(u64::from(a.lane::<u16>(usize::from(at) % V::lanes::<u16>())))
}

/// Gathers the top bits of all bytes. SDM Vol. 2B, "PMOVMSKB".
#[inline(always)]
pub fn pmovmskb<V: Vector>(a: V) -> u32 {
    by_host!(native::pmovmskb(a.resize()), V::sum(V::BYTES, |at| u32::from(a.lane::<u8>(at) >> 7) << at))
}

/// Picks bytes by the low bits of those of `order`; zero where their top bit is set. SDM Vol. 2B, "PSHUFB".
#[inline(always)]
pub fn pshufb<V: Vector>(a: V, order: V, h: Native) -> V {
    // Numbers beyond an MMX register wrap around, which the host's 128 bits would not.
    let order = order.map(|order: u8| order & (0x80 | (V::BYTES as u8 - 1)));
    native!(h, native::pshufb(a.resize(), order.resize()).resize(), {
        order.map(|order: u8| if order & 0x80 != 0 { 0 } else { a.lane(usize::from(order)) })
    })
}

/// Joins neighbouring lanes, those of `a` first.
#[inline(always)]
fn neighbours<L: Lane, V: Vector>(a: V, b: V, join: impl Fn(L, L) -> L) -> V {
    let half = V::lanes::<L>() / 2;
    V::from_lanes(|at| {
        let (from, at) = if at < half { (a, at) } else { (b, at - half) };
        join(from.lane(2 * at), from.lane(2 * at + 1))
    })
}

/// Adds neighbouring words, wrapping. SDM Vol. 2B, "PHADDW".
#[inline(always)]
pub fn phaddw<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i16::wrapping_add)
}

/// Adds neighbouring doublewords, wrapping. SDM Vol. 2B, "PHADDD".
#[inline(always)]
pub fn phaddd<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i32::wrapping_add)
}

/// Adds neighbouring signed words, saturating. SDM Vol. 2B, "PHADDSW".
#[inline(always)]
pub fn phaddsw<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i16::saturating_add)
}

/// Subtracts neighbouring words, wrapping. SDM Vol. 2B, "PHSUBW".
#[inline(always)]
pub fn phsubw<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i16::wrapping_sub)
}

/// Subtracts neighbouring doublewords, wrapping. SDM Vol. 2B, "PHSUBD".
#[inline(always)]
pub fn phsubd<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i32::wrapping_sub)
}

/// Subtracts neighbouring signed words, saturating. SDM Vol. 2B, "PHSUBSW".
#[inline(always)]
pub fn phsubsw<V: Vector>(a: V, b: V) -> V {
    neighbours(a, b, i16::saturating_sub)
}

/// Multiplies unsigned by signed bytes and adds neighbouring products, saturating. SDM Vol. 2B, "PMADDUBSW".
#[inline(always)]
pub fn pmaddubsw<V: Vector>(a: V, b: V) -> V {
    let product = |at: usize| i16::from(a.lane::<u8>(at)).wrapping_mul(i16::from(b.lane::<i8>(at)));
    V::from_lanes(|at| product(2 * at).saturating_add(product(2 * at + 1)))
}

/// Gives bytes the signs of those of `b`. SDM Vol. 2B, "PSIGNB".
#[inline(always)]
pub fn psignb<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i8, b: i8| a.wrapping_mul(b.signum()))
}

/// Gives words the signs of those of `b`. SDM Vol. 2B, "PSIGNW".
#[inline(always)]
pub fn psignw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i16, b: i16| a.wrapping_mul(b.signum()))
}

/// Gives doublewords the signs of those of `b`. SDM Vol. 2B, "PSIGND".
#[inline(always)]
pub fn psignd<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i32, b: i32| a.wrapping_mul(b.signum()))
}

/// Multiplies signed words; the high halves, rounded. SDM Vol. 2B, "PMULHRSW".
#[inline(always)]
pub fn pmulhrsw<V: Vector>(a: V, b: V) -> V {
    a.zip(b, |a: i16, b: i16| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16)
}

/// Takes absolute bytes. SDM Vol. 2B, "PABSB".
#[inline(always)]
pub fn pabsb<V: Vector>(a: V) -> V {
    a.map(i8::wrapping_abs)
}

/// Takes absolute words. SDM Vol. 2B, "PABSW".
#[inline(always)]
pub fn pabsw<V: Vector>(a: V) -> V {
    a.map(i16::wrapping_abs)
}

/// Takes absolute doublewords. SDM Vol. 2B, "PABSD".
#[inline(always)]
pub fn pabsd<V: Vector>(a: V) -> V {
    a.map(i32::wrapping_abs)
}

/// Shifts the pair `a`:`b` right by so many bytes. SDM Vol. 2B, "PALIGNR".
#[inline(always)]
pub fn palignr<V: Vector>(a: V, b: V, by: u8) -> V {
    V::from_lanes(|at| {
        let from = at + usize::from(by);
        if from < V::BYTES { b.lane::<u8>(from) } else { a.lane(from - V::BYTES) }
    })
}
