//! The host's side: 4 GiB of address space, the table of page bytes, and the host calls that change them.
//!
//! Every function takes guest addresses and lengths and refuses what leaves the reservation, so callers
//! need no `unsafe`. The reservation never has a hole: what the guest unmaps becomes inaccessible, not free, as
//! the host would else put mappings of its own within the guest's reach.

#![allow(unsafe_code)]

use super::map::Lock;
use super::{Prot, guarded, page};
use std::ffi::CStr;
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};

const GUEST_SPACE: usize = 1 << 32;
const GUARD_BELOW: usize = 64 << 10;
const GUARD_ABOVE: usize = 1 << 20;
const PAGES: usize = GUEST_SPACE / page::SIZE as usize;

/// A host call's result or its error number.
pub(crate) type HostResult<T> = Result<T, i32>;

/// How the host shall map.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostMapping {
    /// The guest's protection; EXEC becomes READ.
    pub prot: Prot,
    pub shared: bool,
    pub noreserve: bool,
    /// Asks the host for `MAP_GROWSDOWN`: only where it refuses that, to learn how. Growth is our own affair.
    pub grows_down: bool,
    /// The file and the byte offset in it; anonymous without.
    pub file: Option<(RawFd, u64)>,
}

/// The guest's address space and page bytes.
pub(crate) struct Reservation {
    base: *mut u8,
    pages: *mut u8,
}

// SAFETY: the pointers are set once and the memory behind them is shared by nature: page bytes are atomics, guest
// memory is only touched through raw pointers and the host.
unsafe impl Send for Reservation {}
// SAFETY: as above.
unsafe impl Sync for Reservation {}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// The host protection for a guest's: never executable; whatever can be accessed can be read.
fn host_prot(prot: Prot) -> i32 {
    let read = if prot == Prot::NONE { libc::PROT_NONE } else { libc::PROT_READ };
    let write = if prot.contains(Prot::WRITE) { libc::PROT_WRITE } else { 0 };
    read | write
}

/// `mmap(2)`. Replaces nothing unless `flags` has `MAP_FIXED`; the caller answers for that.
unsafe fn mmap(
    addr: *mut u8,
    len: usize,
    prot: i32,
    flags: i32,
    file: Option<(RawFd, u64)>,
) -> HostResult<*mut u8> {
    let (fd, offset) = file.unwrap_or((-1, 0));
    let offset = libc::off_t::try_from(offset).map_err(|_| libc::EOVERFLOW)?;
    // SAFETY: the caller's promise.
    let at = unsafe { libc::mmap(addr.cast(), len, prot, flags, fd, offset) };
    if at == libc::MAP_FAILED { Err(errno()) } else { Ok(at.cast()) }
}

const RESERVE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

