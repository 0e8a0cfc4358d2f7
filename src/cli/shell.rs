//! `table86 completions` and `table86 man`: what shells and readers want of the command line, from its own description.

use super::{Arguments, Failure};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::io::{self, Write};
use std::path::PathBuf;

/// Prints a script that completes this command line in a shell.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 completions bash > /etc/bash_completion.d/table86\n  \
                        table86 completions zsh > /usr/local/share/zsh/site-functions/_table86\n  \
                        table86 completions fish > ~/.config/fish/completions/table86.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Arguments::command(), "table86", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}

/// Prints the manual page, or writes it and those of all subcommands into a directory.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 man | man -l -                     reads it\n  \
                        table86 man /usr/local/share/man/man1      installs it: table86.1, table86-run.1, …")]
pub(super) struct ManPages {
    /// Where to write the pages; it is made if need be
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl ManPages {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let command = Arguments::command().disable_help_subcommand(true);
        let Some(directory) = &self.directory else {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            return Ok(io::stdout().write_all(&page)?);
        };
        let failed = |error| Failure::own(format!("{}: cannot be written: {error}", directory.display()));
        std::fs::create_dir_all(directory).map_err(failed)?;
        clap_mangen::generate_to(command, directory).map_err(failed)
    }
}
