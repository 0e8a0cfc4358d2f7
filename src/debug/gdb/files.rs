//! Files for gdb (its "Host I/O"): the guest's, by the guest's paths, to be read only.
//!
//! So gdb finds the program and its libraries without a sysroot, and the process's view of its entries in `/proc`.

use super::Hub;
use super::target::Debugged;
use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::paths::{self, Follow};
use crate::kernel::{Process, proc};
use gdbstub::target::ext::host_io::{
    FsKind, HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat, HostIoFstatOps,
    HostIoOpen, HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoPread, HostIoPreadOps, HostIoReadlink,
    HostIoReadlinkOps, HostIoResult, HostIoSetfs, HostIoSetfsOps, HostIoStat,
};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

/// The number that `gdbstub` gives the process, which gdb then looks up in `/proc`.
const PROCESS: &[u8] = b"1";
/// Most files that gdb may have open.
const MOST: usize = 4096;

/// What gdb has opened. Descriptors would have to be hidden from the guest; so a file is opened for each look into it.
#[derive(Debug)]
enum Opened {
    /// On the host.
    File(PathBuf),
    /// What an entry of `/proc` showed.
    View(Vec<u8>),
}

/// The files that gdb has opened, by its numbers.
#[derive(Debug, Default)]
pub struct OpenFiles(BTreeMap<u32, Opened>);

impl OpenFiles {
    fn add(&mut self, file: Opened) -> Option<u32> {
        let number = (0..MOST as u32).find(|number| !self.0.contains_key(number))?;
        self.0.insert(number, file);
        Some(number)
    }

    fn get(&self, number: u32) -> io::Result<&Opened> {
        self.0.get(&number).ok_or_else(|| io::Error::from_raw_os_error(Errno::EBADF.0))
    }
}

/// The path with the process's and its first thread's own number in place of [`PROCESS`].
fn with_own_number(path: &[u8]) -> Vec<u8> {
    let own = std::process::id().to_string();
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    if let [b"", b"proc", process, rest @ ..] = &mut names[..]
        && *process == PROCESS
    {
        *process = own.as_bytes();
        if let [b"task", thread, ..] = rest
            && *thread == PROCESS
        {
            *thread = own.as_bytes();
        }
    }
    names.join(&b'/')
}

/// Whether the host shows its own mappings there. gdb reads `maps` where there is none.
fn is_the_emulators(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") && path.ends_with(b"/smaps")
}

fn open(process: &Process, path: &[u8]) -> Result<Opened, Errno> {
    if is_the_emulators(path) {
        return Err(Errno::ENOENT);
    }
    if let Some(view) = proc::view(process, Fd::CWD, path)? {
        return Ok(Opened::View(view.content));
    }
    let path = PathBuf::from(OsString::from_vec(
        paths::resolve_bytes(process, Fd::CWD, path, Follow::Yes).into_bytes(),
    ));
    // Whether it may be read is to be known now.
    File::open(&path)?;
    Ok(Opened::File(path))
}

fn read_link(process: &Process, path: &[u8]) -> Result<PathBuf, Errno> {
    if let Some(target) = proc::link_view(process, Fd::CWD, path) {
        return Ok(target);
    }
    let path = paths::resolve_bytes(process, Fd::CWD, path, Follow::No);
    Ok(std::fs::read_link(std::ffi::OsStr::from_bytes(path.as_bytes()))?)
}

/// Asks the process for something about a path.
fn ask<T: Send + 'static>(
    hub: &Hub,
    path: &[u8],
    look: fn(&Process, &[u8]) -> Result<T, Errno>,
) -> Result<T, HostIoErrno> {
    let path = with_own_number(path);
    match hub.ask(move |process| look(process, &path)) {
        Some(found) => found.map_err(|errno| number(errno.0)),
        None => Err(HostIoErrno::EBUSY),
    }
}

/// The protocol's error for one of Linux's.
fn number(errno: i32) -> HostIoErrno {
    match Errno(errno) {
        Errno::EPERM => HostIoErrno::EPERM,
        Errno::ENOENT => HostIoErrno::ENOENT,
        Errno::EINTR => HostIoErrno::EINTR,
        Errno::EBADF => HostIoErrno::EBADF,
        Errno::EACCES => HostIoErrno::EACCES,
        Errno::EFAULT => HostIoErrno::EFAULT,
        Errno::ENOTDIR => HostIoErrno::ENOTDIR,
        Errno::EISDIR => HostIoErrno::EISDIR,
        Errno::EINVAL => HostIoErrno::EINVAL,
        Errno::EMFILE => HostIoErrno::EMFILE,
        Errno::ENAMETOOLONG => HostIoErrno::ENAMETOOLONG,
        _ => HostIoErrno::EIO,
    }
}

fn failed<E>(error: &io::Error) -> HostIoError<E> {
    HostIoError::Errno(error.raw_os_error().map_or(HostIoErrno::EIO, number))
}

