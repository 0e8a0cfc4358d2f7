//! Conversions. Rows: `opcodes/sse_convert.toml`; the arithmetic: [`crate::cpu::float::convert`].

use super::sse_float::native;
use crate::cpu::float::convert::{from_i32, narrow, to_i32, widen};
#[cfg(trap_memory)]
use crate::cpu::float::host;
use crate::cpu::float::{F32, F64};
use crate::cpu::mxcsr::{Mxcsr, Rounding};
use crate::cpu::vector::{V128, Vector};

/// Converts floats to doublewords.
#[inline(always)]
fn floats_to_i32<V: Vector>(a: V, rounding: Rounding, m: &mut Mxcsr) -> V {
    a.map(|a: u32| to_i32::<F32>(u64::from(a), rounding, m).cast_unsigned())
}

/// Converts two doubles to doublewords.
#[inline(always)]
fn doubles_to_i32(a: V128, rounding: Rounding, m: &mut Mxcsr) -> u64 {
    u64::from_lanes(|at| to_i32::<F64>(a.lane(at), rounding, m))
}

/// Converts doublewords to floats.
#[inline(always)]
fn i32_to_floats<V: Vector>(a: V, m: &mut Mxcsr) -> V {
    native!(m, host::cvtdq2ps(a), a.map(|a: u32| from_i32::<F32>(a.cast_signed(), m) as u32))
}

/// Converts a doubleword to a double, which is exact.
#[inline(always)]
fn i32_to_double(a: u32) -> u64 {
    f64::from(a.cast_signed()).to_bits()
}

/// Converts two doublewords to floats. SDM Vol. 2A, "CVTPI2PS".
#[inline(always)]
pub fn cvtpi2ps(a: V128, b: u64, m: &mut Mxcsr) -> V128 {
    a.with_lane(0, i32_to_floats(b, m))
}

/// Converts two doublewords to doubles. SDM Vol. 2A, "CVTPI2PD".
#[inline(always)]
pub fn cvtpi2pd(a: u64) -> V128 {
    V128::from_lanes(|at| i32_to_double(a.lane(at)))
}

/// Converts a doubleword to a float. SDM Vol. 2A, "CVTSI2SS".
#[inline(always)]
pub fn cvtsi2ss(a: u32, m: &mut Mxcsr) -> u32 {
    i32_to_floats(a, m)
}

/// Converts a doubleword to a double. SDM Vol. 2A, "CVTSI2SD".
#[inline(always)]
pub fn cvtsi2sd(a: u32) -> u64 {
    i32_to_double(a)
}

/// Converts two doublewords to doubles. SDM Vol. 2A, "CVTDQ2PD".
#[inline(always)]
pub fn cvtdq2pd(a: u64) -> V128 {
    cvtpi2pd(a)
}

/// Converts doublewords to floats. SDM Vol. 2A, "CVTDQ2PS".
#[inline(always)]
pub fn cvtdq2ps(a: V128, m: &mut Mxcsr) -> V128 {
    i32_to_floats(a, m)
}

/// Converts two floats to doubles. SDM Vol. 2A, "CVTPS2PD".
#[inline(always)]
pub fn cvtps2pd(a: u64, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvtps2pd(a), V128::from_lanes(|at| widen(a.lane(at), m)))
}

/// Converts two doubles to floats. SDM Vol. 2A, "CVTPD2PS".
#[inline(always)]
pub fn cvtpd2ps(a: V128, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvtpd2ps(a), u64::from_lanes(|at| narrow(a.lane(at), m)).resize())
}

/// Converts a float to a double. SDM Vol. 2A, "CVTSS2SD".
#[inline(always)]
pub fn cvtss2sd(a: u32, m: &mut Mxcsr) -> u64 {
    native!(m, host::cvtps2pd(a), widen(a, m))
}

