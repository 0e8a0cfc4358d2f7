//! The tracing side: which stops of a tracee are the guest's, and letting tracees go on.
//!
//! On the host, a tracee stops for each signal, for those of the emulator's own too. What becomes of such a stop is
//! decided wherever this process hears of it (`look`): faults go to the tracee's emulator; other signals go there in
//! disguise, to be recorded and delivered where the guest's state is exact; and a stop that the tracee made itself is the
//! guest's.

use super::super::errno::Errno;
use super::super::host::{self, Arg};
use super::super::process::Process;
use super::super::signal::host::{BLOCKED, Mark, carry, queue_mark};
use super::super::signal::info::SIZE;
use super::super::signal::{Info, SigSet};
use super::block::{RawSlot, State, attached, mark_in, state_of, stop, word};
use super::remote::Remote;
use super::{event, option, request};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// This process traces somebody.
static TRACES: AtomicBool = AtomicBool::new(false);

/// Tells whether this process traces, or has traced, others.
pub fn is_tracer() -> bool {
    TRACES.load(Ordering::Relaxed)
}

/// In a child: it traces nobody.
pub(super) fn forget() {
    TRACES.store(false, Ordering::Relaxed);
}

/// What a process knows of its tracees.
#[derive(Debug, Default)]
pub struct Tracees(Mutex<HashMap<u32, Tracee>>);

/// A tracee.
#[derive(Clone, Copy, Debug, Default)]
struct Tracee {
    seized: bool,
    /// Resumed by `PTRACE_LISTEN`: stopped for the host, but not for its tracer.
    listens: bool,
    /// Where it is and its slot, once found.
    place: Option<(Remote, u64)>,
}

/// What a stop of the host is.
pub(in crate::kernel) enum Seen {
    /// The guest's, with this status less its lowest byte.
    Guest(u32),
    /// The emulator's own affair; the tracee runs again.
    Own,
    /// That of a process which this thread does not trace.
    Foreign,
}

/// A tracee at a stop that its tracer knows of.
pub(super) struct Stopped {
    remote: Remote,
    slot: u64,
    pub(super) state: State,
}

impl Tracees {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Tracee>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a tracee.
    pub(super) fn add(&self, tid: u32, seized: bool) {
        TRACES.store(true, Ordering::Relaxed);
        self.lock().insert(tid, Tracee { seized, ..Tracee::default() });
    }

    /// Forgets one that is gone.
    pub(in crate::kernel) fn remove(&self, tid: u32) {
        self.lock().remove(&tid);
    }

    fn get(&self, tid: u32) -> Option<Tracee> {
        self.lock().get(&tid).copied()
    }

    fn update(&self, tid: u32, change: impl FnOnce(&mut Tracee)) {
        if let Some(tracee) = self.lock().get_mut(&tid) {
            change(tracee);
        }
    }

    /// Tells whether a tracee runs no program of this one's guests.
    fn is_foreign(&self, tid: u32) -> bool {
        self.get(tid).is_none_or(|tracee| tracee.place.is_none()) && !runs_this_program(tid)
    }

    /// Where a tracee and its slot are, and the slot.
    fn locate(&self, tid: u32) -> Result<(Remote, u64, RawSlot), Errno> {
        if let Some((remote, slot)) = self.get(tid).and_then(|tracee| tracee.place)
            && let Ok(raw) = remote.read_slot(slot)
        {
            return Ok((remote, slot, raw));
        }
        let remote = Remote::find(tid)?;
        let slot = remote.slot()?;
        let raw = remote.read_slot(slot)?;
        self.update(tid, |tracee| tracee.place = Some((remote, slot)));
        Ok((remote, slot, raw))
    }
}

/// A request of the host's ptrace(2).
pub(super) fn host_request(request: u32, tid: u32, addr: u64, data: Arg<'_>) -> Result<usize, Errno> {
    host::call(libc::SYS_ptrace, [request.into(), tid.into(), addr.into(), data])
}

fn go_on(tid: u32, signal: i32) -> Seen {
    // A tracee that is gone goes on by itself.
    let _ = host_request(request::CONT, tid, 0, signal.into());
    Seen::Own
}

