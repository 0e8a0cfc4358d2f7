//! `table86 audit`: what there is and what is missing, in the tables or for programs.

mod files;
mod grid;
mod html;
mod programs;
mod run;
mod tables;

use super::{Failure, values};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Exit status when something was found that `--fail-on` names.
const FOUND: u8 = 1;

/// Shows what of the instruction set is declared, implemented, verified on a processor and missing; with files, what is missing
/// for these programs.
///
/// Without a FILE: the opcode maps against every instruction there is, totals by table and CPUID feature, each row that is not
/// verified, and the system calls.
///
/// With FILEs, or directories that are gone through: the code of i386 programs and libraries is found from entry points,
/// symbols, unwinding tables and relocated pointers, followed through branches and jump tables, and the rest swept. Shown are the
/// instructions in it, those that are missing or that the `--cpu` model does not have, with addresses of examples, and the system
/// calls whose numbers are to be seen. What only sweeping found in a stretch that does not look like code counts as doubtful.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 audit                     opcode maps and totals\n  \
                        table86 audit --json              the same for programs, with each row\n  \
                        table86 audit --html tables.html  the same as a page\n  \
                        table86 audit ./prog              what is in this program, and missing for it\n  \
                        table86 audit --cpu pentium4      what this processor has, and what CPUID shows of it\n  \
                        table86 audit --cpu pentium2 --fail-on missing,outside ./prog   for scripts: status 1 if any is\n  \
                        table86 audit /srv/i386           a tree, with a summary\n  \
                        table86 audit --known ROWS --run ./prog ARGS   what a run executes, and what of it no run before did\n\n\
                        docs/audit-json.md describes the JSON. Exit status: 0; 1 if --fail-on found something; 125 to 127 as \
                        for `run`.")]
pub(super) struct Audit {
    /// JSON
    #[arg(long)]
    json: bool,
    /// Also writes a page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// The processor that programs are meant for: what it lacks is shown as outside. Without a FILE, its rows only
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Ends with status 1 if there is any; doubtful ones do not count
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    fail_on: Vec<FailOn>,
    /// Lists each row that occurs, for directories and several files, too
    #[arg(long)]
    rows: bool,
    /// Programs, libraries, or directories with them
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    counted: run::CountedRun,
}

/// What may not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Instructions that do not run
    Missing,
    /// Instructions that run but were never compared with a processor
    Unverified,
    /// Instructions that the `--cpu` model does not have
    Outside,
}

impl Audit {
    pub(super) fn execute(self) -> Result<(), Failure> {
        if self.counted.is_wanted() {
            return self.counted.audit(self.json);
        }
        let model = values::cpu_model(self.cpu.as_deref())?;
        let found = if self.files.is_empty() {
            if self.fail_on.contains(&FailOn::Outside) {
                return Err(Failure::own("--fail-on outside is about programs; name a FILE"));
            }
            tables::audit(&self, self.cpu.as_ref().map(|_| &model))?
        } else {
            programs::audit(&self, model)?
        };
        let failing: Vec<String> = found
            .into_iter()
            .filter(|(what, count)| *count > 0 && self.fail_on.contains(what))
            .map(|(what, count)| format!("{count} {}", format!("{what:?}").to_lowercase()))
            .collect();
        if failing.is_empty() {
            return Ok(());
        }
        Err(Failure::new(FOUND, format!("--fail-on: {}", failing.join(", "))))
    }
}

/// How many instructions or rows there are of what `--fail-on` may name.
type Found = Vec<(FailOn, u64)>;
