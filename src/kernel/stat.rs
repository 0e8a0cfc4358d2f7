//! What a file is: the stat, statfs and statx families.

use super::Process;
use super::abi::{OldStat, Stat, Stat64, Statfs, Statfs64, Statx};
use super::args::{Fd, GuestPtr, Out, Path};
use super::errno::Errno;
use super::host::{self, Arg};
use super::identity::narrow_id;
use super::paths::{self, Follow};
use crate::memory::{Plain, bytes_of};

/// Largest size or position of a program without large-file support.
const MAX_SMALL: u64 = i32::MAX as u64;

fn stat_at(p: &Process, dirfd: Fd, path: Path, flags: u32) -> Result<libc::stat, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?;
    let mut stat: libc::stat = host::zeroed();
    host::call(libc::SYS_newfstatat, [dirfd.into(), Arg::text(&path), Arg::output(&mut stat), flags.into()])?;
    Ok(stat)
}

fn stat_path(p: &Process, path: Path, follow: Follow) -> Result<libc::stat, Errno> {
    let flags = if follow == Follow::No { libc::AT_SYMLINK_NOFOLLOW } else { 0 };
    stat_at(p, Fd::CWD, path, flags as u32)
}

fn stat_fd(fd: Fd) -> Result<libc::stat, Errno> {
    let mut stat: libc::stat = host::zeroed();
    host::call(libc::SYS_fstat, [fd.into(), Arg::output(&mut stat)])?;
    Ok(stat)
}

/// `EOVERFLOW` for what does not fit.
fn fit<T: TryFrom<u64>>(value: u64) -> Result<T, Errno> {
    T::try_from(value).map_err(|_| Errno::EOVERFLOW)
}

fn small_size(stat: &libc::stat) -> Result<u32, Errno> {
    if stat.st_size as u64 > MAX_SMALL { Err(Errno::EOVERFLOW) } else { Ok(stat.st_size as u32) }
}

impl OldStat {
    fn from_host(stat: &libc::stat) -> Result<OldStat, Errno> {
        // Device numbers of this structure have eight bits each for major and minor.
        let device = |dev: u64| {
            let (major, minor) = (libc::major(dev), libc::minor(dev));
            if major > 255 || minor > 255 { Err(Errno::EOVERFLOW) } else { Ok((major << 8 | minor) as u16) }
        };
        Ok(OldStat {
            dev: device(stat.st_dev)?,
            ino: fit(stat.st_ino)?,
            mode: stat.st_mode as u16,
            nlink: fit(stat.st_nlink)?,
            uid: narrow_id(stat.st_uid),
            gid: narrow_id(stat.st_gid),
            rdev: device(stat.st_rdev)?,
            pad: 0,
            size: small_size(stat)?,
            atime: stat.st_atime as u32,
            mtime: stat.st_mtime as u32,
            ctime: stat.st_ctime as u32,
        })
    }
}

impl Stat {
    fn from_host(stat: &libc::stat) -> Result<Stat, Errno> {
        Ok(Stat {
            dev: fit(stat.st_dev)?,
            ino: fit(stat.st_ino)?,
            mode: stat.st_mode as u16,
            nlink: fit(stat.st_nlink)?,
            uid: narrow_id(stat.st_uid),
            gid: narrow_id(stat.st_gid),
            rdev: fit(stat.st_rdev)?,
            size: small_size(stat)?,
            blksize: stat.st_blksize as u32,
            blocks: stat.st_blocks as u32,
            atime: stat.st_atime as u32,
            atime_nsec: stat.st_atime_nsec as u32,
            mtime: stat.st_mtime as u32,
            mtime_nsec: stat.st_mtime_nsec as u32,
            ctime: stat.st_ctime as u32,
            ctime_nsec: stat.st_ctime_nsec as u32,
            unused: [0; 2],
        })
    }
}

