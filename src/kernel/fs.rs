//! Calls that change the tree of files, or look at it, by path.

use super::Process;
use super::abi::{GuestTimespec, Timespec, Timespec64, Timeval, Utimbuf};
use super::args::{Fd, GuestPtr, In, Out, PATH_MAX, Path, Str};
use super::errno::Errno;
use super::files;
use super::host::{self, Arg};
use super::identity::wide_id;
use super::paths::{self, Follow};
use super::proc;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// Longest file system type or option string of `mount` (a page).
const MOUNT_DATA_MAX: usize = 4096;

/// Bytes in front of a file handle: its length and its type.
const HANDLE_HEADER: u32 = 8;

/// A path whose last component is not followed.
fn entry(p: &Process, at: Fd, path: Path) -> Result<CString, Errno> {
    paths::resolve(p, at, path, Follow::No)
}

/// link(2).
pub fn link(p: &mut Process, oldpath: Path, newpath: Path) -> Result<u32, Errno> {
    linkat(p, Fd::CWD, oldpath, Fd::CWD, newpath, 0)
}

/// linkat(2).
pub fn linkat(
    p: &mut Process,
    olddirfd: Fd,
    oldpath: Path,
    newdirfd: Fd,
    newpath: Path,
    flags: u32,
) -> Result<u32, Errno> {
    let follow = if flags & libc::AT_SYMLINK_FOLLOW as u32 != 0 { Follow::Yes } else { Follow::No };
    let old = paths::resolve(p, olddirfd, oldpath, follow)?;
    let new = entry(p, newdirfd, newpath)?;
    host::pass(
        libc::SYS_linkat,
        [olddirfd.into(), Arg::text(&old), newdirfd.into(), Arg::text(&new), flags.into()],
    )
}

/// unlink(2).
pub fn unlink(p: &mut Process, path: Path) -> Result<u32, Errno> {
    unlinkat(p, Fd::CWD, path, 0)
}

/// rmdir(2).
pub fn rmdir(p: &mut Process, path: Path) -> Result<u32, Errno> {
    unlinkat(p, Fd::CWD, path, libc::AT_REMOVEDIR as u32)
}

/// unlinkat(2).
pub fn unlinkat(p: &mut Process, dirfd: Fd, path: Path, flags: u32) -> Result<u32, Errno> {
    let path = entry(p, dirfd, path)?;
    host::pass(libc::SYS_unlinkat, [dirfd.into(), Arg::text(&path), flags.into()])
}

/// rename(2).
pub fn rename(p: &mut Process, oldpath: Path, newpath: Path) -> Result<u32, Errno> {
    renameat2(p, Fd::CWD, oldpath, Fd::CWD, newpath, 0)
}

/// renameat(2).
pub fn renameat(
    p: &mut Process,
    olddirfd: Fd,
    oldpath: Path,
    newdirfd: Fd,
    newpath: Path,
) -> Result<u32, Errno> {
    renameat2(p, olddirfd, oldpath, newdirfd, newpath, 0)
}

/// renameat2(2).
pub fn renameat2(
    p: &mut Process,
    olddirfd: Fd,
    oldpath: Path,
    newdirfd: Fd,
    newpath: Path,
    flags: u32,
) -> Result<u32, Errno> {
    let old = entry(p, olddirfd, oldpath)?;
    let new = entry(p, newdirfd, newpath)?;
    host::pass(
        libc::SYS_renameat2,
        [olddirfd.into(), Arg::text(&old), newdirfd.into(), Arg::text(&new), flags.into()],
    )
}

/// symlink(2).
pub fn symlink(p: &mut Process, target: Path, linkpath: Path) -> Result<u32, Errno> {
    symlinkat(p, target, Fd::CWD, linkpath)
}

/// symlinkat(2). The target is text; nothing is looked up.
pub fn symlinkat(p: &mut Process, target: Path, newdirfd: Fd, linkpath: Path) -> Result<u32, Errno> {
    let target = paths::c_string(&target.read(&p.machine.memory)?);
    let link = entry(p, newdirfd, linkpath)?;
    host::pass(libc::SYS_symlinkat, [Arg::text(&target), newdirfd.into(), Arg::text(&link)])
}

/// readlink(2).
pub fn readlink(p: &mut Process, path: Path, buf: Out) -> Result<u32, Errno> {
    readlinkat(p, Fd::CWD, path, buf)
}

