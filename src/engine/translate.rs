//! The translator: from guest code to superblocks of ops. Unsafe: writes ops that handlers will trust.
//!
//! A superblock runs from its entry past untaken conditional branches and through direct jumps and calls until an instruction
//! whose successor only the guest knows. Its way: decode, find which flags are needed, choose handlers, join pairs, link.

use super::arena::Arena;
use super::liveness::{self, Facts};
use super::op::{Ext, Handler, Op};
use super::{handlers, keys};
use crate::cpu::exec::attribute;
use crate::cpu::{Cpu, Seg, ZERO_REG};
use crate::isa::decode::{MAX_LEN, NO_REG};
use crate::isa::{
    Access, Code, DecodeError, Flow, Imm, Insn, Lock, Operand, Privilege, Rep, Size, Status, decode, flag,
};
use crate::memory::{CodePage, Memory};
use std::collections::HashMap;
use std::sync::atomic::AtomicPtr;

/// Instructions in a superblock at most.
pub(crate) const MAX_INSNS: usize = 96;
/// Ops that a superblock can take at most: three slots an instruction, a stub for each of its two links, a verifier and an end.
const MAX_SLOTS: usize = MAX_INSNS * 8 + 16;
/// Calls are followed into their target while the block is shorter than this.
const INLINE_UNTIL: usize = 48;

/// How segment registers are set, as far as translations depend on it. Equal for nearly all programs: flat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Mode {
    /// Bit n: segment register n holds a null selector; an access by it raises #GP.
    null: u8,
    /// ES, CS, SS or DS has a base.
    based: bool,
}

impl Mode {
    /// The mode that a CPU is in.
    pub(crate) fn of(cpu: &Cpu) -> Mode {
        let null = (0..6).filter(|&at| cpu.selectors[at] & !3 == 0).map(|at| 1 << at).sum();
        Mode { null, based: cpu.segment_bases[..4].iter().any(|base| *base != 0) }
    }
}

/// How to translate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Use handlers specialised by register, and pairs. Off, results must be the same.
    pub(crate) specialise: bool,
}

/// A translated block.
struct Block {
    start: usize,
    end: usize,
    eip: u32,
    mode: Mode,
    /// Slot (from `start`) and address of each instruction.
    insns: Box<[(u16, u32)]>,
    /// What `verify` compares with.
    _copy: Option<Box<[u8]>>,
    valid: bool,
}

/// All translations of a process.
pub(crate) struct Translations {
    arena: Arena,
    blocks: Vec<Block>,
    entries: HashMap<(Mode, u32), u32>,
    by_page: HashMap<u32, Vec<u32>>,
    /// Entries of invalid blocks, to be led on to the next translation of their address.
    stale: HashMap<(Mode, u32), Vec<usize>>,
    settings: Settings,
}

/// Where a fault happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub(crate) eip: u32,
    /// Instructions of the block that are complete.
    pub(crate) done: u32,
}

/// An instruction on its way into ops.
struct Item {
    eip: u32,
    insn: Result<Insn, Stop>,
    facts: Facts,
    /// Flags needed behind it.
    after: u8,
    /// Slot of its op, once emitted; none for jumps that are followed.
    slot: Option<usize>,
    /// The keys that fit, best first; empty for handlers that have none.
    keys: Vec<u64>,
    followed: bool,
}

/// Why decoding ended without an instruction.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Undefined,
    TooLong,
    /// The first byte that cannot be fetched, and whether its page is there.
    Unfetchable(u32, bool),
}

/// A link to be made at the end of a block: the slot of its `Ext`, and where it goes.
struct Pending {
    ext: usize,
    target: u32,
}

/// What is known about one run of the translator.
struct Job<'a> {
    cpu: &'a Cpu,
    memory: &'a Memory,
    mode: Mode,
    /// Instructions at most; 1 for a single step, which is not kept.
    max: usize,
    step: bool,
    /// The code is compared at each entry, so the block is short and straight.
    verified: bool,
    pages: Vec<u32>,
}

impl Translations {
    pub(crate) fn new(settings: Settings) -> std::io::Result<Translations> {
        Ok(Translations {
            arena: Arena::new()?,
            blocks: Vec::new(),
            entries: HashMap::new(),
            by_page: HashMap::new(),
            stale: HashMap::new(),
            settings,
        })
    }

