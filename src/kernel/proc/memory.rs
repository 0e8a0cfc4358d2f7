//! `/proc/PID/mem` of the guest's processes (proc_pid_mem(5)): the host's file, in which guest memory lies at another place.

use super::super::Process;
use super::super::args::{Fd, In, Out};
use super::super::errno::Errno;
use super::super::files;
use super::super::host;
use super::super::paths;
use super::super::ptrace::remote::Remote;
use super::super::ptrace::tracee::see_written;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

/// An open file of this kind; duplicates share the position.
#[derive(Clone)]
pub struct GuestMemory {
    remote: Remote,
    base: u64,
    position: Arc<Mutex<u64>>,
}

/// Opens one; `None` if the process is none of this emulator's.
pub(super) fn open(p: &Process, tid: u32, path: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let fd = host::open(&paths::c_string(path), files::flags_to_host(flags))?;
    let Ok(remote) = Remote::find(tid) else { return Ok(None) };
    let base = remote.base()?;
    if flags & libc::O_CLOEXEC as u32 == 0 {
        host::call(libc::SYS_fcntl, [fd.as_raw_fd().into(), libc::F_SETFD.into(), 0.into()])?;
    }
    p.files.is_guest_memory(fd.as_raw_fd(), GuestMemory { remote, base, position: Arc::default() });
    Ok(Some(fd))
}

impl GuestMemory {
    /// What of a transfer at a position can be made: `EIO` if nothing.
    fn clip(&self, position: u64, len: usize) -> Result<usize, Errno> {
        if len == 0 {
            return Ok(0);
        }
        let at = u32::try_from(position).map_err(|_| Errno::EIO)?;
        match self.remote.mapped(at, len.min(u32::MAX as usize) as u32)? {
            0 => Err(Errno::EIO),
            mapped => Ok(mapped as usize),
        }
    }

    /// Makes a transfer at an offset, or at the position, which moves on.
    fn at(
        &self,
        offset: Option<u64>,
        transfer: impl FnOnce(u64) -> Result<usize, Errno>,
    ) -> Result<u32, Errno> {
        match offset {
            Some(offset) => transfer(offset).map(|done| done as u32),
            None => {
                let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
                let done = transfer(*position)?;
                *position += done as u64;
                Ok(done as u32)
            }
        }
    }

    /// read(2), or pread(2) with an offset.
    pub fn read(&self, p: &Process, fd: Fd, buf: Out, offset: Option<u64>) -> Result<u32, Errno> {
        self.at(offset, |position| {
            let len = self.clip(position, buf.len as usize)?;
            let buf = buf.host(&p.machine.memory);
            let len = len.min(buf.len);
            host::call(libc::SYS_pread64, [fd.into(), buf.arg(), len.into(), (self.base + position).into()])
        })
    }

    /// write(2), or pwrite(2) with an offset.
    pub fn write(&self, p: &Process, fd: Fd, buf: In, offset: Option<u64>) -> Result<u32, Errno> {
        self.at(offset, |position| {
            let len = self.clip(position, buf.len as usize)?;
            let buf = buf.host(&p.machine.memory);
            let len = len.min(buf.len);
            let args = [fd.into(), buf.arg(), len.into(), (self.base + position).into()];
            let done = host::call(libc::SYS_pwrite64, args)?;
            if done > 0 {
                self.remote.note_written(position as u32, done as u32)?;
                see_written(p);
            }
            Ok(done)
        })
    }

    /// lseek(2): from the beginning or the present position, as Linux has it.
    pub fn seek(&self, offset: i64, whence: i32) -> Result<i64, Errno> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        *position = match whence {
            libc::SEEK_SET => offset as u64,
            libc::SEEK_CUR => position.wrapping_add_signed(offset),
            _ => return Err(Errno::EINVAL),
        };
        Ok(*position as i64)
    }
}
