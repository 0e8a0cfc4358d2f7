//! What ends a run early: the signals for faults, trapped system calls and the timer.
//!
//! The handler tells the guest by its code segment and address, so other threads' signals and the
//! signals of 64-bit code go on to whoever handled them before.

use super::enter::{
    self, CS64, DATA_SELECTOR, EXIT_END, EXIT_JUMP, EXIT_REFUSED, EXIT_SIGNAL, HOST_EFLAGS, TRAMPOLINE,
};
use super::{Fault, Unavailable};
use std::arch::global_asm;
use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const SA_RESTORER: u64 = 0x0400_0000;
const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
/// `si_code` of a SIGSYS raised by Syscall User Dispatch.
const SYS_USER_DISPATCH: c_int = 2;
/// The length of `syscall`, which a dispatched call has to be taken back by.
const SYSCALL_LEN: i64 = 2;
const ALT_STACK_LEN: usize = 64 << 10;

// The kernel leaves AC as the guest had it, and compiled code makes unaligned accesses: so the
// handler proper is entered with AC cleared.
//
// The restorer, the return from a signal handler, is the only code whose system calls pass while
// the guest runs.
global_asm!(
    ".pushsection .text.table86_oracle, \"ax\"",
    ".globl table86_oracle_handler, table86_oracle_restorer, table86_oracle_restorer_end",
    "table86_oracle_handler:",
    "pushfq",
    "and dword ptr [rsp], {all_but_ac}",
    "popfq",
    "jmp {on_signal}",
    "table86_oracle_restorer:",
    "mov eax, {rt_sigreturn}",
    "syscall",
    "ud2",
    "table86_oracle_restorer_end:",
    ".popsection",
    all_but_ac = const !(1i32 << 18),
    rt_sigreturn = const libc::SYS_rt_sigreturn,
    on_signal = sym on_signal,
);

unsafe extern "C" {
    static table86_oracle_handler: u8;
    static table86_oracle_restorer: u8;
    static table86_oracle_restorer_end: u8;
}

/// The address the kernel is given as our handler's.
fn handler() -> usize {
    (&raw const table86_oracle_handler).expose_provenance()
}

/// The signal of the timer: one that hardly anybody else uses.
pub fn tick_signal() -> c_int {
    libc::SIGRTMAX() - 2
}

/// The kernel's `struct sigaction` on x86-64; the C library's would bring its own restorer.
#[derive(Clone, Copy)]
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const DEFAULT_ACTION: KernelAction = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };

fn set_action(signal: c_int, new: Option<&KernelAction>) -> io::Result<KernelAction> {
    let mut old = DEFAULT_ACTION;
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `new` is null or a kernel sigaction, `old` is one, and the mask has 8 bytes.
    match unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, &raw mut old, 8usize) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who handled each of the signals before; written under the oracle's lock, read by the handler.
struct Previous(UnsafeCell<[KernelAction; 7]>);

// SAFETY: an entry is written before the handler that reads it is installed; a handler that runs
// meanwhile on another thread reads the entry that it replaces, which stays valid.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new([DEFAULT_ACTION; 7]));
/// The frame a previous handler was called with, to notice that handlers call each other in turn.
static FORWARDED: AtomicUsize = AtomicUsize::new(0);

fn signals() -> [c_int; 7] {
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, tick_signal()]
}

/// The handlers while they are installed, and the thread's signal mask to go back to.
pub struct Handlers {
    mask: libc::sigset_t,
}

