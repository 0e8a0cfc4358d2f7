//! The audit as a page.

use super::files::Examined;
use super::programs::{Line, call, examples};
use super::tables::Room;
use crate::cli::Failure;
use crate::cli::html::{STYLE, escape, grid, legend, page, table};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use table86::audit::coverage::by_feature;
use table86::audit::opcode_map::{CellState, grids};
use table86::audit::program::How;

/// Writes a page.
pub(super) fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text)
        .map_err(|error| Failure::own(format!("{}: cannot be written: {error}", path.display())))
}

fn whole(title: &str, body: &str) -> String {
    page(title, &format!("<style>\n{STYLE}</style>"), "", body)
}

fn code(text: &str) -> String {
    format!("<code>{}</code>", escape(text))
}

/// The tables.
pub(super) fn tables(rooms: &BTreeMap<&str, Room>) -> String {
    let mut body = String::from("<h1>What is declared, and what is missing</h1>\n");
    body.push_str("<p class=\"lead\">Every opcode of 32-bit mode against the tables.</p>\n");
    body.push_str("<h2>Tables</h2>\n");
    let heads = [
        ("table", false),
        ("mnemonics", true),
        ("declared", true),
        ("implemented", true),
        ("verified", true),
        ("missing", true),
    ];
    let row = |(name, room): (&&str, &Room)| {
        std::iter::once(code(name)).chain(room.counts().map(|count| count.to_string())).collect()
    };
    body.push_str(&table(&heads, &rooms.iter().map(row).collect::<Vec<_>>()));
    body.push_str("<h2>Opcode maps</h2>\n");
    body.push_str(&legend(&CellState::ALL));
    for map in grids() {
        let _ = write!(body, "<h2>{}</h2>\n{}", escape(&map.title), grid(&map, |_| None));
    }
    body.push_str("<h2>CPUID features</h2>\n");
    let heads = [
        ("feature", false),
        ("forms", true),
        ("declared", true),
        ("implemented", true),
        ("verified", true),
        ("not declared", false),
    ];
    let rows: Vec<Vec<String>> = by_feature()
        .into_iter()
        .map(|(feature, total)| {
            let counts = [total.forms, total.declared, total.implemented, total.verified]
                .map(|count| count.to_string());
            let names = escape(&total.undeclared.join(" "));
            [vec![escape(feature)], counts.to_vec(), vec![names]].concat()
        })
        .collect();
    body.push_str(&table(&heads, &rows));
    body.push_str("<h2>Rows that are not verified</h2>\n");
    let mut rows = Vec::new();
    for (name, room) in rooms {
        for row in &room.rows {
            if let Some((what, why)) = row.state.gap() {
                let place = format!("opcodes/{name}.toml:{}", row.form.line);
                rows.push(vec![
                    code(row.form.mnemonic),
                    code(row.form.op),
                    escape(what),
                    escape(why),
                    code(&place),
                ]);
            }
        }
    }
    body.push_str(&table(
        &[("instruction", false), ("encoding", false), ("state", false), ("why", false), ("row", false)],
        &rows,
    ));
    whole("Table86: the tables", &body)
}

/// Programs.
pub(super) fn programs(examined: &Examined, lines: &[Line<'_>]) -> String {
    let total = &examined.total;
    let name = match &examined.programs[..] {
        [(path, _)] => path.display().to_string(),
        more => format!("{} programs and libraries", more.len()),
    };
    let mut body = format!("<h1>{}</h1>\n", escape(&name));
    let _ = writeln!(
        body,
        "<p class=\"lead\">{} instructions of {} rows in {} bytes of code.</p>",
        total.instructions(),
        total.forms.len(),
        total.bytes
    );
    let line = |line: &&Line<'_>| {
        let doubtful = line.tally.count() - line.tally.certain();
        let place = line.form.map_or_else(|| "none".to_owned(), |form| code(&form.row_place()));
        vec![
            code(&line.mnemonic),
            code(line.op),
            escape(&line.features),
            line.tally.certain().to_string(),
            doubtful.to_string(),
            code(&examples(examined, line.tally)),
            line.missing.map_or(place, escape),
        ]
    };
    let heads = |last| {
        [
            ("instruction", false),
            ("encoding", false),
            ("needs", false),
            ("count", true),
            ("doubtful", true),
            ("for example at", false),
            (last, false),
        ]
    };
    let missing: Vec<Vec<String>> =
        lines.iter().filter(|line| line.missing.is_some()).map(|one| line(&one)).collect();
    body.push_str("<h2>Missing</h2>\n");
    if missing.is_empty() {
        body.push_str("<p>Nothing.</p>\n");
    } else {
        body.push_str(&table(&heads("why"), &missing));
    }
    body.push_str("<h2>System calls</h2>\n");
    let calls: Vec<Vec<String>> = total
        .calls
        .by_number
        .iter()
        .map(|(number, tally)| {
            let (name, status) = call(*number);
            vec![
                number.to_string(),
                code(&name),
                status.to_owned(),
                tally.count().to_string(),
                code(&examples(examined, tally)),
            ]
        })
        .collect();
    body.push_str(&table(
        &[("number", true), ("name", false), ("here", false), ("places", true), ("for example at", false)],
        &calls,
    ));
    let _ =
        writeln!(body, "<p>{} more places whose number is not to be seen.</p>", total.calls.unseen.count());
    body.push_str("<h2>How the code was found</h2>\n");
    let found: Vec<Vec<String>> = How::ALL
        .iter()
        .zip(total.by_how())
        .zip(total.bytes_by_how)
        .map(|((how, count), bytes)| vec![how.name().to_owned(), count.to_string(), bytes.to_string()])
        .collect();
    body.push_str(&table(&[("by", false), ("instructions", true), ("bytes", true)], &found));
    body.push_str("<h2>All instructions</h2>\n");
    let all: Vec<Vec<String>> =
        lines.iter().filter(|line| line.form.is_some()).map(|one| line(&one)).collect();
    body.push_str(&table(&heads("row"), &all));
    whole(&format!("Table86: {name}"), &body)
}
