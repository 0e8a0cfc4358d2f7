//! The silicon oracle: runs IA-32 code on this processor, from a 64-bit test process.
//!
//! An [`Oracle`] owns memory below 4 GiB, the fault signals and a CPU-time timer for as long as it
//! lives. [`Oracle::run`] loads a whole [`State`], jumps to a 32-bit code segment, and comes back
//! with the state at the end of the code or at the fault. The plain path makes no system call.
//!
//! ```ignore
//! with_oracle(|oracle| {
//!     let outcome = oracle.run(&[0x40], CODE, &State::with(&[(reg::EAX, 7)])); // inc eax
//!     assert_eq!((outcome.state.regs[reg::EAX], outcome.stop), (8, Stop::End));
//! });
//! ```
//!
//! # Rules
//! - One oracle at a time: [`Oracle::new`] waits until other threads have dropped theirs. An oracle
//!   stays on its thread.
//! - Unwritten bytes of the [`CODE`] window are HLT: a branch to one stops there with #GP.
//! - A fault handler installed while an oracle lives has to pass on what is not its own, or
//!   [`Oracle::claim_signals`] has to be called after it. Tests that use a `Machine` too make it
//!   first: then its handler, installed once a process, is always behind the oracle's.
//! - FCS and FDS in the FXSAVE image are always 0: the kernel loses them whenever it likes.
//! - Upper halves of vector registers (AVX) are neither loaded nor saved.
//! - A fault costs a signal: 1 to 2 µs, and ten times that under some hypervisors.

// Every test that includes this module uses its own part of it.
#![allow(dead_code, unused_imports)]

mod enter;
mod memory;
mod signals;
mod state;

pub use memory::Access;
pub use state::{Fault, Outcome, Segment, State, Stop, Unavailable, flag, reg, seg};

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The size of a page in bytes.
pub const PAGE: u32 = 0x1000;
/// The code window's first byte; [`WINDOW`] bytes, readable, writable, executable.
pub const CODE: u32 = 0x1000_0000;
/// The data window's first byte; [`WINDOW`] bytes, readable and writable.
pub const DATA: u32 = 0x2000_0000;
/// The stack window's first byte; [`WINDOW`] bytes, readable and writable.
pub const STACK: u32 = 0x3000_0000;
/// The size of each window in bytes; the pages on both sides are not mapped.
pub const WINDOW: u32 = 4 * PAGE;
/// A jump, call or return to this address ends a run with [`Stop::Jump`].
pub const EXIT: u32 = enter::TRAMPOLINE;

/// What POPF sets from user mode without any effect before the next instruction.
const PLAIN_FLAGS: u32 = flag::ARITHMETIC | flag::DF | flag::ID;
/// What only IRET sets from user mode at the very first instruction.
const IRET_FLAGS: u32 = flag::TF | flag::NT | flag::RF | flag::AC;

static LOCK: Mutex<()> = Mutex::new(());

thread_local! {
    /// Whether this thread has an oracle: waiting for another one would never end.
    static HAS_ORACLE: Cell<bool> = const { Cell::new(false) };
}

/// The lock and the note that this thread holds it.
struct Turn {
    _lock: MutexGuard<'static, ()>,
}

impl Turn {
    fn wait() -> Turn {
        assert!(!HAS_ORACLE.replace(true), "this thread has an oracle already");
        Turn { _lock: LOCK.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        HAS_ORACLE.set(false);
    }
}

/// This processor, ready to run 32-bit code on the current thread.
pub struct Oracle {
    /// Whether runs load and save `State::fx`. Without it code must leave the FPU and SSE state
    /// alone, a run is faster, and the outcome has the image of the state it began with.
    pub fpu: bool,
    segments: [Option<u16>; 3],
    /// Where the code loaded last ends.
    end: u32,
    // Dropped in this order: the signals end before the memory they rely on.
    _syscalls: signals::SyscallTrap,
    timer: signals::Timer,
    handlers: signals::Handlers,
    _stack: signals::AltStack,
    memory: memory::Memory,
    _turn: Turn,
    _on_this_thread: PhantomData<*const ()>,
}

/// Runs a test with an oracle; where the host has none, says why on standard error.
pub fn with_oracle(test: impl FnOnce(&mut Oracle)) {
    match Oracle::new() {
        Ok(mut oracle) => test(&mut oracle),
        Err(reason) => eprintln!("skipped: {reason}"),
    }
}

impl Oracle {
    /// Waits for its turn, maps the windows, takes the signals and tries the processor.
    ///
    /// # Errors
    /// Says why this host cannot.
    ///
    /// # Panics
    /// If this thread has an oracle already.
    pub fn new() -> Result<Oracle, Unavailable> {
        const HWCAP2_FSGSBASE: u64 = 2;
        let turn = Turn::wait();
        // SAFETY: getauxval takes any key.
        if unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_FSGSBASE == 0 {
            return Err(Unavailable::NoFsGsBase);
        }
        if (Oracle::new as *const ()).addr() >> 32 == 0 {
            return Err(Unavailable::LowCode);
        }
        let mut memory = memory::Memory::with_trampoline()?;
        memory.map(CODE, WINDOW, Access::ReadWriteExecute)?;
        memory.map(DATA, WINDOW, Access::ReadWrite)?;
        memory.map(STACK, WINDOW, Access::ReadWrite)?;
        let stack = signals::AltStack::install()?;
        let handlers = signals::Handlers::install()?;
        let timer = signals::Timer::new()?;
        let syscalls = signals::SyscallTrap::install()?;
        let mut oracle = Oracle {
            fpu: true,
            segments: [None; 3],
            end: CODE,
            _syscalls: syscalls,
            timer,
            handlers,
            _stack: stack,
            memory,
            _turn: turn,
            _on_this_thread: PhantomData,
        };
        oracle.clear_code();
        oracle.set_timeout(Duration::from_millis(100));
        oracle.load(&[0x90], CODE);
        match oracle.try_enter(CODE, &State::default()) {
            Ok(Outcome { stop: Stop::End, .. }) => {
                oracle.clear_code();
                Ok(oracle)
            }
            _ => Err(Unavailable::No32BitSegment),
        }
    }

