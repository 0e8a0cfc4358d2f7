//! The debugger's side: gdb's remote protocol, spoken by the crate `gdbstub`.
//!
//! A thread of ours talks to gdb ([`serve`]); the guest's threads ask the [`Hub`] before they run. All of them stop when one
//! does, each in `Hub::park`, where its registers are in the hub for gdb to read and change.

mod answers;
mod connection;
mod registers;
mod serve;
mod target;

pub use connection::{Address, Listener};
pub use serve::serve;

use crate::Machine;
use crate::Stop;
use crate::debug::effects::{self, Place, Touch};
use crate::engine::hook::Breakpoints;
use crate::kernel::debugger::Debugger;
use crate::kernel::process::{ExitReason, Image, Options, Process};
use crate::kernel::signal::{self, Info};
use crate::kernel::task::{self, Group};
use crate::memory::Memory;
use registers::Registers;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
    /// A step is done when the thread is about to run again.
    stepped: bool,
}

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
    /// Gives whether gdb was told of the event, and the signal that it wants delivered.
    fn park(&self, process: &mut Process, event: Option<Event>) -> (bool, Option<i32>) {
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
        thread.registers = registers::of(&process.machine.cpu);
        thread.parked = true;
        thread.changed = false;
        thread.signal = None;
        thread.stepped = false;
        self.changed.notify_all();
        while !Hub::may_run(&state, tid) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let thread = state.threads.entry(tid).or_default();
        thread.parked = false;
        if thread.changed {
            registers::put(&mut process.machine.cpu, &thread.registers);
        }
        (told, thread.signal.take())
    }

    /// As [`Hub::park`], again and again until gdb has been told.
    fn report(&self, process: &mut Process, event: Event) -> Option<i32> {
        loop {
            let (told, signal) = self.park(process, Some(event));
            if told || self.lock().detached {
                return signal;
            }
        }
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
                self.report(process, Event::Watch { addr, kind });
                return Stop::Requested;
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
            self.report(process, Event::Started);
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
            self.report(process, Event::Step);
            return Stop::Requested;
        }
        if !may_run {
            self.park(process, None);
            return Stop::Requested;
        }
        let stop = match action {
            Action::Step => {
                let stop = if watching {
                    Some(self.run_watching(process, 1, true)).filter(|stop| *stop != Stop::Limit)
                } else {
                    process.machine.step()
                };
                let Some(stop) = stop else {
                    self.report(process, Event::Step);
                    return Stop::Requested;
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
            self.report(process, Event::Breakpoint);
            return Stop::Requested;
        }
        stop
    }

    fn signal(&self, process: &mut Process, info: Info) -> Option<Info> {
        if self.lock().detached {
            return Some(info);
        }
        match self.report(process, Event::Signal(info.signal)) {
            Some(signal) if signal == info.signal => Some(info),
            Some(signal) => Some(Info::kernel(signal)),
            // Gone meanwhile: it takes its way.
            None if self.lock().detached => Some(info),
            None => None,
        }
    }

    fn call(&self, process: &mut Process, nr: u32, result: Option<u32>) {
        let wanted = self.lock().calls.as_ref().is_some_and(|calls| calls.is_empty() || calls.contains(&nr));
        if wanted {
            self.report(process, Event::Call { nr, entry: result.is_none() });
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
