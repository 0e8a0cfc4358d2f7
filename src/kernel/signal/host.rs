//! The host's side of signals: actions and masks by raw system calls, and the handler that records.
//!
//! The calls are raw because libc hides signals 32 and 33, which the guest's libc uses for itself.

#![allow(unsafe_code)]

use super::info::SIZE;
use super::{Action, Info, SIG_DFL, SIG_IGN, SIGNALS, SigSet, Signals, sa};
use crate::cpu::Cpu;
use crate::kernel::blocking;
use crate::kernel::errno::Errno;
use crate::kernel::ptrace;
use std::cell::{Cell, UnsafeCell};
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64, Ordering};

/// `struct sigaction` as the host's kernel takes it.
#[repr(C)]
struct KernelAction {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const SA_RESTORER: u64 = 0x0400_0000;

/// Places for signals. The handler blocks all signals when it fills one; one more can come while the mask is being
/// changed, and from a tracer one that cannot be blocked.
const SLOTS: usize = 6;

const EMPTY: u8 = 0;
const FILLING: u8 = 1;
const FULL: u8 = 2;

#[derive(Debug)]
struct Slot {
    state: AtomicU8,
    bytes: UnsafeCell<[u8; SIZE]>,
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { state: AtomicU8::new(EMPTY), bytes: UnsafeCell::new([0; SIZE]) }
    }
}

impl Slot {
    /// Copies `info` in, unless the slot is taken. Async-signal-safe.
    fn fill(&self, info: *const u8) -> bool {
        if self.state.compare_exchange(EMPTY, FILLING, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // SAFETY: `FILLING` makes this the only user of the bytes; a host siginfo_t has SIZE bytes.
        unsafe { self.bytes.get().cast::<u8>().copy_from_nonoverlapping(info, SIZE) };
        self.state.store(FULL, Ordering::Release);
        true
    }

    fn take(&self) -> Option<Info> {
        if self.state.load(Ordering::Acquire) != FULL {
            return None;
        }
        // SAFETY: a full slot is not written.
        let info = Info::from_host(unsafe { &*self.bytes.get() });
        self.state.store(EMPTY, Ordering::Release);
        Some(info)
    }
}

/// What the handler leaves for the run loop.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Not 0: something is in a slot. What blocking calls look at.
    flag: AtomicU8,
    /// Whom to stop.
    cpu: AtomicPtr<Cpu>,
    signals: [Slot; SLOTS],
    /// Sent `SIGSEGV` and `SIGBUS`, which are not blocked while they wait here.
    faults: [Slot; 2],
}

// SAFETY: the slots' bytes are guarded by their states; the pointer to the CPU is only used by the thread that
// attached it.
unsafe impl Send for Inbox {}
// SAFETY: as above.
unsafe impl Sync for Inbox {}

impl Inbox {
    /// The next recorded signal. `SIGSEGV` and `SIGBUS` come from [`collect_held`].
    pub(super) fn take(&self) -> Option<Info> {
        self.signals.iter().find_map(Slot::take)
    }

    fn is_empty(&self) -> bool {
        self.signals.iter().all(|slot| slot.state.load(Ordering::Acquire) == EMPTY)
    }

    /// Clears the flag; whoever calls this looks at all slots afterwards.
    pub(super) fn acknowledge(&self) {
        self.flag.store(0, Ordering::SeqCst);
    }

    fn put(&self, signal: i32, info: *const u8) {
        match signal {
            libc::SIGSEGV => drop(self.faults[0].fill(info)),
            libc::SIGBUS => drop(self.faults[1].fill(info)),
            _ => drop(self.signals.iter().any(|slot| slot.fill(info))),
        }
        self.wake();
    }

    /// Makes the run loop look. Async-signal-safe.
    fn wake(&self) {
        self.flag.store(1, Ordering::SeqCst);
        let cpu = self.cpu.load(Ordering::Relaxed);
        if !cpu.is_null() {
            // SAFETY: `attach` was given a CPU that lives until `detach`.
            unsafe { (*cpu).request_stop() };
        }
    }
}

