//! `table86 audit`: what there is and what is missing.

mod file;

use super::Failure;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use table86::isa::{FORMS, Status};
use table86::kernel::table::{self, SYSCALLS};

/// Counts rows of the instruction tables and of the system call table: declared, implemented, missing. With a FILE, counts
/// the instructions in its code, and those of them that are missing.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 audit         a table for people\n  \
                        table86 audit --json  the same for programs, with all that is missing\n  \
                        table86 audit ./prog  what is missing for this program")]
pub(super) struct Audit {
    /// JSON
    #[arg(long)]
    json: bool,
    /// A program, whose code is gone through from beginning to end
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Rows of one table of instructions.
#[derive(Default)]
struct Room {
    mnemonics: Vec<&'static str>,
    declared: usize,
    /// What decodes but does not run, and why.
    missing: Vec<Missing>,
}

struct Missing {
    mnemonic: &'static str,
    op: &'static str,
    line: u32,
    why: &'static str,
}

impl Audit {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if let Some(path) = &self.file {
            return file::audit(path, self.json);
        }
        let rooms = rooms();
        let mut out = BufWriter::new(io::stdout().lock());
        if self.json {
            let text = serde_json::to_string_pretty(&as_json(&rooms)).map_err(io::Error::from)?;
            writeln!(out, "{text}")?;
        } else {
            for_people(&mut out, &rooms)?;
        }
        Ok(out.flush()?)
    }
}

fn rooms() -> BTreeMap<&'static str, Room> {
    let mut rooms: BTreeMap<&str, Room> = BTreeMap::new();
    for form in FORMS {
        let room = rooms.entry(form.room).or_default();
        room.declared += 1;
        if !room.mnemonics.contains(&form.mnemonic) {
            room.mnemonics.push(form.mnemonic);
        }
        if let Status::Todo(why) = form.status {
            room.missing.push(Missing { mnemonic: form.mnemonic, op: form.op, line: form.line, why });
        }
    }
    rooms
}

/// Counts of system calls: full, partial, missing.
fn calls() -> [usize; 3] {
    let count = |status| SYSCALLS.iter().filter(|row| row.status == status).count();
    [table::Status::Full, table::Status::Partial, table::Status::Missing].map(count)
}

fn for_people(out: &mut impl Write, rooms: &BTreeMap<&str, Room>) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:>9} {:>9} {:>12} {:>8}",
        "table", "mnemonics", "declared", "implemented", "missing"
    )?;
    let mut total = [0; 3];
    for (name, room) in rooms {
        let missing = room.missing.len();
        let row = [room.mnemonics.len(), room.declared, missing];
        total = [total[0] + row[0], total[1] + row[1], total[2] + row[2]];
        line(out, name, row)?;
    }
    line(out, "all", total)?;
    for (name, room) in rooms {
        for Missing { mnemonic, op, line, why } in &room.missing {
            writeln!(out, "missing: {mnemonic:<10} {op:<18} {why} (opcodes/{name}.toml:{line})")?;
        }
    }
    let [full, partial, missing] = calls();
    writeln!(
        out,
        "\nsystem calls {} declared, {full} full, {partial} partial, {missing} missing",
        SYSCALLS.len()
    )?;
    for row in SYSCALLS.iter().filter(|row| row.status == table::Status::Partial) {
        writeln!(out, "partial: {:<18} {:>3}  {}", row.name, row.nr, row.note)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, name: &str, [mnemonics, declared, missing]: [usize; 3]) -> io::Result<()> {
    writeln!(out, "{name:<12} {mnemonics:>9} {declared:>9} {:>12} {missing:>8}", declared - missing)
}

fn as_json(rooms: &BTreeMap<&str, Room>) -> serde_json::Value {
    let instructions: BTreeMap<&str, serde_json::Value> = rooms
        .iter()
        .map(|(&name, room)| {
            let missing: Vec<_> = room
                .missing
                .iter()
                .map(|m| json!({ "mnemonic": m.mnemonic, "op": m.op, "line": m.line, "why": m.why }))
                .collect();
            let value = json!({
                "mnemonics": room.mnemonics.len(),
                "declared": room.declared,
                "implemented": room.declared - room.missing.len(),
                "missing": missing,
            });
            (name, value)
        })
        .collect();
    let [full, partial, _] = calls();
    let named = |status| -> Vec<_> {
        let rows = SYSCALLS.iter().filter(|row| row.status == status);
        rows.map(|row| json!({ "nr": row.nr, "name": row.name, "note": row.note })).collect()
    };
    json!({
        "instructions": instructions,
        "system_calls": {
            "declared": SYSCALLS.len(),
            "full": full,
            "partial_count": partial,
            "partial": named(table::Status::Partial),
            "missing": named(table::Status::Missing),
        },
    })
}
