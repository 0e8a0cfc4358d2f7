//! The tables as text.

use super::words::{self, FLAGS, FLAGS_LEGEND};
use std::collections::BTreeMap;
use std::io::{self, Write};
use table86::isa::{FORMS, Form};

/// Columns of text before a line is broken.
const WIDTH: usize = 100;

/// All mnemonics by table.
pub(super) fn list(out: &mut impl Write) -> io::Result<()> {
    let mut rooms: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for form in &FORMS {
        let names = rooms.entry(form.room).or_default();
        if !names.contains(&form.mnemonic) {
            names.push(form.mnemonic);
        }
    }
    for (room, mut names) in rooms {
        names.sort_unstable();
        writeln!(out, "{room} ({})", names.len())?;
        wrapped(out, "  ", &names.join(" "))?;
    }
    Ok(())
}

/// Text in lines that are not too long, each behind an indent.
fn wrapped(out: &mut impl Write, indent: &str, text: &str) -> io::Result<()> {
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && indent.len() + line.len() + word.len() >= WIDTH {
            writeln!(out, "{indent}{line}")?;
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{indent}{line}")
}

/// A line `label  text`, the text broken where it has to be.
fn labelled(out: &mut impl Write, label: &str, text: &str) -> io::Result<()> {
    let mut lines = Vec::new();
    wrapped(&mut lines, "              ", text)?;
    writeln!(out, "  {label:<11} {}", String::from_utf8_lossy(&lines).trim())
}

/// All forms of one mnemonic.
pub(super) fn mnemonic(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    let Some(first) = forms.first() else { return Ok(()) };
    let mut docs: Vec<&str> = Vec::new();
    for form in forms {
        if !docs.contains(&form.doc) {
            docs.push(form.doc);
        }
    }
    for doc in docs {
        writeln!(out, "{}: {doc}", first.mnemonic)?;
    }
    let also = words::other_names(first.mnemonic);
    if !also.is_empty() {
        writeln!(out, "also called {}", also.join(", "))?;
    }
    writeln!(out, "\nforms")?;
    for (index, form) in forms.iter().enumerate() {
        writeln!(out, "  {:>2}  {:<18} {:<28} {}", index + 1, form.op, form.ops, form.row_place())?;
    }
    let notation = words::notation(forms);
    if !notation.is_empty() {
        writeln!(out, "\nencoding")?;
    }
    for (token, meaning) in notation {
        labelled(out, token, meaning)?;
    }
    operands(out, forms)?;
    flags(out, forms)?;
    facts(out, forms)?;
    labelled(out, "tests", &words::tests(first.mnemonic))
}

/// Each operand that the forms have, explained once.
pub(super) fn operands(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    let mut seen: Vec<(&str, String)> = Vec::new();
    for form in forms {
        for (name, operand) in form.ops.split_whitespace().zip(form.operands) {
            let name = name.trim_matches(['(', ')']);
            let words = words::operand(operand);
            if !seen.contains(&(name, words.clone())) {
                seen.push((name, words));
            }
        }
    }
    if !seen.is_empty() {
        writeln!(out, "\noperands")?;
    }
    for (name, words) in seen {
        labelled(out, name, &words)?;
    }
    Ok(())
}

/// `forms 1 2`, or nothing if it is about all.
pub(super) fn which(forms: &[&Form], meant: &[usize]) -> String {
    if meant.len() == forms.len() {
        return String::new();
    }
    let numbers: Vec<String> = meant.iter().map(|index| (index + 1).to_string()).collect();
    format!(" (form{} {})", if meant.len() == 1 { "" } else { "s" }, numbers.join(" "))
}

/// Forms by what is the same for them, in order.
pub(super) fn grouped<T: PartialEq>(forms: &[&Form], of: impl Fn(&Form) -> T) -> Vec<(T, Vec<usize>)> {
    let mut groups: Vec<(T, Vec<usize>)> = Vec::new();
    for (index, form) in forms.iter().enumerate() {
        let value = of(form);
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, meant)) => meant.push(index),
            None => groups.push((value, vec![index])),
        }
    }
    groups
}

/// The flags as a table.
fn flags(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    for ((rule, reads), meant) in grouped(forms, |form| (form.flags.rule, words::flags_read(form))) {
        let form = forms[meant[0]];
        let doc = form.flag_rule().map_or("", |rule| rule.doc);
        writeln!(out, "\nflags{}, rule {rule} of opcodes/rules.toml: {doc}", which(forms, &meant))?;
        if !reads.is_empty() {
            writeln!(out, "  reads {reads}")?;
        }
        let heads = FLAGS.map(|(name, _)| format!("{name:<10}"));
        writeln!(out, "  {:<16}{}", "", heads.concat().trim_end())?;
        let cases = words::flags(form);
        for (case, effects) in &cases {
            let cells = effects.map(|effect| {
                format!("{:<10}", format!("{}{}", effect.what, if effect.is_undefined { "?" } else { "" }))
            });
            writeln!(out, "  {case:<16}{}", cells.concat().trim_end())?;
        }
        if words::changes_flags(form) {
            wrapped(out, "  ", FLAGS_LEGEND)?;
        }
    }
    Ok(())
}

/// What else is to be said, and where things are.
pub(super) fn facts(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    writeln!(out)?;
    let all = gathered(forms, |form| [words::facts(form), words::places(form)].concat());
    // The rows of several forms stand beside them.
    for (label, text, meant) in all.into_iter().filter(|(label, ..)| forms.len() == 1 || *label != "row") {
        labelled(out, label, &format!("{text}{}", which(forms, &meant)))?;
    }
    Ok(())
}

/// Labelled texts about forms: by label in the order of the first form that has it, each text once, with the forms that it is about.
pub(super) fn gathered(
    forms: &[&Form],
    of: impl Fn(&Form) -> Vec<(&'static str, String)>,
) -> Vec<(&'static str, String, Vec<usize>)> {
    let mut all: Vec<(&str, String, Vec<usize>)> = Vec::new();
    for (index, form) in forms.iter().enumerate() {
        for (label, text) in of(form) {
            match all.iter_mut().find(|(known, words, _)| *known == label && *words == text) {
                Some((.., meant)) => meant.push(index),
                None => {
                    let behind =
                        all.iter().rposition(|(known, ..)| *known == label).map_or(all.len(), |at| at + 1);
                    all.insert(behind, (label, text, vec![index]));
                }
            }
        }
    }
    all
}

/// Mnemonics that a search has found, each with its sentence.
pub(super) fn found(out: &mut impl Write, forms: &[&Form]) -> io::Result<()> {
    for form in forms {
        writeln!(out, "{:<12} {}", form.mnemonic, form.doc)?;
    }
    Ok(())
}