thread_local! {
    static INBOX: Cell<*const Inbox> = const { Cell::new(null()) };
}

/// Makes this thread's signals go to `signals`, stop `cpu`, and puts the guest's mask in force.
pub fn attach(signals: &mut Signals, cpu: &Cpu) {
    let inbox: *const Inbox = &raw const *signals.inbox;
    signals.inbox.cpu.store((&raw const *cpu).cast_mut(), Ordering::Relaxed);
    INBOX.set(inbox);
    // SAFETY: the box keeps its place until `detach`, which the process's run loop calls.
    unsafe { blocking::set_flag(&raw const (*inbox).flag) };
    apply_mask(signals);
}

/// Blocks this thread's signals and forgets where they went.
pub fn detach() {
    set_host_mask(SigSet::ALL);
    // SAFETY: null is allowed.
    unsafe { blocking::set_flag(null()) };
    INBOX.set(null());
}

/// Asks the engine, which handles `SIGSEGV` and `SIGBUS`, for those that were sent.
pub(super) fn take_sent_faults() {
    crate::on_sent_signal(|signal, info, context| {
        let inbox = INBOX.get();
        if inbox.is_null() {
            return;
        }
        // SAFETY: `attach` set a valid pointer; the others are the host's.
        unsafe {
            if is_mark(&*info) {
                (*inbox).wake();
            } else if let Some((signal, original)) = carried(&*info.cast()) {
                (*inbox).put(signal, original.as_ptr());
            } else {
                (*inbox).put(signal, info.cast());
            }
            keep_from_blocking(context);
        }
    });
}

/// What a queued signal of the emulator's own is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel) enum Mark {
    /// The thread is to look up.
    Nudge,
    /// The thread wants its tracer to see it stop.
    Stop,
}

/// The address of a [`Mark`] here is what such a signal carries, which nobody else knows.
pub(in crate::kernel) static MARKS: [u8; 2] = [0; 2];

/// `si_code`, less the signal's number, of a `SIGBUS` in which a tracer hands on another signal, whose own code is in
/// `si_errno`.
const CARRIED: i32 = -0x8600;

/// What a tracer puts in the place of a signal that its tracee is to record, whatever the host would do about it.
pub(in crate::kernel) fn carry(signal: i32, info: &[u8; SIZE]) -> [u8; SIZE] {
    let mut carrier = *info;
    carrier[..4].copy_from_slice(&libc::SIGBUS.to_le_bytes());
    carrier.copy_within(8..12, 4);
    carrier[8..12].copy_from_slice(&(CARRIED - signal).to_le_bytes());
    carrier
}

/// Undoes [`carry`]. Async-signal-safe.
fn carried(info: &[u8; SIZE]) -> Option<(i32, [u8; SIZE])> {
    let word = |at: usize| i32::from_le_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]]);
    let signal = CARRIED.wrapping_sub(word(8));
    if word(0) != libc::SIGBUS || !(1..=SIGNALS).contains(&signal) {
        return None;
    }
    let mut original = *info;
    original[..4].copy_from_slice(&signal.to_le_bytes());
    original.copy_within(4..8, 8);
    original[4..8].fill(0);
    Some((signal, original))
}

/// The part of the host's `siginfo_t` that a nudge fills in.
#[repr(C)]
struct QueuedInfo {
    signal: i32,
    errno: i32,
    code: i32,
    pad: i32,
    pid: i32,
    uid: u32,
    value: usize,
    rest: [u64; 12],
}

const _: () = assert!(size_of::<QueuedInfo>() == SIZE);

/// Makes another thread of this process look up, even from a blocking call: its run loop goes round. By the one kind of
/// signal that the host never blocks.
pub(in crate::kernel) fn nudge(tid: u32) {
    // SAFETY: getpid takes nothing.
    let pid = unsafe { libc::getpid() };
    // The thread may be gone, which is an error and no more.
    let _ = queue_mark(pid, tid, (&raw const MARKS[Mark::Nudge as usize]).addr());
}

