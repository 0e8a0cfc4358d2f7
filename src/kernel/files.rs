//! Descriptors: opening, closing, duplicating.
//!
//! The guest's descriptors are the host's. What is kept here is only what the host does not know about them.

use super::Process;
use super::abi::OpenHow;
use super::args::{Fd, GuestPtr, In, Path, Str};
use super::dir::Cookies;
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths::{self, Follow};
use super::proc;
use super::proc::memory::GuestMemory;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Bits of `open`'s flags on i386 that not all hosts number alike.
pub mod open_flags {
    #![allow(missing_docs)]
    pub const O_DIRECT: u32 = 0o40000;
    pub const O_LARGEFILE: u32 = 0o100000;
    pub const O_DIRECTORY: u32 = 0o200000;
    pub const O_NOFOLLOW: u32 = 0o400000;
    /// All of the above.
    pub const DIFFERENT: u32 = O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW;
}
use open_flags::{DIFFERENT, O_DIRECT, O_DIRECTORY, O_LARGEFILE, O_NOFOLLOW};

/// Longest name of a memfd without its NUL (`MFD_NAME_MAX_LEN`).
const MEMFD_NAME_MAX: usize = 249;

/// Largest file of a program without large-file support.
const MAX_NON_LFS: u64 = i32::MAX as u64;

/// What is known about descriptors beyond what the host knows; clones share it, as threads do.
#[derive(Clone, Default)]
pub struct Files(Arc<Mutex<Table>>);

#[derive(Clone, Default)]
struct Table {
    /// Positions in directories, by descriptor; duplicates share them.
    dirs: HashMap<i32, Arc<Mutex<Cookies>>>,
    /// Opened without `O_LARGEFILE`; true for regular files.
    small: HashMap<i32, bool>,
    /// Memory of processes.
    memory: HashMap<i32, GuestMemory>,
}

/// Some descriptor is, or was, the memory of a process.
static MEMORY_OPENED: AtomicBool = AtomicBool::new(false);

/// Keeps a table of descriptors as it is.
pub(super) struct Held<'a>(MutexGuard<'a, Table>);

impl Files {
    /// A table of its own with the same descriptors, for a process that shares memory but not files.
    pub fn copy(&self) -> Files {
        Files(Arc::new(Mutex::new(self.table().clone())))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no thread changes the table and keeps it so, for fork(2).
    pub(super) fn hold(&self) -> Held<'_> {
        Held(self.table())
    }

    /// The positions of a directory that is read through `fd`.
    pub fn cookies(&self, fd: Fd) -> Arc<Mutex<Cookies>> {
        Arc::clone(self.table().dirs.entry(fd.0).or_default())
    }

    /// As [`Files::cookies`], if the directory has been read at all.
    pub fn known_cookies(&self, fd: Fd) -> Option<Arc<Mutex<Cookies>>> {
        self.table().dirs.get(&fd.0).cloned()
    }

    /// Tells whether `fd` was opened by the guest without `O_LARGEFILE`.
    pub fn is_small(&self, fd: Fd) -> bool {
        self.table().small.contains_key(&fd.0)
    }

    /// The size that a file behind `fd` cannot grow beyond, if its opener does not know large files.
    pub fn size_limit(&self, fd: Fd) -> Option<u64> {
        self.table().small.get(&fd.0).filter(|&&regular| regular).map(|_| MAX_NON_LFS)
    }

    /// `fd` is the memory of a process.
    pub(super) fn is_guest_memory(&self, fd: i32, memory: GuestMemory) {
        MEMORY_OPENED.store(true, Ordering::Relaxed);
        let mut table = self.table();
        table.forget(fd);
        table.memory.insert(fd, memory);
    }

    /// The memory that `fd` is, if it is a process's.
    pub fn guest_memory(&self, fd: Fd) -> Option<GuestMemory> {
        if !MEMORY_OPENED.load(Ordering::Relaxed) {
            return None;
        }
        self.table().memory.get(&fd.0).cloned()
    }

    fn forget(&self, fd: i32) {
        self.table().forget(fd);
    }

    fn forget_all(&self, closed: impl Fn(i32) -> bool) {
        let mut table = self.table();
        table.dirs.retain(|fd, _| !closed(*fd));
        table.small.retain(|fd, _| !closed(*fd));
        table.memory.retain(|fd, _| !closed(*fd));
    }

    fn set_small(&self, fd: i32, regular: bool) {
        self.table().small.insert(fd, regular);
    }

    /// `new` now is what `old` is.
    pub fn duplicated(&self, old: Fd, new: u32) {
        let new = new as i32;
        if old.0 == new {
            return;
        }
        let mut table = self.table();
        table.forget(new);
        if let Some(cookies) = table.dirs.get(&old.0).cloned() {
            table.dirs.insert(new, cookies);
        }
        if let Some(&regular) = table.small.get(&old.0) {
            table.small.insert(new, regular);
        }
        if let Some(memory) = table.memory.get(&old.0).cloned() {
            table.memory.insert(new, memory);
        }
    }
}

