//! Waiting for children (wait(2), wait4(2)).

use super::super::abi::Rusage;
use super::super::args::GuestPtr;
use super::super::blocking::NOT_STARTED;
use super::super::errno::Errno;
use super::super::host::{self, Arg};
use super::super::process::Process;
use super::super::ptrace::tracer::{self, Seen};
use super::super::signal::{Fields, Info, info::SIZE};
use libc::SIGCHLD;

/// Bytes of `siginfo_t` that waitid(2) writes: up to `si_status`.
const WAITID_INFO: usize = 24;

/// waitpid(2).
pub fn waitpid(p: &mut Process, pid: i32, status: u32, options: u32) -> Result<u32, Errno> {
    wait4(p, pid, status, options, 0)
}

/// wait4(2).
pub fn wait4(p: &mut Process, pid: i32, status: u32, options: u32, rusage: u32) -> Result<u32, Errno> {
    let mut ended = 0i32;
    let mut usage: libc::rusage = host::zeroed();
    let child = loop {
        let args = [pid.into(), Arg::output(&mut ended), options.into(), Arg::output(&mut usage)];
        let child = host::pass_blocking(libc::SYS_wait4, args)?;
        if child == 0 || !libc::WIFSTOPPED(ended) {
            p.group.tracees.remove(child);
            break child;
        }
        match tracer::look(p, child, ended as u32 >> 8) {
            Seen::Own => {}
            Seen::Guest(status) => {
                ended = (status << 8 | 0x7f) as i32;
                break child;
            }
            Seen::Foreign => break child,
        }
    };
    if child != 0 {
        let memory = &p.machine.memory;
        GuestPtr::new(status).write_opt(memory, ended)?;
        GuestPtr::new(rusage).write_opt(memory, Rusage::from_host(&usage))?;
    }
    Ok(child)
}

/// waitid(2), with the kernel's fifth argument.
pub fn waitid(
    p: &mut Process,
    which: i32,
    pid: i32,
    info: u32,
    options: u32,
    rusage: u32,
) -> Result<u32, Errno> {
    let mut bytes = [0u8; SIZE];
    let mut usage: libc::rusage = host::zeroed();
    let (result, found) = loop {
        let args =
            [which.into(), pid.into(), Arg::slice_mut(&mut bytes), options.into(), Arg::output(&mut usage)];
        let result = host::blocking(libc::SYS_waitid, args);
        if result == Err(NOT_STARTED) {
            return Err(NOT_STARTED);
        }
        let mut found = Info::from_host(&bytes);
        let stopped = matches!(found.code, libc::CLD_TRAPPED | libc::CLD_STOPPED);
        if let (SIGCHLD, Fields::Child { pid: child, status, .. }) = (found.signal, &mut found.fields) {
            match stopped.then(|| tracer::look(p, *child as u32, *status as u32)) {
                Some(Seen::Own) => {
                    bytes.fill(0);
                    continue;
                }
                Some(Seen::Guest(shown)) => *status = shown as i32,
                Some(Seen::Foreign) => {}
                None if options & libc::WNOWAIT as u32 == 0 => p.group.tracees.remove(*child as u32),
                None => {}
            }
        }
        break (result, found);
    };
    let memory = &p.machine.memory;
    if found.signal != 0 {
        GuestPtr::new(rusage).write_opt(memory, Rusage::from_host(&usage))?;
    }
    // As in Linux, zeros are written when the call fails.
    if info != 0 {
        memory.write_bytes(info, &found.to_guest()[..WAITID_INFO])?;
    }
    result.map(|_| 0)
}
