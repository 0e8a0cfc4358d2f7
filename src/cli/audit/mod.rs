//! `table86 audit`: what there is and what is missing.

mod file;
mod run;

use super::Failure;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use table86::isa::proof::{Proof, proof};
use table86::isa::{FORMS, Form, Status};
use table86::kernel::table::{self, SYSCALLS};

/// Counts rows of the instruction tables and of the system call table: declared, implemented, verified on a processor,
/// missing. With a FILE, counts the instructions in its code, and those of them that are missing.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 audit         a table for people\n  \
                        table86 audit --json  the same for programs, with each row\n  \
                        table86 audit ./prog  what is missing for this program\n  \
                        table86 audit --known ROWS --run ./prog ARGS   what a run executes, and what of it no run before did")]
pub(super) struct Audit {
    /// JSON
    #[arg(long)]
    json: bool,
    /// A program, whose code is gone through from beginning to end
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    counted: run::CountedRun,
}

/// Rows of one table of instructions.
#[derive(Default)]
struct Room {
    mnemonics: Vec<&'static str>,
    rows: Vec<Row>,
}

struct Row {
    form: &'static Form,
    state: State,
}

/// How far a row has come.
#[derive(Clone, Copy)]
enum State {
    /// It decodes but does not run, for this reason.
    Missing(&'static str),
    /// It runs, but nobody has compared it.
    Unproven,
    /// It runs.
    Proven(Proof),
}

impl Row {
    fn new(form: &'static Form) -> Row {
        let state = match form.status {
            Status::Todo(why) => State::Missing(why),
            Status::Implemented => proof(form).map_or(State::Unproven, State::Proven),
        };
        Row { form, state }
    }

    fn is_verified(&self) -> bool {
        matches!(self.state, State::Proven(Proof::Verified { .. }))
    }

    /// What is to be said of a row that is not verified, and why.
    fn gap(&self) -> Option<(&'static str, &'static str)> {
        match self.state {
            State::Missing(why) => Some(("missing", why)),
            State::Unproven => Some(("not verified", "nothing is on record in opcodes/PROOF.tsv")),
            State::Proven(Proof::Unverifiable(why)) => Some(("not verifiable", why)),
            State::Proven(Proof::Verified { .. }) => None,
        }
    }

    fn as_json(&self) -> serde_json::Value {
        let Form { mnemonic, op, ops, line, .. } = self.form;
        let mut value = json!({ "mnemonic": mnemonic, "op": op, "operands": ops, "line": line });
        let more = match (self.state, self.gap()) {
            (State::Proven(Proof::Verified { vectors, test, processor }), _) => {
                json!({ "status": "verified", "vectors": vectors, "test": test, "processor": processor })
            }
            (_, Some((status, why))) => json!({ "status": status, "why": why }),
            (_, None) => json!({}),
        };
        if let (Some(all), serde_json::Value::Object(more)) = (value.as_object_mut(), more) {
            all.extend(more);
        }
        value
    }
}

impl Room {
    fn count(&self, is_meant: impl Fn(&Row) -> bool) -> usize {
        self.rows.iter().filter(|row| is_meant(row)).count()
    }

    /// Mnemonics; rows declared, implemented, verified, missing.
    fn counts(&self) -> [usize; 5] {
        let missing = self.count(|row| matches!(row.state, State::Missing(_)));
        let declared = self.rows.len();
        [self.mnemonics.len(), declared, declared - missing, self.count(Row::is_verified), missing]
    }
}

impl Audit {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if self.counted.is_wanted() {
            return self.counted.audit(self.json);
        }
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
    for form in &FORMS {
        let room = rooms.entry(form.room).or_default();
        if !room.mnemonics.contains(&form.mnemonic) {
            room.mnemonics.push(form.mnemonic);
        }
        room.rows.push(Row::new(form));
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
        "{:<14} {:>9} {:>9} {:>12} {:>9} {:>8}",
        "table", "mnemonics", "declared", "implemented", "verified", "missing"
    )?;
    let mut total = [0; 5];
    for (name, room) in rooms {
        let counts = room.counts();
        total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        line(out, name, counts)?;
    }
    line(out, "all", total)?;
    for (name, room) in rooms {
        for row in &room.rows {
            if let Some((what, why)) = row.gap() {
                let Form { mnemonic, op, line, .. } = row.form;
                writeln!(out, "{what}: {mnemonic:<10} {op:<18} {why} (opcodes/{name}.toml:{line})")?;
            }
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

fn line(
    out: &mut impl Write,
    name: &str,
    [mnemonics, declared, implemented, verified, missing]: [usize; 5],
) -> io::Result<()> {
    writeln!(out, "{name:<14} {mnemonics:>9} {declared:>9} {implemented:>12} {verified:>9} {missing:>8}")
}

fn as_json(rooms: &BTreeMap<&str, Room>) -> serde_json::Value {
    let instructions: BTreeMap<&str, serde_json::Value> = rooms
        .iter()
        .map(|(&name, room)| {
            let [mnemonics, declared, implemented, verified, missing] = room.counts();
            let value = json!({
                "mnemonics": mnemonics,
                "declared": declared,
                "implemented": implemented,
                "verified": verified,
                "missing": missing,
                "rows": room.rows.iter().map(Row::as_json).collect::<Vec<_>>(),
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
