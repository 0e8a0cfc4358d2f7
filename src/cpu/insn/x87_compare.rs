//! x87 comparisons. Rows: `opcodes/x87_compare.toml`; what they compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, on_registers, with_memory};
use crate::cpu::{Exec, Fault, eflags};
use crate::fpu::Fpu;
use crate::fpu::Operand::St;
use crate::fpu::soft::compare::Comparison;
use std::cmp::Ordering;

/// Compares ST(0) with ST(`i`). SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fcom(St(i), 0))
}

/// Compares ST(0) with an m32fp or m64fp. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fcom(value.operand(), 0))
}

/// Compares ST(0) with an integer. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficom<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fcom(value.operand(), 0))
}

/// Compares ST(0) with ST(`i`), and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fcom(St(i), 1))
}

/// Compares ST(0) with an m32fp or m64fp, and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fcom(value.operand(), 1))
}

/// Compares ST(0) with an integer, and pops. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficomp<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fcom(value.operand(), 1))
}

/// Compares ST(0) with ST(1) and pops both. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcompp(x: Exec) -> Result<(), Fault> {
    on_registers(x, |fpu| fpu.fcom(St(1), 2))
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucom(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fucom(St(i), 0))
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed, and pops. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucomp(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fucom(St(i), 1))
}

/// Compares ST(0) with ST(1), quiet NaNs allowed, and pops both. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucompp(x: Exec) -> Result<(), Fault> {
    on_registers(x, |fpu| fpu.fucom(St(1), 2))
}

/// A comparison whose outcome goes into Z, P and C.
#[inline(always)]
fn into_flags(x: Exec, compare: impl FnOnce(&mut Fpu) -> Comparison) -> Result<(), Fault> {
    let image = match on_registers(x, compare)? {
        None => eflags::ZF | eflags::PF | eflags::CF,
        Some(Ordering::Less) => eflags::CF,
        Some(Ordering::Equal) => eflags::ZF,
        Some(Ordering::Greater) => 0,
    };
    let mut flags = x.flags();
    flags.set_eflags(image);
    x.set_flags(flags);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fcomi(x: Exec, i: u8) -> Result<(), Fault> {
    into_flags(x, move |fpu| fpu.fcomi(i, 0))
}

/// Compares ST(0) with ST(`i`) into the status flags, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fcomip(x: Exec, i: u8) -> Result<(), Fault> {
    into_flags(x, move |fpu| fpu.fcomi(i, 1))
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomi(x: Exec, i: u8) -> Result<(), Fault> {
    into_flags(x, move |fpu| fpu.fucomi(i, 0))
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomip(x: Exec, i: u8) -> Result<(), Fault> {
    into_flags(x, move |fpu| fpu.fucomi(i, 1))
}

/// Compares ST(0) with +0. SDM Vol. 2A, "FTST".
#[inline(always)]
pub fn ftst(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::ftst)
}

/// Classifies ST(0) in C0 to C3. SDM Vol. 2A, "FXAM".
#[inline(always)]
pub fn fxam(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fxam)
}
