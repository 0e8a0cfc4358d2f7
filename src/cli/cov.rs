//! `table86 cov`: runs a program and writes which code it executed.

use super::{Failure, count};
use clap::Args;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use table86::debug::count::Detail;
use table86::debug::cov;

/// Runs a program and writes which code it, its libraries, children and the programs that it executes have executed.
///
/// drcov is read by tools that show covered basic blocks, such as lighthouse; lcov by genhtml and its like: lines need DWARF in
/// the files. Counts are exact. What a signal kills that the program does not handle is not counted.
#[derive(Args)]
#[command(
    about = "Runs a program and writes which code was executed (drcov, lcov)",
    after_help = "Examples:\n  table86 cov --drcov hello.drcov ./hello\n  \
                  table86 cov --lcov hello.info ./hello && genhtml -o html hello.info\n  \
                  table86 cov --drcov a --lcov b -L /srv/i386 ./dynamic ARGS\n\n\
                  Options of `table86 run` may stand before the program. Exit status: the program's."
)]
pub(super) struct Cov {
    /// Write covered basic blocks of all files to FILE, as drcov, version 2 [default: table86.drcov, unless --lcov is given]
    #[arg(long, value_name = "FILE")]
    drcov: Option<PathBuf>,
    /// Write how often lines were executed to FILE, as an lcov tracefile
    #[arg(long, value_name = "FILE")]
    lcov: Option<PathBuf>,
    /// The program and its arguments, with options of `run` before
    #[arg(value_name = "PROG", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

impl Cov {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let (totals, status) = count::run(&self.program, Detail::Places)?;
        let (files, mut without) = cov::covered(&totals);
        let drcov = self.drcov.or_else(|| self.lcov.is_none().then(|| "table86.drcov".into()));
        let bad = |path: &Path, error: io::Error| Failure::own(format!("{}: {error}", path.display()));
        if let Some(path) = drcov {
            let write = || {
                let mut out = BufWriter::new(File::create(&path)?);
                cov::write_drcov(&mut out, &files)?;
                out.flush()
            };
            write().map_err(|error| bad(&path, error))?;
        }
        if let Some(path) = self.lcov {
            let text = cov::lcov(&files, &mut without);
            std::fs::write(&path, text).map_err(|error| bad(&path, error))?;
        }
        for line in without {
            writeln!(io::stderr(), "table86: left out: {line}")?;
        }
        count::end_as(status)
    }
}
