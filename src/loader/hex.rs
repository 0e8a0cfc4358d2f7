//! Hex listings: programs written as text.
//!
//! ```text
//! ; write(1, "hi\n", 3), then exit(0)
//! 00: b8 04000000      ; mov eax, 4
//!     bb 01000000      ; mov ebx, 1
//! ```
//! A line is `[OFFSET:] BYTES… [; comment]`, all in hexadecimal. Bytes may be glued together. An offset counts from the start of
//! the image and may leave a gap, which is filled with zeros; it may not go back.

use std::fmt::Write;

/// Longest listing, in bytes of text.
pub const MAX_TEXT: u64 = 64 << 20;

/// Longest image that a listing may describe, gaps included.
pub const MAX_IMAGE: usize = 64 << 20;

/// Digits of the longest offset.
const OFFSET_DIGITS: usize = 8;

/// What is wrong with a listing, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hex listing, line {line}, column {column}: {problem}")]
pub struct HexError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: HexProblem,
}

/// What is wrong with a listing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexProblem {
    /// A character that is none of a listing.
    #[error("{} is no hexadecimal digit", shown(*.0))]
    NotHex(u8),
    /// Half a byte.
    #[error("odd number of digits in {0:?}; a byte has two")]
    OddDigits(String),
    /// An offset that goes back.
    #[error("offset {offset:#x} lies before the {done:#x} bytes above it")]
    GoesBack {
        /// The offset.
        offset: u64,
        /// Bytes already there.
        done: usize,
    },
    /// An offset with too many digits, or none.
    #[error("an offset has one to eight digits")]
    BadOffset,
    /// More than [`MAX_IMAGE`].
    #[error("the image gets longer than {MAX_IMAGE} bytes")]
    TooLong,
    /// No byte in it.
    #[error("no bytes in the listing")]
    Nothing,
}

fn shown(byte: u8) -> String {
    match byte {
        b' '..=b'~' => format!("`{}`", char::from(byte)),
        _ => format!("byte {byte:#04x}"),
    }
}

/// The bytes that a listing describes.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse(text: &[u8]) -> Result<Vec<u8>, HexError> {
    let mut image = Vec::new();
    let mut lines = 0;
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        lines = index + 1;
        let at = |column: usize, problem| HexError { line: index + 1, column: column + 1, problem };
        let code = line.split(|&byte| byte == b';').next().unwrap_or_default();
        for (column, word) in words(code) {
            match word.strip_suffix(b":") {
                Some(offset) if image_starts_line(code, column) => {
                    go_to(&mut image, offset).map_err(|(inside, problem)| at(column + inside, problem))?;
                }
                _ => append(&mut image, word).map_err(|(inside, problem)| at(column + inside, problem))?,
            }
        }
    }
    if image.is_empty() {
        return Err(HexError { line: lines, column: 1, problem: HexProblem::Nothing });
    }
    Ok(image)
}

/// Tells whether a text is meant as a listing: every line but comments starts with an offset or a byte.
pub(super) fn looks_like(text: &[u8]) -> bool {
    let mut any = false;
    for line in text.split(|&byte| byte == b'\n') {
        let code = line.split(|&byte| byte == b';').next().unwrap_or_default();
        let Some((_, word)) = words(code).next() else { continue };
        let digits = word.strip_suffix(b":").unwrap_or(word);
        let is_byte = digits.len().is_multiple_of(2) || word.ends_with(b":");
        if !is_byte || digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        any = true;
    }
    any
}

/// A listing of `image`, sixteen bytes a line, that [`parse`] reads back.
pub fn listing(image: &[u8]) -> String {
    let mut text = String::new();
    for (index, line) in image.chunks(16).enumerate() {
        let _ = write!(text, "{:08x}:", index * 16);
        for byte in line {
            let _ = write!(text, " {byte:02x}");
        }
        text.push('\n');
    }
    text
}

