//! The generator's answers to mistakes in the tables, and the map of what it makes of the real ones.
//!
//! Each file of `tests/tables/` holds cases: a line `=== NAME`, then the files that the generator is given, each behind a
//! line `--- PATH`, and last, behind `--- errors`, all that it has to say. What a case leaves out is empty, but for
//! `opcodes/rules.toml`, which is then the real one. With `TABLE86_BLESS=1` in the environment the expectations and
//! `opcodes/MAP.txt` are written anew instead of compared; `git diff` shows what that changed.

// The build script uses all of it, a test only the way in.
#[allow(dead_code)]
#[path = "../build/mod.rs"]
mod build;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Name of the section with the expectation.
const ERRORS: &str = "errors";

/// Tables with mistakes in them.
struct Case {
    name: String,
    /// Path and text of each file.
    files: Vec<(String, String)>,
    errors: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn blessing() -> bool {
    std::env::var_os("TABLE86_BLESS").is_some_and(|value| value == "1")
}

/// Splits a file of cases.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case { name: name.trim().to_owned(), files: Vec::new(), errors: String::new() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(path) = line.strip_prefix("--- ") {
            case.files.push((path.trim().to_owned(), String::new()));
        } else if let Some((_, body)) = case.files.last_mut() {
            body.push_str(line);
        }
    }
    for case in &mut cases {
        match case.files.pop() {
            Some((path, text)) if path == ERRORS => case.errors = text.trim_end().to_owned(),
            _ => panic!("{}: the last section is `--- {ERRORS}`", case.name),
        }
    }
    cases
}

/// A file of cases as text; what stands above the first case stays.
fn unparse(head: &str, cases: &[Case]) -> String {
    let mut out = head.to_owned();
    for (at, case) in cases.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        let _ = writeln!(out, "{gap}=== {}", case.name);
        for (path, text) in &case.files {
            let _ = write!(out, "--- {path}\n{text}");
        }
        let _ = writeln!(out, "--- {ERRORS}\n{}", case.errors);
    }
    out
}

/// What the generator says about a case.
fn errors(case: &Case) -> String {
    let mut input = build::Input::default();
    let real = std::fs::read_to_string(root().join("opcodes/rules.toml"));
    input.rules = real.expect("the rules can be read");
    for (path, text) in &case.files {
        let text = text.clone();
        let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        match path.as_str() {
            "opcodes/rules.toml" => input.rules = text,
            "opcodes/features.toml" => input.features = text,
            "opcodes/hot.txt" => input.hot = text,
            build::syscalls::TABLE => input.syscalls = text,
            _ if path.starts_with("opcodes/") => drop(input.rooms.insert(stem, text)),
            _ if path.starts_with("src/cpu/insn/") => drop(input.bodies.insert(stem, text)),
            _ => panic!("{}: the generator reads no {path}", case.name),
        }
    }
    match build::generate(&input) {
        Ok(_) => String::new(),
        Err(report) => report.render().lines().map(|line| format!("{}\n", line.trim_end())).collect(),
    }
}

/// The files of cases, in the order of their names.
fn case_files() -> Vec<PathBuf> {
    let directory = std::fs::read_dir(root().join("tests/tables")).expect("the cases can be read");
    let paths = directory.map(|entry| entry.expect("the cases can be read").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|found| found == "txt")).collect();
    files.sort();
    files
}

#[test]
fn mistakes_are_shown_where_they_are_and_all_at_once() {
    let mut wrong = String::new();
    let mut count = 0;
    for path in case_files() {
        let text = std::fs::read_to_string(&path).expect("cases are text");
        let mut cases = parse(&text);
        count += cases.len();
        for case in &mut cases {
            let found = errors(case).trim_end().to_owned();
            if found != case.errors && !blessing() {
                let (name, wanted) = (&case.name, &case.errors);
                let file = path.file_name().unwrap_or_default().display();
                let _ = writeln!(wrong, "{file}: {name}\nwanted:\n{wanted}\nfound:\n{found}\n");
            }
            case.errors = found;
        }
        if blessing() {
            let head = &text[..text.find("=== ").unwrap_or(text.len())];
            std::fs::write(&path, unparse(head, &cases)).expect("cases can be written");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count > 0, "there are no cases");
}

#[test]
fn cases_have_names_of_their_own_and_expect_something() {
    if blessing() {
        // The files are being written.
        return;
    }
    let mut names = std::collections::BTreeSet::new();
    for path in case_files() {
        for case in parse(&std::fs::read_to_string(&path).expect("cases are text")) {
            assert!(!case.errors.is_empty(), "{}: expects no error", case.name);
            assert!(names.insert(case.name.clone()), "{}: twice", case.name);
        }
    }
}

#[test]
fn map_is_what_the_tables_say() {
    let mut input = build::Input::read(root()).expect("the tables can be read");
    // The map does not depend on the trained handlers, and making them takes long.
    input.hot.clear();
    let output = build::generate(&input).unwrap_or_else(|report| panic!("\n{}", report.render()));
    let path = root().join("opcodes/MAP.txt");
    if blessing() {
        std::fs::write(&path, &output.map).expect("the map can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = output.map.lines().zip(written.lines()).position(|(made, written)| made != written);
    let line = differs.unwrap_or(output.map.lines().count().min(written.lines().count())) + 1;
    assert!(
        output.map == written,
        "opcodes/MAP.txt:{line} is not what the tables say; TABLE86_BLESS=1 cargo test --test tables writes it\n\
         made:    {}\nwritten: {}",
        output.map.lines().nth(line - 1).unwrap_or("(its end)"),
        written.lines().nth(line - 1).unwrap_or("(its end)"),
    );
}

/// The record of what was compared with a processor; `tests/silicon` writes it, and tries it again where it can.
#[test]
fn each_row_that_runs_is_on_record_as_compared_with_a_processor() {
    use std::collections::BTreeSet;
    use table86::isa::proof::{parse, proof};
    use table86::isa::{FORMS, Status};

    const RECORD: &str = include_str!("../opcodes/PROOF.tsv");
    let runs = FORMS.iter().filter(|form| form.status == Status::Implemented);
    let lost = runs.clone().filter(|form| proof(form).is_none());
    let lost: Vec<String> = lost
        .map(|form| format!("opcodes/{}.toml:{} {} {}", form.room, form.line, form.op, form.mnemonic))
        .collect();
    assert!(
        lost.is_empty(),
        "nothing in opcodes/PROOF.tsv, which TABLE86_BLESS=1 cargo test --release --test silicon each_row writes:\n{}",
        lost.join("\n")
    );
    let unreadable: Vec<&str> =
        RECORD.lines().filter(|line| !line.starts_with('#') && parse(line).is_none()).collect();
    assert!(unreadable.is_empty(), "{unreadable:?}");
    let keys: BTreeSet<_> = RECORD.lines().filter_map(parse).map(|(key, _)| key).collect();
    assert_eq!(keys.len(), runs.count(), "lines of rows that are gone");
    let processors = RECORD.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        (columns[..6].join(" "), columns.get(8).copied())
    });
    assert_eq!(
        processors.clone().collect::<BTreeSet<_>>().len(),
        processors.count(),
        "a row twice by one processor"
    );
}