/// Looks at a stop that the host reports, `status` being wait(2)'s less its lowest byte.
pub(in crate::kernel) fn look(p: &Process, tid: u32, status: u32) -> Seen {
    let tracees = &p.group.tracees;
    let mut info = [0u8; SIZE];
    let in_group_stop = match host_request(request::GETSIGINFO, tid, 0, Arg::slice_mut(&mut info)) {
        Ok(_) => false,
        Err(Errno::EINVAL) => true,
        Err(_) if tracees.get(tid).is_some() => return Seen::Own,
        Err(_) => return Seen::Foreign,
    };
    let (signal, event) = ((status & 0xff) as i32, status >> 8);
    let known = tracees.get(tid);
    if known.is_none() {
        tracees.add(tid, event == event::STOP);
        watch_children(p);
    }
    tracees.update(tid, |tracee| tracee.listens = false);
    match event {
        0 if !in_group_stop => return look_at_signal(p, tid, signal, &info, known.is_none()),
        event::EXEC => {
            tracees.update(tid, |tracee| tracee.place = None);
            // A program of the host's own says nothing of itself.
            if runs_this_program(tid) {
                return go_on(tid, 0);
            }
            return Seen::Guest(status);
        }
        event::FORK | event::CLONE => {
            meet_child(p, tid);
            return go_on(tid, 0);
        }
        event::STOP if known.is_none() && tracees.locate(tid).is_err() && Remote::find(tid).is_ok() => {
            return go_on(tid, 0);
        }
        _ => {}
    }
    // A stop of the host's that is the guest's as well.
    if let Ok((remote, slot, raw)) = tracees.locate(tid) {
        assert_attached(&remote, slot, &raw, tracees, tid);
        let kind = if matches!(event, 0 | event::STOP) { stop::GROUP } else { stop::EVENT };
        let mut message = 0u64;
        if kind == stop::EVENT {
            let _ = host_request(request::GETEVENTMSG, tid, 0, Arg::output(&mut message));
        }
        // What was changed at an earlier stop of this kind is still to be taken over.
        let state = State { stop: kind, status, info, message: message as u32, ..state_of(&raw) };
        let _ = remote.set_state(slot, &state);
    }
    Seen::Guest(status)
}

/// Lets the child of an event run to the place where it stops by itself. The tracee may be waiting for that.
fn meet_child(p: &Process, parent: u32) {
    let mut message = 0u64;
    if host_request(request::GETEVENTMSG, parent, 0, Arg::output(&mut message)).is_err() {
        return;
    }
    let (child, tracees) = (message as u32, &p.group.tracees);
    if tracees.get(child).is_some() {
        return;
    }
    tracees.add(child, tracees.get(parent).is_some_and(|tracee| tracee.seized));
    let mut info = [0u8; SIZE];
    // It has stopped, or is about to.
    let flags = libc::WSTOPPED | libc::__WALL;
    let mut wait = || {
        let args = [libc::P_PID.into(), child.into(), Arg::slice_mut(&mut info), flags.into(), Arg::NULL];
        host::call(libc::SYS_waitid, args)
    };
    let mut result = wait();
    while result == Err(Errno::EINTR) {
        result = wait();
    }
    if result.is_ok() {
        go_on(child, 0);
    }
}

/// Sees to it that a tracee knows.
fn assert_attached(remote: &Remote, slot: u64, raw: &RawSlot, tracees: &Tracees, tid: u32) {
    let seized = tracees.get(tid).is_some_and(|tracee| tracee.seized);
    let wanted = attached::TRACED | if seized { attached::SEIZED } else { 0 };
    if raw[word::ATTACHED] != wanted {
        let _ = remote.set_word(slot, word::ATTACHED, wanted);
    }
}