/// Has the tracer of this thread see it stop, if there is one.
pub(in crate::kernel) fn stop_for_tracer() {
    // SAFETY: both take nothing.
    let (pid, tid) = unsafe { (libc::getpid(), libc::syscall(libc::SYS_gettid) as u32) };
    let _ = queue_mark(pid, tid, (&raw const MARKS[Mark::Stop as usize]).addr());
}

/// Queues the signal that carries a [`Mark`]'s address in the process that it is for.
pub(in crate::kernel) fn queue_mark(pid: i32, tid: u32, mark: usize) -> Result<(), Errno> {
    let info = QueuedInfo {
        signal: libc::SIGBUS,
        errno: 0,
        code: libc::SI_QUEUE,
        pad: 0,
        pid,
        uid: 0,
        value: mark,
        rest: [0; 12],
    };
    // SAFETY: the structure is a siginfo_t.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, libc::SIGBUS, &raw const info) };
    if result == 0 { Ok(()) } else { Err(Errno::last()) }
}

/// Tells signals of the emulator's own from the guest's. A stop comes to its thread only when the tracer is gone.
fn is_mark(info: &libc::siginfo_t) -> bool {
    // SAFETY: a queued signal has these fields.
    let carried = unsafe { info.si_value() }.sival_ptr.addr();
    info.si_code == libc::SI_QUEUE && MARKS.iter().any(|mark| (&raw const *mark).addr() == carried)
}

/// Records a host signal for the guest. This is the whole of the handler. Async-signal-safe.
///
/// # Safety
/// `info` and `context` are what the host gave to a handler with `SA_SIGINFO`.
unsafe fn record(signal: i32, info: *const libc::siginfo_t, context: *mut libc::c_void) {
    let inbox = INBOX.get();
    if inbox.is_null() {
        return;
    }
    // SAFETY: `attach` set a valid pointer.
    unsafe { (*inbox).put(signal, info.cast()) };
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: the host's mask is the first eight bytes of this field; they come into force at the handler's end.
    unsafe { (&raw mut (*context).uc_sigmask).cast::<u64>().write_unaligned(BLOCKED.0) };
    // SAFETY: the host's context.
    unsafe { keep_from_blocking(context) };
}

/// Lets a blocking call that a signal found in front of its host call not begin. Async-signal-safe.
///
/// # Safety
/// `context` is what the host gave to a handler.
unsafe fn keep_from_blocking(context: *mut libc::ucontext_t) {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the context is valid and nobody else looks at it.
        let pc = unsafe { &mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize] };
        if let Some(onward) = blocking::redirect(*pc as usize) {
            *pc = onward as i64;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = context;
}

/// All that can be blocked without losing guest faults.
pub const BLOCKED: SigSet = SigSet::ALL.minus(SigSet::FAULTS);

unsafe extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the host calls this as a handler with `SA_SIGINFO`.
    unsafe { record(signal, info, context) };
}

#[cfg(target_arch = "x86_64")]
mod restorer {
    std::arch::global_asm!(
        ".global table86_signal_return",
        ".hidden table86_signal_return",
        // Unwinders know a signal frame by these very bytes.
        ".p2align 4",
        "nop",
        "table86_signal_return:",
        "mov rax, 15",
        "syscall",
    );
    unsafe extern "C" {
        pub(super) safe static table86_signal_return: u8;
    }
    pub(super) fn address() -> usize {
        (&raw const table86_signal_return).addr()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod restorer {
    /// Other hosts return from signals by their own vDSO.
    pub(super) fn address() -> usize {
        0
    }
}

fn host_action(signal: i32, new: *const KernelAction, old: *mut KernelAction) {
    // SAFETY: both are null or valid. It cannot fail but for SIGKILL and SIGSTOP, whose action cannot change.
    unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, 8usize) };
}