/// The words of a line with their columns, from 0.
fn words(line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut start = 0;
    line.split(u8::is_ascii_whitespace).filter_map(move |word| {
        let column = start;
        start += word.len() + 1;
        (!word.is_empty()).then_some((column, word))
    })
}

/// Tells whether nothing but blanks is before `column`.
fn image_starts_line(line: &[u8], column: usize) -> bool {
    line[..column].iter().all(u8::is_ascii_whitespace)
}

/// A problem and where in its word it is.
type Problem = (usize, HexProblem);

fn not_hex(word: &[u8]) -> Option<Problem> {
    let at = word.iter().position(|byte| !byte.is_ascii_hexdigit())?;
    Some((at, HexProblem::NotHex(word[at])))
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

fn append(image: &mut Vec<u8>, word: &[u8]) -> Result<(), Problem> {
    if let Some(problem) = not_hex(word) {
        return Err(problem);
    }
    if !word.len().is_multiple_of(2) {
        let word = String::from_utf8_lossy(&word[..word.len().min(32)]).into_owned();
        return Err((0, HexProblem::OddDigits(word)));
    }
    if image.len() + word.len() / 2 > MAX_IMAGE {
        return Err((0, HexProblem::TooLong));
    }
    image.extend(word.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])));
    Ok(())
}

fn go_to(image: &mut Vec<u8>, digits: &[u8]) -> Result<(), Problem> {
    if let Some(problem) = not_hex(digits) {
        return Err(problem);
    }
    if digits.is_empty() || digits.len() > OFFSET_DIGITS {
        return Err((0, HexProblem::BadOffset));
    }
    let offset = digits.iter().fold(0, |value: u64, &byte| value << 4 | u64::from(digit(byte)));
    if offset < image.len() as u64 {
        return Err((0, HexProblem::GoesBack { offset, done: image.len() }));
    }
    if offset > MAX_IMAGE as u64 {
        return Err((0, HexProblem::TooLong));
    }
    image.resize(offset as usize, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn listings_mean_their_bytes() {
        for (text, bytes) in [
            ("90", &[0x90][..]),
            ("b8 01000000 ; mov eax, 1\n\n ; nothing\ncd80", &[0xb8, 1, 0, 0, 0, 0xcd, 0x80]),
            ("0: 90\n4: C3", &[0x90, 0, 0, 0, 0xc3]),
            ("\t00000002:\taA\r\n", &[0, 0, 0xaa]),
            ("0:\n90 ; :", &[0x90]),
        ] {
            assert_eq!(parse(text.as_bytes()).as_deref(), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn errors_say_where_they_are() {
        for (text, line, column, problem) in [
            ("90 9", 1, 4, "odd number of digits in \"9\""),
            ("90\n  zz", 2, 3, "`z` is no hexadecimal digit"),
            ("90 0x12", 1, 5, "`x` is no hexadecimal digit"),
            ("90 10: 90", 1, 6, "`:` is no hexadecimal digit"),
            ("90 90\n1: 90", 2, 1, "offset 0x1 lies before the 0x2 bytes"),
            ("123456789: 90", 1, 1, "one to eight digits"),
            (": 90", 1, 1, "one to eight digits"),
            ("ffffffff: 90", 1, 1, "longer than"),
            ("; nothing\n", 2, 1, "no bytes"),
            ("", 1, 1, "no bytes"),
            ("\u{e9}", 1, 1, "byte 0xc3 is no"),
        ] {
            let error = parse(text.as_bytes()).expect_err(text);
            assert_eq!((error.line, error.column), (line, column), "{text:?}: {error}");
            assert!(error.to_string().contains(problem), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_listed_is_read_back(image in proptest::collection::vec(any::<u8>(), 1..400)) {
            let text = listing(&image);
            prop_assert!(looks_like(text.as_bytes()));
            prop_assert_eq!(parse(text.as_bytes()), Ok(image));
        }

        #[test]
        fn no_text_is_more_than_an_error(text in "[0-9a-fx:; \n\t]{0,200}") {
            let _ = parse(text.as_bytes());
            let _ = looks_like(text.as_bytes());
        }
    }
}
