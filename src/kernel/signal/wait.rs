//! Waiting for signals (sigsuspend(2), sigtimedwait(2)).

use super::info::SIZE;
use super::mask::{SET_SIZE, read_set, with_temporary};
use super::{Info, SigSet, host as signal_host};
use crate::kernel::errno::Errno;
use crate::kernel::host;
use crate::kernel::process::Process;
use crate::kernel::timers::{Width, read_timespec};

/// Blocks until a signal with a handler arrives, with `mask` in force.
fn suspend(p: &mut Process, mask: SigSet) -> Result<u32, Errno> {
    with_temporary(p, Some(mask), |_| host::blocking(libc::SYS_ppoll, [0; 6]).map(|_| 0))
}

/// rt_sigsuspend(2).
pub fn rt_sigsuspend(p: &mut Process, mask: u32, size: u32) -> Result<u32, Errno> {
    let mask = read_set(p, mask, size)?;
    suspend(p, mask)
}

/// sigsuspend(2) with the old 32-bit mask in its third argument.
pub fn sigsuspend(p: &mut Process, _unused1: i32, _unused2: i32, mask: u32) -> Result<u32, Errno> {
    suspend(p, SigSet(mask.into()))
}

fn timed_wait(
    p: &mut Process,
    set: u32,
    info: u32,
    timeout: u32,
    size: u32,
    width: Width,
) -> Result<u32, Errno> {
    let wanted = read_set(p, set, size)?.without_unblockable();
    let timeout = read_timespec(p, timeout, width)?;
    signal_host::collect_held(&mut p.signals);
    let found = match p.signals.held.iter().position(|held| wanted.contains(held.signal)) {
        Some(at) => p.signals.held.remove(at),
        None => {
            let mut bytes = [0u8; SIZE];
            let set = wanted.minus(SigSet::FAULTS).0;
            let args = [
                (&raw const set).addr(),
                bytes.as_mut_ptr().expose_provenance(),
                timeout.as_ref().map_or(0, |t| (&raw const *t).addr()),
                SET_SIZE as usize,
                0,
                0,
            ];
            host::blocking(libc::SYS_rt_sigtimedwait, args)?;
            Info::from_host(&bytes)
        }
    };
    if info != 0 {
        p.machine.memory.write(info, found.to_guest())?;
    }
    Ok(found.signal as u32)
}

/// rt_sigtimedwait(2) with 32-bit seconds.
pub fn rt_sigtimedwait(p: &mut Process, set: u32, info: u32, timeout: u32, size: u32) -> Result<u32, Errno> {
    timed_wait(p, set, info, timeout, size, Width::Time32)
}

/// rt_sigtimedwait(2) with 64-bit seconds.
pub fn rt_sigtimedwait_time64(
    p: &mut Process,
    set: u32,
    info: u32,
    timeout: u32,
    size: u32,
) -> Result<u32, Errno> {
    timed_wait(p, set, info, timeout, size, Width::Time64)
}