    /// The entry of the block at `eip`, if it is translated.
    pub(crate) fn find(&self, mode: Mode, eip: u32) -> Option<*const Op> {
        self.entries
            .get(&(mode, eip))
            .map(|block| self.arena.at(self.blocks[*block as usize].start).cast_const())
    }

    /// Whether the next block fits; if not, everything has to be flushed.
    pub(crate) fn is_full(&self) -> bool {
        !self.arena.fits(MAX_SLOTS)
    }

    /// Forgets all translations. Nobody may be running one, and caches of targets have to be cleared.
    pub(crate) fn flush(&mut self) {
        self.arena.truncate(0);
        self.blocks.clear();
        self.entries.clear();
        self.by_page.clear();
        self.stale.clear();
    }

    /// Translates the block at `eip` and keeps it.
    pub(crate) fn translate(&mut self, cpu: &Cpu, memory: &Memory, eip: u32) -> *const Op {
        let mode = Mode::of(cpu);
        let mut job =
            Job { cpu, memory, mode, max: MAX_INSNS, step: false, verified: false, pages: Vec::new() };
        let mut items = job.decode(eip);
        // Decided only when the pages are known: verified code is translated again, straight.
        job.verified =
            job.pages.clone().into_iter().any(|page| memory.protect_code(page) == CodePage::Verify);
        if job.verified {
            items = job.decode(eip);
        }
        let index = self.blocks.len() as u32;
        if self.settings.specialise {
            bring_together(&mut items);
        }
        job.mark_live(&mut items);
        self.emit(&job, items, eip);
        for page in &job.pages {
            memory.protect_code(*page);
            self.by_page.entry(*page).or_default().push(index);
        }
        self.entries.insert((mode, eip), index);
        let start = self.blocks[index as usize].start;
        for old in self.stale.remove(&(mode, eip)).unwrap_or_default() {
            self.lead_on(old, start, eip);
        }
        self.arena.at(start)
    }

    /// Translates one instruction, all flags exact, for [`Translations::drop_step`] to forget.
    pub(crate) fn step(&mut self, cpu: &Cpu, memory: &Memory, eip: u32) -> *const Op {
        let mode = Mode::of(cpu);
        let mut job = Job { cpu, memory, mode, max: 1, step: true, verified: false, pages: Vec::new() };
        let mut items = job.decode(eip);
        job.mark_live(&mut items);
        self.emit(&job, items, eip);
        self.arena.at(self.blocks[self.blocks.len() - 1].start)
    }

    /// Forgets what `step` made.
    pub(crate) fn drop_step(&mut self) {
        if let Some(block) = self.blocks.pop() {
            self.arena.truncate(block.start);
        }
    }

    /// Whether an op belongs to what `step` made last.
    pub(crate) fn in_step(&self, op: *const Op) -> bool {
        let last = self.blocks.last().map_or(usize::MAX, |block| block.start);
        self.arena.slot_of(op).is_some_and(|slot| slot >= last)
    }

    /// Where an op stands in the guest's code.
    pub(crate) fn locate(&self, op: *const Op) -> Option<Location> {
        let slot = self.arena.slot_of(op)?;
        let at = self.blocks.partition_point(|block| block.start <= slot).checked_sub(1)?;
        let block = &self.blocks[at];
        let offset = (slot - block.start) as u16;
        let index = block.insns.partition_point(|(slot, _)| *slot <= offset).checked_sub(1)?;
        Some(Location { eip: block.insns[index].1, done: index as u32 })
    }

    /// Makes all blocks with code on these pages invalid.
    pub(crate) fn invalidate(&mut self, pages: &[u32]) {
        for page in pages {
            for index in self.by_page.remove(page).unwrap_or_default() {
                self.retire(index);
            }
        }
    }

    /// Makes the block at `eip` invalid.
    pub(crate) fn invalidate_entry(&mut self, mode: Mode, eip: u32) {
        if let Some(index) = self.entries.get(&(mode, eip)).copied() {
            self.retire(index);
        }
    }

    fn retire(&mut self, index: u32) {
        let block = &mut self.blocks[index as usize];
        if !std::mem::replace(&mut block.valid, false) {
            return;
        }
        let (start, key) = (block.start, (block.mode, block.eip));
        if self.entries.get(&key) == Some(&index) {
            self.entries.remove(&key);
        }
        self.stale.entry(key).or_default().push(start);
        let op = Op { handler: handlers::stale, a: 0, b: 0, c: 0, d: 0, imm: key.1 };
        // SAFETY: a block has at least two slots and nobody runs this one: it is retired between runs of handlers.
        unsafe { self.arena.at(start).write(op) };
    }

