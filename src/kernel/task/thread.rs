//! Tasks that run on the memory of their parent at the same time: threads, and processes that share memory.
//!
//! A guest thread is a thread of the host with the same id. A process that shares memory without `CLONE_VFORK` is a vfork child
//! of a host thread that is made for nothing else than to wait for it, so that it has thread-local storage of its own.

use super::super::common::Common;
use super::super::debugger::Debugger;
use super::super::errno::Errno;
use super::super::exec::Launch;
use super::super::files::Files;
use super::super::host as calls;
use super::super::process::{ExitReason, Image, Options, Process, SharedObserver};
use super::super::ptrace::{self, Tracing};
use super::super::signal::{self, Actions, SigSet, Signals};
use super::{Group, Registers, Request, Task, flag, host, start_child};
use crate::engine::run::Shared;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

/// How a new task tells its parent its id, or why there is none.
type Started = Sender<Result<u32, Errno>>;

/// Bytes of host stack for a thread.
const STACK: usize = 1 << 20;

/// All that a new task starts with.
struct Seed {
    shared: Shared,
    registers: Registers,
    options: Arc<Options>,
    image: Arc<Image>,
    files: Files,
    common: Arc<Common>,
    group: Arc<Group>,
    actions: Arc<Actions>,
    mask: SigSet,
    task: Task,
    launch: Arc<Launch>,
    observer: Option<SharedObserver>,
    debugger: Option<Arc<dyn Debugger>>,
    at_end: fn(&Process, ExitReason),
    deadline: Option<Instant>,
}

impl Seed {
    fn of(p: &Process, request: &Request) -> Seed {
        let shares = |what: u64| request.flags & what != 0;
        Seed {
            shared: p.machine.shared(),
            registers: Registers::of(&p.machine.cpu),
            options: Arc::clone(&p.options),
            image: Arc::clone(&p.image),
            files: if shares(flag::FILES) { p.files.clone() } else { p.files.copy() },
            common: Arc::clone(&p.common),
            group: if shares(flag::THREAD) { Arc::clone(&p.group) } else { Arc::default() },
            actions: if shares(flag::SIGHAND) {
                Arc::clone(&p.signals.actions)
            } else {
                p.signals.actions.copy()
            },
            mask: p.signals.mask,
            task: Task { robust_list: 0, clear_child_tid: 0, ..p.task.clone() },
            launch: Arc::clone(&p.launch),
            observer: p.observer.clone(),
            // A process that shares memory has threads of its own, which the debugger does not know.
            debugger: if shares(flag::THREAD) { p.debugger.clone() } else { None },
            at_end: p.at_end,
            deadline: p.deadline,
        }
    }

    /// The task, on its own thread. Signals are still blocked.
    fn grow(self) -> std::io::Result<Process> {
        let mut machine = self.shared.machine()?;
        self.registers.put_back(&mut machine.cpu);
        Ok(Process {
            machine,
            options: self.options,
            image: self.image,
            files: self.files,
            common: self.common,
            group: self.group,
            signals: Signals::for_task(self.mask, self.actions),
            task: self.task,
            trace: Tracing::default(),
            launch: self.launch,
            observer: self.observer,
            debugger: self.debugger,
            at_end: self.at_end,
            end: None,
            ends_alone: false,
            interrupted: None,
            deadline: self.deadline,
        })
    }
}

/// Makes a thread (`CLONE_THREAD`); gives its id.
pub(super) fn create(p: &mut Process, request: &Request) -> Result<u32, Errno> {
    let request = *request;
    let birth = p.trace.birth(request.flags, request.exit_signal);
    let seed = Seed::of(p, &request);
    let tid = spawn(p, move |started: &Started| {
        let mut process = prepare(seed, &request)?;
        process.trace = Tracing::of_child(birth.map(|(_, inherited)| inherited));
        // What of the host's a thread of ours has in common with others unless it is told otherwise.
        let apart = (flag::FILES | flag::FS | flag::SYSVSEM) & !request.flags;
        let _ = calls::call(libc::SYS_unshare, [apart.into()]);
        run(&mut process, &request, started);
        if host::gettid() == std::process::id() {
            // It has become the only thread of a child.
            let reason = process.group.wait();
            process.with_observer(|observer, process| observer.end(process));
            (process.at_end)(&process, reason);
            reason.finish();
        }
        if process.trace.is_traced() {
            end_for_tracer(process);
        }
        Ok(())
    })?;
    if let Some((event, _)) = birth {
        ptrace::tracee::born(p, event, tid);
    }
    Ok(tid)
}

/// Ends a thread such that its tracer sees why: with the whole process if that ends, which the first thread sees to, or with
/// the status that it gave.
fn end_for_tracer(process: Process) {
    if process.group.ended().is_some() {
        drop(process);
        loop {
            std::thread::park();
        }
    }
    let status = match process.end {
        Some(ExitReason::Exited(status)) => status,
        _ => 0,
    };
    drop(process);
    host::exit_thread(status);
}

/// Makes a process on the same memory; gives its id.
pub(super) fn create_sharer(p: &mut Process, request: &Request) -> Result<u32, Errno> {
    let request = *request;
    let seed = Seed::of(p, &request);
    spawn(p, move |started: &Started| {
        let mut process = prepare(seed, &request)?;
        let flags = request.flags & (!flag::OWN | flag::PIDFD) | flag::VM | flag::VFORK;
        let report = started.clone();
        let pidfd = Cell::new(-1);
        let child = host::vfork(flags, &request, &pidfd, &mut process, |process| {
            if request.flags & flag::PIDFD != 0 {
                // The parent's memory as well.
                let _ = process.machine.memory.write(request.pidfd, pidfd.get());
            }
            process.trace = Tracing::default();
            run(process, &request, &report);
            process.group.wait()
        });
        child.map(drop)
    })
}

/// Runs `body` on a new host thread with signals blocked, and waits until it says how it started.
fn spawn(
    p: &mut Process,
    body: impl FnOnce(&Started) -> Result<(), Errno> + Send + 'static,
) -> Result<u32, Errno> {
    let (started, starts) = channel();
    signal::host::block_all();
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || {
        if let Err(errno) = body(&started) {
            // Nobody listens any more if it is the end of one that had started.
            let _ = started.send(Err(errno));
        }
    });
    let result = match thread {
        Ok(_) => starts.recv().unwrap_or(Err(Errno::EAGAIN)),
        Err(_) => Err(Errno::EAGAIN),
    };
    signal::host::apply_mask(&p.signals);
    result
}

fn prepare(seed: Seed, request: &Request) -> Result<Process, Errno> {
    let mut process = seed.grow().map_err(|_| Errno::ENOMEM)?;
    let tls = super::tls(&process, request)?;
    start_child(&mut process, request, tls)?;
    Ok(process)
}

/// Tells the parent that the task is there and runs it.
fn run(process: &mut Process, request: &Request, started: &Started) {
    let tid = host::gettid();
    super::show_id(process, request, tid);
    process.group.enter(tid);
    let _ = started.send(Ok(tid));
    signal::host::attach(&mut process.signals, &process.machine.cpu);
    process.attach_observer();
    ptrace::tracee::begin(process, true);
    process.run_attached();
}
