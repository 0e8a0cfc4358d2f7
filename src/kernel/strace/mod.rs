//! System calls as strace(1) shows them, by the types of `syscalls.toml`.

mod args;
mod filter;
mod shared;
mod structs;
mod words;

pub use filter::Filter;
pub use structs::{Fields, Show};

use super::blocking;
use super::errno::Errno;
use super::host::{self, Arg, PrivateFd};
use super::process::{ExitReason, Observer, Process, SharedObserver};
use super::signal::{self, Info};
use super::table::{self, Restart, Returns, SyscallInfo};
use super::task;
use crate::cpu::reg;
use args::Shown;
use shared::{Line, Locked, Shared};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Column of the `=` before a result.
const RESULT_COLUMN: usize = 40;

/// What is shown, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `-f`: children and threads too.
    pub follow: bool,
    /// `-c`: only how often each call was made.
    pub summary: bool,
    /// `-T`: how long each call took.
    pub times: bool,
    /// `-o`: the output is a file of its own.
    pub to_file: bool,
    /// `-e trace=`.
    pub filter: Filter,
}

/// Where the trace goes; handed on by `execve`.
#[derive(Debug)]
pub(super) struct Handles {
    pub output: PrivateFd,
    shared: Shared,
}

impl Handles {
    /// A trace that begins here: on stderr, or in the file of this name.
    pub fn new(output: Option<&Path>) -> io::Result<Handles> {
        let output = match output {
            Some(path) => std::fs::File::create(path)?.into(),
            None => io::stderr().as_fd().try_clone_to_owned()?,
        };
        let private = |fd| PrivateFd::new(fd).map_err(|errno| io::Error::from_raw_os_error(errno.0));
        let shared = Shared::file().map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
        let shared = Shared(private(shared)?);
        shared.lock().set_line(Line { tasks: 1, root: std::process::id(), ..Line::default() });
        Ok(Handles { output: private(output)?, shared })
    }

    /// What an `execve` handed on.
    pub fn inherited(output: PrivateFd, shared: PrivateFd) -> Handles {
        Handles { output, shared: Shared(shared) }
    }

    /// The memory file.
    pub fn shared(&self) -> &PrivateFd {
        &self.shared.0
    }
}

/// The place that [`super::exec::Launch::traced_to`] opened, out of the guest's reach.
#[derive(Clone, Debug)]
pub struct Output(pub(super) Arc<Handles>);