    /// Turns the entry of an invalid block into a jump to the valid one.
    fn lead_on(&mut self, old: usize, new: usize, eip: u32) {
        let link = AtomicPtr::new(self.arena.at(new));
        let op = Op { handler: handlers::jump, a: 0, b: 0, c: 0, d: 0, imm: 0 };
        // SAFETY: as in `retire`.
        unsafe {
            self.arena.at(old).write(op);
            self.arena.at(old + 1).cast::<Ext>().write(Ext { link, imm2: eip, aux: 0 });
        }
    }

    /// Leads the branch whose second slot is `patch` straight to `entry` from now on.
    pub(crate) fn link(&self, patch: *mut Ext, entry: *const Op) {
        // SAFETY: `unlinked` hands out the slot of a branch that is in the arena.
        unsafe { &*patch }.link.store(entry.cast_mut(), std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes ops, stubs and the side table.
    fn emit(&mut self, job: &Job<'_>, mut items: Vec<Item>, eip: u32) {
        let start = self.arena.used();
        let mut links = Vec::new();
        let mut side = Vec::with_capacity(items.len());
        let mut copy = None;
        if job.verified && !job.step {
            copy = self.emit_verifier(job, &items, eip);
        }
        let mut open = true;
        let mut next_eip = eip;
        let mut done = 0;
        for item in &mut items {
            let slot = self.arena.used();
            // A followed jump has no op; its place in the side table keeps the count of instructions right.
            side.push(((slot - start) as u16, item.eip));
            done += 1;
            match item.insn {
                Err(stop) => {
                    self.emit_stop(stop);
                    open = false;
                }
                Ok(insn) => {
                    next_eip = if item.followed { insn.imm } else { insn.next_eip() };
                    if !(item.followed && insn.form().flow == Flow::Jump || has_no_effect(&insn)) {
                        item.slot = Some(slot);
                        open = self.emit_insn(job, item, &insn, done, &mut links);
                    }
                }
            }
        }
        if open {
            self.emit_jump(next_eip, done, &mut links);
        }
        if self.arena.used() - start < 2 {
            self.emit_stop(Stop::Undefined);
        }
        if self.settings.specialise && !job.step {
            self.join_pairs(&items);
        }
        for link in links {
            self.emit_link(job, &link);
        }
        self.blocks.push(Block {
            start,
            end: self.arena.used(),
            eip,
            mode: job.mode,
            insns: side.into(),
            _copy: copy,
            valid: true,
        });
        debug_assert!(self.blocks[self.blocks.len() - 1].end - start <= MAX_SLOTS);
    }

    fn emit_verifier(&mut self, job: &Job<'_>, items: &[Item], eip: u32) -> Option<Box<[u8]>> {
        let end = items.iter().rev().find_map(|item| item.insn.as_ref().ok()).map(Insn::next_eip)?;
        let mut bytes = vec![0; end.wrapping_sub(eip) as usize].into_boxed_slice();
        let fetched = job.memory.fetch(eip, &mut bytes);
        bytes[fetched..].fill(0);
        self.arena.push_op(Op { handler: handlers::verify, a: 0, b: 0, c: 0, d: 0, imm: eip });
        let link = AtomicPtr::new(bytes.as_ptr().cast_mut().cast());
        self.arena.push_ext(Ext { link, imm2: eip, aux: bytes.len() as u32 });
        Some(bytes)
    }

    fn emit_stop(&mut self, stop: Stop) {
        let (handler, imm, present): (Handler, u32, bool) = match stop {
            Stop::Undefined => (handlers::undefined, 0, false),
            Stop::TooLong => (handlers::too_long, 0, false),
            Stop::Unfetchable(addr, present) => (handlers::unfetchable, addr, present),
        };
        self.arena.push_op(Op { handler, a: u8::from(present), b: 0, c: 0, d: 0, imm });
    }

    fn emit_jump(&mut self, target: u32, done: u32, links: &mut Vec<Pending>) {
        self.arena.push_op(Op { handler: handlers::jump, a: 0, b: 0, c: 0, d: 0, imm: 0 });
        links.push(Pending { ext: self.push_link(target, done), target });
    }

    fn push_link(&mut self, target: u32, done: u32) -> usize {
        self.arena.push_ext(Ext { link: AtomicPtr::default(), imm2: target, aux: done })
    }

    /// Points a link at its block, or at a stub that asks for it.
    fn emit_link(&mut self, job: &Job<'_>, link: &Pending) {
        let ext = self.arena.at(link.ext).cast::<Ext>();
        let found = if job.step { None } else { self.find(job.mode, link.target) };
        let target = match found {
            Some(op) => op.cast_mut(),
            None => {
                let op = Op { handler: handlers::unlinked, a: 0, b: 0, c: 0, d: 0, imm: link.target };
                let stub = self.arena.push_op(op);
                self.arena.push_ext(Ext { link: AtomicPtr::new(ext.cast()), imm2: 0, aux: 0 });
                self.arena.at(stub)
            }
        };
        // SAFETY: `ext` is a second slot written by `push_link`.
        unsafe { &*ext }.link.store(target, std::sync::atomic::Ordering::Relaxed);
    }

    /// Writes an instruction's slots. Tells whether the block goes on behind it.
    fn emit_insn(
        &mut self,
        job: &Job<'_>,
        item: &mut Item,
        insn: &Insn,
        done: u32,
        links: &mut Vec<Pending>,
    ) -> bool {
        let form = insn.form();
        let plain = |handler: Handler| Op { handler, a: 0, b: 0, c: 0, d: 0, imm: 0 };
        if form.privilege != Privilege::User {
            self.arena.push_op(plain(handlers::privileged));
            return false;
        }
        if job.may_not_access(insn) {
            // #GP(0), as for a privileged instruction; but nothing is accessed when nothing is left to repeat.
            if form.rep != Rep::Ignored && insn.rep != 0 {
                let op = plain(handlers::privileged_repeat);
                self.arena.push_op(Op { d: if insn.addr16 { attribute::ADDR16 } else { 0 }, ..op });
                return true;
            }
            self.arena.push_op(plain(handlers::privileged));
            return false;
        }
        if let Status::Todo(_) = form.status {
            self.arena.push_op(plain(handlers::todo_row));
            return false;
        }
        let family = form.families[usize::from(insn.opsize16)];
        let direct = form.operands.iter().any(|operand| operand.code == Code::J);
        let locked = insn.mem.is_some() && (insn.lock || form.lock == Lock::Always);
        let live = flag_is_live(item);
        let specialise = self.settings.specialise && !job.step;
        item.keys = operand_keys(job, insn, specialise)
            .into_iter()
            .map(|operands| operands | keys::family(family, live, locked, form.condition.unwrap_or(0)))
            .filter(|key| keys::single(*key).is_some())
            .collect();
        let Some(handler) = item.keys.first().and_then(|key| keys::single(*key)) else {
            // The generator makes a generic handler for whatever it declares; a gap is an instruction that is missing.
            self.arena.push_op(plain(handlers::todo_row));
            return false;
        };
        let mut op = encode(job, insn, handler);
        let next = insn.next_eip();
        match form.flow {
            Flow::Next if form.needs_eip || needs_second_slot(insn) => {
                self.arena.push_op(op);
                self.push_where(insn, done, form.needs_eip);
                true
            }
            Flow::Next => {
                self.arena.push_op(op);
                true
            }
            Flow::Branch => {
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(insn.imm, done), target: insn.imm });
                true
            }
            Flow::Jump if direct => {
                self.emit_jump(insn.imm, done, links);
                false
            }
            Flow::Call if item.followed => {
                op.handler = handlers::call_inline;
                op.imm = next;
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(next, 0), target: next });
                true
            }
            Flow::Call if direct => {
                op.imm = if insn.opsize16 { next & 0xffff } else { next };
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(insn.imm, done), target: insn.imm });
                links.push(Pending { ext: self.push_link(next, 0), target: next });
                false
            }
            Flow::Call => {
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(next, done), target: next });
                false
            }
            Flow::Jump | Flow::Ret => {
                self.arena.push_op(op);
                self.push_link(0, done);
                false
            }
            Flow::Far | Flow::Sync | Flow::Trap => {
                self.arena.push_op(op);
                self.push_where(insn, done, true);
                false
            }
        }
    }

    /// The second slot of an instruction that is no branch.
    fn push_where(&mut self, insn: &Insn, done: u32, with_eip: bool) {
        let place = if with_eip { u64::from(insn.next_eip()) << 32 | u64::from(insn.eip) } else { 0 };
        let link = AtomicPtr::new(place as usize as *mut Op);
        let imm2 = match insn.form().imms {
            // What the FPU keeps of its last instruction.
            [] => u32::from(insn.x87_opcode()) | insn.mem.map_or(0, |mem| (mem.seg as u32) << 16),
            // A far pointer's selector and ENTER's level are the second immediate.
            [Imm::Cp] | [_, _, ..] => insn.imm2,
            [_] => insn.imm,
        };
        self.arena.push_ext(Ext { link, imm2, aux: done });
    }

    /// Overwrites the first handler of pairs that have one of their own; the second op stays valid.
    fn join_pairs(&mut self, items: &[Item]) {
        let mut joined = vec![false; items.len() + 1];
        // Branches first: a comparison that is joined with its jump needs no flags.
        for branches in [true, false] {
            for index in (0..items.len().saturating_sub(1)).rev() {
                let (first, second) = (&items[index], &items[index + 1]);
                let (Some(slot), Some(_)) = (first.slot, second.slot) else { continue };
                let (Ok(insn), Ok(next)) = (first.insn, second.insn) else { continue };
                let is_branch = next.form().flow == Flow::Branch;
                if joined[index]
                    || joined[index + 1]
                    || is_branch != branches
                    || insn.form().flow != Flow::Next
                {
                    continue;
                }
                // Only what is needed behind the second instruction has to be written.
                let needed = first.needed_behind(second);
                if let Some(handler) = find_pair(&first.keys, needed, &second.keys) {
                    // SAFETY: the slot of an op of this block, which nobody runs yet.
                    unsafe { (*self.arena.at(slot)).handler = handler };
                    joined[index] = true;
                    joined[index + 1] = true;
                }
            }
        }
    }

    /// The keys that a block's ops would use, most special first, for training `opcodes/hot.txt`: `each` gets the address of an
    /// instruction and its key, and with two that could be joined the second one's. Gives the addresses that the block leads to.
    pub(crate) fn survey(
        cpu: &Cpu,
        memory: &Memory,
        eip: u32,
        mut each: impl FnMut(u32, u64, Option<u64>),
    ) -> Vec<u32> {
        let mode = Mode::of(cpu);
        let mut job =
            Job { cpu, memory, mode, max: MAX_INSNS, step: false, verified: false, pages: Vec::new() };
        let mut items = job.decode(eip);
        bring_together(&mut items);
        job.mark_live(&mut items);
        let mut targets = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(insn) = item.insn else { continue };
            if insn.form().operands.iter().any(|operand| operand.code == Code::J) {
                targets.push(insn.imm);
            }
            targets.push(insn.next_eip());
            let Some(single) = best_key(&job, item, flag_is_live(item)) else { continue };
            each(item.eip, single, None);
            let Some(next) = items.get(index + 1) else { continue };
            let Some(second) = best_key(&job, next, flag_is_live(next)) else { continue };
            let flow = next.insn.map_or(Flow::Trap, |insn| insn.form().flow);
            if insn.form().flow == Flow::Next && matches!(flow, Flow::Next | Flow::Branch) {
                let first = single & !keys::LIVE | if item.needed_behind(next) { keys::LIVE } else { 0 };
                each(item.eip, first, Some(second));
            }
        }
        targets
    }
}

