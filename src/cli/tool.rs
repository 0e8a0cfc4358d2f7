//! What watches a program: chosen by the subcommand, and kept over the program's `execve`.
//!
//! The subcommand's own words are handed on and read again, so the next program is watched as the first one was.

use super::{Arguments, Command, Failure};
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::io::IsTerminal;
use table86::debug::count::Counter;
use table86::debug::trace::Tracer;
use table86::kernel::Process;

/// Between words, and before the name of the process.
const SEPARATOR: char = '\0';

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Color {
    /// Whether to use them on stderr, or in a file.
    pub(super) fn wanted(self, to_file: bool) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !to_file && !set("NO_COLOR") && std::io::stderr().is_terminal(),
        }
    }
}

/// The words of our own command line but for the program's, of which there are so many.
pub(super) fn own_options(program_words: usize) -> String {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let own = words.len().saturating_sub(program_words);
    let own: Vec<String> = words[..own].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    own.join(&SEPARATOR.to_string())
}

/// Whether the program is to be run by a machine that counts.
pub(super) fn counts(tool: Option<&str>) -> bool {
    tool.is_some_and(|text| text.split(SEPARATOR).next() == Some("count"))
}

/// Lets the process be watched as its options say.
pub(super) fn install(process: &mut Process) -> Result<(), Failure> {
    let Some(text) = process.options.tool.clone() else { return Ok(()) };
    let words = ["table86"].into_iter().chain(text.split(SEPARATOR)).chain(["program"]);
    let lost = |why: &dyn std::fmt::Display| Failure::own(format!("cannot go on watching: {why}"));
    let arguments = Arguments::try_parse_from(words).map_err(|error| lost(&error))?;
    let output = process.launch.output().ok_or_else(|| lost(&"its output is lost"))?;
    match arguments.command {
        Command::Trace(trace) => {
            let mut settings = trace.settings();
            settings.sysroot.clone_from(&process.options.sysroot);
            let tracer = Tracer::new(settings, output);
            process.machine.set_hook(Some(Tracer::hook(&tracer)));
            process.observer = Some(tracer);
        }
        Command::Count(count) => {
            let sysroot = process.options.sysroot.clone();
            process.observer = Some(Counter::new(output, count.detail(), sysroot));
        }
        _ => return Err(lost(&"another subcommand")),
    }
    Ok(())
}
