//! x87 loads, stores, exchanges, conditional moves and constants. Rows: `opcodes/x87_transfer.toml`; what they
//! compute: [`crate::fpu`].

use crate::cpu::Exec;
use crate::cpu::x87::{Integer, Real, begin, begin_with, begin_with_80, store, store_80, store_real};
use crate::fpu::soft::F80;
use crate::fpu::soft::constant::Constant;
use crate::fpu::way::{Way, Whole};
use crate::fpu::{Fpu, Operand};

/// Pushes ST(`i`). SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fld::<W>(Operand::St(i))
}

/// Pushes an m32fp or m64fp. SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fld::<W>(value.operand())
}

/// Pushes an m80fp. SDM Vol. 2A, "FLD".
#[inline(always)]
pub fn fld_extended<W: Way>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with_80::<W>(x, addr)?;
    fpu.fld::<W>(Operand::F80(value))
}

/// Pushes an integer. SDM Vol. 2A, "FILD".
#[inline(always)]
pub fn fild<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fld::<W>(value.operand())
}

/// Pushes an integer of 18 packed decimal digits. SDM Vol. 2A, "FBLD".
#[inline(always)]
pub fn fbld<W: Way>(x: Exec, addr: u32) -> Result<(), W::Else> {
    W::general(|| {
        let (fpu, value) = begin_with_80::<Whole>(x, addr)?;
        fpu.fbld(value.to_bytes());
        Ok(())
    })
}

/// Copies ST(0) to ST(`i`). SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fst<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fst_st::<W>(i, 0)
}

/// Copies ST(0) to ST(`i`) and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fst_st::<W>(i, 1)
}

/// Copies ST(0) to ST(`i`) unless it is empty, and pops: an undocumented instruction.
#[inline(always)]
pub fn fstpnce<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fstpnce(i);
    Ok(())
}

/// Stores ST(0) as an m32fp or m64fp. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fst_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store_real::<W, T>(x, addr, 0)
}

/// Stores ST(0) as an m32fp or m64fp and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store_real::<W, T>(x, addr, 1)
}

/// Stores ST(0) as it is and pops. SDM Vol. 2A, "FST/FSTP".
#[inline(always)]
pub fn fstp_extended<W: Way>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store_80::<W, _>(x, addr, 1, Fpu::fst_f80, F80::to_bytes)
}

/// Stores ST(0) as an integer. SDM Vol. 2A, "FIST/FISTP".
#[inline(always)]
pub fn fist<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store::<W, _, _>(x, addr, 0, T::rounded, T::bits)
}

/// Stores ST(0) as an integer and pops. SDM Vol. 2A, "FIST/FISTP".
#[inline(always)]
pub fn fistp<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store::<W, _, _>(x, addr, 1, T::rounded, T::bits)
}

/// Stores ST(0), truncated, as an integer and pops. SDM Vol. 2A, "FISTTP".
#[inline(always)]
pub fn fisttp<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store::<W, _, _>(x, addr, 1, T::truncated, T::bits)
}

/// Stores ST(0) as 18 packed decimal digits and pops. SDM Vol. 2A, "FBSTP".
#[inline(always)]
pub fn fbstp<W: Way>(x: Exec, addr: u32) -> Result<(), W::Else> {
    store_80::<W, _>(x, addr, 1, Fpu::fbstp, |bytes| bytes)
}

/// Exchanges ST(0) and ST(`i`). SDM Vol. 2A, "FXCH".
#[inline(always)]
pub fn fxch<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fxch::<W>(i)
}

/// Copies ST(`i`) to ST(0) if condition `CC`, numbered as those of Jcc, holds.
#[inline(always)]
fn fcmov<W: Way, const CC: u8>(x: Exec, i: u8) -> Result<(), W::Else> {
    let holds = x.flags().condition::<CC>();
    begin::<W>(x)?.fcmov::<W>(i, holds)
}

/// Copies ST(`i`) to ST(0) when below. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovb<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 2>(x, i)
}

/// Copies ST(`i`) to ST(0) when not below. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnb<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 3>(x, i)
}

/// Copies ST(`i`) to ST(0) when equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmove<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 4>(x, i)
}

/// Copies ST(`i`) to ST(0) when not equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovne<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 5>(x, i)
}

/// Copies ST(`i`) to ST(0) when below or equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovbe<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 6>(x, i)
}

/// Copies ST(`i`) to ST(0) when neither below nor equal. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnbe<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 7>(x, i)
}

/// Copies ST(`i`) to ST(0) when unordered. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovu<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 10>(x, i)
}

/// Copies ST(`i`) to ST(0) when not unordered. SDM Vol. 2A, "FCMOVcc".
#[inline(always)]
pub fn fcmovnu<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    fcmov::<W, 11>(x, i)
}

/// Pushes 1. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fld1<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::One)
}

/// Pushes log2 10. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldl2t<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::Log2Ten)
}

/// Pushes log2 e. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldl2e<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::Log2E)
}

/// Pushes π. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldpi<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::Pi)
}

/// Pushes log10 2. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldlg2<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::Log10Two)
}

/// Pushes ln 2. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldln2<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::LnTwo)
}

/// Pushes +0. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
#[inline(always)]
pub fn fldz<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fld_constant::<W>(Constant::Zero)
}