/// The key of the handler that suits an instruction best, whether it exists or not.
fn best_key(job: &Job<'_>, item: &Item, live: bool) -> Option<u64> {
    let insn = item.insn.ok()?;
    let form = insn.form();
    let family = form.families[usize::from(insn.opsize16)];
    let plain =
        form.status == Status::Implemented && form.privilege == Privilege::User && family != 0 && !insn.lock;
    let condition = form.condition.unwrap_or(0);
    plain.then(|| {
        operand_keys(job, &insn, true)[0]
            | keys::family(family, live, form.lock == Lock::Always && insn.mem.is_some(), condition)
    })
}

impl Item {
    /// Whether flags that it writes are needed behind `next`, which follows it.
    fn needed_behind(&self, next: &Item) -> bool {
        let open = if next.facts.barrier { flag::STATUS } else { next.after & !next.facts.kills };
        self.facts.writes && self.facts_written() & open != 0
    }

    /// Flags that it may change.
    fn facts_written(&self) -> u8 {
        let Ok(insn) = self.insn else { return 0 };
        let flags = &insn.form().flags;
        let kept: u8 = !(flags.kills[0] | flags.kills[1] | flags.kills[2]);
        flag::STATUS & !kept
    }
}

/// Whether the handler has to keep flags. A body that takes the CPU keeps them itself.
/// Whether an instruction does nothing but take its place: NOP in its many forms.
fn has_no_effect(insn: &Insn) -> bool {
    let form = insn.form();
    let plain = form.flow == Flow::Next && form.privilege == Privilege::User && form.status == Status::Implemented;
    plain && !form.takes_cpu && !form.flags.writes && form.exceptions.is_empty() && passed(insn).next().is_none()
}