impl Reservation {
    /// Reserves the space; nothing in it can be accessed yet.
    ///
    /// # Errors
    /// The host's, or `Unsupported` where its pages are not 4 KiB.
    pub(crate) fn new() -> io::Result<Reservation> {
        // SAFETY: no arguments that could be wrong.
        let host_page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        if host_page != i64::from(page::SIZE) as libc::c_long {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the host's pages have {host_page} bytes; IA-32 needs pages of {}", page::SIZE),
            ));
        }
        // SAFETY: a new mapping that replaces nothing.
        let start = unsafe {
            mmap(ptr::null_mut(), GUARD_BELOW + GUEST_SPACE + GUARD_ABOVE, libc::PROT_NONE, RESERVE, None)
        }
        .map_err(io::Error::from_raw_os_error)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping that replaces nothing.
        match unsafe { mmap(ptr::null_mut(), PAGES, prot, RESERVE, None) } {
            Ok(pages) => Ok(Reservation { base: start.wrapping_add(GUARD_BELOW), pages }),
            Err(error) => {
                // SAFETY: mapped above, nobody knows of it.
                unsafe { libc::munmap(start.cast(), GUARD_BELOW + GUEST_SPACE + GUARD_ABOVE) };
                Err(io::Error::from_raw_os_error(error))
            }
        }
    }

    /// Host address of guest address 0.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }

    /// Host address of a guest address.
    pub(crate) fn host(&self, addr: u32) -> *mut u8 {
        self.base.wrapping_add(addr as usize)
    }

    /// The first page byte.
    pub(crate) fn pages(&self) -> *const u8 {
        self.pages
    }

    /// Guest address of a host address in the reservation or its guards, which wrap around.
    pub(crate) fn guest(&self, host: *const u8) -> Option<u32> {
        let offset = (host as usize).wrapping_sub(self.base as usize).wrapping_add(GUARD_BELOW);
        (offset < GUARD_BELOW + GUEST_SPACE + GUARD_ABOVE).then(|| offset.wrapping_sub(GUARD_BELOW) as u32)
    }

    /// The byte of page `number`.
    pub(crate) fn page(&self, number: u32) -> &AtomicU8 {
        debug_assert!((number as usize) < PAGES);
        // SAFETY: the table has PAGES bytes and lives as long as `self`; it is only ever accessed atomically.
        unsafe { AtomicU8::from_ptr(self.pages.add(number as usize % PAGES)) }
    }

    /// The byte of the page that holds `addr`, now.
    pub(crate) fn page_at(&self, addr: u32) -> u8 {
        self.page(addr / page::SIZE).load(Ordering::Acquire)
    }

    /// Maps `start..end`, replacing what is there.
    ///
    /// On an error the range may have become inaccessible, but it is still reserved.
    pub(crate) fn map(&self, start: u32, end: u32, mapping: HostMapping) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        // SAFETY: `range` lies in the reservation, whose contents belong to the guest.
        let result =
            unsafe { mmap(at, len, host_prot(mapping.prot), flags(mapping) | libc::MAP_FIXED, mapping.file) };
        if result.is_err() {
            // The host may have unmapped before it failed. If this fails too, it had no reason to unmap either.
            let _ = self.release(start, end);
        }
        result.map(|_| ())
    }

    /// Finds out whether the host would map so, without changing anything in the reservation.
    pub(crate) fn try_map(len: u32, mapping: HostMapping) -> HostResult<()> {
        // SAFETY: a new mapping that replaces nothing and that nobody else knows of.
        unsafe {
            let at =
                mmap(ptr::null_mut(), len as usize, host_prot(mapping.prot), flags(mapping), mapping.file)?;
            libc::munmap(at.cast(), len as usize);
        }
        Ok(())
    }

    /// Gives `start..end` back: reserved, not accessible.
    pub(crate) fn release(&self, start: u32, end: u32) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        // SAFETY: as in `map`.
        unsafe { mmap(at, len, libc::PROT_NONE, RESERVE | libc::MAP_FIXED, None) }.map(|_| ())
    }

    /// Changes the host protection of `start..end` to that of the guest protection `prot`.
    pub(crate) fn protect(&self, start: u32, end: u32, prot: Prot) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        // SAFETY: as in `map`.
        let result = unsafe { libc::mprotect(at.cast(), len, host_prot(prot)) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    /// `madvise(2)` on `start..end`.
    pub(crate) fn advise(&self, start: u32, end: u32, advice: i32) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        // SAFETY: as in `map`; advice changes what the guest's memory holds, never which addresses are mapped.
        let result = unsafe { libc::madvise(at.cast(), len, advice) };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    /// Locks `start..end` in the host's memory, or no longer. An error may mean that it is locked and not all there.
    pub(crate) fn lock(&self, start: u32, end: u32, lock: Lock) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        // SAFETY: the host changes how it keeps the pages, and neither which addresses are mapped nor what they hold.
        let result = unsafe {
            match lock {
                Lock::None => libc::syscall(libc::SYS_munlock, at, len),
                Lock::OnFault => libc::syscall(libc::SYS_mlock2, at, len, libc::MLOCK_ONFAULT),
                Lock::All => libc::syscall(libc::SYS_mlock2, at, len, 0),
            }
        };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    /// Finds out whether the host would let this process lock so many bytes more: `EPERM`, `ENOMEM`.
    pub(crate) fn try_lock(bytes: u64) -> HostResult<()> {
        let len = usize::try_from(bytes).map_err(|_| libc::ENOMEM)?;
        // SAFETY: a new mapping that replaces nothing and that nobody else knows of. Locked so, nothing is brought in.
        unsafe {
            let at = match len {
                0 => ptr::null_mut(),
                _ => mmap(ptr::null_mut(), len, libc::PROT_NONE, RESERVE, None)?,
            };
            let locked = libc::syscall(libc::SYS_mlock2, at, len, libc::MLOCK_ONFAULT);
            let result = if locked == 0 { Ok(()) } else { Err(errno()) };
            if len > 0 {
                libc::munmap(at.cast(), len);
            }
            result
        }
    }

    /// Names `start..end` in the host's `/proc/PID/maps`, or takes a name away (`PR_SET_VMA_ANON_NAME`). `EINVAL` if
    /// the host has no such names, or not such; `EBADF` for files.
    pub(crate) fn name(&self, start: u32, end: u32, name: Option<&CStr>) -> HostResult<()> {
        let (at, len) = self.range(start, end);
        let name = name.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: the host reads a string that ends, and notes it.
        let result = unsafe {
            libc::prctl(libc::PR_SET_VMA, libc::PR_SET_VMA_ANON_NAME as libc::c_ulong, at, len, name)
        };
        if result == 0 { Ok(()) } else { Err(errno()) }
    }

    /// Moves the pages of `from..from + len` to `to`, replacing what is there; leaves `from` inaccessible.
    /// The ranges must not overlap.
    ///
    /// There is no moment at which the old range is free for the host's other threads: the old mapping stays until
    /// the reservation replaces it.
    pub(crate) fn relocate(&self, from: u32, to: u32, len: u32, shared: bool) -> HostResult<()> {
        self.move_pages(from, to, len, shared)?;
        let released = self.release(from, from + len);
        if released.is_err() {
            let _ = self.move_pages(to, from, len, shared);
        }
        released
    }

    /// As [`Reservation::relocate`], but leaves `from` mapped as it was, and empty.
    pub(crate) fn move_pages(&self, from: u32, to: u32, len: u32, shared: bool) -> HostResult<()> {
        debug_assert!(from.abs_diff(to) >= len);
        match self.move_piece(from, to, len, shared) {
            Ok(()) => Ok(()),
            // More than one mapping for the host where the guest sees one: halve.
            Err(libc::EFAULT | libc::EINVAL) if len > page::SIZE => {
                let half = len / 2 / page::SIZE * page::SIZE;
                self.move_pages(from, to, half, shared)?;
                let rest = self.move_pages(from + half, to + half, len - half, shared);
                if rest.is_err() {
                    let _ = self.relocate(to, from, half, shared);
                }
                rest
            }
            Err(error) => Err(error),
        }
    }

    fn move_piece(&self, from: u32, to: u32, len: u32, shared: bool) -> HostResult<()> {
        let fixed = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (old, size) = self.range(from, from + len);
        let (new, _) = self.range(to, to + len);
        // SAFETY: both ranges lie in the reservation and belong to the guest; the old one stays mapped.
        let moved = unsafe { mremap(old, size, size, fixed | libc::MREMAP_DONTUNMAP, new) };
        match moved {
            Ok(_) => Ok(()),
            // Hosts before Linux 5.13 do so with anonymous memory only. Of shared memory, a second view is the same.
            Err(libc::EINVAL) if shared && len == page::SIZE => self.duplicate(from, to, len),
            Err(error) => Err(error),
        }
    }

    /// Maps the shared pages from `from` on a second time, `len` bytes long, to `to`.
    pub(crate) fn duplicate(&self, from: u32, to: u32, len: u32) -> HostResult<()> {
        let (old, _) = self.range(from, from + page::SIZE);
        let (new, size) = self.range(to, to + len);
        // SAFETY: as in `move_piece`.
        unsafe { mremap(old, 0, size, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, new) }.map(|_| ())
    }

    /// Prolongs the mapping whose last page is at `last` by `extra` bytes, replacing what is behind it.
    ///
    /// The page is taken out of the reservation, prolonged there and put back, as the host cannot grow a mapping
    /// into reserved space. A shared page stays in place meanwhile; a private page of a file shows
    /// the file's content for a moment.
    pub(crate) fn prolong(&self, last: u32, extra: u32, shared: bool) -> HostResult<()> {
        let one = page::SIZE as usize;
        let (at, _) = self.range(last, last + page::SIZE);
        let (_, whole) = self.range(last, last + page::SIZE + extra);
        let free = libc::MREMAP_MAYMOVE;
        // SAFETY: `last` and what is behind it belong to the guest; the copies outside of the reservation are
        // known to nobody else.
        unsafe {
            let outside = if shared {
                mremap(at, 0, whole, free, ptr::null_mut())?
            } else {
                let lifted = mremap(at, one, one, free | libc::MREMAP_DONTUNMAP, ptr::null_mut())?;
                match mremap(lifted, one, whole, free, ptr::null_mut()) {
                    Ok(grown) => grown,
                    Err(error) => {
                        // Puts the guest's page back; if the host refuses that too, the guest keeps the file's.
                        let _ = mremap(lifted, one, one, free | libc::MREMAP_FIXED, at);
                        return Err(error);
                    }
                }
            };
            let result = mremap(outside, whole, whole, free | libc::MREMAP_FIXED, at);
            if result.is_err() {
                libc::munmap(outside.cast(), whole);
                let _ = self.release(last, last + page::SIZE + extra);
            }
            result.map(|_| ())
        }
    }

    /// Copies guest memory out; gives the number of bytes that could not be read.
    pub(crate) fn copy_out(&self, addr: u32, out: &mut [u8]) -> usize {
        let len = self.clamp(addr, out.len());
        // SAFETY: `out` is valid for writes; faults on the guest's side, whose range is within the
        // reservation, end the copy.
        out.len() - len + unsafe { guarded::copy(out.as_mut_ptr(), self.host(addr), len) }
    }

    /// Copies into guest memory; gives the number of bytes that could not be written.
    pub(crate) fn copy_in(&self, addr: u32, bytes: &[u8]) -> usize {
        let len = self.clamp(addr, bytes.len());
        // SAFETY: as in `copy_out`.
        bytes.len() - len + unsafe { guarded::copy(self.host(addr), bytes.as_ptr(), len) }
    }

    fn clamp(&self, addr: u32, len: usize) -> usize {
        len.min(GUEST_SPACE - addr as usize)
    }

    fn range(&self, start: u32, end: u32) -> (*mut u8, usize) {
        assert!(start <= end, "a range of guest addresses is the wrong way round");
        (self.host(start), (end - start) as usize)
    }
}

