//! The traced side: what a thread shows at its stops, and what its tracer makes of it meanwhile.

use super::super::abi::{SyscallInfo, UserDesc, UserRegs};
use super::super::errno::Errno;
use super::super::process::Process;
use super::super::segments::{self, TLS_COUNT, TLS_FIRST};
use super::super::signal::{self, Call, Fields, Info, SigSet};
use super::block::{HEADER, Slot, State, attached, changed, stop};
use super::watch::Watches;
use super::{event, option, request};
use crate::cpu::{Cpu, Seg, reg};
use crate::fpu::SAVE_32;
use std::sync::atomic::Ordering;

/// `orig_eax` of a thread that is not in a system call.
const NO_CALL: u32 = u32::MAX;
/// `clone` makes no tracee of this child, whatever the tracer asked for.
const CLONE_UNTRACED: u64 = 0x80_0000;
const CLONE_VFORK: u64 = 0x4000;

/// What a child or the next program takes over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    pub(in crate::kernel) attached: u32,
    pub(in crate::kernel) options: u32,
    /// The request by which the thread goes on.
    pub(in crate::kernel) resume: u32,
    /// The number of the system call that made the child or the program.
    pub(in crate::kernel) call: u32,
    /// The thread that executed this program.
    pub(in crate::kernel) old_tid: u32,
}

/// A thread's part in being traced.
pub struct Tracing {
    pub(super) slot: Box<Slot>,
    /// The request by which the tracer let the thread go on.
    resume: u32,
    /// The number of the system call that the thread is in, or has come from; `orig_eax`.
    orig_ax: u32,
    pub(super) watches: Watches,
    /// The program was executed by a traced one; its first stop is to come.
    executed: Option<Inherited>,
}

impl Tracing {
    /// Nobody traces the calling thread yet.
    pub fn new() -> Tracing {
        let slot = Slot::new(super::super::task::id());
        let watches = Watches::default();
        Tracing { slot, resume: request::CONT, orig_ax: NO_CALL, watches, executed: None }
    }

    /// For a child that its parent's tracer traces, too.
    pub(in crate::kernel) fn of_child(inherited: Option<Inherited>) -> Tracing {
        let mut tracing = Tracing::new();
        if let Some(Inherited { attached, options, call, .. }) = inherited {
            tracing.orig_ax = call;
            tracing.slot.options.store(options, Ordering::Release);
            tracing.slot.attached.store(attached, Ordering::Release);
            // Seized children begin with an event, which an interruption is as well.
            tracing.slot.interrupt.store((attached & attached::SEIZED).min(1), Ordering::Release);
        }
        tracing
    }

    /// For a program that a traced one executed.
    pub(in crate::kernel) fn of_program(executed: Option<Inherited>) -> Tracing {
        let mut tracing = Tracing::new();
        if let Some(Inherited { attached, options, resume, call, .. }) = executed {
            tracing.orig_ax = call;
            tracing.slot.options.store(options, Ordering::Release);
            tracing.slot.attached.store(attached, Ordering::Release);
            tracing.resume = resume;
            tracing.executed = executed;
        }
        tracing
    }

    /// Tells whether somebody traces the thread.
    pub(in crate::kernel) fn is_traced(&self) -> bool {
        self.slot.attached.load(Ordering::Acquire) & attached::TRACED != 0
    }

    fn is_seized(&self) -> bool {
        self.slot.attached.load(Ordering::Acquire) & attached::SEIZED != 0
    }

    fn has_option(&self, option: u32) -> bool {
        self.is_traced() && self.slot.options.load(Ordering::Acquire) & option != 0
    }

    /// Tells whether single instructions are to be run.
    pub(in crate::kernel) fn is_stepping(&self) -> bool {
        self.is_traced() && (self.steps() || self.watches.any())
    }

    /// Tells whether the tracer asked for a single step.
    fn steps(&self) -> bool {
        matches!(self.resume, request::SINGLESTEP | request::SINGLEBLOCK | request::SYSEMU_SINGLESTEP)
    }

    /// Tells whether the tracer wants the thread to stop.
    pub(in crate::kernel) fn is_interrupted(&self) -> bool {
        self.slot.interrupt.load(Ordering::Acquire) != 0
    }

    /// What is handed to the next program.
    pub(in crate::kernel) fn handed_on(&self) -> Option<Inherited> {
        self.is_traced().then(|| Inherited {
            attached: self.slot.attached.load(Ordering::Acquire),
            options: self.slot.options.load(Ordering::Acquire),
            resume: self.resume,
            call: self.orig_ax,
            old_tid: super::super::task::id(),
        })
    }

