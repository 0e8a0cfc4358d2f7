//! Instructions of an x86 host, for what they do with all exceptions masked. Unsafe: inline assembly.
//!
//! While handlers run, the host's MXCSR has the guest's rounding, DAZ and FTZ, masks everything and collects flags
//! ([`enter`], [`flags`], [`leave`]). None of this may be compiled from Rust's operators, which know nothing of MXCSR and may
//! exchange operands, of which one may be the NaN to give back.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use crate::cpu::mxcsr::{ALL_MASKED, MODES, flag};
use crate::cpu::vector::{V128, Vector};
use std::arch::asm;
use std::arch::x86_64::__m128i;
use std::cmp::Ordering;

/// MXCSR as compiled code expects it.
const DEFAULT: u32 = ALL_MASKED;

/// Loads the host's MXCSR.
#[inline(always)]
fn load(mxcsr: u32) {
    // SAFETY: reserved bits are clear and all exceptions masked.
    unsafe { asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, readonly)) };
}

/// The host's MXCSR.
#[inline(always)]
fn store() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: stores four bytes where they belong.
    unsafe { asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
    mxcsr
}

/// Gives the host the modes of the guest's MXCSR, with no flags yet.
#[inline(always)]
pub fn enter(mxcsr: u32) {
    load(mxcsr & MODES | ALL_MASKED);
}

/// The exception flags since [`enter`].
#[inline(always)]
pub fn flags() -> u32 {
    store() & flag::ALL
}

/// Gives the host its own MXCSR back; the flags since [`enter`].
#[inline(always)]
pub fn leave() -> u32 {
    let flags = flags();
    load(DEFAULT);
    flags
}

/// Does what needs the host's own MXCSR: arithmetic by Rust's operators.
#[inline]
pub fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    let mxcsr = store();
    load(DEFAULT);
    let result = work();
    load(mxcsr);
    result
}

/// Approximates the reciprocal of a float, by its bits. SDM Vol. 2B, "RCPSS".
#[inline(always)]
pub fn rcpss(a: u32) -> u32 {
    let mut value = f32::from_bits(a);
    // SAFETY: SSE is part of x86-64; the instruction touches nothing but its operand.
    unsafe {
        asm!("rcpss {v}, {v}", v = inout(xmm_reg) value, options(pure, nomem, nostack, preserves_flags))
    };
    value.to_bits()
}

/// Approximates the reciprocal square root of a float, by its bits. SDM Vol. 2B, "RSQRTSS".
#[inline(always)]
pub fn rsqrtss(a: u32) -> u32 {
    let mut value = f32::from_bits(a);
    // SAFETY: as in `rcpss`.
    unsafe {
        asm!("rsqrtss {v}, {v}", v = inout(xmm_reg) value, options(pure, nomem, nostack, preserves_flags))
    };
    value.to_bits()
}

/// A function of two vectors by the packed instruction or, where only the low lane is wanted, by the scalar one.
macro_rules! binary {
    ($($name:ident $packed:literal $scalar:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        #[inline(always)]
        pub fn $name<V: Vector>(a: V, b: V) -> V {
            let (mut a, b): (__m128i, __m128i) = (a.resize::<V128>().into(), b.resize::<V128>().into());
            // SAFETY: SSE2 is part of x86-64; the instructions touch nothing but their operands and MXCSR's flags.
            unsafe {
                if V::BYTES == 16 {
                    asm!(concat!($packed, " {a}, {b}"), a = inout(xmm_reg) a, b = in(xmm_reg) b, options(nomem, nostack));
                } else {
                    asm!(concat!($scalar, " {a}, {b}"), a = inout(xmm_reg) a, b = in(xmm_reg) b, options(nomem, nostack));
                }
            }
            V128::from(a).resize()
        }
    )*};
}

