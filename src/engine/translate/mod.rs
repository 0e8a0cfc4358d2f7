//! The translator: from guest code to superblocks of ops. Unsafe: writes ops that handlers will trust.
//!
//! A superblock runs from its entry past untaken conditional branches and through direct jumps and calls until an instruction
//! whose successor only the guest knows. Its way: decode, find which flags are needed, choose handlers, join pairs, link.

mod emit;
mod quick;

use super::arena::Arena;
use super::encode::{Shapes, operand_keys};
use super::hash::Map;
use super::op::{Ext, Handler, Op};
use super::path::{Item, Job, MAX_INSNS, Mode, Profile, flag_is_live};
use super::stitch::Stitcher;
use super::tally::Sites;
use super::{handlers, keys};
use crate::cpu::Cpu;
use crate::fpu::Backend;
use crate::isa::{Flow, Lock, Privilege, Status};
use crate::memory::Memory;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Ops that a superblock can take at most: three slots an instruction and two for a limit, a stub for each of its two links, a
/// verifier, counters and an end.
pub(super) const MAX_SLOTS: usize = MAX_INSNS * 10 + 16;

/// Good translations begin when the guest has executed this many instructions for each run that makes a block warm: before,
/// what they need to be made at all costs more than a short program takes as a whole.
const SETTLED: u64 = 1000;

/// What has run less than this part of what makes a block warm is no part of another one.
const SELDOM: u32 = 8;

/// How to translate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Use handlers specialised by register, and pairs. Off, results must be the same.
    pub(crate) specialise: bool,
    /// Lay the handlers of a block out in a row, where the host allows it.
    pub(crate) stitch: bool,
    /// How often a block has to run to be worth a good translation: before, it has a quick one. 0: all have a good one at once.
    pub(crate) warm: u32,
    /// What computes for the x87. A translation made for one is right for both, and faster for its own.
    pub(crate) fpu: Backend,
    /// Count how often each instruction runs: see [`super::tally`].
    pub(crate) count: bool,
}

/// A translated block.
struct Block {
    start: usize,
    end: usize,
    eip: u32,
    mode: Mode,
    /// Its instructions in [`Translations::places`].
    insns: Range<usize>,
    /// What `verify` compares with.
    _copy: Option<Box<[u8]>>,
    valid: bool,
    /// Quickly made; it counts how often it runs.
    quick: bool,
    /// Where it is counted that it runs.
    site: Option<u32>,
    /// Of a quick block, the last link to it in [`Translations::incoming`], or [`NO_LINK`].
    incoming: u32,
}

/// The place of no link in [`Translations::incoming`].
const NO_LINK: u32 = u32::MAX;

/// All translations of a process.
pub(crate) struct Translations {
    arena: Arena,
    blocks: Vec<Block>,
    /// Slot (from its block's `start`) and address of each instruction.
    places: Vec<(u16, u32)>,
    entries: Map<(Mode, u32), u32>,
    by_page: Map<u32, Vec<u32>>,
    /// Entries of invalid blocks, to be led on to the next translation of their address.
    stale: Map<(Mode, u32), Vec<usize>>,
    /// Links to quick blocks, to be led to their better translations: the slot, and the place here of the one before that leads to the
    /// same block.
    incoming: Vec<(usize, u32)>,
    settings: Settings,
    stitcher: Option<Stitcher>,
    /// The guest has run for so long that good translations will pay.
    settled: bool,
    breakpoints: Arc<HashSet<u32>>,
    sites: Sites,
    shapes: Shapes,
    /// Kept for the next block, so that it need not be allocated.
    scratch: Scratch,
}

/// What the translator needs for a block.
#[derive(Default)]
struct Scratch {
    items: Vec<Item>,
    links: Vec<Pending>,
    ops: Vec<usize>,
    pages: Vec<u32>,
}

