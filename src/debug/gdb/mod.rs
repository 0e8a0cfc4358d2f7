//! The debugger's side: gdb's remote protocol, spoken by the crate `gdbstub`.
//!
//! A thread of ours talks to gdb ([`serve`]); the guest's threads ask the [`Hub`] before they run. All of them stop when one
//! does, each in `Hub::park`, where its registers are in the hub for gdb to read and change.

mod answers;
mod connection;
mod files;
mod registers;
mod serve;
mod target;

pub use connection::{Address, Listener};
pub use serve::serve;

use crate::Machine;
use crate::Stop;
use crate::cpu::reg;
use crate::debug::effects::{self, Place, Touch};
use crate::engine::hook::Breakpoints;
use crate::kernel::debugger::Debugger;
use crate::kernel::errno::Errno;
use crate::kernel::process::{ExitReason, Image, Options, Process};
use crate::kernel::signal::{self, Call, Fields, Info};
use crate::kernel::task::{self, Group};
use crate::memory::Memory;
use registers::Registers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How long threads get to stop before gdb is told without them.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of the process waits for gdb to be told.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the process stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The thread has run first, and waits to be told to.
    Started,
    Step,
    Breakpoint,
    Watch {
        addr: u32,
        kind: Watch,
    },
    Signal(i32),
    Call {
        nr: u32,
        entry: bool,
    },
    /// gdb asked.
    Interrupted,
    End(ExitReason),
}

/// What a watchpoint looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Watch {
    Write,
    Read,
    Access,
}

/// What a thread does when the process goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Action {
    /// What threads do of which nothing was said.
    #[default]
    Default,
    Continue,
    Step,
}

#[derive(Default)]
struct Thread {
    /// It waits in `park`; its registers are valid.
    parked: bool,
    registers: Registers,
    /// gdb has changed them.
    changed: bool,
    action: Action,
    /// The signal that gdb wants delivered, by the host's number.
    signal: Option<i32>,
    /// A signal that gdb sent where none had stopped the thread, until it takes effect.
    sent: Option<i32>,
    /// A step is done when the thread is about to run again.
    stepped: bool,
}

/// What a stopped thread is asked to do for gdb, being the one that has the process.
type Errand = Box<dyn FnOnce(&Process) + Send>;

struct State {
    running: bool,
    /// Threads of which nothing was said stay stopped.
    locked: bool,
    threads: BTreeMap<u32, Thread>,
    /// What gdb is to be told next.
    event: Option<(u32, Event)>,
    watches: BTreeSet<(u32, u32, Watch)>,
    /// System calls to be caught: all if the set is empty.
    calls: Option<BTreeSet<u32>>,
    errand: Option<Errand>,
    /// gdb is gone: everything runs on.
    detached: bool,
    /// gdb has been told about the end.
    told: bool,
}

/// What gdb's side and the guest's threads have in common.
pub struct Hub {
    state: Mutex<State>,
    changed: Condvar,
    memory: Arc<Memory>,
    group: Arc<Group>,
    image: Arc<Image>,
    options: Arc<Options>,
    breakpoints: Breakpoints,
}