binary! {
    addps "addps" "addss" "SDM Vol. 2A, \"ADDPS\".";
    addpd "addpd" "addsd" "SDM Vol. 2A, \"ADDPD\".";
    subps "subps" "subss" "SDM Vol. 2B, \"SUBPS\".";
    subpd "subpd" "subsd" "SDM Vol. 2B, \"SUBPD\".";
    mulps "mulps" "mulss" "SDM Vol. 2B, \"MULPS\".";
    mulpd "mulpd" "mulsd" "SDM Vol. 2B, \"MULPD\".";
    divps "divps" "divss" "SDM Vol. 2A, \"DIVPS\".";
    divpd "divpd" "divsd" "SDM Vol. 2A, \"DIVPD\".";
    minps "minps" "minss" "SDM Vol. 2B, \"MINPS\".";
    minpd "minpd" "minsd" "SDM Vol. 2B, \"MINPD\".";
    maxps "maxps" "maxss" "SDM Vol. 2B, \"MAXPS\".";
    maxpd "maxpd" "maxsd" "SDM Vol. 2B, \"MAXPD\".";
    cmpeqps "cmpeqps" "cmpeqss" "SDM Vol. 2A, \"CMPPS\", predicate 0.";
    cmpltps "cmpltps" "cmpltss" "SDM Vol. 2A, \"CMPPS\", predicate 1.";
    cmpleps "cmpleps" "cmpless" "SDM Vol. 2A, \"CMPPS\", predicate 2.";
    cmpunordps "cmpunordps" "cmpunordss" "SDM Vol. 2A, \"CMPPS\", predicate 3.";
    cmpneqps "cmpneqps" "cmpneqss" "SDM Vol. 2A, \"CMPPS\", predicate 4.";
    cmpnltps "cmpnltps" "cmpnltss" "SDM Vol. 2A, \"CMPPS\", predicate 5.";
    cmpnleps "cmpnleps" "cmpnless" "SDM Vol. 2A, \"CMPPS\", predicate 6.";
    cmpordps "cmpordps" "cmpordss" "SDM Vol. 2A, \"CMPPS\", predicate 7.";
    cmpeqpd "cmpeqpd" "cmpeqsd" "SDM Vol. 2A, \"CMPPD\", predicate 0.";
    cmpltpd "cmpltpd" "cmpltsd" "SDM Vol. 2A, \"CMPPD\", predicate 1.";
    cmplepd "cmplepd" "cmplesd" "SDM Vol. 2A, \"CMPPD\", predicate 2.";
    cmpunordpd "cmpunordpd" "cmpunordsd" "SDM Vol. 2A, \"CMPPD\", predicate 3.";
    cmpneqpd "cmpneqpd" "cmpneqsd" "SDM Vol. 2A, \"CMPPD\", predicate 4.";
    cmpnltpd "cmpnltpd" "cmpnltsd" "SDM Vol. 2A, \"CMPPD\", predicate 5.";
    cmpnlepd "cmpnlepd" "cmpnlesd" "SDM Vol. 2A, \"CMPPD\", predicate 6.";
    cmpordpd "cmpordpd" "cmpordsd" "SDM Vol. 2A, \"CMPPD\", predicate 7.";
}

/// Compares floats by a predicate. SDM Vol. 2A, "CMPPS".
#[inline(always)]
pub fn cmpps<V: Vector>(a: V, b: V, predicate: u8) -> V {
    match predicate & 7 {
        0 => cmpeqps(a, b),
        1 => cmpltps(a, b),
        2 => cmpleps(a, b),
        3 => cmpunordps(a, b),
        4 => cmpneqps(a, b),
        5 => cmpnltps(a, b),
        6 => cmpnleps(a, b),
        _ => cmpordps(a, b),
    }
}

