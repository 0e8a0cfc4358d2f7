//! What the traced processes have in common: a memory file with the line that is not finished yet, and the counts.
//!
//! It is inherited over `fork` and `execve`, so whoever is killed takes nothing with it.

use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg, PrivateFd};
use crate::kernel::table::SYSCALLS;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// The line at the end of the output, and who is traced.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Line {
    /// Thread whose call the unfinished last line is about; 0: the last line is finished.
    pub open: u32,
    /// Characters in it.
    pub column: u32,
    /// Tasks at present.
    pub tasks: u32,
    /// The process that the trace began with.
    pub root: u32,
}

/// How often a call was made, how often in vain, and how long that took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub calls: u64,
    pub errors: u64,
    pub time_ns: u64,
}

const LINE_BYTES: usize = 16;
const COUNT_BYTES: usize = 24;
/// More than the highest number of a call.
const NUMBERS: u32 = 512;

/// The memory file.
#[derive(Debug)]
pub(super) struct Shared(pub PrivateFd);

/// Holds the lock on the file; what another process shows comes before or after.
pub(super) struct Locked<'a>(&'a Shared);

impl Shared {
    /// A file for a trace that this process begins.
    pub fn file() -> Result<OwnedFd, Errno> {
        let flags = libc::MFD_CLOEXEC;
        host::call(libc::SYS_memfd_create, [Arg::text(c"table86-strace"), flags.into()]).map(host::owned)
    }

    /// Waits until no other process has the lock. Threads of this process are kept apart by the observer's own lock.
    pub fn lock(&self) -> Locked<'_> {
        self.set_lock(libc::F_WRLCK);
        Locked(self)
    }

    fn set_lock(&self, kind: i32) {
        let mut lock: libc::flock = host::zeroed();
        lock.l_type = kind as i16;
        // Without the lock, lines may at worst be mixed up.
        while host::call(libc::SYS_fcntl, [self.0.get().into(), libc::F_SETLKW.into(), Arg::input(&lock)])
            == Err(Errno::EINTR)
        {}
    }

    fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        // Behind the end there are zeros.
        let args = [self.0.get().into(), Arg::slice_mut(&mut bytes), N.into(), at.into()];
        let _ = host::call(libc::SYS_pread64, args);
        bytes
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        let args = [self.0.get().into(), Arg::slice(bytes), bytes.len().into(), at.into()];
        // A memory file has room, unless the machine has none.
        let _ = host::call(libc::SYS_pwrite64, args);
    }
}

impl Locked<'_> {
    /// The line as it is.
    pub fn line(&self) -> Line {
        let bytes = self.0.read::<LINE_BYTES>(0);
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Line { open: word(0), column: word(4), tasks: word(8), root: word(12) }
    }

    /// Sets the line.
    pub fn set_line(&self, line: Line) {
        let words = [line.open, line.column, line.tasks, line.root];
        self.0.write(0, words.map(u32::to_le_bytes).as_flattened());
    }

    /// Counts one call.
    pub fn count(&self, nr: u32, failed: bool, time: Duration) {
        if nr >= NUMBERS {
            return;
        }
        let mut count = self.get(nr);
        count.calls += 1;
        count.errors += u64::from(failed);
        count.time_ns += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let words = [count.calls, count.errors, count.time_ns];
        self.0.write(place(nr), words.map(u64::to_le_bytes).as_flattened());
    }

    fn get(&self, nr: u32) -> Count {
        let bytes = self.0.read::<COUNT_BYTES>(place(nr));
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        Count { calls: word(0), errors: word(8), time_ns: word(16) }
    }

    /// The calls that were made, those that took longest first.
    pub fn counts(&self) -> Vec<(&'static str, Count)> {
        let rows = SYSCALLS.iter().map(|row| (row.name, self.get(row.nr)));
        let mut rows: Vec<_> = rows.filter(|(_, count)| count.calls > 0).collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(count.time_ns));
        rows
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.0.set_lock(libc::F_UNLCK);
    }
}

fn place(nr: u32) -> usize {
    LINE_BYTES + nr as usize * COUNT_BYTES
}

/// strace's table of counts.
pub(super) fn table(counts: &[(&'static str, Count)]) -> String {
    const RULE: &str = "------ ----------- ----------- --------- --------- ----------------\n";
    let total = counts.iter().fold(Count::default(), |sum, (_, count)| Count {
        calls: sum.calls + count.calls,
        errors: sum.errors + count.errors,
        time_ns: sum.time_ns + count.time_ns,
    });
    let line = |name: &str, count: &Count| {
        let share =
            if total.time_ns == 0 { 0.0 } else { count.time_ns as f64 * 100.0 / total.time_ns as f64 };
        let seconds = Duration::from_nanos(count.time_ns).as_secs_f64();
        let each = count.time_ns / 1000 / count.calls.max(1);
        let errors = if count.errors == 0 { String::new() } else { count.errors.to_string() };
        format!("{share:6.2} {seconds:11.6} {each:11} {:9} {errors:>9} {name}\n", count.calls)
    };
    let mut text = String::from("% time     seconds  usecs/call     calls    errors syscall\n");
    text += RULE;
    for (name, count) in counts {
        text += &line(name, count);
    }
    text += RULE;
    text += &line("total", &total);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_and_summed_up() {
        let shared = Shared(PrivateFd::new(Shared::file().unwrap()).unwrap());
        let locked = shared.lock();
        locked.count(4, false, Duration::from_micros(3000));
        locked.count(4, true, Duration::from_micros(1000));
        locked.count(3, false, Duration::from_micros(12_000));
        locked.count(NUMBERS, false, Duration::ZERO);
        let counts = locked.counts();
        assert_eq!(counts.iter().map(|row| row.0).collect::<Vec<_>>(), ["read", "write"]);
        let text = table(&counts);
        assert!(text.contains(" 75.00    0.012000       12000         1           read\n"), "{text}");
        assert!(text.contains(" 25.00    0.004000        2000         2         1 write\n"), "{text}");
        assert!(text.ends_with("100.00    0.016000        5333         3         1 total\n"), "{text}");
    }
}