impl Handlers {
    /// Installs the handlers and unblocks their signals on this thread.
    pub fn install() -> Result<Handlers, Unavailable> {
        let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: both sets are valid for the calls; sigemptyset initialises the first, and
        // pthread_sigmask, which cannot fail with SIG_UNBLOCK, the second.
        let mask = unsafe {
            let mut unblock = MaybeUninit::<libc::sigset_t>::uninit();
            libc::sigemptyset(unblock.as_mut_ptr());
            for signal in signals() {
                libc::sigaddset(unblock.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_UNBLOCK, unblock.as_ptr(), mask.as_mut_ptr());
            mask.assume_init()
        };
        let handlers = Handlers { mask };
        handlers.claim().map_err(|error| Unavailable::Os("rt_sigaction", error))?;
        Ok(handlers)
    }

    /// Puts the handlers in front of those installed since.
    pub fn claim(&self) -> io::Result<()> {
        let action = KernelAction {
            handler: handler(),
            flags: (libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART | libc::SA_NODEFER) as u64
                | SA_RESTORER,
            restorer: (&raw const table86_oracle_restorer).expose_provenance(),
            mask: 1 << (tick_signal() - 1),
        };
        for (index, signal) in signals().into_iter().enumerate() {
            let current = set_action(signal, None)?;
            if current.handler != action.handler {
                // SAFETY: the oracle's lock is held, so nobody else writes; see `Previous`.
                unsafe { (*PREVIOUS.0.get())[index] = current };
                set_action(signal, Some(&action))?;
            }
        }
        Ok(())
    }
}

impl Drop for Handlers {
    fn drop(&mut self) {
        for (index, signal) in signals().into_iter().enumerate() {
            // A handler installed since stays: it may call ours, which passes everything on.
            let ours = set_action(signal, None).is_ok_and(|current| current.handler == handler());
            if ours {
                // SAFETY: the lock is held, nobody writes.
                let previous = unsafe { (*PREVIOUS.0.get())[index] };
                // Putting back what the kernel reported cannot fail.
                let _ = set_action(signal, Some(&previous));
            }
        }
        // SAFETY: `mask` was filled by pthread_sigmask.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.mask, std::ptr::null_mut()) };
    }
}

/// Handles a signal of the guest by leaving it, and passes any other on.
///
/// The guest may have changed FS, so nothing here may touch a thread-local variable before the
/// signal is known to come from 64-bit code.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, frame: *mut c_void) {
    // SAFETY: the kernel calls a SA_SIGINFO handler with a siginfo and a ucontext of its own.
    let (info_ref, machine) = unsafe { (&*info, &mut (*frame.cast::<libc::ucontext_t>()).uc_mcontext) };
    let regs = &mut machine.gregs;
    let rip = regs[libc::REG_RIP as usize] as u64;
    let cs = regs[libc::REG_CSGSFS as usize] as u16;
    let low = |address: u32| rip == u64::from(address);
    let in_trampoline = cs == CS64 && (u64::from(TRAMPOLINE)..u64::from(TRAMPOLINE) + 0x1000).contains(&rip);
    let in_guest = !in_trampoline && (cs != CS64 || rip < 1 << 32);
    let is_tick = signal == tick_signal() && info_ref.si_code == libc::SI_TIMER;

    if in_guest {
        // SAFETY: only a running guest has such a CS or RIP, so the context is mapped, and the
        // thread that uses it is the one interrupted here.
        let context = unsafe { &mut *enter::context() };
        if signal == tick_signal() && context.ticked_run != context.run {
            context.ticked_run = context.run;
            return;
        }
        capture(context, signal, info_ref, regs);
        context.exit = EXIT_SIGNAL;
        resume_at_leave(context, regs);
    } else if is_tick {
        // Between two runs, or on the way in or out: not a hang.
    } else if in_trampoline && signal == libc::SIGTRAP && (low(enter::exit_end()) || low(enter::exit_jump()))
    {
        // TF, set by the guest's last instructions, traps after the far jump out.
        // SAFETY: the trampoline runs, hence the context is mapped.
        let context = unsafe { &mut *enter::context() };
        let cs = context.cs;
        capture(context, signal, info_ref, regs);
        context.cs = cs;
        context.exit = if low(enter::exit_end()) { EXIT_END } else { EXIT_JUMP };
        resume_at_leave(context, regs);
    } else if in_trampoline && rip < u64::from(enter::exit_end()) {
        // The processor refused a selector or the FPU image.
        // SAFETY: as above.
        let context = unsafe { &mut *enter::context() };
        capture(context, signal, info_ref, regs);
        context.exit = EXIT_REFUSED;
        resume_at_leave(context, regs);
    } else if signal == libc::SIGSYS && info_ref.si_code == SYS_USER_DISPATCH {
        // Somebody's handler interrupted the guest and makes system calls: let it.
        // SAFETY: Syscall User Dispatch is on for this thread, hence the context is mapped.
        unsafe { (*enter::context()).syscall_selector = 0 };
        regs[libc::REG_RIP as usize] -= SYSCALL_LEN;
    } else {
        // SAFETY: these are the kernel's arguments, passed on unchanged.
        unsafe { forward(signal, info, frame) };
    }
}