    /// The event that a new task is for the tracer, and what the child takes over.
    pub(in crate::kernel) fn birth(&self, flags: u64, exit_signal: u32) -> Option<(u32, Inherited)> {
        let (event, option) = if flags & CLONE_VFORK != 0 {
            (event::VFORK, option::TRACEVFORK)
        } else if exit_signal != libc::SIGCHLD as u32 {
            (event::CLONE, option::TRACECLONE)
        } else {
            (event::FORK, option::TRACEFORK)
        };
        let inherited = self.handed_on()?;
        (flags & CLONE_UNTRACED == 0 && self.has_option(option)).then_some((event, inherited))
    }

    /// The number of the system call that the thread is in, or has come from; `orig_eax`.
    pub(crate) fn orig_eax(&self) -> u32 {
        self.orig_ax
    }

    /// A debugger has written that register.
    pub(crate) fn set_orig_eax(&mut self, value: u32) {
        self.orig_ax = value;
    }

    /// The run loop is about to run instructions.
    pub(in crate::kernel) fn leave_call(&mut self) {
        self.orig_ax = NO_CALL;
    }

    /// Lets the next signal of this number be the host's to act on.
    fn pass(&self, signal: i32) {
        self.slot.passing.store(signal as u32, Ordering::Release);
    }
}

impl Default for Tracing {
    fn default() -> Tracing {
        Tracing::new()
    }
}

/// The general registers as tracers see them.
fn registers(cpu: &Cpu, orig_ax: u32) -> UserRegs {
    let selector = |seg: Seg| u32::from(cpu.selectors[seg as usize]);
    UserRegs {
        bx: cpu.regs[reg::EBX],
        cx: cpu.regs[reg::ECX],
        dx: cpu.regs[reg::EDX],
        si: cpu.regs[reg::ESI],
        di: cpu.regs[reg::EDI],
        bp: cpu.regs[reg::EBP],
        ax: cpu.regs[reg::EAX],
        ds: selector(Seg::Ds),
        es: selector(Seg::Es),
        fs: selector(Seg::Fs),
        gs: selector(Seg::Gs),
        orig_ax,
        ip: cpu.eip,
        cs: selector(Seg::Cs),
        flags: cpu.eflags(),
        sp: cpu.regs[reg::ESP],
        ss: selector(Seg::Ss),
    }
}

/// [`picture`] in the middle of a system call, whose result is still to come.
fn picture_in_call(p: &Process) -> State {
    let mut state = picture(p, None);
    if p.trace.orig_ax != NO_CALL {
        state.regs.ax = Errno::ENOSYS.0.wrapping_neg() as u32;
    }
    state
}

/// Shows the thread as it is, standing nowhere in particular.
fn picture(p: &Process, call: Option<&Call>) -> State {
    let cpu = &p.machine.cpu;
    let mut regs = registers(cpu, p.trace.orig_ax);
    if let Some(call) = call {
        regs.ax = call.shown();
        regs.orig_ax = call.nr;
    }
    let mask = p.signals.saved_mask.unwrap_or(p.signals.mask);
    State {
        stop: stop::NONE,
        status: 0,
        message: 0,
        resume: request::CONT,
        inject: 0,
        changed: 0,
        mask: mask.0,
        info: [0; signal::info::SIZE],
        regs,
        tls: std::array::from_fn(|index| cpu.descriptors.gdt[TLS_FIRST as usize + index]),
        debug: p.trace.watches.registers(),
        fsave: cpu.fpu.save32(),
        fxsave: fxsave(cpu),
        call: [regs.orig_ax, regs.bx, regs.cx, regs.dx, regs.si, regs.di, regs.bp],
    }
}

/// The FXSAVE image with zeros where the processor leaves room.
fn fxsave(cpu: &Cpu) -> [u8; 512] {
    let mut image = [0; 512];
    let stored = cpu.fxsave();
    image[..stored.len()].copy_from_slice(&stored);
    image
}

/// Both images of the floating-point state, from either.
pub(super) fn float_images(state: &State, from_fsave: bool) -> ([u8; SAVE_32], [u8; 512]) {
    let mut cpu = Cpu::new();
    load_float(&mut cpu, state);
    if from_fsave {
        cpu.fpu.restore32(&state.fsave);
    }
    (cpu.fpu.save32(), fxsave(&cpu))
}

fn load_float(cpu: &mut Cpu, state: &State) {
    if let Some(image) = state.fxsave.first_chunk() {
        cpu.fxrstor(image);
    }
}