impl Hub {
    /// For a process that has not run yet. It stops before its first instruction.
    pub fn new(process: &Process) -> Arc<Hub> {
        Arc::new(Hub {
            state: Mutex::new(State {
                running: true,
                locked: false,
                threads: BTreeMap::new(),
                event: None,
                watches: BTreeSet::new(),
                calls: None,
                errand: None,
                detached: false,
                told: false,
            }),
            changed: Condvar::new(),
            memory: Arc::clone(&process.machine.memory),
            group: Arc::clone(&process.group),
            image: Arc::clone(&process.image),
            options: Arc::clone(&process.options),
            breakpoints: process.machine.breakpoints(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Whether a thread may run.
    fn may_run(state: &State, tid: u32) -> bool {
        let said = state.threads.get(&tid).is_some_and(|thread| thread.action != Action::Default);
        state.detached || state.running && (said || !state.locked)
    }

    /// Stops the process for `event`, if it is not stopping for another one already; the thread waits until it may run again.
    /// Gives whether gdb was told of the event, and the signal that it wants delivered. `call` is what the stop interrupted, and
    /// what gdb makes of that.
    fn park(
        &self,
        process: &mut Process,
        event: Option<Event>,
        call: &mut Option<Call>,
    ) -> (bool, Option<i32>) {
        let tid = task::id();
        let mut state = self.lock();
        if state.detached {
            return (false, None);
        }
        let mut told = false;
        if let Some(event) = event
            && state.event.is_none()
            && state.running
        {
            state.event = Some((tid, event));
            state.running = false;
            told = true;
        }
        let thread = state.threads.entry(tid).or_default();
        thread.registers = registers::of(&process.machine.cpu, process.trace.orig_eax());
        if let Some(call) = call {
            thread.registers.core.eax = call.shown();
            thread.registers.orig_eax = call.nr;
        }
        thread.parked = true;
        thread.changed = false;
        thread.signal = None;
        thread.stepped = false;
        self.changed.notify_all();
        while !Hub::may_run(&state, tid) {
            if let Some(errand) = state.errand.take() {
                drop(state);
                errand(process);
                state = self.lock();
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let thread = state.threads.entry(tid).or_default();
        thread.parked = false;
        if thread.changed {
            let regs = &thread.registers;
            registers::put(&mut process.machine.cpu, regs);
            process.trace.set_orig_eax(regs.orig_eax);
            *call = Call::from_shown(regs.orig_eax, regs.core.eax, *call);
        }
        (told, thread.signal.take())
    }

    /// As [`Hub::park`], again and again until gdb has been told.
    fn report(&self, process: &mut Process, event: Event, call: &mut Option<Call>) -> Option<i32> {
        loop {
            let (told, signal) = self.park(process, Some(event), call);
            if told || self.lock().detached {
                return signal;
            }
        }
    }

    /// Stops between two instructions, until gdb has been told of the event if there is one.
    fn stop(&self, process: &mut Process, event: Option<Event>) -> Stop {
        let mut call = None;
        let signal = match event {
            Some(event) => self.report(process, event, &mut call),
            None => self.park(process, None, &mut call).1,
        };
        if let Some(signal) = signal {
            self.lock().threads.entry(task::id()).or_default().sent = Some(signal);
            let fields = Fields::Kill { pid: std::process::id() as i32, uid: 0 };
            signal::host::requeue_to_self(&Info { signal, errno: 0, code: libc::SI_USER, fields });
        }
        // gdb has put back the registers of one that a call of its own had interrupted.
        process.interrupted = process.interrupted.take().or(call);
        Stop::Requested
    }

    /// Lets a stopped thread look at its process. `None` if none has stopped.
    fn ask<T: Send + 'static>(&self, look: impl FnOnce(&Process) -> T + Send + 'static) -> Option<T> {
        let (send, answer) = mpsc::channel();
        {
            let mut state = self.lock();
            if state.running || state.detached || !state.threads.values().any(|thread| thread.parked) {
                return None;
            }
            state.errand = Some(Box::new(move |process| {
                // Whoever asked may have lost patience.
                let _ = send.send(look(process));
            }));
            self.changed.notify_all();
        }
        let answer = answer.recv_timeout(PATIENCE).ok();
        self.lock().errand = None;
        answer
    }

    fn catches(&self, nr: u32) -> bool {
        self.lock().calls.as_ref().is_some_and(|calls| calls.is_empty() || calls.contains(&nr))
    }

    /// Waits until all threads stand still, and makes those look up that do not. Some may be beyond that.
    fn settle(&self) {
        let begin = Instant::now();
        let own = task::id();
        let mut state = self.lock();
        while begin.elapsed() < PATIENCE {
            let busy: Vec<u32> =
                state.threads.iter().filter(|(_, thread)| !thread.parked).map(|(tid, _)| *tid).collect();
            if busy.is_empty() {
                return;
            }
            drop(state);
            for tid in busy.into_iter().filter(|tid| *tid != own) {
                self.group.nudge(tid);
            }
            state = self.wait(self.lock(), Duration::from_millis(10));
        }
    }

    /// Ends debugging; everything runs on.
    fn detach(&self) {
        self.breakpoints.clear();
        let mut state = self.lock();
        state.detached = true;
        state.watches.clear();
        state.calls = None;
        self.changed.notify_all();
    }

    /// Steps until something that is watched is touched, or something else happens.
    fn run_watching(&self, process: &mut Process, budget: u64, step: bool) -> Stop {
        let watches: Vec<(u32, u32, Watch)> = self.lock().watches.iter().copied().collect();
        let machine = &mut process.machine;
        let end = machine.cpu.instructions().saturating_add(budget);
        let mut touches = Vec::new();
        while machine.cpu.instructions() < end {
            if machine.take_stop_request() {
                return Stop::Requested;
            }
            if !step && self.breakpoints.contains(machine.cpu.eip) {
                return Stop::Breakpoint;
            }
            let hit = touched(machine, &watches, &mut touches);
            if let Some(stop) = machine.step() {
                return stop;
            }
            if let Some((addr, kind)) = hit {
                return self.stop(process, Some(Event::Watch { addr, kind }));
            }
        }
        Stop::Limit
    }
}

/// What of the watched the instruction at EIP is going to touch.
fn touched(
    machine: &Machine,
    watches: &[(u32, u32, Watch)],
    touches: &mut Vec<Touch>,
) -> Option<(u32, Watch)> {
    let insn = machine.decode(machine.cpu.eip)?;
    touches.clear();
    effects::touches(&insn, &machine.cpu, touches);
    let meets = |touch: &Touch, addr: u32, len: u32| match touch.place {
        Place::Memory { addr: at, len: bytes } => {
            addr.wrapping_sub(at) < bytes || at.wrapping_sub(addr) < len
        }
        _ => false,
    };
    let is_meant = |touch: &Touch, kind: Watch| match kind {
        Watch::Write => touch.writes,
        Watch::Read => touch.reads,
        Watch::Access => touch.reads || touch.writes,
    };
    let hit = |&&(addr, len, kind): &&(u32, u32, Watch)| {
        touches.iter().any(|touch| meets(touch, addr, len) && is_meant(touch, kind))
    };
    watches.iter().find(hit).map(|&(addr, _, kind)| (addr, kind))
}

impl Debugger for Hub {
    fn started(&self, process: &mut Process) {
        let first = {
            let mut state = self.lock();
            let first = state.threads.is_empty();
            state.threads.entry(task::id()).or_default();
            first
        };
        if first {
            self.stop(process, Some(Event::Started));
        }
    }

    fn run(&self, process: &mut Process, budget: u64) -> Stop {
        let tid = task::id();
        let (may_run, action, stepped, watching) = {
            let state = self.lock();
            if state.detached {
                drop(state);
                return process.machine.run(budget);
            }
            let thread = state.threads.get(&tid);
            let action = thread.map_or(Action::Default, |thread| thread.action);
            let stepped = thread.is_some_and(|thread| thread.stepped);
            (Hub::may_run(&state, tid), action, stepped, !state.watches.is_empty())
        };
        if stepped {
            return self.stop(process, Some(Event::Step));
        }
        if !may_run {
            return self.stop(process, None);
        }
        let stop = match action {
            Action::Step => {
                let stop = if watching {
                    Some(self.run_watching(process, 1, true)).filter(|stop| *stop != Stop::Limit)
                } else {
                    process.machine.step()
                };
                let Some(stop) = stop else {
                    return self.stop(process, Some(Event::Step));
                };
                // What it came to is dealt with first: a call is made, a signal reported.
                if stop != Stop::Requested {
                    self.lock().threads.entry(tid).or_default().stepped = true;
                }
                stop
            }
            Action::Default | Action::Continue if watching => self.run_watching(process, budget, false),
            Action::Default | Action::Continue => process.machine.run(budget),
        };
        if stop == Stop::Breakpoint {
            return self.stop(process, Some(Event::Breakpoint));
        }
        stop
    }

    fn signal(&self, process: &mut Process, info: Info, call: &mut Option<Call>) -> Option<Info> {
        {
            let mut state = self.lock();
            let sent = state.threads.entry(task::id()).or_default().sent.take_if(|sent| *sent == info.signal);
            if state.detached || sent.is_some() {
                return Some(info);
            }
        }
        match self.report(process, Event::Signal(info.signal), call) {
            Some(signal) if signal == info.signal => Some(info),
            Some(signal) => Some(Info::kernel(signal)),
            // Gone meanwhile: it takes its way.
            None if self.lock().detached => Some(info),
            None => None,
        }
    }

    fn call_begins(&self, process: &mut Process, nr: u32) {
        if self.catches(nr) {
            process.machine.cpu.regs[reg::EAX] = Errno::ENOSYS.0.wrapping_neg() as u32;
            self.report(process, Event::Call { nr, entry: true }, &mut None);
        }
    }

    fn call_done(&self, process: &mut Process, nr: u32) {
        if self.catches(nr) {
            let mut call = process.interrupted.take();
            self.report(process, Event::Call { nr, entry: false }, &mut call);
            process.interrupted = call;
        }
    }

    fn ended(&self, _: &mut Process) {
        let mut state = self.lock();
        state.threads.remove(&task::id());
        self.changed.notify_all();
    }

    fn end(&self, reason: ExitReason) {
        let mut state = self.lock();
        if state.detached {
            return;
        }
        state.event = Some((task::id(), Event::End(reason)));
        state.running = false;
        self.changed.notify_all();
        let begin = Instant::now();
        while !state.told && !state.detached && begin.elapsed() < FAREWELL {
            state = self.wait(state, Duration::from_millis(100));
        }
    }
}

/// The process is told by gdb to be no more.
fn kill() -> ! {
    ExitReason::Killed(libc::SIGKILL).finish()
}

/// Blocks all signals of the calling thread: they are the guest's.
fn keep_out_of_signals() {
    signal::host::block_all();
}
