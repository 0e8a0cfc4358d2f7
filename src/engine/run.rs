//! The run loop: finds or makes translations, runs them, and turns what made them return into a reason to stop.

use super::hook::{Breakpoints, Hook};
use super::op::{Ext, Op};
use super::path::{MAX_INSNS, Mode};
use super::recover;
use super::shared::{Gate, SharedCode, Still};
use super::tally::Tally;
use super::translate::{Location, MAX_SLOTS, Settings, Translations};
use crate::cpu::fault::page_fault;
use crate::cpu::{Cpu, Exit, Fault, FaultKind, Seg, eflags, reg};
use crate::fpu::Backend;
use crate::fpu::notes;
use crate::isa::decode::{MAX_LEN, operand_bytes};
use crate::isa::{Access, Code, Flow, Insn, Operand, Rep, Size, decode, flag};
use crate::memory::{Memory, page};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Instructions before the limit at which the loop changes to single steps: a whole block may still run, and the flags that
/// it left out are complete some instructions later.
const MARGIN: u64 = MAX_INSNS as u64 + 32;

/// More bytes than any access has that must lie within a segment as a whole.
const LONGEST_ACCESS: u32 = 512;

/// Why the CPU stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An exception or software interrupt. EIP is at the instruction for faults, behind it for traps ([`Fault::is_trap`]); the
    /// address of a #PF is in [`Cpu::cr2`].
    Exception(Fault),
    /// An access that the host could not satisfy (SIGBUS): beyond the end of a mapped file. Address in [`Cpu::cr2`].
    Bus(Fault),
    /// As many instructions as allowed are done.
    Limit,
    /// [`Cpu::request_stop`] was called.
    Requested,
    /// One of [`Machine::breakpoints`] is at EIP.
    Breakpoint,
    /// The hook wants a stop before the instruction at EIP.
    Hook,
}

/// How often an access that should succeed is tried again before its fault is believed.
const MOST_RETRIES: u32 = 100;

/// What the processors of one guest have in common: memory and translations.
pub struct Shared {
    memory: Arc<Memory>,
    code: Arc<SharedCode>,
    settings: Settings,
    hook: Option<Box<dyn Hook>>,
}

/// F3, which repeats CMPS and SCAS while equal.
const REPE: u8 = 0xf3;

/// A repeated string instruction of which one element is done at a time.
struct Repetition {
    insn: Insn,
    /// ECX before it.
    ecx: u32,
    /// What of ECX counts.
    mask: u32,
    /// EFLAGS before it, which stay until the last element.
    flags: u32,
}

impl Shared {
    /// Another machine on the same memory, at reset: see [`Cpu::new`]. Belongs to the calling thread. Fails when the host has no
    /// address space for it.
    pub fn machine(self) -> std::io::Result<Machine> {
        let mut cpu = Cpu::new();
        cpu.pages = self.memory.pages();
        if !self.settings.specialise {
            // By Rust's operators and in software, too.
            cpu.host_floats = 0;
            cpu.host_features = 0;
        }
        #[cfg(trap_memory)]
        {
            cpu.live.allowed = self.settings.fpu == Backend::Live;
        }
        let mode = Mode::of(&cpu);
        recover::prepare_thread();
        let tally = if self.settings.count { Some(Tally::new()?) } else { None };
        if let Some(tally) = &tally {
            cpu.tallies = tally.counters();
        }
        Ok(Machine {
            cpu,
            single: Translations::new(
                Settings { stitch: false, warm: 0, count: false, ..self.settings },
                MAX_SLOTS,
            )?,
            gate: self.code.join(),
            changes: 0,
            flushes: 0,
            mode,
            memory: self.memory,
            code: self.code,
            settings: self.settings,
            stepping: false,
            retried: (0, 0),
            hook: self.hook,
            tally,
        })
    }
}

/// Keeps the translations as they are; see [`Machine::lock_for_fork`].
pub struct ForkGuard<'a> {
    code: Still<'a>,
    gate: &'a Arc<Gate>,
}

impl ForkGuard<'_> {
    /// In the child: only the machine that was locked by is there.
    pub fn in_child(mut self) {
        self.code.forget_others(self.gate);
    }
}

