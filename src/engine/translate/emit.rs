//! Writing a block: the ops of its instructions, its links, and pairs joined. Unsafe: as the translator that it is part of.

use super::{Block, MAX_SLOTS, NO_LINK, Pending, Scratch, Translations};
use crate::cpu::exec::attribute;
use crate::engine::encode::{encode, operand_keys};
use crate::engine::op::{Ext, Handler, Op};
use crate::engine::path::{Item, Job, Stop, flag_is_live, has_no_effect};
use crate::engine::refuse::{self, Limit, waits_for_fpu};
use crate::engine::{handlers, keys};
use crate::fpu::Backend;
use crate::isa::{Flow, Imm, Implicit, Insn, Lock, Operand, Privilege, Rep, Status};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Slots that an instruction takes at most if it can be the first of a pair.
const MAX_INSN_SLOTS: usize = 2;

impl Translations {
    /// Writes ops, stubs and the side table.
    pub(super) fn emit(&mut self, job: &Job<'_>, items: &mut [Item], eip: u32) {
        let start = self.arena.used();
        let first = self.places.len();
        let Scratch { links, ops, .. } = &mut self.scratch;
        let (mut links, mut ops) = (std::mem::take(links), std::mem::take(ops));
        let mut copy = None;
        if job.quick && !job.verified {
            self.push_warm(eip);
        }
        if job.verified && !job.step {
            ops.push(start);
            copy = self.emit_verifier(job, items, eip);
        }
        let site = (self.settings.count && !job.step).then(|| {
            let insns = items.iter().filter_map(|item| item.insn.ok()).map(|insn| (insn.eip, insn.index));
            self.sites.entry(insns.collect())
        });
        let site = site.flatten();
        if let Some(site) = site {
            self.arena.push_op(Op { handler: handlers::tally, a: 0, b: 0, c: 0, d: 0, imm: site });
            self.arena.push_ext(Ext { link: AtomicPtr::default(), imm2: eip, aux: 0 });
        }
        let mut open = true;
        let mut next_eip = eip;
        let mut done = 0;
        for item in items.iter_mut() {
            let slot = self.arena.used();
            // A followed jump has no op; its place in the side table keeps the count of instructions right.
            self.places.push(((slot - start) as u16, item.eip));
            done += 1;
            match item.insn {
                Err(stop) => {
                    ops.push(slot);
                    self.emit_stop(stop);
                    open = false;
                }
                Ok(insn) => {
                    next_eip = if item.followed { insn.imm } else { insn.next_eip() };
                    if !(item.followed && insn.form().flow == Flow::Jump || has_no_effect(&insn)) {
                        if self.push_limit(job, &insn) {
                            ops.push(slot);
                        }
                        let slot = self.arena.used();
                        item.slot = Some(slot);
                        ops.push(slot);
                        open = self.emit_insn(job, item, &insn, done, &mut links);
                    }
                }
            }
        }
        if open {
            ops.push(self.arena.used());
        }
        self.close(start, open.then_some(next_eip), done, &mut links);
        let mut seconds = Vec::new();
        let well = !job.step && !job.quick;
        if self.settings.specialise && well {
            seconds = self.join_pairs(items);
        }
        if let (Some(stitcher), true) = (&mut self.stitcher, well) {
            let wanted = ops.iter().filter(|slot| !seconds.contains(slot));
            let ops: Vec<*mut Op> = wanted.map(|slot| self.arena.at(*slot)).collect();
            let fpu = &job.cpu.fpu;
            let top = (self.settings.fpu == Backend::Soft && fpu.is_short()).then(|| fpu.top());
            // SAFETY: the ops of this block in order, which nobody runs yet.
            unsafe { stitcher.stitch(&ops, job.is_flat(), top) };
        }
        for mut link in links.drain(..) {
            if let (Some(site), Some(done)) = (site, link.done) {
                self.emit_exit(&mut link, site, done);
            }
            self.emit_link(job, start, &link);
        }
        let block = self.written(job, start, first, eip);
        self.blocks.push(Block { _copy: copy, site, ..block });
        debug_assert!(self.blocks[self.blocks.len() - 1].end - start <= MAX_SLOTS);
        ops.clear();
        (self.scratch.links, self.scratch.ops) = (links, ops);
    }