/// Looks at a stop in front of a signal's delivery on the host.
fn look_at_signal(p: &Process, tid: u32, signal: i32, info: &[u8; SIZE], is_new: bool) -> Seen {
    let tracees = &p.group.tracees;
    let told = Info::from_host(info);
    if SigSet::FAULTS.contains(signal) && told.code > 0 && !tracees.is_foreign(tid) {
        return go_on(tid, signal);
    }
    let located = tracees.locate(tid);
    let Ok(remote) = located.map(|(remote, ..)| remote).or_else(|_| Remote::find(tid)) else {
        return Seen::Guest(signal as u32);
    };
    if SigSet::FAULTS.contains(signal) {
        let stops = signal == libc::SIGBUS
            && told.code == libc::SI_QUEUE
            && u64::from_le_bytes(info[24..32].try_into().unwrap_or_default())
                == mark_in(remote.delta, Mark::Stop);
        return match located {
            Ok((_, _, raw)) if stops => Seen::Guest(state_of(&raw).status),
            _ => go_on(tid, signal),
        };
    }
    if remote.header().is_ok_and(|header| header.dying == signal as u64) {
        return go_on(tid, signal);
    }
    let Ok((remote, slot, raw)) = located else {
        // A task that was attached with its parent stops before it runs at all; it will stop by itself where it begins.
        return go_on(tid, if is_new && signal == libc::SIGSTOP { 0 } else { signal });
    };
    assert_attached(&remote, slot, &raw, tracees, tid);
    if raw[word::PASSING] == signal as u32 {
        let _ = remote.set_word(slot, word::PASSING, 0);
        return go_on(tid, signal);
    }
    // Nothing else may come before the tracee has recorded it.
    let mask = BLOCKED.0;
    let _ = host_request(request::SETSIGMASK, tid, 8, Arg::input(&mask));
    let mut carrier = carry(signal, info);
    let _ = host_request(request::SETSIGINFO, tid, 0, Arg::slice_mut(&mut carrier));
    go_on(tid, libc::SIGBUS)
}

/// Tells whether a process runs this program's file.
fn runs_this_program(tid: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &str| std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    let own = identity("/proc/self/exe");
    own.is_some() && own == identity(&format!("/proc/{tid}/exe"))
}

/// Deals with all stops of tracees that are none of the guest's; tells whether any event is left for the guest to wait for.
pub(in crate::kernel) fn serve(p: &Process) -> bool {
    let tids: Vec<u32> = p.group.tracees.lock().keys().copied().collect();
    for tid in tids {
        serve_one(p, tid);
    }
    let mut info = [0u8; SIZE];
    let flags = libc::WNOHANG | libc::WNOWAIT | libc::WEXITED | libc::WSTOPPED | libc::__WALL;
    let args = [libc::P_ALL.into(), 0.into(), Arg::slice_mut(&mut info), flags.into(), Arg::NULL];
    host::call(libc::SYS_waitid, args).is_ok() && Info::from_host(&info).signal != 0
}

/// As [`serve`], for one tracee: it is looked at without being waited for.
fn serve_one(p: &Process, tid: u32) {
    loop {
        let mut info = [0u8; SIZE];
        let flags = libc::WNOHANG | libc::WNOWAIT | libc::WSTOPPED | libc::__WALL;
        let args = [libc::P_PID.into(), tid.into(), Arg::slice_mut(&mut info), flags.into(), Arg::NULL];
        if host::call(libc::SYS_waitid, args).is_err() {
            return;
        }
        let told = Info::from_host(&info);
        let super::super::signal::Fields::Child { status, .. } = told.fields else { return };
        if told.signal == 0 || !matches!(look(p, tid, status as u32), Seen::Own) {
            return;
        }
    }
}

/// A tracee of this process that stands at a stop of the guest's. `ESRCH` otherwise; `EIO` if it is not one of this program's.
pub(super) fn stopped(p: &Process, tid: u32) -> Result<Stopped, Errno> {
    let tracee = p.group.tracees.get(tid);
    if tracee.is_some_and(|tracee| tracee.listens) {
        return Err(Errno::ESRCH);
    }
    let look = || {
        // The host knows best whether it stands, and whose it is.
        let mut mask = 0u64;
        host_request(request::GETSIGMASK, tid, 8, Arg::output(&mut mask)).map_err(|_| Errno::ESRCH)?;
        let (remote, slot, raw) = p.group.tracees.locate(tid)?;
        let state = state_of(&raw);
        if state.stop == stop::NONE { Err(Errno::ESRCH) } else { Ok(Stopped { remote, slot, state }) }
    };
    look().or_else(|error| {
        if error != Errno::ESRCH {
            return Err(error);
        }
        if tracee.is_none() {
            p.group.tracees.add(tid, false);
        }
        serve_one(p, tid);
        let found = look();
        if found.is_err() && tracee.is_none() {
            p.group.tracees.remove(tid);
        }
        found
    })
}

