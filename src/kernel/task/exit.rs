//! The end of threads and processes (exit(2), exit_group(2)).

use super::super::errno::Errno;
use super::super::host::{self as calls, Arg};
use super::super::process::{ExitReason, Process};
use super::super::signal::host;
use super::group::End;
use super::{id, robust};

const FUTEX_WAKE: i32 = 1;

/// exit(2): the end of this thread, and of the process with its last one.
pub fn exit(p: &mut Process, status: i32) -> Result<u32, Errno> {
    p.ends_alone = true;
    exit_group(p, status)
}

/// exit_group(2).
pub fn exit_group(p: &mut Process, status: i32) -> Result<u32, Errno> {
    p.end = Some(ExitReason::Exited(status as u8));
    Ok(0)
}

/// What the kernel does for a thread that ends: the others of its process end too if that was meant, robust futexes are
/// given up, and whoever waits for the thread is woken. Its signals are blocked from then on.
pub(in crate::kernel) fn leave(p: &mut Process) {
    let end = End { reason: p.end.unwrap_or(ExitReason::LimitReached), eip: p.machine.cpu.eip };
    if !p.ends_alone {
        p.group.end(end);
    }
    robust::release(p);
    host::detach();
    // Alone, nobody could see it (set_tid_address(2)).
    if p.group.has_others() {
        clear_tid(p);
    }
    p.group.leave(id(), end);
}

/// Clears the word that shows the thread's id and wakes who waits there.
fn clear_tid(p: &mut Process) {
    let address = std::mem::take(&mut p.task.clear_child_tid);
    let memory = &p.machine.memory;
    if address != 0 && memory.write(address, 0u32).is_ok() {
        let host_address = memory.base().expose_provenance() + address as usize;
        // Nobody may be waiting; that is no error.
        let _ = calls::call(libc::SYS_futex, [host_address.into(), FUTEX_WAKE.into(), 1.into(), Arg::NULL]);
    }
}

impl ExitReason {
    /// What wait(2) shows of it.
    pub(in crate::kernel) fn wait_status(self) -> u32 {
        match self {
            ExitReason::Exited(status) => u32::from(status) << 8,
            ExitReason::Killed(signal) => signal as u32,
            ExitReason::LimitReached => 124 << 8,
        }
    }

    /// Ends the host process in the same way. A limit is status 124.
    pub fn finish(self) -> ! {
        match self {
            ExitReason::Exited(status) => host::leave(status.into()),
            ExitReason::Killed(signal) => host::die(signal),
            ExitReason::LimitReached => host::leave(124),
        }
    }
}
