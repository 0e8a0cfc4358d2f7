//! Turns `src/kernel/syscalls.toml` into `syscalls.rs`: the typed dispatch of system calls and the table that strace
//! and the audit read.

use super::report::{Place, Report, Source};
use serde::Deserialize;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;
use toml::Spanned;

/// The table, from the package's root.
pub const TABLE: &str = "src/kernel/syscalls.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    syscall: Vec<Spanned<Row>>,
}

/// A row as written; the essay at the head of the table explains the fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    nr: Spanned<u32>,
    name: Spanned<String>,
    module: Option<Spanned<String>>,
    function: Option<Spanned<String>>,
    #[serde(default)]
    host: bool,
    #[serde(default)]
    quiet: bool,
    args: Option<Spanned<String>>,
    returns: Option<Spanned<String>>,
    restart: Option<Spanned<String>>,
    status: Spanned<String>,
    note: Option<Spanned<String>>,
}

/// How an argument type is taken from registers.
struct ArgType {
    /// Its name in the table.
    name: &'static str,
    /// The Rust expression, with `$` for the register and `$2` for the one behind it.
    wrap: &'static str,
    /// What a pass-through row hands to the host; empty if it cannot be passed.
    pass: &'static str,
    registers: usize,
}

const fn word(name: &'static str) -> ArgType {
    ArgType { name, wrap: "$", pass: "$.into()", registers: 1 }
}

const fn int(name: &'static str) -> ArgType {
    ArgType { name, wrap: "$ as i32", pass: "($ as i32).into()", registers: 1 }
}

const fn wrapped(name: &'static str, wrap: &'static str) -> ArgType {
    ArgType { name, wrap, pass: "", registers: 1 }
}

/// Every argument type but pointers (`*T`, `mut*T`) and buffers (`In(len)`, `Out(len)`, `IovIn(n)`, `IovOut(n)`).
/// `ArgKind` in `src/kernel/table.rs` has a variant of each name.
const TYPES: &[ArgType] = &[
    ArgType { name: "Fd", wrap: "Fd::new($)", pass: "Fd::new($).into()", registers: 1 },
    ArgType { name: "DirFd", wrap: "Fd::new($)", pass: "Fd::new($).into()", registers: 1 },
    wrapped("Path", "Path($)"),
    wrapped("Str", "Str($)"),
    int("Int"),
    int("Pid"),
    int("Signal"),
    int("ClockId"),
    int("Whence"),
    int("LockOp"),
    int("Domain"),
    int("SockLevel"),
    int("Who"),
    int("IpcCmd"),
    int("EpollOp"),
    int("Advice"),
    word("Uint"),
    word("Size"),
    word("Hex"),
    word("Addr"),
    word("Mode"),
    word("Dev"),
    word("OpenFlags"),
    word("AtFlags"),
    word("AccessMode"),
    word("MmapProt"),
    word("MmapFlags"),
    word("MremapFlags"),
    word("CloneFlags"),
    word("WaitOptions"),
    word("FcntlCmd"),
    word("IoctlCmd"),
    word("Resource"),
    word("StatxMask"),
    word("RandomFlags"),
    word("FutexOp"),
    word("SigHow"),
    int("PrctlOp"),
    word("SockType"),
    word("MsgFlags"),
    word("Uid"),
    word("WaitStatus"),
    word("SigSet"),
    word("OldSigSet"),
    word("SigAction"),
    word("OldSigAction"),
    word("Handler"),
    word("Argv"),
    word("Envp"),
    ArgType { name: "Uid16", wrap: "$ as u16", pass: "", registers: 1 },
    ArgType { name: "lohi64", wrap: "lohi($, $2)", pass: "lohi($, $2).into()", registers: 2 },
    ArgType { name: "hilo64", wrap: "lohi($2, $)", pass: "lohi($2, $).into()", registers: 2 },
];

/// Values of `returns`, with the variant of `Returns` in `src/kernel/table.rs`.
const RETURNS: &[(&str, &str)] = &[
    ("zero", "Zero"),
    ("size", "Size"),
    ("value", "Value"),
    ("fd", "Fd"),
    ("pid", "Pid"),
    ("addr", "Addr"),
    ("hex", "Hex"),
    ("never", "Never"),
];

const RESTART: &[(&str, &str)] = &[("no", "No"), ("sys", "Sys"), ("nohand", "NoHand"), ("block", "Block")];

const STATUS: &[(&str, &str)] = &[("full", "Full"), ("partial", "Partial"), ("missing", "Missing")];

/// One argument after parsing.
#[derive(Default)]
struct Arg {
    name: String,
    /// The variant of `ArgKind`, with its fields.
    kind: String,
    /// The expression that makes the function's argument; empty when a buffer contains it.
    wrap: String,
    /// What the host gets in a pass-through row.
    pass: String,
    /// A statement that a pass-through row needs before the call.
    prepare: String,
}

/// Notes mistakes in the table.
struct Notes<'a> {
    source: Rc<Source>,
    report: &'a mut Report,
}

