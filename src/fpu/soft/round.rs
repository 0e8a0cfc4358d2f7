//! Rounding to binary80, and the choice among NaNs.

use super::env::{Env, Rounding, flag};
use super::f80::{EXP_MAX, F80, INTEGER};

/// What the exponent is moved by when an unmasked overflow or underflow is delivered to a register
/// (SDM Vol. 1, 4.9.1.4).
const WRAP: i32 = 24576;

/// Half a unit in the last place, in the word below the significand.
pub(super) const HALF: u64 = 1 << 63;

/// Decides whether a magnitude is to be rounded away from zero, where `rest` is what lies below the last place as a
/// fraction of 2^64 and `odd` tells whether the last place is 1.
#[inline(always)]
pub(super) fn rounds_away(rounding: Rounding, negative: bool, odd: bool, rest: u64) -> bool {
    // No branch on the operands' bits: which way it went could not be predicted.
    let outward = if negative { Rounding::DOWN } else { Rounding::UP };
    let (threshold, tie) = if rounding == Rounding::NEAREST {
        (HALF, odd)
    } else if rounding == outward {
        (0, false)
    } else {
        (u64::MAX, false)
    };
    (rest > threshold) | ((rest == threshold) & tie)
}

/// A significand rounded to some precision, before its exponent is looked at.
struct Rounded {
    sig: u64,
    /// Whether the significand overflowed to 2^64; `sig` is then 2^63.
    carry: bool,
    inexact: bool,
    away: bool,
}

#[inline(always)]
fn round_significand(sign: u16, sig: u64, low: u64, bits: u32, rounding: Rounding) -> Rounded {
    let (kept, ulp, rest) = if bits == 64 {
        (sig, 1, low)
    } else {
        let ulp = 1u64 << (64 - bits);
        (sig & !(ulp - 1), ulp, (sig << bits) | u64::from(low != 0))
    };
    let away = rounds_away(rounding, sign != 0, kept & ulp != 0, rest);
    let (sum, carry) = kept.overflowing_add(ulp * u64::from(away));
    Rounded { sig: if carry { INTEGER } else { sum }, carry, inexact: rest != 0, away }
}

/// Rounds ±(`sig` + `low`/2^64) × 2^(`exp` − 16383 − 63) to the precision that the control word asks for, as
/// FADD, FSUB, FMUL, FDIV and FSQRT do.
///
/// Bit 63 of `sig` must be set. Of `low`, only its order against 0 and one half matters.
#[inline(always)]
pub(super) fn round(sign: u16, exp: i32, sig: u64, low: u64, env: &mut Env) -> F80 {
    round_to(sign, exp, sig, low, env.precision_bits(), env)
}

/// Rounds as [`round()`] does, to 64 bits whatever the precision control says.
#[inline]
pub(super) fn round_extended(sign: u16, exp: i32, sig: u64, low: u64, env: &mut Env) -> F80 {
    round_to(sign, exp, sig, low, 64, env)
}

#[inline(always)]
fn round_to(sign: u16, exp: i32, sig: u64, low: u64, bits: u32, env: &mut Env) -> F80 {
    if exp <= 0 {
        return env.rarely(|env| underflow(sign, exp, sig, low, bits, env));
    }
    let r = round_significand(sign, sig, low, bits, env.rounding());
    let rounded_exp = exp + i32::from(r.carry);
    if rounded_exp >= EXP_MAX {
        return env.rarely(|env| overflow(sign, exp, sig, low, bits, env));
    }
    env.inexact(r.inexact, r.away);
    F80::new(sign | rounded_exp as u16, r.sig)
}

#[cold]
#[inline(never)]
fn overflow(sign: u16, exp: i32, sig: u64, low: u64, bits: u32, env: &mut Env) -> F80 {
    env.raise(flag::OE);
    if !env.masked(flag::OE) {
        let r = round_significand(sign, sig, low, bits, env.rounding());
        env.inexact(r.inexact, r.away);
        let exp = exp + i32::from(r.carry) - WRAP;
        if exp < EXP_MAX {
            return F80::new(sign | exp as u16, r.sig);
        }
        // Only FSCALE gets so far.
        env.inexact(true, true);
        return F80::infinity(sign);
    }
    let away = rounds_away(env.rounding(), sign != 0, true, HALF | 1);
    env.inexact(true, away);
    if away {
        return F80::infinity(sign);
    }
    let largest = if bits == 64 { u64::MAX } else { u64::MAX << (64 - bits) };
    F80::new(sign | 0x7ffe, largest)
}

