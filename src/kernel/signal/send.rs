//! Sending signals with information (sigqueue(3), pidfd_send_signal(2)). Plain `kill`, `tkill` and `tgkill` are the
//! host's.

use super::Info;
use super::info::SIZE;
use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::kernel::process::Process;

/// Reads the guest's `siginfo_t` in the host's layout; the signal is what the call says.
fn read_info(p: &Process, addr: u32, signal: i32) -> Result<[u8; SIZE], Errno> {
    let info = Info { signal, ..Info::from_guest(&p.machine.memory.read(addr)?) };
    Ok(info.to_host())
}

/// rt_sigqueueinfo(2).
pub fn rt_sigqueueinfo(p: &mut Process, pid: i32, signal: i32, info: u32) -> Result<u32, Errno> {
    let info = read_info(p, info, signal)?;
    host::pass(libc::SYS_rt_sigqueueinfo, [pid.into(), signal.into(), Arg::slice(&info)])
}

/// rt_tgsigqueueinfo(2).
pub fn rt_tgsigqueueinfo(p: &mut Process, tgid: i32, tid: i32, signal: i32, info: u32) -> Result<u32, Errno> {
    let info = read_info(p, info, signal)?;
    host::pass(libc::SYS_rt_tgsigqueueinfo, [tgid.into(), tid.into(), signal.into(), Arg::slice(&info)])
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(
    p: &mut Process,
    pidfd: Fd,
    signal: i32,
    info: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let info = if info == 0 { None } else { Some(Info::from_guest(&p.machine.memory.read(info)?)) };
    if info.is_some_and(|info| info.signal != signal) {
        return Err(Errno::EINVAL);
    }
    let bytes = info.map(|info| info.to_host());
    let args = [pidfd.into(), signal.into(), Arg::input_opt(bytes.as_ref()), flags.into()];
    host::pass(libc::SYS_pidfd_send_signal, args)
}
