//! Instructions in words: what a program executes, with the values it read and what it changed.
//!
//! A [`Tracer`] is the observer of a process (system calls, signals, ends) and makes a hook for each of its machines
//! ([`Tracer::hook`]); both write to the same place.

pub mod record;
mod text;

use super::effects;
use super::symbols::{Location, Symbols};
use crate::engine::hook::Hook;
use crate::isa::decode::MAX_LEN;
use crate::isa::{Flow, Insn};
use crate::kernel::errno::Errno;
use crate::kernel::process::{ExitReason, Observer, Process};
use crate::kernel::{signal, strace, table};
use crate::{Machine, Stop};
use record::{Before, Change};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are collected before they are written.
const BUFFER: usize = 64 << 10;

/// How instructions are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// One line each.
    #[default]
    Compact,
    /// Several lines each, with what the instruction does in words.
    Full,
    /// A JSON object a line.
    Json,
}

/// A place in the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// An address.
    Address(u32),
    /// The first instruction of a function.
    Symbol(String),
}

/// What is shown, and how.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How.
    pub layout: Layout,
    /// With the terminal's colours.
    pub color: bool,
    /// Without the column of addresses.
    pub no_address: bool,
    /// Without the column of bytes.
    pub no_bytes: bool,
    /// Without values.
    pub no_values: bool,
    /// Only these addresses, if there are any.
    pub ranges: Vec<RangeInclusive<u32>>,
    /// Only in these functions; `*` at the end stands for anything.
    pub symbols: Vec<String>,
    /// Only in these files, by their names without directories.
    pub modules: Vec<String>,
    /// Only these mnemonics.
    pub mnemonics: Vec<String>,
    /// Only rows of these tables, or at these lines of them.
    pub rows: Vec<(String, Option<u32>)>,
    /// Only these threads, counted from 1.
    pub threads: Vec<u64>,
    /// Only calls, returns, and what is no instruction.
    pub calls: bool,
    /// No system calls and signals.
    pub no_events: bool,
    /// Shows nothing before it comes here,
    pub from: Option<At>,
    /// and nothing before so many instructions have run,
    pub after: u64,
    /// nothing once it has come here,
    pub until: Option<At>,
    /// and no more than so many.
    pub max: Option<u64>,
    /// `-L`, for the files of mappings.
    pub sysroot: Option<PathBuf>,
    /// The name of the process, for its children: see `Who`.
    pub process: String,
}

/// Whose line it is.
#[derive(Clone, Debug, Default)]
struct Who {
    /// Empty for the first process; `2` for the second child it made, `2.1` for the first child of that.
    process: String,
    /// Counted from 1.
    thread: u64,
    /// There is, or was, more than one thread.
    threads: bool,
    /// Calls that have not returned.
    depth: usize,
}

impl Who {
    /// What goes before a line, where it could be anybody's.
    fn prefix(&self) -> String {
        match (self.process.as_str(), self.threads) {
            ("", false) => String::new(),
            (process, false) => format!("[{process}] "),
            ("", true) => format!("[t{}] ", self.thread),
            (process, true) => format!("[{process} t{}] ", self.thread),
        }
    }
}

/// An instruction to be shown.
struct Seen<'a> {
    prefix: String,
    process: &'a str,
    thread: u64,
    depth: usize,
    count: u64,
    addr: u32,
    has_symbols: bool,
    location: Option<Location>,
    bytes: &'a [u8],
    insn: Option<&'a Insn>,
    before: &'a Before,
    changes: &'a [Change],
    /// What else there is to say: whether a branch was taken, or what stopped the instruction.
    outcome: Option<String>,
}

thread_local! {
    /// The number and the depth of the thread, for what happens between instructions.
    static CURRENT: RefCell<(u64, usize)> = const { RefCell::new((1, 0)) };
}

