//! A guest process: what its system calls work on, and the loop that runs it.
//!
//! The loop runs instructions until something stops them, turns exceptions into signals and `int 0x80` into system
//! calls, and delivers signals between instructions. Each part of the state is a struct of the module that knows it.

use super::blocking;
use super::common::Common;
use super::debugger::Debugger;
use super::errno::Errno;
use super::exec::Launch;
use super::files::Files;
use super::ptrace::{self, Tracing};
use super::signal::{self, Call, Signals, fault};
use super::table::{self, Restart};
use super::task::{Group, Task};
use crate::cpu::{FaultKind, reg};
use crate::fpu::Backend;
use crate::{Machine, Stop};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The vector of Linux's system calls.
const SYSCALL_VECTOR: u16 = 0x80;
/// Bytes of `int 0x80`, by which a restarted call goes back.
pub(crate) const INT_LEN: u32 = 2;
/// Instructions between two looks at the clock when there is a time limit.
const TIME_SLICE: u64 = 10_000_000;

/// What the user asked for. Carried over `execve`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-L`: absolute paths of the guest are looked up under this directory first.
    pub sysroot: Option<PathBuf>,
    /// `--root`: nothing outside of that directory is found, but for what [`paths`](super::paths) names.
    pub rooted: bool,
    /// `--cpu`: the model whose CPUID is shown; the default one if `None`.
    pub cpu: Option<String>,
    /// `--fpu`: what computes for the x87.
    pub fpu: Backend,
    /// `--max-insns`: instructions after which the guest is stopped.
    pub max_instructions: Option<u64>,
    /// `--timeout`: wall-clock time after which the guest is stopped.
    pub timeout: Option<Duration>,
    /// `--memory`: most bytes that the guest may map.
    pub memory_bytes: Option<u64>,
    /// `strace`: system calls are shown.
    pub strace: Option<super::strace::Settings>,
    /// Who watches the program, in its own words: handed on with the output ([`super::exec::Launch::traced_to`]), for whoever
    /// starts the next program to watch that too.
    pub tool: Option<String>,
}

impl Options {
    /// Whether somebody watches, with an output to be handed on.
    pub(super) fn is_watched(&self) -> bool {
        self.strace.is_some() || self.tool.is_some()
    }
}

/// What the loader made of the program; fixed until the next `execve`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The program's file on the host, absolute; what `/proc/self/exe` shows.
    pub exe_path: PathBuf,
    /// The name that was executed, as the guest gave it (`AT_EXECFN`); for a script the script's.
    pub exec_name: OsString,
    /// The arguments, `argv[0]` included; what `/proc/self/cmdline` shows.
    pub argv: Vec<OsString>,
    /// First address behind the program's bss, page-aligned: where the heap starts.
    pub brk_start: u32,
    /// The auxiliary vector as it lies on the stack; what `/proc/self/auxv` shows.
    pub auxv: Vec<u8>,
    /// ESP at the first instruction.
    pub start_stack: u32,
    /// `PT_GNU_STACK` is missing or asks for an executable stack: what can be read can be executed.
    pub exec_stack: bool,
    /// `__kernel_sigreturn` of the vDSO; 0 where there is no vDSO.
    pub sigreturn: u32,
    /// `__kernel_rt_sigreturn` of the vDSO; 0 where there is no vDSO.
    pub rt_sigreturn: u32,
    /// Where the vDSO goes on behind SYSENTER, with `int 0x80` in front of it; 0 where there is no vDSO.
    pub landing_pad: u32,
}

/// Why a process came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// `exit` or `exit_group`, with the status's low byte.
    Exited(u8),
    /// A signal's default action.
    Killed(i32),
    /// `--max-insns` or `--timeout`.
    LimitReached,
}

/// What happened in a [`Process::turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Signals were delivered before anything else.
    pub delivered: bool,
    /// What came then.
    pub event: TurnEvent,
}

/// See [`Turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnEvent {
    /// Instructions were executed, if any.
    Ran,
    /// Perhaps instructions, and then a system call.
    Called,
    /// Perhaps instructions, and then one that raised an exception, which has become a signal.
    Raised(Stop),
    /// The process, or the thread, has come to its end.
    Ended(ExitReason),
}

