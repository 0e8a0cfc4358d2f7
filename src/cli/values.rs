//! Numbers and names on the command line.

use super::Failure;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;
use table86::isa::{CpuModel, MODELS};

/// A number, decimal or with `0x`.
fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.starts_with('+') => return Err(not_a_number(text)),
        Some(digits) => u64::from_str_radix(digits, 16),
        None if text.starts_with('+') => return Err(not_a_number(text)),
        None => text.parse(),
    };
    parsed.map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow => format!("`{text}` is too large"),
        _ => not_a_number(text),
    })
}

fn not_a_number(text: &str) -> String {
    format!("`{text}` is no number; decimal, or hexadecimal with 0x")
}

/// A guest address.
pub(super) fn address(text: &str) -> Result<u32, String> {
    let value = number(text)?;
    u32::try_from(value).map_err(|_| format!("`{text}` is beyond the 4 GiB of addresses that IA-32 has"))
}

/// A size in bytes: a number, perhaps with K, M or G; not 0.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u64); 3] = [('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let unit = text.chars().last().map(|last| last.to_ascii_uppercase());
    let found = UNITS.into_iter().find(|&(letter, _)| unit == Some(letter));
    let (digits, factor) = match found {
        Some((_, factor)) => (&text[..text.len() - 1], factor),
        None => (text, 1),
    };
    let bad = || format!("`{text}` is no size; a number of bytes, or one with K, M or G such as 64M");
    let value = number(digits).map_err(|_| bad())?;
    match value.checked_mul(factor) {
        Some(0) => Err("the size is zero".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(format!("`{text}` is too large")),
    }
}

/// A size in bytes as for memory: 4 GiB at most.
pub(super) fn memory_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes if bytes > 1 << 32 => Err(format!("`{text}` is more than the 4 GiB that IA-32 can address")),
        bytes => Ok(bytes),
    }
}

/// A count; not 0.
pub(super) fn count(text: &str) -> Result<u64, String> {
    match number(text)? {
        0 => Err("the limit is zero".to_owned()),
        value => Ok(value),
    }
}

/// Seconds, with decimals; not 0.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no time; a number of seconds such as 10 or 0.5");
    let seconds: f64 = text.parse().map_err(|_| bad())?;
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| bad())?;
    if time.is_zero() { Err("the limit is zero".to_owned()) } else { Ok(time) }
}

/// `NAME=VALUE`.
pub(super) fn assignment(text: OsString) -> Result<(OsString, OsString), String> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) if at > 0 => {
            let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
            Ok((part(&bytes[..at]), part(&bytes[at + 1..])))
        }
        _ => Err(format!("`{}` is no NAME=VALUE", text.display())),
    }
}

/// The processor of this name.
pub(super) fn cpu_model(name: Option<&str>) -> Result<CpuModel, Failure> {
    let Some(name) = name else { return Ok(CpuModel::default()) };
    CpuModel::named(name).ok_or_else(|| {
        let names: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
        Failure::own(format!("--cpu {name}: no such model; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_mean_what_they_say() {
        for (text, value) in [("0", 0), ("0x10", 16), ("0XfF", 255), ("4294967295", u32::MAX)] {
            assert_eq!(address(text), Ok(value), "{text}");
        }
        for (text, value) in [("1", 1), ("64M", 64 << 20), ("1g", 1 << 30), ("0x10K", 16 << 10)] {
            assert_eq!(size(text), Ok(value), "{text}");
        }
        for (text, ms) in [("10", 10_000), ("0.5", 500), ("1e-3", 1)] {
            assert_eq!(seconds(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn bad_numbers_are_refused_by_name() {
        for text in ["", "x", "0x", "-1", "1.5", "+1", "0x+1", "0x100000000", "99999999999999999999", "12 "] {
            assert!(address(text).is_err_and(|error| error.contains(text)), "{text:?}");
        }
        for text in ["", "M", "x", "-1M", "1T", "1MB", "99999999999G", "1µ"] {
            assert!(size(text).is_err_and(|error| error.contains(text)), "{text:?}");
        }
        assert!(
            size("0").is_err() && size("0M").is_err() && memory_size("5G").is_err() && count("0").is_err()
        );
        for text in ["", "-1", "nan", "inf", "0", "x", "1e999"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
        for text in ["", "A", "=B"] {
            assert!(assignment(text.into()).is_err(), "{text:?}");
        }
    }
}