/// Moves a comparison behind the instruction that stands between it and its branch, so that the two can be joined.
fn bring_together(items: &mut [Item]) {
    for at in 0..items.len().saturating_sub(2) {
        let [first, second, third] = &items[at..at + 3] else { continue };
        let (Ok(one), Ok(two), Ok(branch)) = (&first.insn, &second.insn, &third.insn) else { continue };
        if first.facts.writes && branch.form().condition.is_some() && liveness::may_swap(one, two) {
            items.swap(at, at + 1);
        }
    }
}

fn flag_is_live(item: &Item) -> bool {
    let by_handler = item.insn.is_ok_and(|insn| !insn.form().takes_cpu);
    by_handler && item.facts.writes && item.facts_written() & item.after != 0
}

fn find_pair(first: &[u64], live: bool, second: &[u64]) -> Option<Handler> {
    if !first.first().is_some_and(|key| keys::starts_pair(*key)) {
        return None;
    }
    for one in first {
        let one = one & !keys::LIVE | if live { keys::LIVE } else { 0 };
        for two in second {
            if let Some(handler) = keys::pair(one, *two) {
                return Some(handler);
            }
        }
    }
    None
}

impl Job<'_> {
    /// Reads the instruction at `eip`.
    fn fetch(&self, eip: u32) -> Result<Insn, Stop> {
        let mut bytes = [0; MAX_LEN];
        let fetched = self.memory.fetch(eip, &mut bytes);
        match decode(&bytes[..fetched], eip) {
            Ok(insn) if self.cpu.cpuid.has_all(insn.form().cpuid) => Ok(insn),
            Ok(_) | Err(DecodeError::Undefined) => Err(Stop::Undefined),
            Err(DecodeError::TooLong) => Err(Stop::TooLong),
            Err(DecodeError::TooShort) => {
                let missing = eip.wrapping_add(fetched as u32);
                let byte = self.memory.page_byte(missing);
                Err(Stop::Unfetchable(missing, byte & 7 != 0))
            }
        }
    }

    fn note_pages(&mut self, insn: &Insn) {
        for page in [insn.eip >> 12, insn.next_eip().wrapping_sub(1) >> 12] {
            if !self.pages.contains(&page) {
                self.pages.push(page);
            }
        }
    }

    /// Decodes along the likely path.
    fn decode(&mut self, eip: u32) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut at = eip;
        while items.len() < self.max {
            let insn = match self.fetch(at) {
                Ok(insn) => insn,
                Err(stop) => {
                    let facts = Facts { reads: 0, writes: false, kills: 0, barrier: true };
                    items.push(Item {
                        eip: at,
                        insn: Err(stop),
                        facts,
                        after: flag::STATUS,
                        slot: None,
                        keys: Vec::new(),
                        followed: false,
                    });
                    if !self.pages.contains(&(at >> 12))
                        && !matches!(stop, Stop::Unfetchable(addr, _) if addr == at)
                    {
                        self.pages.push(at >> 12);
                    }
                    break;
                }
            };
            self.note_pages(&insn);
            let form = insn.form();
            let facts = liveness::facts(&insn);
            let direct = form.operands.iter().any(|operand| operand.code == Code::J);
            let known =
                |target: u32| items.iter().any(|item: &Item| item.insn.is_ok_and(|insn| insn.eip == target));
            let follow = direct
                && !self.step
                && !self.verified
                && !insn.opsize16
                && form.privilege == Privilege::User
                && items.len() + 1 < self.max
                && insn.imm != insn.eip
                && !known(insn.imm)
                && match form.flow {
                    Flow::Jump => true,
                    Flow::Call => items.len() < INLINE_UNTIL,
                    _ => false,
                };
            let stops = form.privilege != Privilege::User
                || matches!(form.status, Status::Todo(_))
                || !(matches!(form.flow, Flow::Next | Flow::Branch) || follow);
            let writes_code = self.verified && facts.barrier;
            items.push(Item {
                eip: at,
                insn: Ok(insn),
                facts,
                after: flag::STATUS,
                slot: None,
                keys: Vec::new(),
                followed: follow,
            });
            if stops || writes_code {
                break;
            }
            at = if follow { insn.imm } else { insn.next_eip() };
        }
        items
    }

    /// Finds the flags needed behind each instruction.
    fn mark_live(&mut self, items: &mut [Item]) {
        if self.step || self.verified {
            return;
        }
        let mut live = match items.last().map(|item| item.insn) {
            Some(Ok(insn)) => match insn.form().flow {
                Flow::Next | Flow::Branch => self.lookahead(insn.next_eip()),
                Flow::Jump | Flow::Call
                    if insn.form().operands.iter().any(|operand| operand.code == Code::J) =>
                {
                    self.lookahead(insn.imm)
                }
                _ => flag::STATUS,
            },
            _ => flag::STATUS,
        };
        for item in items.iter_mut().rev() {
            if let Ok(insn) = item.insn
                && insn.form().flow == Flow::Branch
            {
                live |= self.lookahead(insn.imm);
            }
            item.after = live;
            live = liveness::before(&item.facts, live);
        }
    }

    /// Flags needed at `eip`; its pages become those of the block, which depends on them from now on.
    fn lookahead(&mut self, eip: u32) -> u8 {
        let mut at = eip;
        let mut read = Vec::new();
        let needed = liveness::lookahead(|| {
            let insn = self.fetch(at).ok()?;
            let plain = insn.form().privilege == Privilege::User && insn.form().status == Status::Implemented;
            at = insn.next_eip();
            read.push(insn);
            plain.then_some(insn)
        });
        if needed == flag::STATUS {
            return needed;
        }
        let fresh = read.iter().any(|insn| {
            [insn.eip, insn.next_eip().wrapping_sub(1)].iter().any(|addr| {
                self.memory.page_byte(*addr) & (crate::memory::page::VERIFY | crate::memory::page::SHARED)
                    != 0
            })
        });
        if fresh {
            return flag::STATUS;
        }
        for insn in &read {
            self.note_pages(insn);
        }
        needed
    }

    /// Whether an access is by a null selector, or a write by CS.
    fn may_not_access(&self, insn: &Insn) -> bool {
        if self.mode.null & 0b1111 == 0
            && insn.mem.is_none_or(|mem| !matches!(mem.seg, Seg::Fs | Seg::Gs))
            && insn.segment.is_none()
        {
            return false;
        }
        let null = |seg: Seg| seg != Seg::None && self.mode.null & 1 << seg as u8 != 0;
        insn.form().operands.iter().any(|operand| {
            if matches!(operand.access, Access::Address) {
                return false;
            }
            match operand.code {
                Code::E | Code::M | Code::O | Code::Q | Code::W => {
                    let refused = |seg: Seg| null(seg) || (seg == Seg::Cs && operand.access.writes());
                    operand.access != Access::Shown && insn.mem.is_some_and(|mem| refused(mem.seg))
                }
                Code::X => null(insn.segment.unwrap_or(Seg::Ds)),
                Code::Y => null(Seg::Es),
                _ => false,
            }
        })
    }

    /// The segment whose base has to be added: none in a flat one.
    fn segment(&self, seg: Seg) -> Seg {
        if !self.mode.based && !matches!(seg, Seg::Fs | Seg::Gs) { Seg::None } else { seg }
    }
}