/// Sees system calls and signals go by, for `strace` and `trace`.
pub trait Observer {
    /// Tells whether threads and children are to be seen too.
    fn follows(&self) -> bool {
        true
    }
    /// A program is about to run its first instruction.
    fn begin(&mut self, process: &Process) {
        let _ = process;
    }
    /// A new thread or child process is about to run.
    fn attach(&mut self, process: &Process) {
        let _ = process;
    }
    /// Before the call. `eax` is its number, `args` are EBX ECX EDX ESI EDI EBP.
    fn enter(&mut self, process: &Process, nr: u32, args: [u32; 6]);
    /// After the call; not called for those that do not come back.
    fn leave(&mut self, process: &Process, nr: u32, args: [u32; 6], result: Result<u32, Errno>);
    /// A signal with a handler, or a fatal one, is about to take effect.
    fn signal(&mut self, process: &Process, info: &signal::Info);
    /// The end of a thread.
    fn exit(&mut self, process: &Process, reason: ExitReason);
    /// The end of the process, behind that of its last thread.
    fn end(&mut self, process: &Process) {
        let _ = process;
    }
}

/// A guest process as one of its threads sees it.
pub struct Process {
    /// The thread's processor, and memory.
    pub machine: Machine,
    /// What the user asked for.
    pub options: Arc<Options>,
    /// What was loaded.
    pub image: Arc<Image>,
    /// Descriptors.
    pub files: Files,
    /// What goes with the memory.
    pub common: Arc<Common>,
    /// The process's threads.
    pub group: Arc<Group>,
    /// Actions, the thread's masks, the alternate stack.
    pub signals: Signals,
    /// Ids, addresses to be cleared or walked at exit.
    pub task: Task,
    /// The thread's part in being traced.
    pub trace: Tracing,
    /// How to run this program again for `execve`.
    pub launch: Arc<Launch>,
    /// Sees what happens, if anybody wants to.
    pub observer: Option<SharedObserver>,
    /// Decides when threads run, if anybody does.
    pub debugger: Option<Arc<dyn Debugger>>,
    /// Called at the end of a process that [`Process::run`] does not come back from, since another thread of its parent than
    /// the first one made it.
    pub at_end: fn(&Process, ExitReason),
    /// Set by `exit`, `exit_group` and by fatal signals; ends the loop.
    pub(crate) end: Option<ExitReason>,
    /// `end` is that of this thread only.
    pub(crate) ends_alone: bool,
    /// A call that wants to be looked at again once it is known which signal ends it.
    pub(crate) interrupted: Option<Call>,
    pub(crate) deadline: Option<Instant>,
}

/// An observer of all threads.
pub type SharedObserver = Arc<Mutex<dyn Observer + Send>>;

impl Process {
    /// A process whose program is loaded into `machine`. Takes over the host process's signal dispositions, mask
    /// and identity, as `execve` hands them on.
    pub fn new(mut machine: Machine, image: Image, options: Options, launch: Launch) -> Process {
        let deadline = options.timeout.map(|t| Instant::now() + t);
        super::exec::set_name(&image);
        signal::host::close_standard_files();
        super::host::keep_spares();
        machine.cpu.tsd = launch.tsd;
        super::ptrace::show(&machine.memory, &image);
        Process {
            common: Arc::new(Common::new(&machine.memory, &image)),
            group: Arc::default(),
            signals: Signals::inherit(launch.mask),
            task: Task::new(image.exec_stack),
            files: Files::default(),
            trace: Tracing::of_program(launch.traced),
            machine,
            observer: super::strace::Tracer::of(options.strace.as_ref(), launch.trace.as_ref()),
            options: Arc::new(options),
            image: Arc::new(image),
            launch: Arc::new(launch),
            debugger: None,
            at_end: |_, _| (),
            end: None,
            ends_alone: false,
            interrupted: None,
            deadline,
        }
    }

    /// Runs the guest to its end, which is that of its last thread. The host process is still there afterwards; see
    /// [`ExitReason::finish`]. To be called on the thread that made the machine.
    pub fn run(&mut self) -> ExitReason {
        self.run_by(Process::run_loop)
    }

