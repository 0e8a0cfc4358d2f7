//! `table86 count`: runs a program and writes records of what it executes, for those who add them up (`audit --run`, `cov`).

use super::run::Run;
use super::{Failure, OWN_ERROR, tool};
use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use table86::debug::count::{Detail, Totals};

/// Runs a program and writes records of what it executes.
///
/// Lines of the records: `row INDEX COUNT`, `call NUMBER COUNT`, `file PATH` and behind it `at OFFSET BYTES COUNT`. Those of one
/// thing are to be added up.
#[derive(Args)]
#[command(hide = true)]
pub(super) struct Count {
    /// Write to FILE
    #[arg(short = 'o', value_name = "FILE", required = true)]
    output: PathBuf,
    /// Where the instructions are in files, too
    #[arg(long)]
    places: bool,
    #[command(flatten)]
    run: Run,
}

impl Count {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let tool = tool::own_options(self.run.program_words());
        let mut request = self.run.request();
        request.trace_to = Some(self.output);
        request.kernel.tool = Some(tool);
        request.execute()
    }

    pub(super) fn detail(&self) -> Detail {
        if self.places { Detail::Places } else { Detail::Rows }
    }
}

/// Runs a program in a process of its own, which nothing that it does can keep from being added up. `words` are options of `run`, the program, and its
/// arguments.
pub(super) fn run(words: &[OsString], detail: Detail) -> Result<(Totals, ExitStatus), Failure> {
    let own = |what: &str, error: std::io::Error| Failure::own(format!("{what}: {error}"));
    let records = std::env::temp_dir().join(format!("table86-count-{}", std::process::id()));
    let mut command = Command::new("/proc/self/exe");
    command.arg0("table86").arg("count").arg("-o").arg(&records);
    if detail == Detail::Places {
        command.arg("--places");
    }
    let status = command.args(words).status().map_err(|error| own("cannot run this program again", error));
    let totals = Totals::read(&records);
    // Nothing else needs it.
    let _ = std::fs::remove_file(&records);
    let status = status?;
    match totals {
        Ok(totals) if totals.instructions() > 0 => Ok((totals, status)),
        // It has said why.
        _ if status.code().is_some_and(|code| code >= i32::from(OWN_ERROR)) => {
            Err(Failure::new(status.code().map_or(OWN_ERROR, |code| code as u8), ""))
        }
        Ok(totals) => Ok((totals, status)),
        Err(error) => Err(own("the records of the run", error)),
    }
}

/// Ends as the program did.
pub(super) fn end_as(status: ExitStatus) -> Result<(), Failure> {
    use table86::kernel::ExitReason;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(Failure::new(code as u8, "")),
        (None, Some(signal)) => ExitReason::Killed(signal).finish(),
        (None, None) => Ok(()),
    }
}