impl Notes<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        Place { source: Rc::clone(&self.source), span }
    }

    fn error(&mut self, span: Range<usize>, message: &str) {
        let place = self.place(span);
        self.report.error(&place, message);
    }

    fn count(&self) -> usize {
        self.report.problems.len()
    }
}

/// Checks the table `text` and makes `syscalls.rs` of it; mistakes go to `report`.
pub fn generate(text: &str, report: &mut Report) -> String {
    let source = Rc::new(Source { name: TABLE.to_owned(), text: text.to_owned() });
    let mut notes = Notes { source, report };
    match toml::from_str::<Table>(text) {
        Ok(table) => emit(&table, &mut notes),
        Err(error) => {
            notes.error(error.span().unwrap_or(0..0), error.message());
            String::new()
        }
    }
}

fn emit(table: &Table, report: &mut Notes<'_>) -> String {
    let mut arms = String::new();
    let mut infos = String::new();
    let mut names: HashMap<&str, Range<usize>> = HashMap::new();
    let mut last: Option<u32> = None;
    for spanned in &table.syscall {
        let row = spanned.get_ref();
        let nr = *row.nr.get_ref();
        let name = row.name.get_ref().as_str();
        if last.is_some_and(|last| last >= nr) {
            report.error(row.nr.span(), "rows are in ascending order, each number once");
        }
        last = Some(nr);
        if let Some(other) = names.insert(name, row.name.span()) {
            let (place, other) = (report.place(row.name.span()), report.place(other));
            report.report.clash(&place, "two calls have this name", "the other one", &other);
        }
        let line = report.place(row.nr.span()).line();
        if let Some((arm, info)) = emit_row(row, line, report) {
            arms += &arm;
            infos += &info;
        }
    }
    format!(
        "// Generated from {TABLE} by build/syscalls.rs; not edited.\n\n\
         /// Carries out system call `nr` with the arguments in EBX, ECX, EDX, ESI, EDI, EBP.\n\
         pub fn dispatch(p: &mut Process, nr: u32, args: [u32; 6]) -> Result<u32, Errno> {{\n    \
         match nr {{\n{arms}        _ => missing(p, nr),\n    }}\n}}\n\n\
         /// All rows, by number.\npub static SYSCALLS: &[SyscallInfo] = &[\n{infos}];\n"
    )
}

/// The match arm and the information of one row; `None` after an error.
fn emit_row(row: &Row, line: usize, report: &mut Notes<'_>) -> Option<(String, String)> {
    let errors = report.count();
    let status = pick(STATUS, &row.status, report);
    let missing = row.status.get_ref() == "missing";
    let name = row.name.get_ref();
    if row.note.is_none() && row.status.get_ref() == "partial" {
        report.error(row.status.span(), "a partial call says in `note` what it lacks");
    }
    for (present, field) in
        [(row.args.is_some(), "args"), (row.returns.is_some(), "returns"), (row.restart.is_some(), "restart")]
    {
        if !missing && !present {
            report.error(row.name.span(), &format!("`{field}` is left out"));
        }
    }
    let args = row.args.as_ref().map_or_else(Vec::new, |args| parse_args(args, report));
    let returns = row.returns.as_ref().map_or("Value", |r| pick(RETURNS, r, report));
    let restart = row.restart.as_ref().map_or("No", |r| pick(RESTART, r, report));
    let arm = match (&row.module, missing, row.host) {
        (Some(module), true, _) => {
            report.error(module.span(), "a missing call has no module");
            String::new()
        }
        (None, true, _) => String::new(),
        (Some(module), false, true) => {
            report.error(module.span(), "a pass-through row has no module");
            String::new()
        }
        (None, false, false) => {
            report.error(row.name.span(), "no `module`: where is the function? (or `status = \"missing\"`)");
            String::new()
        }
        (Some(module), false, false) => {
            let function = row.function.as_ref().map_or(name, |f| f.get_ref());
            let list: String =
                args.iter().filter(|a| !a.wrap.is_empty()).map(|a| format!(", {}", a.wrap)).collect();
            format!(
                "        // {TABLE}:{line}\n        {} => {}::{function}(p{list}),\n",
                row.nr.get_ref(),
                module.get_ref()
            )
        }
        (None, false, true) => pass_through(row, line, &args, restart, report),
    };
    let list: Vec<String> =
        args.iter().map(|a| format!("ArgInfo {{ name: {:?}, kind: {} }}", a.name, a.kind)).collect();
    let note = row.note.as_ref().map_or("", |n| n.get_ref());
    let info = format!(
        "    SyscallInfo {{\n        nr: {},\n        name: {name:?},\n        module: {:?},\n        args: &[{}],\n        \
         returns: Returns::{returns},\n        restart: Restart::{restart},\n        \
         status: Status::{status},\n        quiet: {},\n        note: {note:?},\n    }},\n",
        row.nr.get_ref(),
        row.module.as_ref().map_or("", |module| module.get_ref()),
        list.join(", "),
        row.quiet,
    );
    (report.count() == errors).then_some((arm, info))
}

