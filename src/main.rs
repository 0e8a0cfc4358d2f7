//! The command line of Table86.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
