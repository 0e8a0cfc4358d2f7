//! `table86 strace`: runs a program and shows its system calls.

use super::Failure;
use super::run::Run;
use clap::Args;
use std::path::PathBuf;
use table86::kernel::strace::{Filter, Settings};

/// Runs a program and shows its system calls and signals in strace's look, on stderr.
///
/// What each argument is comes from the table of system calls.
#[derive(Args)]
#[command(
    about = "Runs a program and shows its system calls",
    long_about = None,
    after_help = "Examples:\n  table86 strace ./prog arg1             all calls\n  \
                  table86 strace -f -o LOG ./prog        those of threads and children too, in a file\n  \
                  table86 strace -e trace=%file ./prog   only those that take a path\n  \
                  table86 strace -c ./prog               a table of counts and times\n\n\
                  Classes: %file %desc %process %network %signal %memory %ipc %clock.\n\n\
                  Of signals, those with a handler and those that a fault raises are shown: the kernel carries out the \
                  default action of the others, and a program that ends by one of them shows no last line."
)]
pub(super) struct Strace {
    /// Show threads and children too
    #[arg(short = 'f')]
    follow: bool,
    /// Show only how often each call was made, and how long that took
    #[arg(short = 'c')]
    summary: bool,
    /// Show how long each call took
    #[arg(short = 'T')]
    times: bool,
    /// Write to FILE
    #[arg(short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Which calls to show: trace= and names or %classes with commas between; ! before the list shows all others
    #[arg(short = 'e', value_name = "trace=SET", value_parser = Filter::parse)]
    filter: Option<Filter>,
    #[command(flatten)]
    run: Run,
}

impl Strace {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let mut request = self.run.request();
        request.trace_to = self.output;
        request.kernel.strace = Some(Settings {
            follow: self.follow,
            summary: self.summary,
            times: self.times,
            to_file: request.trace_to.is_some(),
            filter: self.filter.unwrap_or_default(),
        });
        request.execute()
    }
}
