//! `table86 isa`: looks up the instruction tables.

use super::Failure;
use clap::Args;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use table86::disasm::Text;
use table86::isa::{
    Departure, FORMS, FlagFacts, Flow, Form, Lock, Privilege, Rep, Status, VendorFlags, decode, flag,
};
use table86::loader::hex;

/// Looks up an instruction by its mnemonic or by its bytes; without either, lists all mnemonics.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 isa             all mnemonics, by table\n  \
                        table86 isa shld        its forms, flags and rows\n  \
                        table86 isa 0f a4 c2 05 the instruction that these bytes are")]
pub(super) struct Isa {
    /// A mnemonic, or bytes in hexadecimal
    #[arg(value_name = "MNEMONIC|BYTES")]
    query: Vec<String>,
}

impl Isa {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let mut out = BufWriter::new(io::stdout().lock());
        if self.query.is_empty() {
            list(&mut out)?;
            return Ok(out.flush()?);
        }
        let query = self.query.join(" ");
        let forms: Vec<&Form> =
            FORMS.iter().filter(|form| form.mnemonic.eq_ignore_ascii_case(&query)).collect();
        if !forms.is_empty() {
            mnemonic(&mut out, &forms)?;
            return Ok(out.flush()?);
        }
        match hex::parse(query.as_bytes()) {
            Ok(bytes) => self::bytes(&mut out, &bytes)?,
            Err(_) => return Err(unknown(&query)),
        }
        Ok(out.flush()?)
    }
}

/// The error for what is neither, with mnemonics that come close.
fn unknown(query: &str) -> Failure {
    let query = query.to_ascii_lowercase();
    let mut close: Vec<&str> = FORMS
        .iter()
        .map(|form| form.mnemonic)
        .filter(|name| query.len() > 1 && name.contains(&query))
        .collect();
    close.sort_unstable();
    close.dedup();
    close.truncate(12);
    let hint = if close.is_empty() {
        "`table86 isa` lists all".to_owned()
    } else {
        format!("near it: {}", close.join(" "))
    };
    Failure::own(format!("`{query}` is neither a mnemonic in the tables nor bytes in hexadecimal; {hint}"))
}

/// All mnemonics by table.
fn list(out: &mut impl Write) -> io::Result<()> {
    let mut rooms: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for form in FORMS {
        let names = rooms.entry(form.room).or_default();
        if !names.contains(&form.mnemonic) {
            names.push(form.mnemonic);
        }
    }
    for (room, mut names) in rooms {
        names.sort_unstable();
        writeln!(out, "{room} ({})", names.len())?;
        let mut line = String::new();
        for name in names {
            if line.len() + name.len() > 100 {
                writeln!(out, " {line}")?;
                line.clear();
            }
            line.push(' ');
            line.push_str(name);
        }
        writeln!(out, " {line}")?;
    }
    Ok(())
}

/// All forms of one mnemonic.
fn mnemonic(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    let mut doc = "";
    for form in forms {
        if form.doc != doc {
            writeln!(out, "{}: {}", form.mnemonic, form.doc)?;
            doc = form.doc;
        }
        writeln!(out, "  {:<18} {:<26} opcodes/{}.toml:{}", form.op, form.ops, form.room, form.line)?;
        facts(out, form)?;
    }
    Ok(())
}

/// What a form does beside its operation.
fn facts(out: &mut impl Write, form: &Form) -> io::Result<()> {
    let mut facts = vec![flags(&form.flags)];
    match form.lock {
        Lock::Never => {}
        Lock::Legal => facts.push("LOCK with a memory operand".to_owned()),
        Lock::Always => facts.push("locked with a memory operand, with LOCK or without".to_owned()),
    }
    match form.rep {
        Rep::Ignored => {}
        Rep::Rep => facts.push("REP".to_owned()),
        Rep::Repe => facts.push("REPE, REPNE".to_owned()),
    }
    match form.privilege {
        Privilege::User => {}
        Privilege::Cpl => facts.push("privileged: #GP(0)".to_owned()),
        Privilege::Iopl => facts.push("#GP(0) unless IOPL allows it".to_owned()),
    }
    match form.flow {
        Flow::Next | Flow::Sync => {}
        Flow::Branch => facts.push("branches".to_owned()),
        Flow::Jump => facts.push("jumps".to_owned()),
        Flow::Call => facts.push("calls".to_owned()),
        Flow::Ret => facts.push("returns".to_owned()),
        Flow::Far => facts.push("changes CS".to_owned()),
        Flow::Trap => facts.push("always traps".to_owned()),
    }
    if !form.exceptions.is_empty() {
        facts.push(format!("raises {}", form.exceptions.join(" ")));
    }
    if !form.cpuid.is_empty() {
        facts.push(format!("needs {}", form.cpuid.join(" ")));
    }
    if let Status::Todo(why) = form.status {
        facts.push(format!("not implemented: {why}"));
    }
    writeln!(out, "      {}", facts.join("; "))?;
    if !form.note.is_empty() {
        writeln!(out, "      note: {}", form.note)?;
    }
    for Departure { vendor, part, how } in form.departures {
        writeln!(out, "      {vendor}, {part}: {how}")?;
    }
    for theirs in form.flags.vendors {
        writeln!(out, "      {}, undefined flags: {}", theirs.vendor, undefined(&form.flags, theirs))?;
    }
    Ok(())
}

