//! Floats and doubles in XMM registers. Rows: `opcodes/sse_float.toml`; the arithmetic: [`crate::cpu::float`].
//!
//! A body serves packed and scalar forms: a scalar is a vector of one lane.

use super::mmx::interleave;
use crate::cpu::Pending;
#[cfg(trap_memory)]
use crate::cpu::float::host;
use crate::cpu::float::{F32, F64, approximate, arith};
use crate::cpu::mxcsr::Mxcsr;
#[cfg(trap_memory)]
use crate::cpu::native as newer;
use crate::cpu::native::Native;
use crate::cpu::vector::{V128, Vector};
use std::cmp::Ordering;

/// An operation on two values by their bits.
type Operation = fn(u64, u64, &mut Mxcsr) -> u64;

/// What the host's instruction gives if that is the same, else what software computes.
macro_rules! native {
    ($m:expr, $host:expr, $soft:expr) => {{
        #[cfg(trap_memory)]
        let value = if $m.native() { $host } else { $soft };
        #[cfg(not(trap_memory))]
        let value = {
            let _ = &$m;
            $soft
        };
        value
    }};
}
pub(super) use native;

/// Does an operation on each pair of floats.
#[inline(always)]
fn floats<V: Vector>(a: V, b: V, m: &mut Mxcsr, operation: Operation) -> V {
    a.zip(b, move |a: u32, b: u32| operation(u64::from(a), u64::from(b), m) as u32)
}

/// Does an operation on each pair of doubles.
#[inline(always)]
fn doubles<V: Vector>(a: V, b: V, m: &mut Mxcsr, operation: Operation) -> V {
    a.zip(b, |a: u64, b: u64| operation(a, b, m))
}

/// Adds floats. SDM Vol. 2A, "ADDPS".
#[inline(always)]
pub fn addps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::addps(a, b), floats(a, b, m, arith::add::<F32>))
}

/// Adds doubles. SDM Vol. 2A, "ADDPD".
#[inline(always)]
pub fn addpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::addpd(a, b), doubles(a, b, m, arith::add::<F64>))
}

/// Subtracts floats. SDM Vol. 2B, "SUBPS".
#[inline(always)]
pub fn subps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::subps(a, b), floats(a, b, m, arith::sub::<F32>))
}

/// Subtracts doubles. SDM Vol. 2B, "SUBPD".
#[inline(always)]
pub fn subpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::subpd(a, b), doubles(a, b, m, arith::sub::<F64>))
}

/// Multiplies floats. SDM Vol. 2B, "MULPS".
#[inline(always)]
pub fn mulps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::mulps(a, b), floats(a, b, m, arith::mul::<F32>))
}

/// Multiplies doubles. SDM Vol. 2B, "MULPD".
#[inline(always)]
pub fn mulpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::mulpd(a, b), doubles(a, b, m, arith::mul::<F64>))
}

/// Divides floats. SDM Vol. 2A, "DIVPS".
#[inline(always)]
pub fn divps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::divps(a, b), floats(a, b, m, arith::div::<F32>))
}

/// Divides doubles. SDM Vol. 2A, "DIVPD".
#[inline(always)]
pub fn divpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::divpd(a, b), doubles(a, b, m, arith::div::<F64>))
}

/// Takes the square roots of floats. SDM Vol. 2B, "SQRTPS".
#[inline(always)]
pub fn sqrtps<V: Vector>(a: V, m: &mut Mxcsr) -> V {
    native!(m, host::sqrtps(a), floats(a, a, m, |a, _, m| arith::sqrt::<F32>(a, m)))
}

/// Takes the square roots of doubles. SDM Vol. 2B, "SQRTPD".
#[inline(always)]
pub fn sqrtpd<V: Vector>(a: V, m: &mut Mxcsr) -> V {
    native!(m, host::sqrtpd(a), doubles(a, a, m, |a, _, m| arith::sqrt::<F64>(a, m)))
}

/// Takes the smaller floats. SDM Vol. 2B, "MINPS".
#[inline(always)]
pub fn minps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::minps(a, b), floats(a, b, m, |a, b, m| arith::select::<F32>(a, b, Ordering::Less, m)))
}

/// Takes the smaller doubles. SDM Vol. 2B, "MINPD".
#[inline(always)]
pub fn minpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::minpd(a, b), doubles(a, b, m, |a, b, m| arith::select::<F64>(a, b, Ordering::Less, m)))
}

/// Takes the larger floats. SDM Vol. 2B, "MAXPS".
#[inline(always)]
pub fn maxps<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(m, host::maxps(a, b), floats(a, b, m, |a, b, m| arith::select::<F32>(a, b, Ordering::Greater, m)))
}