/// Mirrors the guest's action to the host. `SIGSEGV` and `SIGBUS` stay with the engine.
pub fn install(signal: i32, action: &Action) {
    if SigSet::FAULTS.contains(signal) {
        return;
    }
    let handler = match action.handler {
        // A tracer has to see to its tracees.
        SIG_DFL if signal == libc::SIGCHLD && ptrace::is_tracer() => on_signal as *const () as usize,
        SIG_DFL => libc::SIG_DFL,
        SIG_IGN => libc::SIG_IGN,
        _ => on_signal as *const () as usize,
    };
    let kept = u64::from(action.flags & (sa::NOCLDSTOP | sa::NOCLDWAIT));
    let restorer = restorer::address();
    let flags = kept | libc::SA_SIGINFO as u64 | if restorer != 0 { SA_RESTORER } else { 0 };
    host_action(signal, &KernelAction { handler, flags, restorer, mask: BLOCKED.0 }, null_mut());
}

/// The calling thread's mask on the host.
pub fn mask() -> SigSet {
    let mut mask = 0u64;
    // SAFETY: the set has 8 bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, null::<u64>(), &raw mut mask, 8usize)
    };
    SigSet(mask)
}

fn set_host_mask(mask: SigSet) {
    let mask = mask.0;
    // SAFETY: the set has 8 bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, null_mut::<u64>(), 8usize)
    };
}

/// Puts the guest's mask in force on the host, or blocks everything while recorded signals wait. For a vfork child the
/// guest's mask is in force only for the moment of this call: a signal that ends it must not find the state that it
/// shares with its parent half changed.
pub fn apply_mask(signals: &Signals) {
    if signals.inbox.is_empty() {
        set_host_mask(signals.mask.minus(SigSet::FAULTS));
    }
    if signals.shielded || !signals.inbox.is_empty() {
        set_host_mask(BLOCKED);
    }
}

/// Blocks what can be blocked, so that nothing is recorded while the process splits.
pub fn block_all() {
    set_host_mask(BLOCKED);
}

/// Signals that wait on the host.
pub fn pending() -> SigSet {
    let mut set = 0u64;
    // SAFETY: the set has 8 bytes.
    unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut set, 8usize) };
    SigSet(set)
}

/// Moves sent `SIGSEGV` and `SIGBUS` into `Signals::held`; one of each waits at most, as for any standard signal.
pub fn collect_held(signals: &mut Signals) {
    for slot in &signals.inbox.faults {
        if let Some(info) = slot.take()
            && signals.held.iter().all(|waiting| waiting.signal != info.signal)
        {
            signals.held.push(info);
        }
    }
}

/// Gives a recorded signal back to the host, where it waits until the guest unblocks it. Everything is blocked.
pub(in crate::kernel) fn requeue(info: &Info) {
    let bytes = info.to_host();
    // Only a process's first thread may send to the process in the name of others.
    // SAFETY: the bytes are a siginfo_t; a process may queue any signal to itself.
    let queued = info.code != libc::SI_TKILL
        && unsafe {
            libc::syscall(libc::SYS_rt_sigqueueinfo, libc::getpid(), info.signal, bytes.as_ptr()) == 0
        };
    if !queued {
        requeue_to_self(info);
    }
}

/// Sends a signal to this thread alone; it comes when the host's mask lets it.
pub(crate) fn requeue_to_self(info: &Info) {
    let bytes = info.to_host();
    // SAFETY: the bytes are a siginfo_t; a thread may queue any signal to itself.
    unsafe {
        let (pid, tid) = (libc::getpid(), libc::syscall(libc::SYS_gettid) as i32);
        libc::syscall(libc::SYS_rt_tgsigqueueinfo, pid, tid, info.signal, bytes.as_ptr());
    }
}

/// What the host process was like when it started, before Rust's runtime ignored `SIGPIPE`, handled stack overflow,
/// and opened missing standard files.
static IGNORED_AT_START: AtomicU64 = AtomicU64::new(0);
static CLOSED_AT_START: AtomicU8 = AtomicU8::new(0);

