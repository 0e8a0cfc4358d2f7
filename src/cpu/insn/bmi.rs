//! Bit manipulation. Rows: `opcodes/bmi.toml`.

use super::sse_float::native;
#[cfg(trap_memory)]
use crate::cpu::native;
use crate::cpu::native::Native;
use crate::cpu::{Pending, eflags};

/// Z and S by the result, and C; O, A and P are cleared.
#[inline(always)]
fn flagged(result: u32, carry: bool, f: &mut Pending) -> u32 {
    let sign = result >> 31;
    f.set_eflags(
        (u32::from(result == 0) * eflags::ZF) | (sign * eflags::SF) | (u32::from(carry) * eflags::CF),
    );
    result
}

/// Ands `b` with the complement of `a`. SDM Vol. 2A, "ANDN".
#[inline(always)]
pub fn andn(a: u32, b: u32, f: &mut Pending) -> u32 {
    flagged(!a & b, false, f)
}

/// The bits below number `count`.
#[inline(always)]
fn low_bits(count: u32) -> u32 {
    1u32.checked_shl(count).map_or(u32::MAX, |bit| bit - 1)
}

/// Extracts bits: from where the low byte of `which` says, as many as the next one does. SDM Vol. 2A, "BEXTR".
#[inline(always)]
pub fn bextr(source: u32, which: u32, f: &mut Pending) -> u32 {
    let (start, count) = (which & 0xff, which >> 8 & 0xff);
    let result = source.checked_shr(start).unwrap_or(0) & low_bits(count);
    f.set_eflags(u32::from(result == 0) * eflags::ZF);
    result
}

/// Clears the lowest bit that is set. SDM Vol. 2A, "BLSR".
#[inline(always)]
pub fn blsr(source: u32, f: &mut Pending) -> u32 {
    flagged(source & source.wrapping_sub(1), source == 0, f)
}

/// All bits up to the lowest that is set. SDM Vol. 2A, "BLSMSK".
#[inline(always)]
pub fn blsmsk(source: u32, f: &mut Pending) -> u32 {
    flagged(source ^ source.wrapping_sub(1), source == 0, f)
}

/// The lowest bit that is set. SDM Vol. 2A, "BLSI".
#[inline(always)]
pub fn blsi(source: u32, f: &mut Pending) -> u32 {
    flagged(source & source.wrapping_neg(), source != 0, f)
}

/// Clears the bits from the one that the low byte of `from` names. SDM Vol. 2A, "BZHI".
#[inline(always)]
pub fn bzhi(source: u32, from: u32, f: &mut Pending) -> u32 {
    let count = from & 0xff;
    flagged(source & low_bits(count), count > 31, f)
}

/// Multiplies: the high and the low half. SDM Vol. 2B, "MULX".
#[inline(always)]
pub fn mulx(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// Deposits the low bits of `source` where those of `mask` are set. SDM Vol. 2B, "PDEP".
#[inline(always)]
pub fn pdep(source: u32, mask: u32, h: Native) -> u32 {
    native!(h, native::pdep(source, mask), {
        let (mut result, mut rest, mut source) = (0, mask, source);
        while rest != 0 {
            if source & 1 != 0 {
                result |= rest & rest.wrapping_neg();
            }
            rest &= rest - 1;
            source >>= 1;
        }
        result
    })
}

/// Gathers the bits of `source` where those of `mask` are set. SDM Vol. 2B, "PEXT".
#[inline(always)]
pub fn pext(source: u32, mask: u32, h: Native) -> u32 {
    native!(h, native::pext(source, mask), {
        let (mut result, mut rest, mut bit) = (0, mask, 1u32);
        while rest != 0 {
            if source & rest & rest.wrapping_neg() != 0 {
                result |= bit;
            }
            rest &= rest - 1;
            bit <<= 1;
        }
        result
    })
}

/// Rotates right. SDM Vol. 2B, "RORX".
#[inline(always)]
pub fn rorx(source: u32, count: u8) -> u32 {
    source.rotate_right(u32::from(count))
}

/// Shifts right, signs in. SDM Vol. 2B, "SARX/SHLX/SHRX".
#[inline(always)]
pub fn sarx(source: u32, count: u32) -> u32 {
    (source as i32).wrapping_shr(count) as u32
}

/// Shifts left. SDM Vol. 2B, "SARX/SHLX/SHRX".
#[inline(always)]
pub fn shlx(source: u32, count: u32) -> u32 {
    source.wrapping_shl(count)
}

/// Shifts right, zeros in. SDM Vol. 2B, "SARX/SHLX/SHRX".
#[inline(always)]
pub fn shrx(source: u32, count: u32) -> u32 {
    source.wrapping_shr(count)
}