/// Takes the larger doubles. SDM Vol. 2B, "MAXPD".
#[inline(always)]
pub fn maxpd<V: Vector>(a: V, b: V, m: &mut Mxcsr) -> V {
    native!(
        m,
        host::maxpd(a, b),
        doubles(a, b, m, |a, b, m| arith::select::<F64>(a, b, Ordering::Greater, m))
    )
}

/// Compares floats by a predicate; all ones where it holds. SDM Vol. 2A, "CMPPS".
#[inline(always)]
pub fn cmpps<V: Vector>(a: V, b: V, predicate: u8, m: &mut Mxcsr) -> V {
    native!(m, host::cmpps(a, b, predicate), {
        let holds =
            |a: u32, b: u32, m: &mut Mxcsr| arith::holds::<F32>(u64::from(a), u64::from(b), predicate, m);
        a.zip(b, |a, b| if holds(a, b, m) { u32::MAX } else { 0 })
    })
}

/// Compares doubles by a predicate; all ones where it holds. SDM Vol. 2A, "CMPPD".
#[inline(always)]
pub fn cmppd<V: Vector>(a: V, b: V, predicate: u8, m: &mut Mxcsr) -> V {
    native!(m, host::cmppd(a, b, predicate), {
        let holds = |a: u64, b: u64, m: &mut Mxcsr| arith::holds::<F64>(a, b, predicate, m);
        a.zip(b, |a, b| if holds(a, b, m) { u64::MAX } else { 0 })
    })
}

/// Z, P and C as COMISS leaves them; the others are cleared.
#[inline(always)]
fn ordered(order: Option<Ordering>, f: &mut Pending) {
    const C: u32 = 1;
    const P: u32 = 1 << 2;
    const Z: u32 = 1 << 6;
    f.set_eflags(match order {
        None => Z | P | C,
        Some(Ordering::Less) => C,
        Some(Ordering::Equal) => Z,
        Some(Ordering::Greater) => 0,
    });
}

/// Compares floats; a signalling NaN is invalid. SDM Vol. 2B, "UCOMISS".
#[inline(always)]
pub fn ucomiss(a: u32, b: u32, m: &mut Mxcsr, f: &mut Pending) {
    let order = |m: &mut Mxcsr| {
        native!(m, host::ucomiss(a, b), arith::compare::<F32>(u64::from(a), u64::from(b), false, m))
    };
    ordered(order(m), f);
}

/// Compares doubles; a signalling NaN is invalid. SDM Vol. 2B, "UCOMISD".
#[inline(always)]
pub fn ucomisd(a: u64, b: u64, m: &mut Mxcsr, f: &mut Pending) {
    let order = |m: &mut Mxcsr| native!(m, host::ucomisd(a, b), arith::compare::<F64>(a, b, false, m));
    ordered(order(m), f);
}

/// Compares floats; any NaN is invalid. SDM Vol. 2A, "COMISS".
#[inline(always)]
pub fn comiss(a: u32, b: u32, m: &mut Mxcsr, f: &mut Pending) {
    let order = |m: &mut Mxcsr| {
        native!(m, host::comiss(a, b), arith::compare::<F32>(u64::from(a), u64::from(b), true, m))
    };
    ordered(order(m), f);
}

/// Compares doubles; any NaN is invalid. SDM Vol. 2A, "COMISD".
#[inline(always)]
pub fn comisd(a: u64, b: u64, m: &mut Mxcsr, f: &mut Pending) {
    let order = |m: &mut Mxcsr| native!(m, host::comisd(a, b), arith::compare::<F64>(a, b, true, m));
    ordered(order(m), f);
}

/// Ands. SDM Vol. 2A, "ANDPS".
#[inline(always)]
pub fn andps(a: V128, b: V128) -> V128 {
    a.zip(b, |a: u64, b: u64| a & b)
}

/// Ands `b` with the complement of `a`. SDM Vol. 2A, "ANDNPS".
#[inline(always)]
pub fn andnps(a: V128, b: V128) -> V128 {
    a.zip(b, |a: u64, b: u64| !a & b)
}

/// Ors. SDM Vol. 2B, "ORPS".
#[inline(always)]
pub fn orps(a: V128, b: V128) -> V128 {
    a.zip(b, |a: u64, b: u64| a | b)
}

/// Exclusive-ors. SDM Vol. 2C, "XORPS".
#[inline(always)]
pub fn xorps(a: V128, b: V128) -> V128 {
    a.zip(b, |a: u64, b: u64| a ^ b)
}

/// Interleaves the low floats. SDM Vol. 2B, "UNPCKLPS".
#[inline(always)]
pub fn unpcklps(a: V128, b: V128) -> V128 {
    interleave::<u32, V128, V128>(a, b, 0)
}