/// The arm of a row that the host carries out as it is.
fn pass_through(row: &Row, line: usize, args: &[Arg], restart: &str, report: &mut Notes<'_>) -> String {
    let call = if restart == "No" { "pass" } else { "pass_blocking" };
    let mut arm = format!("        // {TABLE}:{line}\n        {} => {{\n", row.nr.get_ref());
    let mut list = Vec::new();
    for arg in args {
        if arg.pass.is_empty() {
            let span = row.args.as_ref().map_or(row.name.span(), |a| a.span());
            report.error(span, &format!("`{}` cannot be passed through to the host", arg.name));
        }
        arm += &arg.prepare;
        list.push(arg.pass.as_str());
    }
    let number = row.function.as_ref().unwrap_or(&row.name).get_ref();
    let _ = writeln!(arm, "            host::{call}(libc::SYS_{number}, [{}])\n        }}", list.join(", "));
    arm
}

/// The variant that belongs to a word.
fn pick(words: &[(&str, &'static str)], word: &Spanned<String>, report: &mut Notes<'_>) -> &'static str {
    match words.iter().find(|(name, _)| name == word.get_ref()) {
        Some((_, variant)) => variant,
        None => {
            let list: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            report.error(word.span(), &format!("one of {} is expected", list.join(", ")));
            words[0].1
        }
    }
}

/// Splits `name:Type name:Type …` and gives each argument its registers.
fn parse_args(text: &Spanned<String>, report: &mut Notes<'_>) -> Vec<Arg> {
    // The span of a string includes its quotes.
    let origin = text.span().start + 1;
    let mut fields: Vec<(&str, &str, Range<usize>)> = Vec::new();
    for item in text.get_ref().split_whitespace() {
        let start = origin + (item.as_ptr() as usize - text.get_ref().as_ptr() as usize);
        match item.split_once(':') {
            Some((name, kind)) => fields.push((name, kind, start..start + item.len())),
            None => report.error(start..start + item.len(), "an argument is `name:Type`"),
        }
    }
    // The register that each argument starts at.
    let mut first = Vec::new();
    let mut registers = 0;
    for (_, kind, span) in &fields {
        first.push(registers);
        registers += TYPES.iter().find(|t| t.name == *kind).map_or(1, |t| t.registers);
        if registers > 6 {
            report.error(span.clone(), "more than six registers");
            return Vec::new();
        }
    }
    // Which argument is the length of which buffer.
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    let mut args = Vec::new();
    for (index, (name, kind, span)) in fields.iter().enumerate() {
        let register = format!("args[{}]", first[index]);
        let mut arg = Arg { name: name.to_string(), ..Arg::default() };
        let (written, pointer) = kind.strip_prefix("mut").map_or((false, *kind), |rest| (true, rest));
        if let Some(target) = pointer.strip_prefix('*') {
            let (target, count) = target.split_once('[').unwrap_or((target, "1]"));
            let count = count.trim_end_matches(']');
            let count = if count == "return" {
                "Count::Result".to_owned()
            } else if let Ok(number) = count.parse::<u8>() {
                format!("Count::Fixed({number})")
            } else if let Some(at) = fields.iter().position(|f| f.0 == count) {
                format!("Count::Arg({at})")
            } else {
                report.error(span.clone(), &format!("no argument is called `{count}`"));
                continue;
            };
            let path = if target.starts_with(char::is_lowercase) { "" } else { "abi::" };
            arg.kind = format!("ArgKind::Ptr {{ target: {target:?}, written: {written}, count: {count} }}");
            arg.wrap = format!("GuestPtr::<{path}{target}>::new({register})");
        } else if let Some((buffer, length)) = kind.split_once('(') {
            let rust = match buffer {
                "In" | "Out" => buffer,
                "IovIn" | "IovOut" => "Iov",
                _ => {
                    report.error(span.clone(), "a buffer is In(len), Out(len), IovIn(n) or IovOut(n)");
                    continue;
                }
            };
            let length = length.trim_end_matches(')');
            let Some(at) = fields.iter().position(|f| f.0 == length) else {
                report.error(span.clone(), &format!("no argument is called `{length}`"));
                continue;
            };
            lengths.insert(at, index);
            arg.kind = format!("ArgKind::{buffer}({at})");
            arg.wrap = format!("{rust}::new({register}, args[{}])", first[at]);
            if rust != "Iov" {
                arg.prepare = format!("            let b{index} = {}.host(&p.machine.memory);\n", arg.wrap);
                arg.pass = format!("b{index}.arg()");
            }
        } else if let Some(kind) = TYPES.iter().find(|t| t.name == *kind) {
            let second = format!("args[{}]", first[index] + 1);
            let fill = |pattern: &str| pattern.replace("$2", &second).replace('$', &register);
            let mut variant = kind.name.to_string();
            variant[..1].make_ascii_uppercase();
            arg.kind = format!("ArgKind::{variant}");
            arg.wrap = fill(kind.wrap);
            arg.pass = fill(kind.pass);
        } else {
            report.error(span.clone(), &format!("`{kind}` is not an argument type; see the table's head"));
        }
        args.push(arg);
    }
    for (length, buffer) in lengths {
        if let Some(arg) = args.get_mut(length) {
            arg.wrap = String::new();
            arg.pass = format!("b{buffer}.len.into()");
        }
    }
    args
}
