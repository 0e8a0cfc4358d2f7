//! Waiting for descriptors: poll(2) and select(2).

use super::Process;
use super::abi::{GuestTimespec, OldSelect, PollFd, SigsetArg, Timespec, Timespec64, Timeval};
use super::args::GuestPtr;
use super::errno::Errno;
use super::files;
use super::host::{self, Arg};
use super::signal::SigSet;
use super::signal::mask::{read_set, with_temporary};
use std::time::{Duration, Instant};

/// Most descriptors that a set can speak of; the host's own limit is lower.
const MAX_FDS: u32 = 1 << 20;
/// A descriptor that nobody has: for the emulator's own, so that they are `POLLNVAL`.
const NO_FD: i32 = i32::MAX;

/// How long a call may wait.
#[derive(Clone, Copy)]
enum Wait {
    Forever,
    Until(Instant),
}

impl Wait {
    /// `EINVAL` for a time that is none.
    fn after(time: Option<libc::timespec>) -> Result<Wait, Errno> {
        let Some(time) = time else { return Ok(Wait::Forever) };
        if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
            return Err(Errno::EINVAL);
        }
        let duration = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        // A time beyond what the clock can hold is as good as for ever.
        Ok(Instant::now().checked_add(duration).map_or(Wait::Forever, Wait::Until))
    }

    /// What is left, for the host.
    fn left(self) -> Option<libc::timespec> {
        match self {
            Wait::Forever => None,
            Wait::Until(end) => {
                let left = end.saturating_duration_since(Instant::now());
                Some(libc::timespec {
                    tv_sec: left.as_secs().min(i64::MAX as u64) as i64,
                    tv_nsec: left.subsec_nanos().into(),
                })
            }
        }
    }
}

/// Reads the guest's array: `EINVAL` for more elements than there can be descriptors.
fn read_fds(p: &Process, fds: GuestPtr<PollFd>, count: u32) -> Result<Vec<PollFd>, Errno> {
    let mut limit = [0u64; 2];
    host::call(
        libc::SYS_prlimit64,
        [0.into(), libc::RLIMIT_NOFILE.into(), Arg::NULL, Arg::output(&mut limit)],
    )?;
    if u64::from(count) > limit[0] {
        return Err(Errno::EINVAL);
    }
    let mut list = fds.read_array(&p.machine.memory, count)?;
    for entry in &mut list {
        if host::is_private(entry.fd) {
            entry.fd = NO_FD;
        }
    }
    Ok(list)
}

/// The host's ppoll, whose `struct pollfd` is the guest's.
fn host_poll(list: &mut [PollFd], wait: Wait) -> Result<u32, Errno> {
    let (timeout, len) = (wait.left(), list.len());
    host::pass_blocking(
        libc::SYS_ppoll,
        [Arg::slice_mut(list), len.into(), Arg::input_opt(timeout.as_ref()), Arg::NULL],
    )
}

/// Hands back what was found; only that member is written.
fn write_revents(p: &Process, fds: GuestPtr<PollFd>, list: &[PollFd]) -> Result<(), Errno> {
    for (entry, index) in list.iter().zip(0..) {
        let at = fds.at(index).addr.wrapping_add(6);
        GuestPtr::<i16>::new(at).write(&p.machine.memory, entry.revents)?;
    }
    Ok(())
}

/// poll(2). A call that only a stop interrupted goes on with the time that is left.
pub fn poll(p: &mut Process, fds: GuestPtr<PollFd>, nfds: u32, timeout: i32) -> Result<u32, Errno> {
    let wait = match u64::try_from(timeout) {
        Ok(ms) => Wait::Until(Instant::now() + Duration::from_millis(ms)),
        Err(_) => Wait::Forever,
    };
    poll_until(p, fds, nfds, wait)
}

fn poll_until(p: &mut Process, fds: GuestPtr<PollFd>, nfds: u32, wait: Wait) -> Result<u32, Errno> {
    let mut list = read_fds(p, fds, nfds)?;
    match host_poll(&mut list, wait) {
        Ok(found) => {
            write_revents(p, fds, &list)?;
            Ok(found)
        }
        Err(error) => {
            if error == Errno::EINTR {
                p.signals.restart_block = Some(Box::new(move |p| poll_until(p, fds, nfds, wait)));
            }
            Err(error)
        }
    }
}