/// Joins the low doubles. SDM Vol. 2B, "UNPCKLPD".
#[inline(always)]
pub fn unpcklpd(a: V128, b: V128) -> V128 {
    interleave::<u64, V128, V128>(a, b, 0)
}

/// Interleaves the high floats. SDM Vol. 2B, "UNPCKHPS".
#[inline(always)]
pub fn unpckhps(a: V128, b: V128) -> V128 {
    interleave::<u32, V128, V128>(a, b, 2)
}

/// Joins the high doubles. SDM Vol. 2B, "UNPCKHPD".
#[inline(always)]
pub fn unpckhpd(a: V128, b: V128) -> V128 {
    interleave::<u64, V128, V128>(a, b, 1)
}

/// Picks two floats of `a` and two of `b`. SDM Vol. 2B, "SHUFPS".
#[inline(always)]
pub fn shufps(a: V128, b: V128, order: u8, h: Native) -> V128 {
    native!(
        h,
        V128::ZERO
            .with_lane(0, newer::shuffle(a, order).lane::<u64>(0))
            .with_lane(1, newer::shuffle(b, order).lane::<u64>(1)),
        {
            let from = |at: usize| usize::from(order >> (2 * at) & 3);
            V128::from_lanes(|at| if at < 2 { a.lane::<u32>(from(at)) } else { b.lane::<u32>(from(at)) })
        }
    )
}

/// Picks a double of `a` and one of `b`. SDM Vol. 2B, "SHUFPD".
#[inline(always)]
pub fn shufpd(a: V128, b: V128, order: u8) -> V128 {
    let from = |at: usize| usize::from(order >> at & 1);
    V128::from_lanes(|at| if at == 0 { a.lane::<u64>(from(0)) } else { b.lane::<u64>(from(1)) })
}

/// Joins neighbouring floats by an operation, those of `a` first.
#[inline(always)]
fn neighbours_ps(a: V128, b: V128, m: &mut Mxcsr, operation: fn(V128, V128, &mut Mxcsr) -> V128) -> V128 {
    let pick = |odd: usize| {
        V128::from_lanes(|at| if at < 2 { a.lane::<u32>(2 * at + odd) } else { b.lane(2 * (at - 2) + odd) })
    };
    operation(pick(0), pick(1), m)
}

/// Joins neighbouring doubles by an operation, those of `a` first.
#[inline(always)]
fn neighbours_pd(a: V128, b: V128, m: &mut Mxcsr, operation: fn(V128, V128, &mut Mxcsr) -> V128) -> V128 {
    operation(unpcklpd(a, b), unpckhpd(a, b), m)
}

/// Adds neighbouring floats. SDM Vol. 2A, "HADDPS".
#[inline(always)]
pub fn haddps(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    neighbours_ps(a, b, m, addps)
}

/// Adds neighbouring doubles. SDM Vol. 2A, "HADDPD".
#[inline(always)]
pub fn haddpd(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    neighbours_pd(a, b, m, addpd)
}

/// Subtracts neighbouring floats. SDM Vol. 2A, "HSUBPS".
#[inline(always)]
pub fn hsubps(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    neighbours_ps(a, b, m, subps)
}

/// Subtracts neighbouring doubles. SDM Vol. 2A, "HSUBPD".
#[inline(always)]
pub fn hsubpd(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    neighbours_pd(a, b, m, subpd)
}

/// Subtracts the even floats and adds the odd ones. SDM Vol. 2A, "ADDSUBPS".
#[inline(always)]
pub fn addsubps(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    V128::from_lanes(|at| {
        let (a, b): (u32, u32) = (a.lane(at), b.lane(at));
        if at % 2 == 0 { subps(a, b, m) } else { addps(a, b, m) }
    })
}

/// Subtracts the even doubles and adds the odd ones. SDM Vol. 2A, "ADDSUBPD".
#[inline(always)]
pub fn addsubpd(a: V128, b: V128, m: &mut Mxcsr) -> V128 {
    V128::from_lanes(|at| {
        let (a, b): (u64, u64) = (a.lane(at), b.lane(at));
        if at % 2 == 0 { subpd(a, b, m) } else { addpd(a, b, m) }
    })
}

/// Approximates reciprocals of floats. SDM Vol. 2B, "RCPPS".
#[inline(always)]
pub fn rcpps<V: Vector>(a: V) -> V {
    a.map(|a: u32| approximate::reciprocal(a))
}

/// Approximates reciprocal square roots of floats. SDM Vol. 2B, "RSQRTPS".
#[inline(always)]
pub fn rsqrtps<V: Vector>(a: V) -> V {
    a.map(|a: u32| approximate::reciprocal_root(a))
}
