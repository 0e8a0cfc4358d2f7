//! The run loop: finds or makes translations, runs them, and turns what made them return into a reason to stop.

use super::op::Op;
use super::path::{MAX_INSNS, Mode};
use super::recover;
use super::translate::{Settings, Translations};
use crate::cpu::fault::page_fault;
use crate::cpu::{Cpu, Exit, Fault, FaultKind, Seg, eflags, reg};
use crate::isa::decode::{MAX_LEN, operand_bytes};
use crate::isa::{Access, Code, Flow, Insn, Mem, Operand, decode, flag};
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
}

/// A CPU with its memory and translations.
pub struct Machine {
    /// The processor's state.
    pub cpu: Box<Cpu>,
    /// The guest's memory.
    pub memory: Arc<Memory>,
    translations: Translations,
    mode: Mode,
    /// A single step is under way.
    stepping: bool,
}

impl Machine {
    /// A machine at reset: see [`Cpu::new`]. Fails when the host has no address space for translations.
    pub fn new(memory: Arc<Memory>) -> std::io::Result<Machine> {
        Machine::with_settings(memory, Settings { specialise: true })
    }

    /// A machine that uses only generic handlers: slower, to be compared with.
    pub fn generic(memory: Arc<Memory>) -> std::io::Result<Machine> {
        Machine::with_settings(memory, Settings { specialise: false })
    }

    fn with_settings(memory: Arc<Memory>, settings: Settings) -> std::io::Result<Machine> {
        let mut cpu = Cpu::new();
        cpu.pages = memory.pages();
        if !settings.specialise {
            // Floats in software, too.
            cpu.host_floats = 0;
        }
        let mode = Mode::of(&cpu);
        recover::prepare_thread();
        Ok(Machine { cpu, translations: Translations::new(settings)?, mode, memory, stepping: false })
    }

    /// Executes `max` instructions at most.
    pub fn run(&mut self, max: u64) -> Stop {
        let end = self.cpu.count.saturating_add(max);
        let mut patch = std::ptr::null_mut();
        loop {
            if self.memory.has_dirty_code() {
                let pages = self.memory.take_dirty_code();
                self.translations.invalidate(&pages);
                patch = std::ptr::null_mut();
            }
            if self.cpu.count >= end {
                return Stop::Limit;
            }
            let near_end = end - self.cpu.count <= MARGIN;
            if near_end || self.cpu.system_flags & eflags::TF != 0 {
                patch = std::ptr::null_mut();
                if let Some(stop) = self.step() {
                    return stop;
                }
                continue;
            }
            let mode = Mode::of(&self.cpu);
            if mode != self.mode {
                self.mode = mode;
                self.cpu.jumps.clear();
                self.cpu.shadow.clear();
                patch = std::ptr::null_mut();
            }
            let entry = self.entry(&mut patch);
            if !patch.is_null() {
                self.translations.link(patch, entry);
                patch = std::ptr::null_mut();
            }
            self.cpu.limit.store(end - MARGIN, Ordering::SeqCst);
            if self.cpu.stop_requested.swap(false, Ordering::SeqCst) {
                return self.settle().unwrap_or(Stop::Requested);
            }
            self.enter(entry);
            match self.cpu.exit {
                Exit::Jump => {}
                Exit::Link => patch = self.cpu.patch,
                Exit::Limit => {}
                Exit::Modified => self.translations.invalidate_entry(self.mode, self.cpu.eip),
                Exit::Fault | Exit::Bus => {
                    if let Some(stop) = self.fault() {
                        return stop;
                    }
                }
            }
        }
    }

    /// The block at EIP.
    fn entry(&mut self, patch: &mut *mut super::op::Ext) -> *const Op {
        let eip = self.cpu.eip;
        let entry = match self.translations.find(self.mode, eip) {
            Some(entry) => entry,
            None => {
                if self.translations.is_full() {
                    self.translations.flush();
                    self.cpu.jumps.clear();
                    self.cpu.shadow.clear();
                    *patch = std::ptr::null_mut();
                }
                self.translations.translate(&self.cpu, &self.memory, eip)
            }
        };
        if self.cpu.exit == Exit::Jump {
            let slot = super::links::JumpCache::slot(eip);
            self.cpu.jumps.entries[slot] = super::links::Target { eip, op: entry };
        }
        entry
    }

