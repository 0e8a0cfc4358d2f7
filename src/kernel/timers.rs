//! Timers that raise signals (setitimer(2), timer_create(2)).

use super::abi::{GuestItimerspec, Itimerspec, Itimerspec64, Itimerval, Sigevent, Timeval};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::{self, Arg};
use super::process::Process;

/// setitimer(2). As in Linux, no new value stops the timer.
pub fn setitimer(p: &mut Process, which: i32, value: u32, old: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let new = GuestPtr::<Itimerval>::new(value).read_opt(memory)?.unwrap_or(Itimerval::ZERO);
    let (interval, value) = (new.interval, new.value);
    let new = libc::itimerval { it_interval: interval.to_host(), it_value: value.to_host() };
    let mut before: libc::itimerval = host::zeroed();
    host::call(libc::SYS_setitimer, [which.into(), Arg::input(&new), Arg::output(&mut before)])?;
    GuestPtr::new(old).write_opt(memory, guest_itimerval(&before))?;
    Ok(0)
}

/// getitimer(2).
pub fn getitimer(p: &mut Process, which: i32, value: u32) -> Result<u32, Errno> {
    let mut now: libc::itimerval = host::zeroed();
    host::call(libc::SYS_getitimer, [which.into(), Arg::output(&mut now)])?;
    GuestPtr::new(value).write(&p.machine.memory, guest_itimerval(&now))?;
    Ok(0)
}

fn guest_itimerval(timer: &libc::itimerval) -> Itimerval {
    Itimerval { interval: Timeval::from_host(timer.it_interval), value: Timeval::from_host(timer.it_value) }
}

/// `struct sigevent` as the host's kernel takes it.
#[repr(C)]
struct HostSigevent {
    value: u64,
    signo: i32,
    notify: i32,
    tid: i32,
    pad: [u32; 11],
}

const _: () = assert!(size_of::<HostSigevent>() == 64);

/// timer_create(2). The guest's timers are the host's, by the same numbers.
pub fn timer_create(p: &mut Process, clock: i32, event: u32, id: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let event = GuestPtr::<Sigevent>::new(event).read_opt(memory)?.map(|event| HostSigevent {
        value: event.value.into(),
        signo: event.signo,
        notify: event.notify,
        tid: event.tid,
        pad: [0; 11],
    });
    let mut timer = 0i32;
    let args = [clock.into(), Arg::input_opt(event.as_ref()), Arg::output(&mut timer)];
    host::call(libc::SYS_timer_create, args)?;
    if let Err(bad) = memory.write(id, timer) {
        host::call(libc::SYS_timer_delete, [timer.into()])?;
        return Err(bad.into());
    }
    Ok(0)
}

fn settime<T: GuestItimerspec>(
    p: &mut Process,
    id: i32,
    flags: u32,
    new: GuestPtr<T>,
    old: GuestPtr<T>,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let new = new.read_opt(memory)?.ok_or(Errno::EINVAL)?.to_host();
    let mut before: libc::itimerspec = host::zeroed();
    let args = [id.into(), flags.into(), Arg::input(&new), Arg::output(&mut before)];
    host::call(libc::SYS_timer_settime, args)?;
    old.write_opt(memory, T::from_host(before))?;
    Ok(0)
}

fn gettime<T: GuestItimerspec>(p: &mut Process, id: i32, value: GuestPtr<T>) -> Result<u32, Errno> {
    let mut now: libc::itimerspec = host::zeroed();
    host::call(libc::SYS_timer_gettime, [id.into(), Arg::output(&mut now)])?;
    value.write(&p.machine.memory, T::from_host(now))?;
    Ok(0)
}

/// timer_settime(2) with 32-bit seconds.
pub fn timer_settime(p: &mut Process, id: i32, flags: u32, new: u32, old: u32) -> Result<u32, Errno> {
    settime::<Itimerspec>(p, id, flags, GuestPtr::new(new), GuestPtr::new(old))
}

/// timer_settime(2) with 64-bit seconds.
pub fn timer_settime64(p: &mut Process, id: i32, flags: u32, new: u32, old: u32) -> Result<u32, Errno> {
    settime::<Itimerspec64>(p, id, flags, GuestPtr::new(new), GuestPtr::new(old))
}

/// timer_gettime(2) with 32-bit seconds.
pub fn timer_gettime(p: &mut Process, id: i32, value: u32) -> Result<u32, Errno> {
    gettime::<Itimerspec>(p, id, GuestPtr::new(value))
}

/// timer_gettime(2) with 64-bit seconds.
pub fn timer_gettime64(p: &mut Process, id: i32, value: u32) -> Result<u32, Errno> {
    gettime::<Itimerspec64>(p, id, GuestPtr::new(value))
}
