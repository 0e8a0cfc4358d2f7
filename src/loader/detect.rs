//! What kind of program a file is.

use super::LoadError;
use super::hex;

/// Kinds of programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ELF file.
    Elf,
    /// Text that starts with `#!`.
    Script,
    /// Bytes written in hexadecimal, see [`hex`].
    Hex,
    /// Bytes.
    Flat,
}

/// Bytes of a file that decide what it is (`BINPRM_BUF_SIZE`).
pub(super) const HEAD: usize = 256;

/// First bytes of files that are none of ours, however binary they look.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"MZ", "DOS or Windows program"),
    (b"!<arch>\n", "library archive (ar)"),
    (b"!<thin>\n", "library archive (ar)"),
    (b"\xca\xfe\xba\xbe", "Java class or universal Mach-O file"),
    (b"\xce\xfa\xed\xfe", "Mach-O file"),
    (b"\xcf\xfa\xed\xfe", "Mach-O file"),
    (b"\0asm", "WebAssembly module"),
    (b"\x1f\x8b", "gzip file"),
    (b"\x28\xb5\x2f\xfd", "zstd file"),
    (b"\xfd7zXZ\0", "xz file"),
    (b"BZh", "bzip2 file"),
    (b"PK\x03\x04", "zip archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"\x89PNG\r\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"%PDF-", "PDF document"),
];

/// Finds out what a file is from its first bytes. `None`: text, perhaps a hex listing; all of it is needed to tell.
fn by_head(head: &[u8]) -> Result<Option<Format>, LoadError> {
    if head.is_empty() {
        return Err(LoadError::Empty);
    }
    if head.starts_with(b"\x7fELF") {
        return Ok(Some(Format::Elf));
    }
    if head.starts_with(b"#!") {
        return Ok(Some(Format::Script));
    }
    if let Some((_, name)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Err(LoadError::Foreign(name));
    }
    let is_text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | b' '..=b'~' | 0x80..);
    if std::str::from_utf8(&head[..valid_prefix(head)]).is_ok() && head.iter().all(is_text) {
        return Ok(None);
    }
    Ok(Some(Format::Flat))
}

/// Length of `head` without a UTF-8 character that is cut because the head, not the file, ends in it.
fn valid_prefix(head: &[u8]) -> usize {
    match std::str::from_utf8(head) {
        Err(error) if error.error_len().is_none() && head.len() == HEAD => error.valid_up_to(),
        _ => head.len(),
    }
}

/// Finds out what a file is from its first bytes; `text` reads all of it, if that is needed.
pub(super) fn detect(
    head: &[u8],
    text: impl FnOnce() -> Result<Vec<u8>, LoadError>,
) -> Result<Format, LoadError> {
    if let Some(format) = by_head(head)? {
        return Ok(format);
    }
    // A listing may be broken, and should be told where; but one with no bytes, or prose, is just text.
    let text = text()?;
    if hex::looks_like(&text) { Ok(Format::Hex) } else { Err(LoadError::Text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(bytes: &[u8]) -> Result<Format, String> {
        detect(&bytes[..bytes.len().min(HEAD)], || Ok(bytes.to_vec())).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_told_apart_by_what_is_in_them() {
        for (bytes, format) in [
            (&b"\x7fELF\x01"[..], Format::Elf),
            (b"#!/bin/sh\n", Format::Script),
            (b"b8 01 00 00 00 ; mov eax, 1\ncd 80\n", Format::Hex),
            (b"; only a comment before\n0010: 90\n", Format::Hex),
            (b"\xb8\x01\x00\x00\x00\xcd\x80", Format::Flat),
            (b"\xc3", Format::Flat),
        ] {
            assert_eq!(detected(bytes), Ok(format), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_no_program_is_named() {
        for (bytes, name) in [
            (&b""[..], "empty"),
            (b"Hello, world\n", "text"),
            (b"echo hello\n", "text"),
            ("Grüße\n".as_bytes(), "text"),
            (b"; nothing\n", "text"),
            (b"MZ\x90\0", "DOS"),
            (b"!<arch>\nfoo", "archive"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"\x89PNG\r\n\x1a\n\0", "PNG"),
        ] {
            assert!(
                detected(bytes).is_err_and(|error| error.contains(name)),
                "{bytes:?}: {:?}",
                detected(bytes)
            );
        }
    }
}