/// `A cleared`, of a vendor's undefined flags.
fn undefined(facts: &FlagFacts, theirs: &VendorFlags) -> String {
    let case = |at: usize| {
        let effects = [
            (theirs.cleared, "cleared"),
            (theirs.set, "set"),
            (theirs.kept, "kept"),
            (theirs.written, "written"),
        ];
        let effects = effects.iter().filter(|(masks, _)| masks[at] != 0);
        effects
            .map(|(masks, effect)| format!("{} {effect}", letters(masks[at])))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !facts.by_count {
        return case(0);
    }
    let cases = [("0", 0), ("1", 1), ("more", 2)].map(|(count, at)| (count, case(at)));
    let said = cases.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(count, text)| format!("count {count}: {text}")).collect::<Vec<_>>().join("; ")
}

/// The letters of a flag mask.
fn letters(mask: u8) -> String {
    const LETTERS: [(u8, char); 7] = [
        (flag::O, 'O'),
        (flag::S, 'S'),
        (flag::Z, 'Z'),
        (flag::A, 'A'),
        (flag::P, 'P'),
        (flag::C, 'C'),
        (flag::D, 'D'),
    ];
    LETTERS.iter().filter(|(bit, _)| mask & bit != 0).map(|&(_, letter)| letter).collect()
}

/// `flags: writes OSZAPC, A undefined`.
fn flags(facts: &FlagFacts) -> String {
    let mut parts = Vec::new();
    if facts.reads != 0 {
        parts.push(format!("reads {}", letters(facts.reads)));
    }
    if !facts.writes {
        parts.push("changes none".to_owned());
    } else if facts.by_count {
        for (count, index) in [("0", 0), ("1", 1), ("more", 2)] {
            parts.push(format!("count {count}: {}", written(facts, index)));
        }
    } else {
        parts.push(written(facts, 0));
    }
    format!("flags: {}", parts.join(", "))
}

/// What happens to the flags for one kind of count.
fn written(facts: &FlagFacts, index: usize) -> String {
    let (kills, undefined) = (facts.kills[index], facts.undefined[index]);
    let defined = kills & !undefined;
    match (defined, undefined) {
        (0, 0) => "none".to_owned(),
        (_, 0) => format!("sets {}", letters(defined)),
        (0, _) => format!("{} undefined", letters(undefined)),
        _ => format!("sets {}, {} undefined", letters(defined), letters(undefined)),
    }
}

/// The instructions that bytes are.
fn bytes(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    let mut at = 0;
    while at < bytes.len() {
        let insn = decode(&bytes[at..], at as u32)
            .map_err(|error| Failure::own(format!("{}at byte {at}: {error}", shown(&bytes[at..]))))?;
        let form = insn.form();
        let len = usize::from(insn.len);
        writeln!(out, "{}{}", shown(&bytes[at..at + len]), Text(&insn))?;
        writeln!(out, "  {}", form.doc)?;
        writeln!(out, "  {:<18} {:<26} opcodes/{}.toml:{}", form.op, form.ops, form.room, form.line)?;
        facts(out, form)?;
        at += len;
    }
    Ok(())
}

/// At most 15 bytes in hexadecimal, a blank behind each.
fn shown(bytes: &[u8]) -> String {
    bytes.iter().take(15).map(|byte| format!("{byte:02x} ")).collect()
}
