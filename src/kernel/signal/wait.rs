//! Waiting for signals (sigsuspend(2), sigtimedwait(2)).

use super::info::SIZE;
use super::mask::{SET_SIZE, read_set, with_temporary};
use super::{Info, SigSet, host as signal_host};
use crate::kernel::abi::{GuestTimespec, Timespec, Timespec64};
use crate::kernel::args::GuestPtr;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::kernel::process::Process;

/// Blocks until a signal with a handler arrives, with `mask` in force.
fn suspend(p: &mut Process, mask: SigSet) -> Result<u32, Errno> {
    with_temporary(p, Some(mask), |_| {
        host::pass_blocking(libc::SYS_ppoll, [Arg::NULL, 0.into(), Arg::NULL, Arg::NULL])
    })
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

fn timed_wait<T: GuestTimespec>(
    p: &mut Process,
    set: u32,
    info: u32,
    timeout: GuestPtr<T>,
    size: u32,
) -> Result<u32, Errno> {
    let wanted = read_set(p, set, size)?.without_unblockable();
    let timeout = timeout.read_opt(&p.machine.memory)?.map(T::to_host);
    signal_host::collect_held(&mut p.signals);
    let found = match p.signals.held.iter().position(|held| wanted.contains(held.signal)) {
        Some(at) => p.signals.held.remove(at),
        None => {
            let mut bytes = [0u8; SIZE];
            let set = wanted.minus(SigSet::FAULTS).0;
            let args = [
                Arg::input(&set),
                Arg::slice_mut(&mut bytes),
                Arg::input_opt(timeout.as_ref()),
                SET_SIZE.into(),
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
    timed_wait(p, set, info, GuestPtr::<Timespec>::new(timeout), size)
}

/// rt_sigtimedwait(2) with 64-bit seconds.
pub fn rt_sigtimedwait_time64(
    p: &mut Process,
    set: u32,
    info: u32,
    timeout: u32,
    size: u32,
) -> Result<u32, Errno> {
    timed_wait(p, set, info, GuestPtr::<Timespec64>::new(timeout), size)
}
