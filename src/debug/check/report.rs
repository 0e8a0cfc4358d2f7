//! A divergence in words.

use super::mirror::{Bytes, Mapping};
use super::state::{Flags, REGISTERS, Registers, SEGMENTS, State};
use crate::cpu::eflags;
use crate::disasm;
use crate::isa::decode::MAX_LEN;
use crate::isa::{Insn, decode};
use goblin::elf::Elf;
use std::fmt;
use std::path::Path;

/// An instruction that was executed.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its address.
    pub eip: u32,
    /// The bytes there.
    pub bytes: [u8; MAX_LEN],
    /// How many of them there are.
    pub len: usize,
}

impl Step {
    /// The instruction, if it is one.
    pub fn insn(&self) -> Option<Insn> {
        decode(&self.bytes[..self.len], self.eip).ok()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, text) = match self.insn() {
            Some(insn) => (usize::from(insn.len), disasm::text(&insn)),
            None => (self.len.min(8), "(no instruction)".to_owned()),
        };
        let hex: Vec<String> = self.bytes[..len].iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "{:#010x}  {:<23} {text}", self.eip, hex.join(" "))
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// A register, a flag, memory at an address, or how the instruction ended.
    pub what: String,
    /// The reference's.
    pub reference: String,
    /// Table86's.
    pub ours: String,
}

impl Difference {
    pub(super) fn new(what: impl Into<String>, reference: impl ToString, ours: impl ToString) -> Difference {
        Difference { what: what.into(), reference: reference.to_string(), ours: ours.to_string() }
    }
}

impl From<Bytes> for Difference {
    fn from(bytes: Bytes) -> Difference {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        Difference::new(format!("memory at {:#010x}", bytes.addr), hex(&bytes.reference), hex(&bytes.ours))
    }
}

/// What differs between two states, less the `undefined` bits of EFLAGS.
pub(super) fn differences(reference: &State, ours: &State, undefined: u32) -> Vec<Difference> {
    let (theirs, mine) = (&reference.registers, &ours.registers);
    let mut found = Vec::new();
    let mut compare = |name: &str, theirs: u32, mine: u32| {
        if theirs != mine {
            found.push(Difference::new(name, format!("{theirs:08x}"), format!("{mine:08x}")));
        }
    };
    for (name, (theirs, mine)) in REGISTERS.iter().zip(theirs.regs.into_iter().zip(mine.regs)) {
        compare(name, theirs, mine);
    }
    compare("eip", theirs.eip, mine.eip);
    for (name, (theirs, mine)) in SEGMENTS.iter().zip(theirs.selectors.into_iter().zip(mine.selectors)) {
        compare(name, theirs.into(), mine.into());
    }
    for (name, (theirs, mine)) in ["fs base", "gs base"].iter().zip(theirs.bases.into_iter().zip(mine.bases))
    {
        compare(name, theirs, mine);
    }
    let flags = (theirs.eflags ^ mine.eflags) & !(undefined | NOT_COMPARED);
    if flags != 0 {
        found.push(Difference::new(
            format!("flags {}", Flags(flags)),
            Flags(theirs.eflags & flags),
            Flags(mine.eflags & flags),
        ));
    }
    let images = reference.image.differences(&ours.image);
    found.extend(images.into_iter().map(|(name, theirs, mine)| Difference::new(name, theirs, mine)));
    found
}

/// Bits of EFLAGS that tracing changes.
const NOT_COMPARED: u32 = eflags::RF | eflags::TF | eflags::IF;