/// readlinkat(2). `/proc/self/exe` is the guest's program.
pub fn readlinkat(p: &mut Process, dirfd: Fd, path: Path, buf: Out) -> Result<u32, Errno> {
    if buf.len == 0 || buf.len > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let path = path.read(&p.machine.memory)?;
    if let Some(target) = proc::link_view(p, dirfd, &path) {
        return buf.write_truncated(&p.machine.memory, target.as_os_str().as_bytes());
    }
    let path = paths::resolve_bytes(p, dirfd, &path, Follow::No);
    let mut target = [0u8; PATH_MAX];
    let len = host::call(
        libc::SYS_readlinkat,
        [dirfd.into(), Arg::text(&path), Arg::slice_mut(&mut target), PATH_MAX.into()],
    )?;
    buf.write_truncated(&p.machine.memory, &target[..len])
}

/// mkdir(2).
pub fn mkdir(p: &mut Process, path: Path, mode: u32) -> Result<u32, Errno> {
    mkdirat(p, Fd::CWD, path, mode)
}

/// mkdirat(2).
pub fn mkdirat(p: &mut Process, dirfd: Fd, path: Path, mode: u32) -> Result<u32, Errno> {
    let path = entry(p, dirfd, path)?;
    host::pass(libc::SYS_mkdirat, [dirfd.into(), Arg::text(&path), mode.into()])
}

/// mknod(2).
pub fn mknod(p: &mut Process, path: Path, mode: u32, dev: u32) -> Result<u32, Errno> {
    mknodat(p, Fd::CWD, path, mode, dev)
}

/// mknodat(2).
pub fn mknodat(p: &mut Process, dirfd: Fd, path: Path, mode: u32, dev: u32) -> Result<u32, Errno> {
    let path = entry(p, dirfd, path)?;
    host::pass(libc::SYS_mknodat, [dirfd.into(), Arg::text(&path), mode.into(), dev.into()])
}

/// chmod(2).
pub fn chmod(p: &mut Process, path: Path, mode: u32) -> Result<u32, Errno> {
    fchmodat(p, Fd::CWD, path, mode)
}

/// fchmodat(2): the call, which has no flags.
pub fn fchmodat(p: &mut Process, dirfd: Fd, path: Path, mode: u32) -> Result<u32, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::Yes)?;
    host::pass(libc::SYS_fchmodat, [dirfd.into(), Arg::text(&path), mode.into()])
}

/// fchmodat2, which has flags; see fchmodat(2).
pub fn fchmodat2(p: &mut Process, dirfd: Fd, path: Path, mode: u32, flags: u32) -> Result<u32, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?;
    host::pass(libc::SYS_fchmodat2, [dirfd.into(), Arg::text(&path), mode.into(), flags.into()])
}

/// chown(2) with 16-bit ids.
pub fn chown(p: &mut Process, path: Path, uid: u16, gid: u16) -> Result<u32, Errno> {
    fchownat(p, Fd::CWD, path, wide_id(uid), wide_id(gid), 0)
}

/// lchown(2) with 16-bit ids.
pub fn lchown(p: &mut Process, path: Path, uid: u16, gid: u16) -> Result<u32, Errno> {
    lchown32(p, path, wide_id(uid), wide_id(gid))
}

/// chown(2).
pub fn chown32(p: &mut Process, path: Path, uid: u32, gid: u32) -> Result<u32, Errno> {
    fchownat(p, Fd::CWD, path, uid, gid, 0)
}

/// lchown(2).
pub fn lchown32(p: &mut Process, path: Path, uid: u32, gid: u32) -> Result<u32, Errno> {
    fchownat(p, Fd::CWD, path, uid, gid, libc::AT_SYMLINK_NOFOLLOW as u32)
}

/// fchownat(2).
pub fn fchownat(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?;
    host::pass(libc::SYS_fchownat, [dirfd.into(), Arg::text(&path), uid.into(), gid.into(), flags.into()])
}

/// access(2).
pub fn access(p: &mut Process, path: Path, mode: u32) -> Result<u32, Errno> {
    faccessat(p, Fd::CWD, path, mode)
}

/// faccessat(2): the call, which has no flags.
pub fn faccessat(p: &mut Process, dirfd: Fd, path: Path, mode: u32) -> Result<u32, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::Yes)?;
    host::pass(libc::SYS_faccessat, [dirfd.into(), Arg::text(&path), mode.into()])
}

/// faccessat2, which has flags; see faccessat(2).
pub fn faccessat2(p: &mut Process, dirfd: Fd, path: Path, mode: u32, flags: u32) -> Result<u32, Errno> {
    let path = paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?;
    host::pass(libc::SYS_faccessat2, [dirfd.into(), Arg::text(&path), mode.into(), flags.into()])
}

