//! Lays the handlers of a superblock out in a row, so that no jump is left between them. Unsafe: reads handlers, writes code.
//!
//! An interpreter pays for the jump from handler to handler. Here the machine code of a block's handlers, as the compiler made
//! it, is copied one behind the other ([`template`]); the op's handler becomes the copy, so nothing else has to know. What cannot be
//! copied is jumped to as ever. Where no executable memory is to be had, all blocks stay chains.

mod access;
mod code;
mod template;

use super::op::Op;
use access::Kept;
use std::collections::HashMap;
use template::{Atom, HOT_END, Template, template};

/// Reserved for copies; pages are used only when written.
const BYTES: usize = 512 << 20;
/// Farther than this from the handlers, and a distance might not fit into 32 bits.
const REACH: usize = 1 << 30;
/// The longest a handler's code may be.
const WINDOW: usize = 1 << 11;

/// Copied code, and what is known about handlers.
pub(super) struct Stitcher {
    base: *mut u8,
    used: usize,
    /// By handler; `None` if it cannot be copied.
    templates: HashMap<usize, Option<Box<Template>>>,
    /// Where a block's copy is put together.
    draft: Draft,
}

// SAFETY: the range belongs to the stitcher, and code in it is changed only while nobody runs it.
unsafe impl Send for Stitcher {}

unsafe extern "C" {
    /// The end of the program's code, from the linker.
    static etext: u8;
}

/// A place in a block's copy.
#[derive(Clone, Copy, Debug)]
struct Site {
    cold: bool,
    at: usize,
}

/// A block's copy, as it is put together: the hot parts in a row, and the cold parts, which go behind them.
#[derive(Default)]
struct Draft {
    hot: Vec<u8>,
    cold: Vec<u8>,
    /// By number; those of a template follow those of the one before.
    labels: Vec<Site>,
    /// Distances to be filled in, and the label that each leads to.
    jumps: Vec<(Site, usize)>,
    /// Distances to be filled in, the address that each leads to, and from where it counts.
    outside: Vec<(Site, usize, usize)>,
}

impl Draft {
    fn clear(&mut self) {
        self.hot.clear();
        self.cold.clear();
        self.labels.clear();
        self.jumps.clear();
        self.outside.clear();
    }

    fn code(&mut self, cold: bool) -> &mut Vec<u8> {
        if cold { &mut self.cold } else { &mut self.hot }
    }

    fn here(&mut self, cold: bool) -> Site {
        Site { cold, at: self.code(cold).len() }
    }

    /// Writes a part of a template. `behind` is how far RSI is behind the op.
    ///
    /// # Safety
    /// `op` is the op of the template's handler, and complete.
    unsafe fn write(&mut self, template: &Template, cold: bool, op: *const Op, behind: u32, kept: &mut Kept) {
        let first = self.labels.len() - template.labels;
        // SAFETY: fields lie in the slots of the op; the caller's promise.
        let field = |from: u32, bytes: u8| unsafe { field(op, from, bytes) };
        // What is kept on all ways to a label.
        let mut arriving = vec![Kept::ALL; template.labels];
        if !cold {
            *kept = if template.opaque { Kept::NONE } else { kept.without_hosts(template.uses) };
        }
        for atom in if cold { &template.cold } else { &template.hot } {
            match atom {
                Atom::Raw(bytes) => self.code(cold).extend(bytes),
                Atom::Immediate { code, from, bytes } => {
                    self.code(cold).extend(code);
                    self.code(cold).extend(field(*from, *bytes).to_le_bytes());
                }
                Atom::Outside { code, at, target } => {
                    let start = self.here(cold).at;
                    self.code(cold).extend(code);
                    self.outside.push((Site { cold, at: start + at }, *target, start + code.len()));
                }
                Atom::Access(access) if cold || template.opaque => access.write_plain(self.code(cold), field),
                Atom::Access(access) => access.write(self.code(cold), kept, template.uses, field),
                Atom::Jump { code, label } => {
                    self.code(cold).extend(code);
                    let site = self.here(cold);
                    self.code(cold).extend([0; 4]);
                    self.jumps.push((site, first + label));
                    arriving[*label] = arriving[*label].and(*kept);
                }
                Atom::Label(label) => {
                    self.labels[first + label] = self.here(cold);
                    *kept = kept.and(arriving[*label]);
                }
                Atom::Correct if behind != 0 => {
                    // lea rsi, [rsi + behind]
                    self.code(cold).extend([0x48, 0x8d, 0xb6]);
                    self.code(cold).extend(behind.to_le_bytes());
                }
                Atom::Correct => {}
            }
        }
        if !cold {
            *kept = kept.and(arriving[HOT_END]);
            self.labels[first + HOT_END] = self.here(false);
        }
    }

