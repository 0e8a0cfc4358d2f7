//! Addition, multiplication, division, square root, minimum and maximum, comparison.

use super::{Class, Format, Unpacked, infinity, invalid, propagate, round, unpack, zero};
use crate::cpu::mxcsr::{Mxcsr, Rounding, flag};
use std::cmp::Ordering;

/// Notes a denormal among the operands.
fn note_denormals(operands: &[Unpacked], m: &mut Mxcsr) {
    if operands.iter().any(|operand| operand.denormal) {
        m.raise(flag::DENORMAL);
    }
}

/// Shifts right; the lowest bit tells of what is lost.
fn shift_sticky(sig: u128, count: u32) -> u128 {
    match count {
        0 => sig,
        1..=127 => sig >> count | u128::from(sig << (128 - count) != 0),
        _ => u128::from(sig != 0),
    }
}

/// Rounds a significand other than 0 whose highest bit may be anywhere: sig × 2^(exp - 127).
fn normalized<F: Format>(sign: bool, exp: i32, sig: u128, m: &mut Mxcsr) -> u64 {
    let shift = sig.leading_zeros();
    round::<F>(sign, exp - shift as i32, sig << shift, m)
}

/// Adds. SDM Vol. 2A, "ADDPS".
pub fn add<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> u64 {
    let (x, y) = (unpack::<F>(a, *m), unpack::<F>(b, *m));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(a, b, m);
    }
    match (x.class, y.class) {
        (Class::Infinity, Class::Infinity) if x.sign != y.sign => return invalid::<F>(m),
        (Class::Infinity, _) | (_, Class::Infinity) => {
            note_denormals(&[x, y], m);
            return infinity::<F>(if x.class == Class::Infinity { x.sign } else { y.sign });
        }
        _ => note_denormals(&[x, y], m),
    }
    let down = m.rounding() == Rounding::Down;
    let (large, small) = match (x.class, y.class) {
        (Class::Zero, Class::Zero) => {
            return zero::<F>(if x.sign == y.sign { x.sign } else { down });
        }
        (Class::Zero, _) => (y, x),
        (_, Class::Zero) => (x, y),
        _ if (x.exp, x.sig) >= (y.exp, y.sig) => (x, y),
        _ => (y, x),
    };
    // One bit of room for the carry.
    let (one, mut two) = (u128::from(large.sig) << 63, u128::from(small.sig) << 63);
    if small.class != Class::Zero {
        two = shift_sticky(two, (large.exp - small.exp) as u32);
    }
    let sum = if large.sign == small.sign { one + two } else { one - two };
    if sum == 0 {
        return zero::<F>(down);
    }
    normalized::<F>(large.sign, large.exp + 1, sum, m)
}

/// Subtracts. SDM Vol. 2B, "SUBPS".
pub fn sub<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> u64 {
    let is_nan = |bits: u64| unpack::<F>(bits, *m).is_nan();
    if is_nan(a) || is_nan(b) { propagate::<F>(a, b, m) } else { add::<F>(a, b ^ F::SIGN, m) }
}

/// Multiplies. SDM Vol. 2B, "MULPS".
pub fn mul<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> u64 {
    let (x, y) = (unpack::<F>(a, *m), unpack::<F>(b, *m));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(a, b, m);
    }
    let sign = x.sign != y.sign;
    match (x.class, y.class) {
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return invalid::<F>(m),
        _ => note_denormals(&[x, y], m),
    }
    match (x.class, y.class) {
        (Class::Infinity, _) | (_, Class::Infinity) => infinity::<F>(sign),
        (Class::Zero, _) | (_, Class::Zero) => zero::<F>(sign),
        _ => normalized::<F>(sign, x.exp + y.exp + 1, u128::from(x.sig) * u128::from(y.sig), m),
    }
}

