//! x87 arithmetic and transcendental functions. Rows: `opcodes/x87_arith.toml`; what they compute: [`crate::fpu`].

use crate::cpu::x87::{Integer, Real, begin, begin_with, on_registers, on_registers_apart, with_memory};
use crate::cpu::{Exec, Fault};
use crate::fpu::Fpu;
use crate::fpu::Operand::St;
use crate::fpu::way::Way;

/// Adds ST(`i`) to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fadd::<W>(0, St(i), 0)
}

/// Adds ST(0) to ST(`i`). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fadd::<W>(i, St(0), 0)
}

/// Adds ST(0) to ST(`i`) and pops. SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn faddp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fadd::<W>(i, St(0), 1)
}

/// Adds an m32fp or m64fp to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fadd_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fadd::<W>(0, value.operand(), 0)
}

/// Adds an integer to ST(0). SDM Vol. 2A, "FADD/FADDP/FIADD".
#[inline(always)]
pub fn fiadd<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fadd::<W>(0, value.operand(), 0)
}

/// Multiplies ST(0) by ST(`i`). SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fmul::<W>(0, St(i), 0)
}

/// Multiplies ST(`i`) by ST(0). SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fmul::<W>(i, St(0), 0)
}

/// Multiplies ST(`i`) by ST(0) and pops. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmulp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fmul::<W>(i, St(0), 1)
}

/// Multiplies ST(0) by an m32fp or m64fp. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fmul_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fmul::<W>(0, value.operand(), 0)
}

/// Multiplies ST(0) by an integer. SDM Vol. 2A, "FMUL/FMULP/FIMUL".
#[inline(always)]
pub fn fimul<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fmul::<W>(0, value.operand(), 0)
}

/// Subtracts ST(`i`) from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsub::<W>(0, St(i), 0)
}

/// Subtracts ST(0) from ST(`i`). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsub::<W>(i, St(0), 0)
}

/// Subtracts ST(0) from ST(`i`) and pops. SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsubp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsub::<W>(i, St(0), 1)
}

/// Subtracts an m32fp or m64fp from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fsub_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fsub::<W>(0, value.operand(), 0)
}

/// Subtracts an integer from ST(0). SDM Vol. 2A, "FSUB/FSUBP/FISUB".
#[inline(always)]
pub fn fisub<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fsub::<W>(0, value.operand(), 0)
}

/// Replaces ST(0) by ST(`i`) less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsubr::<W>(0, St(i), 0)
}

/// Replaces ST(`i`) by ST(0) less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsubr::<W>(i, St(0), 0)
}

/// Replaces ST(`i`) by ST(0) less it and pops. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubrp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    begin::<W>(x)?.fsubr::<W>(i, St(0), 1)
}

/// Replaces ST(0) by an m32fp or m64fp less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fsubr_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fsubr::<W>(0, value.operand(), 0)
}

/// Replaces ST(0) by an integer less it. SDM Vol. 2A, "FSUBR/FSUBRP/FISUBR".
#[inline(always)]
pub fn fisubr<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    let (fpu, value) = begin_with::<W, T>(x, addr)?;
    fpu.fsubr::<W>(0, value.operand(), 0)
}

/// Divides ST(0) by ST(`i`). SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdiv(0, St(i), 0))
}

/// Divides ST(`i`) by ST(0). SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdiv(i, St(0), 0))
}

/// Divides ST(`i`) by ST(0) and pops. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdivp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdiv(i, St(0), 1))
}

/// Divides ST(0) by an m32fp or m64fp. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fdiv_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    with_memory::<W, _>(x, addr, |fpu, value: T| fpu.fdiv(0, value.operand(), 0))
}

/// Divides ST(0) by an integer. SDM Vol. 2A, "FDIV/FDIVP/FIDIV".
#[inline(always)]
pub fn fidiv<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    with_memory::<W, _>(x, addr, |fpu, value: T| fpu.fdiv(0, value.operand(), 0))
}

/// Replaces ST(0) by ST(`i`) divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdivr(0, St(i), 0))
}

/// Replaces ST(`i`) by ST(0) divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr_to<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdivr(i, St(0), 0))
}