    /// The block whose ops were written last, from slot `start` and place `first` on.
    pub(super) fn written(&self, job: &Job<'_>, start: usize, first: usize, eip: u32) -> Block {
        Block {
            start,
            end: self.arena.used(),
            eip,
            mode: job.mode,
            insns: first..self.places.len(),
            _copy: None,
            valid: true,
            quick: job.quick && !job.verified,
            site: None,
            incoming: NO_LINK,
        }
    }

    /// The entry of a quick block, which counts its runs.
    pub(super) fn push_warm(&mut self, eip: u32) {
        let [a, b, c, d] = self.settings.warm.to_ne_bytes();
        self.arena.push_op(Op { handler: handlers::warm, a, b, c, d, imm: eip });
        self.arena.push_ext(Ext { link: AtomicPtr::default(), imm2: 0, aux: 0 });
    }

    /// Lets the block, of `done` instructions, go on at an address, if it does, and makes it two slots long at least.
    pub(super) fn close(&mut self, start: usize, goes_on: Option<u32>, done: u32, links: &mut Vec<Pending>) {
        if let Some(target) = goes_on {
            self.emit_jump(target, done, links);
        }
        if self.arena.used() - start < 2 {
            self.emit_stop(Stop::Undefined);
        }
    }

    /// Puts a stub before the target of a branch that leaves the block before its end: it counts that.
    fn emit_exit(&mut self, link: &mut Pending, site: u32, done: u32) {
        let Some(exit) = self.sites.exit(site, done) else { return };
        let stub =
            self.arena.push_op(Op { handler: handlers::tally_exit, a: 0, b: 0, c: 0, d: 0, imm: exit });
        self.arena.push_op(Op { handler: handlers::jump, a: 0, b: 0, c: 0, d: 0, imm: 0 });
        // What the branch has counted is not counted again.
        let ext = self.push_link(link.target, 0);
        // SAFETY: the branch's second slot, written by `push_link`.
        unsafe { &*self.arena.at(link.ext).cast::<Ext>() }.link.store(self.arena.at(stub), Ordering::Release);
        link.ext = ext;
    }

    fn emit_verifier(&mut self, job: &Job<'_>, items: &[Item], eip: u32) -> Option<Box<[u8]>> {
        let end = items.iter().rev().find_map(|item| item.insn.as_ref().ok()).map(Insn::next_eip)?;
        let bytes: Box<[u8]> = job.snapshot.as_ref()?.bytes.get(..end.wrapping_sub(eip) as usize)?.into();
        self.arena.push_op(Op { handler: handlers::verify, a: 0, b: 0, c: 0, d: 0, imm: eip });
        let link = AtomicPtr::new(bytes.as_ptr().cast_mut().cast());
        self.arena.push_ext(Ext { link, imm2: eip, aux: bytes.len() as u32 });
        Some(bytes)
    }

    pub(super) fn emit_stop(&mut self, stop: Stop) {
        let (handler, imm, present): (Handler, u32, bool) = match stop {
            Stop::Undefined => (refuse::undefined, 0, false),
            Stop::TooLong => (refuse::too_long, 0, false),
            Stop::Unfetchable(addr, present) => (refuse::unfetchable, addr, present),
            Stop::Breakpoint => (refuse::breakpoint, 0, false),
        };
        self.arena.push_op(Op { handler, a: u8::from(present), b: 0, c: 0, d: 0, imm });
    }

    fn emit_jump(&mut self, target: u32, done: u32, links: &mut Vec<Pending>) {
        self.arena.push_op(Op { handler: handlers::jump, a: 0, b: 0, c: 0, d: 0, imm: 0 });
        links.push(Pending { ext: self.push_link(target, done), target, done: None });
    }

    fn push_link(&mut self, target: u32, done: u32) -> usize {
        self.arena.push_ext(Ext { link: AtomicPtr::default(), imm2: target, aux: done })
    }

