//! Tasks: making them (clone(2), fork(2), vfork(2)), and what each has for itself.
//!
//! A guest process is a host process and a guest thread a host thread, with the same ids. `vfork` is the real one: the child runs on the parent's
//! memory and on the parent's [`Process`] while the parent waits inside its call, which takes its own state back
//! afterwards.

pub mod exit;
pub mod group;
mod host;
pub mod robust;
mod thread;
pub mod wait;

pub use group::Group;

use super::abi::{CloneArgs, UserDesc};
use super::args::{Fd, GuestPtr};
use super::errno::Errno;
use super::process::{Options, Process};
use super::ptrace::{self, Tracing};
use super::signal;
use super::{prctl, segments};
use crate::cpu::{Cpu, FlagState, V128, reg};
use std::cell::Cell;
use std::sync::Arc;

/// Flags of clone(2) that are looked at here; the others are the host's.
mod flag {
    pub const CSIGNAL: u64 = 0xff;
    pub const VM: u64 = 0x100;
    pub const FS: u64 = 0x200;
    pub const FILES: u64 = 0x400;
    pub const SIGHAND: u64 = 0x800;
    pub const PIDFD: u64 = 0x1000;
    pub const VFORK: u64 = 0x4000;
    pub const THREAD: u64 = 0x1_0000;
    pub const SYSVSEM: u64 = 0x4_0000;
    pub const SETTLS: u64 = 0x8_0000;
    pub const PARENT_SETTID: u64 = 0x10_0000;
    pub const CHILD_CLEARTID: u64 = 0x20_0000;
    pub const DETACHED: u64 = 0x40_0000;
    pub const CHILD_SETTID: u64 = 0x100_0000;
    /// `CLONE_CLEAR_SIGHAND`, of clone3 only.
    pub const CLEAR_SIGHAND: u64 = 0x1_0000_0000;
    /// `CLONE_INTO_CGROUP`, of clone3 only.
    pub const INTO_CGROUP: u64 = 0x2_0000_0000;
    /// What the emulator does itself: the host's call would use host addresses.
    pub const OWN: u64 =
        VFORK | SETTLS | PARENT_SETTID | CHILD_CLEARTID | CHILD_SETTID | CLEAR_SIGHAND | PIDFD;
}

/// Lowest address that may be mapped, unless the system says otherwise (`vm.mmap_min_addr`).
const MMAP_MIN_ADDR: u32 = 0x1_0000;

/// What a task has for itself.
#[derive(Clone, Debug)]
pub struct Task {
    /// Guest address that is cleared and woken at the task's end; 0: none.
    pub clear_child_tid: u32,
    /// Guest address of the list of robust futexes; 0: none.
    pub robust_list: u32,
    /// personality(2).
    pub personality: u32,
    /// Lowest address that may be mapped.
    pub lowest_mapping: u32,
    /// This is a vfork child, on its parent's memory.
    pub borrows_memory: bool,
}

impl Task {
    /// A program's first task.
    pub fn new(exec_stack: bool) -> Task {
        let implied = if exec_stack { prctl::READ_IMPLIES_EXEC } else { 0 };
        Task {
            clear_child_tid: 0,
            robust_list: 0,
            personality: prctl::inherited_personality() | implied,
            lowest_mapping: lowest_mapping(),
            borrows_memory: false,
        }
    }
}

/// `vm.mmap_min_addr`, or 0 for those who may map anything (`CAP_SYS_RAWIO`).
fn lowest_mapping() -> u32 {
    const CAP_SYS_RAWIO: u32 = 17;
    if host::has_capability(CAP_SYS_RAWIO) {
        return 0;
    }
    std::fs::read_to_string("/proc/sys/vm/mmap_min_addr")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(MMAP_MIN_ADDR)
}

/// What ends with a program: held robust futexes are given up.
pub(super) fn before_exec(p: &mut Process) {
    robust::release(p);
}

/// The calling thread's id.
pub(crate) fn id() -> u32 {
    host::gettid()
}

