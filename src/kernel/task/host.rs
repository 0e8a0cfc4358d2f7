//! Host calls that make or describe tasks.

#![allow(unsafe_code)]

use super::super::errno::Errno;
use super::super::process::{ExitReason, Process};
use super::Request;
use crate::memory::Memory;
use std::cell::Cell;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;

/// Bytes of host stack for a vfork child.
const CHILD_STACK: usize = 1 << 20;

/// The arguments of clone3(2) for what a request wants of the host. Valid as long as the request.
fn clone_args(flags: u64, request: &Request) -> libc::clone_args {
    // SAFETY: a structure of numbers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags;
    args.exit_signal = request.exit_signal.into();
    if request.host.set_tid_len > 0 {
        args.set_tid = request.host.set_tid.as_ptr() as u64;
        args.set_tid_size = request.host.set_tid_len as u64;
    }
    // A bad descriptor is none of the emulator's, and the host knows it is bad.
    args.cgroup = (request.host.cgroup & i32::MAX) as u64;
    args
}

/// Copies this process. `flags` are those of clone(2) that need no addresses of the guest, and `CLONE_PIDFD`.
/// Gives 0 in the child.
pub(super) fn fork(flags: u64, request: &Request, pidfd: &Cell<i32>) -> Result<u32, Errno> {
    let exit_signal = request.exit_signal;
    let result = if !request.host.is_none(flags) {
        let mut args = clone_args(flags, request);
        args.pidfd = pidfd.as_ptr() as u64;
        // Without a stack, the child has the parent's, copied.
        // SAFETY: pointers are to what lives longer than the call; without CLONE_VM the child cannot disturb this process.
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of_val(&args)) }
    } else if flags == 0 && exit_signal == libc::SIGCHLD as u32 {
        // libc's own keeps its locks and its idea of the process id right.
        // SAFETY: no other thread of this process exists that could hold a lock.
        unsafe { libc::fork() as i64 }
    } else {
        // A null stack means the parent's, which is copied.
        // SAFETY: the only pointer is that of `pidfd`; without CLONE_VM the child cannot disturb this process.
        unsafe {
            libc::syscall(
                libc::SYS_clone,
                flags | u64::from(exit_signal),
                ptr::null_mut::<c_void>(),
                pidfd.as_ptr(),
                ptr::null_mut::<c_int>(),
                0usize,
            )
        }
    };
    if result < 0 { Err(Errno::last()) } else { Ok(result as u32) }
}

/// What the child of [`vfork`] gets.
struct Start<'a, F> {
    process: &'a mut Process,
    run: F,
}