impl Stat64 {
    fn from_host(stat: &libc::stat) -> Stat64 {
        Stat64 {
            dev: stat.st_dev,
            pad0: 0,
            short_ino: stat.st_ino as u32,
            mode: stat.st_mode,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev,
            pad3: 0,
            size: stat.st_size as u64,
            blksize: stat.st_blksize as u32,
            blocks: stat.st_blocks as u64,
            atime: stat.st_atime as u32,
            atime_nsec: stat.st_atime_nsec as u32,
            mtime: stat.st_mtime as u32,
            mtime_nsec: stat.st_mtime_nsec as u32,
            ctime: stat.st_ctime as u32,
            ctime_nsec: stat.st_ctime_nsec as u32,
            ino: stat.st_ino,
        }
    }
}

/// Puts a `stat64` where the guest wants it; the kernel leaves its padding as it is.
fn put64(p: &Process, to: GuestPtr<Stat64>, stat: &libc::stat) -> Result<u32, Errno> {
    let value = Stat64::from_host(stat);
    let bytes = bytes_of(&value);
    for part in [0..8, 12..40, 44..96] {
        p.machine.memory.write_bytes(to.addr.wrapping_add(part.start as u32), &bytes[part])?;
    }
    Ok(0)
}

/// Puts a result where the guest wants it.
fn put<T: Plain>(p: &Process, to: GuestPtr<T>, value: Result<T, Errno>) -> Result<u32, Errno> {
    to.write(&p.machine.memory, value?)?;
    Ok(0)
}

/// stat(2) before Linux 1.
pub fn oldstat(p: &mut Process, path: Path, buf: GuestPtr<OldStat>) -> Result<u32, Errno> {
    let stat = stat_path(p, path, Follow::Yes)?;
    put(p, buf, OldStat::from_host(&stat))
}

/// lstat(2) before Linux 1.
pub fn oldlstat(p: &mut Process, path: Path, buf: GuestPtr<OldStat>) -> Result<u32, Errno> {
    let stat = stat_path(p, path, Follow::No)?;
    put(p, buf, OldStat::from_host(&stat))
}

/// fstat(2) before Linux 1.
pub fn oldfstat(p: &mut Process, fd: Fd, buf: GuestPtr<OldStat>) -> Result<u32, Errno> {
    put(p, buf, OldStat::from_host(&stat_fd(fd)?))
}

/// stat(2) with 32-bit sizes.
pub fn stat(p: &mut Process, path: Path, buf: GuestPtr<Stat>) -> Result<u32, Errno> {
    let stat = stat_path(p, path, Follow::Yes)?;
    put(p, buf, Stat::from_host(&stat))
}

/// lstat(2) with 32-bit sizes.
pub fn lstat(p: &mut Process, path: Path, buf: GuestPtr<Stat>) -> Result<u32, Errno> {
    let stat = stat_path(p, path, Follow::No)?;
    put(p, buf, Stat::from_host(&stat))
}

/// fstat(2) with 32-bit sizes.
pub fn fstat(p: &mut Process, fd: Fd, buf: GuestPtr<Stat>) -> Result<u32, Errno> {
    put(p, buf, Stat::from_host(&stat_fd(fd)?))
}

/// stat64, see stat(2).
pub fn stat64(p: &mut Process, path: Path, buf: GuestPtr<Stat64>) -> Result<u32, Errno> {
    fstatat64(p, Fd::CWD, path, buf, 0)
}

/// lstat64, see stat(2).
pub fn lstat64(p: &mut Process, path: Path, buf: GuestPtr<Stat64>) -> Result<u32, Errno> {
    fstatat64(p, Fd::CWD, path, buf, libc::AT_SYMLINK_NOFOLLOW as u32)
}

/// fstat64, see stat(2).
pub fn fstat64(p: &mut Process, fd: Fd, buf: GuestPtr<Stat64>) -> Result<u32, Errno> {
    put64(p, buf, &stat_fd(fd)?)
}

/// fstatat64, see stat(2).
pub fn fstatat64(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    buf: GuestPtr<Stat64>,
    flags: u32,
) -> Result<u32, Errno> {
    let stat = stat_at(p, dirfd, path, flags)?;
    put64(p, buf, &stat)
}

