//! `table86 dis`: disassembles.

use super::{Failure, NOT_FOUND, NOT_RUNNABLE, values};
use clap::Args;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use table86::audit::coverage;
use table86::disasm::Text;
use table86::isa::decode::NO_REG;
use table86::isa::{Code as Operand, DecodeError, Flow, Insn, Status, decode};
use table86::loader::code::{self, Code, Image};
use table86::loader::{Format, LoadError, hex};

/// Columns for the bytes of an instruction.
const BYTES_SHOWN: usize = 8;

/// Disassembles a program's code, or bytes given in hexadecimal.
///
/// Functions and imported ones have their names, and so have branches' targets. What no table declares is shown as bytes (`db`), what
/// a table declares but does not run is marked.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 dis ./prog                          code of an ELF file\n  \
                        table86 dis --as flat --org 0x1000 image.bin  a flat image\n  \
                        table86 dis --hex 8b 45 f8                    bytes\n  \
                        table86 dis --hex 'b8 04 00 00 00'            the same, as one argument")]
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
            disassemble(&mut out, &bytes, self.org, &Names::default())?;
            return Ok(out.flush()?);
        }
        let [file] = &self.input[..] else {
            return Err(Failure::own("one file at a time; for bytes, say --hex"));
        };
        let path = PathBuf::from(file);
        let image = code::image(&path, self.format.map(Format::from), self.org)
            .map_err(|error| unreadable(&path, &error))?;
        let names = Names::new(&image);
        for (index, code) in image.parts.iter().enumerate() {
            let Code { name, addr, bytes, .. } = code;
            if index > 0 {
                writeln!(out)?;
            }
            if !name.is_empty() {
                writeln!(out, "; {name}, {} bytes", bytes.len())?;
            }
            disassemble(&mut out, bytes, *addr, &names)?;
        }
        Ok(out.flush()?)
    }
}

/// Names of addresses.
#[derive(Default)]
struct Names {
    /// Functions, labels and stubs, ascending.
    code: Vec<(u32, String)>,
    /// Slots of imported functions.
    slots: BTreeMap<u32, String>,
}

impl Names {
    fn new(image: &Image) -> Names {
        let mut code: Vec<(u32, String)> = image.parts.iter().flat_map(|code| code.symbols.clone()).collect();
        code.extend(image.stubs());
        code.sort_unstable();
        code.dedup_by_key(|symbol| symbol.0);
        Names { code, slots: image.imports.clone() }
    }

    /// The names from an address on.
    fn from(&self, addr: u32) -> &[(u32, String)] {
        &self.code[self.code.partition_point(|symbol| symbol.0 < addr)..]
    }

    /// `<main>`, `<main+0x12>`: what an address is in, within the part of the program from `start` to `end`.
    fn of(&self, addr: u32, start: u32, end: u32) -> Option<String> {
        let before = self.code.partition_point(|symbol| symbol.0 <= addr).checked_sub(1)?;
        let (at, name) = &self.code[before];
        let is_far = (start..end).contains(&addr) != (start..end).contains(at);
        match addr - at {
            0 => Some(format!("<{name}>")),
            _ if is_far => None,
            distance => Some(format!("<{name}+{distance:#x}>")),
        }
    }

    /// What is to be said of an instruction's target: of a branch's, or of the slot that it goes through.
    fn target(&self, insn: &Insn, start: u32, end: u32) -> Option<String> {
        let form = insn.form();
        if form.operands.first().is_some_and(|operand| operand.code == Operand::J) {
            return self.of(insn.imm, start, end);
        }
        let mem =
            insn.mem.filter(|mem| mem.base == NO_REG && mem.index == NO_REG && insn.segment.is_none())?;
        let is_branch = matches!(form.flow, Flow::Call | Flow::Jump);
        self.slots.get(&mem.disp).filter(|_| is_branch).map(|name| format!("<{name}>"))
    }
}

/// The error for a file whose code cannot be read.
pub(super) fn unreadable(path: &Path, error: &LoadError) -> Failure {
    let status = if error.is_not_found() { NOT_FOUND } else { NOT_RUNNABLE };
    Failure::new(status, format!("{}: {error}", path.display()))
}

/// Shows one instruction a line, from the first byte to the last, and the names of addresses before them.
fn disassemble(out: &mut impl Write, bytes: &[u8], org: u32, names: &Names) -> io::Result<()> {
    let end = org.saturating_add(bytes.len() as u32);
    let mut at = 0;
    let mut symbols = names.from(org).iter().peekable();
    while at < bytes.len() {
        let addr = org.wrapping_add(at as u32);
        while let Some((_, name)) = symbols.next_if(|symbol| symbol.0 <= addr) {
            writeln!(out, "{name}:")?;
        }
        // Data between functions must not swallow the beginning of the next one.
        let limit = symbols.peek().map_or(usize::MAX, |symbol| symbol.0.wrapping_sub(addr) as usize);
        let rest = &bytes[at..];
        let (len, text) = match decode(rest, addr) {
            Ok(insn) if usize::from(insn.len) <= limit => (insn.len.into(), line(&insn, names, org, end)),
            Ok(_) => data(rest, 1, "reaches into what follows"),
            Err(DecodeError::TooShort) => data(rest, 1, "cut off"),
            Err(DecodeError::TooLong) => data(rest, 1, "longer than 15 bytes"),
            Err(DecodeError::Undefined) => {
                match coverage::undeclared(rest).filter(|(_, len)| *len <= limit) {
                    Some((form, len)) => {
                        let name = form.mnemonic.to_lowercase();
                        data(rest, len, &format!("{name}: {}, no row declares it", form.features))
                    }
                    None => data(rest, 1, "undefined"),
                }
            }
        };
        let shown: Vec<String> = rest[..len].iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{addr:8x}:  {:<width$} {text}", shown.join(" "), width = BYTES_SHOWN * 3)?;
        at += len;
    }
    Ok(())
}

/// An instruction's text, its target's name, and whether it does not run.
fn line(insn: &Insn, names: &Names, start: u32, end: u32) -> String {
    let mut text = Text(insn).to_string();
    if let Some(name) = names.target(insn, start, end) {
        text = format!("{text} {name}");
    }
    match insn.form().status {
        Status::Todo(why) => format!("{text:24}; not implemented: {why}"),
        Status::Implemented => text,
    }
}

/// Bytes that are no instruction, or none that is declared: how many, and their text with the reason.
fn data(bytes: &[u8], len: usize, why: &str) -> (usize, String) {
    let values: Vec<String> = bytes[..len].iter().map(|byte| format!("{byte:#04x}")).collect();
    (len, format!("{:<19}; {why}", format!("db {}", values.join(", "))))
}