/// A branch that may be linked, if blocks have not changed since.
#[derive(Clone, Copy)]
struct Patch {
    ext: *mut Ext,
    changes: u64,
}

/// A CPU with its memory and translations, which it may share with others ([`Machine::shared`]).
pub struct Machine {
    /// The processor's state.
    pub cpu: Box<Cpu>,
    /// The guest's memory.
    pub memory: Arc<Memory>,
    code: Arc<SharedCode>,
    settings: Settings,
    gate: Arc<Gate>,
    /// The single step that is under way.
    single: Translations,
    /// [`SharedCode::changes`] when the block to be run was found.
    changes: u64,
    /// [`Locked::flushes`] when the caches of targets were valid.
    flushes: u64,
    mode: Mode,
    stepping: bool,
    /// The instruction (by the count) whose fault was none last, and how often it was tried again.
    retried: (u64, u32),
    pub(super) hook: Option<Box<dyn Hook>>,
    tally: Option<Tally>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.code.part(&self.gate);
    }
}

impl Machine {
    /// How often a block runs before a good translation pays: about what that takes in time.
    pub const WARM: u32 = 200;

    /// A machine at reset: see [`Cpu::new`]. Fails when the host has no address space for translations.
    pub fn new(memory: Arc<Memory>) -> std::io::Result<Machine> {
        let fpu = Backend::default();
        let settings = Settings { specialise: true, stitch: true, warm: 0, count: false, fpu };
        Machine::with_settings(memory, settings)
    }

    /// A machine that uses only generic handlers: slower, to be compared with.
    pub fn generic(memory: Arc<Memory>) -> std::io::Result<Machine> {
        let fpu = Backend::Soft;
        let settings = Settings { specialise: false, stitch: false, warm: 0, count: false, fpu };
        Machine::with_settings(memory, settings)
    }

    /// A machine that translates quickly first, and well what has run for a while: for whole programs, most of whose code runs
    /// a few times only.
    /// `warm` is how often a block has to run, 1 or more; [`Machine::WARM`] pays best.
    pub fn tiered(memory: Arc<Memory>, warm: u32) -> std::io::Result<Machine> {
        let fpu = Backend::default();
        let settings = Settings { specialise: true, stitch: true, warm: warm.max(1), count: false, fpu };
        Machine::with_settings(memory, settings)
    }

    /// As [`Machine::tiered`], and it counts how often each instruction is executed: see [`Machine::drain_counts`].
    pub fn counting(memory: Arc<Memory>, warm: u32) -> std::io::Result<Machine> {
        let fpu = Backend::default();
        let settings = Settings { specialise: true, stitch: true, warm, count: true, fpu };
        Machine::with_settings(memory, settings)
    }

    /// Chooses what computes for the x87, on this machine and those made of [`Machine::shared`] from now on. A backend that is not
    /// available is not used.
    pub fn set_fpu(&mut self, backend: Backend) {
        self.settings.fpu = if backend.is_available() { backend } else { Backend::Soft };
        #[cfg(trap_memory)]
        {
            self.cpu.live.allowed = self.settings.fpu == Backend::Live;
        }
        self.code.lock().set_fpu(self.settings.fpu);
    }

    fn with_settings(memory: Arc<Memory>, settings: Settings) -> std::io::Result<Machine> {
        Shared { memory, code: SharedCode::new(settings)?, settings, hook: None }.machine()
    }

    /// What other machines need to run on the same memory and translations, each on a thread of its own.
    pub fn shared(&self) -> Shared {
        let (memory, code) = (Arc::clone(&self.memory), Arc::clone(&self.code));
        let hook = self.hook.as_ref().and_then(|hook| hook.for_thread());
        Shared { memory, code, settings: self.settings, hook }
    }

    /// Gives what has been counted since the last time: address and row (index into [`FORMS`](crate::isa::FORMS)) of an
    /// instruction, and how often more it was executed; perhaps several times for one, and perhaps as a correction downwards. All
    /// together are exact. Nothing unless the machine was made by [`Machine::counting`].
    pub fn drain_counts(&self, each: impl FnMut(u32, u16, i64)) {
        if let Some(tally) = &self.tally {
            tally.drain(self.code.lock().sites(), each);
        }
    }

