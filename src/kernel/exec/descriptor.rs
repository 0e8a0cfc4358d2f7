//! Descriptors that go over an `execve`.

use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use std::os::fd::{OwnedFd, RawFd};

/// A second descriptor of the same open file, close-on-exec.
pub(super) fn duplicate(fd: RawFd) -> Result<OwnedFd, Errno> {
    host::call(libc::SYS_fcntl, [fd.into(), libc::F_DUPFD_CLOEXEC.into(), 0.into()]).map(host::owned)
}

/// Sets or clears a descriptor's close-on-exec flag.
pub(super) fn set_close_on_exec(fd: RawFd, close: bool) -> Result<(), Errno> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    host::call(libc::SYS_fcntl, [fd.into(), libc::F_SETFD.into(), flags.into()]).map(drop)
}

/// Tells whether a descriptor is closed by `execve`.
pub(super) fn is_close_on_exec(fd: Fd) -> bool {
    host::call(libc::SYS_fcntl, [fd.into(), libc::F_GETFD.into()])
        .is_ok_and(|flags| flags as i32 & libc::FD_CLOEXEC != 0)
}

/// The numbers of all open descriptors.
pub(super) fn all() -> Option<Vec<RawFd>> {
    let _room = host::DescriptorRoom::make();
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// Everything in a small file, without moving its position; `None` if it is no file or a large one.
pub(super) fn read_all(fd: RawFd) -> Option<Vec<u8>> {
    const LARGEST: usize = 1 << 20;
    let mut stat: libc::stat = host::zeroed();
    host::call(libc::SYS_fstat, [fd.into(), Arg::output(&mut stat)]).ok()?;
    let size = usize::try_from(stat.st_size).ok()?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || size > LARGEST {
        return None;
    }
    let mut bytes = vec![0; size];
    let args = [fd.into(), Arg::slice_mut(&mut bytes), size.into(), 0u64.into()];
    let read = host::call(libc::SYS_pread64, args).ok()?;
    bytes.truncate(read);
    Some(bytes)
}