/// Whether an immediate stands beside a memory operand or another immediate.
fn needs_second_slot(insn: &Insn) -> bool {
    let immediates = passed(insn).filter(|operand| matches!(operand.code, Code::I | Code::SignedI)).count();
    immediates > 1 || (insn.mem.is_some() && immediates > 0)
}

/// Byte offset of a register.
fn register_offset(number: u8, bytes: u32) -> u8 {
    if bytes == 1 { (number & 3) * 4 + (number >> 2) } else { number * 4 }
}

/// The operands that reach the body, as the generator counts them.
fn passed(insn: &Insn) -> impl Iterator<Item = &'static Operand> {
    insn.form().operands.iter().filter(|operand| {
        operand.access != Access::Shown && !matches!(operand.code, Code::J | Code::X | Code::Y)
    })
}

/// The register that an operand names in this encoding: its byte offset, or its number for those outside the file.
fn register(insn: &Insn, operand: &Operand) -> Option<u8> {
    let bytes = match operand.size {
        Size::B => 1,
        _ => 4,
    };
    Some(match operand.code {
        Code::E | Code::R if insn.mem.is_none() => register_offset(insn.rm(), bytes),
        Code::G => register_offset(insn.reg(), bytes),
        Code::Z => register_offset(insn.low, bytes),
        Code::Reg(number) => register_offset(number, bytes),
        Code::S | Code::C | Code::D => insn.reg(),
        Code::SegReg(number) => number,
        Code::StI => insn.rm(),
        Code::St => 0,
        _ => return None,
    })
}