/// truncate(2) with a 32-bit length.
pub fn truncate(p: &mut Process, path: Path, length: i32) -> Result<u32, Errno> {
    // Sign-extended: a negative length is EINVAL.
    truncate64(p, path, i64::from(length) as u64)
}

/// truncate(2).
pub fn truncate64(p: &mut Process, path: Path, length: u64) -> Result<u32, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    host::pass(libc::SYS_truncate, [Arg::text(&path), length.into()])
}

/// Sets access and modification time; without times both become "now". A null path means `dirfd` itself.
fn set_times(
    p: &Process,
    dirfd: Fd,
    path: Path,
    times: Option<[libc::timespec; 2]>,
    flags: u32,
) -> Result<u32, Errno> {
    let path = match path.0 {
        0 => None,
        _ => Some(paths::resolve(p, dirfd, path, Follow::unless_nofollow(flags))?),
    };
    let path = path.as_ref().map_or(Arg::NULL, |path| Arg::text(path));
    host::pass(libc::SYS_utimensat, [dirfd.into(), path, Arg::input_opt(times.as_ref()), flags.into()])
}

fn read_times<T: GuestTimespec>(
    p: &Process,
    times: GuestPtr<T>,
) -> Result<Option<[libc::timespec; 2]>, Errno> {
    Ok(times.cast::<[T; 2]>().read_opt(&p.machine.memory)?.map(|pair| pair.map(T::to_host)))
}

/// utimensat(2) with 32-bit times.
pub fn utimensat(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    times: GuestPtr<Timespec>,
    flags: u32,
) -> Result<u32, Errno> {
    let times = read_times(p, times)?;
    set_times(p, dirfd, path, times, flags)
}

/// utimensat(2).
pub fn utimensat_time64(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    times: GuestPtr<Timespec64>,
    flags: u32,
) -> Result<u32, Errno> {
    let times = read_times(p, times)?;
    set_times(p, dirfd, path, times, flags)
}

/// futimesat(2).
pub fn futimesat(p: &mut Process, dirfd: Fd, path: Path, times: GuestPtr<Timeval>) -> Result<u32, Errno> {
    let times =
        match times.cast::<[Timeval; 2]>().read_opt(&p.machine.memory)? {
            Some(pair) => {
                // Microseconds out of range would become UTIME_NOW or UTIME_OMIT.
                if pair.iter().any(|time| !(0..1_000_000).contains(&time.usec)) {
                    return Err(Errno::EINVAL);
                }
                Some(pair.map(|time| libc::timespec {
                    tv_sec: time.sec.into(),
                    tv_nsec: i64::from(time.usec) * 1000,
                }))
            }
            None => None,
        };
    set_times(p, dirfd, path, times, 0)
}

/// utimes(2).
pub fn utimes(p: &mut Process, path: Path, times: GuestPtr<Timeval>) -> Result<u32, Errno> {
    futimesat(p, Fd::CWD, path, times)
}

/// utime(2).
pub fn utime(p: &mut Process, path: Path, times: GuestPtr<Utimbuf>) -> Result<u32, Errno> {
    let second = |sec: i32| libc::timespec { tv_sec: sec.into(), tv_nsec: 0 };
    let times = times.read_opt(&p.machine.memory)?.map(|times| [second(times.actime), second(times.modtime)]);
    set_times(p, Fd::CWD, path, times, 0)
}

/// name_to_handle_at(2). A handle begins with its length in bytes and its type, and is the same for 32 bits.
pub fn name_to_handle_at(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    handle: GuestPtr<u32>,
    mount: GuestPtr<u32>,
    flags: u32,
) -> Result<u32, Errno> {
    let follow = if flags & libc::AT_SYMLINK_FOLLOW as u32 != 0 { Follow::Yes } else { Follow::No };
    let path = paths::resolve(p, dirfd, path, follow)?;
    let memory = &p.machine.memory;
    let handle = Out::new(handle.addr, HANDLE_HEADER.saturating_add(handle.read(memory)?)).host(memory);
    let mount = Out::new(mount.addr, 8).host(memory);
    host::pass(
        libc::SYS_name_to_handle_at,
        [dirfd.into(), Arg::text(&path), handle.arg(), mount.arg(), flags.into()],
    )
}

