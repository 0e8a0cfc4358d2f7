//! x87 comparisons. Rows: `opcodes/x87_compare.toml`; what they compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, begin, begin_with};
use crate::cpu::{Exec, Fault, eflags};
use crate::fpu::Operand::St;
use crate::fpu::soft::compare::Comparison;
use std::cmp::Ordering;

/// Compares ST(0) with ST(`i`). SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fcom(St(i), 0);
    Ok(())
}

/// Compares ST(0) with an m32fp or m64fp. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fcom(value.operand(), 0);
    Ok(())
}

/// Compares ST(0) with an integer. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficom<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fcom(value.operand(), 0);
    Ok(())
}

/// Compares ST(0) with ST(`i`), and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fcom(St(i), 1);
    Ok(())
}

/// Compares ST(0) with an m32fp or m64fp, and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fcom(value.operand(), 1);
    Ok(())
}

/// Compares ST(0) with an integer, and pops. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficomp<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fcom(value.operand(), 1);
    Ok(())
}

/// Compares ST(0) with ST(1) and pops both. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcompp(x: Exec) -> Result<(), Fault> {
    begin(x)?.fcom(St(1), 2);
    Ok(())
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucom(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fucom(St(i), 0);
    Ok(())
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed, and pops. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucomp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fucom(St(i), 1);
    Ok(())
}

/// Compares ST(0) with ST(1), quiet NaNs allowed, and pops both. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucompp(x: Exec) -> Result<(), Fault> {
    begin(x)?.fucom(St(1), 2);
    Ok(())
}

/// Enters an outcome into Z, P and C.
#[inline(always)]
fn into_flags(x: Exec, outcome: Comparison) {
    let image = match outcome {
        None => eflags::ZF | eflags::PF | eflags::CF,
        Some(Ordering::Less) => eflags::CF,
        Some(Ordering::Equal) => eflags::ZF,
        Some(Ordering::Greater) => 0,
    };
    let mut flags = x.flags();
    flags.set_eflags(image);
    x.set_flags(flags);
}

/// Compares ST(0) with ST(`i`) into the status flags.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fcomi(x: Exec, i: u8) -> Result<(), Fault> {
    let outcome = begin(x)?.fcomi(i, 0);
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fcomip(x: Exec, i: u8) -> Result<(), Fault> {
    let outcome = begin(x)?.fcomi(i, 1);
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomi(x: Exec, i: u8) -> Result<(), Fault> {
    let outcome = begin(x)?.fucomi(i, 0);
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomip(x: Exec, i: u8) -> Result<(), Fault> {
    let outcome = begin(x)?.fucomi(i, 1);
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with +0. SDM Vol. 2A, "FTST".
#[inline(always)]
pub fn ftst(x: Exec) -> Result<(), Fault> {
    begin(x)?.ftst();
    Ok(())
}

/// Classifies ST(0) in C0 to C3. SDM Vol. 2A, "FXAM".
#[inline(always)]
pub fn fxam(x: Exec) -> Result<(), Fault> {
    begin(x)?.fxam();
    Ok(())
}