/// Where and why a thread stops.
struct Stop {
    kind: u32,
    /// A signal, and above it an event.
    status: u32,
    message: u32,
    info: Info,
    /// The signal that comes when the tracer is gone.
    inject: u32,
}

impl Stop {
    /// A stop that is no signal's: what `PTRACE_GETSIGINFO` shows is made up by the kernel.
    fn notice(kind: u32, status: u32, message: u32) -> Stop {
        let (pid, uid) = (super::super::task::id() as i32, own_uid());
        let info =
            Info { signal: libc::SIGTRAP, errno: 0, code: status as i32, fields: Fields::Kill { pid, uid } };
        Stop { kind, status, message, info, inject: 0 }
    }

    fn event(number: u32, message: u32) -> Stop {
        Stop::notice(stop::EVENT, libc::SIGTRAP as u32 | number << 8, message)
    }
}

fn own_uid() -> u32 {
    super::super::host::call(libc::SYS_getuid, []).unwrap_or(0) as u32
}

/// Stops until the tracer lets the thread go on, and takes over what it has changed. Gives what it wants.
fn halt(p: &mut Process, at: &Stop, call: &mut Option<Call>) -> State {
    let state = picture(p, call.as_ref());
    halt_as(p, at, call, state)
}

/// As [`halt`], in the middle of a system call.
fn halt_in_call(p: &mut Process, at: &Stop) {
    let state = picture_in_call(p);
    let before = p.machine.cpu.regs[reg::EAX];
    let after = halt_as(p, at, &mut None, state);
    if { after.regs.ax } == { state.regs.ax } {
        p.machine.cpu.regs[reg::EAX] = before;
    }
}

fn halt_as(p: &mut Process, at: &Stop, call: &mut Option<Call>, mut state: State) -> State {
    state.stop = at.kind;
    state.status = at.status;
    state.message = at.message;
    state.inject = at.inject;
    state.info = at.info.to_host();
    p.trace.slot.store(&state);
    signal::host::stop_for_tracer();
    let mut after = p.trace.slot.load();
    if after.stop != stop::NONE {
        // Nobody looked: the tracer is gone.
        p.trace.slot.attached.store(0, Ordering::Release);
        p.trace.slot.forget_stop();
        after = State { stop: stop::NONE, ..state };
    }
    p.trace.resume = after.resume;
    see_written(p);
    take_over(p, &after, call);
    after
}

/// Gives up translations of what tracers have written.
pub(in crate::kernel) fn see_written(p: &Process) {
    for (addr, len) in HEADER.take_written() {
        p.machine.memory.code_written(addr, len);
    }
}

/// Loads what the tracer has changed.
fn take_over(p: &mut Process, state: &State, call: &mut Option<Call>) {
    let what = state.changed;
    let cpu = &mut p.machine.cpu;
    if what & changed::TLS != 0 {
        for (index, descriptor) in state.tls.into_iter().enumerate() {
            cpu.descriptors.gdt[TLS_FIRST as usize + index] = descriptor;
        }
        for entry in TLS_FIRST..TLS_FIRST + TLS_COUNT {
            segments::refresh(cpu, (entry << 3) as u16);
        }
    }
    if what & changed::REGS != 0 {
        let regs = state.regs;
        load_registers(p, &regs);
        *call = Call::from_shown(regs.orig_ax, regs.ax, *call);
    }
    if what & changed::FLOAT != 0 {
        load_float(&mut p.machine.cpu, state);
    }
    if what & changed::MASK != 0 {
        match &mut p.signals.saved_mask {
            Some(mask) => *mask = SigSet(state.mask).without_unblockable(),
            None => p.signals.set_mask(SigSet(state.mask)),
        }
    }
    if what & changed::DEBUG != 0 {
        p.trace.watches.set(state.debug, &p.machine.memory);
    }
}

fn load_registers(p: &mut Process, regs: &UserRegs) {
    let cpu = &mut p.machine.cpu;
    cpu.regs = [regs.ax, regs.cx, regs.dx, regs.bx, regs.sp, regs.bp, regs.si, regs.di];
    cpu.eip = regs.ip;
    p.trace.orig_ax = regs.orig_ax;
    let kept = !super::FLAGS;
    cpu.set_eflags(cpu.eflags() & kept | regs.flags & super::FLAGS);
    for (seg, selector) in [(Seg::Gs, regs.gs), (Seg::Fs, regs.fs), (Seg::Ds, regs.ds), (Seg::Es, regs.es)] {
        signal::frame::reload(cpu, seg, selector as u16);
    }
    if cpu.selectors[Seg::Cs as usize] != regs.cs as u16 {
        // Whoever asks for what cannot be loaded finds out when it runs; here it stays as it was.
        let _ = signal::frame::load_code(cpu, regs.cs as u16);
    }
    let ss = regs.ss as u16;
    if cpu.selectors[Seg::Ss as usize] != ss
        && let Ok(base) = cpu.descriptors.load_data(Seg::Ss, ss)
    {
        cpu.selectors[Seg::Ss as usize] = ss;
        cpu.segment_bases[Seg::Ss as usize] = base;
    }
}