extern "C" fn child<F: FnOnce(&mut Process) -> ExitReason>(argument: *mut c_void) -> c_int {
    // SAFETY: `vfork` passes a pointer to an `Option<Start>` on its stack, and waits until this task is gone.
    let start = unsafe { (*argument.cast::<Option<Start<'_, F>>>()).take() };
    match start {
        Some(start) => (start.run)(start.process).finish(),
        None => super::super::signal::host::leave(127),
    }
}

/// Runs `run` in a child process that shares this one's memory, while this one waits for its end or its `execve`.
/// `flags` must have `CLONE_VM` and `CLONE_VFORK`, and may have `CLONE_PIDFD`. The child does not return.
pub(super) fn vfork<F: FnOnce(&mut Process) -> ExitReason>(
    flags: u64,
    request: &Request,
    pidfd: &Cell<i32>,
    process: &mut Process,
    run: F,
) -> Result<u32, Errno> {
    // SAFETY: a new private mapping.
    let stack = unsafe {
        libc::mmap(
            ptr::null_mut(),
            CHILD_STACK,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let mut start = Some(Start { process, run });
    // SAFETY: the child has a stack of its own; this task is suspended until the child has left the memory, so
    // neither sees the other's changes half done.
    let result = unsafe {
        if request.host.is_none(flags) {
            libc::clone(
                child::<F>,
                stack.byte_add(CHILD_STACK),
                (flags | u64::from(request.exit_signal)) as c_int,
                (&raw mut start).cast(),
                pidfd.as_ptr(),
            )
        } else {
            let mut args = clone_args(flags, request);
            args.pidfd = pidfd.as_ptr() as u64;
            (args.stack, args.stack_size) = (stack as u64, CHILD_STACK as u64);
            clone3(&args, child::<F>, (&raw mut start).cast())
        }
    };
    let result = if result < 0 { Err(Errno::last()) } else { Ok(result as u32) };
    // What the child took out of it is the child's; it never dropped it.
    std::mem::forget(start);
    // SAFETY: the child has left its stack.
    unsafe { libc::munmap(stack, CHILD_STACK) };
    result
}

/// As `libc::clone`, which cannot ask for all that clone3(2) can: -1 and `errno`, or the child's id. The child calls `run`
/// on the stack in `args`.
///
/// # Safety
/// As for `libc::clone`.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(
    args: &libc::clone_args,
    run: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> c_int {
    let mut result = libc::SYS_clone3;
    // SAFETY: the parent comes out of the call with nothing changed but what is said here. The child has an empty stack,
    // which is aligned, and ends behind the call of `run`.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {argument}",
            "call {run}",
            "mov edi, eax",
            "mov eax, {exit}",
            "syscall",
            "ud2",
            "2:",
            run = in(reg) run,
            argument = in(reg) argument,
            exit = const libc::SYS_exit,
            inlateout("rax") result,
            in("rdi") &raw const *args,
            in("rsi") size_of_val(args),
            out("rcx") _,
            out("r11") _,
        );
        if result < 0 {
            *libc::__errno_location() = -result as c_int;
            return -1;
        }
    }
    result as c_int
}

/// Hosts on which only a copy of a process can be given an id or a control group.
#[cfg(not(target_arch = "x86_64"))]
unsafe fn clone3(_: &libc::clone_args, _: extern "C" fn(*mut c_void) -> c_int, _: *mut c_void) -> c_int {
    // SAFETY: the thread's own.
    unsafe { *libc::__errno_location() = libc::EINVAL };
    -1
}

/// The name by which the host executed this program (`AT_EXECFN`).
pub(super) fn executed_name() -> Option<CString> {
    // SAFETY: the entry points to a string at the top of the stack, which stays as long as the process.
    unsafe {
        let name = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!name.is_null()).then(|| CStr::from_ptr(name).to_owned())
    }
}

/// Ends the calling thread with a status. Its stack stays mapped.
pub(super) fn exit_thread(status: u8) -> ! {
    loop {
        // SAFETY: no pointers; the thread owns nothing any more that others wait for.
        unsafe { libc::syscall(libc::SYS_exit, libc::c_int::from(status)) };
    }
}

/// The calling task's id.
pub(super) fn gettid() -> u32 {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_gettid) as u32 }
}

/// Has the host clear the guest's word at `address` when this task ends; 0 is none. Gives the task's id.
pub(super) fn set_tid_address(memory: &Memory, address: u32) -> u32 {
    let host = if address == 0 { ptr::null_mut() } else { memory.base().wrapping_add(address as usize) };
    // SAFETY: the host writes four bytes of the guest's reservation, or nothing if they are not writable then.
    unsafe { libc::syscall(libc::SYS_set_tid_address, host) as u32 }
}

/// Tells whether this process has an effective capability, 0 to 31.
pub(super) fn has_capability(number: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: version 3 writes two structures of three words.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    result == 0 && data[0] >> number & 1 != 0
}

/// Replaces a guest word if it is still `old`, atomically towards other processes.
pub(super) fn exchange(memory: &Memory, address: u32, old: u32, new: u32) -> bool {
    use crate::memory::Access;
    use std::sync::atomic::{AtomicU32, Ordering};
    let Ok(host) = memory.host_range(address, 4, Access::Write) else { return false };
    if !address.is_multiple_of(4) {
        return false;
    }
    // SAFETY: four aligned bytes of the reservation that were writable just now; this task is the only one that
    // changes the map.
    let word = unsafe { AtomicU32::from_ptr(host.cast()) };
    word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