/// Compares doubles by a predicate. SDM Vol. 2A, "CMPPD".
#[inline(always)]
pub fn cmppd<V: Vector>(a: V, b: V, predicate: u8) -> V {
    match predicate & 7 {
        0 => cmpeqpd(a, b),
        1 => cmpltpd(a, b),
        2 => cmplepd(a, b),
        3 => cmpunordpd(a, b),
        4 => cmpneqpd(a, b),
        5 => cmpnltpd(a, b),
        6 => cmpnlepd(a, b),
        _ => cmpordpd(a, b),
    }
}

/// A function of one vector, likewise.
macro_rules! unary {
    ($($name:ident $packed:literal $scalar:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        #[inline(always)]
        pub fn $name<S: Vector, D: Vector>(a: S) -> D {
            let mut a: __m128i = a.resize::<V128>().into();
            // SAFETY: as for the functions of two.
            unsafe {
                if D::BYTES == 16 {
                    asm!(concat!($packed, " {a}, {a}"), a = inout(xmm_reg) a, options(nomem, nostack));
                } else {
                    asm!(concat!($scalar, " {a}, {a}"), a = inout(xmm_reg) a, options(nomem, nostack));
                }
            }
            V128::from(a).resize()
        }
    )*};
}

unary! {
    sqrtps "sqrtps" "sqrtss" "SDM Vol. 2B, \"SQRTPS\".";
    sqrtpd "sqrtpd" "sqrtsd" "SDM Vol. 2B, \"SQRTPD\".";
    cvtps2pd "cvtps2pd" "cvtss2sd" "SDM Vol. 2A, \"CVTPS2PD\".";
    cvtpd2ps "cvtpd2ps" "cvtsd2ss" "SDM Vol. 2A, \"CVTPD2PS\".";
    cvtdq2ps "cvtdq2ps" "cvtdq2ps" "SDM Vol. 2A, \"CVTDQ2PS\"; lanes beyond those wanted are 0.";
    cvtps2dq "cvtps2dq" "cvtps2dq" "SDM Vol. 2A, \"CVTPS2DQ\"; lanes beyond those wanted are 0.";
    cvttps2dq "cvttps2dq" "cvttps2dq" "SDM Vol. 2A, \"CVTTPS2DQ\"; lanes beyond those wanted are 0.";
    cvtpd2dq "cvtpd2dq" "cvtpd2dq" "SDM Vol. 2A, \"CVTPD2DQ\"; lanes beyond those wanted are 0.";
    cvttpd2dq "cvttpd2dq" "cvttpd2dq" "SDM Vol. 2A, \"CVTTPD2DQ\"; lanes beyond those wanted are 0.";
}

/// Comparison by flags.
macro_rules! compare {
    ($($name:ident $instruction:literal $doc:literal;)*) => {$(
        #[doc = $doc]
        #[inline(always)]
        pub fn $name<V: Vector>(a: V, b: V) -> Option<Ordering> {
            let (a, b): (__m128i, __m128i) = (a.resize::<V128>().into(), b.resize::<V128>().into());
            let (unordered, below, equal): (u8, u8, u8);
            // SAFETY: as for the functions above.
            unsafe {
                asm!(concat!($instruction, " {a}, {b}"), "setp {p}", "setb {c}", "sete {z}", a = in(xmm_reg) a,
                    b = in(xmm_reg) b, p = lateout(reg_byte) unordered, c = lateout(reg_byte) below,
                    z = lateout(reg_byte) equal, options(nomem, nostack));
            }
            match (unordered, below, equal) {
                (0, 0, 0) => Some(Ordering::Greater),
                (0, 0, _) => Some(Ordering::Equal),
                (0, ..) => Some(Ordering::Less),
                _ => None,
            }
        }
    )*};
}

compare! {
    comiss "comiss" "SDM Vol. 2A, \"COMISS\".";
    comisd "comisd" "SDM Vol. 2A, \"COMISD\".";
    ucomiss "ucomiss" "SDM Vol. 2B, \"UCOMISS\".";
    ucomisd "ucomisd" "SDM Vol. 2B, \"UCOMISD\".";
}
