//! `table86 dis`: disassembles.

use super::{Failure, NOT_FOUND, NOT_RUNNABLE, values};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use table86::disasm::Text;
use table86::isa::{DecodeError, decode};
use table86::loader::code::{self, Code};
use table86::loader::{Format, LoadError, hex};

/// Columns for the bytes of an instruction.
const BYTES_SHOWN: usize = 8;

/// Disassembles a program's code, or bytes given in hexadecimal.
///
/// What no table declares is shown as bytes (`db`).
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 dis ./prog                          code of an ELF file\n  \
                        table86 dis --as flat --org 0x1000 image.bin  a flat image\n  \
                        table86 dis --hex 8b 45 f8                    bytes")]
pub(super) struct Dis {
    /// What FILE is; found out if not said
    #[arg(long = "as", value_name = "FORMAT", conflicts_with = "hex")]
    format: Option<super::run::FormatName>,
    /// Address of the first byte of bytes, flat images and listings [default: 0]
    #[arg(long, value_name = "ADDR", value_parser = values::address, default_value = "0", hide_default_value = true)]
    org: u32,
    /// The arguments are bytes in hexadecimal, not a file
    #[arg(long)]
    hex: bool,
    /// A file, or bytes
    #[arg(value_name = "FILE|BYTES", required = true)]
    input: Vec<OsString>,
}

impl Dis {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.hex {
            let text: Vec<String> =
                self.input.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            let bytes = hex::parse(text.join(" ").as_bytes())
                .map_err(|error| Failure::own(error.problem.to_string()))?;
            disassemble(&mut out, &bytes, self.org, &[])?;
            return Ok(out.flush()?);
        }
        let [file] = &self.input[..] else {
            return Err(Failure::own("one file at a time; for bytes, say --hex"));
        };
        let path = PathBuf::from(file);
        let parts = code::read(&path, self.format.map(Format::from), self.org)
            .map_err(|error| unreadable(&path, &error))?;
        for (index, code) in parts.iter().enumerate() {
            let Code { name, addr, bytes, symbols } = code;
            if index > 0 {
                writeln!(out)?;
            }
            if !name.is_empty() {
                writeln!(out, "; {name}, {} bytes", bytes.len())?;
            }
            disassemble(&mut out, bytes, *addr, symbols)?;
        }
        Ok(out.flush()?)
    }
}

/// The error for a file whose code cannot be read.
pub(super) fn unreadable(path: &Path, error: &LoadError) -> Failure {
    let status = if error.is_not_found() { NOT_FOUND } else { NOT_RUNNABLE };
    Failure::new(status, format!("{}: {error}", path.display()))
}

/// Shows one instruction a line, from the first byte to the last, and the names of addresses before them.
fn disassemble(out: &mut impl Write, bytes: &[u8], org: u32, symbols: &[(u32, String)]) -> io::Result<()> {
    let mut at = 0;
    let mut symbols = symbols.iter().peekable();
    while at < bytes.len() {
        let addr = org.wrapping_add(at as u32);
        while let Some((_, name)) = symbols.next_if(|symbol| symbol.0 <= addr) {
            writeln!(out, "{name}:")?;
        }
        // Data between functions must not swallow the beginning of the next one.
        let limit = symbols.peek().map_or(usize::MAX, |symbol| symbol.0.wrapping_sub(addr) as usize);
        let rest = &bytes[at..];
        let (len, text) = match decode(rest, addr) {
            Ok(insn) if usize::from(insn.len) <= limit => (usize::from(insn.len), Text(&insn).to_string()),
            Ok(_) => byte(rest[0], "reaches into what follows"),
            Err(DecodeError::TooShort) => byte(rest[0], "cut off"),
            Err(DecodeError::TooLong) => byte(rest[0], "longer than 15 bytes"),
            Err(DecodeError::Undefined) => byte(rest[0], "undefined"),
        };
        let shown: Vec<String> = rest[..len].iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{addr:8x}:  {:<width$} {text}", shown.join(" "), width = BYTES_SHOWN * 3)?;
        at += len;
    }
    Ok(())
}

/// One byte that is no instruction: its length, and its text with the reason.
fn byte(value: u8, why: &str) -> (usize, String) {
    (1, format!("db {value:#04x}{:12}; {why}", ""))
}
