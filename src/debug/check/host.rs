//! The host's ptrace(2): starting a program under it, a step, registers and memory. The only calls to the host that
//! comparing makes.

#![allow(unsafe_code)]

use super::state::{Image, Registers};
use crate::cpu::image::FXSAVE_BYTES;
use crate::kernel::abi::UserDesc;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

/// A process or thread.
pub(super) type Pid = libc::pid_t;

/// The kernel's number for reading a TLS descriptor (`<asm/ptrace-abi.h>`); libc does not name it.
const PTRACE_GET_THREAD_AREA: libc::c_uint = 25;

/// What a task of ours did.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// It ended with this status.
    Exited(i32),
    /// A signal ended it.
    Killed(i32),
    /// It stopped before a signal.
    Signal(i32),
    /// It stopped at one of `PTRACE_EVENT_*`.
    Ptrace(i32),
}

/// Starts a program that stops at its first instruction, at addresses that are the same each time.
///
/// # Errors
/// The host's; `ENOEXEC` if it cannot run such programs.
pub(super) fn start(command: &mut Command) -> io::Result<Pid> {
    // SAFETY: the calls are async-signal-safe, and nothing else happens between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let persona = libc::personality(0xffff_ffff);
            if persona != -1 {
                libc::personality(persona as libc::c_ulong | libc::ADDR_NO_RANDOMIZE as libc::c_ulong);
            }
            match libc::ptrace(libc::PTRACE_TRACEME, 0, ptr::null_mut::<()>(), ptr::null_mut::<()>()) {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
    let child = command.spawn()?;
    Ok(child.id() as Pid)
}

/// Waits for a task that this thread traces. `None`: there is none left.
pub(super) fn wait() -> io::Result<Option<(Pid, Event)>> {
    loop {
        let mut status = 0;
        // Other threads' children are left to them.
        // SAFETY: `status` is valid for the call to write.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid == -1 {
            match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
                error if error.kind() == io::ErrorKind::Interrupted => continue,
                error => return Err(error),
            }
        }
        let event = if libc::WIFEXITED(status) {
            Event::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Event::Killed(libc::WTERMSIG(status))
        } else if status >> 16 != 0 {
            Event::Ptrace(status >> 16)
        } else {
            Event::Signal(libc::WSTOPSIG(status))
        };
        return Ok(Some((pid, event)));
    }
}

/// A stopped task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracee(pub Pid);

