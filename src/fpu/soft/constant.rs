//! FLD1, FLDZ, FLDPI, FLDL2E, FLDL2T, FLDLG2 and FLDLN2.

use super::env::{Env, Rounding};
use super::f80::F80;

/// A constant the processor knows to more than 64 bits, rounded by the rounding control; never reported inexact.
/// SDM Vol. 1, 8.3.4, and Vol. 2A, "FLD1/FLDL2T/…".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// 1.
    One,
    /// log2 10.
    Log2Ten,
    /// log2 e.
    Log2E,
    /// π.
    Pi,
    /// log10 2.
    Log10Two,
    /// ln 2.
    LnTwo,
    /// +0.
    Zero,
}

impl Constant {
    /// Gives the value under the rounding control of `env`.
    #[inline]
    #[must_use]
    pub fn load(self, env: &Env) -> F80 {
        // The significands are truncated; the flag says whether what was cut off reaches one half.
        let (se, sig, nearest_up) = match self {
            Self::One => return F80::ONE,
            Self::Zero => return F80::ZERO,
            Self::Log2Ten => (0x4000, 0xd49a_784b_cd1b_8afe, false),
            Self::Log2E => (0x3fff, 0xb8aa_3b29_5c17_f0bb, true),
            Self::Pi => (0x4000, 0xc90f_daa2_2168_c234, true),
            Self::Log10Two => (0x3ffd, 0x9a20_9a84_fbcf_f798, true),
            Self::LnTwo => (0x3ffe, 0xb172_17f7_d1cf_79ab, true),
        };
        let rounding = env.rounding();
        let up = rounding == Rounding::UP || (rounding == Rounding::NEAREST && nearest_up);
        F80::new(se, sig + u64::from(up))
    }
}
