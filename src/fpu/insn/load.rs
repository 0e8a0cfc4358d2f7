//! FLD, FILD, FBLD and the constants.

use super::Fpu;
use super::general;
use super::soft::constant::Constant;
use super::soft::{Env, F80, bcd, convert, flag, quick};

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

    /// Gives the operand's exact value if [`quick`] knows it.
    #[inline(always)]
    pub(super) fn read_quick(self, fpu: &Fpu) -> Option<F80> {
        match self {
            Self::St(i) if fpu.is_empty(i) => None,
            Self::St(i) => Some(fpu.st(i)),
            Self::F32(bits) => quick::widen_f32(bits),
            Self::F64(bits) => quick::widen_f64(bits),
            Self::F80(value) => Some(value),
            Self::I16(value) => Some(convert::from_i64(value.into())),
            Self::I32(value) => Some(convert::from_i64(value.into())),
            Self::I64(value) => Some(convert::from_i64(value)),
        }
    }

    /// Runs the general case of an instruction with this operand: see [`general`]. Its bits are handed over in registers.
    #[inline(always)]
    pub(super) fn general<R>(self, fpu: &mut Fpu, run: impl FnOnce(&mut Fpu, Self) -> R) -> R {
        match self {
            Self::St(i) => general(fpu, i, |fpu, i| run(fpu, Self::St(i))),
            Self::F32(bits) => general(fpu, bits, |fpu, bits| run(fpu, Self::F32(bits))),
            Self::F64(bits) => general(fpu, bits, |fpu, bits| run(fpu, Self::F64(bits))),
            Self::F80(value) => general(fpu, value, |fpu, value| run(fpu, Self::F80(value))),
            Self::I16(value) => general(fpu, value, |fpu, value| run(fpu, Self::I16(value))),
            Self::I32(value) => general(fpu, value, |fpu, value| run(fpu, Self::I32(value))),
            Self::I64(value) => general(fpu, value, |fpu, value| run(fpu, Self::I64(value))),
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

    /// Pushes a value converted to binary80. SDM Vol. 2A, "FLD" and "FILD".
    ///
    /// Of an `m80fp` or a register, the bits are taken as they are and nothing is raised.
    #[inline(always)]
    pub fn fld(&mut self, source: Operand) {
        // Neither precision nor rounding matter.
        if let Some(value) = source.read_quick(self)
            && !self.is_full()
        {
            self.settle_quick(false, false);
            return self.push(value);
        }
        source.general(self, |fpu, source| {
            fpu.load(|fpu, env| match source {
                Operand::F32(bits) => convert::from_f32(bits, env),
                Operand::F64(bits) => convert::from_f64(bits, env),
                _ => source.read(fpu, env).unwrap_or_else(|| {
                    env.stack_underflow();
                    F80::INDEFINITE
                }),
            });
        });
    }

    /// Pushes an integer of 18 packed decimal digits. SDM Vol. 2A, "FBLD".
    pub fn fbld(&mut self, bytes: [u8; 10]) {
        self.load(|_, _| bcd::from_bcd(bytes));
    }

    /// Pushes a constant under the rounding control. SDM Vol. 2A, "FLD1/FLDL2T/FLDL2E/FLDPI/FLDLG2/FLDLN2/FLDZ".
    #[inline(always)]
    pub fn fld_constant(&mut self, constant: Constant) {
        if !self.is_full() {
            self.settle_quick(false, false);
            return self.push(constant.load(&self.env()));
        }
        general(self, constant, |fpu, constant| fpu.load(|_, env| constant.load(env)));
    }
}