impl Tracee {
    /// A request whose last arguments are a number and a place that fits the request.
    ///
    /// # Safety
    /// `data` points to what the request reads or writes.
    unsafe fn request(self, request: libc::c_uint, addr: usize, data: *mut libc::c_void) -> io::Result<()> {
        // SAFETY: the caller's promise.
        match unsafe { libc::ptrace(request, self.0, addr as *mut libc::c_void, data) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// As [`Tracee::request`], with a number instead of a place.
    fn order(self, request: libc::c_uint, number: i32) -> io::Result<()> {
        // SAFETY: these requests take numbers.
        unsafe { self.request(request, 0, number as usize as *mut libc::c_void) }
    }

    /// Sees to it that the task dies with us, and which events it stops at.
    pub(super) fn set_up(self, follow: bool) -> io::Result<()> {
        let forks = libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE;
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACEEXEC | if follow { forks } else { 0 };
        self.order(libc::PTRACE_SETOPTIONS, options)
    }

    /// Lets it execute an instruction, or first take a signal.
    pub(super) fn step(self, signal: i32) -> io::Result<()> {
        self.order(libc::PTRACE_SINGLESTEP, signal)
    }

    /// Lets it go.
    pub(super) fn detach(self) -> io::Result<()> {
        self.order(libc::PTRACE_DETACH, 0)
    }

    /// Ends it.
    pub(super) fn kill(self) {
        // SAFETY: a signal to a task of ours, which cannot have been reaped by anybody else.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
    }

    /// Waits for its end.
    pub(super) fn reap(self) {
        let mut status = 0;
        // SAFETY: `status` is valid for the call to write.
        while unsafe { libc::waitpid(self.0, &mut status, libc::__WALL) } == self.0
            && !libc::WIFEXITED(status)
            && !libc::WIFSIGNALED(status)
        {}
    }

    fn user(self) -> io::Result<libc::user_regs_struct> {
        // SAFETY: integers only, for which zeros are valid.
        let mut user: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes this structure.
        unsafe { self.request(libc::PTRACE_GETREGS, 0, (&raw mut user).cast()) }?;
        Ok(user)
    }

    /// Its registers; `None` if it runs 64-bit code.
    pub(super) fn registers(self) -> io::Result<Option<Registers>> {
        let user = self.user()?;
        if user.cs as u16 != crate::cpu::segment::USER_CODE {
            return Ok(None);
        }
        let regs = [user.rax, user.rcx, user.rdx, user.rbx, user.rsp, user.rbp, user.rsi, user.rdi];
        Ok(Some(Registers {
            regs: regs.map(|value| value as u32),
            eip: user.rip as u32,
            eflags: user.eflags as u32,
            selectors: [user.es, user.cs, user.ss, user.ds, user.fs, user.gs].map(|value| value as u16),
            bases: [user.fs_base as u32, user.gs_base as u32],
        }))
    }

    /// Sets EAX ECX EDX EBX and EIP.
    pub(super) fn set_some_registers(self, [eax, ecx, edx, ebx]: [u32; 4], eip: u32) -> io::Result<()> {
        let mut user = self.user()?;
        (user.rax, user.rcx, user.rdx, user.rbx) = (eax.into(), ecx.into(), edx.into(), ebx.into());
        user.rip = eip.into();
        // SAFETY: the request reads this structure.
        unsafe { self.request(libc::PTRACE_SETREGS, 0, (&raw mut user).cast()) }
    }

    /// Its FPU and vector registers. The kernel does not keep FCS and FDS, which are 0.
    pub(super) fn image(self) -> io::Result<Image> {
        let mut bytes = [0u8; size_of::<libc::user_fpregs_struct>()];
        const { assert!(size_of::<libc::user_fpregs_struct>() >= FXSAVE_BYTES) };
        // SAFETY: the request writes such a structure, an FXSAVE image, as bytes.
        unsafe { self.request(libc::PTRACE_GETFPREGS, 0, bytes.as_mut_ptr().cast()) }?;
        let mut image = [0; FXSAVE_BYTES];
        image.copy_from_slice(&bytes[..FXSAVE_BYTES]);
        // The 64-bit format has the upper halves of two pointers here.
        image[12..16].fill(0);
        image[20..24].fill(0);
        Ok(Image(image))
    }

    /// Entry `entry` of its GDT, one of those for thread-local storage.
    pub(super) fn thread_area(self, entry: u32) -> io::Result<UserDesc> {
        let mut desc: UserDesc = crate::memory::zeroed();
        // SAFETY: the request writes a `user_desc`, whose layout this is.
        unsafe { self.request(PTRACE_GET_THREAD_AREA, entry as usize, (&raw mut desc).cast()) }?;
        Ok(desc)
    }

    /// What is known of the signal that it stopped before: `si_code` and `si_addr`. `None` if it stopped for another reason.
    pub(super) fn signal(self) -> io::Result<Option<(i32, u32)>> {
        // SAFETY: integers and pointers only, for which zeros are valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes this structure.
        match unsafe { self.request(libc::PTRACE_GETSIGINFO, 0, (&raw mut info).cast()) } {
            Ok(()) => {
                // SAFETY: all of the structure is initialised; where the signal has no address this is another number.
                let addr = unsafe { info.si_addr() };
                Ok(Some((info.si_code, addr.addr() as u32)))
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads its memory up to the first page that is not there; gives how many bytes that are.
    pub(super) fn read(self, addr: u32, out: &mut [u8]) -> usize {
        let local = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: out.len() };
        let remote = libc::iovec { iov_base: addr as usize as *mut libc::c_void, iov_len: out.len() };
        // SAFETY: the local buffer is valid for the call to write; the remote one is the kernel's to check.
        let count = unsafe { libc::process_vm_readv(self.0, &local, 1, &remote, 1, 0) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Writes its memory where it is writable.
    ///
    /// # Errors
    /// The host's; `EFAULT` if not all could be written.
    pub(super) fn write(self, addr: u32, bytes: &[u8]) -> io::Result<()> {
        let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let remote = libc::iovec { iov_base: addr as usize as *mut libc::c_void, iov_len: bytes.len() };
        // SAFETY: the local buffer is valid for the call to read; the remote one is the kernel's to check.
        let count = unsafe { libc::process_vm_writev(self.0, &local, 1, &remote, 1, 0) };
        match usize::try_from(count) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(io::Error::from_raw_os_error(libc::EFAULT)),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }
}