/// Stores the interrupted registers and what the kernel says about the signal.
fn capture(context: &mut enter::Context, signal: c_int, info: &libc::siginfo_t, regs: &[i64; 23]) {
    let reg = |index: c_int| regs[index as usize] as u32;
    context.regs = [
        reg(libc::REG_RAX),
        reg(libc::REG_RCX),
        reg(libc::REG_RDX),
        reg(libc::REG_RBX),
        reg(libc::REG_RSP),
        reg(libc::REG_RBP),
        reg(libc::REG_RSI),
        reg(libc::REG_RDI),
    ];
    context.eip = reg(libc::REG_RIP);
    context.eflags = reg(libc::REG_EFL);
    let selectors = regs[libc::REG_CSGSFS as usize] as u64;
    context.cs = selectors as u16;
    context.ss = (selectors >> 48) as u16;
    let vector = reg(libc::REG_TRAPNO) as u8;
    // SAFETY: reading the address of a siginfo that carries none gives a meaningless number.
    let address = unsafe { info.si_addr() };
    context.fault = Fault {
        vector,
        error: reg(libc::REG_ERR),
        cr2: if vector == Fault::PF { reg(libc::REG_CR2) } else { 0 },
        signal,
        code: info.si_code,
        address: address.addr() as u32,
    };
}

/// Makes the return from the handler continue in the 64-bit world.
fn resume_at_leave(context: &mut enter::Context, regs: &mut [i64; 23]) {
    context.syscall_selector = 0;
    regs[libc::REG_RIP as usize] = i64::from(enter::leave());
    regs[libc::REG_RSP as usize] = context.host_rsp as i64;
    regs[libc::REG_EFL as usize] = i64::from(HOST_EFLAGS);
    let selectors = &mut regs[libc::REG_CSGSFS as usize];
    *selectors = *selectors & 0x0000_FFFF_FFFF_0000 | i64::from(CS64) | i64::from(DATA_SELECTOR) << 48;
}

/// Calls the handler that was there before, or does what the kernel would have done without one.
///
/// # Safety
/// The arguments are those the kernel called the handler with.
unsafe fn forward(signal: c_int, info: *mut libc::siginfo_t, frame: *mut c_void) {
    let Some(index) = signals().into_iter().position(|known| known == signal) else { return };
    // SAFETY: see `Previous`.
    let previous = unsafe { (*PREVIOUS.0.get())[index] };
    let called_in_turn = FORWARDED.load(Ordering::Relaxed) == frame.addr();
    if previous.handler == libc::SIG_DFL || previous.handler == libc::SIG_IGN || called_in_turn {
        let _ = set_action(signal, Some(&DEFAULT_ACTION));
        // SAFETY: raise takes any signal number.
        unsafe { libc::raise(signal) };
        return;
    }
    FORWARDED.store(frame.addr(), Ordering::Relaxed);
    let handler: *const () = std::ptr::with_exposed_provenance(previous.handler);
    if previous.flags & libc::SA_SIGINFO as u64 != 0 {
        // SAFETY: with SA_SIGINFO the handler has these three parameters.
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) =
            unsafe { std::mem::transmute(handler) };
        handler(signal, info, frame);
    } else {
        // SAFETY: without SA_SIGINFO the handler takes the number only.
        let handler: extern "C" fn(c_int) = unsafe { std::mem::transmute(handler) };
        handler(signal);
    }
    FORWARDED.store(0, Ordering::Relaxed);
}

