//! Conversion between formats and from and to integers, rounding to integers.

use super::{Class, F32, F64, Format, Unpacked, cut, infinity, round, unpack, zero};
use crate::cpu::mxcsr::{Mxcsr, Rounding, flag};

/// The doubleword that stands for what does not fit, "integer indefinite".
const INDEFINITE: i32 = i32::MIN;

/// The magnitude rounded to an integer, saturated at 2^63; and whether it was one.
fn integer(x: Unpacked, rounding: Rounding) -> (u64, bool) {
    match x.exp {
        63.. => (1 << 63, true),
        // Below one half.
        ..=-2 => {
            let (kept, _) = cut(u128::from(x.sig) << 62, 1, x.sign, rounding);
            (kept, false)
        }
        exp => cut(u128::from(x.sig) << 63, (exp + 2) as u32, x.sign, rounding),
    }
}

/// Converts to a doubleword. SDM Vol. 2A, "CVTPS2DQ".
pub fn to_i32<F: Format>(bits: u64, rounding: Rounding, m: &mut Mxcsr) -> i32 {
    let x = unpack::<F>(bits, *m);
    match x.class {
        Class::Zero => 0,
        Class::Finite => {
            let (magnitude, exact) = integer(x, rounding);
            let value = i128::from(magnitude) * if x.sign { -1 } else { 1 };
            match i32::try_from(value) {
                Ok(value) => {
                    if !exact {
                        m.raise(flag::PRECISION);
                    }
                    value
                }
                Err(_) => {
                    m.raise(flag::INVALID);
                    INDEFINITE
                }
            }
        }
        _ => {
            m.raise(flag::INVALID);
            INDEFINITE
        }
    }
}

/// Converts a doubleword. SDM Vol. 2A, "CVTDQ2PS".
pub fn from_i32<F: Format>(value: i32, m: &mut Mxcsr) -> u64 {
    if value == 0 {
        return 0;
    }
    let sig = u128::from(value.unsigned_abs());
    let shift = sig.leading_zeros();
    round::<F>(value < 0, 127 - shift as i32, sig << shift, m)
}

/// Converts between formats. SDM Vol. 2A, "CVTSD2SS".
fn convert<F: Format, T: Format>(bits: u64, m: &mut Mxcsr) -> u64 {
    let x = unpack::<F>(bits, *m);
    match x.class {
        Class::Zero => zero::<T>(x.sign),
        Class::Infinity => infinity::<T>(x.sign),
        Class::Finite => {
            if x.denormal {
                m.raise(flag::DENORMAL);
            }
            round::<T>(x.sign, x.exp, u128::from(x.sig) << 64, m)
        }
        Class::Quiet | Class::Signalling => {
            if x.class == Class::Signalling {
                m.raise(flag::INVALID);
            }
            // The fraction keeps its upper bits.
            let fraction = x.sig << (65 - F::PRECISION) >> (65 - T::PRECISION);
            infinity::<T>(x.sign) | T::QUIET | fraction
        }
    }
}

/// Converts a float to a double. SDM Vol. 2A, "CVTSS2SD".
pub fn widen(bits: u32, m: &mut Mxcsr) -> u64 {
    convert::<F32, F64>(u64::from(bits), m)
}

/// Converts a double to a float. SDM Vol. 2A, "CVTSD2SS".
pub fn narrow(bits: u64, m: &mut Mxcsr) -> u32 {
    convert::<F64, F32>(bits, m) as u32
}

/// Rounds to an integer of the same format; not being one is an exception only if `precision` says so. SDM Vol. 2B,
/// "ROUNDPS".
pub fn round_to_integer<F: Format>(bits: u64, rounding: Rounding, precision: bool, m: &mut Mxcsr) -> u64 {
    let x = unpack::<F>(bits, *m);
    match x.class {
        Class::Zero => zero::<F>(x.sign),
        Class::Signalling => {
            m.raise(flag::INVALID);
            bits | F::QUIET
        }
        // Without a fraction.
        Class::Finite if x.exp < F::PRECISION as i32 => {
            let (magnitude, exact) = integer(x, rounding);
            if !exact && precision {
                m.raise(flag::PRECISION);
            }
            if magnitude == 0 {
                return zero::<F>(x.sign);
            }
            let shift = magnitude.leading_zeros();
            let sig = u128::from(magnitude << shift) << 64;
            super::round_as::<F>(x.sign, 63 - shift as i32, sig, Rounding::Zero, m)
        }
        _ => bits,
    }
}
