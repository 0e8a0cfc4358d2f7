//! `table86 trace`: runs a program and shows its instructions.

use super::run::Run;
use super::{Failure, tool, values};
use clap::{Args, ValueEnum};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use table86::debug::trace::{At, Layout, Settings};

/// Runs a program and shows each instruction: address, symbol, bytes, text, the values it reads and what it changes.
///
/// Calls are indented, and system calls and signals stand between the instructions in strace's words. Threads, children and
/// programs that are executed are shown, too. The trace goes to stderr unless -o says where.
#[derive(Args)]
#[command(
    about = "Runs a program and shows its instructions, with values",
    long_about = None,
    after_help = "Examples:\n  table86 trace examples/hello.hex            every instruction\n  \
                  table86 trace --layout full examples/hello.hex   with what each does in words\n  \
                  table86 trace -o LOG --from main ./prog     from the first instruction of main on, into a file\n  \
                  table86 trace --symbol 'str*' --calls ./prog     calls and returns in the functions whose names begin with str\n  \
                  table86 trace --row x87_arith ./prog        only rows of that table\n  \
                  table86 trace --after 1000000 --max 100 ./prog   one hundred, behind a million\n  \
                  table86 trace --no-address --no-bytes ./a   to be compared with that of another build\n\n\
                  A line of the compact layout is: address, symbol+offset, bytes, text; what is read, `->`, what has been written. \
                  Memory is [address:bytes]. Numbers are hexadecimal, flags 0 or 1.\n\n\
                  --help has the fields of --json.",
    after_long_help = "Examples:\n  table86 trace examples/hello.hex\n  table86 trace -o LOG --from main ./prog\n  \
                  table86 trace --json -o LOG ./prog\n\n\
                  A line of the compact layout is: address, symbol+offset, bytes, text; what is read, `->`, what has been written. \
                  Memory is [address:bytes]. Numbers are hexadecimal, flags 0 or 1.\n\n\
                  Each line of --json is an object. All have\n  \
                  kind      instruction, syscall, signal, start (of a thread or child) or exit\n  \
                  process   \"\" for the first; \"2\" for its second child, \"2.1\" for the first child of that\n  \
                  thread    counted from 1\n  \
                  depth     calls that have not returned\n\
                  All but instructions have\n  \
                  text      the call, signal or end as strace shows it\n\
                  Instructions have\n  \
                  count     instructions of this thread so far, this one included\n  \
                  address   \"0x…\"\n  \
                  module    path of the file that it belongs to, or null\n  \
                  symbol    name of the function, or null\n  \
                  offset    \"0x…\" from the symbol, or without one from the file's first mapping; null without a file\n  \
                  bytes     in hexadecimal, with blanks\n  \
                  text      in Intel's syntax, or null\n  \
                  row       table and line in opcodes/, as \"integer:12\", or null\n  \
                  reads     list of {register, bytes, value}, {memory, bytes, value} or {flag, value}\n  \
                  changes   list of {register, bytes, old, new}, {memory, bytes, old, new} or {flag, old, new}\n  \
                  outcome   \"taken\", \"not taken\", the exception that stopped it, or null\n\
                  Values are numbers as \"0x…\", of flags 0 or 1. Of more than 16 bytes, the first 16 in hexadecimal with blanks. \
                  null: could not be read."
)]
pub(super) struct Trace {
    /// How an instruction is shown
    #[arg(long, value_name = "LAYOUT", default_value = "compact", hide_default_value = true)]
    layout: LayoutName,
    /// The same as --layout json
    #[arg(long, conflicts_with = "layout")]
    json: bool,
    /// Colours: auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto", hide_default_value = true)]
    color: tool::Color,
    /// Write to FILE
    #[arg(short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave the addresses of instructions away
    #[arg(long)]
    no_address: bool,
    /// Leave the bytes away
    #[arg(long)]
    no_bytes: bool,
    /// Leave the values away
    #[arg(long)]
    no_values: bool,
    /// Leave system calls and signals away
    #[arg(long)]
    no_syscalls: bool,
    /// Show calls and returns only
    #[arg(long)]
    calls: bool,
    /// Show only addresses from FIRST to LAST; may be repeated, as all of these filters
    #[arg(long, value_name = "FIRST-LAST", value_parser = range)]
    range: Vec<RangeInclusive<u32>>,
    /// Show only functions of this name; * at its end stands for anything
    #[arg(long, value_name = "NAME")]
    symbol: Vec<String>,
    /// Show only code of the file of this name, such as libc.so.6
    #[arg(long, value_name = "NAME")]
    module: Vec<String>,
    /// Show only instructions of this mnemonic
    #[arg(long = "insn", value_name = "MNEMONIC")]
    mnemonic: Vec<String>,
    /// Show only instructions that this table of opcodes/ declares, or this line of it
    #[arg(long, value_name = "TABLE[:LINE]", value_parser = row)]
    row: Vec<(String, Option<u32>)>,
    /// Show only this thread, counted from 1
    #[arg(long, value_name = "N", value_parser = values::count)]
    thread: Vec<u64>,
    /// Begin when this address or symbol is come to
    #[arg(long, value_name = "ADDR|SYMBOL", value_parser = at)]
    from: Option<At>,
    /// End when this address or symbol is come to; the program runs on
    #[arg(long, value_name = "ADDR|SYMBOL", value_parser = at)]
    until: Option<At>,
    /// Show nothing of a thread's first N instructions
    #[arg(long, value_name = "N", value_parser = values::count)]
    after: Option<u64>,
    /// Show N instructions at most; the program runs on
    #[arg(long, value_name = "N", value_parser = values::count)]
    max: Option<u64>,
    #[command(flatten)]
    run: Run,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutName {
    /// A line an instruction
    Compact,
    /// Several lines, with sizes, old values and what it does in words
    Full,
    /// A JSON object a line
    Json,
}

impl Trace {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let tool = tool::own_options(self.run.program_words());
        let mut request = self.run.request();
        request.trace_to = self.output;
        request.kernel.tool = Some(tool);
        request.execute()
    }