    /// Makes all of the code window HLT again.
    pub fn clear_code(&mut self) {
        self.bytes_mut(CODE, WINDOW as usize).fill(0xF4);
    }

    /// Ends a run with [`Stop::Timeout`] when it has used between one and two times `limit` of CPU
    /// time; 100 ms unless changed.
    ///
    /// # Panics
    /// With a limit of 0, which would mean none.
    pub fn set_timeout(&mut self, limit: Duration) {
        assert!(!limit.is_zero(), "a timeout of zero");
        self.timer.set_period(limit).expect("arming a timer of ours");
    }

    /// Puts the oracle's signal handlers in front of any installed since [`Oracle::new`].
    pub fn claim_signals(&mut self) {
        self.handlers.claim().expect("rt_sigaction worked before");
    }

    /// Maps zeroed pages at a page boundary.
    ///
    /// # Errors
    /// If something is mapped there already, or the address is below the kernel's minimum.
    pub fn map(&mut self, start: u32, len: u32, access: Access) -> Result<(), Unavailable> {
        self.memory.map(start, len, access)
    }

    /// Changes what whole pages, mapped before, permit.
    ///
    /// # Panics
    /// If they are not mapped.
    pub fn protect(&mut self, start: u32, len: u32, access: Access) {
        self.memory.protect(start, len, access).expect("mprotect of mapped pages");
    }

    /// Guest memory to look at.
    ///
    /// # Panics
    /// Where it is not mapped and readable.
    pub fn bytes(&self, start: u32, len: usize) -> &[u8] {
        self.memory.bytes(start, len)
    }

    /// Whether [`Oracle::bytes`] has all of them.
    pub fn is_mapped(&self, start: u32, len: usize) -> bool {
        self.memory.is_mapped(start, len)
    }

    /// Guest memory to change.
    ///
    /// # Panics
    /// Where it is not mapped and writable.
    pub fn bytes_mut(&mut self, start: u32, len: usize) -> &mut [u8] {
        self.memory.bytes_mut(start, len)
    }

    /// Defines thread-local segment `slot` (0 to 2) and returns its selector.
    ///
    /// # Errors
    /// If the kernel does not take 32-bit system calls or refuses the descriptor.
    pub fn set_segment(&mut self, slot: usize, segment: &Segment) -> io::Result<u16> {
        let flags = 1
            | u32::from(segment.expand_down) << 1
            | u32::from(!segment.writable) << 3
            | u32::from(segment.limit_in_pages) << 4
            | 1 << 6;
        let entry = self.segments[slot].map_or(u32::MAX, |selector| u32::from(selector >> 3));
        let entry = set_thread_area([entry, segment.base, segment.limit, flags])?;
        let selector = (entry << 3 | 3) as u16;
        self.segments[slot] = Some(selector);
        Ok(selector)
    }

    /// Puts `code` at `at` with the exit sequence of 7 bytes behind it. Where the mapped pages end
    /// before that sequence would, there is none, and the code runs off their end.
    pub fn load(&mut self, code: &[u8], at: u32) {
        let exit = enter::exit_sequence();
        self.end = at.wrapping_add(code.len() as u32);
        let fits = self.memory.is_mapped(at, code.len() + exit.len());
        let exit = if fits { &exit[..] } else { &[] };
        let len = code.len() + exit.len();
        // Writing to code costs hundreds of cycles, so code that is there already stays.
        let present = self.bytes(at, len);
        if present[..code.len()] != *code || present[code.len()..] != *exit {
            let target = self.bytes_mut(at, len);
            target[..code.len()].copy_from_slice(code);
            target[code.len()..].copy_from_slice(exit);
        }
    }

