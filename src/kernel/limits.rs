//! Resource limits and usage.
//!
//! Limits on memory are the guest's own: the host process has a reservation of 4 GiB, which they must not count.

use super::Process;
use super::abi::{Rlimit, Rlimit64, Rusage};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::{self, Arg};

/// "No limit" of the 32-bit calls, and of the 64-bit ones.
const INFINITY_32: u32 = u32::MAX;
const INFINITY: u64 = u64::MAX;
/// "No limit" of the old `getrlimit`.
const INFINITY_OLD: u32 = 0x7fff_ffff;
/// Number of resources (`RLIM_NLIMITS`).
const RESOURCES: u32 = 16;

const RLIMIT_DATA: u32 = libc::RLIMIT_DATA;
const RLIMIT_AS: u32 = libc::RLIMIT_AS;
const RLIMIT_STACK: u32 = libc::RLIMIT_STACK;

/// Limits that the host is not told; `None` until the guest sets them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    data: Option<Rlimit64>,
    address_space: Option<Rlimit64>,
}

impl Limits {
    fn own(&mut self, resource: u32) -> Option<&mut Option<Rlimit64>> {
        match resource {
            RLIMIT_DATA => Some(&mut self.data),
            RLIMIT_AS => Some(&mut self.address_space),
            _ => None,
        }
    }
}

/// prlimit(2) for this process: the previous limits.
fn exchange(p: &mut Process, resource: u32, new: Option<Rlimit64>) -> Result<Rlimit64, Errno> {
    if resource >= RESOURCES {
        return Err(Errno::EINVAL);
    }
    if new.is_some_and(|new| new.cur > new.max) {
        return Err(Errno::EINVAL);
    }
    let mut old = Rlimit64::ZERO;
    let mut limits = p.common.limits();
    let own = limits.own(resource);
    let to_host = if own.is_some() { None } else { new };
    host::call(
        libc::SYS_prlimit64,
        [0.into(), resource.into(), Arg::input_opt(to_host.as_ref()), Arg::output(&mut old)],
    )?;
    if let Some(own) = own {
        old = own.unwrap_or(old);
        if let Some(new) = new {
            // A hard limit only ever goes down here; the capability to raise it is for limits of the host.
            if new.max > old.max {
                return Err(Errno::EPERM);
            }
            *own = Some(new);
        }
    }
    if let Some(new) = new {
        let bytes = |limit: u64| if limit == INFINITY { u64::from(u32::MAX) } else { limit };
        match resource {
            RLIMIT_AS => {
                let option = p.options.memory_bytes.unwrap_or(u64::MAX);
                p.machine.memory.set_limit(bytes(new.cur).min(option));
            }
            // What is kept for execve has to be below the new limit.
            libc::RLIMIT_NOFILE => drop(host::Spares::release()),
            RLIMIT_STACK => p.machine.memory.set_stack_limit(bytes(new.cur).min(u32::MAX.into()) as u32),
            _ => {}
        }
    }
    Ok(old)
}

fn to_narrow(limit: u64, infinity: u32) -> u32 {
    u32::try_from(limit).unwrap_or(infinity).min(infinity)
}

fn to_wide(limit: u32) -> u64 {
    if limit == INFINITY_32 { INFINITY } else { limit.into() }
}

/// getrlimit(2) of old: signed limits.
pub fn getrlimit(p: &mut Process, resource: u32, limit: GuestPtr<Rlimit>) -> Result<u32, Errno> {
    let old = exchange(p, resource, None)?;
    let value = Rlimit { cur: to_narrow(old.cur, INFINITY_OLD), max: to_narrow(old.max, INFINITY_OLD) };
    limit.write(&p.machine.memory, value)?;
    Ok(0)
}

/// ugetrlimit, see getrlimit(2).
pub fn ugetrlimit(p: &mut Process, resource: u32, limit: GuestPtr<Rlimit>) -> Result<u32, Errno> {
    let old = exchange(p, resource, None)?;
    let value = Rlimit { cur: to_narrow(old.cur, INFINITY_32), max: to_narrow(old.max, INFINITY_32) };
    limit.write(&p.machine.memory, value)?;
    Ok(0)
}

/// setrlimit(2).
pub fn setrlimit(p: &mut Process, resource: u32, limit: GuestPtr<Rlimit>) -> Result<u32, Errno> {
    let new = limit.read(&p.machine.memory)?;
    exchange(p, resource, Some(Rlimit64 { cur: to_wide(new.cur), max: to_wide(new.max) }))?;
    Ok(0)
}

/// prlimit64, see getrlimit(2).
pub fn prlimit64(
    p: &mut Process,
    pid: i32,
    resource: u32,
    new: GuestPtr<Rlimit64>,
    old: GuestPtr<Rlimit64>,
) -> Result<u32, Errno> {
    let wanted = new.read_opt(&p.machine.memory)?;
    let previous = if pid == 0 || pid as u32 == std::process::id() {
        exchange(p, resource, wanted)?
    } else {
        let mut previous = Rlimit64::ZERO;
        host::call(
            libc::SYS_prlimit64,
            [pid.into(), resource.into(), Arg::input_opt(wanted.as_ref()), Arg::output(&mut previous)],
        )?;
        previous
    };
    old.write_opt(&p.machine.memory, previous)?;
    Ok(0)
}

/// getrusage(2).
pub fn getrusage(p: &mut Process, who: i32, usage: GuestPtr<Rusage>) -> Result<u32, Errno> {
    let mut host_usage: libc::rusage = host::zeroed();
    host::call(libc::SYS_getrusage, [who.into(), Arg::output(&mut host_usage)])?;
    usage.write(&p.machine.memory, Rusage::from_host(&host_usage))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_do_not_fit_are_infinite() {
        assert_eq!(to_narrow(INFINITY, INFINITY_32), INFINITY_32);
        assert_eq!(to_narrow(1 << 33, INFINITY_32), INFINITY_32);
        assert_eq!(to_narrow(0x8000_0000, INFINITY_OLD), INFINITY_OLD);
        assert_eq!(to_narrow(8 << 20, INFINITY_OLD), 8 << 20);
        assert_eq!(to_wide(INFINITY_32), INFINITY);
    }
}