    /// What the options ask for.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            layout: match self.layout {
                _ if self.json => Layout::Json,
                LayoutName::Compact => Layout::Compact,
                LayoutName::Full => Layout::Full,
                LayoutName::Json => Layout::Json,
            },
            color: self.color.wanted(self.output.is_some()),
            no_address: self.no_address,
            no_bytes: self.no_bytes,
            no_values: self.no_values,
            ranges: self.range.clone(),
            symbols: self.symbol.clone(),
            modules: self.module.clone(),
            mnemonics: self.mnemonic.iter().map(|name| name.to_ascii_lowercase()).collect(),
            rows: self.row.clone(),
            threads: self.thread.clone(),
            calls: self.calls,
            no_events: self.no_syscalls,
            from: self.from.clone(),
            after: self.after.unwrap_or(0),
            until: self.until.clone(),
            max: self.max,
            sysroot: None,
            process: String::new(),
        }
    }
}

/// `FIRST-LAST`, or one address.
fn range(text: &str) -> Result<RangeInclusive<u32>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (values::address(first)?, values::address(last)?);
    if first > last {
        return Err(format!("`{text}` ends before it begins"));
    }
    Ok(first..=last)
}

/// `TABLE` or `TABLE:LINE`.
fn row(text: &str) -> Result<(String, Option<u32>), String> {
    let (room, line) = match text.split_once(':') {
        Some((room, line)) => (room, Some(values::address(line)?)),
        None => (text, None),
    };
    let room = room.strip_prefix("opcodes/").unwrap_or(room);
    let room = room.strip_suffix(".toml").unwrap_or(room);
    if !table86::isa::FORMS.iter().any(|form| form.room == room) {
        return Err(format!("`{room}` is no table; `table86 audit` lists them"));
    }
    Ok((room.to_owned(), line))
}

/// An address, which begins with a digit, or a symbol.
fn at(text: &str) -> Result<At, String> {
    match text.chars().next() {
        None => Err("neither an address nor a symbol".to_owned()),
        Some('0'..='9') => values::address(text).map(At::Address),
        Some(_) => Ok(At::Symbol(text.to_owned())),
    }
}
