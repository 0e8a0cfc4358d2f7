//! x87 loads, stores, exchanges, conditional moves and constants. Rows: `opcodes/x87_transfer.toml`; what they
//! compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, begin, begin_with, store, store_80, store_real, with_memory_80};
use crate::cpu::{Exec, Fault};
use crate::fpu::soft::F80;
use crate::fpu::soft::constant::Constant;
use crate::fpu::{Fpu, Operand};

/// Pushes ST(`i`). SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fld(Operand::St(i));
    Ok(())
}

/// Pushes an m32fp or m64fp. SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fld(value.operand());
    Ok(())
}

/// Pushes an m80fp. SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld_extended(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory_80(x, addr, |fpu, low, high| fpu.fld(Operand::F80(F80::new(high, low))))
}

/// Pushes an integer. SDM Vol. 2A, "FILD".
#[inline(always)]
pub fn fild<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fld(value.operand());
    Ok(())
}

/// Pushes an integer of 18 packed decimal digits. SDM Vol. 2A, "FBLD".
#[inline(always)]
pub fn fbld(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory_80(x, addr, |fpu, low, high| fpu.fbld(F80::new(high, low).to_bytes()))
}

/// Copies ST(0) to ST(`i`). SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fst(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fst_st(i, 0);
    Ok(())
}

/// Copies ST(0) to ST(`i`) and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fst_st(i, 1);
    Ok(())
}

/// Copies ST(0) to ST(`i`) unless it is empty, and pops: an undocumented instruction.
#[inline(always)]
pub fn fstpnce(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fstpnce(i);
    Ok(())
}

/// Stores ST(0) as an m32fp or m64fp. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fst_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    store_real::<T>(x, addr, 0)
}

/// Stores ST(0) as an m32fp or m64fp and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    store_real::<T>(x, addr, 1)
}

/// Stores ST(0) as it is and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp_extended(x: Exec, addr: u32) -> Result<(), Fault> {
    store_80(x, addr, 1, Fpu::fst_f80, F80::to_bytes)
}

/// Stores ST(0) as an integer. SDM Vol. 2A, "FIST/FISTP".
#[inline(always)]
pub fn fist<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    store(x, addr, 0, T::rounded, T::bits)
}

/// Stores ST(0) as an integer and pops. SDM Vol. 2A, "FIST/FISTP".
#[inline(always)]
pub fn fistp<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    store(x, addr, 1, T::rounded, T::bits)
}

/// Stores ST(0), truncated, as an integer and pops. SDM Vol. 2A, "FISTTP".
#[inline(always)]
pub fn fisttp<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    store(x, addr, 1, T::truncated, T::bits)
}

/// Stores ST(0) as 18 packed decimal digits and pops. SDM Vol. 2A, "FBSTP".
#[inline(always)]
pub fn fbstp(x: Exec, addr: u32) -> Result<(), Fault> {
    store_80(x, addr, 1, Fpu::fbstp, |bytes| bytes)
}

/// Exchanges ST(0) and ST(`i`). SDM Vol. 2A, "FXCH".
#[inline(always)]
pub fn fxch(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fxch(i);
    Ok(())
}

/// Copies ST(`i`) to ST(0) if condition `CC`, numbered as those of Jcc, holds.
#[inline(always)]
fn fcmov<const CC: u8>(x: Exec, i: u8) -> Result<(), Fault> {
    let holds = x.flags().condition::<CC>();
    begin(x)?.fcmov(i, holds);
    Ok(())
}

/// Copies ST(`i`) to ST(0) when below. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovb(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<2>(x, i)
}

/// Copies ST(`i`) to ST(0) when not below. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnb(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<3>(x, i)
}

/// Copies ST(`i`) to ST(0) when equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmove(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<4>(x, i)
}

/// Copies ST(`i`) to ST(0) when not equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovne(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<5>(x, i)
}

/// Copies ST(`i`) to ST(0) when below or equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovbe(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<6>(x, i)
}

/// Copies ST(`i`) to ST(0) when neither below nor equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnbe(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<7>(x, i)
}

/// Copies ST(`i`) to ST(0) when unordered. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovu(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<10>(x, i)
}

/// Copies ST(`i`) to ST(0) when not unordered. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnu(x: Exec, i: u8) -> Result<(), Fault> {
    fcmov::<11>(x, i)
}

/// Pushes 1. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fld1(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::One);
    Ok(())
}

/// Pushes log2 10. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldl2t(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::Log2Ten);
    Ok(())
}

/// Pushes log2 e. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldl2e(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::Log2E);
    Ok(())
}

/// Pushes π. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldpi(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::Pi);
    Ok(())
}

/// Pushes log10 2. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldlg2(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::Log10Two);
    Ok(())
}

/// Pushes ln 2. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldln2(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::LnTwo);
    Ok(())
}

/// Pushes +0. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldz(x: Exec) -> Result<(), Fault> {
    begin(x)?.fld_constant(Constant::Zero);
    Ok(())
}