/// The first place where both sides disagree.
#[derive(Clone)]
pub struct Divergence {
    /// The process.
    pub pid: i32,
    /// How many instructions of it had been executed, and agreed.
    pub agreed: u64,
    /// How many were executed since; the culprit is among them.
    pub window: u64,
    /// What an instruction's row says of its results told the difference; else it was a look at all memory, which an
    /// instruction has changed that should not have.
    pub by_row: bool,
    /// The instruction, if it is only one.
    pub step: Option<Step>,
    /// Where that is: file or function, with an offset.
    pub place: String,
    /// What differs.
    pub differences: Vec<Difference>,
    /// The registers before.
    pub before: Registers,
    /// The reference's state.
    pub reference: State,
    /// Table86's state.
    pub ours: State,
    /// Who is believed.
    pub reference_name: &'static str,
    /// The last instructions that were executed before.
    pub history: Vec<Step>,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.reference_name;
        let place = &self.place;
        match &self.step {
            Some(step) => {
                let number = self.agreed + 1;
                writeln!(f, "divergence at instruction {number} of process {}{place}", self.pid)?;
                writeln!(f, "  {step}")?;
                if let Some(insn) = step.insn() {
                    let form = insn.form();
                    let row = format!("opcodes/{}.toml:{}", form.room, form.line);
                    writeln!(f, "  row        {row}  {} {} {}", form.op, form.mnemonic, form.ops)?;
                }
            }
            None => {
                let (window, agreed) = (self.window, self.agreed);
                writeln!(
                    f,
                    "divergence within {window} instructions behind instruction {agreed} of process {}{place}",
                    self.pid
                )?;
                if self.by_row {
                    writeln!(f, "  --skip {agreed} --every 1 compares each of them")?;
                } else {
                    writeln!(f, "  found in memory that none of them was to change, or not yet read again")?;
                }
            }
        }
        let width = self.differences.iter().map(|difference| difference.what.len()).max().unwrap_or(0);
        for Difference { what, reference, ours } in &self.differences {
            writeln!(f, "  {what:<width$}  {name} {reference}, Table86 {ours}")?;
        }
        writeln!(f, "  before     {}", self.before)?;
        writeln!(f, "  {name:<10} {}", self.reference.registers)?;
        writeln!(f, "  Table86    {}", self.ours.registers)?;
        if !self.history.is_empty() {
            writeln!(f, "  instructions before:")?;
            self.history.iter().try_for_each(|step| writeln!(f, "    {step}"))?;
        }
        Ok(())
    }
}

/// What `addr` is called: ` (file+0x12, function+0x3)`, as far as that is known.
pub(super) fn place(mappings: &[Mapping], addr: u32) -> String {
    let Some(at) = mappings.iter().position(|mapping| (mapping.start..mapping.end).contains(&addr)) else {
        return ", where nothing is mapped".to_owned();
    };
    let path = &mappings[at].name;
    let Some(name) = path.file_name() else { return String::new() };
    let base = mappings[..=at].iter().find(|mapping| mapping.name == *path).map_or(0, |first| first.start);
    let symbol = symbol(path, base, addr).map(|text| format!(", {text}")).unwrap_or_default();
    format!(" ({}+{:#x}{symbol})", name.display(), addr.wrapping_sub(base))
}

/// The function that holds `addr` in a file that was mapped from `base` on.
fn symbol(path: &Path, base: u32, addr: u32) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let elf = Elf::parse(&bytes).ok()?;
    let first =
        elf.program_headers.iter().find(|header| header.p_type == goblin::elf::program_header::PT_LOAD)?;
    let bias = u64::from(base).wrapping_sub(first.p_vaddr & !0xfff);
    let wanted = u64::from(addr).wrapping_sub(bias);
    let in_table = elf.syms.iter().map(|symbol| (symbol, &elf.strtab));
    let (symbol, names) = in_table
        .chain(elf.dynsyms.iter().map(|symbol| (symbol, &elf.dynstrtab)))
        .filter(|(symbol, _)| symbol.is_function() && symbol.st_value != 0 && symbol.st_value <= wanted)
        .filter(|(symbol, _)| symbol.st_size == 0 || wanted < symbol.st_value + symbol.st_size)
        .max_by_key(|(symbol, _)| symbol.st_value)?;
    Some(format!("{}+{:#x}", names.get_at(symbol.st_name)?, wanted - symbol.st_value))
}

/// Whether two 80-bit numbers are the same but for the last bit.
pub(super) fn is_next_to(a: (u64, u16), b: (u64, u16)) -> bool {
    let wide =
        |(significand, exponent): (u64, u16)| u128::from(exponent & 0x7fff) << 64 | u128::from(significand);
    let (low, high) = if wide(a) < wide(b) { (a, b) } else { (b, a) };
    // From the largest significand of one exponent it goes on with the smallest of the next.
    let carried = low.0 == u64::MAX && high.0 == 1 << 63 && low.1 + 1 == high.1;
    a.1 >> 15 == b.1 >> 15 && (carried || low.1 == high.1 && high.0 - low.0 <= 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_unit_apart() {
        assert!(is_next_to((1 << 63, 0x3fff), (1 << 63 | 1, 0x3fff)));
        assert!(is_next_to((u64::MAX, 0x3ffe), (1 << 63, 0x3fff)));
        assert!(!is_next_to((1 << 63, 0x3fff), (1 << 63 | 2, 0x3fff)));
        assert!(!is_next_to((1 << 63, 0x3fff), (1 << 63, 0xbfff)));
    }
}