impl HostIo for Debugged {
    fn support_open(&mut self) -> Option<HostIoOpenOps<'_, Self>> {
        Some(self)
    }

    fn support_close(&mut self) -> Option<HostIoCloseOps<'_, Self>> {
        Some(self)
    }

    fn support_pread(&mut self) -> Option<HostIoPreadOps<'_, Self>> {
        Some(self)
    }

    fn support_fstat(&mut self) -> Option<HostIoFstatOps<'_, Self>> {
        Some(self)
    }

    fn support_readlink(&mut self) -> Option<HostIoReadlinkOps<'_, Self>> {
        Some(self)
    }

    fn support_setfs(&mut self) -> Option<HostIoSetfsOps<'_, Self>> {
        Some(self)
    }
}

impl HostIoOpen for Debugged {
    fn open(&mut self, path: &[u8], flags: HostIoOpenFlags, _: HostIoOpenMode) -> HostIoResult<u32, Self> {
        let writes = HostIoOpenFlags::O_WRONLY
            | HostIoOpenFlags::O_RDWR
            | HostIoOpenFlags::O_APPEND
            | HostIoOpenFlags::O_CREAT
            | HostIoOpenFlags::O_TRUNC;
        if flags.intersects(writes) {
            return Err(HostIoError::Errno(HostIoErrno::EROFS));
        }
        let file = ask(&self.hub, path, open).map_err(HostIoError::Errno)?;
        self.files.add(file).ok_or(HostIoError::Errno(HostIoErrno::EMFILE))
    }
}

impl HostIoClose for Debugged {
    fn close(&mut self, fd: u32) -> HostIoResult<(), Self> {
        self.files.0.remove(&fd).map(drop).ok_or(HostIoError::Errno(HostIoErrno::EBADF))
    }
}

impl HostIoPread for Debugged {
    fn pread(&mut self, fd: u32, count: usize, offset: u64, buf: &mut [u8]) -> HostIoResult<usize, Self> {
        let len = count.min(buf.len());
        let read = self.files.get(fd).and_then(|file| match file {
            Opened::File(path) => File::open(path)?.read_at(&mut buf[..len], offset),
            Opened::View(bytes) => Ok(super::target::part(bytes, offset, len, buf)),
        });
        read.map_err(|error| failed(&error))
    }
}

impl HostIoFstat for Debugged {
    fn fstat(&mut self, fd: u32) -> HostIoResult<HostIoStat, Self> {
        let found = self.files.get(fd).and_then(|file| {
            Ok(match file {
                Opened::File(path) => stat(&std::fs::metadata(path)?),
                Opened::View(bytes) => HostIoStat {
                    st_size: bytes.len() as u64,
                    st_mode: HostIoOpenMode::S_IFREG | HostIoOpenMode::S_IRUSR,
                    ..stat(&std::fs::metadata("/proc/self/maps")?)
                },
            })
        });
        found.map_err(|error| failed(&error))
    }
}

/// The protocol has 32 bits for most of it.
fn stat(found: &std::fs::Metadata) -> HostIoStat {
    HostIoStat {
        st_dev: found.dev() as u32,
        st_ino: found.ino() as u32,
        st_mode: HostIoOpenMode::from_bits_truncate(found.mode()),
        st_nlink: found.nlink() as u32,
        st_uid: found.uid(),
        st_gid: found.gid(),
        st_rdev: found.rdev() as u32,
        st_size: found.size(),
        st_blksize: found.blksize(),
        st_blocks: found.blocks(),
        st_atime: found.atime() as u32,
        st_mtime: found.mtime() as u32,
        st_ctime: found.ctime() as u32,
    }
}

impl HostIoReadlink for Debugged {
    fn readlink(&mut self, path: &[u8], buf: &mut [u8]) -> HostIoResult<usize, Self> {
        let target = ask(&self.hub, path, read_link).map_err(HostIoError::Errno)?;
        let target = target.as_os_str().as_bytes();
        let room = buf.get_mut(..target.len()).ok_or(HostIoError::Errno(HostIoErrno::ENAMETOOLONG))?;
        room.copy_from_slice(target);
        Ok(target.len())
    }
}

impl HostIoSetfs for Debugged {
    /// There is one: the process's.
    fn setfs(&mut self, _: FsKind) -> HostIoResult<(), Self> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_gdb_knows_stands_for_the_process() {
        let own = std::process::id();
        for (path, expected) in [
            ("/proc/1/maps", format!("/proc/{own}/maps")),
            ("/proc/1/task/1/maps", format!("/proc/{own}/task/{own}/maps")),
            ("/proc/1/task/17/maps", format!("/proc/{own}/task/17/maps")),
            ("/proc/12/maps", "/proc/12/maps".to_owned()),
            ("/lib/1/x", "/lib/1/x".to_owned()),
            ("1", "1".to_owned()),
        ] {
            assert_eq!(String::from_utf8(with_own_number(path.as_bytes())), Ok(expected), "{path}");
        }
    }
}