/// statx(2). The structure is the same everywhere.
pub fn statx(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    flags: u32,
    mask: u32,
    buf: GuestPtr<Statx>,
) -> Result<u32, Errno> {
    // A null path with AT_EMPTY_PATH means the descriptor (since Linux 6.11); the host knows whether it may.
    let path = match path.0 {
        0 => None,
        _ => Some(paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?),
    };
    let buf = Out::new(buf.addr, size_of::<Statx>() as u32).host(&p.machine.memory);
    let path = path.as_ref().map_or(Arg::NULL, |path| Arg::text(path));
    host::pass(libc::SYS_statx, [dirfd.into(), path, flags.into(), mask.into(), buf.arg()])
}

/// The host's `struct statfs`: that of all 64-bit Linux systems.
#[repr(C)]
#[derive(Default)]
struct HostStatfs {
    kind: u64,
    bsize: u64,
    blocks: u64,
    bfree: u64,
    bavail: u64,
    files: u64,
    ffree: u64,
    fsid: [u32; 2],
    namelen: u64,
    frsize: u64,
    flags: u64,
    spare: [u64; 4],
}

impl Statfs {
    /// `EOVERFLOW` when a count does not fit; the number of inodes may be "unknown", all ones.
    fn from_host(fs: &HostStatfs) -> Result<Statfs, Errno> {
        let files = |count: u64| if count == u64::MAX { Ok(u32::MAX) } else { fit(count) };
        Ok(Statfs {
            kind: fs.kind as u32,
            bsize: fit(fs.bsize)?,
            blocks: fit(fs.blocks)?,
            bfree: fit(fs.bfree)?,
            bavail: fit(fs.bavail)?,
            files: files(fs.files)?,
            ffree: files(fs.ffree)?,
            fsid: fs.fsid,
            namelen: fs.namelen as u32,
            frsize: fit(fs.frsize)?,
            flags: fs.flags as u32,
            spare: [0; 4],
        })
    }
}

impl Statfs64 {
    fn from_host(fs: &HostStatfs) -> Result<Statfs64, Errno> {
        Ok(Statfs64 {
            kind: fs.kind as u32,
            bsize: fit(fs.bsize)?,
            blocks: fs.blocks,
            bfree: fs.bfree,
            bavail: fs.bavail,
            files: fs.files,
            ffree: fs.ffree,
            fsid: fs.fsid,
            namelen: fs.namelen as u32,
            frsize: fit(fs.frsize)?,
            flags: fs.flags as u32,
            spare: [0; 4],
        })
    }
}

fn statfs_path(p: &Process, path: Path) -> Result<HostStatfs, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    let mut fs = HostStatfs::default();
    host::call(libc::SYS_statfs, [Arg::text(&path), Arg::output(&mut fs)])?;
    Ok(fs)
}

fn statfs_fd(fd: Fd) -> Result<HostStatfs, Errno> {
    let mut fs = HostStatfs::default();
    host::call(libc::SYS_fstatfs, [fd.into(), Arg::output(&mut fs)])?;
    Ok(fs)
}

/// statfs(2) with 32-bit counts.
pub fn statfs(p: &mut Process, path: Path, buf: GuestPtr<Statfs>) -> Result<u32, Errno> {
    let fs = statfs_path(p, path)?;
    put(p, buf, Statfs::from_host(&fs))
}

/// fstatfs(2) with 32-bit counts.
pub fn fstatfs(p: &mut Process, fd: Fd, buf: GuestPtr<Statfs>) -> Result<u32, Errno> {
    put(p, buf, Statfs::from_host(&statfs_fd(fd)?))
}

/// The size that the program has for `struct statfs64`: `EINVAL` unless it is right.
fn check_statfs64_size(size: u32) -> Result<(), Errno> {
    if size == size_of::<Statfs64>() as u32 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// statfs64, see statfs(2).
pub fn statfs64(p: &mut Process, path: Path, size: u32, buf: GuestPtr<Statfs64>) -> Result<u32, Errno> {
    check_statfs64_size(size)?;
    let fs = statfs_path(p, path)?;
    put(p, buf, Statfs64::from_host(&fs))
}

/// fstatfs64, see statfs(2).
pub fn fstatfs64(p: &mut Process, fd: Fd, size: u32, buf: GuestPtr<Statfs64>) -> Result<u32, Errno> {
    check_statfs64_size(size)?;
    put(p, buf, Statfs64::from_host(&statfs_fd(fd)?))
}