/// A signal is about to be delivered. Gives what the tracer makes of it.
pub(in crate::kernel) fn signal_stop(p: &mut Process, info: Info, call: &mut Option<Call>) -> Option<Info> {
    let at =
        Stop { kind: stop::SIGNAL, status: info.signal as u32, message: 0, info, inject: info.signal as u32 };
    let after = halt(p, &at, call);
    let signal = after.inject as i32;
    if signal == 0 {
        return None;
    }
    let shown = Info::from_host(&after.info);
    let info = if shown.signal == signal { shown } else { super::from_tracer(signal) };
    if p.signals.mask.contains(signal) {
        signal::host::requeue(&info);
        return None;
    }
    Some(info)
}

/// Stops with the whole process, as the default action of `signal` is; the host does it.
pub(in crate::kernel) fn group_stop(p: &mut Process, info: &Info) {
    let state = picture(p, None);
    p.trace.slot.store(&state);
    p.trace.pass(info.signal);
    signal::host::requeue_to_self(info);
    resume_from_host(p);
}

/// Goes on after a stop that the host made and the tracer saw: takes over what has changed.
fn resume_from_host(p: &mut Process) {
    let after = p.trace.slot.load();
    p.trace.slot.forget_stop();
    p.trace.resume = after.resume;
    see_written(p);
    take_over(p, &after, &mut None);
}

/// The tracer asked the thread to stop, or a seized thread begins.
pub(in crate::kernel) fn interrupted(p: &mut Process) {
    p.trace.slot.interrupt.store(0, Ordering::Release);
    let mut call = p.interrupted.take();
    if p.trace.is_traced() {
        halt(p, &Stop::event(event::STOP, 0), &mut call);
    }
    p.interrupted = call;
}

/// What the first run of a traced thread stops for: a child that was attached with its parent, or a program that was executed.
pub(in crate::kernel) fn begin(p: &mut Process, is_child: bool) {
    if let Some(executed) = p.trace.executed.take() {
        if p.trace.has_option(option::TRACEEXEC) {
            halt_in_call(p, &Stop::event(event::EXEC, executed.old_tid));
        }
        call_done(p);
        p.trace.leave_call();
    } else if is_child && p.trace.is_traced() && !p.trace.is_seized() {
        p.signals.forced =
            Some(Info { signal: libc::SIGSTOP, errno: 0, code: 0, fields: Fields::Kill { pid: 0, uid: 0 } });
    }
}

/// A task was made that the tracer wants to know of.
pub(in crate::kernel) fn born(p: &mut Process, event: u32, tid: u32) {
    if p.trace.is_traced() {
        halt_in_call(p, &Stop::event(event, tid));
    }
}

/// Before a child is made on this memory: the host stops the thread in the middle of it.
pub(in crate::kernel) fn before_vfork(p: &Process) {
    if p.trace.is_traced() {
        p.trace.slot.store(&picture_in_call(p));
    }
}

/// After [`before_vfork`], when everything is the thread's again.
pub(in crate::kernel) fn after_vfork(p: &mut Process) {
    if p.trace.is_traced() {
        resume_from_host(p);
    }
}

/// The end of the thread.
pub(in crate::kernel) fn exiting(p: &mut Process, code: u32) {
    if p.trace.has_option(option::TRACEEXIT) {
        halt_in_call(p, &Stop::event(event::EXIT, code));
    }
}

fn notice_of_call(p: &Process, kind: u32) -> Stop {
    let good = if p.trace.has_option(option::TRACESYSGOOD) { 0x80 } else { 0 };
    Stop::notice(kind, libc::SIGTRAP as u32 | good, u32::from(kind == stop::EXIT) + 1)
}

/// Sends what the tracer gave at the stop of a call.
fn send(state: &State) {
    if state.inject != 0 {
        signal::host::requeue_to_self(&super::from_tracer(state.inject as i32));
    }
}

