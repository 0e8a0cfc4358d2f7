//! From a host fault in a handler back to the guest's exact state. Unsafe: signal handler and the entry into handlers.
//!
//! `enter` saves the host's registers and its stack pointer and calls the first handler. When a guest access faults, the signal
//! handler finds the op in RSI (or, in bulk copies, in `Cpu::current_op`), notes the fault and the host's registers in the `Cpu`, and
//! lets the thread resume at `landing`, which restores what `enter` saved and returns null. In a copy of handlers the op may be
//! further on, and host registers have what the `Cpu` lacks: the run loop asks `stitch` for that.

use super::op::Op;
use crate::cpu::Cpu;
#[cfg(not(trap_memory))]
use crate::cpu::fault::page_fault;
#[cfg(not(trap_memory))]
use crate::memory::page;

/// #PF's error code for an access to a page with this page byte, as if each page that may be accessed had been touched.
#[cfg(not(trap_memory))]
pub(crate) fn error_code(page_byte: u8, write: bool) -> u16 {
    let present = page_byte & (page::READ | page::WRITE | page::EXEC) != 0;
    page_fault::USER
        | if write { page_fault::WRITE } else { 0 }
        | if present { page_fault::PRESENT } else { 0 }
}

/// The host's registers at a fault in a handler.
#[cfg(trap_memory)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HostState {
    /// Where it faulted; 0: nowhere since handlers were entered last.
    pub(crate) rip: u64,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub(crate) general: [u64; 16],
    /// XMM0 to XMM15.
    pub(crate) vectors: [[u8; 16]; 16],
}

/// Runs handlers from `op` on until one returns null.
#[cfg(not(tail_calls))]
unsafe extern "C" fn chain(cpu: *mut Cpu, mut op: *const Op, mem: *mut u8) -> *const Op {
    while !op.is_null() {
        // SAFETY: the translator puts a handler that fits into each op.
        op = unsafe { ((*op).handler)(cpu, op, mem) };
    }
    op
}

#[cfg(tail_calls)]
unsafe extern "C" fn chain(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: the translator puts a handler that fits into each op.
    unsafe { ((*op).handler)(cpu, op, mem) }
}

/// Runs handlers from `op` on.
///
/// # Safety
/// `op` is a valid entry of translations made for `cpu` and `memory`, and this thread has been prepared by `prepare_thread`.
#[cfg(not(trap_memory))]
pub(crate) unsafe fn run(cpu: *mut Cpu, op: *const Op, memory: &crate::memory::Memory) {
    // SAFETY: the caller's promise.
    unsafe {
        chain(cpu, op, memory.base());
        crate::fpu::notes::settle(&mut *cpu);
    }
}

#[cfg(trap_memory)]
pub(crate) use trap::{prepare_thread, run};

/// Without traps there is nothing to prepare.
#[cfg(not(trap_memory))]
pub(crate) fn prepare_thread() {}

#[cfg(trap_memory)]
mod trap {
    use super::{Cpu, HostState, Op, chain};
    use crate::cpu::fault::page_fault;
    use crate::cpu::float::host;
    use crate::cpu::{Exit, Fault};
    use crate::fpu::{live, notes};
    use crate::memory::{Memory, guarded};
    use std::arch::naked_asm;
    use std::cell::Cell;
    use std::mem::offset_of;
    use std::sync::Once;

    thread_local! {
        /// The CPU whose handlers run on this thread, else null.
        static RUNNING: Cell<*mut Cpu> = const { Cell::new(std::ptr::null_mut()) };
        /// The memory of that CPU's guest; means nothing while no handlers run.
        static MEMORY: Cell<*const Memory> = const { Cell::new(std::ptr::null()) };
    }

