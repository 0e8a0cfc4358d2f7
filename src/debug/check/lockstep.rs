//! Table86's side: a machine that repeats what the reference did, and what has to be the same afterwards.

use super::CheckError;
use super::mirror::{Mirror, Reference, Scope, compare_ranges, copy_range};
use super::report::{self, Difference, Divergence, Step};
use super::rules::{self, Class};
use super::state::{Image, Registers, State};
use crate::cpu::{Descriptors, FaultKind, reg};
use crate::isa::decode::MAX_LEN;
use crate::isa::{CpuModel, Insn};
use crate::kernel::process::INT_LEN;
use crate::{Machine, Memory, Stop};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A machine under test: ours, or for a test of the comparison itself one with an error.
pub trait Subject {
    /// The machine.
    fn machine(&mut self) -> &mut Machine;

    /// Executes `max` instructions at most, see [`Machine::run`].
    fn run(&mut self, max: u64) -> Stop {
        self.machine().run(max)
    }
}

impl Subject for Machine {
    fn machine(&mut self) -> &mut Machine {
        self
    }
}

/// Makes machines under test, one a process.
pub type Maker = dyn Fn(Arc<Memory>) -> io::Result<Box<dyn Subject>>;

/// How many of the last instructions are shown.
const HISTORY: usize = 10;

/// How the reference's instructions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The last one is complete.
    Complete,
    /// One more has raised an exception, which became a signal.
    Fault {
        signal: i32,
        /// Of a page fault.
        addr: u32,
    },
    /// The last one is complete and was followed by a trap (TF).
    Trap,
}

/// What the reference has executed and the subject has not.
#[derive(Default)]
struct Window {
    steps: u64,
    before: Registers,
    /// The last instruction.
    insn: Option<Insn>,
    /// Flags that are undefined behind it.
    undefined: u32,
    written: Vec<Range<u32>>,
    unspecified: Vec<Range<u32>>,
    floats: bool,
}

/// One process on Table86's side.
pub(super) struct Lockstep {
    subject: Box<dyn Subject>,
    memory: Arc<Memory>,
    mirror: Mirror,
    window: Window,
    history: VecDeque<Step>,
    /// The FPU and vector registers when both sides last agreed.
    image: Image,
    /// Instructions that agreed, or were left to the reference.
    pub agreed: u64,
    /// Those before which all memory was the same.
    looked: u64,
    pub pid: i32,
    reference_name: &'static str,
}