/// Divides. SDM Vol. 2A, "DIVPS".
pub fn div<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> u64 {
    let (x, y) = (unpack::<F>(a, *m), unpack::<F>(b, *m));
    if x.is_nan() || y.is_nan() {
        return propagate::<F>(a, b, m);
    }
    let sign = x.sign != y.sign;
    match (x.class, y.class) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => return invalid::<F>(m),
        (Class::Finite, Class::Zero) => {
            m.raise(flag::ZERO_DIVIDE);
            return infinity::<F>(sign);
        }
        _ => note_denormals(&[x, y], m),
    }
    match (x.class, y.class) {
        (Class::Infinity, _) => infinity::<F>(sign),
        (Class::Zero, _) | (_, Class::Infinity) => zero::<F>(sign),
        _ => {
            let (dividend, divisor) = (u128::from(x.sig) << 63, u128::from(y.sig));
            // 63 or 64 bits, more than any format keeps.
            let quotient = (dividend / divisor) << 1 | u128::from(dividend % divisor != 0);
            normalized::<F>(sign, x.exp - y.exp + 63, quotient, m)
        }
    }
}

/// Takes the square root. SDM Vol. 2B, "SQRTPS".
pub fn sqrt<F: Format>(a: u64, m: &mut Mxcsr) -> u64 {
    let x = unpack::<F>(a, *m);
    match x.class {
        Class::Quiet | Class::Signalling => propagate::<F>(a, a, m),
        Class::Zero => zero::<F>(x.sign),
        _ if x.sign => invalid::<F>(m),
        Class::Infinity => infinity::<F>(false),
        Class::Finite => {
            note_denormals(&[x], m);
            // An even exponent for a significand in [2^126, 2^128), whose root has 64 bits.
            let odd = x.exp & 1;
            let square = u128::from(x.sig) << (63 + odd);
            let root = square.isqrt();
            let sticky = u128::from(root * root != square);
            normalized::<F>(false, (x.exp - odd) / 2 + 63, root << 1 | sticky, m)
        }
    }
}

/// How two values compare; `None` if one is a NaN. Notes denormals, but nothing for NaNs.
fn order<F: Format>(a: u64, b: u64, m: &mut Mxcsr) -> Option<Ordering> {
    let (x, y) = (unpack::<F>(a, *m), unpack::<F>(b, *m));
    if x.is_nan() || y.is_nan() {
        return None;
    }
    note_denormals(&[x, y], m);
    let key = |value: Unpacked, bits: u64| match value.class {
        Class::Zero => 0,
        _ if value.sign => -((bits & !F::SIGN) as i64),
        _ => bits as i64,
    };
    Some(key(x, a).cmp(&key(y, b)))
}

/// Whether one of the operands is a signalling NaN.
fn signals<F: Format>(a: u64, b: u64, m: Mxcsr) -> bool {
    [a, b].iter().any(|bits| unpack::<F>(*bits, m).class == Class::Signalling)
}

/// An operand as MIN and MAX give it back.
fn given<F: Format>(a: u64, m: Mxcsr) -> u64 {
    let x = unpack::<F>(a, m);
    if x.class == Class::Zero { zero::<F>(x.sign) } else { a }
}

/// Takes `a` if it compares so to `b`, else `b`: also for NaNs and zeros. SDM Vol. 2B, "MINPS" and "MAXPS".
pub fn select<F: Format>(a: u64, b: u64, wanted: Ordering, m: &mut Mxcsr) -> u64 {
    match order::<F>(a, b, m) {
        None => {
            m.raise(flag::INVALID);
            given::<F>(b, *m)
        }
        Some(order) => given::<F>(if order == wanted { a } else { b }, *m),
    }
}

/// Compares; `None` is unordered. A quiet NaN is invalid only if `signalling`. SDM Vol. 2A, "COMISS".
pub fn compare<F: Format>(a: u64, b: u64, signalling: bool, m: &mut Mxcsr) -> Option<Ordering> {
    let order = order::<F>(a, b, m);
    if order.is_none() && (signalling || signals::<F>(a, b, *m)) {
        m.raise(flag::INVALID);
    }
    order
}

/// Tells whether one of the eight predicates of CMPPS holds. SDM Vol. 2A, "CMPPS".
pub fn holds<F: Format>(a: u64, b: u64, predicate: u8, m: &mut Mxcsr) -> bool {
    let order = compare::<F>(a, b, matches!(predicate & 3, 1 | 2), m);
    let positive = match predicate & 3 {
        0 => order == Some(Ordering::Equal),
        1 => order == Some(Ordering::Less),
        2 => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => order.is_none(),
    };
    positive != (predicate & 4 != 0)
}
