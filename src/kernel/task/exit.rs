//! The end of a process (exit(2), exit_group(2)).

use super::super::errno::Errno;
use super::super::process::{ExitReason, Process};
use super::super::signal::host;
use super::robust;

/// exit(2). The process has one thread, so this is `exit_group`.
pub fn exit(p: &mut Process, status: i32) -> Result<u32, Errno> {
    exit_group(p, status)
}

/// exit_group(2).
pub fn exit_group(p: &mut Process, status: i32) -> Result<u32, Errno> {
    p.end = Some(ExitReason::Exited(status as u8));
    Ok(0)
}

/// What the kernel does for a task that ends, as far as the host does not: the robust futexes.
pub fn leave(p: &mut Process) {
    robust::release(p);
}

impl ExitReason {
    /// Ends the host process in the same way. A limit is status 124.
    pub fn finish(self) -> ! {
        match self {
            ExitReason::Exited(status) => host::leave(status.into()),
            ExitReason::Killed(signal) => host::die(signal),
            ExitReason::LimitReached => host::leave(124),
        }
    }
}