impl Lockstep {
    /// A copy of a process that is stopped.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn new(
        pid: i32,
        reference_name: &'static str,
        make: &Maker,
        cpuid: CpuModel,
    ) -> io::Result<Lockstep> {
        let memory = Arc::new(Memory::new()?);
        let mut subject = make(Arc::clone(&memory))?;
        subject.machine().cpu.cpuid = cpuid;
        let image = Image::of(&subject.machine().cpu);
        Ok(Lockstep {
            subject,
            memory,
            mirror: Mirror::default(),
            window: Window::default(),
            history: VecDeque::new(),
            image,
            agreed: 0,
            looked: 0,
            pid,
            reference_name,
        })
    }

    /// The instruction at `eip`, as the reference has it.
    pub(super) fn fetch(&self, reference: &dyn Reference, eip: u32) -> Step {
        let mut bytes = [0; MAX_LEN];
        let len = reference.read(eip, &mut bytes);
        Step { eip, bytes, len }
    }

    /// How an instruction is compared: by its row, and not at all where it works on memory that others may change meanwhile.
    pub(super) fn class(&mut self, insn: &Insn, before: &Registers) -> Class {
        match rules::class(insn, &self.subject.machine().cpu.cpuid) {
            Class::Plain | Class::Alone
                if rules::operand_places(insn, before).any(|addr| self.mirror.is_shared(addr)) =>
            {
                Class::Once
            }
            // There is none: #GP for both.
            Class::Cpuid if insn.form().mnemonic == "xgetbv" && before.regs[reg::ECX] != 0 => Class::Plain,
            class => class,
        }
    }

    /// How many instructions the subject is behind.
    pub(super) fn behind(&self) -> u64 {
        self.window.steps
    }

    /// Takes over the reference's state, and its memory: after system calls, signals and at the start.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn adopt(
        &mut self,
        reference: &dyn Reference,
        registers: Registers,
        scope: Option<Scope>,
    ) -> io::Result<()> {
        let state = State { registers, image: reference.image()? };
        if let Some(scope) = scope {
            self.mirror.follow(&self.memory, reference)?;
            self.mirror.copy(&self.memory, reference, scope)?;
            self.looked = self.agreed;
        }
        let cpu = &mut self.subject.machine().cpu;
        state.registers.load(cpu);
        cpu.fxrstor(&state.image.0);
        self.image = state.image;
        self.window = Window { before: state.registers, ..Window::default() };
        Ok(())
    }

    /// The subject's descriptors, for the reference's to be put there.
    pub(super) fn descriptors(&mut self) -> &mut Descriptors {
        &mut self.subject.machine().cpu.descriptors
    }

    /// Counts an instruction that only the reference executes.
    pub(super) fn skip(&mut self, step: Step) {
        self.remember(step);
        self.agreed += 1;
    }

    fn remember(&mut self, step: Step) {
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(step);
    }

    /// Before an instruction that cannot just be noted: what was noted is settled, memory compared, and what cannot be
    /// followed found out.
    ///
    /// # Errors
    /// [`CheckError::Thread`], [`CheckError::Ldt`], the host's.
    pub(super) fn prepare(
        &mut self,
        reference: &dyn Reference,
        class: Class,
        insn: Option<&Insn>,
        registers: &Registers,
    ) -> Result<Option<Box<Divergence>>, CheckError> {
        // Undefined flags are those of the reference from the next comparison on, which has to come before they are read.
        let reads_undefined = insn.is_some_and(|insn| self.window.undefined & rules::read_flags(insn) != 0);
        if class == Class::Plain && !reads_undefined {
            return Ok(None);
        }
        if let Some(divergence) = self.settle(reference, registers, End::Complete)? {
            return Ok(Some(divergence));
        }
        let (pid, agreed) = (self.pid, self.agreed);
        match class {
            Class::Call => {
                if let Some(divergence) = self.compare_memory(reference, registers)? {
                    return Ok(Some(divergence));
                }
                match rules::call_name(registers) {
                    name @ ("clone" | "clone3") if rules::makes_thread(reference, name, registers) => {
                        return Err(CheckError::Thread { pid, agreed });
                    }
                    "modify_ldt" => return Err(CheckError::Ldt { pid, agreed }),
                    _ => {}
                }
            }
            _ if insn.is_some_and(rules::stores_pointers) => self.share_pointers(&reference.image()?),
            _ => {}
        }
        Ok(None)
    }

    /// Gives the subject the reference's FPU pointers, which are about to be stored.
    fn share_pointers(&mut self, image: &Image) {
        let cpu = &mut self.subject.machine().cpu;
        let shared = Image::of(cpu).with_pointers(image);
        cpu.fxrstor(&shared.0);
        self.image = shared;
    }

    /// Notes an instruction that the reference has completed, or that has raised an exception.
    pub(super) fn note(&mut self, step: Step, insn: Option<&Insn>, before: &Registers, after: &Registers) {
        self.remember(step);
        if self.window.steps == 0 {
            self.window.before = *before;
        }
        self.window.steps += 1;
        self.window.insn = insn.copied();
        let Some(insn) = insn else { return };
        let (undefined, new) = rules::undefined_and_new(insn, before);
        self.window.undefined = self.window.undefined & !new | undefined;
        self.window.written.extend(rules::written(insn, before, after));
        self.window.unspecified.extend(rules::unspecified(insn, before));
        self.window.floats |= rules::touches_floats(insn.form());
    }

    /// Lets the subject do what was noted, and compares.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn settle(
        &mut self,
        reference: &dyn Reference,
        registers: &Registers,
        end: End,
    ) -> io::Result<Option<Box<Divergence>>> {
        let steps = self.window.steps;
        if steps == 0 {
            return Ok(None);
        }
        let stop = self.subject.run(steps);
        let cpu = &self.subject.machine().cpu;
        let mut ours = State { registers: Registers::of(cpu), image: Image::of(cpu) };
        let cr2 = cpu.cr2;
        if matches!(stop, Stop::Exception(fault) if fault.kind == FaultKind::Int && !matches!(fault.code, 3 | 4))
        {
            // A gate that is closed: #GP at the instruction.
            ours.registers.eip = ours.registers.eip.wrapping_sub(INT_LEN);
        }
        // An instruction that has nothing to do with them leaves the processor's as they were.
        let image =
            if self.window.floats || ours.image != self.image { reference.image()? } else { self.image };
        let mut theirs = State { registers: *registers, image };
        theirs.image = theirs.image.with_pointers(&ours.image);
        self.allow_last_bit(&mut theirs, &ours);

        let mut found = Vec::new();
        found.extend(ended_differently(stop, cr2, end));
        found.extend(report::differences(&theirs, &ours, self.window.undefined));
        let ranges = merged(std::mem::take(&mut self.window.written));
        let bytes = compare_ranges(&self.memory, reference, &ranges);
        found.extend(bytes.map(Difference::from));
        if !found.is_empty() {
            return Ok(Some(self.diverged(found, theirs, ours)));
        }

        for range in &self.window.unspecified {
            copy_range(&self.memory, reference, range);
        }
        let cpu = &mut self.subject.machine().cpu;
        if registers.eflags != ours.registers.eflags {
            registers.load(cpu);
        }
        if image != ours.image && self.window.floats {
            cpu.fxrstor(&image.0);
        }
        self.image = Image::of(cpu);
        self.agreed += steps - u64::from(matches!(end, End::Fault { .. }));
        self.window = Window { before: *registers, ..Window::default() };
        Ok(None)
    }

    /// Where processors differ from each other in the last bit, ours may, too.
    fn allow_last_bit(&self, theirs: &mut State, ours: &State) {
        const C1: u8 = 2;
        if !self.window.insn.is_some_and(|insn| rules::is_transcendental(insn.form())) {
            return;
        }
        for i in 0..2 {
            if report::is_next_to(theirs.image.st(i), ours.image.st(i)) {
                theirs.image = theirs.image.with_st(i, &ours.image);
            }
        }
        let mut image = ours.image;
        let c1 = image.status()[1] & C1;
        let high = &mut theirs.image.status()[1];
        *high = *high & !C1 | c1;
    }

    /// Compares all memory that the program may write.
    ///
    /// # Errors
    /// The host's.
    fn compare_memory(
        &mut self,
        reference: &dyn Reference,
        registers: &Registers,
    ) -> io::Result<Option<Box<Divergence>>> {
        let Some(bytes) = self.mirror.compare(&self.memory, reference)? else { return Ok(None) };
        let cpu = &self.subject.machine().cpu;
        let ours = State { registers: Registers::of(cpu), image: Image::of(cpu) };
        let theirs = State { registers: *registers, image: reference.image()? };
        let (agreed, looked) = (self.agreed, self.looked);
        let mut divergence = *self.diverged(vec![bytes.into()], theirs, ours);
        (divergence.agreed, divergence.window, divergence.by_row) = (looked, agreed - looked, false);
        Ok(Some(Box::new(divergence)))
    }

    fn diverged(&mut self, differences: Vec<Difference>, reference: State, ours: State) -> Box<Divergence> {
        let window = self.window.steps;
        let step = if window == 1 { self.history.pop_back() } else { None };
        let eip = step.map_or(self.window.before.eip, |step| step.eip);
        Box::new(Divergence {
            pid: self.pid,
            agreed: self.agreed,
            window,
            by_row: true,
            step,
            place: report::place(&self.mirror.mappings, eip),
            differences,
            before: self.window.before,
            reference,
            ours,
            reference_name: self.reference_name,
            history: self.history.drain(..).collect(),
        })
    }
}

