//! Descriptors that tell of events: eventfd, signalfd, timerfd, inotify.

use super::Process;
use super::abi::{GuestItimerspec, Itimerspec, Itimerspec64};
use super::args::{Fd, GuestPtr, Path};
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths::{self, Follow};
use super::signal::mask::read_set;

/// eventfd(2).
pub fn eventfd(_p: &mut Process, initval: u32) -> Result<u32, Errno> {
    host::pass(libc::SYS_eventfd2, [initval.into(), 0.into()])
}

/// signalfd(2).
pub fn signalfd(p: &mut Process, fd: Fd, mask: GuestPtr<u64>, size: u32) -> Result<u32, Errno> {
    signalfd4(p, fd, mask, size, 0)
}

/// signalfd4, see signalfd(2). What is read from it is the same on all architectures.
pub fn signalfd4(p: &mut Process, fd: Fd, mask: GuestPtr<u64>, size: u32, flags: u32) -> Result<u32, Errno> {
    let mask = read_set(p, mask.addr, size)?;
    host::pass(libc::SYS_signalfd4, [fd.into(), Arg::input(&mask.0), size.into(), flags.into()])
}

fn set_timer<T: GuestItimerspec>(
    p: &Process,
    fd: Fd,
    flags: u32,
    new: GuestPtr<T>,
    old: GuestPtr<T>,
) -> Result<u32, Errno> {
    let new = new.read(&p.machine.memory)?.to_host();
    let mut previous: libc::itimerspec = host::zeroed();
    host::call(
        libc::SYS_timerfd_settime,
        [fd.into(), flags.into(), Arg::input(&new), Arg::output(&mut previous)],
    )?;
    old.write_opt(&p.machine.memory, T::from_host(previous))?;
    Ok(0)
}

fn get_timer<T: GuestItimerspec>(p: &Process, fd: Fd, value: GuestPtr<T>) -> Result<u32, Errno> {
    let mut now: libc::itimerspec = host::zeroed();
    host::call(libc::SYS_timerfd_gettime, [fd.into(), Arg::output(&mut now)])?;
    value.write(&p.machine.memory, T::from_host(now))?;
    Ok(0)
}

/// timerfd_settime(2) with 32-bit seconds.
pub fn timerfd_settime(
    p: &mut Process,
    fd: Fd,
    flags: u32,
    new: GuestPtr<Itimerspec>,
    old: GuestPtr<Itimerspec>,
) -> Result<u32, Errno> {
    set_timer(p, fd, flags, new, old)
}

/// timerfd_settime(2).
pub fn timerfd_settime64(
    p: &mut Process,
    fd: Fd,
    flags: u32,
    new: GuestPtr<Itimerspec64>,
    old: GuestPtr<Itimerspec64>,
) -> Result<u32, Errno> {
    set_timer(p, fd, flags, new, old)
}

/// timerfd_gettime(2) with 32-bit seconds.
pub fn timerfd_gettime(p: &mut Process, fd: Fd, value: GuestPtr<Itimerspec>) -> Result<u32, Errno> {
    get_timer(p, fd, value)
}

/// timerfd_gettime(2).
pub fn timerfd_gettime64(p: &mut Process, fd: Fd, value: GuestPtr<Itimerspec64>) -> Result<u32, Errno> {
    get_timer(p, fd, value)
}

/// inotify_init(2).
pub fn inotify_init(_p: &mut Process) -> Result<u32, Errno> {
    host::pass(libc::SYS_inotify_init1, [0.into()])
}

/// inotify_add_watch(2).
pub fn inotify_add_watch(p: &mut Process, fd: Fd, path: Path, mask: u32) -> Result<u32, Errno> {
    let follow = if mask & libc::IN_DONT_FOLLOW != 0 { Follow::No } else { Follow::Yes };
    let path = paths::resolve(p, Fd::CWD, path, follow)?;
    host::pass(libc::SYS_inotify_add_watch, [fd.into(), Arg::text(&path), mask.into()])
}
