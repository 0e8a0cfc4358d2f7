//! x87 comparisons. Rows: `opcodes/x87_compare.toml`; what they compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, begin, begin_with};
use crate::cpu::{Exec, eflags};
use crate::fpu::Operand::St;
use crate::fpu::soft::compare::Comparison;
use crate::fpu::way::Way;
use std::cmp::Ordering;

/// Compares ST(0) with ST(`i`). SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fcom::<W>(St(i), 0)
}

/// Compares ST(0) with an m32fp or m64fp. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcom_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fcom::<W>(value.operand(), 0)
}

/// Compares ST(0) with an integer. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficom<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fcom::<W>(value.operand(), 0)
}

/// Compares ST(0) with ST(`i`), and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fcom::<W>(St(i), 1)
}

/// Compares ST(0) with an m32fp or m64fp, and pops. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcomp_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fcom::<W>(value.operand(), 1)
}

/// Compares ST(0) with an integer, and pops. SDM Vol. 2A, "FICOM/FICOMP".
#[inline(always)]
pub fn ficomp<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fcom::<W>(value.operand(), 1)
}

/// Compares ST(0) with ST(1) and pops both. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline(always)]
pub fn fcompp<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fcom::<W>(St(1), 2)
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucom<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fucom::<W>(St(i), 0)
}

/// Compares ST(0) with ST(`i`), quiet NaNs allowed, and pops. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucomp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fucom::<W>(St(i), 1)
}

/// Compares ST(0) with ST(1), quiet NaNs allowed, and pops both. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline(always)]
pub fn fucompp<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fucom::<W>(St(1), 2)
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
pub fn fcomi<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    let outcome = begin::<W>(x)?.fcomi::<W>(i, 0)?;
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fcomip<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    let outcome = begin::<W>(x)?.fcomi::<W>(i, 1)?;
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomi<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    let outcome = begin::<W>(x)?.fucomi::<W>(i, 0)?;
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with ST(`i`) into the status flags, quiet NaNs allowed, and pops.
/// SDM Vol. 2A, "FCOMI/FCOMIP/FUCOMI/FUCOMIP".
#[inline(always)]
pub fn fucomip<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    let outcome = begin::<W>(x)?.fucomi::<W>(i, 1)?;
    into_flags(x, outcome);
    Ok(())
}

/// Compares ST(0) with +0. SDM Vol. 2A, "FTST".
#[inline(always)]
pub fn ftst<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.ftst::<W>()
}

/// Classifies ST(0) in C0 to C3. SDM Vol. 2A, "FXAM".
#[inline(always)]
pub fn fxam<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fxam();
    Ok(())
}
