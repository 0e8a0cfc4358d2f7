//! The command line: a file a subcommand. A thin layer over the library.
//!
//! Exit statuses: the guest's own, or 124 when a limit was reached, 125 for our own errors, 126 for what cannot be run, 127 for
//! what is not found.

mod audit;
mod binfmt;
mod check;
mod count;
mod cov;
mod dis;
mod gdb;
mod html;
mod isa;
mod like_qemu;
mod run;
mod shell;
mod strace;
mod tool;
mod trace;
mod values;

use clap::{Args, FromArgMatches, Parser, Subcommand};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use table86::kernel::exec::state;

/// Exit status of our own errors.
const OWN_ERROR: u8 = 125;
/// Exit status for what cannot be run.
const NOT_RUNNABLE: u8 = 126;
/// Exit status for what is not found.
const NOT_FOUND: u8 = 127;

/// Columns of help at most.
const WIDTH: usize = 110;

/// Runs 32-bit x86 Linux programs in user space.
#[derive(Parser)]
#[command(
    name = "table86",
    version,
    max_term_width = WIDTH,
    arg_required_else_help = true,
    after_help = "Examples:\n  table86 run ./hello            run an i386 program\n  \
                  table86 run -L /srv/i386 bash  with its libraries from a sysroot\n  \
                  table86 dis ./hello            disassemble it\n  \
                  table86 isa shld               look up an instruction\n\n\
                  Exit status: the program's own; 124 a limit was reached, 125 an error of Table86, 126 the file cannot be \
                  run, 127 it is not found. A program killed by a signal ends Table86 by the same signal."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Run),
    Strace(strace::Strace),
    Trace(Box<trace::Trace>),
    Gdb(gdb::Gdb),
    Cov(cov::Cov),
    Count(count::Count),
    Dis(dis::Dis),
    Isa(isa::Isa),
    Audit(audit::Audit),
    Check(check::Check),
    Binfmt(binfmt::Binfmt),
    Completions(shell::Completions),
    Man(shell::ManPages),
}

/// An error to be shown, and the exit status that goes with it.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

impl Failure {
    fn new(status: u8, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into() }
    }

    fn own(message: impl Into<String>) -> Failure {
        Failure::new(OWN_ERROR, message)
    }
}

/// Output of the subcommands failed; a closed pipe is no error.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(0, ""),
            _ => Failure::own(format!("cannot write: {error}")),
        }
    }
}

/// Runs what the arguments ask for.
pub fn main() -> ExitCode {
    // The guest's execve comes first: then the arguments are the guest's, not ours.
    let result = match state::resumed() {
        Some(resumed) => run::resume(resumed),
        None => command(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                // Nobody is left to be told if this fails.
                let _ = writeln!(io::stderr(), "table86: {}", failure.message);
            }
            ExitCode::from(failure.status)
        }
    }
}

/// What the arguments say. `run` is parsed without what the other subcommands are: describing them takes longer than many a
/// program runs.
fn parse() -> Result<Command, clap::Error> {
    const RUN: &str = "run";
    let arguments = std::env::args_os().skip(1);
    if std::env::args_os().nth(1).is_none_or(|name| name != RUN) {
        return Ok(Arguments::try_parse()?.command);
    }
    let own = clap::Command::new(RUN).bin_name("table86 run").max_term_width(WIDTH);
    let matches = run::Run::augment_args(own).try_get_matches_from(arguments)?;
    Ok(Command::Run(run::Run::from_arg_matches(&matches)?))
}

fn command() -> Result<(), Failure> {
    let mut arguments = std::env::args_os();
    let called_as = arguments.next().unwrap_or_default();
    if is_like_qemu(&called_as) {
        return like_qemu::run(&called_as, arguments);
    }
    let command = match parse() {
        Ok(command) => command,
        Err(error) => {
            let status = if error.use_stderr() { OWN_ERROR } else { 0 };
            // A closed pipe is the reader's wish.
            let _ = error.print();
            return Err(Failure::new(status, ""));
        }
    };
    match command {
        Command::Run(run) => run.execute(),
        Command::Strace(strace) => strace.execute(),
        Command::Trace(trace) => trace.execute(),
        Command::Gdb(gdb) => gdb.execute(),
        Command::Cov(cov) => cov.execute(),
        Command::Count(count) => count.execute(),
        Command::Dis(dis) => dis.execute(),
        Command::Isa(isa) => isa.execute(),
        Command::Audit(audit) => audit.execute(),
        Command::Check(check) => check.execute(),
        Command::Binfmt(binfmt) => binfmt.execute(),
        Command::Completions(completions) => completions.execute(),
        Command::Man(man) => man.execute(),
    }
}

/// Tells whether the name we are called by asks for qemu-i386's command line.
fn is_like_qemu(called_as: &OsStr) -> bool {
    let name = Path::new(called_as).file_name().unwrap_or_default().as_bytes();
    name.windows(4).any(|part| part == b"i386")
}
