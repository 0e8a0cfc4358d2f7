//! Moves of XMM registers, and MXCSR. Rows: `opcodes/sse_move.toml`.

use super::mmx;
use crate::cpu::image::MXCSR_MASK;
use crate::cpu::vector::{V128, Vector};
use crate::cpu::{Exec, Fault};

/// Copies, zero-extended or cut. SDM Vol. 2B, "MOVAPS".
#[inline(always)]
pub fn copy<S: Vector, D: Vector>(source: S) -> D {
    source.resize()
}

/// Replaces the low part. SDM Vol. 2B, "MOVSS" and "MOVLPS".
#[inline(always)]
pub fn merge<S: Vector>(a: V128, low: S) -> V128 {
    if S::BYTES == 4 { a.with_lane(0, low.lane::<u32>(0)) } else { a.with_lane(0, low.lane::<u64>(0)) }
}

/// Replaces the high half. SDM Vol. 2B, "MOVHPS" and "MOVLHPS".
#[inline(always)]
pub fn movhps(a: V128, high: u64) -> V128 {
    a.with_lane(1, high)
}

/// Gives the high half. SDM Vol. 2B, "MOVHPS".
#[inline(always)]
pub fn high_half(a: V128) -> u64 {
    a.lane(1)
}

/// Replaces the low half by the high one of `b`. SDM Vol. 2B, "MOVHLPS".
#[inline(always)]
pub fn movhlps(a: V128, b: V128) -> V128 {
    a.with_lane(0, b.lane::<u64>(1))
}

/// Doubles the even floats. SDM Vol. 2B, "MOVSLDUP".
#[inline(always)]
pub fn movsldup(a: V128) -> V128 {
    V128::from_lanes(|at| a.lane::<u32>(at & !1))
}

/// Doubles the odd floats. SDM Vol. 2B, "MOVSHDUP".
#[inline(always)]
pub fn movshdup(a: V128) -> V128 {
    V128::from_lanes(|at| a.lane::<u32>(at | 1))
}

/// Doubles a double. SDM Vol. 2B, "MOVDDUP".
#[inline(always)]
pub fn movddup(a: u64) -> V128 {
    V128::from_lanes(|_| a)
}

/// Stores bytes by a mask. SDM Vol. 2B, "MASKMOVDQU".
#[inline(always)]
pub fn maskmov(x: Exec, source: V128, mask: V128) -> Result<(), Fault> {
    mmx::maskmov(x, source, mask)
}

/// Gathers the signs of floats. SDM Vol. 2B, "MOVMSKPS".
#[inline(always)]
pub fn movmskps(a: V128) -> u32 {
    V128::sum(4, |at| (a.lane::<u32>(at) >> 31) << at)
}

/// Gathers the signs of doubles. SDM Vol. 2B, "MOVMSKPD".
#[inline(always)]
pub fn movmskpd(a: V128) -> u32 {
    V128::sum(2, |at| ((a.lane::<u64>(at) >> 63) as u32) << at)
}

/// Loads MXCSR; #GP(0) for a reserved bit. SDM Vol. 2A, "LDMXCSR".
#[inline(always)]
pub fn ldmxcsr(x: Exec, value: u32) -> Result<(), Fault> {
    if value & !MXCSR_MASK != 0 {
        return Err(Fault::gp(0));
    }
    x.cpu().mxcsr = value;
    x.mxcsr_replaced();
    Ok(())
}

/// MXCSR. SDM Vol. 2B, "STMXCSR".
#[inline(always)]
pub fn stmxcsr(x: Exec) -> Result<u32, Fault> {
    x.collect_mxcsr_flags();
    Ok(x.cpu().mxcsr)
}