    /// Saves the callee-saved registers, remembers the stack pointer in the CPU, and calls `chain`.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn enter(
        cpu: *mut Cpu,
        op: *const Op,
        mem: *mut u8,
        chain: unsafe extern "C" fn(*mut Cpu, *const Op, *mut u8) -> *const Op,
    ) -> *const Op {
        naked_asm!(
            "push rbp", "push rbx", "push r12", "push r13", "push r14", "push r15", "sub rsp, 8",
            "mov [rdi + {stack}], rsp",
            "call rcx",
            "add rsp, 8", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
            "ret",
            stack = const offset_of!(Cpu, host_stack),
        )
    }

    /// Where a thread resumes after a fault, with RSP as `enter` remembered it.
    #[unsafe(naked)]
    unsafe extern "sysv64" fn landing() -> *const Op {
        naked_asm!(
            "xor eax, eax",
            "add rsp, 8",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            "ret",
        )
    }

    /// Runs handlers from `op` on until one returns null or an access faults.
    ///
    /// # Safety
    /// `op` is a valid entry of translations made for `cpu` and `memory`, and this thread is prepared.
    pub(crate) unsafe fn run(cpu: *mut Cpu, op: *const Op, memory: &Memory) {
        MEMORY.set(memory);
        RUNNING.set(cpu);
        // SAFETY: the caller's promise.
        unsafe {
            host::enter((*cpu).mxcsr);
            enter(cpu, op, memory.base(), chain);
            if (*cpu).live.on {
                live::spill(&mut *cpu);
            }
            notes::settle(&mut *cpu);
            (*cpu).mxcsr |= host::leave();
        }
        RUNNING.set(std::ptr::null_mut());
    }

    /// Prepares this thread: the signal handlers are there, and it has an alternate stack.
    pub(crate) fn prepare_thread() {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(install);
        alternate_stack();
    }

    fn install() {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: the handler touches only what is safe in a signal handler.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigaction(signal, &action, std::ptr::null_mut());
            }
        }
    }

    /// A thread's alternate stack.
    struct AlternateStack(*mut libc::c_void);

    const ALTERNATE_SIZE: usize = 64 << 10;

    impl Drop for AlternateStack {
        fn drop(&mut self) {
            // SAFETY: the mapping is given back when the thread does not use it any more.
            unsafe {
                let mut now: libc::stack_t = std::mem::zeroed();
                libc::sigaltstack(std::ptr::null(), &mut now);
                if now.ss_sp == self.0 {
                    let none = libc::stack_t { ss_flags: libc::SS_DISABLE, ..now };
                    libc::sigaltstack(&none, std::ptr::null_mut());
                }
                libc::munmap(self.0, ALTERNATE_SIZE);
            }
        }
    }

    /// Gives the thread a stack for signals unless it has one.
    fn alternate_stack() {
        const SIZE: usize = ALTERNATE_SIZE;
        thread_local! {
            static STACK: Cell<Option<AlternateStack>> = const { Cell::new(None) };
        }
        // SAFETY: asks, and if there is none gives a fresh mapping, which lives as long as the thread.
        unsafe {
            let mut old: libc::stack_t = std::mem::zeroed();
            libc::sigaltstack(std::ptr::null(), &mut old);
            if old.ss_flags & libc::SS_DISABLE == 0 && old.ss_size >= SIZE {
                return;
            }
            let stack = libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            );
            if stack != libc::MAP_FAILED {
                let new = libc::stack_t { ss_sp: stack, ss_flags: 0, ss_size: SIZE };
                libc::sigaltstack(&new, std::ptr::null_mut());
                STACK.set(Some(AlternateStack(stack)));
            }
        }
    }

    /// Writes down the host's registers.
    ///
    /// # Safety
    /// `floats` is null or valid.
    unsafe fn save(state: &mut HostState, registers: &[i64; 23], floats: *const libc::_libc_fpstate) {
        use libc::{
            REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RAX, REG_RBP, REG_RBX,
            REG_RCX, REG_RDI, REG_RDX, REG_RIP, REG_RSI, REG_RSP,
        };
        const ORDER: [i32; 16] = [
            REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
            REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
        ];
        state.rip = registers[REG_RIP as usize] as u64;
        state.general = ORDER.map(|register| registers[register as usize] as u64);
        // SAFETY: the caller's promise.
        if let Some(floats) = unsafe { floats.as_ref() } {
            for (register, xmm) in state.vectors.iter_mut().zip(&floats._xmm) {
                for (bytes, word) in register.chunks_exact_mut(4).zip(xmm.element) {
                    bytes.copy_from_slice(&word.to_ne_bytes());
                }
            }
        }
    }

    extern "C" fn on_fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes valid pointers; `RUNNING` is valid while set, and then `MEMORY` is too.
        unsafe {
            let context = &mut *context.cast::<libc::ucontext_t>();
            let registers = &mut context.uc_mcontext.gregs;
            let rip = registers[libc::REG_RIP as usize] as usize;
            let sent = (*info).si_code <= 0;
            if !sent && let Some(resume) = guarded::fixup(rip) {
                registers[libc::REG_RIP as usize] = resume as i64;
                return;
            }
            let (cpu, memory) = (RUNNING.get(), MEMORY.get());
            let addr = (!cpu.is_null()).then(|| (*memory).contains_host((*info).si_addr().cast())).flatten();
            if let (Some(cpu), Some(addr), false) = (cpu.as_mut(), addr, sent) {
                // Whether a page is present is up to the kernel, which fills in pages when they are touched: what it
                // told the host's processor is what it would have told the guest's.
                let told = registers[libc::REG_ERR as usize] as u16;
                cpu.exit = if signal == libc::SIGBUS { Exit::Bus } else { Exit::Fault };
                cpu.cr2 = addr;
                cpu.fault = Fault::pf(page_fault::USER | told & (page_fault::WRITE | page_fault::PRESENT));
                cpu.exit_op = if cpu.current_op.is_null() {
                    registers[libc::REG_RSI as usize] as *const Op
                } else {
                    cpu.current_op
                };
                cpu.current_op = std::ptr::null();
                save(&mut cpu.host_state, registers, context.uc_mcontext.fpregs);
                registers[libc::REG_RSP as usize] = cpu.host_stack as i64;
                registers[libc::REG_RIP as usize] = landing as *const () as i64;
                return;
            }
            crate::engine::recover::foreign(signal, info, context);
        }
    }
}

/// What to do with a SIGSEGV or SIGBUS that is none of the guest's accesses: one that was sent goes to whoever registered for it;
/// our own crash ends the process as if there were no handler.
fn foreign(signal: i32, info: *const libc::siginfo_t, context: *mut libc::ucontext_t) {
    let hook = SENT.load(std::sync::atomic::Ordering::Relaxed);
    // SAFETY: the kernel's pointer; the hook was stored by `on_sent_signal`.
    unsafe {
        if (*info).si_code <= 0 && hook != 0 {
            return std::mem::transmute::<usize, SentSignal>(hook)(signal, info, context);
        }
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, &action, std::ptr::null_mut());
        if (*info).si_code <= 0 {
            libc::raise(signal);
        }
    }
}

static SENT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Gets a signal with what the host tells its handler.
pub type SentSignal = fn(i32, *const libc::siginfo_t, *mut libc::ucontext_t);

/// Registers who gets a SIGSEGV or SIGBUS that somebody sent: an async-signal-safe function.
pub fn on_sent_signal(hook: SentSignal) {
    SENT.store(hook as usize, std::sync::atomic::Ordering::Relaxed);
    #[cfg(not(trap_memory))]
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler touches only what is safe in a signal handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sent as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Without traps, every fault is our own.
#[cfg(not(trap_memory))]
extern "C" fn on_sent(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    foreign(signal, info, context.cast());
}
