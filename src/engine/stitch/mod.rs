//! Lays the handlers of a superblock out in a row, so that no jump is left between them. Unsafe: reads handlers, writes code.
//!
//! An interpreter pays for the jump from handler to handler. Here the machine code of a block's handlers, as the compiler made
//! it, is copied one behind the other ([`template`]); the op's handler becomes the copy, so nothing else has to know. What cannot be
//! copied is jumped to as ever. Where no executable memory is to be had, all blocks stay chains.

mod access;
mod analysis;
mod code;
mod draft;
mod facts;
mod flat;
mod floats;
mod kept;
mod runs;
mod saves;
mod sum;
mod template;
mod top;
mod vector;

use super::arena;
use super::hash::Map;
use super::op::Op;
use super::recover::HostState;
use crate::cpu::{Cpu, V128};
use draft::{Draft, Fixup, advance, leave};
use kept::{HOSTS, Kept};
use runs::Omit;
use std::collections::HashMap;
use template::{Template, template};

/// Reserved for copies; pages are used only when written.
const BYTES: usize = 256 << 20;
/// No block's copy takes more.
const MOST: usize = 256 << 10;
/// Farther than this from the handlers, and a distance might not fit into 32 bits.
const REACH: usize = 1 << 30;
/// How far the first copies are from the handlers, by the low bits of their addresses: farther than the program is long.
const APART: usize = 12 << 20;
/// The longest a handler's code may be.
const WINDOW: usize = 1 << 11;

/// Copied code, and what is known about handlers.
pub(super) struct Stitcher {
    base: *mut u8,
    used: usize,
    /// `None` of a handler that cannot be copied.
    templates: Vec<Option<Box<Template>>>,
    /// Place in `templates` by handler, and what is left out.
    places: Map<(usize, Omit), usize>,
    /// Ops behind others of the x87 whose notes are left out, and behind how many.
    runs: HashMap<*const Op, u8>,
    /// Where a block's copy is put together.
    draft: Draft,
    /// Of all copies, in the order of their places.
    fixups: Vec<Fixup>,
}

// SAFETY: the range belongs to the stitcher, and code in it is changed only while nobody runs it.
unsafe impl Send for Stitcher {}

unsafe extern "C" {
    /// The end of the program's code, from the linker.
    static etext: u8;
}

impl Stitcher {
    /// Reserves room for copies near the handlers. `None` if there is none, or it may not be executable.
    pub(super) fn new() -> Option<Stitcher> {
        // Handlers that return to a loop have no jump to be left out.
        if !cfg!(tail_calls) {
            return None;
        }
        let near = super::handlers::jump as *const () as usize;
        // A processor tells jumps apart by the low bits of their addresses. Where those of the first copies were those of the handlers of
        // RET and the like, returns took up to three times as long.
        let start = (near & !0xfff) + APART;
        // Below the program first: its heap grows upward behind it. A static program has the guest's space there.
        let steps = (1..8).map(|at| at * (REACH / 16));
        let below = steps.clone().map(|step| start.wrapping_sub(step + BYTES));
        let places = below.chain(steps.map(|step| start.wrapping_add(step)));
        for place in places {
            // SAFETY: a fresh mapping that replaces nothing.
            let base = unsafe {
                libc::mmap(
                    place as *mut libc::c_void,
                    BYTES,
                    libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
                    -1,
                    0,
                )
            };
            if base == libc::MAP_FAILED {
                continue;
            }
            // SAFETY: the range that was just mapped.
            unsafe { arena::use_large_pages(base.cast(), BYTES) };
            let stitcher = Stitcher {
                base: base.cast(),
                used: 0,
                templates: Vec::new(),
                places: Map::default(),
                runs: HashMap::new(),
                draft: Draft::default(),
                fixups: Vec::new(),
            };
            // An old kernel takes the address for a hint.
            if (base as usize).abs_diff(near) + BYTES < 2 * REACH - WINDOW {
                return Some(stitcher);
            }
        }
        None
    }

    /// Whether there may be no room for the next block's copy; then everything has to be flushed.
    pub(super) fn is_full(&self) -> bool {
        BYTES - self.used < MOST
    }

    /// Forgets all copies. Nobody may be running one.
    pub(super) fn clear(&mut self) {
        // Gives the pages back; and as all processors hear of that, none goes on with what it has fetched of them before.
        // SAFETY: the range that `new` mapped.
        unsafe { libc::madvise(self.base.cast(), self.used, libc::MADV_DONTNEED) };
        self.used = 0;
        self.runs.clear();
        self.fixups.clear();
    }

    /// After a fault of the host's, lets the CPU have what a copy had in registers of the host, and `exit_op` be its op.
    pub(super) fn make_good(&self, cpu: &mut Cpu) {
        let HostState { rip, general, vectors } = &cpu.host_state;
        let Some(at) = rip.checked_sub(self.base as u64).filter(|at| *at < self.used as u64) else { return };
        let Ok(index) = self.fixups.binary_search_by_key(&at, |fixup| fixup.at.into()) else { return };
        let Fixup { behind, owed, .. } = self.fixups[index];
        for register in (0..8).filter(|at| owed.general >> at & 1 != 0) {
            cpu.regs[register] = general[usize::from(HOSTS[register])] as u32;
        }
        for number in (0..8).filter(|at| owed.vectors >> at & 1 != 0) {
            cpu.xmm[number] = V128::from(vectors[vector::host(number)]);
        }
        cpu.exit_op = cpu.exit_op.wrapping_byte_add(behind as usize);
    }

    /// How many ops of the x87 directly before an op may have left no notes.
    pub(super) fn run_before(&self, op: *const Op) -> u8 {
        self.runs.get(&op).copied().unwrap_or(0)
    }

