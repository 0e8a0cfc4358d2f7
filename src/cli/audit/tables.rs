//! What of the tables there is and what is missing, as text and as JSON.

use super::{Audit, FailOn, Found, grid, html};
use crate::cli::Failure;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use table86::audit::State;
use table86::audit::coverage::{Totals, by_feature};
use table86::audit::opcode_map::{CellState, Grid, grids};
use table86::isa::proof::{Comparison, Proof};
use table86::isa::{CpuModel, FEATURES, FORMS, Form};
use table86::kernel::table::{self, SYSCALLS};

/// Rows of one table of instructions.
#[derive(Default)]
pub(super) struct Room {
    mnemonics: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

pub(super) struct Row {
    pub(super) form: &'static Form,
    pub(super) state: State,
}

impl Row {
    fn new(form: &'static Form) -> Row {
        Row { form, state: State::of(form) }
    }

    fn as_json(&self) -> serde_json::Value {
        let Form { mnemonic, op, ops, line, .. } = self.form;
        let mut value = json!({ "mnemonic": mnemonic, "op": op, "operands": ops, "line": line });
        let more = match (self.state, self.state.gap()) {
            (State::Proven(Proof::Verified(comparisons)), _) => {
                let each = comparisons.iter().map(|Comparison { vectors, test, processor }| {
                    json!({ "vectors": vectors, "test": test, "processor": processor })
                });
                json!({ "status": "verified", "by": each.collect::<Vec<_>>() })
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
    pub(super) fn counts(&self) -> [usize; 5] {
        let missing = self.count(|row| row.state.is_missing());
        let declared = self.rows.len();
        [
            self.mnemonics.len(),
            declared,
            declared - missing,
            self.count(|row| row.state.is_verified()),
            missing,
        ]
    }
}

/// Shows the tables; of a processor that is named, the rows that it has.
pub(super) fn audit(audit: &Audit, cpu: Option<&CpuModel>) -> Result<Found, Failure> {
    let rooms = rooms(cpu);
    let mut out = BufWriter::new(io::stdout().lock());
    if audit.json {
        let text = serde_json::to_string_pretty(&as_json(&rooms, cpu)).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        for_people(&mut out, &rooms, cpu)?;
    }
    out.flush()?;
    if let Some(path) = &audit.html {
        html::write(path, &html::tables(&rooms))?;
    }
    let count = |is_meant: fn(&Row) -> bool| rooms.values().map(|room| room.count(is_meant) as u64).sum();
    Ok(vec![
        (FailOn::Missing, count(|row| row.state.is_missing())),
        (FailOn::Unverified, count(|row| row.state == State::Unproven)),
    ])
}

fn rooms(cpu: Option<&CpuModel>) -> BTreeMap<&'static str, Room> {
    let mut rooms: BTreeMap<&str, Room> = BTreeMap::new();
    for form in FORMS.iter().filter(|form| cpu.is_none_or(|cpu| cpu.has_all(form.cpuid))) {
        let room = rooms.entry(form.room).or_default();
        if !room.mnemonics.contains(&form.mnemonic) {
            room.mnemonics.push(form.mnemonic);
        }
        room.rows.push(Row::new(form));
    }
    rooms
}

/// Names of a processor's features: those that CPUID shows, and those that it does not for want of a row.
fn cpuid_features(cpu: &CpuModel) -> [Vec<&'static str>; 2] {
    let names = |shown: bool| {
        let had = FEATURES.iter().filter(|feature| cpu.has_all(&[feature.name]));
        had.filter(|feature| cpu.shows(feature) == shown).map(|feature| feature.name).collect()
    };
    [names(true), names(false)]
}

fn processor(out: &mut impl Write, cpu: &CpuModel) -> io::Result<()> {
    let [shown, hidden] = cpuid_features(cpu);
    let others = FORMS.iter().filter(|form| !cpu.has_all(form.cpuid)).count();
    writeln!(out, "--cpu {}: {others} rows are of other processors", cpu.model().name)?;
    writeln!(out, "CPUID shows {}", shown.join(" "))?;
    if !hidden.is_empty() {
        writeln!(out, "CPUID hides {}", hidden.join(" "))?;
    }
    writeln!(out)
}

/// Counts of system calls: full, partial, missing.
fn calls() -> [usize; 3] {
    let count = |status| SYSCALLS.iter().filter(|row| row.status == status).count();
    [table::Status::Full, table::Status::Partial, table::Status::Missing].map(count)
}

fn for_people(out: &mut impl Write, rooms: &BTreeMap<&str, Room>, cpu: Option<&CpuModel>) -> io::Result<()> {
    match cpu {
        Some(cpu) => processor(out, cpu)?,
        None => {
            grid::draw(out)?;
            writeln!(out)?;
        }
    }
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
    if cpu.is_none() {
        features(out)?;
    }
    writeln!(out)?;
    for (name, room) in rooms {
        for row in &room.rows {
            if let Some((what, why)) = row.state.gap() {
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

/// Totals by CPUID feature, and what of each no row declares.
fn features(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "\n{:<14} {:>9} {:>9} {:>12} {:>9}  not declared",
        "feature", "forms", "declared", "implemented", "verified"
    )?;
    let totals = by_feature();
    for (feature, Totals { forms, declared, implemented, verified, undeclared }) in &totals {
        if *declared > 0 {
            let names = undeclared.join(" ");
            let text =
                format!("{feature:<14} {forms:>9} {declared:>9} {implemented:>12} {verified:>9}  {names}");
            writeln!(out, "{}", text.trim_end())?;
        }
    }
    writeln!(out, "\nfeatures of which no row declares anything, with their forms")?;
    let names: Vec<String> = totals
        .iter()
        .filter(|(_, total)| total.declared == 0)
        .map(|(feature, total)| format!("{} {}", feature.replace(' ', "+"), total.forms))
        .collect();
    let mut line = String::new();
    for name in names {
        if line.len() + name.len() > 96 {
            writeln!(out, "  {line}")?;
            line.clear();
        }
        let comma = if line.is_empty() { "" } else { ", " };
        line = format!("{line}{comma}{name}");
    }
    writeln!(out, "  {line}")
}

fn line(
    out: &mut impl Write,
    name: &str,
    [mnemonics, declared, implemented, verified, missing]: [usize; 5],
) -> io::Result<()> {
    writeln!(out, "{name:<14} {mnemonics:>9} {declared:>9} {implemented:>12} {verified:>9} {missing:>8}")
}

fn as_json(rooms: &BTreeMap<&str, Room>, cpu: Option<&CpuModel>) -> serde_json::Value {
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
    let cpu = cpu.map(|cpu| {
        let [shown, hidden] = cpuid_features(cpu);
        json!({ "model": cpu.model().name, "shown": shown, "hidden": hidden })
    });
    json!({
        "cpu": cpu,
        "maps": grids().iter().map(grid_as_json).collect::<Vec<_>>(),
        "features": by_feature().iter().map(feature_as_json).collect::<Vec<_>>(),
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

fn feature_as_json((feature, total): (&&'static str, &Totals)) -> serde_json::Value {
    let Totals { forms, declared, implemented, verified, undeclared } = total;
    json!({
        "feature": feature,
        "forms": forms,
        "declared": declared,
        "implemented": implemented,
        "verified": verified,
        "undeclared": undeclared,
    })
}

/// A map, without its undefined cells.
fn grid_as_json(grid: &Grid) -> serde_json::Value {
    let mut cells = Vec::new();
    for (line, row) in &grid.lines {
        for (column, cell) in grid.columns.iter().zip(row) {
            if cell.state() != CellState::Undefined {
                let mnemonics = if cell.prefix.is_empty() { cell.mnemonics() } else { vec![cell.prefix] };
                cells.push(json!({ "line": line, "column": column, "state": cell.state().name(), "mnemonics": mnemonics }));
            }
        }
    }
    json!({ "title": grid.title, "cells": cells })
}
