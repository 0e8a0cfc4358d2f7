//! Arithmetic on binary32 and binary64 as SSE has it, in software: exact on every host, all six exceptions.
//!
//! Values are their bits, right-aligned in a `u64`. Each operation is a function of its operands and [`Mxcsr`], in which it
//! reads rounding, DAZ and FTZ and notes what it raises; results are those of masked exceptions. SDM Vol. 1, 4.8 and 11.5.

pub mod approximate;
pub mod arith;
pub mod convert;
#[cfg(target_arch = "x86_64")]
pub mod host;

use super::mxcsr::{Mxcsr, Rounding, flag};
use std::cmp::Ordering;

/// A format of the IEEE standard 754.
pub trait Format {
    /// Bits of the significand, the hidden one included.
    const PRECISION: u32;
    /// Largest exponent of a finite number, as in 1.x × 2^e; also the bias.
    const MAX_EXP: i32;
    /// Width in bits.
    const BITS: u32;

    /// Bits of the fraction.
    const FRACTION: u64 = (1 << (Self::PRECISION - 1)) - 1;
    /// The exponent field of infinities and NaNs.
    const EXP_ONES: u64 = (Self::MAX_EXP * 2 + 1) as u64;
    /// The sign bit.
    const SIGN: u64 = 1 << (Self::BITS - 1);
    /// Plus infinity.
    const INFINITY: u64 = Self::EXP_ONES << (Self::PRECISION - 1);
    /// The bit that tells quiet NaNs.
    const QUIET: u64 = 1 << (Self::PRECISION - 2);
    /// The NaN of invalid operations, "real indefinite".
    const INDEFINITE: u64 = Self::SIGN | Self::INFINITY | Self::QUIET;
}

/// binary32.
pub struct F32;
/// binary64.
pub struct F64;

impl Format for F32 {
    const PRECISION: u32 = 24;
    const MAX_EXP: i32 = 127;
    const BITS: u32 = 32;
}

impl Format for F64 {
    const PRECISION: u32 = 53;
    const MAX_EXP: i32 = 1023;
    const BITS: u32 = 64;
}

#[cfg(target_arch = "x86_64")]
pub use host::undisturbed;

/// Does what needs the host's own rounding: arithmetic by Rust's operators. Other hosts keep it all the time.
#[cfg(not(target_arch = "x86_64"))]
pub fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// What an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Zero, or with DAZ a denormal.
    Zero,
    /// A number other than zero.
    Finite,
    /// Infinity.
    Infinity,
    /// A quiet NaN.
    Quiet,
    /// A signalling NaN.
    Signalling,
}

/// An operand, taken apart: (-1)^sign × sig × 2^(exp - 63), the highest bit of `sig` set if finite.
#[derive(Clone, Copy, Debug)]
pub struct Unpacked {
    /// Negative.
    pub sign: bool,
    /// What it is.
    pub class: Class,
    /// Unbiased exponent.
    pub exp: i32,
    /// Significand.
    pub sig: u64,
    /// It is a denormal, which DAZ does not hide.
    pub denormal: bool,
}

impl Unpacked {
    /// Whether it is a NaN.
    #[inline]
    pub fn is_nan(self) -> bool {
        matches!(self.class, Class::Quiet | Class::Signalling)
    }
}

/// Takes a value apart.
pub fn unpack<F: Format>(bits: u64, m: Mxcsr) -> Unpacked {
    let sign = bits & F::SIGN != 0;
    let field = bits >> (F::PRECISION - 1) & F::EXP_ONES;
    let fraction = bits & F::FRACTION;
    let of = |class: Class, exp: i32, sig: u64, denormal: bool| Unpacked { sign, class, exp, sig, denormal };
    match (field, fraction) {
        (0, 0) => of(Class::Zero, 0, 0, false),
        (0, _) if m.denormals_are_zeros() => of(Class::Zero, 0, 0, false),
        (0, _) => {
            let shift = fraction.leading_zeros();
            // The fraction's lowest bit is worth 2^(1 - MAX_EXP - (PRECISION - 1)).
            let exp = 63 - shift as i32 + 2 - F::MAX_EXP - F::PRECISION as i32;
            of(Class::Finite, exp, fraction << shift, true)
        }
        (field, 0) if field == F::EXP_ONES => of(Class::Infinity, 0, 0, false),
        (field, _) if field == F::EXP_ONES => {
            let class = if fraction & F::QUIET != 0 { Class::Quiet } else { Class::Signalling };
            of(class, 0, fraction, false)
        }
        _ => {
            let sig = (fraction | 1 << (F::PRECISION - 1)) << (64 - F::PRECISION);
            of(Class::Finite, field as i32 - F::MAX_EXP, sig, false)
        }
    }
}

/// Zero.
pub fn zero<F: Format>(sign: bool) -> u64 {
    if sign { F::SIGN } else { 0 }
}

