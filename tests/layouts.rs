//! The guest's structures beside those of the i386 headers: sizes and offsets, as gcc -m32 lays them out.

use std::fmt::Write;
use std::io::Write as _;
use std::process::{Command, Stdio};
use table86::kernel::abi::{Layout, layouts};

/// Structures that no header declares for programs: the kernel's own for 32-bit processes. Frames are compared byte for byte
/// by tests/tasks, the others by tests/syscalls.
const INTERNAL: [&str; 9] = [
    "MmapArguments",
    "MsgrcvKludge",
    "OldDirent",
    "OldSelect",
    "Regset",
    "RtSigframe",
    "Sigframe",
    "SigsetArg",
    "Ucontext",
];

/// A line of tests/layouts.txt.
struct Line<'a> {
    headers: &'a str,
    name: &'a str,
    c_type: String,
    prefix: &'a str,
    /// Fields with names of their own.
    renamed: Vec<(&'a str, &'a str)>,
}

impl<'a> Line<'a> {
    fn c_field(&self, field: &str) -> Option<String> {
        match self.renamed.iter().find(|(name, _)| *name == field) {
            Some((_, "-")) => None,
            Some((_, c_field)) => Some((*c_field).to_owned()),
            None => Some(format!("{}{field}", self.prefix)),
        }
    }

    fn layout(&self) -> &'static Layout {
        layouts()
            .find(|layout| layout.name == self.name)
            .unwrap_or_else(|| panic!("no structure {}", self.name))
    }

    /// Assertions about the structure in C.
    fn assertions(&self) -> String {
        let (layout, c_type) = (self.layout(), &self.c_type);
        let mut text = String::new();
        if self.c_field("size").is_some() {
            let message = format!("{} is not as large", layout.name);
            let _ = writeln!(text, "_Static_assert(sizeof({c_type}) == {}, \"{message}\");", layout.size);
        }
        for (field, offset) in layout.fields {
            if let Some(c_field) = self.c_field(field) {
                let message = format!("{}.{field} is elsewhere", layout.name);
                let _ = writeln!(
                    text,
                    "_Static_assert(__builtin_offsetof({c_type}, {c_field}) == {offset}, \"{message}\");"
                );
            }
        }
        text
    }
}

fn lines() -> Vec<Line<'static>> {
    let mut headers = "";
    let mut found = Vec::new();
    for line in include_str!("layouts.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(names) = line.strip_prefix('[') {
            headers = names.trim_end_matches(']');
            continue;
        }
        let (name, rest) = line.split_once(" = ").expect("NAME = C TYPE PREFIX ...");
        let words: Vec<&str> = rest.split_whitespace().collect();
        let renamed = words[3..].iter().filter_map(|word| word.split_once('='));
        found.push(Line {
            headers,
            name,
            c_type: words[..2].join(" "),
            prefix: if words[2] == "-" { "" } else { words[2] },
            renamed: renamed.collect(),
        });
    }
    found
}

/// Compiles C for i386 without making anything of it; `None` where there is no such compiler.
fn compile(source: &str) -> Option<Result<(), String>> {
    let mut gcc = Command::new("gcc")
        .args(["-m32", "-w", "-fsyntax-only", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    gcc.stdin.take()?.write_all(source.as_bytes()).ok()?;
    let output = gcc.wait_with_output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Some(if output.status.success() { Ok(()) } else { Err(text) })
}

#[test]
fn structures_lie_as_the_i386_headers_have_them() {
    if !matches!(compile("#include <sys/user.h>\n#include <asm/stat.h>\n"), Some(Ok(()))) {
        println!("NOT CHECKED: the layouts of structures; there is no gcc with the headers of -m32");
        return;
    }
    let lines = lines();
    for chunk in lines.chunk_by(|a, b| a.headers == b.headers) {
        let mut source = "#define _GNU_SOURCE\n".to_owned();
        for header in chunk[0].headers.split(' ') {
            let _ = writeln!(source, "#include <{header}>");
        }
        source.extend(chunk.iter().map(Line::assertions));
        if let Some(Err(text)) = compile(&source) {
            panic!("{}: {text}", chunk[0].headers);
        }
    }
}

#[test]
fn every_structure_is_compared_or_known_to_have_no_header() {
    let lines = lines();
    for layout in layouts() {
        let listed = lines.iter().any(|line| line.name == layout.name);
        assert_ne!(listed, INTERNAL.contains(&layout.name), "{}", layout.name);
    }
}