extern "C" fn note_start() {
    let mut ignored = SigSet::EMPTY;
    for signal in 1..=SIGNALS {
        // SAFETY: zero is a valid value of each field.
        let mut old: KernelAction = unsafe { zeroed() };
        host_action(signal, null(), &raw mut old);
        if old.handler == libc::SIG_IGN {
            ignored = ignored.union(SigSet::of(signal));
        }
    }
    IGNORED_AT_START.store(ignored.0, Ordering::Relaxed);
    let is_closed = |fd: i32| {
        // SAFETY: F_GETFD takes no pointer.
        unsafe { libc::fcntl(fd, libc::F_GETFD) < 0 }
    };
    let closed = (0..3).filter(|&fd| is_closed(fd)).fold(0, |set, fd| set | 1 << fd);
    CLOSED_AT_START.store(closed, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_START: extern "C" fn() = note_start;

/// Tells whether `signal` was ignored when this program was started.
pub fn ignored_at_start(signal: i32) -> bool {
    SigSet(IGNORED_AT_START.load(Ordering::Relaxed)).contains(signal)
}

/// Closes the standard files that were closed when this program was started.
pub fn close_standard_files() {
    let closed = CLOSED_AT_START.swap(0, Ordering::Relaxed);
    for fd in (0..3).filter(|fd| closed >> fd & 1 != 0) {
        // SAFETY: the descriptor was opened by Rust's runtime only to be there.
        unsafe { libc::close(fd) };
    }
}

/// The host's actions of `SIGSEGV` and `SIGBUS`, to be put back when an `execve` fails.
pub struct FaultActions([Option<KernelAction>; 2]);

/// Makes ignored signals such as `execve` has to hand them on, and puts `mask` in force. Recorded signals go back to
/// the host first.
pub fn before_exec(signals: &mut Signals, mask: SigSet) -> FaultActions {
    block_all();
    while let Some(info) = signals.inbox.take() {
        requeue(&info);
    }
    let saved = [libc::SIGSEGV, libc::SIGBUS].map(|signal| {
        // A handler is taken away by the host.
        (signals.action(signal).handler == SIG_IGN).then(|| {
            // SAFETY: zero is a valid value of each field.
            let mut old: KernelAction = unsafe { zeroed() };
            let ignore = KernelAction { handler: libc::SIG_IGN, flags: 0, restorer: 0, mask: 0 };
            host_action(signal, &ignore, &raw mut old);
            old
        })
    });
    set_host_mask(mask);
    FaultActions(saved)
}

/// Undoes [`before_exec`].
pub fn exec_failed(signals: &Signals, saved: &FaultActions) {
    for (signal, action) in [libc::SIGSEGV, libc::SIGBUS].into_iter().zip(&saved.0) {
        if let Some(action) = action {
            host_action(signal, action, null_mut());
        }
    }
    apply_mask(signals);
}

/// Ends this process by `signal`'s default action, without a core dump: it would show the emulator.
pub fn die(signal: i32) -> ! {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let default = KernelAction { handler: libc::SIG_DFL, flags: 0, restorer: 0, mask: 0 };
    ptrace::dying(signal);
    // SAFETY: plain calls with valid pointers.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        host_action(signal, &raw const default, null_mut());
        set_host_mask(SigSet::ALL.minus(SigSet::of(signal)));
        libc::syscall(libc::SYS_kill, libc::syscall(libc::SYS_getpid), signal);
        // A namespace's first process survives its own signals.
        leave(128 + signal)
    }
}

/// Ends this process with a status, without running anything at exit.
pub fn leave(status: i32) -> ! {
    loop {
        // SAFETY: no pointers.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_signal_is_taken_once() {
        let inbox = Inbox::default();
        let info = Info::kernel(libc::SIGUSR1);
        inbox.put(libc::SIGUSR1, info.to_host().as_ptr());
        assert_eq!(inbox.flag.load(Ordering::SeqCst), 1);
        assert_eq!((inbox.take(), inbox.take()), (Some(info), None));
        assert!(inbox.is_empty());
    }

    #[test]
    fn the_kernels_action_has_its_layout() {
        assert_eq!(size_of::<KernelAction>(), 32);
    }
}
