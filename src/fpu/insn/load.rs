//! FLD, FILD, FBLD and the constants.

use super::soft::constant::Constant;
use super::soft::{Env, F80, bcd, convert, flag, quick};
use super::{Fpu, Register, Tag, Word};
use crate::fpu::way::Way;
use std::hint::cold_path;

/// The source operand of an instruction, with its value where it comes from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// ST(i).
    St(u8),
    /// The bits of an `m32fp`.
    F32(u32),
    /// The bits of an `m64fp`.
    F64(u64),
    /// An `m80fp`.
    F80(F80),
    /// An `m16int`.
    I16(i16),
    /// An `m32int`.
    I32(i32),
    /// An `m64int`.
    I64(i64),
}

impl Operand {
    /// Gives the operand's exact value, or `None` for an empty register.
    // Always inlined, the variant is known and the choice vanishes.
    #[inline(always)]
    pub(super) fn read(self, fpu: &Fpu, env: &mut Env) -> Option<F80> {
        Some(match self {
            Self::St(i) if fpu.is_empty(i) => return None,
            Self::St(i) => fpu.st(i),
            Self::F32(bits) => convert::widen_f32(bits, env),
            Self::F64(bits) => convert::widen_f64(bits, env),
            Self::F80(value) => value,
            Self::I16(value) => convert::from_i64(value.into()),
            Self::I32(value) => convert::from_i64(value.into()),
            Self::I64(value) => convert::from_i64(value),
        })
    }

    /// Gives the operand's exact value if that is normal, and so is the register that `word` is of.
    #[inline(always)]
    pub(super) fn read_normal(self, fpu: &Fpu, word: Word) -> Option<F80> {
        if let Self::St(i) = self {
            let n = fpu.number(i);
            return word.are_normal(fpu.word(n)).then(|| fpu.value(n));
        }
        if !word.is_normal() {
            return None;
        }
        let value = match self {
            Self::St(_) => return None,
            Self::F32(_) | Self::F64(_) => {
                let (is_normal, value) = self.widen();
                return is_normal.then_some(value);
            }
            Self::F80(value) => value,
            Self::I16(value) => convert::from_i64(value.into()),
            Self::I32(value) => convert::from_i64(value.into()),
            Self::I64(value) => convert::from_i64(value),
        };
        value.is_normal().then_some(value)
    }

    /// Gives the exact value of a floating-point number in memory, and first whether [`quick`] knows it.
    #[inline(always)]
    const fn widen(self) -> (bool, F80) {
        match self {
            Self::F32(bits) => quick::widen_f32(bits),
            Self::F64(bits) => quick::widen_f64(bits),
            _ => (false, F80::ZERO),
        }
    }

    /// Gives what FLD pushes if it is a number that [`quick`] knows, a zero, or needs no conversion.
    #[inline(always)]
    pub(super) fn read_quick(self, fpu: &Fpu) -> Option<Register> {
        let (is_normal, value) = self.widen();
        if is_normal {
            return Some(Register::new(value, Tag::NORMAL));
        }
        cold_path();
        let zero =
            |is_zero: bool, sign: u16| is_zero.then(|| Register::new(F80::new(sign & 0x8000, 0), Tag::FULL));
        let known = |value: F80| Some(Register::new(value, Tag::of(value)));
        match self {
            Self::St(i) => Some(fpu.register(fpu.number(i))).filter(|register| !register.word.is_empty()),
            Self::F32(bits) => zero(bits << 1 == 0, (bits >> 16) as u16),
            Self::F64(bits) => zero(bits << 1 == 0, (bits >> 48) as u16),
            Self::F80(value) => known(value),
            Self::I16(value) => known(convert::from_i64(value.into())),
            Self::I32(value) => known(convert::from_i64(value.into())),
            Self::I64(value) => known(convert::from_i64(value)),
        }
    }
}

impl Fpu {
    /// Pushes what `load` gives unless it stops; a full stack is an overflow.
    #[inline(always)]
    fn load(&mut self, load: impl FnOnce(&Self, &mut Env) -> F80) {
        let mut env = self.env();
        let mut value = load(self, &mut env);
        if self.is_full() && env.flags() & flag::SF == 0 {
            env = self.env();
            env.stack_overflow();
            value = F80::INDEFINITE;
        }
        self.settle(&env);
        // A load completes in spite of an unmasked denormal operand.
        if env.unmasked() & flag::IE == 0 {
            self.push(value);
        }
    }

    /// Pushes what a register is to have, and raises nothing.
    #[inline(always)]
    const fn push_exact(&mut self, register: Register) {
        self.settle_quick(0, false);
        self.push_register(register);
    }

    /// Pushes a value converted to binary80. SDM Vol. 2A, "FLD" and "FILD".
    ///
    /// Of an `m80fp` or a register, the bits are taken as they are and nothing is raised.
    #[inline(always)]
    pub fn fld<W: Way>(&mut self, source: Operand) -> Result<(), W::Else> {
        // Neither precision nor rounding matter.
        if !self.is_full() {
            // First and by itself, as it is what programs do.
            let (is_normal, value) = source.widen();
            if is_normal {
                self.push_exact(Register::new(value, Tag::NORMAL));
                return Ok(());
            }
            cold_path();
            if let Some(register) = source.read_quick(self) {
                self.push_exact(register);
                return Ok(());
            }
        }
        W::general(|| {
            self.load(|fpu, env| match source {
                Operand::F32(bits) => convert::from_f32(bits, env),
                Operand::F64(bits) => convert::from_f64(bits, env),
                _ => source.read(fpu, env).unwrap_or_else(|| {
                    env.stack_underflow();
                    F80::INDEFINITE
                }),
            });
            Ok(())
        })
    }

    /// Pushes an integer of 18 packed decimal digits. SDM Vol. 2A, "FBLD".
    pub fn fbld(&mut self, bytes: [u8; 10]) {
        self.load(|_, _| bcd::from_bcd(bytes));
    }

    /// Pushes a constant under the rounding control. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
    #[inline(always)]
    pub fn fld_constant<W: Way>(&mut self, constant: Constant) -> Result<(), W::Else> {
        if !self.is_full() {
            self.settle_quick(0, false);
            self.push(constant.load(&self.env()));
            return Ok(());
        }
        W::general(|| {
            self.load(|_, env| constant.load(env));
            Ok(())
        })
    }
}