    /// Fills in all distances for a copy at `base`. Then `hot` is all of the copy.
    fn finish(&mut self, base: usize) {
        let split = self.hot.len();
        self.hot.append(&mut self.cold);
        let position = |site: Site| if site.cold { split + site.at } else { site.at };
        for (site, label) in &self.jumps {
            let at = position(*site);
            let distance = position(self.labels[*label]).wrapping_sub(at + 4) as u32;
            self.hot[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        for (site, target, end) in &self.outside {
            let at = position(*site);
            let end = position(Site { cold: site.cold, at: *end });
            let distance = target.wrapping_sub(base + end) as u32;
            self.hot[at..at + 4].copy_from_slice(&distance.to_le_bytes());
        }
    }
}

impl Stitcher {
    /// Reserves room for copies near the handlers. `None` if there is none, or it may not be executable.
    pub(super) fn new() -> Option<Stitcher> {
        let near = super::handlers::jump as *const () as usize;
        let start = near & !0xfff;
        // Below the program first: its heap grows upward behind it.
        let places = (1..8).map(|at| start.wrapping_sub(at * (REACH / 16) + BYTES));
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
            let stitcher =
                Stitcher { base: base.cast(), used: 0, templates: HashMap::new(), draft: Draft::default() };
            // An old kernel takes the address for a hint.
            if (base as usize).abs_diff(near) + BYTES < 2 * REACH - WINDOW {
                return Some(stitcher);
            }
        }
        None
    }

    /// Forgets all copies. Nobody may be running one.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// Copies the handlers of a block's ops one behind the other and lets the ops enter the copy.
    ///
    /// # Safety
    /// `ops` are ops of one block in order, complete but for links, which nobody runs yet.
    pub(super) unsafe fn stitch(&mut self, ops: &[*mut Op]) {
        let mut draft = std::mem::take(&mut self.draft);
        draft.clear();
        let mut entries: Vec<(*mut Op, usize)> = Vec::new();
        // How far RSI is behind the op to come; `None`: the copy does not run into it.
        let mut behind: Option<u32> = None;
        let mut kept = Kept::NONE;
        for (index, &op) in ops.iter().enumerate() {
            // SAFETY: the caller's promise.
            let handler = unsafe { (*op).handler } as usize;
            let Some(template) = self.template(handler) else {
                if let Some(distance) = behind.take() {
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
            let labels = draft.labels.len() + template.labels;
            draft.labels.resize(labels, Site { cold: false, at: 0 });
            // SAFETY: the caller's promise.
            unsafe {
                draft.write(template, false, op, distance, &mut kept);
                draft.write(template, true, op, distance, &mut Kept::NONE.clone());
            }
            behind = template.next.map(|next| distance + next - template.moved);
            let follows = |next: u32| {
                ops.get(index + 1).is_some_and(|following| *following as usize == op as usize + next as usize)
            };
            if let (Some(next), Some(distance)) = (template.next, behind)
                && !follows(next)
            {
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
            self.used = start + size;
        }
        self.draft = draft;
    }

    fn template(&mut self, handler: usize) -> Option<&Template> {
        let make = || {
            let end = &raw const etext as usize;
            let length = end.checked_sub(handler)?.min(WINDOW);
            // SAFETY: the program's own code, up to its end.
            let bytes = unsafe { std::slice::from_raw_parts(handler as *const u8, length) };
            template(bytes, handler as u64).map(Box::new)
        };
        self.templates.entry(handler).or_insert_with(make).as_deref()
    }
}

impl Drop for Stitcher {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped.
        unsafe { libc::munmap(self.base.cast(), BYTES) };
    }
}

/// `add rsi, distance`.
fn advance(code: &mut Vec<u8>, distance: u32) {
    match distance {
        0 => {}
        1..=127 => code.extend([0x48, 0x83, 0xc6, distance as u8]),
        _ => {
            code.extend([0x48, 0x81, 0xc6]);
            code.extend(distance.to_le_bytes());
        }
    }
}

/// Goes on with the op that is `distance` ahead of RSI, wherever its handler is.
fn leave(code: &mut Vec<u8>, distance: u32) {
    advance(code, distance);
    // jmp [rsi]
    code.extend([0xff, 0x26]);
}

/// A field of an op, zero-extended.
///
/// # Safety
/// `from` and `bytes` lie in the op's slots.
unsafe fn field(op: *const Op, from: u32, bytes: u8) -> u32 {
    let mut value = [0; 4];
    // SAFETY: the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(
            op.cast::<u8>().add(from as usize),
            value.as_mut_ptr(),
            usize::from(bytes),
        );
    }
    u32::from_le_bytes(value)
}
