//! Host system calls that may block, and what a signal does to them.
//!
//! A signal that arrives between the last look at "pending" and the host's `syscall` instruction would leave the call
//! blocked with the signal undelivered. On x86-64 the look and the instruction are one stretch of assembly whose
//! addresses the signal handler knows: if it finds the program counter inside, it makes the call give
//! [`NOT_STARTED`]. Elsewhere the window of a few instructions stays.

#![allow(unsafe_code)]

use super::errno::Errno;
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, Ordering};

/// A signal came before the call had begun. The call has had no effect; it is made again after the signal is
/// delivered, whatever its restart class. Never shown to the guest.
pub const NOT_STARTED: Errno = Errno(512);

/// What the assembly looks at when no process is attached.
static NEVER: AtomicU8 = AtomicU8::new(0);

thread_local! {
    static PENDING: Cell<*const AtomicU8> = const { Cell::new(&raw const NEVER) };
}

/// Makes `flag` the one that says "a signal waits" for this thread; null for none.
///
/// # Safety
/// `flag` has to stay valid until another one is set.
pub(super) unsafe fn set_flag(flag: *const AtomicU8) {
    PENDING.set(if flag.is_null() { &raw const NEVER } else { flag });
}

/// Tells whether a signal waits for delivery to this thread.
pub fn pending() -> bool {
    // SAFETY: `set_flag` was promised a valid pointer.
    unsafe { (*PENDING.get()).load(Ordering::Acquire) != 0 }
}

/// Makes a host system call that may block. The errors are the host's, and [`NOT_STARTED`]; both that one and
/// `EINTR` go back to the run loop unchanged.
///
/// # Safety
/// As for the host's call: pointers among `args` have to be valid for what it does with them. Guest memory
/// obtained by [`host_range`](crate::memory::Memory::host_range) is.
pub unsafe fn syscall(nr: libc::c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: passed on to the caller.
    let raw = unsafe { raw(PENDING.get(), nr, args) };
    if (-4095..0).contains(&raw) { Err(Errno(-raw as i32)) } else { Ok(raw as usize) }
}

#[cfg(target_arch = "x86_64")]
mod stub {
    use std::sync::atomic::AtomicU8;

    // rdi: the flag, rsi: the number, rdx: six arguments.
    std::arch::global_asm!(
        ".global table86_blocking_syscall",
        ".hidden table86_blocking_syscall",
        ".hidden table86_blocking_begin",
        ".hidden table86_blocking_end",
        ".hidden table86_blocking_interrupted",
        ".global table86_blocking_begin",
        ".global table86_blocking_end",
        ".global table86_blocking_interrupted",
        "table86_blocking_syscall:",
        "mov r11, rdi",
        "mov rax, rsi",
        "mov rcx, rdx",
        "mov rdi, [rcx]",
        "mov rsi, [rcx + 8]",
        "mov rdx, [rcx + 16]",
        "mov r10, [rcx + 24]",
        "mov r8, [rcx + 32]",
        "mov r9, [rcx + 40]",
        "table86_blocking_begin:",
        "cmp byte ptr [r11], 0",
        "jne table86_blocking_interrupted",
        "syscall",
        "table86_blocking_end:",
        "ret",
        "table86_blocking_interrupted:",
        "mov rax, -512",
        "ret",
    );

    unsafe extern "C" {
        pub(super) fn table86_blocking_syscall(
            flag: *const AtomicU8,
            nr: libc::c_long,
            args: *const usize,
        ) -> isize;
        pub(super) safe static table86_blocking_begin: u8;
        pub(super) safe static table86_blocking_end: u8;
        pub(super) safe static table86_blocking_interrupted: u8;
    }
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw(flag: *const AtomicU8, nr: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: the caller vouches for the call's arguments; the stub keeps to the C ABI.
    unsafe { stub::table86_blocking_syscall(flag, nr, args.as_ptr()) }
}

/// The program counter to go on at after a signal at `pc`, if `pc` is in front of a call's `syscall` instruction.
/// Async-signal-safe.
#[cfg(target_arch = "x86_64")]
pub(super) fn redirect(pc: usize) -> Option<usize> {
    let begin = (&raw const stub::table86_blocking_begin).addr();
    let end = (&raw const stub::table86_blocking_end).addr();
    (begin..end).contains(&pc).then(|| (&raw const stub::table86_blocking_interrupted).addr())
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn raw(flag: *const AtomicU8, nr: libc::c_long, args: [usize; 6]) -> isize {
    // SAFETY: `set_flag` was promised a valid pointer.
    if unsafe { (*flag).load(Ordering::Acquire) } != 0 {
        return -512;
    }
    // SAFETY: the caller vouches for the call's arguments.
    let result = unsafe { libc::syscall(nr, args[0], args[1], args[2], args[3], args[4], args[5]) };
    if result < 0 {
        -(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO) as isize)
    } else {
        result as isize
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn redirect(_pc: usize) -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_give_the_hosts_results() {
        // SAFETY: neither call takes a pointer.
        let (pid, bad) = unsafe {
            (syscall(libc::SYS_getpid, [0; 6]), syscall(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]))
        };
        assert_eq!(pid, Ok(std::process::id() as usize));
        assert_eq!(bad, Err(Errno(libc::EBADF)));
    }

    #[test]
    fn a_waiting_signal_keeps_a_call_from_starting() {
        let flag = AtomicU8::new(1);
        // SAFETY: `flag` outlives its use; getpid takes no pointer.
        let result = unsafe {
            set_flag(&flag);
            let result = syscall(libc::SYS_getpid, [0; 6]);
            set_flag(std::ptr::null());
            result
        };
        assert_eq!(result, Err(NOT_STARTED));
    }
}