/// The parts of keys that say where operands are, most special first. With `specialise` off only the generic one.
fn operand_keys(job: &Job<'_>, insn: &Insn, specialise: bool) -> Vec<u64> {
    use keys::spec;
    let mut result = vec![0];
    for (at, operand) in passed(insn).enumerate() {
        let part = |spec: u8| keys::operand(at, spec);
        let choices: Vec<u64> = match operand.code {
            Code::I | Code::SignedI => vec![part(spec::IMMEDIATE)],
            Code::A | Code::One | Code::S | Code::SegReg(_) | Code::C | Code::D | Code::St | Code::StI => {
                vec![0]
            }
            Code::Reg(_) => vec![part(spec::FIXED + register(insn, operand).unwrap_or(0))],
            _ => match register(insn, operand) {
                Some(offset) if specialise => vec![part(spec::FIXED + offset), part(spec::REGISTER)],
                Some(_) => vec![part(spec::REGISTER)],
                None => memory_keys(job, insn, at, specialise),
            },
        };
        result = result.iter().flat_map(|key| choices.iter().map(move |choice| key | choice)).collect();
    }
    result
}

/// The parts of keys for a memory operand.
fn memory_keys(job: &Job<'_>, insn: &Insn, at: usize, specialise: bool) -> Vec<u64> {
    use keys::spec;
    let part = |spec: u8| keys::operand(at, spec);
    let any = part(spec::MEMORY);
    let Some(mem) = insn.mem else { return vec![any] };
    let address_only = passed(insn).any(|operand| operand.access == Access::Address);
    let flat = address_only || job.segment(mem.seg) == Seg::None;
    if !specialise || !flat || insn.addr16 {
        return vec![any];
    }
    match (mem.base, mem.index) {
        (NO_REG, NO_REG) => vec![part(spec::ABSOLUTE), part(spec::SIB), any],
        (base, NO_REG) => vec![part(spec::FIXED_BASE + base * 4), part(spec::BASE), part(spec::SIB), any],
        (NO_REG, index) => vec![keys::indexed(at, index | 4 << 3 | mem.scale << 6), part(spec::SIB), any],
        (base, index) => vec![keys::indexed(at, base | index << 3 | mem.scale << 6), part(spec::SIB), any],
    }
}