    fn enter(&mut self, entry: *const Op) {
        self.cpu.exit = Exit::Jump;
        self.cpu.current_op = std::ptr::null();
        // SAFETY: the entry is a valid block of these translations, the CPU and memory belong together, and the
        // thread is the one that `with_settings` prepared: a machine stays on its thread.
        unsafe { recover::run(&mut *self.cpu, entry, &self.memory) };
    }

    /// Executes one instruction with exact flags. `None` when it is complete (or to be tried again).
    fn step(&mut self) -> Option<Stop> {
        if self.translations.is_full() {
            self.translations.flush();
            self.cpu.jumps.clear();
            self.cpu.shadow.clear();
        }
        let trapping = self.cpu.system_flags & eflags::TF != 0;
        let before = self.cpu.count;
        let entry = self.translations.step(&self.cpu, &self.memory, self.cpu.eip);
        // Not on into the block that an indirect jump finds.
        self.cpu.limit.store(before, Ordering::SeqCst);
        self.stepping = true;
        self.enter(entry);
        let stop = match self.cpu.exit {
            Exit::Fault | Exit::Bus => self.fault(),
            _ => None,
        };
        self.stepping = false;
        self.forget_step();
        if stop.is_none() && trapping && self.cpu.count != before {
            return Some(Stop::Exception(Fault::DB));
        }
        stop
    }

    /// Drops the step's block and what points into it.
    fn forget_step(&mut self) {
        let top = self.cpu.shadow_top as usize % super::links::DEPTH;
        if self.translations.in_step(self.cpu.shadow.entries[top].op) {
            self.cpu.shadow.entries[top].op = std::ptr::null();
        }
        self.translations.drop_step();
    }

    fn fault(&mut self) -> Option<Stop> {
        let stop = self.locate_fault();
        self.resolve(stop)
    }

    /// Makes the state that of the instruction that faulted.
    fn locate_fault(&mut self) -> Stop {
        let mut fault = self.cpu.fault;
        if let Some(location) = self.translations.locate(self.cpu.exit_op) {
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
        }
        if self.cpu.exit == Exit::Bus { Stop::Bus(fault) } else { Stop::Exception(fault) }
    }

    fn decode(&self, eip: u32) -> Option<Insn> {
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
                Code::E | Code::M | Code::O | Code::Q | Code::W => {
                    (self.effective(insn, &insn.mem?), insn.mem?.seg)
                }
                Code::X => (self.cpu.regs[reg::ESI], string),
                Code::Y => (self.cpu.regs[reg::EDI], Seg::Es),
                _ => return None,
            };
            let linear = addr.wrapping_add(self.cpu.segment_bases[seg as usize]);
            Some((linear, operand_bytes(operand.size, insn.opsize16), seg))
        });
        // What is no operand is the stack.
        let mut accesses = accesses.filter(|(addr, ..)| *addr == start);
        let (_, bytes, seg) = accesses.next().unwrap_or((start, insn.operand_bytes(), Seg::Ss));
        let flat = self.cpu.segment_bases[seg as usize] == 0;
        let fault = if seg == Seg::Ss { Fault::ss(0) } else { Fault::gp(0) };
        (flat && bytes > room).then_some(fault)
    }

    /// Offset of a memory operand.
    fn effective(&self, insn: &Insn, mem: &Mem) -> u32 {
        let register = |number: u8| self.cpu.regs.get(usize::from(number)).copied().unwrap_or(0);
        let offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
        if insn.addr16 { offset & 0xffff } else { offset }
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
            self.memory.code_written(addr, 1);
            let pages = self.memory.take_dirty_code();
            // A step's own block is no entry of the table of pages.
            self.translations.invalidate(&pages);
            // The store is tried again, alone: its own block may be what it changes.
            return if self.stepping { None } else { self.step() };
        }
        if fault.code & page_fault::PRESENT == 0 && self.memory.grow_stack(addr) {
            return None;
        }
        Some(stop)
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
            if let Some(stop) = self.step() {
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