#[cold]
#[inline(never)]
fn underflow(sign: u16, exp: i32, sig: u64, low: u64, bits: u32, env: &mut Env) -> F80 {
    let unbounded = round_significand(sign, sig, low, bits, env.rounding());
    // Tininess is found after rounding: a carry may lift the result to the smallest normal number.
    let tiny = exp + i32::from(unbounded.carry) <= 0;
    if tiny && !env.masked(flag::UE) {
        env.raise(flag::UE);
        env.inexact(unbounded.inexact, unbounded.away);
        let exp = exp + i32::from(unbounded.carry) + WRAP;
        if exp > 0 {
            return F80::new(sign | exp as u16, unbounded.sig);
        }
        env.raise(flag::PE);
        return F80::zero(sign);
    }
    let (sig, low) = shift_right_jam(sig, low, (1 - exp) as u32);
    let r = round_significand(sign, sig, low, bits, env.rounding());
    if tiny && r.inexact {
        env.raise(flag::UE);
    }
    env.inexact(r.inexact, r.away);
    // A carry out of the fraction makes the smallest normal number, whose exponent is 1.
    F80::new(sign | (r.sig >> 63) as u16, r.sig)
}

/// Shifts `sig`:`low` right by `count`, keeping in the lowest bit whether anything was lost.
#[inline]
pub(super) fn shift_right_jam(sig: u64, low: u64, count: u32) -> (u64, u64) {
    match count {
        0 => (sig, low),
        1..=63 => {
            let lost = low << (64 - count);
            (sig >> count, (sig << (64 - count)) | (low >> count) | u64::from(lost != 0))
        }
        64 => (0, sig | u64::from(low != 0)),
        65..=127 => {
            let lost = (sig << (128 - count)) | low;
            (0, (sig >> (count - 64)) | u64::from(lost != 0))
        }
        _ => (0, u64::from(sig | low != 0)),
    }
}

/// Gives the result that a NaN or an unsupported operand imposes on a dyadic operation, if there is one.
///
/// Of two NaNs the one with the larger significand is taken, of equal significands the positive one, and made quiet
/// (SDM Vol. 1, table 4-7).
#[inline]
pub(super) fn nan_of_two(a: F80, b: F80, env: &mut Env) -> Option<F80> {
    if a.is_unsupported() || b.is_unsupported() {
        env.invalid();
        return Some(F80::INDEFINITE);
    }
    let chosen = match (a.is_nan(), b.is_nan()) {
        (false, false) => return None,
        (true, false) => a,
        (false, true) => b,
        (true, true) if a.sig != b.sig => {
            if a.sig > b.sig {
                a
            } else {
                b
            }
        }
        (true, true) => F80::new(a.se & b.se, a.sig),
    };
    env.withdraw_denormal();
    if a.is_signaling() || b.is_signaling() {
        env.invalid();
    }
    Some(chosen.quiet())
}

/// Gives the result that a NaN or an unsupported operand imposes on a monadic operation, if there is one.
#[inline]
pub(super) fn nan_of_one(a: F80, env: &mut Env) -> Option<F80> {
    if a.is_unsupported() {
        env.invalid();
        return Some(F80::INDEFINITE);
    }
    if !a.is_nan() {
        return None;
    }
    env.withdraw_denormal();
    if a.is_signaling() {
        env.invalid();
    }
    Some(a.quiet())
}

/// Raises `#IA` and gives its masked response.
#[inline]
pub(super) fn invalid(env: &mut Env) -> F80 {
    env.invalid();
    F80::INDEFINITE
}

/// Raises `#D` if an operand is denormal. Tells whether the operation must stop because `#D` is unmasked.
#[inline]
pub(super) fn denormal_stops(denormal: bool, env: &mut Env) -> bool {
    if denormal {
        env.raise(flag::DE);
    }
    env.has_denormal() && !env.masked(flag::DE)
}