impl Stopped {
    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Stores what was changed of the state, `what` being bits of [`changed`](super::block::changed).
    pub(super) fn change(&mut self, what: u32) -> Result<(), Errno> {
        self.state.changed |= what;
        self.remote.set_state(self.slot, &self.state)
    }

    pub(super) fn set_options(&self, options: u32) -> Result<(), Errno> {
        // What the tracee stops for by itself the host need not know.
        let host = options & !(option::TRACEEXIT | option::TRACESYSGOOD);
        host_request(request::SETOPTIONS, self.remote.tid, 0, host.into())?;
        self.remote.set_word(self.slot, word::OPTIONS, options)
    }

    /// Lets the tracee go on.
    pub(super) fn resume(mut self, request: u32, signal: u32) -> Result<(), Errno> {
        if signal > 64 {
            return Err(Errno::EIO);
        }
        self.state.stop = stop::NONE;
        self.state.resume = request;
        self.state.inject = signal;
        self.remote.set_state(self.slot, &self.state)?;
        host_request(request::CONT, self.remote.tid, 0, 0.into()).map(drop)
    }

    /// Lets the tracee go for good.
    pub(super) fn detach(mut self, signal: u32) -> Result<(), Errno> {
        if signal > 64 {
            return Err(Errno::EIO);
        }
        self.state.stop = stop::NONE;
        self.state.resume = request::CONT;
        self.state.inject = signal;
        self.remote.set_state(self.slot, &self.state)?;
        self.remote.set_word(self.slot, word::ATTACHED, 0)?;
        self.remote.set_word(self.slot, word::OPTIONS, 0)?;
        host_request(request::DETACH, self.remote.tid, 0, 0.into()).map(drop)
    }
}

/// `PTRACE_ATTACH` and `PTRACE_SEIZE`.
pub(super) fn attach(p: &Process, tid: u32, seize: bool, addr: u32, options: u32) -> Result<u32, Errno> {
    let host_options = options & !(option::TRACEEXIT | option::TRACESYSGOOD);
    if seize {
        if options & !option::ALL != 0 {
            return Err(Errno::EIO);
        }
        host_request(request::SEIZE, tid, addr.into(), host_options.into())?;
    } else {
        host_request(request::ATTACH, tid, 0, 0.into())?;
    }
    p.group.tracees.add(tid, seize);
    watch_children(p);
    if let Ok((remote, slot, raw)) = p.group.tracees.locate(tid) {
        remote.set_word(slot, word::OPTIONS, if seize { options } else { 0 })?;
        assert_attached(&remote, slot, &raw, &p.group.tracees, tid);
    }
    Ok(0)
}

/// `PTRACE_INTERRUPT`: `EIO` for a tracee that was not seized.
pub(super) fn interrupt(p: &Process, tid: u32) -> Result<u32, Errno> {
    let tracee = p.group.tracees.get(tid).ok_or(Errno::ESRCH)?;
    let Ok((remote, slot, raw)) = p.group.tracees.locate(tid) else {
        return host_request(request::INTERRUPT, tid, 0, 0.into()).map(|_| 0);
    };
    if !tracee.seized {
        return Err(Errno::EIO);
    }
    if tracee.listens {
        return host_request(request::INTERRUPT, tid, 0, 0.into()).map(|_| 0);
    }
    remote.set_word(slot, word::INTERRUPT, 1)?;
    if raw[word::STATE] == stop::NONE {
        let group = thread_group(tid).ok_or(Errno::ESRCH)?;
        queue_mark(group, tid, mark_in(remote.delta, Mark::Nudge) as usize)?;
    }
    Ok(0)
}

/// The process that a thread belongs to.
fn thread_group(tid: u32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok())
}

/// `PTRACE_LISTEN`.
pub(super) fn listen(p: &Process, tid: u32) -> Result<u32, Errno> {
    let stopped = stopped(p, tid)?;
    host_request(request::LISTEN, tid, 0, 0.into())?;
    let state = State { stop: stop::NONE, ..stopped.state };
    stopped.remote.set_state(stopped.slot, &state)?;
    p.group.tracees.update(tid, |tracee| tracee.listens = true);
    Ok(0)
}

/// Has this process told of its tracees' stops, whatever the guest does about `SIGCHLD`.
fn watch_children(p: &Process) {
    super::super::signal::host::install(libc::SIGCHLD, &p.signals.action(libc::SIGCHLD));
}
