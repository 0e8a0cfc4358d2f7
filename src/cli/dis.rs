//! `table86 dis`: disassembles.

use super::{Failure, NOT_FOUND, NOT_RUNNABLE, values};
use clap::Args;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use table86::disasm::Text;
use table86::isa::{DecodeError, decode};
use table86::loader::code::{self, Code};
use table86::loader::{Format, hex};

/// Columns for the bytes of an instruction.
const BYTES_SHOWN: usize = 8;

/// Disassembles a program's code, or bytes given in hexadecimal.
///
/// Undeclared encodings are shown as bytes (`db`).
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
            disassemble(&mut out, &bytes, self.org)?;
            return Ok(out.flush()?);
        }
        let [file] = &self.input[..] else {
            return Err(Failure::own("one file at a time; for bytes, say --hex"));
        };
        let path = PathBuf::from(file);
        let parts = code::read(&path, self.format.map(Format::from), self.org).map_err(|error| {
            let status = if error.is_not_found() { NOT_FOUND } else { NOT_RUNNABLE };
            Failure::new(status, format!("{}: {error}", path.display()))
        })?;
        for (index, Code { name, addr, bytes }) in parts.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            if !name.is_empty() {
                writeln!(out, "; {name}, {} bytes", bytes.len())?;
            }
            disassemble(&mut out, bytes, *addr)?;
        }
        Ok(out.flush()?)
    }
}

/// Shows one instruction a line, from the first byte to the last.
fn disassemble(out: &mut impl Write, bytes: &[u8], org: u32) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        let addr = org.wrapping_add(at as u32);
        let rest = &bytes[at..];
        let (len, text) = match decode(rest, addr) {
            Ok(insn) => (usize::from(insn.len), Text(&insn).to_string()),
            Err(error) => {
                let why = match error {
                    DecodeError::TooShort => "cut off",
                    DecodeError::TooLong => "longer than 15 bytes",
                    DecodeError::Undefined => "undefined",
                };
                (1, format!("db {:#04x}{:12}; {why}", rest[0], ""))
            }
        };
        let shown: Vec<String> = rest[..len].iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{addr:8x}:  {:<width$} {text}", shown.join(" "), width = BYTES_SHOWN * 3)?;
        at += len;
    }
    Ok(())
}