/// A signal stack of our own above 4 GiB: the guest's ESP is no place for a frame.
pub struct AltStack {
    base: *mut c_void,
    previous: libc::stack_t,
}

impl AltStack {
    /// Maps a stack and makes it this thread's alternate signal stack.
    pub fn install() -> Result<AltStack, Unavailable> {
        // SAFETY: a new private mapping, wherever the kernel likes.
        let base = unsafe {
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                ALT_STACK_LEN,
                prot,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Unavailable::Os("mmap of a signal stack", io::Error::last_os_error()));
        }
        let stack = libc::stack_t { ss_sp: base, ss_flags: 0, ss_size: ALT_STACK_LEN };
        let mut previous = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: `stack` describes the mapping above; `previous` is initialised on success.
        unsafe {
            if libc::sigaltstack(&raw const stack, previous.as_mut_ptr()) != 0 {
                let error = io::Error::last_os_error();
                libc::munmap(base, ALT_STACK_LEN);
                return Err(Unavailable::Os("sigaltstack", error));
            }
            Ok(AltStack { base, previous: previous.assume_init() })
        }
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let mut current = MaybeUninit::<libc::stack_t>::uninit();
        // SAFETY: sigaltstack fills `current`; a stack that somebody else installed since stays,
        // ours is replaced by the previous one before it is unmapped.
        unsafe {
            if libc::sigaltstack(std::ptr::null(), current.as_mut_ptr()) == 0
                && current.assume_init().ss_sp == self.base
            {
                libc::sigaltstack(&raw const self.previous, std::ptr::null_mut());
            }
            libc::munmap(self.base, ALT_STACK_LEN);
        }
    }
}

/// A timer on this thread's CPU time: a busy machine does not make a run look like a hang.
pub struct Timer(libc::timer_t);

impl Timer {
    /// Makes a timer that is not armed yet.
    pub fn new() -> Result<Timer, Unavailable> {
        let mut timer = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: zero is a valid value for all of sigevent; timer_create fills `timer` on success.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = tick_signal();
            event.sigev_notify_thread_id = libc::gettid();
            match libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut event, timer.as_mut_ptr()) {
                0 => Ok(Timer(timer.assume_init())),
                _ => Err(Unavailable::Os("timer_create", io::Error::last_os_error())),
            }
        }
    }

    /// Ticks every `period` from now on; a run that two ticks fall into is a hang.
    pub fn set_period(&self, period: Duration) -> io::Result<()> {
        let tv_sec = libc::time_t::try_from(period.as_secs()).unwrap_or(libc::time_t::MAX);
        let every = libc::timespec { tv_sec, tv_nsec: period.subsec_nanos().into() };
        let spec = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: the timer exists until drop; `spec` is valid for the call.
        match unsafe { libc::timer_settime(self.0, 0, &raw const spec, std::ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the timer was created by this object and is deleted once.
        unsafe { libc::timer_delete(self.0) };
    }
}

/// Syscall User Dispatch on this thread: a system call of the guest raises SIGSYS, costs nothing
/// else. See the kernel's admin-guide, "Syscall User Dispatch".
pub struct SyscallTrap(());

impl SyscallTrap {
    /// Turns it on; the context has to stay mapped until drop.
    pub fn install() -> Result<SyscallTrap, Unavailable> {
        let start = (&raw const table86_oracle_restorer).addr();
        let len = (&raw const table86_oracle_restorer_end).addr() - start;
        // SAFETY: the context is mapped, so the kernel can read the selector byte in it.
        let result = unsafe {
            let selector = &raw const (*enter::context()).syscall_selector;
            libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 1usize, start, len, selector)
        };
        match result {
            0 => Ok(SyscallTrap(())),
            _ => Err(Unavailable::Os("prctl(PR_SET_SYSCALL_USER_DISPATCH)", io::Error::last_os_error())),
        }
    }
}

impl Drop for SyscallTrap {
    fn drop(&mut self) {
        // SAFETY: turning it off takes no pointers.
        unsafe { libc::prctl(PR_SET_SYSCALL_USER_DISPATCH, 0usize, 0usize, 0usize, 0usize) };
    }
}
