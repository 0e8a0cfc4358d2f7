//! Calls of the host's kernel, behind types that keep pointers and lengths together, and the descriptors that the
//! emulator keeps for itself.

#![allow(unsafe_code)]

use super::args::Fd;
use super::blocking;
use super::errno::Errno;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// One argument of a host call: a number, or a pointer into something that is borrowed until the call is over.
#[derive(Clone, Copy)]
pub struct Arg<'a>(usize, PhantomData<&'a ()>);

impl<'a> Arg<'a> {
    /// A null pointer.
    pub const NULL: Arg<'static> = Arg(0, PhantomData);

    /// A NUL-terminated string.
    pub fn text(text: &'a CStr) -> Arg<'a> {
        Arg(text.as_ptr() as usize, PhantomData)
    }

    /// A structure that the host reads.
    pub fn input<T>(value: &'a T) -> Arg<'a> {
        Arg((&raw const *value) as usize, PhantomData)
    }

    /// A structure that the host writes.
    pub fn output<T>(value: &'a mut T) -> Arg<'a> {
        Arg((&raw mut *value) as usize, PhantomData)
    }

    /// As [`Arg::input`], or null.
    pub fn input_opt<T>(value: Option<&'a T>) -> Arg<'a> {
        value.map_or(Arg::NULL, Arg::input)
    }

    /// As [`Arg::output`], or null.
    pub fn output_opt<T>(value: Option<&'a mut T>) -> Arg<'a> {
        value.map_or(Arg::NULL, Arg::output)
    }

    /// An array that the host reads.
    pub fn slice<T>(values: &'a [T]) -> Arg<'a> {
        Arg(values.as_ptr() as usize, PhantomData)
    }

    /// An array that the host writes.
    pub fn slice_mut<T>(values: &'a mut [T]) -> Arg<'a> {
        Arg(values.as_mut_ptr() as usize, PhantomData)
    }
}

macro_rules! number_args {
    ($($type:ty)*) => { $(
        impl From<$type> for Arg<'static> {
            /// Sign- or zero-extended, as its type has it.
            fn from(value: $type) -> Self {
                Arg(value as usize, PhantomData)
            }
        }
    )* };
}
number_args!(i32 u32 i64 u64 usize u16);

impl From<Fd> for Arg<'static> {
    fn from(fd: Fd) -> Self {
        Arg::from(fd.0)
    }
}

/// A guest buffer as the host sees it. Guest memory stays reserved for as long as the process lives, so a stale
/// buffer is at worst `EFAULT` to the host.
#[derive(Clone, Copy, Debug)]
pub struct HostBuf {
    pub(super) start: *mut u8,
    /// Length in bytes.
    pub len: usize,
}

impl HostBuf {
    /// The address, for structures of the host.
    pub fn address(self) -> u64 {
        self.start as u64
    }

    /// The pointer.
    pub fn arg(self) -> Arg<'static> {
        Arg(self.start as usize, PhantomData)
    }
}

/// The registers of a call.
fn registers<const N: usize>(args: [Arg<'_>; N]) -> [usize; 6] {
    const { assert!(N <= 6) };
    let mut all = [0; 6];
    for (register, arg) in all.iter_mut().zip(args) {
        *register = arg.0;
    }
    all
}

/// Makes a host call that does not block for long.
///
/// Callers keep to the host's prototype of `nr`: pointers are borrowed by [`Arg`], lengths are those of what they
/// belong to, and no call that changes the emulator's own memory map or threads comes through here.
pub(crate) fn call<const N: usize>(nr: libc::c_long, args: [Arg<'_>; N]) -> Result<usize, Errno> {
    let a = registers(args);
    // SAFETY: the arguments are what the host's prototype says, see above.
    let result = unsafe { libc::syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { Err(Errno::last()) } else { Ok(result as usize) }
}

/// As [`call`], for calls that may block: `EINTR` when a signal for the guest arrives, before or during the call
/// (see [`blocking`]).
pub(super) fn blocking<const N: usize>(nr: libc::c_long, args: [Arg<'_>; N]) -> Result<usize, Errno> {
    // SAFETY: as in `call`.
    unsafe { blocking::syscall(nr, registers(args)) }
}

/// [`call`] with the result as the guest gets it.
pub(super) fn pass<const N: usize>(nr: libc::c_long, args: [Arg<'_>; N]) -> Result<u32, Errno> {
    call(nr, args).map(|value| value as u32)
}

/// [`blocking`] with the result as the guest gets it.
pub(super) fn pass_blocking<const N: usize>(nr: libc::c_long, args: [Arg<'_>; N]) -> Result<u32, Errno> {
    blocking(nr, args).map(|value| value as u32)
}

/// Structures of the host that may be all zero.
///
/// # Safety
/// Zero bytes are a valid value of the type.
pub(super) unsafe trait Zero: Sized {}

macro_rules! zero {
    ($($name:ident)*) => { $(
        // SAFETY: a C structure of integers, arrays of them and pointers.
        unsafe impl Zero for libc::$name {}
    )* };
}
zero!(stat statfs statx timespec timeval rusage sysinfo utsname flock rlimit itimerspec termios epoll_event
      pollfd msghdr tms timex itimerval winsize ifreq);

/// A structure of the host with all bytes zero.
pub(super) fn zeroed<T: Zero>() -> T {
    // SAFETY: `Zero` says so.
    unsafe { std::mem::zeroed() }
}

/// The time of a host clock, without entering the kernel where the host's vDSO can tell it.
pub(super) fn clock(id: i32) -> Result<libc::timespec, Errno> {
    let mut now: libc::timespec = zeroed();
    // SAFETY: `now` is a timespec to be written.
    if unsafe { libc::clock_gettime(id, &raw mut now) } == 0 { Ok(now) } else { Err(Errno::last()) }
}

/// Covers guest memory from `addr` on, which is mapped and as long as the segment, with a System V segment.
pub(super) fn attach(memory: &crate::memory::Memory, id: i32, addr: u32, flags: i32) -> Result<(), Errno> {
    let at = memory.base().wrapping_add(addr as usize);
    // The segment replaces a mapping of guest memory that its caller has just made, and nothing of the emulator's.
    call(libc::SYS_shmat, [id.into(), Arg(at as usize, PhantomData), flags.into()]).map(|_| ())
}

/// Opens a host file for the emulator's own use, close-on-exec.
pub(super) fn open(path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let fd = call(
        libc::SYS_openat,
        [libc::AT_FDCWD.into(), Arg::text(path), (flags | libc::O_CLOEXEC).into(), 0.into()],
    )?;
    Ok(owned(fd))
}

/// Takes a descriptor that the host has just given.
pub(super) fn owned(fd: usize) -> OwnedFd {
    // SAFETY: it came out of the host as a new descriptor and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Where a descriptor of this process leads, by the host's `/proc`.
pub(super) fn path_of_fd(fd: RawFd) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}

/// Descriptors that the guest must not see: at most this many.
const PRIVATE_SLOTS: usize = 16;
const EMPTY: i32 = -1;
static PRIVATE: [AtomicI32; PRIVATE_SLOTS] = [const { AtomicI32::new(EMPTY) }; PRIVATE_SLOTS];
/// Private descriptors sit at or above the soft limit, but no higher than this, since the host copies its whole
/// table at each fork.
const PRIVATE_CEILING: u64 = 4096;

/// A descriptor of the emulator, invisible to the guest. Its number changes when the guest wants that number.
#[derive(Debug)]
pub struct PrivateFd {
    slot: usize,
}

impl PrivateFd {
    /// Moves `fd` out of the guest's way.
    ///
    /// # Errors
    /// The host's, and `EMFILE` when the emulator has too many of its own.
    pub fn new(fd: OwnedFd) -> Result<PrivateFd, Errno> {
        let high = move_high(fd)?;
        for (slot, entry) in PRIVATE.iter().enumerate() {
            if entry.compare_exchange(EMPTY, high, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return Ok(PrivateFd { slot });
            }
        }
        drop(owned(high as usize));
        Err(Errno::EMFILE)
    }

    /// The number at present.
    pub fn get(&self) -> RawFd {
        PRIVATE[self.slot].load(Ordering::Acquire)
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        let fd = PRIVATE[self.slot].swap(EMPTY, Ordering::AcqRel);
        drop(owned(fd as usize));
    }
}

/// How many descriptors `execve` needs at a time: the program, what the next image is told, and one for the libraries
/// of either program.
const SPARES: usize = 3;
const NO_SLOT: usize = usize::MAX;
/// Slots of private descriptors that only keep numbers free for `execve`, whatever the guest has used up.
static SPARE: [AtomicUsize; SPARES] = [const { AtomicUsize::new(NO_SLOT) }; SPARES];

/// Sees to it that `execve` will have the descriptors that it needs, as far as there are any left.
pub(super) fn keep_spares() {
    for spare in &SPARE {
        if spare.load(Ordering::Acquire) != NO_SLOT {
            continue;
        }
        let Ok(private) = open(c"/", libc::O_PATH).and_then(PrivateFd::new) else { return };
        if spare.compare_exchange(NO_SLOT, private.slot, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            std::mem::forget(private);
        }
    }
}

/// The spare descriptors given back to the host, for `execve` to use, until this is dropped.
pub(super) struct Spares;

impl Spares {
    /// Gives them back.
    pub fn release() -> Spares {
        for spare in &SPARE {
            let slot = spare.swap(NO_SLOT, Ordering::AcqRel);
            if slot == NO_SLOT {
                continue;
            }
            let private = PrivateFd { slot };
            // A vfork child that shared descriptors may have closed it, and it is somebody else's now.
            let flags = call(libc::SYS_fcntl, [private.get().into(), libc::F_GETFL.into()]);
            if flags.is_ok_and(|flags| flags as i32 & libc::O_PATH != 0) {
                drop(private);
            } else {
                PRIVATE[slot].store(EMPTY, Ordering::Release);
                std::mem::forget(private);
            }
        }
        Spares
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        keep_spares();
    }
}

/// The numbers of all private descriptors, for a vfork child, which has a table of its own but shares this memory.
pub(super) struct PrivateTable {
    private: [RawFd; PRIVATE_SLOTS],
    spare: [usize; SPARES],
}

impl PrivateTable {
    /// The present numbers.
    pub fn save() -> PrivateTable {
        PrivateTable {
            private: std::array::from_fn(|slot| PRIVATE[slot].load(Ordering::Acquire)),
            spare: std::array::from_fn(|index| SPARE[index].load(Ordering::Acquire)),
        }
    }

    /// Makes the numbers what they were.
    pub fn restore(&self) {
        for (entry, &fd) in PRIVATE.iter().zip(&self.private) {
            entry.store(fd, Ordering::Release);
        }
        for (entry, &slot) in SPARE.iter().zip(&self.spare) {
            entry.store(slot, Ordering::Release);
        }
    }
}

/// The limits on the numbers of descriptors.
fn descriptor_limit() -> Result<libc::rlimit, Errno> {
    let mut limit: libc::rlimit = zeroed();
    call(libc::SYS_prlimit64, [0.into(), libc::RLIMIT_NOFILE.into(), Arg::NULL, Arg::output(&mut limit)])?;
    Ok(limit)
}

fn set_descriptor_limit(limit: &libc::rlimit) -> Result<(), Errno> {
    call(libc::SYS_prlimit64, [0.into(), libc::RLIMIT_NOFILE.into(), Arg::input(limit), Arg::NULL]).map(drop)
}

/// Room for a few more descriptors than the guest's soft limit leaves, as far as the hard one allows, until this is
/// dropped: for `execve`, which needs none on Linux and has to work for a guest that has used up its own.
pub struct DescriptorRoom(Option<libc::rlimit>);

impl DescriptorRoom {
    /// Makes the room.
    pub fn make() -> DescriptorRoom {
        let raised = descriptor_limit().ok().filter(|limit| {
            let soft = limit.rlim_cur.saturating_add(PRIVATE_SLOTS as u64).min(limit.rlim_max);
            soft > limit.rlim_cur && set_descriptor_limit(&libc::rlimit { rlim_cur: soft, ..*limit }).is_ok()
        });
        DescriptorRoom(raised)
    }
}

impl Drop for DescriptorRoom {
    fn drop(&mut self) {
        if let Some(limit) = &self.0 {
            // Lowering it again is always allowed.
            let _ = set_descriptor_limit(limit);
        }
    }
}

/// Moves `fd` to a number that programs hardly ever use.
fn move_high(fd: OwnedFd) -> Result<RawFd, Errno> {
    let limit = descriptor_limit()?;
    // Up there already, from before the guest lowered its limit.
    if fd.as_raw_fd() as u64 >= limit.rlim_cur {
        return Ok(fd.into_raw_fd());
    }
    let wanted = limit.rlim_cur.min(PRIVATE_CEILING);
    let dup =
        |min: u64| call(libc::SYS_fcntl, [fd.as_raw_fd().into(), libc::F_DUPFD_CLOEXEC.into(), min.into()]);
    let raise = |soft: u64| set_descriptor_limit(&libc::rlimit { rlim_cur: soft, ..limit });
    // A descriptor stays valid above the soft limit, where the guest gets none by chance.
    let room = wanted + PRIVATE_SLOTS as u64;
    let high = if limit.rlim_cur >= room {
        dup(wanted)
    } else if limit.rlim_max >= room && raise(room).is_ok() {
        let high = dup(wanted);
        raise(limit.rlim_cur)?;
        high
    } else {
        dup(wanted.saturating_sub(PRIVATE_SLOTS as u64))
    };
    match high {
        Ok(high) => Ok(high as RawFd),
        // There is no other number left. It gives way when the guest wants this one.
        Err(Errno::EMFILE) => Ok(fd.into_raw_fd()),
        Err(error) => Err(error),
    }
}

/// Tells whether a descriptor is the emulator's own.
pub fn is_private(fd: RawFd) -> bool {
    fd >= 0 && PRIVATE.iter().any(|entry| entry.load(Ordering::Acquire) == fd)
}

/// The emulator's own descriptors in ascending order.
pub(super) fn private_fds() -> Vec<RawFd> {
    let mut fds: Vec<RawFd> =
        PRIVATE.iter().map(|entry| entry.load(Ordering::Acquire)).filter(|&fd| fd != EMPTY).collect();
    fds.sort_unstable();
    fds
}

/// Makes room when the guest wants a number that is the emulator's: what is there moves.
pub(super) fn vacate(fd: RawFd) -> Result<(), Errno> {
    for entry in &PRIVATE {
        if fd >= 0 && entry.load(Ordering::Acquire) == fd {
            let elsewhere = call(libc::SYS_fcntl, [fd.into(), libc::F_DUPFD_CLOEXEC.into(), fd.into()])?;
            entry.store(elsewhere as RawFd, Ordering::Release);
            drop(owned(fd as usize));
        }
    }
    Ok(())
}

/// The number of a new descriptor that now belongs to the guest.
pub(super) fn give(fd: OwnedFd) -> u32 {
    fd.into_raw_fd() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_descriptors_are_high_and_give_way() {
        let fd = open(c"/dev/null", libc::O_RDONLY).unwrap();
        let private = PrivateFd::new(fd).unwrap();
        let number = private.get();
        assert!(number >= 512 && is_private(number));
        assert_eq!(Fd::new(number as u32), Fd(-1));
        vacate(number).unwrap();
        assert_ne!(private.get(), number);
        assert!(!is_private(number) && is_private(private.get()));
        let last = private.get();
        drop(private);
        assert!(!is_private(last));
    }
}
