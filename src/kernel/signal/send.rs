//! Sending signals with information (sigqueue(3), pidfd_send_signal(2)). Plain `kill`, `tkill` and `tgkill` are the
//! host's.

use super::Info;
use super::info::SIZE;
use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::host;
use crate::kernel::process::Process;

/// Reads the guest's `siginfo_t`; the signal is what the call says.
fn read_info(p: &Process, addr: u32, signal: i32) -> Result<[u8; SIZE], Errno> {
    let info = Info { signal, ..Info::from_guest(&p.machine.memory.read::<[u8; SIZE]>(addr)?) };
    Ok(info.to_host())
}

/// rt_sigqueueinfo(2).
pub fn rt_sigqueueinfo(p: &mut Process, pid: i32, signal: i32, info: u32) -> Result<u32, Errno> {
    let info = read_info(p, info, signal)?;
    let args = [pid as usize, signal as usize, info.as_ptr().addr(), 0, 0, 0];
    host::call(libc::SYS_rt_sigqueueinfo, args).map(|_| 0)
}

/// rt_tgsigqueueinfo(2).
pub fn rt_tgsigqueueinfo(p: &mut Process, tgid: i32, tid: i32, signal: i32, info: u32) -> Result<u32, Errno> {
    let info = read_info(p, info, signal)?;
    let args = [tgid as usize, tid as usize, signal as usize, info.as_ptr().addr(), 0, 0];
    host::call(libc::SYS_rt_tgsigqueueinfo, args).map(|_| 0)
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(p: &mut Process, pidfd: Fd, signal: i32, info: u32, flags: u32) -> Result<u32, Errno> {
    let info = if info == 0 { None } else { Some(p.machine.memory.read::<[u8; SIZE]>(info)?) };
    let info = match info.map(|bytes| Info::from_guest(&bytes)) {
        Some(info) if info.signal != signal => return Err(Errno::EINVAL),
        info => info.map(|info| info.to_host()),
    };
    let pointer = info.as_ref().map_or(0, |bytes| bytes.as_ptr().addr());
    let args = [pidfd.0 as usize, signal as usize, pointer, flags as usize, 0, 0];
    host::call(libc::SYS_pidfd_send_signal, args).map(|_| 0)
}