    /// Points a link at its block, or at a stub that asks for it.
    pub(super) fn emit_link(&mut self, job: &Job<'_>, start: usize, link: &Pending) {
        let ext = self.arena.at(link.ext).cast::<Ext>();
        let found = if job.step { None } else { self.entries.get(&(job.mode, link.target)).copied() };
        let target = match found {
            Some(block) => {
                if link.ext != start + 1 {
                    self.note_link(link.ext, block);
                }
                self.arena.at(self.blocks[block as usize].start)
            }
            None => {
                let op = Op { handler: handlers::unlinked, a: 0, b: 0, c: 0, d: 0, imm: link.target };
                let stub = self.arena.push_op(op);
                self.arena.push_ext(Ext { link: AtomicPtr::new(ext.cast()), imm2: 0, aux: 0 });
                self.arena.at(stub)
            }
        };
        // SAFETY: `ext` is a second slot written by `push_link`.
        unsafe { &*ext }.link.store(target, Ordering::Release);
    }

    /// Writes an instruction's slots. Tells whether the block goes on behind it.
    pub(super) fn emit_insn(
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
            self.arena.push_op(plain(refuse::privileged));
            return false;
        }
        if job.may_not_access(insn) {
            // #GP(0), as for a privileged instruction; but nothing is accessed when nothing is left to repeat.
            if form.rep != Rep::Ignored && insn.rep != 0 {
                let op = plain(refuse::privileged_repeat);
                self.arena.push_op(Op { d: if insn.addr16 { attribute::ADDR16 } else { 0 }, ..op });
                return true;
            }
            let waits = waits_for_fpu(form);
            let pops = form.also.iter().any(|also| matches!(also.place, Implicit::Above { .. }));
            let handler: Handler = match insn.opsize16 {
                _ if waits => refuse::privileged_wait,
                true if pops => refuse::privileged_pop::<u16>,
                false if pops => refuse::privileged_pop::<u32>,
                _ => refuse::privileged,
            };
            self.arena.push_op(plain(handler));
            return false;
        }
        if let Status::Todo(_) = form.status {
            self.arena.push_op(plain(refuse::todo_row));
            return false;
        }
        let shape = self.shapes.of(insn);
        let family = form.families[usize::from(insn.opsize16)];
        let direct = insn.is_direct();
        let locked = insn.mem.is_some() && (insn.lock || form.lock == Lock::Always);
        let live = flag_is_live(item);
        let family = keys::family(family, live, locked, item.condition(insn));
        let software = self.settings.fpu == Backend::Soft;
        let single = |key| keys::single_for(key, software);
        let first = if self.settings.specialise && !job.step && !job.quick {
            let choices = operand_keys(job, insn);
            let choices = choices.iter().map(|operands| operands | family);
            item.keys = choices.filter(|key| keys::single(*key).is_some()).collect();
            item.keys.first().and_then(|key| single(*key))
        } else {
            single(shape.generic | family)
        };
        let Some(handler) = first else {
            // The generator makes a generic handler for whatever it declares; a gap is an instruction that is missing.
            self.arena.push_op(plain(refuse::todo_row));
            return false;
        };
        let mut op = encode(job, insn, shape, handler);
        let (second_slot, beside) = (shape.second_slot, shape.register_beside(insn));
        let next = insn.next_eip();
        match form.flow {
            Flow::Next if form.needs_eip || second_slot => {
                self.arena.push_op(op);
                self.push_where(insn, beside, done, form.needs_eip);
                true
            }
            Flow::Next => {
                self.arena.push_op(op);
                true
            }
            Flow::Branch => {
                self.arena.push_op(op);
                let exit = item.exit(insn);
                links.push(Pending { ext: self.push_link(exit, done), target: exit, done: Some(done) });
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
                links.push(Pending { ext: self.push_link(next, 0), target: next, done: None });
                true
            }
            Flow::Call if direct => {
                op.imm = if insn.opsize16 { next & 0xffff } else { next };
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(insn.imm, done), target: insn.imm, done: None });
                links.push(Pending { ext: self.push_link(next, 0), target: next, done: None });
                false
            }
            Flow::Call => {
                self.arena.push_op(op);
                links.push(Pending { ext: self.push_link(next, done), target: next, done: None });
                false
            }
            Flow::Jump | Flow::Ret => {
                self.arena.push_op(op);
                self.push_link(0, done);
                false
            }
            Flow::Far | Flow::Sync | Flow::Trap => {
                self.arena.push_op(op);
                self.push_where(insn, beside, done, true);
                false
            }
        }
    }

    /// An op before an instruction that refuses its memory operand where that runs over the end of a segment which may have a
    /// base; tells whether one is needed.
    #[inline(always)]
    pub(super) fn push_limit(&mut self, job: &Job<'_>, insn: &Insn) -> bool {
        job.open_operand(insn).is_some_and(|operand| self.push_limit_of(job, insn, operand))
    }

    #[inline(never)]
    fn push_limit_of(&mut self, job: &Job<'_>, insn: &Insn, operand: &Operand) -> bool {
        let Some((limit, bytes)) = Limit::of_operand(insn, operand) else { return false };
        let op = encode(job, insn, self.shapes.of(insn), refuse::limit);
        self.arena.push_op(op);
        self.arena.push_ext(Ext { link: AtomicPtr::default(), imm2: bytes, aux: limit.bits() });
        true
    }

    /// The second slot of an instruction that is no branch.
    fn push_where(&mut self, insn: &Insn, beside: Option<u8>, done: u32, with_eip: bool) {
        let place = if with_eip { u64::from(insn.next_eip()) << 32 | u64::from(insn.eip) } else { 0 };
        let link = AtomicPtr::new(place as usize as *mut Op);
        let imm2 = match insn.form().imms {
            // What the FPU keeps of its last instruction.
            [] => u32::from(insn.x87_opcode()) | insn.mem.map_or(0, |mem| (mem.seg as u32) << 16),
            // A far pointer's selector and ENTER's level are the second immediate.
            [Imm::Cp] | [_, _, ..] => insn.imm2,
            [_] => insn.imm,
        };
        let aux = beside.map_or(done, u32::from);
        self.arena.push_ext(Ext { link, imm2, aux });
    }

    /// Overwrites the first handler of pairs that have one of their own; the second op stays valid. Gives the slots of second ops.
    fn join_pairs(&mut self, items: &[Item]) -> Vec<usize> {
        let mut seconds = Vec::new();
        let mut joined = vec![false; items.len() + 1];
        // Branches first: a comparison that is joined with its jump needs no flags.
        for branches in [true, false] {
            for index in (0..items.len().saturating_sub(1)).rev() {
                let (first, second) = (&items[index], &items[index + 1]);
                let (Some(slot), Some(second_slot)) = (first.slot, second.slot) else { continue };
                let (Ok(insn), Ok(next)) = (first.insn, second.insn) else { continue };
                let is_branch = next.form().flow == Flow::Branch;
                // Where the second has a limit, that stands between the two.
                let apart = second_slot - slot > MAX_INSN_SLOTS;
                if apart
                    || joined[index]
                    || joined[index + 1]
                    || is_branch != branches
                    || insn.form().flow != Flow::Next
                {
                    continue;
                }
                // Only what is needed behind the second instruction has to be written.
                let needed = match first.needed_behind(second) {
                    true if is_branch && first.needed_at_exit(second) => keys::LIVE | keys::AT_EXIT,
                    true => keys::LIVE,
                    false => 0,
                };
                let software = self.settings.fpu == Backend::Soft;
                if let Some(handler) = find_pair(&first.keys, needed, &second.keys, software) {
                    // SAFETY: the slot of an op of this block, which nobody runs yet.
                    unsafe { (*self.arena.at(slot)).handler = handler };
                    joined[index] = true;
                    joined[index + 1] = true;
                    seconds.push(second_slot);
                }
            }
        }
        seconds
    }
}

/// The handler of two instructions with one of these keys each; `needed` are the bits of the first one's that say for whom it keeps
/// flags.
fn find_pair(first: &[u64], needed: u64, second: &[u64], software: bool) -> Option<Handler> {
    if !first.first().is_some_and(|key| keys::starts_pair(*key)) {
        return None;
    }
    for one in first {
        let one = one & !keys::LIVE | needed;
        for two in second {
            if let Some(handler) = keys::pair_for(one, *two, software) {
                return Some(handler);
            }
        }
    }
    None
}