/// open_by_handle_at(2).
pub fn open_by_handle_at(
    p: &mut Process,
    mount: Fd,
    handle: GuestPtr<u32>,
    flags: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let handle = In::new(handle.addr, HANDLE_HEADER.saturating_add(handle.read(memory)?)).host(memory);
    let flags = files::flags_to_host(flags);
    host::pass_blocking(libc::SYS_open_by_handle_at, [mount.into(), handle.arg(), flags.into()])
}

/// fanotify_mark(2).
pub fn fanotify_mark(
    p: &mut Process,
    fd: Fd,
    flags: u32,
    mask: u64,
    dirfd: Fd,
    path: Path,
) -> Result<u32, Errno> {
    let follow = if flags & libc::FAN_MARK_DONT_FOLLOW != 0 { Follow::No } else { Follow::Yes };
    let path = if path.0 == 0 { None } else { Some(paths::resolve(p, dirfd, path, follow)?) };
    let path = path.as_ref().map_or(Arg::NULL, |path| Arg::text(path));
    host::pass(libc::SYS_fanotify_mark, [fd.into(), flags.into(), mask.into(), dirfd.into(), path])
}

/// acct(2).
pub fn acct(p: &mut Process, path: Path) -> Result<u32, Errno> {
    let path = if path.0 == 0 { None } else { Some(paths::resolve(p, Fd::CWD, path, Follow::Yes)?) };
    host::pass(libc::SYS_acct, [path.as_ref().map_or(Arg::NULL, |path| Arg::text(path))])
}

/// swapon(2).
pub fn swapon(p: &mut Process, path: Path, flags: u32) -> Result<u32, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    host::pass(libc::SYS_swapon, [Arg::text(&path), flags.into()])
}

/// swapoff(2).
pub fn swapoff(p: &mut Process, path: Path) -> Result<u32, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    host::pass(libc::SYS_swapoff, [Arg::text(&path)])
}

/// chroot(2).
pub fn chroot(p: &mut Process, path: Path) -> Result<u32, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    let done = host::pass(libc::SYS_chroot, [Arg::text(&path)])?;
    // What was outside cannot be reached any more, the roots of -L and --root included.
    let options = std::sync::Arc::make_mut(&mut p.options);
    options.sysroot = None;
    options.rooted = false;
    Ok(done)
}

/// pivot_root(2).
pub fn pivot_root(p: &mut Process, newroot: Path, putold: Path) -> Result<u32, Errno> {
    let new = paths::resolve(p, Fd::CWD, newroot, Follow::Yes)?;
    let old = paths::resolve(p, Fd::CWD, putold, Follow::Yes)?;
    host::pass(libc::SYS_pivot_root, [Arg::text(&new), Arg::text(&old)])
}

/// A string of mount(2), or `None` for NULL.
fn mount_text(p: &Process, text: u32) -> Result<Option<CString>, Errno> {
    if text == 0 {
        return Ok(None);
    }
    let bytes = Str(text).read(&p.machine.memory, MOUNT_DATA_MAX, Errno::EINVAL)?;
    Ok(Some(paths::c_string(&bytes)))
}

/// mount(2). Options that are not text (those of very old NFS and SMB) are `EINVAL` as on 64-bit kernels.
pub fn mount(
    p: &mut Process,
    source: Path,
    target: Path,
    fstype: Str,
    flags: u32,
    data: u32,
) -> Result<u32, Errno> {
    let source = if source.0 == 0 { None } else { Some(paths::resolve(p, Fd::CWD, source, Follow::Yes)?) };
    let target = paths::resolve(p, Fd::CWD, target, Follow::Yes)?;
    let fstype = mount_text(p, fstype.0)?;
    let data = mount_text(p, data)?;
    let text = |text: &Option<CString>| text.as_ref().map_or(0, |text| text.as_ptr() as usize);
    host::pass(
        libc::SYS_mount,
        [text(&source).into(), Arg::text(&target), text(&fstype).into(), flags.into(), text(&data).into()],
    )
}

/// umount(2) of old.
pub fn umount(p: &mut Process, target: Path) -> Result<u32, Errno> {
    umount2(p, target, 0)
}

/// umount2, see umount(2).
pub fn umount2(p: &mut Process, target: Path, flags: u32) -> Result<u32, Errno> {
    let follow = if flags & libc::UMOUNT_NOFOLLOW as u32 != 0 { Follow::No } else { Follow::Yes };
    let target = paths::resolve(p, Fd::CWD, target, follow)?;
    host::pass(libc::SYS_umount2, [Arg::text(&target), flags.into()])
}