/// Replaces ST(`i`) by ST(0) divided by it and pops. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivrp<W: Way>(x: Exec, i: u8) -> Result<(), W::Else> {
    on_registers::<W>(x, move |fpu| fpu.fdivr(i, St(0), 1))
}

/// Replaces ST(0) by an m32fp or m64fp divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fdivr_real<W: Way, T: Real>(x: Exec, addr: u32) -> Result<(), W::Else> {
    with_memory::<W, _>(x, addr, |fpu, value: T| fpu.fdivr(0, value.operand(), 0))
}

/// Replaces ST(0) by an integer divided by it. SDM Vol. 2A, "FDIVR/FDIVRP/FIDIVR".
#[inline(always)]
pub fn fidivr<W: Way, T: Integer>(x: Exec, addr: u32) -> Result<(), W::Else> {
    with_memory::<W, _>(x, addr, |fpu, value: T| fpu.fdivr(0, value.operand(), 0))
}

/// Inverts the sign of ST(0). SDM Vol. 2A, "FCHS".
#[inline(always)]
pub fn fchs<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fchs::<W>()
}

/// Clears the sign of ST(0). SDM Vol. 2A, "FABS".
#[inline(always)]
pub fn fabs<W: Way>(x: Exec) -> Result<(), W::Else> {
    begin::<W>(x)?.fabs::<W>()
}

/// Replaces ST(0) by its exponent and pushes its significand. SDM Vol. 2A, "FXTRACT".
#[inline(always)]
pub fn fxtract<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::fxtract)
}

/// Replaces ST(0) by its remainder by ST(1), the quotient truncated. SDM Vol. 2A, "FPREM".
#[inline(always)]
pub fn fprem<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::fprem)
}

/// Replaces ST(0) by its remainder by ST(1), the quotient rounded to nearest. SDM Vol. 2A, "FPREM1".
#[inline(always)]
pub fn fprem1<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::fprem1)
}

/// Takes the square root of ST(0). SDM Vol. 2A, "FSQRT".
#[inline(always)]
pub fn fsqrt<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::fsqrt)
}

/// Rounds ST(0) to an integer. SDM Vol. 2A, "FRNDINT".
#[inline(always)]
pub fn frndint<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::frndint)
}

/// Scales ST(0) by 2 to the power of ST(1) truncated. SDM Vol. 2A, "FSCALE".
#[inline(always)]
pub fn fscale<W: Way>(x: Exec) -> Result<(), W::Else> {
    on_registers::<W>(x, Fpu::fscale)
}

/// Replaces ST(0) by 2 to its power less 1. SDM Vol. 2A, "F2XM1".
#[inline(always)]
pub fn f2xm1(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::f2xm1)
}

/// Replaces ST(1) by ST(1)·log2 ST(0) and pops. SDM Vol. 2A, "FYL2X".
#[inline(always)]
pub fn fyl2x(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fyl2x)
}

/// Replaces ST(1) by ST(1)·log2 (ST(0) + 1) and pops. SDM Vol. 2A, "FYL2XP1".
#[inline(always)]
pub fn fyl2xp1(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fyl2xp1)
}

/// Replaces ST(0) by its tangent and pushes 1. SDM Vol. 2A, "FPTAN".
#[inline(always)]
pub fn fptan(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fptan)
}

/// Replaces ST(1) by the angle of the point (ST(0), ST(1)) and pops. SDM Vol. 2A, "FPATAN".
#[inline(always)]
pub fn fpatan(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fpatan)
}

/// Takes the sine of ST(0). SDM Vol. 2A, "FSIN".
#[inline(always)]
pub fn fsin(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fsin)
}

/// Takes the cosine of ST(0). SDM Vol. 2A, "FCOS".
#[inline(always)]
pub fn fcos(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fcos)
}

/// Replaces ST(0) by its sine and pushes its cosine. SDM Vol. 2A, "FSINCOS".
#[inline(always)]
pub fn fsincos(x: Exec) -> Result<(), Fault> {
    on_registers_apart(x, Fpu::fsincos)
}