    /// Where this machine and those that share its translations stop ([`Stop::Breakpoint`]).
    pub fn breakpoints(&self) -> Breakpoints {
        Breakpoints(Arc::clone(&self.code))
    }

    /// Waits until no thread changes the translations and keeps it so: held across `fork(2)`, it lets the child find them
    /// whole. To be taken before [`Memory::lock_for_fork`].
    pub fn lock_for_fork(&self) -> ForkGuard<'_> {
        ForkGuard { code: self.code.hold_still(), gate: &self.gate }
    }

    /// Says that the machine runs no handlers, after a thread that ran it is gone.
    pub(crate) fn abandoned(&mut self) {
        self.gate.reset();
        self.cpu.notes = notes::Notes::NONE;
        // It was that thread's FPU which had the state.
        #[cfg(trap_memory)]
        {
            self.cpu.live.on = false;
        }
    }

    /// Executes `max` instructions at most.
    pub fn run(&mut self, max: u64) -> Stop {
        let end = self.cpu.count.saturating_add(max);
        if let Some(mut hook) = self.hook.take()
            && let Some(stop) = self.run_hooked(&mut *hook, end)
        {
            self.hook = Some(hook);
            return stop;
        }
        let mut patch = None;
        loop {
            if self.memory.has_dirty_code() {
                self.forget_dirty_code(None);
            }
            if self.cpu.count >= end {
                return Stop::Limit;
            }
            let near_end = end - self.cpu.count <= MARGIN;
            if near_end || self.cpu.system_flags & eflags::TF != 0 {
                patch = None;
                if self.code.lock().breakpoints().contains(&self.cpu.eip) {
                    return Stop::Breakpoint;
                }
                if let Some(stop) = self.try_step() {
                    return stop;
                }
                continue;
            }
            let mode = Mode::of(&self.cpu);
            if mode != self.mode {
                self.mode = mode;
                self.clear_caches();
                patch = None;
            }
            let entry = self.entry(patch.take());
            self.cpu.limit_of_runs().store(end - MARGIN, Ordering::Relaxed);
            if self.settings.count {
                // A single step may have set it.
                self.cpu.limit.store(u64::MAX, Ordering::Relaxed);
            }
            // A stop that is requested from here on sets the limit again.
            if !self.code.enter(&self.gate, &mut self.cpu, self.changes) {
                continue;
            }
            if self.take_stop_request() {
                self.code.leave(&self.gate);
                return self.settle().unwrap_or(Stop::Requested);
            }
            self.enter(entry);
            let faulted = matches!(self.cpu.exit, Exit::Fault | Exit::Bus | Exit::Breakpoint);
            // Blocks may be freed as soon as the gate is left.
            let location = if faulted {
                let code = self.code.lock();
                if self.cpu.exit != Exit::Breakpoint {
                    code.make_good(&mut self.cpu);
                }
                code.locate(self.cpu.exit_op)
            } else {
                None
            };
            #[cfg(trap_memory)]
            if let Some(Location { run: run @ 1.., .. }) = location {
                let op = self.cpu.exit_op;
                // SAFETY: the translator has put so many before the op.
                unsafe { notes::settle_run(&mut self.cpu, op, run) };
            }
            self.code.leave(&self.gate);
            match self.cpu.exit {
                Exit::Jump => {}
                Exit::Link => patch = Some(Patch { ext: self.cpu.patch, changes: self.changes }),
                Exit::Limit | Exit::Warm => {}
                Exit::Modified => self.forget_entry(),
                Exit::Breakpoint => {
                    if let Some(at) = location {
                        if let (Some(tally), Some(site)) = (&self.tally, at.site) {
                            tally.left(site, at.done);
                        }
                        self.cpu.eip = at.eip;
                        self.cpu.count += u64::from(at.done);
                    }
                    return Stop::Breakpoint;
                }
                Exit::Fault | Exit::Bus => {
                    if let Some(stop) = self.fault(location) {
                        return stop;
                    }
                }
            }
        }
    }

    /// Whether somebody asked for a stop ([`Cpu::request_stop`]) since the last time.
    pub fn take_stop_request(&self) -> bool {
        self.cpu.stop_requested.load(Ordering::SeqCst)
            && self.cpu.stop_requested.swap(false, Ordering::SeqCst)
    }

    /// Forgets where indirect jumps and returns lead.
    fn clear_caches(&mut self) {
        self.cpu.jumps.clear();
        self.cpu.shadow.clear();
    }

    /// Gives up the translations from pages that have changed. With `written`, the page at that address becomes writable
    /// first, while nobody runs code from it.
    fn forget_dirty_code(&mut self, written: Option<u32>) {
        let mut code = self.code.stop_others(&self.gate);
        if let Some(addr) = written {
            self.memory.code_written(addr, 1);
        }
        code.invalidate(&self.memory.take_dirty_code());
    }

    /// Gives up the block at EIP, whose code has changed.
    fn forget_entry(&mut self) {
        let mut code = self.code.stop_others(&self.gate);
        // Otherwise somebody else may have noticed it first.
        if self.code.changes() == self.changes {
            code.invalidate_entry(self.mode, self.cpu.eip);
        }
    }

    /// The block at EIP, to which the branch at `patch` leads from now on.
    fn entry(&mut self, patch: Option<Patch>) -> *const Op {
        let eip = self.cpu.eip;
        let mut code = self.code.lock();
        let entry = loop {
            let warm = self.cpu.exit == Exit::Warm;
            if let (Some(entry), false) = (code.find(self.mode, eip), warm) {
                break entry;
            }
            if !code.is_full() && warm {
                break code.improve(&self.cpu, &self.memory, eip);
            }
            if !code.is_full() {
                break code.translate(&self.cpu, &self.memory, eip);
            }
            drop(code);
            self.code.stop_others(&self.gate).make_room();
            code = self.code.lock();
        };
        self.changes = self.code.changes();
        if code.flushes() != self.flushes {
            self.flushes = code.flushes();
            self.cpu.jumps.clear();
            self.cpu.shadow.clear();
        }
        if let Some(patch) = patch
            && patch.changes == self.changes
        {
            code.link(patch.ext, self.mode, eip);
        }
        drop(code);
        let known = self.cpu.jumps.at(eip).eip == eip;
        if self.cpu.exit == Exit::Jump || self.cpu.exit == Exit::Warm && known {
            self.cpu.jumps.put(super::links::Target { eip, op: entry });
        }
        entry
    }

    fn enter(&mut self, entry: *const Op) {
        self.cpu.exit = Exit::Jump;
        self.cpu.current_op = std::ptr::null();
        #[cfg(trap_memory)]
        {
            self.cpu.host_state.rip = 0;
        }
        // SAFETY: the entry is a valid block of these translations, the CPU and memory belong together, and the
        // thread is the one that `with_settings` prepared: a machine stays on its thread.
        unsafe { recover::run(&mut *self.cpu, entry, &self.memory) };
    }

    /// Executes one instruction with exact flags. `None` when it is complete (or to be tried again).
    pub(super) fn try_step(&mut self) -> Option<Stop> {
        let trapping = self.cpu.system_flags & eflags::TF != 0;
        let before = self.cpu.count;
        let repetition = if trapping { self.begin_repetition() } else { None };
        let entry = self.single.step(&self.cpu, &self.memory, self.cpu.eip);
        // Not on into the block that an indirect jump finds.
        self.cpu.limit.store(before, Ordering::SeqCst);
        let insn = if self.tally.is_some() { self.decode(self.cpu.eip) } else { None };
        self.stepping = true;
        self.enter(entry);
        let stop = match self.cpu.exit {
            Exit::Fault | Exit::Bus => self.fault(self.single.locate(self.cpu.exit_op)),
            _ => None,
        };
        self.stepping = false;
        if let (Some(tally), Some(insn), true) = (&self.tally, &insn, self.cpu.count != before) {
            tally.stepped(insn);
        }
        self.forget_step();
        if let Some(repetition) = repetition {
            self.end_repetition(&repetition, self.cpu.count != before);
        }
        if stop.is_none() && trapping && self.cpu.count != before {
            return Some(Stop::Exception(Fault::STEP));
        }
        stop
    }

    /// Lets the repeated string instruction that comes next, if it does, do one element only: the trap flag traps behind each
    /// of them (SDM Vol. 3B, "Single-Step Exception Condition").
    fn begin_repetition(&mut self) -> Option<Repetition> {
        let insn =
            self.decode(self.cpu.eip).filter(|insn| insn.rep != 0 && insn.form().rep != Rep::Ignored)?;
        let mask = if insn.addr16 { 0xffff } else { u32::MAX };
        let ecx = self.cpu.regs[reg::ECX];
        if ecx & mask <= 1 {
            return None;
        }
        self.cpu.regs[reg::ECX] = ecx & !mask | 1;
        Some(Repetition { insn, ecx, mask, flags: self.cpu.eflags() })
    }

    /// Counts its element, and goes back to it if there are more.
    fn end_repetition(&mut self, repetition: &Repetition, completed: bool) {
        let Repetition { insn, ecx, mask, flags } = repetition;
        if !completed {
            self.cpu.regs[reg::ECX] = *ecx;
            return;
        }
        self.cpu.regs[reg::ECX] = ecx & !mask | ecx.wrapping_sub(1) & mask;
        let equal = self.cpu.eflags() & eflags::ZF != 0;
        let goes_on = insn.form().rep == Rep::Rep || equal == (insn.rep == REPE);
        if goes_on {
            self.cpu.eip = insn.eip;
            self.cpu.set_eflags(self.cpu.eflags() & !eflags::STATUS | flags & eflags::STATUS);
        }
    }

    /// Drops the step's block and what points into it.
    fn forget_step(&mut self) {
        let top = self.cpu.shadow_top as usize % super::links::DEPTH;
        if self.single.in_step(self.cpu.shadow.entries[top].op) {
            self.cpu.shadow.entries[top].op = std::ptr::null();
        }
        self.single.drop_step();
    }

    /// Deals with a fault at a place in the guest's code; `None` if it was none of the guest's.
    fn fault(&mut self, at: Option<Location>) -> Option<Stop> {
        let stop = self.settle_fault(at);
        self.resolve(stop)
    }

    /// Makes the state that of the instruction that faulted.
    fn settle_fault(&mut self, at: Option<Location>) -> Stop {
        let mut fault = self.cpu.fault;
        if let Some(location) = at {
            self.cpu.eip = location.eip;
            self.cpu.count += u64::from(location.done);
            if fault.kind == FaultKind::Pf && fault.code & page_fault::FETCH == 0 {
                fault = self.access_fault(location.eip, fault);
                self.cpu.fault = fault;
            }
            if fault.is_trap() {
                self.cpu.eip = self.behind(location.eip);
                self.cpu.count += 1;
            }
            if let (Some(tally), Some(site)) = (&self.tally, location.site) {
                tally.left(site, location.done + u32::from(fault.is_trap()));
            }
        }
        if self.cpu.exit == Exit::Bus { Stop::Bus(fault) } else { Stop::Exception(fault) }
    }

    /// The instruction at an address, if there is one.
    pub fn decode(&self, eip: u32) -> Option<Insn> {
        let mut bytes = [0; MAX_LEN];
        let fetched = self.memory.fetch(eip, &mut bytes);
        decode(&bytes[..fetched], eip).ok()
    }

    /// Address behind the instruction at `eip`.
    fn behind(&self, eip: u32) -> u32 {
        self.decode(eip).map_or(eip, |insn| insn.next_eip())
    }

    /// What the processor makes of a #PF of the instruction at `eip`.
    fn access_fault(&self, eip: u32, fault: Fault) -> Fault {
        let Some(insn) = self.decode(eip) else { return fault };
        if let Some(fault) = self.beyond_limit(&insn) {
            return fault;
        }
        // What is read to be written is a write from the start.
        let updates =
            |operand: &Operand| matches!(operand.code, Code::E | Code::M) && operand.access.updates();
        let write = insn.mem.is_some() && insn.form().operands.iter().any(updates);
        Fault { code: fault.code | if write { page_fault::WRITE } else { 0 }, ..fault }
    }

    /// The fault of an access that runs over the end of a flat segment, which comes before any #PF: #GP(0), with SS #SS(0).
    fn beyond_limit(&self, insn: &Insn) -> Option<Fault> {
        let start = self.cpu.cr2;
        let room = 0u32.wrapping_sub(start);
        if room == 0 || room >= LONGEST_ACCESS {
            return None;
        }
        let operands = insn.form().operands.iter().filter(|operand| operand.access != Access::Shown);
        let accesses = operands.filter_map(|operand| {
            let string = insn.segment.unwrap_or(Seg::Ds);
            let (addr, seg) = match operand.code {
                code if code.may_be_memory() => (insn.offset(&self.cpu.regs), insn.mem?.seg),
                Code::X => (self.cpu.regs[reg::ESI], string),
                Code::Y => (self.cpu.regs[reg::EDI], Seg::Es),
                _ => return None,
            };
            let linear = addr.wrapping_add(self.cpu.segment_bases[seg as usize]);
            // Of a far pointer the offset comes first, by itself, of two bounds the lower one, of the FPU's images the
            // control word, and of a number of 80 bits the significand.
            let bytes = match operand.size {
                Size::P | Size::A | Size::E | Size::M => insn.operand_bytes(),
                Size::T => 8,
                size => operand_bytes(size, insn.opsize16),
            };
            Some((linear, bytes, seg))
        });
        // What is no operand is the stack, or for bit strings another part of the string.
        let found = { accesses }.find(|(addr, ..)| *addr == start);
        let (_, bytes, seg) = match (insn.form().room, insn.mem) {
            _ if found.is_some() => found?,
            ("stack" | "control", _) => (start, insn.operand_bytes(), Seg::Ss),
            (_, mem) => (start, insn.operand_bytes(), mem?.seg),
        };
        let flat = self.cpu.segment_bases[seg as usize] == 0;
        let fault = if seg == Seg::Ss { Fault::ss(0) } else { Fault::gp(0) };
        (flat && bytes > room).then_some(fault)
    }

    /// Handles the page faults that are none of the guest's: stores into translated code, and a stack that grows.
    fn resolve(&mut self, stop: Stop) -> Option<Stop> {
        let Stop::Exception(fault) = stop else { return Some(stop) };
        if fault.kind != FaultKind::Pf {
            return Some(stop);
        }
        let addr = self.cpu.cr2;
        let byte = self.memory.page_byte(addr);
        let write = fault.code & page_fault::WRITE != 0;
        if write && byte & page::CODE != 0 && byte & page::WRITE != 0 {
            self.forget_dirty_code(Some(addr));
            // The store is tried again, alone: its own block may be what it changes.
            return if self.stepping { None } else { self.try_step() };
        }
        if fault.code & page_fault::PRESENT == 0 && self.memory.grow_stack(addr) {
            return None;
        }
        if fault.code & page_fault::FETCH == 0 && self.is_outdated(addr, write) { None } else { Some(stop) }
    }

    /// Whether a fault was one only because another thread was changing the map, so that the access is to be tried again.
    fn is_outdated(&mut self, addr: u32, write: bool) -> bool {
        let byte = self.memory.settled_page_byte(addr);
        let allowed = byte & if write { page::WRITE } else { page::READ } != 0;
        let (count, times) = self.retried;
        self.retried = if count == self.cpu.count { (count, times + 1) } else { (self.cpu.count, 1) };
        allowed && self.retried.1 < MOST_RETRIES
    }

    /// Steps over instructions whose flags the block before left out, so that EFLAGS is exact. They can neither fault nor read
    /// flags; at the first that could, all flags are there.
    fn settle(&mut self) -> Option<Stop> {
        let mut open = flag::STATUS;
        for _ in 0..super::liveness::LOOKAHEAD {
            let Some(insn) = self.decode(self.cpu.eip) else { break };
            let facts = super::liveness::facts(&insn);
            if facts.barrier || facts.reads & open != 0 || insn.form().flow != Flow::Next || open == 0 {
                break;
            }
            open &= !facts.kills;
            if let Some(stop) = self.try_step() {
                return Some(stop);
            }
        }
        None
    }

    /// ESP, for those who look at stacks.
    pub fn esp(&self) -> u32 {
        self.cpu.regs[reg::ESP]
    }
}