/// The name by which the host executed this program (`AT_EXECFN`).
pub(super) fn executed_name() -> Option<std::ffi::CString> {
    host::executed_name()
}

/// What a new task is to be.
#[derive(Clone, Copy, Debug, Default)]
struct Request {
    flags: u64,
    exit_signal: u32,
    /// ESP of the child; 0: the parent's.
    stack: u32,
    parent_tid: u32,
    child_tid: u32,
    pidfd: u32,
    /// Guest address of a `user_desc`.
    tls: u32,
    /// What the host alone can do.
    host: HostRequest,
}

/// Levels of process id namespaces (`MAX_PID_NS_LEVEL`).
const PID_LEVELS: usize = 32;

/// What clone3(2) hands on to the host.
#[derive(Clone, Copy, Debug, Default)]
struct HostRequest {
    /// Ids for the new task, from the innermost namespace outwards.
    set_tid: [i32; PID_LEVELS],
    /// How many of them there are.
    set_tid_len: usize,
    /// The control group to be born in, with `CLONE_INTO_CGROUP`: a descriptor.
    cgroup: i32,
}

impl HostRequest {
    /// Whether clone(2) would do.
    fn is_none(&self, flags: u64) -> bool {
        self.set_tid_len == 0 && flags & flag::INTO_CGROUP == 0
    }
}

/// fork(2).
pub fn fork(p: &mut Process) -> Result<u32, Errno> {
    create(p, Request { exit_signal: libc::SIGCHLD as u32, ..Request::default() })
}

/// vfork(2).
pub fn vfork(p: &mut Process) -> Result<u32, Errno> {
    let flags = flag::VM | flag::VFORK;
    create(p, Request { flags, exit_signal: libc::SIGCHLD as u32, ..Request::default() })
}

/// clone(2), with i386's order of arguments.
pub fn clone(
    p: &mut Process,
    flags: u32,
    stack: u32,
    parent_tid: u32,
    tls: u32,
    child_tid: u32,
) -> Result<u32, Errno> {
    let exit_signal = flags & flag::CSIGNAL as u32;
    let flags = u64::from(flags) & !flag::CSIGNAL & !flag::DETACHED;
    // The pidfd goes where the parent's tid would.
    if flags & flag::PIDFD != 0 && flags & flag::PARENT_SETTID != 0 {
        return Err(Errno::EINVAL);
    }
    let request = Request { flags, exit_signal, stack, parent_tid, child_tid, tls, ..Request::default() };
    create(p, Request { pidfd: parent_tid, ..request })
}

/// Smallest `clone_args`: its first version.
const CLONE_ARGS_MIN: u32 = 64;
/// The version that has a control group.
const CLONE_ARGS_CGROUP: u32 = 88;

/// clone3(2). A thread's id and control group cannot be chosen.
pub fn clone3(p: &mut Process, args: u32, size: u32) -> Result<u32, Errno> {
    let full = size_of::<CloneArgs>() as u32;
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_MIN {
        return Err(Errno::EINVAL);
    }
    let memory = &p.machine.memory;
    let mut words = [0u64; size_of::<CloneArgs>() / 8];
    for (index, word) in words.iter_mut().enumerate().take((size.min(full) / 8) as usize) {
        *word = memory.read(args.wrapping_add(8 * index as u32))?;
    }
    // Later versions are good as long as they ask for nothing new.
    for at in full..size {
        if memory.read::<u8>(args.wrapping_add(at))? != 0 {
            return Err(Errno::E2BIG);
        }
    }
    let [
        flags,
        pidfd,
        child_tid,
        parent_tid,
        exit_signal,
        stack,
        stack_size,
        tls,
        set_tid,
        set_tid_size,
        cgroup,
    ] = words;
    let addr = |value: u64| u32::try_from(value).map_err(|_| Errno::EINVAL);
    if set_tid_size > PID_LEVELS as u64
        || (set_tid == 0) != (set_tid_size == 0)
        || exit_signal & !flag::CSIGNAL != 0
        || exit_signal > signal::SIGNALS as u64
        || flags & flag::INTO_CGROUP != 0 && (cgroup > i32::MAX as u64 || size < CLONE_ARGS_CGROUP)
    {
        return Err(Errno::EINVAL);
    }
    let cgroup = Fd::new(cgroup as u32).0;
    let mut host = HostRequest { set_tid_len: set_tid_size as usize, cgroup, ..HostRequest::default() };
    if set_tid_size > 0 {
        let at = u32::try_from(set_tid).map_err(|_| Errno::EFAULT)?;
        let ids = GuestPtr::<i32>::new(at).read_array(memory, set_tid_size as u32)?;
        host.set_tid[..ids.len()].copy_from_slice(&ids);
    }
    if flags & (flag::CSIGNAL | flag::DETACHED) != 0
        || (stack == 0) != (stack_size == 0)
        || flags & flag::THREAD != 0 && (exit_signal != 0 || !host.is_none(flags))
    {
        return Err(Errno::EINVAL);
    }
    let request = Request {
        flags,
        exit_signal: exit_signal as u32,
        stack: if stack == 0 { 0 } else { addr(stack)?.wrapping_add(addr(stack_size)?) },
        parent_tid: addr(parent_tid)?,
        child_tid: addr(child_tid)?,
        pidfd: addr(pidfd)?,
        tls: addr(tls)?,
        host,
    };
    create(p, request)
}