impl Output {
    /// Writes all of it, unless nobody can be told.
    pub fn write(&self, text: &[u8]) {
        let mut rest = text;
        while !rest.is_empty() {
            let output = self.0.output.get().into();
            match host::call(libc::SYS_write, [output, Arg::slice(rest), rest.len().into()]) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// A call that is not over.
struct Pending {
    /// Arguments that are shown already.
    shown: usize,
    since: Instant,
}

/// Shows what the guest does.
pub(super) struct Tracer {
    settings: Settings,
    handles: Arc<Handles>,
    pending: HashMap<u32, Pending>,
}

impl Tracer {
    /// A tracer, if that is wanted.
    pub fn of(settings: Option<&Settings>, handles: Option<&Arc<Handles>>) -> Option<SharedObserver> {
        let tracer =
            Tracer { settings: settings?.clone(), handles: Arc::clone(handles?), pending: HashMap::new() };
        Some(Arc::new(Mutex::new(tracer)))
    }

    /// What goes before a line of a thread.
    fn prefix(&self, line: &Line, tid: u32) -> String {
        match (self.settings.follow, self.settings.to_file) {
            (true, true) => format!("{tid:<5} "),
            (true, false) if line.tasks > 1 => format!("[pid {tid:>5}] "),
            _ => String::new(),
        }
    }

    /// Writes a text that begins at the line's column and ends somewhere in a line.
    fn write(&self, line: &mut Line, text: &str) {
        line.column = match text.rsplit_once('\n') {
            Some((_, last)) => last.len() as u32,
            None => line.column + text.len() as u32,
        };
        Output(Arc::clone(&self.handles)).write(text.as_bytes());
    }

    /// Begins a line, behind one that has to be left unfinished if need be.
    fn begin_line(&self, line: &mut Line, tid: u32, text: &str) {
        let unfinished = if line.open == 0 { "" } else { " <unfinished ...>\n" };
        let text = format!("{unfinished}{}{text}", self.prefix(line, tid));
        self.write(line, &text);
        line.open = 0;
    }

    /// A whole line.
    fn say(&self, locked: &Locked<'_>, tid: u32, text: &str) {
        let mut line = locked.line();
        self.begin_line(&mut line, tid, &format!("{text}\n"));
        locked.set_line(line);
    }

    /// The beginning of a call, in so far as it is known.
    fn open(&self, locked: &Locked<'_>, tid: u32, text: &str) {
        let mut line = locked.line();
        self.begin_line(&mut line, tid, text);
        line.open = tid;
        locked.set_line(line);
    }

    /// The end of a call.
    fn close(
        &self,
        locked: &Locked<'_>,
        tid: u32,
        name: &str,
        rest: &str,
        result: &str,
        time: Option<Duration>,
    ) {
        let mut line = locked.line();
        if line.open != tid {
            self.begin_line(&mut line, tid, &format!("<... {name} resumed>"));
        }
        self.write(&mut line, &format!("{rest})"));
        let blanks = RESULT_COLUMN.saturating_sub(line.column as usize).max(1);
        let took = match time {
            Some(time) if self.settings.times => format!(" <{:.6}>", time.as_secs_f64()),
            _ => String::new(),
        };
        self.write(&mut line, &format!("{:blanks$}= {result}{took}\n", ""));
        line.open = 0;
        locked.set_line(line);
    }

    fn shows_lines(&self, nr: u32) -> bool {
        !self.settings.summary && self.settings.filter.shows(nr)
    }

    fn shown<'a>(process: &'a Process, row: &'a SyscallInfo, registers: [u32; 6]) -> Shown<'a> {
        Shown { memory: &process.machine.memory, row, registers, result: None }
    }
}

/// The row of a number, or one for a call that Linux does not have.
fn row(nr: u32) -> (&'static SyscallInfo, Option<String>) {
    static UNKNOWN: SyscallInfo = SyscallInfo {
        nr: u32::MAX,
        name: "syscall",
        module: "",
        args: &[],
        returns: Returns::Value,
        restart: Restart::No,
        status: table::Status::Missing,
        quiet: true,
        note: "",
    };
    match table::info(nr) {
        Some(row) => (row, None),
        None => (&UNKNOWN, Some(format!("syscall_{nr:#x}"))),
    }
}

impl Observer for Tracer {
    fn follows(&self) -> bool {
        self.settings.follow
    }

    fn begin(&mut self, process: &Process) {
        const EXECVE: u32 = 11;
        let (row, _) = row(EXECVE);
        let locked = self.handles.shared.lock();
        if self.settings.summary {
            if self.settings.filter.shows(EXECVE) {
                locked.count(EXECVE, false, Duration::ZERO);
            }
            return;
        }
        if !self.settings.filter.shows(EXECVE) {
            return;
        }
        let tid = task::id();
        if process.launch.mask.is_none() {
            // The stack begins with argc, argv and the environment.
            let stack = process.machine.cpu.regs[reg::ESP];
            let argc = process.machine.memory.read::<u32>(stack).unwrap_or(0);
            let argv = stack.wrapping_add(4);
            let envp = argv.wrapping_add(argc.wrapping_add(1).wrapping_mul(4));
            let shown = Tracer::shown(process, row, [0, argv, envp, 0, 0, 0]);
            let name = words::quoted(OsStr::as_bytes(&process.image.exec_name), false);
            self.open(&locked, tid, &format!("execve({name}{}", shown.list(1..3)));
        }
        self.close(&locked, tid, row.name, "", "0", None);
    }

    fn attach(&mut self, _: &Process) {
        let locked = self.handles.shared.lock();
        let mut line = locked.line();
        line.tasks += 1;
        let tid = task::id();
        if !self.settings.to_file && !self.settings.summary {
            let unfinished = if line.open == 0 { "" } else { " <unfinished ...>\n" };
            self.write(&mut line, &format!("{unfinished}strace: Process {tid} attached\n"));
            line.open = 0;
        }
        locked.set_line(line);
    }

    fn enter(&mut self, process: &Process, nr: u32, args: [u32; 6]) {
        let tid = task::id();
        let (row, unknown) = row(nr);
        let mut shown = 0;
        if self.shows_lines(nr) {
            let call = Tracer::shown(process, row, args);
            shown = call.first_written();
            let arguments = match &unknown {
                Some(_) => args.map(|arg| format!("{arg:#x}")).join(", "),
                None => call.list(0..shown),
            };
            let name = unknown.as_deref().unwrap_or(row.name);
            let locked = self.handles.shared.lock();
            self.open(&locked, tid, &format!("{name}({arguments}"));
            if row.returns == Returns::Never {
                self.close(&locked, tid, name, "", "?", None);
            }
        }
        self.pending.insert(tid, Pending { shown, since: Instant::now() });
    }

    fn leave(&mut self, process: &Process, nr: u32, args: [u32; 6], result: Result<u32, Errno>) {
        let tid = task::id();
        let Some(pending) = self.pending.remove(&tid) else { return };
        let time = pending.since.elapsed();
        if !self.settings.filter.shows(nr) {
            return;
        }
        let (row, unknown) = row(nr);
        let (result, interrupted) = told(process, row, result);
        let locked = self.handles.shared.lock();
        if self.settings.summary {
            locked.count(nr, result.is_err(), time);
            return;
        }
        let call = Shown { result: Some(result), ..Tracer::shown(process, row, args) };
        let rest = call.list(pending.shown..row.args.len());
        let name = unknown.as_deref().unwrap_or(row.name);
        self.close(&locked, tid, name, &rest, &call.result(interrupted), Some(time));
    }

    fn signal(&mut self, _: &Process, info: &Info) {
        if !self.settings.summary {
            self.say(&self.handles.shared.lock(), task::id(), &signal_text(info));
        }
    }

    fn exit(&mut self, _: &Process, reason: ExitReason) {
        let tid = task::id();
        let locked = self.handles.shared.lock();
        if !self.settings.summary {
            self.say(&locked, tid, &exit_text(reason));
        }
        self.pending.remove(&tid);
        let mut line = locked.line();
        line.tasks = line.tasks.saturating_sub(1);
        locked.set_line(line);
    }

    fn end(&mut self, _: &Process) {
        let locked = self.handles.shared.lock();
        let mut line = locked.line();
        if self.settings.summary && line.root == std::process::id() {
            self.write(&mut line, &shared::table(&locked.counts()));
        }
    }
}

/// A result as it is in EAX.
fn decoded(eax: u32) -> Result<u32, Errno> {
    const MAX_ERRNO: i32 = 4095;
    if (-MAX_ERRNO..0).contains(&(eax as i32)) { Err(Errno(-(eax as i32))) } else { Ok(eax) }
}

/// What a call's result means to the program, and the words for one that a signal interrupted.
fn told(
    process: &Process,
    row: &SyscallInfo,
    result: Result<u32, Errno>,
) -> (Result<u32, Errno>, Option<&'static str>) {
    let interrupted = match result {
        Err(blocking::NOT_STARTED) => Some("ERESTARTNOINTR (To be restarted)"),
        Err(Errno::EINTR) => match process.signals.restart_class.unwrap_or(row.restart) {
            Restart::No => None,
            Restart::Sys => Some("ERESTARTSYS (To be restarted if SA_RESTART is set)"),
            Restart::NoHand => Some("ERESTARTNOHAND (To be restarted if no handler)"),
            Restart::Block => Some("ERESTART_RESTARTBLOCK (Interrupted by signal)"),
        },
        _ => None,
    };
    let result = match result {
        Err(signal::STATE_RESTORED) => decoded(process.machine.cpu.regs[reg::EAX]),
        result => result,
    };
    (result, interrupted)
}

/// A call in strace's words: `write(1, "hi\n", 3)`, with its result if it has one.
pub fn call_text(process: &Process, nr: u32, args: [u32; 6], result: Option<Result<u32, Errno>>) -> String {
    let (row, unknown) = row(nr);
    let told = result.map(|result| told(process, row, result));
    let call = Shown { result: told.map(|told| told.0), ..Tracer::shown(process, row, args) };
    let name = unknown.as_deref().unwrap_or(row.name);
    let arguments = match &unknown {
        Some(_) => args.map(|arg| format!("{arg:#x}")).join(", "),
        None => call.list(0..row.args.len()),
    };
    match told {
        Some((_, interrupted)) => format!("{name}({arguments}) = {}", call.result(interrupted)),
        None => format!("{name}({arguments}) = ?"),
    }
}

/// Tells whether a call does not come back, or may not.
pub fn may_not_return(nr: u32) -> bool {
    let (row, _) = row(nr);
    row.returns == Returns::Never || matches!(row.name, "execve" | "execveat")
}

/// `+++ exited with 0 +++`.
pub fn exit_text(reason: ExitReason) -> String {
    match reason {
        ExitReason::Exited(status) => format!("+++ exited with {status} +++"),
        ExitReason::Killed(signal) => format!("+++ killed by {} +++", words::signal(signal)),
        ExitReason::LimitReached => "+++ stopped by a limit +++".to_owned(),
    }
}

/// `--- SIGSEGV {si_signo=SIGSEGV, …} ---`.
pub fn signal_text(info: &Info) -> String {
    let name = words::signal(info.signal);
    let code = words::signal_code(info.signal, info.code);
    let fields = match info.fields {
        signal::Fields::Kill { .. } if info.code == signal::info::SI_KERNEL => String::new(),
        signal::Fields::Kill { pid, uid } => format!(", si_pid={pid}, si_uid={uid}"),
        signal::Fields::Timer { id, overrun, value } => {
            format!(", si_timerid={id:#x}, si_overrun={overrun}, si_value={value:#x}")
        }
        signal::Fields::Queued { pid, uid, value } => {
            format!(", si_pid={pid}, si_uid={uid}, si_value={value:#x}")
        }
        signal::Fields::Child { pid, uid, status, utime, stime } => {
            let status =
                if info.code == libc::CLD_EXITED { status.to_string() } else { words::signal(status) };
            format!(", si_pid={pid}, si_uid={uid}, si_status={status}, si_utime={utime}, si_stime={stime}")
        }
        signal::Fields::Fault { addr, .. } => format!(", si_addr={}", args::address(addr as u32)),
        signal::Fields::Poll { band, fd } => format!(", si_band={band:#x}, si_fd={fd}"),
        signal::Fields::Syscall { addr, nr, arch } => {
            format!(", si_call_addr={addr:#x}, si_syscall={nr}, si_arch={arch:#x}")
        }
    };
    format!("--- {name} {{si_signo={name}, si_code={code}{fields}}} ---")
}