/// Infinity.
pub fn infinity<F: Format>(sign: bool) -> u64 {
    zero::<F>(sign) | F::INFINITY
}

/// The response to an invalid operation.
pub fn invalid<F: Format>(m: &mut Mxcsr) -> u64 {
    m.raise(flag::INVALID);
    F::INDEFINITE
}

/// The NaN that comes out of operands of which one at least is a NaN: the first of them, quiet.
pub fn propagate<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> u64 {
    let [one, two] = [a, b].map(|bits| unpack::<F>(bits, *m));
    if one.class == Class::Signalling || two.class == Class::Signalling {
        m.raise(flag::INVALID);
    }
    F::QUIET | if one.is_nan() { a } else { b }
}

/// Whether a significand is rounded up; `rest` compares what is cut off with half a unit.
fn rounds_up(sign: bool, odd: bool, rest: Ordering, exact: bool, rounding: Rounding) -> bool {
    match rounding {
        Rounding::Nearest => rest == Ordering::Greater || rest == Ordering::Equal && odd,
        Rounding::Down => sign && !exact,
        Rounding::Up => !sign && !exact,
        Rounding::Zero => false,
    }
}

/// Keeps the upper `bits` bits of a significand, 1 to 64, rounded; also gives whether that was exact. The result may be 2^`bits`.
fn cut(sig: u128, bits: u32, sign: bool, rounding: Rounding) -> (u64, bool) {
    let shift = 128 - bits;
    let half = 1u128 << (shift - 1);
    let (kept, rest) = (sig >> shift, sig & ((1u128 << shift) - 1));
    let up = rounds_up(sign, kept & 1 != 0, rest.cmp(&half), rest == 0, rounding);
    (kept as u64 + u64::from(up), rest == 0)
}

/// Rounds (-1)^sign × sig × 2^(exp - 127), whose significand has its highest bit set and stands for more if its lowest is,
/// to the format.
pub fn round<F: Format>(sign: bool, exp: i32, sig: u128, m: &mut Mxcsr) -> u64 {
    round_as::<F>(sign, exp, sig, m.rounding(), m)
}

/// As [`round`], by another rounding than MXCSR's.
pub fn round_as<F: Format>(sign: bool, exp: i32, sig: u128, rounding: Rounding, m: &mut Mxcsr) -> u64 {
    let min_exp = 1 - F::MAX_EXP;
    let (mut kept, unbounded_exact) = cut(sig, F::PRECISION, sign, rounding);
    let carried = kept >> F::PRECISION != 0;
    let unbounded = exp + i32::from(carried);
    // Tiny is what would be so with an unbounded exponent: after rounding.
    let tiny = unbounded < min_exp;
    if tiny && m.flushes_to_zero() {
        m.raise(flag::UNDERFLOW | flag::PRECISION);
        return zero::<F>(sign);
    }
    if exp < min_exp {
        let lost = (min_exp - exp) as u32;
        let (kept, exact) = cut_low(sig, F::PRECISION, lost, sign, rounding);
        let masked = m.is_masked(flag::UNDERFLOW);
        if tiny && (!exact || !masked) {
            m.raise(flag::UNDERFLOW);
        }
        // Unmasked, the result is the one that an unbounded exponent would give.
        if !(if tiny && !masked { unbounded_exact } else { exact }) {
            m.raise(flag::PRECISION);
        }
        // A carry into the hidden bit makes the exponent field 1 by itself.
        return zero::<F>(sign) | kept;
    }
    if !unbounded_exact {
        m.raise(flag::PRECISION);
    }
    if unbounded > F::MAX_EXP {
        let exact = !m.is_masked(flag::OVERFLOW);
        m.raise(if exact { flag::OVERFLOW } else { flag::OVERFLOW | flag::PRECISION });
        let to_infinity = match rounding {
            Rounding::Nearest => true,
            Rounding::Down => sign,
            Rounding::Up => !sign,
            Rounding::Zero => false,
        };
        return infinity::<F>(sign) - u64::from(!to_infinity);
    }
    if carried {
        kept >>= 1;
    }
    let field = (unbounded + F::MAX_EXP) as u64;
    zero::<F>(sign) | field << (F::PRECISION - 1) | kept & F::FRACTION
}

/// As [`cut`] with `lost` bits fewer, which may be all.
fn cut_low(sig: u128, bits: u32, lost: u32, sign: bool, rounding: Rounding) -> (u64, bool) {
    if lost < bits {
        return cut(sig, bits - lost, sign, rounding);
    }
    // Nothing is kept: half a unit is at `lost - bits` places above the highest bit.
    let rest = if lost == bits { sig.cmp(&(1 << 127)) } else { Ordering::Less };
    (u64::from(rounds_up(sign, false, rest, false, rounding)), false)
}