fn create(p: &mut Process, request: Request) -> Result<u32, Errno> {
    let Request { flags, .. } = request;
    let needs = |what: u64, needed: u64| flags & what != 0 && flags & needed == 0;
    if needs(flag::THREAD, flag::SIGHAND)
        || needs(flag::SIGHAND, flag::VM)
        || flags & flag::SIGHAND != 0 && flags & flag::CLEAR_SIGHAND != 0
        || flags & flag::THREAD != 0 && flags & flag::PIDFD != 0
    {
        return Err(Errno::EINVAL);
    }
    if flags & flag::VM == 0 {
        create_process(p, &request)
    } else if flags & flag::THREAD != 0 {
        thread::create(p, &request)
    } else if flags & flag::VFORK != 0 {
        create_borrower(p, &request)
    } else {
        thread::create_sharer(p, &request)
    }
}

/// The thread-local storage that `CLONE_SETTLS` asks for, checked.
fn tls(p: &Process, request: &Request) -> Result<Option<UserDesc>, Errno> {
    if request.flags & flag::SETTLS == 0 {
        return Ok(None);
    }
    GuestPtr::new(request.tls).read(&p.machine.memory).map(Some)
}

/// fork and what is like it: the child has a copy of everything.
fn create_process(p: &mut Process, request: &Request) -> Result<u32, Errno> {
    let tls = tls(p, request)?;
    let flags = request.flags & !flag::OWN;
    let pidfd = Cell::new(-1);
    let birth = p.trace.birth(request.flags, request.exit_signal);
    let host_flags = flags | request.flags & (flag::PIDFD | flag::VFORK);
    signal::host::block_all();
    let child = fork_whole(p, || host::fork(host_flags, request, &pidfd));
    match child {
        Ok(0) => {
            ptrace::in_child();
            p.trace = Tracing::of_child(birth.map(|(_, inherited)| inherited));
            p.group = Arc::default();
            p.group.enter(host::gettid());
            if p.debugger.take().is_some() {
                p.machine.breakpoints().clear();
            }
            p.signals = p.signals.for_child();
            p.task.robust_list = 0;
            p.task.clear_child_tid = 0;
            signal::host::attach(&mut p.signals, &p.machine.cpu);
            if request.flags & flag::CLEAR_SIGHAND != 0 {
                signal::action::reset_handlers(p);
            }
            p.attach_observer();
            ptrace::tracee::begin(p, true);
            p.machine.memory.forked()?;
            start_child(p, request, tls)
        }
        result => {
            signal::host::apply_mask(&p.signals);
            let pid = result?;
            if let Some((event, _)) = birth {
                ptrace::tracee::born(p, event, pid);
            }
            report(p, request, pid, pidfd.get())
        }
    }
}

