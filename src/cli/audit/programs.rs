//! What is in programs' code, as text and as JSON.

use super::files::{Examined, examine_all};
use super::{Audit, FailOn, Found, html};
use crate::cli::Failure;
use serde_json::{Value, json};
use std::io::{self, BufWriter, Write};
use table86::audit::State;
use table86::audit::program::{Findings, How, Tally};
use table86::isa::{CpuModel, FORMS, Form};
use table86::kernel::table::{SYSCALLS, Status};

/// One thing that occurs in code.
pub(super) struct Line<'a> {
    pub mnemonic: String,
    /// Its encoding, as the row or the manual writes it.
    pub op: &'static str,
    /// The row, if one declares it.
    pub form: Option<&'static Form>,
    /// CPUID features, blanks between.
    pub features: String,
    pub tally: &'a Tally,
    /// Why it does not run; nothing if it does.
    pub missing: Option<&'static str>,
    pub is_unverified: bool,
    /// The model does not have it.
    pub is_outside: bool,
}

/// Everything that occurs, the most frequent first.
pub(super) fn lines<'a>(findings: &'a Findings, model: &CpuModel) -> Vec<Line<'a>> {
    let declared = findings.forms.iter().map(|(index, tally)| {
        let form = &FORMS[usize::from(*index)];
        let state = State::of(form);
        Line {
            mnemonic: form.mnemonic.to_owned(),
            op: form.op,
            form: Some(form),
            features: form.cpuid.join(" "),
            tally,
            missing: state.gap().filter(|_| state.is_missing()).map(|(_, why)| why),
            is_unverified: state == State::Unproven,
            is_outside: !model.has_all(form.cpuid),
        }
    });
    let undeclared = findings.undeclared.iter().map(|(name, (tally, form))| Line {
        mnemonic: name.to_lowercase(),
        op: form.op,
        form: None,
        features: form.features.to_owned(),
        tally,
        missing: Some("no row declares it"),
        is_unverified: false,
        is_outside: true,
    });
    let mut lines: Vec<Line<'_>> = declared.chain(undeclared).collect();
    lines.sort_by_key(|line| std::cmp::Reverse((line.tally.certain(), line.tally.count())));
    lines
}

impl Line<'_> {
    /// `1234`, or `12 (3 doubtful)`.
    fn count(&self) -> String {
        let (certain, all) = (self.tally.certain(), self.tally.count());
        if certain == all { all.to_string() } else { format!("{certain} (+{} doubtful)", all - certain) }
    }

    fn place(&self) -> String {
        match self.form {
            Some(form) => format!("opcodes/{}.toml:{}", form.room, form.line),
            None => "-".to_owned(),
        }
    }
}

/// Examines what the arguments name and shows it.
pub(super) fn audit(audit: &Audit, model: CpuModel) -> Result<Found, Failure> {
    let examined = examine_all(&audit.files)?;
    let lines = lines(&examined.total, &model);
    let mut out = BufWriter::new(io::stdout().lock());
    if audit.json {
        let text =
            serde_json::to_string_pretty(&as_json(&examined, &lines, &model)).map_err(io::Error::from)?;
        writeln!(out, "{text}")?;
    } else {
        let with_rows = audit.rows || examined.programs.len() == 1;
        for_people(&mut out, &examined, &lines, &model, with_rows)?;
    }
    out.flush()?;
    if let Some(path) = &audit.html {
        html::write(path, &html::programs(&examined, &lines))?;
    }
    let count = |is_meant: fn(&&Line<'_>) -> bool| {
        lines.iter().filter(is_meant).map(|line| line.tally.certain()).sum()
    };
    Ok(vec![
        (FailOn::Missing, count(|line| line.missing.is_some())),
        (FailOn::Unverified, count(|line| line.is_unverified)),
        (FailOn::Outside, count(|line| line.is_outside)),
    ])
}