/// Fills an op's fields.
fn encode(job: &Job<'_>, insn: &Insn, handler: Handler) -> Op {
    let form = insn.form();
    let mut op = Op { handler, a: 0, b: 0, c: 0, d: 0, imm: insn.imm };
    let mut registers = passed(insn).filter_map(|operand| register(insn, operand));
    op.a = registers.next().unwrap_or(0);
    op.b = registers.next().unwrap_or(0);
    if insn.addr16 {
        op.d |= attribute::ADDR16;
    }
    if insn.lock {
        op.d |= attribute::LOCKED;
    }
    let strings = form.operands.iter().any(|operand| matches!(operand.code, Code::X | Code::Y));
    if strings {
        op.a = match (form.rep, insn.rep) {
            (Rep::Ignored, _) | (_, 0) => 0,
            (_, 0xf3) => 1,
            _ => 2,
        };
        op.d |= (insn.segment.unwrap_or(Seg::Ds) as u8) << attribute::SEG_SHIFT;
    }
    if let Some(mem) = insn.mem {
        let offset = |register: u8| if register == NO_REG { ZERO_REG } else { register * 4 };
        op.b = offset(mem.base);
        op.c = offset(mem.index);
        let address_only = passed(insn).any(|operand| operand.access == Access::Address);
        let seg = if address_only { Seg::None } else { job.segment(mem.seg) };
        op.d |= mem.scale | (seg as u8) << attribute::SEG_SHIFT;
        op.imm = mem.disp;
        if form.after_pop && mem.base == 4 {
            op.imm = op.imm.wrapping_add(insn.operand_bytes());
        }
    }
    op
}
