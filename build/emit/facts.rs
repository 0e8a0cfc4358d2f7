//! `facts.rs`: what only readers of the tables want to know.

use crate::build::rules::{Effect, Rules};
use crate::build::schema::Form;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Makes the file.
pub fn emit(forms: &[Form], rules: &Rules, bodies: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "/// The flag rules, by name.\npub static FLAG_RULES: [FlagRule; {}] = [",
        rules.flags.len()
    );
    for (name, rule) in &rules.flags {
        let doc = rules.docs.get(name).map_or("", String::as_str);
        let masks = |which: fn(Effect) -> bool| [0, 1, 2].map(|case| rule.mask(case, which));
        let _ = writeln!(
            out,
            "FlagRule {{ name: {name:?}, doc: {doc:?}, written: {:?}, set: {:?}, cleared: {:?} }},",
            masks(|effect| matches!(effect, Effect::Written | Effect::UndefinedWritten)),
            masks(|effect| matches!(effect, Effect::Set | Effect::UndefinedSet)),
            masks(|effect| matches!(effect, Effect::Cleared | Effect::UndefinedCleared)),
        );
    }
    let used: BTreeSet<(&str, &str)> =
        forms.iter().map(|form| (form.room.as_str(), form.body.as_str())).collect();
    let lines =
        used.into_iter().filter_map(|(room, body)| Some((room, body, line(bodies.get(room)?, body)?)));
    let lines: Vec<_> = lines.collect();
    let _ = writeln!(
        out,
        "];\n/// The bodies, by table and name.\npub static BODIES: [Body; {}] = [",
        lines.len()
    );
    for (room, name, line) in lines {
        let _ = writeln!(out, "Body {{ room: {room:?}, name: {name:?}, line: {line} }},");
    }
    out.push_str("];\n");
    out
}

/// The line of a function at the top level of a source file.
fn line(source: &str, function: &str) -> Option<usize> {
    let is_here = |line: &str| {
        let head = line.split_once("fn ").filter(|(before, _)| !before.starts_with([' ', '/', '#']));
        head.and_then(|(_, rest)| rest.strip_prefix(function))
            .is_some_and(|rest| rest.starts_with(['(', '<']))
    };
    source.lines().position(is_here).map(|index| index + 1)
}
