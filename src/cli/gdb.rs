//! `table86 gdb`: runs a program under gdb.

use super::Failure;
use super::run::Run;
use clap::Args;
use std::io::{self, Write};
use table86::debug::gdb::{Address, Listener, serve};
use table86::kernel::Process;

/// Runs a program for gdb, which connects from another terminal: waits before the first instruction.
///
/// It speaks gdb's remote protocol: registers (i386 core, x87, SSE), memory, breakpoints, watchpoints, steps, threads, signals,
/// system calls (catch syscall), auxv, libraries, and the guest's files, so that gdb needs neither the program nor a sysroot.
/// Breakpoints are no bytes in the program's memory. With a watchpoint the
/// program goes step by step, some hundred times slower. Children run free; a program that executes another one leaves gdb.
#[derive(Args)]
#[command(
    about = "Runs a program for gdb, which connects from another terminal",
    after_help = "Examples:\n  table86 gdb ./prog arg1                 waits on port 1234 of this machine\n  \
                  gdb ./prog -ex 'target remote :1234'    there\n  \
                  table86 gdb -g /tmp/socket ./prog       waits on a socket\n  \
                  table86 gdb -L /srv/i386 ./dynamic      there: gdb -ex 'target remote :1234'\n  \
                  table86 run -g 1234 ./prog              the same\n\n\
                  In gdb: monitor help"
)]
pub(super) struct Gdb {
    #[command(flatten)]
    run: Run,
}

/// Where to wait if nothing is said: as others do.
const PORT: &str = "1234";

impl Gdb {
    pub(super) fn execute(self) -> Result<(), Failure> {
        let mut request = self.run.request();
        let Ok(default) = PORT.parse();
        request.gdb.get_or_insert(default);
        request.execute()
    }
}

/// Begins to wait for gdb.
pub(super) fn listen(address: &Address) -> Result<Listener, Failure> {
    let listener = Listener::new(address).map_err(|error| {
        let (place, next) = match address {
            Address::Tcp(address) => (address.clone(), "give another port with -g PORT"),
            Address::Unix(path) => (path.display().to_string(), "give another path with -g SOCKET"),
        };
        Failure::own(format!("cannot wait for gdb on {place}: {error}; {next}"))
    })?;
    // Whoever does not read it knows where to connect.
    let _ = writeln!(io::stderr(), "table86: waiting for gdb; there: target remote {listener}");
    Ok(listener)
}

/// Waits for gdb and lets it debug the process.
pub(super) fn accept(process: &mut Process, listener: Listener) -> Result<(), Failure> {
    let lost = |error: io::Error| Failure::own(format!("cannot talk to gdb: {error}"));
    serve(process, listener.accept().map_err(lost)?).map_err(lost)
}