/// The mask of a call with `sigmask` and `sigsetsize`; NULL means that there is none.
pub fn optional_mask(p: &Process, sigmask: GuestPtr<u64>, size: u32) -> Result<Option<SigSet>, Errno> {
    if sigmask.is_null() { Ok(None) } else { read_set(p, sigmask.addr, size).map(Some) }
}

/// Writes the time that is left, as Linux does for calls with a timespec. That it cannot be written is no error.
fn write_left<T: GuestTimespec>(p: &Process, timeout: GuestPtr<T>, wait: Wait) {
    if let Some(left) = wait.left() {
        let _ = timeout.write(&p.machine.memory, T::from_host(left));
    }
}

fn ppoll_with<T: GuestTimespec>(
    p: &mut Process,
    fds: GuestPtr<PollFd>,
    nfds: u32,
    timeout: GuestPtr<T>,
    sigmask: GuestPtr<u64>,
    size: u32,
) -> Result<u32, Errno> {
    let wait = Wait::after(timeout.read_opt(&p.machine.memory)?.map(T::to_host))?;
    let mask = optional_mask(p, sigmask, size)?;
    let mut list = read_fds(p, fds, nfds)?;
    let found = with_temporary(p, mask, |_| host_poll(&mut list, wait));
    write_left(p, timeout, wait);
    write_revents(p, fds, &list)?;
    found
}

/// ppoll(2) with 32-bit seconds.
pub fn ppoll(
    p: &mut Process,
    fds: GuestPtr<PollFd>,
    nfds: u32,
    timeout: GuestPtr<Timespec>,
    sigmask: GuestPtr<u64>,
    size: u32,
) -> Result<u32, Errno> {
    ppoll_with(p, fds, nfds, timeout, sigmask, size)
}

/// ppoll(2).
pub fn ppoll_time64(
    p: &mut Process,
    fds: GuestPtr<PollFd>,
    nfds: u32,
    timeout: GuestPtr<Timespec64>,
    sigmask: GuestPtr<u64>,
    size: u32,
) -> Result<u32, Errno> {
    ppoll_with(p, fds, nfds, timeout, sigmask, size)
}

/// A set of descriptors: words of 32 bits for the guest, of 64 for the host.
struct FdSet {
    at: GuestPtr<u32>,
    words: Vec<u64>,
}

impl FdSet {
    /// Reads `fds` bits; `EBADF` if the emulator's own are among them.
    fn read(p: &Process, at: GuestPtr<u32>, fds: u32) -> Result<FdSet, Errno> {
        let mut words = vec![0u64; fds.div_ceil(64) as usize];
        if !at.is_null() {
            for (index, word) in (0..).zip(at.read_array(&p.machine.memory, fds.div_ceil(32))?) {
                words[index / 2] |= u64::from(word) << (32 * (index % 2));
            }
            let named = |fd: i32| words.get(fd as usize / 64).is_some_and(|word| word >> (fd % 64) & 1 != 0);
            if host::private_fds().into_iter().any(|fd| (fd as u32) < fds && named(fd)) {
                return Err(Errno::EBADF);
            }
        }
        Ok(FdSet { at, words })
    }

    fn arg(&mut self) -> Arg<'_> {
        if self.at.is_null() { Arg::NULL } else { Arg::slice_mut(&mut self.words) }
    }

    fn write(&self, p: &Process, fds: u32) -> Result<(), Errno> {
        if self.at.is_null() {
            return Ok(());
        }
        let words: Vec<u32> = (0..fds.div_ceil(32) as usize)
            .map(|index| (self.words[index / 2] >> (32 * (index % 2))) as u32)
            .collect();
        self.at.write_array(&p.machine.memory, &words)
    }
}

/// The three sets of select(2).
type Sets = [GuestPtr<u32>; 3];