    /// Copies the handlers of a block's ops one behind the other and lets the ops enter the copy. `flat`: the block's stack segment has
    /// no base. `top`: the top of the x87's stack that is to be expected before the block, if software computes.
    ///
    /// # Safety
    /// `ops` are ops of one block in order, complete but for links, which nobody runs yet.
    pub(super) unsafe fn stitch(&mut self, ops: &[*mut Op], flat: bool, mut top: Option<u8>) {
        let all = Omit { stack: flat, ..Omit::default() };
        let mut draft = std::mem::take(&mut self.draft);
        draft.clear();
        let mut entries: Vec<(*mut Op, usize)> = Vec::new();
        // How far RSI is behind the op to come; `None`: the copy does not run into it.
        let mut behind: Option<u32> = None;
        let mut kept = Kept::NONE;
        // Whether the copy has looked that MXCSR lets the host's instructions do.
        let mut floats = false;
        // Whether it has looked that the top is what is expected, and that short ways may be taken.
        let mut top_is_known = false;
        // SAFETY: the caller's promise.
        let handlers: Vec<usize> = ops.iter().map(|&op| unsafe { (*op).handler } as usize).collect();
        let whole: Vec<usize> =
            handlers.iter().map(|handler| self.template_or_whole(*handler, all)).collect();
        let notes: Vec<_> =
            whole.iter().map(|at| self.templates[*at].as_ref().map(|template| template.notes)).collect();
        let runs = runs::find(ops, &notes);
        self.runs.extend(ops.iter().zip(&runs).flat_map(|(op, place)| place.ops_behind_others(*op)));
        for (index, &op) in ops.iter().enumerate() {
            let mut omit = Omit { stack: flat, ..runs[index].omit };
            omit.look &= behind.is_some();
            floats &= behind.is_some();
            let looks =
                self.templates[whole[index]].as_ref().is_some_and(|template| template.looks_at_floats);
            omit.floats = floats && looks;
            top_is_known &= behind.is_some();
            let by_top = top.filter(|_| notes[index].is_some_and(|notes| notes.are_in_software()));
            let with_top = by_top.and_then(|top| {
                let look = omit.look || top_is_known;
                let omit = Omit { look, top: Some(top), top_look: top_is_known, ..omit };
                Some(self.template(handlers[index], omit)).filter(|at| self.templates[*at].is_some())
            });
            // What cannot do with less does all.
            let mut less =
                || Some(self.template(handlers[index], omit)).filter(|at| self.templates[*at].is_some());
            let at = with_top.or_else(|| if omit == all { None } else { less() }).unwrap_or(whole[index]);
            let Some(template) = &self.templates[at] else {
                (top, top_is_known) = (None, false);
                if let Some(distance) = behind.take() {
                    kept.complete(&mut draft.hot);
                    leave(&mut draft.hot, distance);
                }
                continue;
            };
            if behind.is_none() {
                entries.push((op, draft.hot.len()));
                kept = Kept::NONE;
            }
            let mut distance = behind.unwrap_or(0);
            if template.wants_op {
                advance(&mut draft.hot, std::mem::take(&mut distance));
            }
            // SAFETY: the caller's promise.
            unsafe { draft.write(template, op, distance, &mut kept) };
            floats = (floats || template.looks_at_floats) && !template.changes_floats;
            if with_top.is_some() || template.changes_top {
                top = template.top;
                top_is_known = top.is_some();
            }
            behind = template.next.map(|next| distance + next - template.moved);
            let follows = |next: u32| {
                ops.get(index + 1).is_some_and(|following| *following as usize == op as usize + next as usize)
            };
            if let (Some(next), Some(distance)) = (template.next, behind)
                && !follows(next)
            {
                kept.complete(&mut draft.hot);
                leave(&mut draft.hot, distance);
                behind = None;
            }
        }
        let start = self.used.next_multiple_of(16);
        let size = draft.hot.len() + draft.cold.len();
        if !entries.is_empty() && start + size <= BYTES {
            let base = self.base as usize + start;
            draft.finish(base);
            // SAFETY: the range from `start` on is free, and long enough. The copies have the type of the handlers they come from.
            unsafe {
                std::ptr::copy_nonoverlapping(draft.hot.as_ptr(), self.base.add(start), size);
                for (op, at) in entries {
                    (*op).handler = std::mem::transmute::<usize, super::op::Handler>(base + at);
                }
            }
            self.fixups
                .extend(draft.fixups.iter().map(|fixup| Fixup { at: fixup.at + start as u32, ..*fixup }));
            self.used = start + size;
        }
        self.draft = draft;
    }

    /// As [`Stitcher::template`], of all of a handler that cannot do with less.
    fn template_or_whole(&mut self, handler: usize, omit: Omit) -> usize {
        let at = self.template(handler, omit);
        if self.templates[at].is_none() { self.template(handler, Omit::default()) } else { at }
    }

    /// Place of a handler's template, less what is left out.
    fn template(&mut self, handler: usize, omit: Omit) -> usize {
        if let Some(&at) = self.places.get(&(handler, omit)) {
            return at;
        }
        let end = &raw const etext as usize;
        let length = end.saturating_sub(handler).min(WINDOW);
        // SAFETY: the program's own code, up to its end.
        let bytes = unsafe { std::slice::from_raw_parts(handler as *const u8, length) };
        self.templates.push(template(bytes, handler as u64, omit).map(Box::new));
        self.places.insert((handler, omit), self.templates.len() - 1);
        self.templates.len() - 1
    }
}

impl Drop for Stitcher {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped.
        unsafe { libc::munmap(self.base.cast(), BYTES) };
    }
}