/// Where a fault happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    pub(crate) eip: u32,
    /// Instructions of the block that are complete.
    pub(crate) done: u32,
    /// So many ops before it are the x87's and may have left no notes for its pointers.
    #[cfg_attr(not(trap_memory), allow(dead_code))] // the host's FPU needs traps
    pub(crate) run: u8,
    /// Where it is counted that the block runs.
    pub(crate) site: Option<u32>,
}

/// A link to be made at the end of a block: the slot of its `Ext`, and where it goes.
struct Pending {
    ext: usize,
    target: u32,
    /// It leaves the block behind so many instructions, perhaps before its end.
    done: Option<u32>,
}

impl Translations {
    /// None yet, and room for so many slots.
    pub(crate) fn new(settings: Settings, slots: usize) -> std::io::Result<Translations> {
        Ok(Translations {
            arena: Arena::new(slots)?,
            blocks: Vec::new(),
            places: Vec::new(),
            entries: Map::default(),
            by_page: Map::default(),
            stale: Map::default(),
            incoming: Vec::new(),
            settings,
            stitcher: if settings.stitch { Stitcher::new() } else { None },
            settled: false,
            breakpoints: Arc::default(),
            sites: Sites::default(),
            shapes: Shapes::new(settings.fpu == Backend::Soft),
            scratch: Scratch::default(),
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
        !self.arena.fits(MAX_SLOTS) || self.stitcher.as_ref().is_some_and(Stitcher::is_full)
    }

    /// Forgets all translations. Nobody may be running one, and caches of targets have to be cleared.
    pub(crate) fn flush(&mut self) {
        self.arena.truncate(0);
        self.blocks.clear();
        self.places.clear();
        self.entries.clear();
        self.by_page.clear();
        self.stale.clear();
        self.incoming.clear();
        if let Some(stitcher) = &mut self.stitcher {
            stitcher.clear();
        }
    }

    /// Translates the block at `eip` and keeps it. Other machines may run meanwhile.
    pub(crate) fn translate(&mut self, cpu: &Cpu, memory: &Memory, eip: u32) -> *const Op {
        let mode = Mode::of(cpu);
        let quick = self.settings.warm != 0;
        let job = if quick { Job::quick(cpu, memory, mode) } else { Job::new(cpu, memory, mode) };
        let start = self.add(job, eip);
        for old in self.stale.remove(&(mode, eip)).unwrap_or_default() {
            self.lead_on(old, start, eip);
        }
        self.arena.at(start)
    }

    /// Translates the block at `eip` anew and well if its translation is a quick one. Other machines may run meanwhile, the
    /// quick one too. A guest that has run for a short time only has to wait.
    pub(crate) fn improve(&mut self, cpu: &Cpu, memory: &Memory, eip: u32) -> *const Op {
        let mode = Mode::of(cpu);
        let Some(&quick) = self.entries.get(&(mode, eip)) else { return self.translate(cpu, memory, eip) };
        let start = self.blocks[quick as usize].start;
        if !self.blocks[quick as usize].quick {
            return self.arena.at(start);
        }
        self.settled |= cpu.count >= u64::from(self.settings.warm) * SETTLED;
        if !self.settled {
            // One more, as the run that has asked is still to be done.
            self.count_from(start, self.settings.warm.saturating_add(1));
            return self.arena.at(start);
        }
        let start = self.add(Job::new(cpu, memory, mode), eip);
        // Its first two slots are those that count.
        self.lead_on(self.blocks[quick as usize].start, start, eip);
        let entry = self.arena.at(start);
        let mut link = std::mem::replace(&mut self.blocks[quick as usize].incoming, NO_LINK);
        while let Some(&(slot, before)) = self.incoming.get(link as usize) {
            link = before;
            // SAFETY: the second slot of a branch.
            unsafe { &*self.arena.at(slot).cast::<Ext>() }.link.store(entry, Ordering::Release);
        }
        entry
    }

    /// How often the block at an address has run, as far as it was counted: at most as often as makes it warm.
    fn runs(&self, mode: Mode, eip: u32) -> u32 {
        let Some(&block) = self.entries.get(&(mode, eip)) else { return 0 };
        let block = &self.blocks[block as usize];
        if block.quick {
            self.settings.warm.saturating_sub(self.counter(block.start).load(Ordering::Relaxed))
        } else {
            self.settings.warm
        }
    }

    /// What a quick block counts down.
    fn counter(&self, start: usize) -> &AtomicU32 {
        let op = self.arena.at(start);
        // SAFETY: the entry of a quick block; its four fields are the number that `warm` counts down, aligned like one.
        unsafe { AtomicU32::from_ptr((&raw mut (*op).a).cast()) }
    }

    /// Lets a quick block run so often before it asks for a good translation. Other machines may be counting in it.
    fn count_from(&self, start: usize, runs: u32) {
        self.counter(start).store(runs, Ordering::Relaxed);
    }

    /// Makes the block at `eip` and enters it into the tables; gives its first slot.
    fn add(&mut self, mut job: Job<'_>, eip: u32) -> usize {
        job.breakpoints = (!self.breakpoints.is_empty()).then(|| Arc::clone(&self.breakpoints));
        job.pages = std::mem::take(&mut self.scratch.pages);
        let index = self.blocks.len() as u32;
        if !job.quick || self.settings.count || !self.add_quick(&mut job, eip) {
            let mut items = std::mem::take(&mut self.scratch.items);
            let mode = job.mode;
            let is_rare = |eip: u32| self.runs(mode, eip) < self.settings.warm / SELDOM;
            let profile: Profile<'_> = if self.settings.warm != 0 { Some(&is_rare) } else { None };
            job.read(eip, self.settings.specialise, profile, &mut items);
            // Which pages it is can only be known by reading them, but what is read of a page counts only when no write to it
            // can go unnoticed any more.
            while job.guard_pages() {
                job.read(eip, self.settings.specialise, profile, &mut items);
            }
            self.emit(&job, &mut items, eip);
            self.scratch.items = items;
        }
        for page in &job.pages {
            self.by_page.entry(*page).or_default().push(index);
        }
        self.entries.insert((job.mode, eip), index);
        self.scratch.pages = std::mem::take(&mut job.pages);
        self.blocks[index as usize].start
    }

    /// Translates one instruction, all flags exact, for [`Translations::drop_step`] to forget.
    pub(crate) fn step(&mut self, cpu: &Cpu, memory: &Memory, eip: u32) -> *const Op {
        let mut job = Job { max: 1, step: true, ..Job::new(cpu, memory, Mode::of(cpu)) };
        let mut items = Vec::with_capacity(1);
        job.decode(eip, None, &mut items);
        job.mark_live(&mut items);
        self.emit(&job, &mut items, eip);
        self.arena.at(self.blocks[self.blocks.len() - 1].start)
    }

    /// Forgets what `step` made.
    pub(crate) fn drop_step(&mut self) {
        if let Some(block) = self.blocks.pop() {
            self.arena.truncate(block.start);
            self.places.truncate(block.insns.start);
        }
    }

    /// Whether an op belongs to what `step` made last.
    pub(crate) fn in_step(&self, op: *const Op) -> bool {
        let last = self.blocks.last().map_or(usize::MAX, |block| block.start);
        self.arena.slot_of(op).is_some_and(|slot| slot >= last)
    }

    /// After an access that faulted: completes the CPU's state.
    pub(crate) fn make_good(&self, cpu: &mut Cpu) {
        if let Some(stitcher) = &self.stitcher {
            stitcher.make_good(cpu);
        }
    }

    /// Where an op stands in the guest's code.
    pub(crate) fn locate(&self, op: *const Op) -> Option<Location> {
        let slot = self.arena.slot_of(op)?;
        let at = self.blocks.partition_point(|block| block.start <= slot).checked_sub(1)?;
        let block = &self.blocks[at];
        let offset = (slot - block.start) as u16;
        let insns = &self.places[block.insns.clone()];
        let index = insns.partition_point(|(slot, _)| *slot <= offset).checked_sub(1)?;
        let run = self.stitcher.as_ref().map_or(0, |stitcher| stitcher.run_before(op));
        Some(Location { eip: insns[index].1, done: index as u32, run, site: block.site })
    }

    /// Where it is counted what runs.
    pub(crate) fn sites(&self) -> &Sites {
        &self.sites
    }

    /// Where blocks stop.
    pub(crate) fn breakpoints(&self) -> &HashSet<u32> {
        &self.breakpoints
    }

    /// Chooses for which way of computing for the x87 code is translated from now on.
    pub(crate) fn set_fpu(&mut self, backend: Backend) {
        self.settings.fpu = backend;
        self.shapes = Shapes::new(backend == Backend::Soft);
    }

    /// Lets blocks stop at these addresses only.
    pub(crate) fn set_breakpoints(&mut self, wanted: HashSet<u32>) {
        let changed: Vec<u32> =
            self.breakpoints.symmetric_difference(&wanted).map(|addr| addr >> 12).collect();
        self.breakpoints = Arc::new(wanted);
        self.invalidate(&changed);
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
        // SAFETY: a block has at least two slots and nobody runs this one: blocks are retired while no handlers run.
        unsafe { self.arena.at(start).write(op) };
    }

    /// Turns the entry of an invalid or quick block into a jump to the valid or good one. Other machines may be at the entry,
    /// `stale` or `warm` until now, whose fields stay as they are.
    fn lead_on(&mut self, old: usize, new: usize, eip: u32) {
        let link = AtomicPtr::new(self.arena.at(new));
        let jump: Handler = handlers::jump;
        // SAFETY: a block has at least two slots. The second one is nobody's, neither since a block was retired nor while it counts,
        // and the handler's address is replaced as a whole, behind what it needs.
        unsafe {
            self.arena.at(old + 1).cast::<Ext>().write(Ext { link, imm2: eip, aux: 0 });
            let handler = &raw mut (*self.arena.at(old)).handler;
            AtomicPtr::from_ptr(handler.cast()).store(jump as *mut (), Ordering::Release);
        }
    }

    /// Leads the branch whose second slot is `patch` straight to the block at `eip`, which is translated, from now on.
    pub(crate) fn link(&mut self, patch: *mut Ext, mode: Mode, eip: u32) {
        let Some(&block) = self.entries.get(&(mode, eip)) else { return };
        if let Some(slot) = self.arena.slot_of(patch.cast()) {
            self.note_link(slot, block);
        }
        let entry = self.arena.at(self.blocks[block as usize].start);
        // SAFETY: `unlinked` hands out the slot of a branch that is in the arena.
        unsafe { &*patch }.link.store(entry, Ordering::Release);
    }

    /// Remembers a link to a block that may get a better translation.
    fn note_link(&mut self, slot: usize, block: u32) {
        if !self.blocks[block as usize].quick {
            return;
        }
        let at = self.blocks.partition_point(|block| block.start <= slot);
        // The second slot of a block may come to lead to its own next translation.
        let second = at.checked_sub(1).is_some_and(|at| self.blocks[at].start + 1 == slot);
        if !second {
            let link = self.incoming.len() as u32;
            let before = std::mem::replace(&mut self.blocks[block as usize].incoming, link);
            self.incoming.push((slot, before));
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
        let mut job = Job::new(cpu, memory, Mode::of(cpu));
        let mut items = Vec::new();
        job.read(eip, true, None, &mut items);
        let mut targets = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Ok(insn) = item.insn else { continue };
            if insn.is_direct() {
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
    let condition = item.condition(&insn);
    plain.then(|| {
        operand_keys(job, &insn).iter().next().unwrap_or(0)
            | keys::family(family, live, form.lock == Lock::Always && insn.mem.is_some(), condition)
    })
}