/// select(2). Linux looks no further than its table of descriptors goes; the host's is larger than the guest's would
/// be, so bits for descriptors that nobody has are looked at again.
fn select_with(
    p: &mut Process,
    nfds: i32,
    sets: Sets,
    wait: Wait,
    mask: Option<SigSet>,
) -> Result<u32, Errno> {
    let fds = u32::try_from(nfds).map_err(|_| Errno::EINVAL)?.min(MAX_FDS);
    match select_first(p, fds, sets, wait, mask) {
        Err(Errno::EBADF) => select_first(p, fds.min(files::table_size()), sets, wait, mask),
        result => result,
    }
}

/// select(2) on descriptors below `fds`.
fn select_first(
    p: &mut Process,
    fds: u32,
    sets: Sets,
    wait: Wait,
    mask: Option<SigSet>,
) -> Result<u32, Errno> {
    let [read, write, except] = sets;
    let mut read = FdSet::read(p, read, fds)?;
    let mut write = FdSet::read(p, write, fds)?;
    let mut except = FdSet::read(p, except, fds)?;
    let found = with_temporary(p, mask, |_| {
        let mut timeout = wait.left();
        host::pass_blocking(
            libc::SYS_pselect6,
            [fds.into(), read.arg(), write.arg(), except.arg(), Arg::output_opt(timeout.as_mut()), Arg::NULL],
        )
    })?;
    for set in [&read, &write, &except] {
        set.write(p, fds)?;
    }
    Ok(found)
}

/// select(2), which takes its arguments from a structure.
pub fn select(p: &mut Process, arg: GuestPtr<OldSelect>) -> Result<u32, Errno> {
    let OldSelect { nfds, readfds, writefds, exceptfds, timeout } = arg.read(&p.machine.memory)?;
    let [read, write, except] = [readfds, writefds, exceptfds].map(GuestPtr::new);
    _newselect(p, nfds, read, write, except, GuestPtr::new(timeout))
}

/// select(2). The time that is left is written back.
pub fn _newselect(
    p: &mut Process,
    nfds: i32,
    readfds: GuestPtr<u32>,
    writefds: GuestPtr<u32>,
    exceptfds: GuestPtr<u32>,
    timeout: GuestPtr<Timeval>,
) -> Result<u32, Errno> {
    let time = timeout.read_opt(&p.machine.memory)?.map(|time| {
        // Microseconds may be more than a second's worth; they carry.
        let (sec, usec) = (i64::from(time.sec), i64::from(time.usec));
        libc::timespec { tv_sec: sec + usec / 1_000_000, tv_nsec: usec % 1_000_000 * 1000 }
    });
    let wait = Wait::after(time)?;
    let found = select_with(p, nfds, [readfds, writefds, exceptfds], wait, None);
    if let Some(left) = wait.left() {
        let left = libc::timeval { tv_sec: left.tv_sec, tv_usec: left.tv_nsec / 1000 };
        let _ = timeout.write(&p.machine.memory, Timeval::from_host(left));
    }
    found
}

fn pselect_with<T: GuestTimespec>(
    p: &mut Process,
    nfds: i32,
    sets: Sets,
    timeout: GuestPtr<T>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    let wait = Wait::after(timeout.read_opt(&p.machine.memory)?.map(T::to_host))?;
    let mask = match sigmask.read_opt(&p.machine.memory)? {
        Some(arg) => optional_mask(p, GuestPtr::new(arg.set), arg.size)?,
        None => None,
    };
    let found = select_with(p, nfds, sets, wait, mask);
    write_left(p, timeout, wait);
    found
}

/// pselect6, see select(2), with 32-bit seconds.
pub fn pselect6(
    p: &mut Process,
    nfds: i32,
    readfds: GuestPtr<u32>,
    writefds: GuestPtr<u32>,
    exceptfds: GuestPtr<u32>,
    timeout: GuestPtr<Timespec>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    pselect_with(p, nfds, [readfds, writefds, exceptfds], timeout, sigmask)
}

/// pselect6, see select(2).
pub fn pselect6_time64(
    p: &mut Process,
    nfds: i32,
    readfds: GuestPtr<u32>,
    writefds: GuestPtr<u32>,
    exceptfds: GuestPtr<u32>,
    timeout: GuestPtr<Timespec64>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    pselect_with(p, nfds, [readfds, writefds, exceptfds], timeout, sigmask)
}