/// Calls `fork` while no other thread is changing anything that the child needs, with all locks held, in the order that is
/// theirs everywhere.
fn fork_whole(p: &Process, fork: impl FnOnce() -> Result<u32, Errno>) -> Result<u32, Errno> {
    let _observer = p.observer.as_ref().map(|observer| observer.lock());
    let _group = p.group.hold();
    let files = p.files.hold();
    let _common = p.common.hold();
    let _actions = p.signals.actions.hold();
    let _ldt = p.machine.cpu.descriptors.ldt.read();
    let machine = p.machine.lock_for_fork();
    let _memory = p.machine.memory.lock_for_fork();
    let child = fork();
    if child == Ok(0) {
        machine.in_child();
        files.in_child();
    }
    child
}

/// vfork and `CLONE_VM | CLONE_VFORK`: the child has the parent's memory, and the parent waits.
fn create_borrower(p: &mut Process, request: &Request) -> Result<u32, Errno> {
    let tls = tls(p, request)?;
    let flags = request.flags & (!flag::OWN | flag::PIDFD) | flag::VM | flag::VFORK;
    let pidfd = Cell::new(-1);
    let birth = p.trace.birth(request.flags, request.exit_signal);
    ptrace::tracee::before_vfork(p);
    let kept = Kept::of(p);
    signal::host::block_all();
    let mut parents = None;
    let child = host::vfork(flags, request, &pidfd, p, |p| {
        let trace = Tracing::of_child(birth.map(|(_, inherited)| inherited));
        parents = Some(std::mem::replace(&mut p.trace, trace));
        p.signals = p.signals.for_child();
        p.signals.shielded = true;
        p.task.borrows_memory = true;
        p.debugger = None;
        p.task.robust_list = 0;
        p.task.clear_child_tid = 0;
        p.interrupted = None;
        p.group = Arc::default();
        if request.flags & flag::FILES == 0 {
            p.files = p.files.copy();
        }
        signal::host::attach(&mut p.signals, &p.machine.cpu);
        if request.flags & flag::CLEAR_SIGHAND != 0 {
            signal::action::reset_handlers(p);
        }
        p.attach_observer();
        match start_child(p, request, tls) {
            Ok(value) => p.machine.cpu.regs[reg::EAX] = value,
            Err(errno) => p.machine.cpu.regs[reg::EAX] = errno.0.wrapping_neg() as u32,
        }
        ptrace::tracee::begin(p, true);
        p.run_attached();
        p.group.wait()
    });
    p.machine.abandoned();
    kept.put_back(p);
    if let Some(trace) = parents {
        p.trace = trace;
    }
    signal::host::attach(&mut p.signals, &p.machine.cpu);
    ptrace::tracee::after_vfork(p);
    let pid = child?;
    report(p, request, pid, pidfd.get())
}

/// What the child does before it runs: its stack, thread-local storage, and the word that shows its id.
fn start_child(p: &mut Process, request: &Request, tls: Option<UserDesc>) -> Result<u32, Errno> {
    if request.stack != 0 {
        p.machine.cpu.regs[reg::ESP] = request.stack;
    }
    if let Some(desc) = tls {
        segments::set_tls(&mut p.machine.cpu, &desc, false)?;
    }
    if request.flags & flag::VM == 0 || request.flags & (flag::VFORK | flag::THREAD) == flag::VFORK {
        show_id(p, request, host::gettid());
    } else {
        p.machine.cpu.regs[reg::EAX] = 0;
    }
    Ok(0)
}

/// Writes the child's id where the child is to find it. As in Linux, a bad address is the child's loss.
fn show_id(p: &mut Process, request: &Request, tid: u32) {
    if request.flags & flag::CHILD_SETTID != 0 {
        let _ = p.machine.memory.write(request.child_tid, tid);
    }
    if request.flags & flag::CHILD_CLEARTID != 0 {
        set_own_tid_address(p, request.child_tid);
    }
    // On memory of its own, only the parent is to see it.
    if request.flags & flag::PARENT_SETTID != 0 && request.flags & flag::VM != 0 {
        let _ = p.machine.memory.write(request.parent_tid, tid);
    }
}

