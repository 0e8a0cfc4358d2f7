//! Scheduling (sched(7), nice(2)). What takes no structure is a pass-through row of the table.

use super::abi::{GuestTimespec, Timespec, Timespec64};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::{self, Arg};
use super::process::Process;
use crate::memory::Access;

/// `PRIO_PROCESS`.
const PRIO_PROCESS: i32 = 0;
/// Sizes of `struct sched_attr`: the first version's, and the largest that Linux takes.
const ATTR_MIN: u32 = 48;
const ATTR_MAX: u32 = 4096;

/// nice(2).
pub fn nice(_p: &mut Process, increment: i32) -> Result<u32, Errno> {
    // The kernel's getpriority gives 20 - nice.
    let raw = host::call(libc::SYS_getpriority, [PRIO_PROCESS.into(), 0.into()])?;
    let wanted = (20 - raw as i32 + increment.clamp(-40, 40)).clamp(-20, 19);
    match host::pass(libc::SYS_setpriority, [PRIO_PROCESS.into(), 0.into(), wanted.into()]) {
        Err(Errno::EACCES) => Err(Errno::EPERM),
        result => result,
    }
}

/// sched_setparam(2).
pub fn sched_setparam(p: &mut Process, pid: i32, param: u32) -> Result<u32, Errno> {
    let priority = read_param(p, param)?;
    host::pass(libc::SYS_sched_setparam, [pid.into(), Arg::input(&priority)])
}

/// sched_getparam(2).
pub fn sched_getparam(p: &mut Process, pid: i32, param: u32) -> Result<u32, Errno> {
    if param == 0 {
        return Err(Errno::EINVAL);
    }
    let mut priority = 0i32;
    host::call(libc::SYS_sched_getparam, [pid.into(), Arg::output(&mut priority)])?;
    p.machine.memory.write(param, priority)?;
    Ok(0)
}

/// sched_setscheduler(2).
pub fn sched_setscheduler(p: &mut Process, pid: i32, policy: i32, param: u32) -> Result<u32, Errno> {
    let priority = read_param(p, param)?;
    host::pass(libc::SYS_sched_setscheduler, [pid.into(), policy.into(), Arg::input(&priority)])
}

/// Reads `struct sched_param`: one word.
fn read_param(p: &Process, param: u32) -> Result<i32, Errno> {
    if param == 0 {
        return Err(Errno::EINVAL);
    }
    Ok(p.machine.memory.read(param)?)
}

fn rr_interval<T: GuestTimespec>(p: &mut Process, pid: i32, interval: u32) -> Result<u32, Errno> {
    let mut time: libc::timespec = host::zeroed();
    host::call(libc::SYS_sched_rr_get_interval, [pid.into(), Arg::output(&mut time)])?;
    GuestPtr::new(interval).write(&p.machine.memory, T::from_host(time))?;
    Ok(0)
}

/// sched_rr_get_interval(2) with 32-bit seconds.
pub fn sched_rr_get_interval(p: &mut Process, pid: i32, interval: u32) -> Result<u32, Errno> {
    rr_interval::<Timespec>(p, pid, interval)
}

/// sched_rr_get_interval(2) with 64-bit seconds.
pub fn sched_rr_get_interval_time64(p: &mut Process, pid: i32, interval: u32) -> Result<u32, Errno> {
    rr_interval::<Timespec64>(p, pid, interval)
}

/// Bytes of an affinity mask that are worth passing: more CPUs than any kernel has.
const MASK_MAX: u32 = 8192;

/// sched_setaffinity(2). Masks are strings of bits, the same on either side but for their granularity.
pub fn sched_setaffinity(p: &mut Process, pid: i32, len: u32, mask: u32) -> Result<u32, Errno> {
    let len = len.min(MASK_MAX) as usize;
    let mut bits = vec![0u8; len.next_multiple_of(8)];
    p.machine.memory.read_bytes(mask, &mut bits[..len])?;
    host::pass(libc::SYS_sched_setaffinity, [pid.into(), bits.len().into(), Arg::slice(&bits)])
}

/// sched_getaffinity(2): gives the number of bytes written.
pub fn sched_getaffinity(p: &mut Process, pid: i32, len: u32, mask: u32) -> Result<u32, Errno> {
    if !len.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let len = len.min(MASK_MAX) as usize;
    let mut bits = vec![0u8; len.next_multiple_of(8)];
    let args = [pid.into(), bits.len().into(), Arg::slice_mut(&mut bits)];
    let written = host::call(libc::SYS_sched_getaffinity, args)?.min(len);
    p.machine.memory.write_bytes(mask, &bits[..written])?;
    Ok(written as u32)
}

/// sched_setattr(2). The structure says its own size; a wrong one is replaced by the host's.
pub fn sched_setattr(p: &mut Process, pid: i32, attr: u32, flags: u32) -> Result<u32, Errno> {
    if attr == 0 {
        return Err(Errno::EINVAL);
    }
    let memory = &p.machine.memory;
    let (len, access) = match memory.read::<u32>(attr)? {
        0 => (ATTR_MIN, Access::Read),
        size @ ATTR_MIN..=ATTR_MAX => (size, Access::Read),
        _ => (size_of::<u32>() as u32, Access::Write),
    };
    let start = memory.host_range(attr, len, access)?;
    host::pass(libc::SYS_sched_setattr, [pid.into(), start.expose_provenance().into(), flags.into()])
}

/// sched_getattr(2).
pub fn sched_getattr(p: &mut Process, pid: i32, attr: u32, size: u32, flags: u32) -> Result<u32, Errno> {
    if attr == 0 || !(ATTR_MIN..=ATTR_MAX).contains(&size) {
        return Err(Errno::EINVAL);
    }
    let start = p.machine.memory.host_range(attr, size, Access::Write)?;
    let args = [pid.into(), start.expose_provenance().into(), size.into(), flags.into()];
    host::pass(libc::SYS_sched_getattr, args)
}

/// getcpu(2).
pub fn getcpu(p: &mut Process, cpu: u32, node: u32, _cache: u32) -> Result<u32, Errno> {
    let (mut cpu_now, mut node_now) = (0u32, 0u32);
    host::call(libc::SYS_getcpu, [Arg::output(&mut cpu_now), Arg::output(&mut node_now), Arg::NULL])?;
    let memory = &p.machine.memory;
    GuestPtr::new(cpu).write_opt(memory, cpu_now)?;
    GuestPtr::new(node).write_opt(memory, node_now)?;
    Ok(0)
}

/// rseq(2). `ENOSYS`: programs then ask `getcpu`.
pub fn rseq(_p: &mut Process, _rseq: u32, _len: u32, _flags: i32, _signature: u32) -> Result<u32, Errno> {
    Err(Errno::ENOSYS)
}