/// How the subject ended, if not as the reference did.
fn ended_differently(stop: Stop, cr2: u32, end: End) -> Option<Difference> {
    let how = "ends with";
    match (end, stop) {
        (End::Complete, Stop::Limit) => None,
        (End::Complete, stop) => Some(Difference::new(how, "no exception", describe(stop, cr2))),
        (End::Trap, Stop::Exception(fault)) if fault.kind == FaultKind::Db => None,
        (End::Trap, stop) => Some(Difference::new(how, "#DB (TF)", describe(stop, cr2))),
        (End::Fault { signal: theirs, addr }, Stop::Exception(_) | Stop::Bus(_)) => {
            let (signal, address) = signal_and_address(stop, cr2);
            // Others give the instruction's address, or none.
            let same = signal == theirs && (!has_address(stop) || addr == address);
            let theirs = || format!("signal {theirs} at address {addr:#x}");
            (!same).then(|| Difference::new(how, theirs(), describe(stop, cr2)))
        }
        (End::Fault { signal, addr }, stop) => {
            let theirs = format!("signal {signal} at address {addr:#x}");
            Some(Difference::new(how, theirs, describe(stop, cr2)))
        }
    }
}

/// Whether an exception has an address of memory.
fn has_address(stop: Stop) -> bool {
    matches!(stop, Stop::Bus(_)) || matches!(stop, Stop::Exception(fault) if fault.kind == FaultKind::Pf)
}

/// The signal that Linux makes of a stop, and its address if it has one.
pub(super) fn signal_and_address(stop: Stop, cr2: u32) -> (i32, u32) {
    let signal = match stop {
        Stop::Exception(fault) => rules::signal_of(fault),
        _ => libc::SIGBUS,
    };
    (signal, if has_address(stop) { cr2 } else { 0 })
}

fn describe(stop: Stop, cr2: u32) -> String {
    match stop {
        Stop::Exception(fault) if fault.kind == FaultKind::Pf => {
            format!("#PF at address {cr2:#x}, error code {:#x}", fault.code)
        }
        Stop::Exception(fault) if fault.kind == FaultKind::Todo => {
            "#UD: the row is declared, but not implemented".to_owned()
        }
        Stop::Exception(fault) => {
            let name = format!("{:?}", fault.kind).to_uppercase();
            format!("#{name}, error code {:#x}", fault.error_code())
        }
        Stop::Bus(_) => format!("an access beyond the end of a file, at address {cr2:#x}"),
        Stop::Limit | Stop::Requested | Stop::Hook | Stop::Breakpoint => "no exception".to_owned(),
    }
}

/// Ranges in ascending order, each byte once.
fn merged(mut ranges: Vec<Range<u32>>) -> Vec<Range<u32>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