/// Converts a double to a float. SDM Vol. 2A, "CVTSD2SS".
#[inline(always)]
pub fn cvtsd2ss(a: u64, m: &mut Mxcsr) -> u32 {
    native!(m, host::cvtpd2ps(a), narrow(a, m))
}

/// Converts two floats to doublewords, rounding. SDM Vol. 2A, "CVTPS2PI".
#[inline(always)]
pub fn cvtps2pi(a: u64, m: &mut Mxcsr) -> u64 {
    native!(m, host::cvtps2dq(a), floats_to_i32(a, m.rounding(), m))
}

/// Converts floats to doublewords, rounding. SDM Vol. 2A, "CVTPS2DQ".
#[inline(always)]
pub fn cvtps2dq(a: V128, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvtps2dq(a), floats_to_i32(a, m.rounding(), m))
}

/// Converts a float to a doubleword, rounding. SDM Vol. 2A, "CVTSS2SI".
#[inline(always)]
pub fn cvtss2si(a: u32, m: &mut Mxcsr) -> u32 {
    native!(m, host::cvtps2dq(a), floats_to_i32(a, m.rounding(), m))
}

/// Converts two doubles to doublewords, rounding. SDM Vol. 2A, "CVTPD2PI".
#[inline(always)]
pub fn cvtpd2pi(a: V128, m: &mut Mxcsr) -> u64 {
    native!(m, host::cvtpd2dq(a), doubles_to_i32(a, m.rounding(), m))
}

/// Converts two doubles to doublewords, rounding. SDM Vol. 2A, "CVTPD2DQ".
#[inline(always)]
pub fn cvtpd2dq(a: V128, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvtpd2dq(a), doubles_to_i32(a, m.rounding(), m).resize())
}

/// Converts a double to a doubleword, rounding. SDM Vol. 2A, "CVTSD2SI".
#[inline(always)]
pub fn cvtsd2si(a: u64, m: &mut Mxcsr) -> u32 {
    let rounding = m.rounding();
    native!(m, host::cvtpd2dq(a), to_i32::<F64>(a, rounding, m).cast_unsigned())
}

/// Converts two floats to doublewords, truncating. SDM Vol. 2A, "CVTTPS2PI".
#[inline(always)]
pub fn cvttps2pi(a: u64, m: &mut Mxcsr) -> u64 {
    native!(m, host::cvttps2dq(a), floats_to_i32(a, Rounding::Zero, m))
}

/// Converts floats to doublewords, truncating. SDM Vol. 2A, "CVTTPS2DQ".
#[inline(always)]
pub fn cvttps2dq(a: V128, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvttps2dq(a), floats_to_i32(a, Rounding::Zero, m))
}

/// Converts a float to a doubleword, truncating. SDM Vol. 2A, "CVTTSS2SI".
#[inline(always)]
pub fn cvttss2si(a: u32, m: &mut Mxcsr) -> u32 {
    native!(m, host::cvttps2dq(a), floats_to_i32(a, Rounding::Zero, m))
}

/// Converts two doubles to doublewords, truncating. SDM Vol. 2A, "CVTTPD2PI".
#[inline(always)]
pub fn cvttpd2pi(a: V128, m: &mut Mxcsr) -> u64 {
    native!(m, host::cvttpd2dq(a), doubles_to_i32(a, Rounding::Zero, m))
}

/// Converts two doubles to doublewords, truncating. SDM Vol. 2A, "CVTTPD2DQ".
#[inline(always)]
pub fn cvttpd2dq(a: V128, m: &mut Mxcsr) -> V128 {
    native!(m, host::cvttpd2dq(a), doubles_to_i32(a, Rounding::Zero, m).resize())
}

/// Converts a double to a doubleword, truncating. SDM Vol. 2A, "CVTTSD2SI".
#[inline(always)]
pub fn cvttsd2si(a: u64, m: &mut Mxcsr) -> u32 {
    let rounding = Rounding::Zero;
    native!(m, host::cvttpd2dq(a), to_i32::<F64>(a, rounding, m).cast_unsigned())
}
