//! FBLD and FBSTP: the 18-digit packed decimal format (SDM Vol. 1, 4.7).

use super::convert::{from_i64, integer_magnitude};
use super::env::Env;
use super::f80::F80;

/// The largest magnitude of 18 digits.
const LARGEST: u64 = 999_999_999_999_999_999;

/// The packed decimal indefinite.
const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// Converts ten bytes of packed decimal exactly. SDM Vol. 2A, "FBLD".
///
/// Only bit 7 of the last byte is looked at there. Digits above 9, undefined in the manual, weigh what they say.
#[must_use]
pub fn from_bcd(bytes: [u8; 10]) -> F80 {
    let [digits @ .., sign] = bytes;
    let magnitude =
        digits.iter().rev().fold(0i64, |n, &pair| n * 100 + i64::from(pair >> 4) * 10 + i64::from(pair & 15));
    let value = from_i64(magnitude);
    if sign & 0x80 != 0 { value.chs() } else { value }
}

/// Rounds to ten bytes of packed decimal, or gives the packed decimal indefinite with `#IA`.
/// SDM Vol. 2A, "FBSTP".
pub fn to_bcd(a: F80, env: &mut Env) -> [u8; 10] {
    let (mut whole, inexact, away) = match integer_magnitude(a, env.rounding()) {
        Some(rounded) if rounded.0 <= LARGEST => rounded,
        _ => {
            env.invalid();
            return INDEFINITE;
        }
    };
    env.inexact(inexact, away);
    let mut bytes = [0; 10];
    for byte in &mut bytes[..9] {
        let pair = (whole % 100) as u8;
        whole /= 100;
        *byte = ((pair / 10) << 4) | (pair % 10);
    }
    bytes[9] = if a.is_negative() { 0x80 } else { 0 };
    bytes
}