impl Table {
    fn forget(&mut self, fd: i32) {
        self.dirs.remove(&fd);
        self.small.remove(&fd);
        self.memory.remove(&fd);
    }
}

impl Held<'_> {
    /// In the child: a directory that another thread was reading is read from its beginning.
    pub(super) fn in_child(mut self) {
        for cookies in self.0.dirs.values_mut() {
            if matches!(cookies.try_lock(), Err(TryLockError::WouldBlock)) {
                *cookies = Arc::default();
            }
        }
    }
}

/// How many descriptors the kernel's table for the guest's would have room for now: 64, or the power of two above the
/// highest one, 256 at least.
pub fn table_size() -> u32 {
    let highest = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let highest = highest
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&fd| !host::is_private(fd))
        .max()
        .unwrap_or(0) as u32;
    if highest < 64 { 64 } else { (highest + 1).next_power_of_two().max(256) }
}

/// `open`'s flags as the host numbers them.
pub fn flags_to_host(flags: u32) -> i32 {
    let mut host = (flags & !DIFFERENT) as i32;
    for (guest, bit) in
        [(O_DIRECT, libc::O_DIRECT), (O_DIRECTORY, libc::O_DIRECTORY), (O_NOFOLLOW, libc::O_NOFOLLOW)]
    {
        if flags & guest != 0 {
            host |= bit;
        }
    }
    // Every host descriptor can go beyond 2 GiB, whether 64-bit hosts imply that or not.
    host | HOST_LARGEFILE
}

/// `O_LARGEFILE` as the host's kernel numbers it; C libraries for 64 bits do not tell.
pub const HOST_LARGEFILE: i32 = if cfg!(target_arch = "aarch64") { 0o400000 } else { 0o100000 };

/// The host's file status flags as the guest numbers them.
pub fn flags_to_guest(flags: i32) -> u32 {
    let mut guest = (flags & !HOST_LARGEFILE) as u32;
    for (to, bit) in
        [(O_DIRECT, libc::O_DIRECT), (O_DIRECTORY, libc::O_DIRECTORY), (O_NOFOLLOW, libc::O_NOFOLLOW)]
    {
        guest &= !(bit as u32);
        if flags & bit != 0 {
            guest |= to;
        }
    }
    if flags & HOST_LARGEFILE != 0 { guest | O_LARGEFILE } else { guest }
}

/// open(2).
pub fn open(p: &mut Process, path: Path, flags: u32, mode: u32) -> Result<u32, Errno> {
    openat(p, Fd::CWD, path, flags, mode)
}

/// creat(2).
pub fn creat(p: &mut Process, path: Path, mode: u32) -> Result<u32, Errno> {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    openat(p, Fd::CWD, path, flags as u32, mode)
}

/// openat(2).
pub fn openat(p: &mut Process, dirfd: Fd, path: Path, flags: u32, mode: u32) -> Result<u32, Errno> {
    let path = path.read(&p.machine.memory)?;
    if let Some(fd) = proc::open_view(p, dirfd, &path, flags)? {
        return Ok(host::give(fd));
    }
    let path = paths::resolve_bytes(p, dirfd, &path, follow_of(flags));
    let host_flags = flags_to_host(flags);
    let fd =
        host::blocking(libc::SYS_openat, [dirfd.into(), Arg::text(&path), host_flags.into(), mode.into()])?;
    finish_open(p, fd, flags)
}