/// Before the system call `nr`: gives the number of the call to be made; `None` if there is none.
pub(in crate::kernel) fn call_begins(p: &mut Process, nr: u32) -> Option<u32> {
    p.trace.orig_ax = nr;
    if !p.trace.is_traced() {
        return Some(nr);
    }
    let resume = p.trace.resume;
    let emulated = matches!(resume, request::SYSEMU | request::SYSEMU_SINGLESTEP);
    if !emulated && resume != request::SYSCALL {
        return Some(nr);
    }
    p.machine.cpu.regs[reg::EAX] = Errno::ENOSYS.0.wrapping_neg() as u32;
    let at = notice_of_call(p, stop::ENTRY);
    let after = halt(p, &at, &mut None);
    send(&after);
    let nr = p.trace.orig_ax;
    (!emulated && nr as i32 >= 0).then_some(nr)
}

/// Behind a system call, whose result is in EAX or still to come.
pub(in crate::kernel) fn call_done(p: &mut Process) {
    if !p.trace.is_traced() {
        return;
    }
    if p.trace.resume == request::SYSCALL {
        let mut call = p.interrupted.take();
        let at = notice_of_call(p, stop::EXIT);
        let after = halt(p, &at, &mut call);
        p.interrupted = call;
        send(&after);
    } else if p.trace.steps() && p.signals.forced.is_none() {
        let eip = p.machine.cpu.eip;
        p.signals.forced = Some(Info::fault(libc::SIGTRAP, signal::fault::code::TRAP_BRKPT, eip));
    }
}

/// A frame was restored: the thread comes from no call any more.
pub(in crate::kernel) fn call_forgotten(p: &mut Process) {
    p.trace.orig_ax = NO_CALL;
}

/// Before an instruction that is run alone: gives whether the thread has to stop in front of it.
pub(in crate::kernel) fn before_step(p: &mut Process) -> bool {
    let hit = p.trace.is_traced() && p.trace.watches.before(p.machine.cpu.eip, &p.machine.memory);
    if hit {
        trap(p, signal::fault::code::TRAP_HWBKPT);
    }
    hit
}

/// An instruction was run alone.
pub(in crate::kernel) fn after_step(p: &mut Process) {
    if !p.trace.is_traced() {
        return;
    }
    let watched = p.trace.watches.after(&p.machine.memory);
    if p.trace.steps() {
        p.trace.watches.stepped();
        trap(p, signal::fault::code::TRAP_TRACE);
    } else if watched {
        trap(p, signal::fault::code::TRAP_HWBKPT);
    }
}

fn trap(p: &mut Process, code: i32) {
    let eip = p.machine.cpu.eip;
    signal::fault::raise_debug(p, code, eip);
}

/// A handler is about to run its first instruction, at which a stepping tracer wants to be asked.
pub(in crate::kernel) fn handler_begins(p: &mut Process) {
    if p.trace.is_traced() && p.trace.steps() {
        p.trace.leave_call();
        halt(p, &Stop::notice(stop::EVENT, libc::SIGTRAP as u32, 0), &mut None);
    }
}

/// The segments of `NT_386_TLS`.
pub(super) fn tls_view(state: &State) -> [UserDesc; TLS_COUNT as usize] {
    let tls = state.tls;
    std::array::from_fn(|index| segments::description(TLS_FIRST + index as u32, tls[index]))
}

/// What `PTRACE_GET_SYSCALL_INFO` shows, and how many bytes of it there are.
pub(super) fn syscall_info(state: &State) -> (Vec<u8>, usize) {
    const AUDIT_ARCH_I386: u32 = 0x4000_0003;
    let regs = state.regs;
    let mut info = SyscallInfo {
        op: 0,
        arch: AUDIT_ARCH_I386,
        instruction_pointer: regs.ip.into(),
        stack_pointer: regs.sp.into(),
        ..SyscallInfo::ZERO
    };
    let mut len = 24;
    let traps = state.status & 0x7f == libc::SIGTRAP as u32;
    match state.stop {
        stop::ENTRY if traps => {
            info.op = 1;
            info.nr = regs.orig_ax.into();
            info.args = [regs.bx, regs.cx, regs.dx, regs.si, regs.di, regs.bp].map(u64::from);
            len = size_of::<SyscallInfo>();
        }
        stop::EXIT if traps => {
            info.op = 2;
            let failed = regs.ax > 0xffff_f000;
            info.nr = i64::from(regs.ax as i32) as u64;
            info.args[0] = failed.into();
            len = 33;
        }
        _ => {}
    }
    (crate::memory::bytes_of(&info).to_vec(), len)
}
