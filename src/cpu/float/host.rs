//! Instructions of an x86 host. Unsafe: inline assembly.
#![cfg(target_arch = "x86_64")]
#![allow(unsafe_code)]

use std::arch::asm;

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
