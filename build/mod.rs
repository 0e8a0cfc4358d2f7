//! The generator: from `opcodes/*.toml` to the decoder, the handlers, the disassembler's data and the map.
//!
//! `build.rs` runs it; tests run it too, on tables with mistakes in them.

pub mod bodies;
pub mod emit;
pub mod features;
pub mod notation;
pub mod report;
pub mod rules;
pub mod schema;
pub mod syscalls;
pub mod vendors;
pub mod walk;

use report::{Report, Source};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// The generator's input.
#[derive(Default)]
pub struct Input {
    /// `rules.toml`.
    pub rules: String,
    /// `features.toml`.
    pub features: String,
    /// Tables by room.
    pub rooms: BTreeMap<String, String>,
    /// `hot.txt`.
    pub hot: String,
    /// `build/startup.txt`.
    pub startup: String,
    /// Bodies by room: Rust source.
    pub bodies: BTreeMap<String, String>,
    /// The table of system calls.
    pub syscalls: String,
}

/// The generator's output.
pub struct Output {
    pub forms: String,
    pub facts: String,
    pub decode: String,
    pub handlers: String,
    pub map: String,
    pub features: String,
    pub syscalls: String,
}

/// Files in `opcodes/` that are not tables of instructions.
const NOT_ROOMS: [&str; 2] = ["rules", "features"];

impl Input {
    /// Reads `opcodes/` and `src/cpu/insn/` below the package's root.
    pub fn read(root: &Path) -> std::io::Result<Input> {
        let mut input = Input {
            rules: std::fs::read_to_string(root.join("opcodes/rules.toml"))?,
            features: std::fs::read_to_string(root.join("opcodes/features.toml"))?,
            hot: std::fs::read_to_string(root.join("opcodes/hot.txt"))?,
            startup: std::fs::read_to_string(root.join("build/startup.txt"))?,
            syscalls: std::fs::read_to_string(root.join(syscalls::TABLE))?,
            ..Input::default()
        };
        for (directory, extension, files) in
            [("opcodes", "toml", &mut input.rooms), ("src/cpu/insn", "rs", &mut input.bodies)]
        {
            for entry in std::fs::read_dir(root.join(directory))? {
                let path = entry?.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
                let wanted = path.extension().is_some_and(|found| found == extension);
                if wanted && !NOT_ROOMS.contains(&stem.as_str()) {
                    files.insert(stem, std::fs::read_to_string(&path)?);
                }
            }
        }
        Ok(input)
    }
}

/// Checks the tables and makes everything, or gives all mistakes.
pub fn generate(input: &Input) -> Result<Output, Report> {
    let mut report = Report::default();
    let source = |name: String, text: &str| Rc::new(Source { name, text: text.to_owned() });
    let rules = rules::read(source("opcodes/rules.toml".into(), &input.rules), &mut report);
    let mut forms = Vec::new();
    for (room, text) in &input.rooms {
        let source = source(format!("opcodes/{room}.toml"), text);
        forms.extend(schema::read(source, room, &rules, &mut report));
    }
    let opcode_map = emit::decode::resolve(&forms, &mut report);
    let families = emit::families::group(&forms, &rules);
    bodies::check(&forms, &families, &input.bodies, &mut report);
    let hot = emit::hot::read(source("opcodes/hot.txt".into(), &input.hot), &families, &mut report);
    let features =
        features::emit(source("opcodes/features.toml".into(), &input.features), &forms, &mut report);
    let syscalls = syscalls::generate(&input.syscalls, &mut report);
    if !report.problems.is_empty() {
        return Err(report);
    }
    Ok(Output {
        forms: emit::forms::emit(&forms, &rules, &families),
        facts: emit::facts::emit(&forms, &rules, &input.bodies),
        decode: emit::decode::emit(&forms, &rules, &opcode_map),
        handlers: emit::handlers::emit(&families, &hot, &input.startup),
        map: emit::map::emit(&forms),
        features,
        syscalls,
    })
}
