//! Goes through a program's code and counts what is missing for it.

use crate::cli::{Failure, dis};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use table86::isa::{CpuModel, FORMS, Form, Status, decode};
use table86::loader::code::{self, Code};

/// Bytes of an undeclared encoding that tell it from others: escape, opcode, ModRM.
const SHOWN: usize = 3;

/// What is in a program's code.
struct Counts {
    /// The processor that it is to run on.
    cpu: CpuModel,
    /// Instructions decoded, by index into [`FORMS`].
    forms: BTreeMap<u16, u64>,
    /// Bytes at which nothing declared starts, by how they begin; how often, and where first.
    undeclared: BTreeMap<Vec<u8>, (u64, u32)>,
}

impl Counts {
    fn add(&mut self, code: &Code) {
        let mut at = 0;
        let mut symbols = code.symbols.iter().peekable();
        while at < code.bytes.len() {
            let addr = code.addr.wrapping_add(at as u32);
            while symbols.next_if(|symbol| symbol.0 <= addr).is_some() {}
            let rest = &code.bytes[at..];
            match decode(rest, addr) {
                Ok(insn) => {
                    *self.forms.entry(insn.index).or_default() += 1;
                    at += usize::from(insn.len);
                }
                Err(_) => {
                    let begin = rest[..rest.len().min(SHOWN)].to_vec();
                    self.undeclared.entry(begin).or_insert((0, addr)).0 += 1;
                    // Where it ends is unknown; the next function begins somewhere certain.
                    let next = symbols.peek().map(|symbol| symbol.0.wrapping_sub(code.addr) as usize);
                    at = next.unwrap_or(at + 1);
                }
            }
        }
    }

    fn instructions(&self) -> u64 {
        self.forms.values().sum()
    }

    /// Rows that are declared but do not run, or not on this processor, with how often they occur.
    fn missing(&self) -> Vec<(&'static Form, String, u64)> {
        let rows = self.forms.iter().filter_map(|(&index, &count)| {
            let form = &FORMS[usize::from(index)];
            let lacks = self.cpu.lacks(form.cpuid);
            match form.status {
                // Without its prefix it is another instruction.
                _ if !lacks.is_empty() && form.without_prefix.is_none() => {
                    Some((form, format!("{} has no {}", self.cpu.model().name, lacks.join(" ")), count))
                }
                Status::Todo(why) => Some((form, why.to_owned(), count)),
                Status::Implemented => None,
            }
        });
        rows.collect()
    }

    /// Undeclared encodings, the most frequent first.
    fn undeclared(&self) -> Vec<(String, u64, u32)> {
        let mut all: Vec<(String, u64, u32)> =
            self.undeclared.iter().map(|(begin, &(count, addr))| (hex(begin), count, addr)).collect();
        all.sort_by_key(|entry| std::cmp::Reverse(entry.1));
        all
    }
}

fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

/// Shows the counts for the program at `path` on this processor.
pub(super) fn audit(path: &Path, cpu: &CpuModel, as_json: bool) -> Result<(), Failure> {
    let parts = code::read(path, None, 0).map_err(|error| dis::unreadable(path, &error))?;
    let mut counts = Counts { cpu: *cpu, forms: BTreeMap::new(), undeclared: BTreeMap::new() };
    parts.iter().for_each(|code| counts.add(code));
    let mut out = BufWriter::new(io::stdout().lock());
    if as_json {
        let text = serde_json::to_string_pretty(&json_of(&counts)).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        for_people(&mut out, &counts)?;
    }
    Ok(out.flush()?)
}

fn for_people(out: &mut impl Write, counts: &Counts) -> io::Result<()> {
    let (missing, undeclared) = (counts.missing(), counts.undeclared());
    writeln!(out, "{} instructions of {} forms", counts.instructions(), counts.forms.len())?;
    for (form, why, count) in &missing {
        let Form { mnemonic, op, room, line, .. } = form;
        writeln!(out, "missing: {count:>6} {mnemonic:<10} {op:<18} {why} (opcodes/{room}.toml:{line})")?;
    }
    for (begin, count, addr) in undeclared.iter().take(20) {
        writeln!(out, "undeclared: {count:>6} {begin:<9} first at {addr:#x}; perhaps data")?;
    }
    if undeclared.len() > 20 {
        writeln!(out, "undeclared: {} more kinds, see --json", undeclared.len() - 20)?;
    }
    if missing.is_empty() && undeclared.is_empty() {
        writeln!(out, "nothing is missing")?;
    }
    Ok(())
}

fn json_of(counts: &Counts) -> serde_json::Value {
    let missing: Vec<_> = counts
        .missing()
        .into_iter()
        .map(|(form, why, count)| {
            json!({ "mnemonic": form.mnemonic, "op": form.op, "room": form.room, "line": form.line, "why": why, "count": count })
        })
        .collect();
    let undeclared: Vec<_> = counts
        .undeclared()
        .into_iter()
        .map(|(begin, count, addr)| json!({ "bytes": begin, "count": count, "first": addr }))
        .collect();
    json!({
        "instructions": counts.instructions(),
        "forms": counts.forms.len(),
        "missing": missing,
        "undeclared": undeclared,
    })
}