/// Shows what a process does.
pub struct Tracer {
    settings: Settings,
    output: strace::Output,
    symbols: Symbols,
    buffer: String,
    /// Names of processes that were forked, by their host's ids; the first one's is in the settings.
    names: HashMap<u32, String>,
    /// Children made by this process so far.
    children: u64,
    own: u32,
    threads: bool,
    has_symbols: bool,
    started: bool,
    ended: bool,
    shown: u64,
    /// Of threads: the number of the last one.
    last_thread: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Tracer {
    /// Shows it on `output`.
    pub fn new(settings: Settings, output: strace::Output) -> Arc<Mutex<Tracer>> {
        let symbols = Symbols::new(settings.sysroot.clone());
        let started = settings.from.is_none();
        Arc::new(Mutex::new(Tracer {
            settings,
            output,
            symbols,
            buffer: String::new(),
            names: HashMap::new(),
            children: 0,
            own: std::process::id(),
            threads: false,
            has_symbols: false,
            started,
            ended: false,
            shown: 0,
            last_thread: Arc::new(AtomicU64::new(1)),
            done: Arc::default(),
        }))
    }

    /// The hook for the first machine of the process.
    pub fn hook(tracer: &Arc<Mutex<Tracer>>) -> Box<dyn Hook> {
        let (last_thread, done) = {
            let tracer = lock(tracer);
            (Arc::clone(&tracer.last_thread), Arc::clone(&tracer.done))
        };
        Box::new(Instructions::new(Arc::clone(tracer), 1, last_thread, done))
    }

    /// The name of the process as its children's begin: for the settings of one that it executes.
    pub fn process_name(&self) -> String {
        let id = std::process::id();
        self.names.get(&id).unwrap_or(&self.settings.process).clone()
    }

    fn who(&self) -> Who {
        let (thread, depth) = CURRENT.with_borrow(|current| *current);
        let process = if self.names.is_empty() { self.settings.process.clone() } else { self.process_name() };
        Who { process, thread, threads: self.threads, depth }
    }

    fn write(&mut self) {
        self.output.write(self.buffer.as_bytes());
        self.buffer.clear();
    }

    fn event(&mut self, kind: &str, text: &str) {
        if self.started && !self.ended && !self.settings.no_events {
            let who = self.who();
            let wanted = &self.settings.threads;
            if wanted.is_empty() || wanted.contains(&who.thread) {
                text::event(&self.settings, &who, kind, text, &mut self.buffer);
            }
        }
        // A fork must not find anything here.
        self.write();
    }

    /// Whether execution is at a place.
    fn is_at(&mut self, machine: &Machine, addr: u32, at: &At) -> bool {
        match at {
            At::Address(wanted) => *wanted == addr,
            At::Symbol(name) => self.symbols.locate(&machine.memory, addr).is_some_and(|location| {
                location.offset == 0 && location.symbol.as_deref() == Some(name.as_str())
            }),
        }
    }

    /// Looks at the start and stop conditions.
    fn advance(&mut self, machine: &Machine, addr: u32) {
        if !self.started
            && let Some(from) = self.settings.from.clone()
        {
            self.started = self.is_at(machine, addr, &from);
        }
        if self.started
            && let Some(until) = self.settings.until.clone()
            && self.is_at(machine, addr, &until)
        {
            self.end();
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.done.store(true, Ordering::Relaxed);
    }

    /// Whether the filters let an instruction through.
    fn is_wanted(&mut self, machine: &Machine, thread: u64, addr: u32, insn: Option<&Insn>) -> bool {
        let settings = &self.settings;
        let any = |list: bool, found: bool| list || found;
        let mnemonic = insn.map_or("", |insn| insn.form().mnemonic);
        let of_row = |(room, line): &(String, Option<u32>)| {
            insn.is_some_and(|insn| {
                insn.form().room == room && line.is_none_or(|line| line == insn.form().line)
            })
        };
        let plain = any(settings.threads.is_empty(), settings.threads.contains(&thread))
            && any(settings.ranges.is_empty(), settings.ranges.iter().any(|range| range.contains(&addr)))
            && any(settings.mnemonics.is_empty(), settings.mnemonics.iter().any(|name| name == mnemonic))
            && any(settings.rows.is_empty(), settings.rows.iter().any(of_row))
            && (!settings.calls
                || insn.is_some_and(|insn| effects::is_call(insn) || effects::is_return(insn)));
        if !plain || settings.symbols.is_empty() && settings.modules.is_empty() {
            return plain;
        }
        let Some(location) = self.symbols.locate(&machine.memory, addr) else { return false };
        let settings = &self.settings;
        let named = |pattern: &String| {
            location.symbol.as_deref().is_some_and(|name| match pattern.strip_suffix('*') {
                Some(begin) => name.starts_with(begin),
                None => name == pattern,
            })
        };
        any(settings.symbols.is_empty(), settings.symbols.iter().any(named))
            && any(
                settings.modules.is_empty(),
                settings.modules.iter().any(|name| *name == location.module.name()),
            )
    }
}

fn lock(tracer: &Mutex<Tracer>) -> std::sync::MutexGuard<'_, Tracer> {
    tracer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The hook of one machine.
struct Instructions {
    tracer: Arc<Mutex<Tracer>>,
    thread: u64,
    last_thread: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    /// Return addresses of the calls that have not returned.
    calls: Vec<u32>,
    before: Before,
    changes: Vec<Change>,
    /// The instruction is to be shown.
    noted: bool,
    addr: u32,
    bytes: ([u8; MAX_LEN], usize),
    count: u64,
}

/// Calls that are remembered; more are a program that does not return by the way it was called.
const DEEPEST: usize = 100_000;

impl Hook for Instructions {
    fn before(&mut self, machine: &Machine, insn: Option<&Insn>) -> ControlFlow<()> {
        self.addr = machine.cpu.eip;
        let mut tracer = lock(&self.tracer);
        tracer.advance(machine, self.addr);
        CURRENT.set((self.thread, self.calls.len()));
        self.noted = tracer.started
            && !tracer.ended
            && self.count >= tracer.settings.after
            && tracer.is_wanted(machine, self.thread, self.addr, insn);
        if self.noted {
            let len = machine.memory.fetch(self.addr, &mut self.bytes.0);
            self.bytes.1 = insn.map_or(len.min(4), |insn| usize::from(insn.len));
            self.before.note(machine, insn);
        }
        ControlFlow::Continue(())
    }

    fn after(&mut self, machine: &Machine, insn: Option<&Insn>, stop: Option<Stop>) {
        self.count += 1;
        let fault = stop.and_then(|stop| record::fault_text(machine, stop));
        let depth = self.calls.len();
        if fault.is_none()
            && let Some(insn) = insn
        {
            self.follow(machine, insn);
        }
        CURRENT.set((self.thread, self.calls.len()));
        if !self.noted {
            return;
        }
        self.changes.clear();
        if let Some(insn) = insn {
            self.before.settle(machine, insn);
        }
        if fault.is_none() {
            self.before.changes(machine, &mut self.changes);
        }
        let outcome = fault.or_else(|| {
            let insn = insn.filter(|insn| insn.form().flow == Flow::Branch)?;
            let taken = machine.cpu.eip != insn.next_eip();
            Some(if taken { "taken" } else { "not taken" }.to_owned())
        });
        let mut tracer = lock(&self.tracer);
        let location = tracer.symbols.locate(&machine.memory, self.addr);
        let who = tracer.who();
        let seen = Seen {
            prefix: who.prefix(),
            process: &who.process,
            thread: self.thread,
            depth,
            count: self.count,
            addr: self.addr,
            has_symbols: tracer.has_symbols,
            location,
            bytes: &self.bytes.0[..self.bytes.1],
            insn,
            before: &self.before,
            changes: &self.changes,
            outcome,
        };
        let Tracer { settings, buffer, .. } = &mut *tracer;
        text::instruction(settings, &seen, buffer);
        tracer.shown += 1;
        if tracer.settings.max.is_some_and(|max| tracer.shown >= max) {
            tracer.end();
        }
        if tracer.threads || tracer.ended || tracer.buffer.len() >= BUFFER {
            tracer.write();
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    fn for_thread(&self) -> Option<Box<dyn Hook>> {
        let mut tracer = lock(&self.tracer);
        // From now on nothing is kept back, as another thread may fork.
        tracer.threads = true;
        tracer.write();
        let thread = self.last_thread.fetch_add(1, Ordering::Relaxed) + 1;
        let (tracer, last) = (Arc::clone(&self.tracer), Arc::clone(&self.last_thread));
        Some(Box::new(Instructions::new(tracer, thread, last, Arc::clone(&self.done))))
    }
}

impl Instructions {
    fn new(
        tracer: Arc<Mutex<Tracer>>,
        thread: u64,
        last_thread: Arc<AtomicU64>,
        done: Arc<AtomicBool>,
    ) -> Instructions {
        Instructions {
            tracer,
            thread,
            last_thread,
            done,
            calls: Vec::new(),
            before: Before::default(),
            changes: Vec::new(),
            noted: false,
            addr: 0,
            bytes: ([0; MAX_LEN], 0),
            count: 0,
        }
    }

    /// Counts calls and returns. A return that leads behind an older call leaves all since then, as longjmp(3) does.
    fn follow(&mut self, machine: &Machine, insn: &Insn) {
        if effects::is_call(insn) {
            if self.calls.len() < DEEPEST {
                self.calls.push(insn.next_eip());
            }
        } else if effects::is_return(insn)
            && let Some(at) = self.calls.iter().rposition(|addr| *addr == machine.cpu.eip)
        {
            self.calls.truncate(at);
        }
    }
}

impl Observer for Tracer {
    fn begin(&mut self, process: &Process) {
        let machine = &process.machine;
        let location = self.symbols.locate(&machine.memory, machine.cpu.eip);
        // Flat images and listings have none.
        self.has_symbols = location.is_some_and(|location| location.module.is_elf());
    }

    fn attach(&mut self, _: &Process) {
        let id = std::process::id();
        if id != self.own && !self.names.contains_key(&id) {
            let parent = &self.settings.process;
            let dot = if parent.is_empty() { "" } else { "." };
            let name = format!("{parent}{dot}{}", self.children);
            self.names.insert(id, name);
            self.event("start", "+++ a child process begins +++");
        } else {
            self.event("start", "+++ a thread begins +++");
        }
    }

    fn enter(&mut self, process: &Process, nr: u32, args: [u32; 6]) {
        let row = table::info(nr);
        if row.is_some_and(|row| matches!(row.name, "fork" | "vfork" | "clone" | "clone3")) {
            self.children += 1;
        }
        if strace::may_not_return(nr) {
            self.event("syscall", &strace::call_text(process, nr, args, None));
        }
        self.write();
    }

    fn leave(&mut self, process: &Process, nr: u32, args: [u32; 6], result: Result<u32, Errno>) {
        if table::info(nr).is_some_and(|row| row.module == "mm" || row.module == "ipc::shm") {
            self.symbols.forget();
        }
        self.event("syscall", &strace::call_text(process, nr, args, Some(result)));
    }

    fn signal(&mut self, _: &Process, info: &signal::Info) {
        self.event("signal", &strace::signal_text(info));
    }

    fn exit(&mut self, _: &Process, reason: ExitReason) {
        self.event("exit", &strace::exit_text(reason));
    }
}