    /// As [`Process::run`], but `drive` makes the turns of the first thread, until one says that it ended.
    pub fn run_by(&mut self, drive: impl FnOnce(&mut Process) -> ExitReason) -> ExitReason {
        signal::host::attach(&mut self.signals, &self.machine.cpu);
        self.with_observer(|observer, process| observer.begin(process));
        ptrace::tracee::begin(self, false);
        self.run_attached_by(drive);
        let reason = self.group.wait();
        self.with_observer(|observer, process| observer.end(process));
        if let Some(debugger) = self.debugger.take() {
            debugger.end(reason);
        }
        reason
    }

    /// Lets a new task be seen, or not.
    pub(super) fn attach_observer(&mut self) {
        let follows =
            |observer: &SharedObserver| observer.lock().unwrap_or_else(PoisonError::into_inner).follows();
        if self.observer.as_ref().is_some_and(|observer| !follows(observer)) {
            self.observer = None;
            Arc::make_mut(&mut self.options).strace = None;
        }
        self.with_observer(|observer, process| observer.attach(process));
    }

    /// Runs this thread, whose signals go to this process already, to its end.
    pub(super) fn run_attached(&mut self) {
        self.run_attached_by(Process::run_loop);
    }

    fn run_attached_by(&mut self, drive: impl FnOnce(&mut Process) -> ExitReason) {
        self.group.enter(super::task::id());
        if let Some(debugger) = self.debugger.clone() {
            debugger.started(self);
        }
        let reason = drive(self);
        self.end = Some(reason);
        if let Some(debugger) = self.debugger.clone() {
            debugger.ended(self);
        }
        ptrace::tracee::exiting(self, reason.wait_status());
        self.with_observer(|observer, process| observer.exit(process, reason));
        super::task::exit::leave(self);
    }

    fn run_loop(&mut self) -> ExitReason {
        loop {
            if let TurnEvent::Ended(reason) = self.turn(u64::MAX).event {
                return reason;
            }
        }
    }

    /// Delivers signals, runs `max` instructions at most, and does what made them stop. With a `max` of 0 signals only.
    pub fn turn(&mut self, max: u64) -> Turn {
        if self.signals.shielded {
            signal::host::apply_mask(&self.signals);
        }
        if self.trace.is_interrupted() {
            ptrace::tracee::interrupted(self);
        }
        let delivered = signal::deliver::wanted(self);
        if delivered {
            signal::deliver::deliver(self);
        }
        Turn { delivered, event: self.go_on(max) }
    }

    fn go_on(&mut self, max: u64) -> TurnEvent {
        if let Some(reason) = self.end.or_else(|| self.group.ended()) {
            return TurnEvent::Ended(reason);
        }
        let stepping = self.trace.is_stepping();
        if stepping && ptrace::tracee::before_step(self) {
            return TurnEvent::Ran;
        }
        let allowed = self.instruction_budget();
        if allowed == 0 {
            return TurnEvent::Ended(ExitReason::LimitReached);
        }
        let budget = allowed.min(if stepping { 1 } else { max });
        self.trace.leave_call();
        let before = self.machine.cpu.instructions();
        let stop = match self.debugger.clone() {
            Some(debugger) => debugger.run(self, budget),
            None => self.machine.run(budget),
        };
        self.group.count(self.machine.cpu.instructions() - before);
        match stop {
            // A breakpoint of a debugger that is not here: of the parent's whose memory this is.
            Stop::Requested | Stop::Hook | Stop::Breakpoint => {}
            Stop::Limit => {
                if stepping {
                    ptrace::tracee::after_step(self);
                }
                if self.deadline.is_some_and(|at| Instant::now() >= at) {
                    return TurnEvent::Ended(ExitReason::LimitReached);
                }
            }
            Stop::Exception(raised) if raised.kind == FaultKind::Int && raised.code == SYSCALL_VECTOR => {
                self.system_call();
                return TurnEvent::Called;
            }
            Stop::Exception(raised) if raised.kind == FaultKind::Sysenter => {
                self.sysenter();
                return TurnEvent::Called;
            }
            Stop::Exception(raised) => {
                fault::raise(self, raised);
                return TurnEvent::Raised(stop);
            }
            Stop::Bus(raised) => {
                fault::raise_bus(self, raised);
                return TurnEvent::Raised(stop);
            }
        }
        TurnEvent::Ran
    }

