//! The table of system calls, generated from `syscalls.toml`: dispatch, and what strace and the audit know.

use super::args::{Fd, GuestPtr, In, Iov, Out, Path, Str, lohi};
use super::errno::Errno;
use super::*;

/// One row of `syscalls.toml`.
#[derive(Debug)]
pub struct SyscallInfo {
    /// The number in EAX.
    pub nr: u32,
    /// The kernel's name.
    pub name: &'static str,
    /// The module that has its function, below `kernel`; empty for what the host does and for missing calls.
    pub module: &'static str,
    /// Arguments in order.
    pub args: &'static [ArgInfo],
    /// What a result means.
    pub returns: Returns,
    /// What a signal does to the call while it blocks.
    pub restart: Restart,
    /// How much of it is there.
    pub status: Status,
    /// A missing call that programs try as a matter of course: nothing is said.
    pub quiet: bool,
    /// What a partial call lacks, or why a call is missing.
    pub note: &'static str,
}

/// Name and kind of one argument.
#[derive(Debug)]
pub struct ArgInfo {
    /// Its name.
    pub name: &'static str,
    /// What is in the register.
    pub kind: ArgKind,
}

/// What an argument is, for those who show it. A number in parentheses is the index of the argument that holds
/// the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ArgKind {
    Fd,
    DirFd,
    Path,
    Str,
    Int,
    Pid,
    Signal,
    ClockId,
    Whence,
    LockOp,
    Domain,
    SockLevel,
    Who,
    IpcCmd,
    EpollOp,
    Advice,
    Uint,
    Size,
    Hex,
    Addr,
    Mode,
    Dev,
    OpenFlags,
    AtFlags,
    AccessMode,
    MmapProt,
    MmapFlags,
    MremapFlags,
    CloneFlags,
    WaitOptions,
    FcntlCmd,
    IoctlCmd,
    Resource,
    StatxMask,
    RandomFlags,
    FutexOp,
    SigHow,
    PrctlOp,
    SockType,
    MsgFlags,
    Uid,
    Uid16,
    /// Two registers, low word first.
    Lohi64,
    /// Two registers, high word first.
    Hilo64,
    /// Address of the status that a wait gives.
    WaitStatus,
    /// Address of a set of signals that the call reads.
    SigSet,
    /// Address of a set of signals that the call writes.
    OldSigSet,
    /// Address of a `struct sigaction` that the call reads.
    SigAction,
    /// Address of a `struct sigaction` that the call writes.
    OldSigAction,
    /// A signal's handler.
    Handler,
    /// Address of an array of strings.
    Argv,
    /// Address of an array of strings of which only the number is of interest.
    Envp,
    /// A pointer to a structure, by its name in `abi`, or to an integer; or to an array of them.
    Ptr {
        target: &'static str,
        written: bool,
        count: Count,
    },
    In(u8),
    Out(u8),
    IovIn(u8),
    IovOut(u8),
}

/// How many elements an array has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// This many; 1 is no array.
    Fixed(u8),
    /// As many as this argument says.
    Arg(u8),
    /// As many as the result says.
    Result,
}

impl ArgKind {
    /// Tells whether the call writes what this points to, so that it says something only afterwards.
    pub fn is_written(self) -> bool {
        match self {
            ArgKind::Ptr { written, .. } => written,
            ArgKind::Out(_)
            | ArgKind::IovOut(_)
            | ArgKind::WaitStatus
            | ArgKind::OldSigSet
            | ArgKind::OldSigAction => true,
            _ => false,
        }
    }

    /// Number of registers.
    pub fn registers(self) -> usize {
        if matches!(self, ArgKind::Lohi64 | ArgKind::Hilo64) { 2 } else { 1 }
    }
}

/// What a result that is no error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Zero.
    Zero,
    /// A number of bytes.
    Size,
    /// Some number.
    Value,
    /// A new file descriptor.
    Fd,
    /// A process or thread.
    Pid,
    /// A guest address; all values but the last 4,095 are results.
    Addr,
    /// A set of bits.
    Hex,
    /// The call does not come back.
    Never,
}

/// What happens to a blocking call when a signal with a handler interrupts it (signal(7), "Interruption of
/// system calls").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It never blocks, or the result stands.
    No,
    /// Restarted if the handler has `SA_RESTART`, else `EINTR` (`ERESTARTSYS`).
    Sys,
    /// `EINTR` if a handler runs, restarted only if none does (`ERESTARTNOHAND`).
    NoHand,
    /// As `NoHand`, and continued by `restart_syscall` with the time that remains (`ERESTART_RESTARTBLOCK`).
    Block,
}

/// How much of a call is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// All that Linux does.
    Full,
    /// Some; the note says what is not.
    Partial,
    /// `ENOSYS`.
    Missing,
}

/// The row of a number, or `None` where Linux has no such call.
pub fn info(nr: u32) -> Option<&'static SyscallInfo> {
    SYSCALLS.binary_search_by_key(&nr, |row| row.nr).ok().map(|index| &SYSCALLS[index])
}

/// Answers a call that is not there; says so once for each number on stderr.
fn missing(p: &mut Process, nr: u32) -> Result<u32, Errno> {
    if let Some(row) = info(nr)
        && !row.quiet
    {
        p.say_once(row.name, || format!("system call {} ({nr}) is not implemented; -ENOSYS", row.name));
    }
    Err(Errno::ENOSYS)
}

include!(concat!(env!("OUT_DIR"), "/syscalls.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_cover_every_number_that_linux_has() {
        // Numbers without a call on i386 (arch/x86/entry/syscalls/syscall_32.tbl has no line for them).
        let holes = [222, 223, 251, 285, 387, 388, 389, 390, 391, 392, 415];
        for nr in 0..=450 {
            assert_eq!(info(nr).is_none(), holes.contains(&nr), "{nr}");
        }
    }

    #[test]
    fn buffers_name_arguments_that_exist() {
        for row in SYSCALLS {
            for arg in row.args {
                if let ArgKind::In(i) | ArgKind::Out(i) | ArgKind::IovIn(i) | ArgKind::IovOut(i) = arg.kind {
                    assert!(usize::from(i) < row.args.len(), "{}", row.name);
                }
            }
        }
    }
}