/// openat2(2).
pub fn openat2(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    how: GuestPtr<OpenHow>,
    size: u32,
) -> Result<u32, Errno> {
    let known = size_of::<OpenHow>() as u32;
    if size < known {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    // A newer structure is fine as long as what is not known here is zero.
    let tail =
        GuestPtr::<u8>::new(how.addr.wrapping_add(known)).read_array(&p.machine.memory, size - known)?;
    if tail.iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    let how = how.read(&p.machine.memory)?;
    let flags = how.flags as u32;
    let path = path.read(&p.machine.memory)?;
    let path = if how.resolve == 0 {
        if let Some(fd) = proc::open_view(p, dirfd, &path, flags)? {
            return Ok(host::give(fd));
        }
        paths::resolve_bytes(p, dirfd, &path, follow_of(flags))
    } else {
        paths::c_string(&path)
    };
    // Unknown bits stay where they are, so that the host refuses them.
    let host_how: [u64; 3] =
        [how.flags & !0xffff_ffff | u64::from(flags_to_host(flags) as u32), how.mode, how.resolve];
    let fd = host::blocking(
        libc::SYS_openat2,
        [dirfd.into(), Arg::text(&path), Arg::input(&host_how), size_of_val(&host_how).into()],
    )?;
    finish_open(p, fd, flags)
}

fn follow_of(flags: u32) -> Follow {
    if flags & O_NOFOLLOW != 0 { Follow::No } else { Follow::Yes }
}

/// Refuses files that a program without large-file support cannot handle, and remembers what `fd` is.
fn finish_open(p: &mut Process, fd: usize, flags: u32) -> Result<u32, Errno> {
    let fd = host::owned(fd);
    let number = fd.as_raw_fd();
    p.files.forget(number);
    if flags & (O_LARGEFILE | libc::O_PATH as u32) == 0 {
        let mut stat: libc::stat = host::zeroed();
        host::call(libc::SYS_fstat, [number.into(), Arg::output(&mut stat)])?;
        let regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
        if regular && stat.st_size as u64 > MAX_NON_LFS {
            return Err(Errno::EOVERFLOW);
        }
        p.files.set_small(number, regular);
    }
    Ok(host::give(fd))
}

/// close(2).
pub fn close(p: &mut Process, fd: Fd) -> Result<u32, Errno> {
    p.files.forget(fd.0);
    host::pass(libc::SYS_close, [fd.into()])
}

/// close_range(2). The emulator's own descriptors stay.
pub fn close_range(p: &mut Process, first: u32, last: u32, flags: u32) -> Result<u32, Errno> {
    if first > last {
        return Err(Errno::EINVAL);
    }
    let range = |from: u32, to: u32| {
        if from > to {
            return Ok(0);
        }
        host::pass(libc::SYS_close_range, [from.into(), to.into(), flags.into()])
    };
    let mut from = first;
    for private in host::private_fds().into_iter().map(|fd| fd as u32) {
        if (from..=last).contains(&private) {
            if private > from {
                range(from, private - 1)?;
            }
            from = private + 1;
        }
    }
    range(from, last)?;
    if flags & libc::CLOSE_RANGE_CLOEXEC == 0 {
        p.files.forget_all(|fd| (first..=last).contains(&(fd as u32)));
    }
    Ok(0)
}

/// dup(2).
pub fn dup(p: &mut Process, oldfd: Fd) -> Result<u32, Errno> {
    let new = host::pass(libc::SYS_dup, [oldfd.into()])?;
    p.files.duplicated(oldfd, new);
    Ok(new)
}

/// dup2(2).
pub fn dup2(p: &mut Process, oldfd: Fd, newfd: i32) -> Result<u32, Errno> {
    if oldfd.0 == newfd {
        // Nothing happens, but the descriptor has to be there.
        host::call(libc::SYS_fcntl, [oldfd.into(), libc::F_GETFD.into()])?;
        return Ok(newfd as u32);
    }
    dup3(p, oldfd, newfd, 0)
}

/// dup3(2).
pub fn dup3(p: &mut Process, oldfd: Fd, newfd: i32, flags: u32) -> Result<u32, Errno> {
    host::vacate(newfd)?;
    let new = host::pass(libc::SYS_dup3, [oldfd.into(), newfd.into(), flags.into()])?;
    p.files.duplicated(oldfd, new);
    Ok(new)
}

/// pipe(2).
pub fn pipe(p: &mut Process, fds: GuestPtr<i32>) -> Result<u32, Errno> {
    pipe2(p, fds, 0)
}

/// pipe2(2).
pub fn pipe2(p: &mut Process, fds: GuestPtr<i32>, flags: u32) -> Result<u32, Errno> {
    let mut pair = [0i32; 2];
    let host_flags = flags_to_host(flags) & !HOST_LARGEFILE;
    host::call(libc::SYS_pipe2, [Arg::output(&mut pair), host_flags.into()])?;
    give_pair(p, fds, pair)
}

/// Writes two new descriptors to the guest; closes them if that fails.
pub fn give_pair(p: &mut Process, fds: GuestPtr<i32>, pair: [i32; 2]) -> Result<u32, Errno> {
    let ends = pair.map(|fd| host::owned(fd as usize));
    fds.write_array(&p.machine.memory, &pair)?;
    for end in ends {
        let fd = host::give(end);
        p.files.forget(fd as i32);
    }
    Ok(0)
}

/// kcmp(2): all structures are the host's, and the one that can be asked for by a pointer looks the same.
pub fn kcmp(p: &mut Process, pid1: i32, pid2: i32, kind: i32, idx1: u32, idx2: u32) -> Result<u32, Errno> {
    const KCMP_EPOLL_TFD: i32 = 7;
    const EPOLL_SLOT: u32 = 12;
    let second = if kind == KCMP_EPOLL_TFD {
        In::new(idx2, EPOLL_SLOT).host(&p.machine.memory).arg()
    } else {
        idx2.into()
    };
    host::pass(libc::SYS_kcmp, [pid1.into(), pid2.into(), kind.into(), idx1.into(), second])
}

/// memfd_create(2).
pub fn memfd_create(p: &mut Process, name: Str, flags: u32) -> Result<u32, Errno> {
    let name = paths::c_string(&name.read(&p.machine.memory, MEMFD_NAME_MAX + 1, Errno::EINVAL)?);
    let fd = host::pass(libc::SYS_memfd_create, [Arg::text(&name), flags.into()])?;
    p.files.forget(fd as i32);
    Ok(fd)
}
