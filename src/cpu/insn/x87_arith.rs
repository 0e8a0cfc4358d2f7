//! x87 arithmetic and transcendental functions. Rows: `opcodes/x87_arith.toml`; what they compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, begin, begin_with, on_registers, with_memory};
use crate::cpu::{Exec, Fault};
use crate::fpu::Fpu;
use crate::fpu::Operand::St;

/// Adds ST(`i`) to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fadd(0, St(i), 0);
    Ok(())
}

/// Adds ST(0) to ST(`i`). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd_to(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fadd(i, St(0), 0);
    Ok(())
}

/// Adds ST(0) to ST(`i`) and pops. SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn faddp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fadd(i, St(0), 1);
    Ok(())
}

/// Adds an m32fp or m64fp to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fadd(0, value.operand(), 0);
    Ok(())
}

/// Adds an integer to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fiadd<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fadd(0, value.operand(), 0);
    Ok(())
}

/// Multiplies ST(0) by ST(`i`). SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fmul(0, St(i), 0);
    Ok(())
}

/// Multiplies ST(`i`) by ST(0). SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul_to(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fmul(i, St(0), 0);
    Ok(())
}

/// Multiplies ST(`i`) by ST(0) and pops. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmulp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fmul(i, St(0), 1);
    Ok(())
}

/// Multiplies ST(0) by an m32fp or m64fp. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fmul(0, value.operand(), 0);
    Ok(())
}

/// Multiplies ST(0) by an integer. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fimul<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fmul(0, value.operand(), 0);
    Ok(())
}

/// Subtracts ST(`i`) from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsub(0, St(i), 0);
    Ok(())
}

/// Subtracts ST(0) from ST(`i`). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub_to(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsub(i, St(0), 0);
    Ok(())
}

/// Subtracts ST(0) from ST(`i`) and pops. SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsubp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsub(i, St(0), 1);
    Ok(())
}

/// Subtracts an m32fp or m64fp from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fsub(0, value.operand(), 0);
    Ok(())
}

/// Subtracts an integer from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fisub<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fsub(0, value.operand(), 0);
    Ok(())
}

/// Replaces ST(0) by ST(`i`) less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsubr(0, St(i), 0);
    Ok(())
}

/// Replaces ST(`i`) by ST(0) less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr_to(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsubr(i, St(0), 0);
    Ok(())
}

/// Replaces ST(`i`) by ST(0) less it and pops. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubrp(x: Exec, i: u8) -> Result<(), Fault> {
    begin(x)?.fsubr(i, St(0), 1);
    Ok(())
}

/// Replaces ST(0) by an m32fp or m64fp less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fsubr(0, value.operand(), 0);
    Ok(())
}

/// Replaces ST(0) by an integer less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fisubr<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    let (fpu, value) = begin_with::<T>(x, addr)?;
    fpu.fsubr(0, value.operand(), 0);
    Ok(())
}

/// Divides ST(0) by ST(`i`). SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdiv(0, St(i), 0))
}

/// Divides ST(`i`) by ST(0). SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv_to(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdiv(i, St(0), 0))
}

/// Divides ST(`i`) by ST(0) and pops. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdivp(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdiv(i, St(0), 1))
}

/// Divides ST(0) by an m32fp or m64fp. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fdiv(0, value.operand(), 0))
}

/// Divides ST(0) by an integer. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fidiv<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fdiv(0, value.operand(), 0))
}

/// Replaces ST(0) by ST(`i`) divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdivr(0, St(i), 0))
}

/// Replaces ST(`i`) by ST(0) divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr_to(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdivr(i, St(0), 0))
}

/// Replaces ST(`i`) by ST(0) divided by it and pops. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivrp(x: Exec, i: u8) -> Result<(), Fault> {
    on_registers(x, move |fpu| fpu.fdivr(i, St(0), 1))
}

/// Replaces ST(0) by an m32fp or m64fp divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr_real<T: Real>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fdivr(0, value.operand(), 0))
}

/// Replaces ST(0) by an integer divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fidivr<T: Integer>(x: Exec, addr: u32) -> Result<(), Fault> {
    with_memory(x, addr, |fpu, value: T| fpu.fdivr(0, value.operand(), 0))
}

/// Inverts the sign of ST(0). SDM Vol. 2A, "FCHS".
#[inline(always)]
pub fn fchs(x: Exec) -> Result<(), Fault> {
    begin(x)?.fchs();
    Ok(())
}

/// Clears the sign of ST(0). SDM Vol. 2A, "FABS".
#[inline(always)]
pub fn fabs(x: Exec) -> Result<(), Fault> {
    begin(x)?.fabs();
    Ok(())
}

/// Replaces ST(0) by its exponent and pushes its significand. SDM Vol. 2A, "FXTRACT".
#[inline(always)]
pub fn fxtract(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fxtract)
}

/// Replaces ST(0) by its remainder by ST(1), the quotient truncated. SDM Vol. 2A, "FPREM".
#[inline(always)]
pub fn fprem(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fprem)
}

/// Replaces ST(0) by its remainder by ST(1), the quotient rounded to nearest. SDM Vol. 2A, "FPREM1".
#[inline(always)]
pub fn fprem1(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fprem1)
}

/// Takes the square root of ST(0). SDM Vol. 2A, "FSQRT".
#[inline(always)]
pub fn fsqrt(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fsqrt)
}

/// Rounds ST(0) to an integer. SDM Vol. 2A, "FRNDINT".
#[inline(always)]
pub fn frndint(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::frndint)
}

/// Scales ST(0) by 2 to the power of ST(1) truncated. SDM Vol. 2A, "FSCALE".
#[inline(always)]
pub fn fscale(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fscale)
}

/// Replaces ST(0) by 2 to its power less 1. SDM Vol. 2A, "F2XM1".
#[inline(always)]
pub fn f2xm1(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::f2xm1)
}

/// Replaces ST(1) by ST(1)·log2 ST(0) and pops. SDM Vol. 2A, "FYL2X".
#[inline(always)]
pub fn fyl2x(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fyl2x)
}

/// Replaces ST(1) by ST(1)·log2 (ST(0) + 1) and pops. SDM Vol. 2A, "FYL2XP1".
#[inline(always)]
pub fn fyl2xp1(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fyl2xp1)
}

/// Replaces ST(0) by its tangent and pushes 1. SDM Vol. 2A, "FPTAN".
#[inline(always)]
pub fn fptan(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fptan)
}

/// Replaces ST(1) by the angle of the point (ST(0), ST(1)) and pops. SDM Vol. 2A, "FPATAN".
#[inline(always)]
pub fn fpatan(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fpatan)
}

/// Takes the sine of ST(0). SDM Vol. 2A, "FSIN".
#[inline(always)]
pub fn fsin(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fsin)
}

/// Takes the cosine of ST(0). SDM Vol. 2A, "FCOS".
#[inline(always)]
pub fn fcos(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fcos)
}

/// Replaces ST(0) by its sine and pushes its cosine. SDM Vol. 2A, "FSINCOS".
#[inline(always)]
pub fn fsincos(x: Exec) -> Result<(), Fault> {
    on_registers(x, Fpu::fsincos)
}