/// What the parent is told.
fn report(p: &mut Process, request: &Request, pid: u32, pidfd: i32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    if request.flags & flag::PARENT_SETTID != 0 {
        let _ = memory.write(request.parent_tid, pid);
    }
    if request.flags & flag::PIDFD != 0 {
        memory.write(request.pidfd, pidfd)?;
    }
    Ok(pid)
}

/// set_tid_address(2): the host clears and wakes the guest's word at the end of the task.
pub fn set_tid_address(p: &mut Process, address: u32) -> Result<u32, Errno> {
    Ok(set_own_tid_address(p, address))
}

/// A process's first thread ends with the host's, which then does it even if it is killed; the others' word on the host is
/// libc's.
fn set_own_tid_address(p: &mut Process, address: u32) -> u32 {
    p.task.clear_child_tid = address;
    let tid = host::gettid();
    if tid == std::process::id() { host::set_tid_address(&p.machine.memory, address) } else { tid }
}

/// The state that a vfork child changes and its parent wants back.
struct Kept {
    cpu: Registers,
    signals: signal::Signals,
    task: Task,
    files: super::files::Files,
    group: Arc<Group>,
    options: Arc<Options>,
    observer: Option<super::process::SharedObserver>,
    debugger: Option<Arc<dyn super::debugger::Debugger>>,
    private: super::host::PrivateTable,
}

impl Kept {
    fn of(p: &mut Process) -> Kept {
        let copy = p.signals.for_child();
        Kept {
            cpu: Registers::of(&p.machine.cpu),
            // What waits in the inbox is the parent's.
            signals: std::mem::replace(&mut p.signals, copy),
            task: p.task.clone(),
            files: p.files.clone(),
            group: Arc::clone(&p.group),
            options: Arc::clone(&p.options),
            observer: p.observer.clone(),
            debugger: p.debugger.clone(),
            private: super::host::PrivateTable::save(),
        }
    }

    fn put_back(self, p: &mut Process) {
        self.cpu.put_back(&mut p.machine.cpu);
        p.signals = self.signals;
        p.task = self.task;
        p.files = self.files;
        p.group = self.group;
        p.options = self.options;
        p.observer = self.observer;
        p.debugger = self.debugger;
        self.private.restore();
        p.end = None;
        p.ends_alone = false;
        p.interrupted = None;
    }
}

/// The processor as a program sees it; what the engine keeps beside it stays valid.
struct Registers {
    regs: [u32; 8],
    eip: u32,
    flags: FlagState,
    system_flags: u32,
    segment_bases: [u32; 8],
    selectors: [u16; 6],
    cr2: u32,
    tsd: bool,
    descriptors: crate::cpu::Descriptors,
    fpu: crate::fpu::Fpu,
    xmm: [V128; 8],
    mxcsr: u32,
    cpuid: crate::isa::CpuModel,
}

impl Registers {
    fn of(cpu: &Cpu) -> Registers {
        Registers {
            regs: cpu.regs,
            eip: cpu.eip,
            flags: cpu.flags,
            system_flags: cpu.system_flags,
            segment_bases: cpu.segment_bases,
            selectors: cpu.selectors,
            cr2: cpu.cr2,
            tsd: cpu.tsd,
            descriptors: cpu.descriptors.clone(),
            fpu: cpu.fpu,
            xmm: cpu.xmm,
            mxcsr: cpu.mxcsr,
            cpuid: cpu.cpuid,
        }
    }

    fn put_back(self, cpu: &mut Cpu) {
        cpu.regs = self.regs;
        cpu.eip = self.eip;
        cpu.flags = self.flags;
        cpu.system_flags = self.system_flags;
        cpu.segment_bases = self.segment_bases;
        cpu.selectors = self.selectors;
        cpu.cr2 = self.cr2;
        cpu.tsd = self.tsd;
        cpu.descriptors = self.descriptors;
        cpu.fpu = self.fpu;
        cpu.xmm = self.xmm;
        cpu.mxcsr = self.mxcsr;
        cpu.cpuid = self.cpuid;
    }
}
