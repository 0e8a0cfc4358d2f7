//! FCOM, FUCOM, FTST, FXAM and their relatives.

use core::cmp::Ordering;

use super::env::{Env, flag};
use super::f80::{Class, F80};
use super::round::denormal_stops;

/// The outcome of a comparison: an order, or `None` for unordered.
pub type Comparison = Option<Ordering>;

/// Compares; any NaN raises `#IA`. SDM Vol. 2A, "FCOM/FCOMP/FCOMPP".
#[inline]
pub fn compare(a: F80, b: F80, env: &mut Env) -> Comparison {
    if a.is_normal() && b.is_normal() && !env.has_denormal() {
        return Some(order(a, b));
    }
    env.rarely(|env| compare_special(a, b, true, env))
}

/// Compares; only signaling NaNs raise `#IA`. SDM Vol. 2A, "FUCOM/FUCOMP/FUCOMPP".
#[inline]
pub fn compare_quiet(a: F80, b: F80, env: &mut Env) -> Comparison {
    if a.is_normal() && b.is_normal() && !env.has_denormal() {
        return Some(order(a, b));
    }
    env.rarely(|env| compare_special(a, b, false, env))
}

#[cold]
#[inline(never)]
fn compare_special(a: F80, b: F80, quiet_invalid: bool, env: &mut Env) -> Comparison {
    let unsupported = a.is_unsupported() || b.is_unsupported();
    let nan = a.is_nan() || b.is_nan();
    if unsupported || nan {
        env.withdraw_denormal();
        if unsupported || quiet_invalid || a.is_signaling() || b.is_signaling() {
            env.invalid();
        }
        return None;
    }
    denormal_stops(a.is_denormal() || b.is_denormal(), env);
    if a.is_zero() && b.is_zero() {
        return Some(Ordering::Equal);
    }
    Some(order(a, b))
}

/// Orders two numbers that are not both zero.
#[inline]
fn order(a: F80, b: F80) -> Ordering {
    // A pseudo-denormal is worth as much as with exponent 1.
    let key = |x: F80| (x.exponent() + i32::from(x.exponent() == 0 && x.sig >> 63 != 0), x.sig);
    match (a.is_negative(), b.is_negative()) {
        (false, false) => key(a).cmp(&key(b)),
        (true, true) => key(b).cmp(&key(a)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
    }
}

/// Gives the condition codes C3, C2 and C0 of a comparison. SDM Vol. 2A, table 3-21.
#[inline]
#[must_use]
pub const fn codes(comparison: Comparison) -> u16 {
    match comparison {
        Some(Ordering::Greater) => 0,
        Some(Ordering::Less) => flag::C0,
        Some(Ordering::Equal) => flag::C3,
        None => flag::C3 | flag::C2 | flag::C0,
    }
}

/// Gives the condition codes of FXAM for a register: its class, and the sign in C1. SDM Vol. 2A, "FXAM".
///
/// `empty` says that the tag marks the register so; the sign is still that of what it holds.
#[inline]
#[must_use]
pub const fn examine(a: F80, empty: bool) -> u16 {
    let sign = if a.is_negative() { flag::C1 } else { 0 };
    if empty {
        return sign | flag::C3 | flag::C0;
    }
    sign | match a.class() {
        Class::Unsupported => 0,
        Class::QuietNan | Class::SignalingNan => flag::C0,
        Class::Normal => flag::C2,
        Class::Infinity => flag::C2 | flag::C0,
        Class::Zero => flag::C3,
        Class::Denormal | Class::PseudoDenormal => flag::C3 | flag::C2,
    }
}