    /// Loads `code` at `at` and runs it from its first byte with `state`, whose `eip` is ignored.
    ///
    /// # Panics
    /// If the processor refuses the state: selectors that cannot be loaded, reserved MXCSR bits.
    pub fn run(&mut self, code: &[u8], at: u32, state: &State) -> Outcome {
        self.load(code, at);
        self.enter(at, state)
    }

    /// Runs the code in memory from `state.eip` on; the end it may run to is that of the code
    /// loaded last.
    ///
    /// # Panics
    /// As [`Oracle::run`].
    pub fn resume(&mut self, state: &State) -> Outcome {
        self.enter(state.eip, state)
    }

    /// Executes one instruction of the code in memory, at `state.eip`, by the trap flag.
    ///
    /// A repeated string instruction takes a step an iteration, and an instruction that inhibits
    /// traps (MOV SS, POP SS) takes the next one with it. The flag itself is hidden from the
    /// result, but PUSHF stores it.
    ///
    /// # Panics
    /// As [`Oracle::run`].
    pub fn step(&mut self, state: &State) -> Outcome {
        const TRAP_TRACE: i32 = 2;
        let tf = state.eflags & flag::TF;
        let mut outcome = self.enter(state.eip, &State { eflags: state.eflags | flag::TF, ..state.clone() });
        let traced = matches!(outcome.stop, Stop::Fault(Fault { vector: Fault::DB, code: TRAP_TRACE, .. }));
        if tf == 0 {
            outcome.state.eflags &= !flag::TF;
            if traced {
                outcome.stop = Stop::Step;
            }
        }
        outcome
    }

    fn enter(&mut self, eip: u32, state: &State) -> Outcome {
        self.try_enter(eip, state)
            .unwrap_or_else(|fault| panic!("the processor refuses to load {state:?}: {fault:?}"))
    }

    /// Runs from `eip` on with the rest of `state`; the fault if the processor refuses to load it.
    fn try_enter(&mut self, eip: u32, state: &State) -> Result<Outcome, Fault> {
        let context = enter::context();
        // SAFETY: the context is mapped, this thread holds the lock; handlers, stack and
        // trampoline are in place, which `enter` asks for. The reference ends before the call.
        unsafe {
            let context = &mut *context;
            context.load(state);
            context.eip = eip;
            context.by_iret = u8::from(state.eflags & IRET_FLAGS != 0);
            context.eflags = state.eflags & (PLAIN_FLAGS | IRET_FLAGS) | enter::HOST_EFLAGS;
            context.fpu = u8::from(self.fpu);
            context.exit = enter::EXIT_NONE;
            context.run += 1;
            if self.fpu {
                context.fx = state.fx;
            }
        }
        // SAFETY: as above.
        unsafe { enter::enter() };
        // SAFETY: as above; the run is over.
        let context = unsafe { &*context };
        let mut outcome = Outcome { state: state.clone(), stop: Stop::End };
        context.store(&mut outcome.state);
        if self.fpu {
            outcome.state.fx = context.fx;
            outcome.state.fx[12..16].fill(0);
            outcome.state.fx[20..24].fill(0);
        }
        outcome.stop = match context.exit {
            enter::EXIT_END => {
                outcome.state.eip = self.end;
                Stop::End
            }
            enter::EXIT_JUMP => {
                outcome.state.eip = EXIT;
                Stop::Jump
            }
            enter::EXIT_SIGNAL if context.fault.signal == libc::SIGSYS => Stop::Syscall,
            enter::EXIT_SIGNAL if context.fault.signal == signals::tick_signal() => Stop::Timeout,
            enter::EXIT_SIGNAL => Stop::Fault(context.fault),
            _ => return Err(context.fault),
        };
        Ok(outcome)
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        for selector in self.segments.into_iter().flatten() {
            // The empty descriptor: read-only, not present. Clearing what was set cannot fail.
            let _ = set_thread_area([u32::from(selector >> 3), 0, 0, 0b10_1000]);
        }
    }
}

/// Hands a `user_desc` to the kernel and returns its entry number.
fn set_thread_area(descriptor: [u32; 4]) -> io::Result<u32> {
    // SAFETY: only called with the context mapped, whose image field is free between runs; the
    // kernel reads and writes the 16 bytes there.
    let (result, entry) = unsafe {
        let place = (&raw mut (*enter::context()).fx).cast::<[u32; 4]>();
        place.write(descriptor);
        let result = enter::set_thread_area(place.addr() as u32);
        (result, place.cast::<u32>().read())
    };
    match result {
        0 => Ok(entry),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}