/// Where something stands, for a few: `prog 0x8048000`, the file only if there are several.
pub(super) fn examples(examined: &Examined, tally: &Tally) -> String {
    let one = |&(_, file, addr): &(How, u32, u32)| match examined.programs.get(file as usize) {
        Some((path, _)) if examined.programs.len() > 1 => format!("{}:{addr:#x}", path.display()),
        _ => format!("{addr:#x}"),
    };
    // Paths are long.
    let shown = if examined.programs.len() > 1 { 1 } else { tally.examples.len() };
    tally.examples.iter().take(shown).map(one).collect::<Vec<_>>().join(" ")
}

fn for_people(
    out: &mut impl Write,
    examined: &Examined,
    lines: &[Line<'_>],
    model: &CpuModel,
    with_rows: bool,
) -> io::Result<()> {
    let total = &examined.total;
    if let [(path, _)] = &examined.programs[..] {
        write!(out, "{}: ", path.display())?;
    } else {
        write!(out, "{} programs and libraries, {} bytes: ", examined.programs.len(), examined.file_bytes)?;
    }
    let rows = total.forms.len();
    writeln!(out, "{} instructions of {rows} rows in {} bytes of code", total.instructions(), total.bytes)?;
    let by_how = How::ALL.iter().zip(total.by_how()).filter(|(_, count)| *count > 0);
    let by_how: Vec<String> = by_how.map(|(how, count)| format!("{} {count}", how.name())).collect();
    writeln!(out, "found by: {}", by_how.join(", "))?;
    writeln!(
        out,
        "besides: {} bytes of padding, {} that are no instruction",
        total.padding,
        total.unknown.count()
    )?;
    left_out(out, examined)?;
    section(out, examined, lines, "missing", |line| line.missing.is_some())?;
    if model.model().name != CpuModel::default().model().name {
        let title = format!("outside {}", model.model().name);
        section(out, examined, lines, &title, |line| line.is_outside && line.missing.is_none())?;
    }
    calls(out, examined)?;
    if with_rows {
        writeln!(out, "\nrows:")?;
        for line in lines.iter().filter(|line| line.form.is_some()) {
            writeln!(out, "  {:>9}  {:<12} {:<20} {}", line.count(), line.mnemonic, line.op, line.place())?;
        }
    }
    Ok(())
}

/// What of a tree was not examined.
fn left_out(out: &mut impl Write, examined: &Examined) -> io::Result<()> {
    if examined.others > 0 || examined.links > 0 {
        let Examined { others, links, .. } = examined;
        writeln!(out, "left out: {others} files that are no IA-32 programs, {links} symbolic links")?;
    }
    for (path, why) in &examined.unreadable {
        writeln!(out, "unreadable: {}: {why}", path.display())?;
    }
    Ok(())
}

/// Instructions of one kind, those that are certain before those that may be data.
fn section(
    out: &mut impl Write,
    examined: &Examined,
    lines: &[Line<'_>],
    title: &str,
    is_meant: impl Fn(&Line<'_>) -> bool,
) -> io::Result<()> {
    let meant: Vec<&Line<'_>> = lines.iter().filter(|line| is_meant(line)).collect();
    let (certain, doubtful): (Vec<&Line<'_>>, Vec<&Line<'_>>) =
        meant.into_iter().partition(|line| line.tally.certain() > 0);
    writeln!(out)?;
    if certain.is_empty() {
        writeln!(out, "{title}: nothing")?;
    } else {
        let sum: u64 = certain.iter().map(|line| line.tally.certain()).sum();
        writeln!(out, "{title}: {sum} instructions of {} kinds", certain.len())?;
    }
    for line in certain {
        let why = line.missing.unwrap_or_default();
        let features = if line.features.is_empty() { "-" } else { &line.features };
        writeln!(
            out,
            "  {:>9}  {:<16} {features:<12} {why}{}at {}",
            line.count(),
            line.mnemonic,
            if why.is_empty() { "" } else { ", " },
            examples(examined, line.tally)
        )?;
    }
    if !doubtful.is_empty() {
        let sum: u64 = doubtful.iter().map(|line| line.tally.count()).sum();
        let names: Vec<&str> = doubtful.iter().map(|line| line.mnemonic.as_str()).collect();
        writeln!(
            out,
            "  doubtful, in what looks like data: {sum} of {} kinds: {}",
            names.len(),
            names.join(" ")
        )?;
    }
    Ok(())
}

/// The name of a system call and how much of it there is.
pub(super) fn call(number: u32) -> (String, &'static str) {
    match SYSCALLS.iter().find(|row| row.nr == number) {
        Some(row) => {
            let status = match row.status {
                Status::Full => "full",
                Status::Partial => "partial",
                Status::Missing => "missing",
            };
            (row.name.to_owned(), status)
        }
        None => (format!("call_{number}"), "unknown"),
    }
}

fn calls(out: &mut impl Write, examined: &Examined) -> io::Result<()> {
    let calls = &examined.total.calls;
    let unseen = calls.unseen.count();
    writeln!(
        out,
        "\nsystem calls: {} kinds{}",
        calls.by_number.len(),
        if unseen > 0 {
            format!(", and {unseen} places whose number is not to be seen")
        } else {
            String::new()
        }
    )?;
    for status in ["full", "partial", "missing", "unknown"] {
        let named = calls.by_number.keys().map(|number| call(*number)).filter(|call| call.1 == status);
        let names: Vec<String> = named.map(|call| call.0).collect();
        if !names.is_empty() {
            writeln!(out, "  {status}: {}", names.join(" "))?;
        }
    }
    Ok(())
}

/// Counts by how the instructions were found.
fn by_how(counts: [u64; 8]) -> Value {
    How::ALL
        .iter()
        .zip(counts)
        .map(|(how, count)| (how.name().to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn places(examined: &Examined, tally: &Tally) -> Vec<Value> {
    let one = |&(how, file, addr): &(How, u32, u32)| {
        let path = examined.programs.get(file as usize).map(|(path, _)| path.display().to_string());
        json!({ "file": path, "address": addr, "found_by": how.name() })
    };
    tally.examples.iter().map(one).collect()
}

fn as_json(examined: &Examined, lines: &[Line<'_>], model: &CpuModel) -> Value {
    let total = &examined.total;
    let line = |line: &Line<'_>| {
        json!({
            "mnemonic": line.mnemonic,
            "op": line.op,
            "room": line.form.map(|form| form.room),
            "line": line.form.map(|form| form.line),
            "cpuid": line.features.split_whitespace().collect::<Vec<_>>(),
            "count": line.tally.count(),
            "doubtful": line.tally.count() - line.tally.certain(),
            "why": line.missing,
            "examples": places(examined, line.tally),
        })
    };
    let named =
        |is_meant: fn(&&Line<'_>) -> bool| lines.iter().filter(is_meant).map(line).collect::<Vec<_>>();
    let calls = total.calls.by_number.iter().map(|(number, tally)| {
        let (name, status) = call(*number);
        json!({ "nr": number, "name": name, "status": status, "count": tally.count(), "examples": places(examined, tally) })
    });
    let programs = examined.programs.iter().map(|(path, findings)| {
        json!({ "path": path.display().to_string(), "instructions": findings.instructions(), "code_bytes": findings.bytes })
    });
    let unreadable = examined.unreadable.iter();
    let unreadable = unreadable.map(|(path, why)| json!({ "path": path.display().to_string(), "why": why }));
    json!({
        "cpu": model.model().name,
        "programs": programs.collect::<Vec<_>>(),
        "left_out": { "others": examined.others, "links": examined.links, "unreadable": unreadable.collect::<Vec<_>>() },
        "instructions": total.instructions(),
        "forms": total.forms.len(),
        "code_bytes": total.bytes,
        "found_by": by_how(total.by_how()),
        "padding_bytes": total.padding,
        "unknown_bytes": total.unknown.count(),
        "rows": named(|line| line.form.is_some()),
        "missing": named(|line| line.missing.is_some()),
        "outside": named(|line| line.is_outside),
        "system_calls": { "seen": calls.collect::<Vec<_>>(), "unseen": total.calls.unseen.count() },
    })
}