    /// Instructions that may run before somebody looks at the limits again; 0 if the limit is reached.
    fn instruction_budget(&self) -> u64 {
        let max = self.options.max_instructions;
        let sliced =
            self.deadline.is_some() || self.signals.shielded || max.is_some() && self.group.has_others();
        let slice = if sliced { TIME_SLICE } else { u64::MAX };
        match max {
            Some(max) => max.saturating_sub(self.group.instructions()).min(slice),
            None => slice,
        }
    }

    /// Serves SYSENTER, which says neither where it stood nor where the stack is: EBP has the stack's address, where EBP as the call's
    /// sixth argument lies, and the vDSO goes on from there. As Linux does it for 32-bit programs on 64-bit Intel processors.
    fn sysenter(&mut self) {
        let Machine { cpu, memory, .. } = &mut self.machine;
        let stack = cpu.regs[reg::EBP];
        let argument = memory.read::<u32>(stack);
        cpu.regs[reg::ESP] = stack;
        cpu.regs[reg::EBP] = argument.unwrap_or(0);
        cpu.eip = self.image.landing_pad;
        match argument {
            Ok(_) => self.system_call(),
            Err(_) => self.set_result(Err(Errno::EFAULT)),
        }
    }

    /// Serves `int 0x80`; EIP is behind it.
    fn system_call(&mut self) {
        // A signal that came before the call is delivered before it; the call then runs when its handler returns.
        if blocking::pending() {
            self.machine.cpu.eip = self.machine.cpu.eip.wrapping_sub(INT_LEN);
            return;
        }
        let regs = &self.machine.cpu.regs;
        let nr = regs[reg::EAX];
        let Some(nr) = ptrace::tracee::call_begins(self, nr) else {
            return ptrace::tracee::call_done(self);
        };
        if let Some(debugger) = self.debugger.clone() {
            debugger.call_begins(self, nr);
            // Its user wants none, and says in EAX what comes of it.
            if self.trace.orig_eax() != nr && (self.trace.orig_eax() as i32) < 0 {
                return ptrace::tracee::call_done(self);
            }
        }
        let nr = self.trace.orig_eax();
        let regs = &self.machine.cpu.regs;
        let args =
            [regs[reg::EBX], regs[reg::ECX], regs[reg::EDX], regs[reg::ESI], regs[reg::EDI], regs[reg::EBP]];
        self.with_observer(|observer, process| observer.enter(process, nr, args));
        self.signals.restart_class = None;
        let result = table::dispatch(self, nr, args);
        if self.end.is_some() {
            return;
        }
        self.with_observer(|observer, process| observer.leave(process, nr, args, result));
        self.finish_call(nr, result);
        ptrace::tracee::call_done(self);
        if let Some(debugger) = self.debugger.clone() {
            debugger.call_done(self, nr);
        }
    }

    /// Puts a call's result into EAX, or remembers that a signal interrupted it.
    fn finish_call(&mut self, nr: u32, result: Result<u32, Errno>) {
        let restart = match result {
            Err(blocking::NOT_STARTED) => None,
            Err(Errno::EINTR) => {
                let class = self.signals.restart_class.take();
                match class.unwrap_or_else(|| table::info(nr).map_or(Restart::No, |row| row.restart)) {
                    Restart::No => return self.set_result(result),
                    class => Some(class),
                }
            }
            // Frames were loaded whole; there is no result to put anywhere.
            Err(signal::STATE_RESTORED) => return,
            _ => return self.set_result(result),
        };
        self.set_result(Err(Errno::EINTR));
        self.interrupted = Some(Call { nr, restart });
    }

    fn set_result(&mut self, result: Result<u32, Errno>) {
        self.machine.cpu.regs[reg::EAX] = match result {
            Ok(value) => value,
            Err(errno) => errno.0.wrapping_neg() as u32,
        };
    }

    /// Says something on stderr the first time that `key` comes up.
    pub fn say_once(&self, key: &str, text: impl FnOnce() -> String) {
        let mut said = self.common.said();
        if said.insert(key.to_owned()) {
            // Nobody may be listening, which is no reason to stop.
            // In one piece, since other processes may be saying the same.
            let line = format!("table86: {}\n", text());
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }

    /// Hands the observer, if there is one, a look at the process.
    pub(crate) fn with_observer(&mut self, look: impl FnOnce(&mut dyn Observer, &Process)) {
        if let Some(observer) = self.observer.clone() {
            look(&mut *observer.lock().unwrap_or_else(PoisonError::into_inner), self);
        }
    }
}
