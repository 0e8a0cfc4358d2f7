//! `table86 audit --run`: which rows and system calls a run executes, how often, and which are new.

use crate::cli::{Failure, count};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use table86::audit::State;
use table86::debug::count::{Detail, Totals};
use table86::isa::{FORMS, Form};
use table86::kernel::table;

/// The options about a run.
#[derive(Args)]
pub(in crate::cli) struct CountedRun {
    /// Run a program, and count the rows and system calls that it executes; options of `run` may stand before PROG. The last option
    #[arg(long = "run", value_name = "PROG ARGS", num_args = 1.., allow_hyphen_values = true)]
    run: Vec<OsString>,
    /// Of a run: show which rows are new over the runs of which FILE knows, and add them to it
    #[arg(long, value_name = "FILE", requires = "run")]
    known: Option<PathBuf>,
    /// Of a run: write the report to FILE [default: stderr]
    #[arg(short = 'o', value_name = "FILE", requires = "run")]
    output: Option<PathBuf>,
}

/// A row in words that stay when lines are moved.
fn row_name(form: &Form) -> String {
    format!("{}: {} {} {}", form.room, form.op, form.mnemonic, form.ops).trim_end().to_owned()
}

impl CountedRun {
    /// Whether one is asked for.
    pub(in crate::cli) fn is_wanted(&self) -> bool {
        !self.run.is_empty()
    }

    /// Runs the program and reports. The exit status is the program's.
    pub(in crate::cli) fn audit(&self, as_json: bool) -> Result<(), Failure> {
        let known = self.known.as_deref().map(read_known).transpose()?;
        let (totals, status) = count::run(&self.run, Detail::Rows)?;
        let executed = || totals.rows.iter().map(|(at, count)| (&FORMS[*at], *count));
        let is_new = |form: &Form| known.as_ref().is_some_and(|known| !known.contains(&row_name(form)));
        let text = if as_json {
            let value = report(&totals, known.is_some(), &is_new);
            serde_json::to_string_pretty(&value).map_err(io::Error::from)? + "\n"
        } else {
            for_people(&totals, known.is_some(), &is_new)
        };
        match &self.output {
            Some(path) => std::fs::write(path, text)
                .map_err(|error| Failure::own(format!("{}: {error}", path.display())))?,
            None => io::stderr().write_all(text.as_bytes())?,
        }
        if let (Some(path), Some(mut known)) = (&self.known, known) {
            known.extend(executed().map(|(form, _)| row_name(form)));
            let lines: String = known.iter().map(|name| format!("{name}\n")).collect();
            std::fs::write(path, lines)
                .map_err(|error| Failure::own(format!("{}: {error}", path.display())))?;
        }
        count::end_as(status)
    }
}

/// Rows of earlier runs; none if there is no such file yet.
fn read_known(path: &Path) -> Result<BTreeSet<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(Failure::own(format!("{}: {error}", path.display()))),
    }
}

/// Rows and calls, the most frequent first.
fn by_count<K: Copy + Ord>(counts: impl Iterator<Item = (K, u64)>) -> Vec<(K, u64)> {
    let mut all: Vec<(K, u64)> = counts.collect();
    all.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
    all
}

fn call_name(nr: u32) -> String {
    table::info(nr).map_or_else(|| format!("{nr:#x}"), |row| row.name.to_owned())
}

fn for_people(totals: &Totals, comparing: bool, is_new: &dyn Fn(&Form) -> bool) -> String {
    let rows = by_count(totals.rows.iter().map(|(at, count)| (*at, *count)));
    let calls = by_count(totals.calls.iter().map(|(nr, count)| (*nr, *count)));
    let new = rows.iter().filter(|(at, _)| is_new(&FORMS[*at])).count();
    let mut text = format!(
        "{} instructions of {} rows, {} system calls of {} kinds",
        totals.instructions(),
        rows.len(),
        calls.iter().map(|(_, count)| count).sum::<u64>(),
        calls.len()
    );
    text += &if comparing { format!("; {new} rows are new\n") } else { "\n".to_owned() };
    for (at, count) in rows {
        let form = &FORMS[at];
        let Form { op, mnemonic, ops, room, line, .. } = form;
        let mark = if is_new(form) { "new " } else { "" };
        let standing = match State::of(form).name() {
            "verified" => String::new(),
            other => format!("  {other}"),
        };
        let insn = format!("{mnemonic} {ops}");
        text += &format!("{count:>15} {mark}{op:<16} {insn:<28} opcodes/{room}.toml:{line}{standing}\n");
    }
    for (nr, count) in calls {
        text += &format!("{count:>15} {} ({nr})\n", call_name(nr));
    }
    text
}

fn report(totals: &Totals, comparing: bool, is_new: &dyn Fn(&Form) -> bool) -> Value {
    let row = |(at, count): (usize, u64)| {
        let form = &FORMS[at];
        let mut value = json!({
            "mnemonic": form.mnemonic, "op": form.op, "operands": form.ops, "room": form.room, "line": form.line,
            "status": State::of(form).name(), "count": count,
        });
        if comparing && let Some(map) = value.as_object_mut() {
            map.insert("new".into(), json!(is_new(form)));
        }
        value
    };
    let call = |(nr, count): (u32, u64)| json!({ "nr": nr, "name": call_name(nr), "count": count });
    let rows = by_count(totals.rows.iter().map(|(at, count)| (*at, *count)));
    let calls = by_count(totals.calls.iter().map(|(nr, count)| (*nr, *count)));
    json!({
        "instructions": totals.instructions(),
        "rows": rows.into_iter().map(row).collect::<Vec<_>>(),
        "system_calls": calls.into_iter().map(call).collect::<Vec<_>>(),
    })
}