fn flags(mapping: HostMapping) -> i32 {
    let sharing = if mapping.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let anonymous = if mapping.file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let noreserve = if mapping.noreserve { libc::MAP_NORESERVE } else { 0 };
    let growth = if mapping.grows_down { libc::MAP_GROWSDOWN } else { 0 };
    sharing | anonymous | noreserve | growth
}

/// `mremap(2)`; what it takes away and replaces is the caller's responsibility.
unsafe fn mremap(
    old: *mut u8,
    old_len: usize,
    new_len: usize,
    flags: i32,
    new: *mut u8,
) -> HostResult<*mut u8> {
    // SAFETY: the caller's promise.
    let at = unsafe { libc::mremap(old.cast(), old_len, new_len, flags, new.cast::<libc::c_void>()) };
    if at == libc::MAP_FAILED { Err(errno()) } else { Ok(at.cast()) }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let start = self.base.wrapping_sub(GUARD_BELOW);
        // SAFETY: both were mapped by `new` and nobody may use them any more.
        unsafe {
            libc::munmap(start.cast(), GUARD_BELOW + GUEST_SPACE + GUARD_ABOVE);
            libc::munmap(self.pages.cast(), PAGES);
        }
    }
}

/// What a map needs to know about a file.
pub(crate) struct FileFacts {
    pub dev: u64,
    pub ino: u64,
    /// The file system is not mounted `noexec`.
    pub may_exec: bool,
}

/// Looks at an open file.
pub(crate) fn file_facts(fd: RawFd) -> HostResult<FileFacts> {
    // SAFETY: plain structures, for which zeros are a value, filled in by the host.
    unsafe {
        let mut stat: libc::stat64 = std::mem::zeroed();
        let mut system: libc::statvfs64 = std::mem::zeroed();
        if libc::fstat64(fd, &mut stat) != 0 {
            return Err(errno());
        }
        let known = libc::fstatvfs64(fd, &mut system) == 0;
        let may_exec = !(known && system.f_flag & libc::ST_NOEXEC != 0);
        Ok(FileFacts { dev: stat.st_dev, ino: stat.st_ino, may_exec })
    }
}
