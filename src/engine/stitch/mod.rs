//! Lays the handlers of a superblock out in a row, so that no jump is left between them. Unsafe: reads handlers, writes code.
//!
//! An interpreter pays for the jump from handler to handler. Here the machine code of a block's handlers, as the compiler made
//! it, is copied one behind the other ([`template`]); the op's handler becomes the copy, so nothing else has to know. What cannot be
//! copied is jumped to as ever. Where no executable memory is to be had, all blocks stay chains.

mod code;
mod template;

use super::op::Op;
use std::collections::HashMap;
use template::{Part, Patch, Site, Template, template};

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
    hot: Vec<u8>,
    cold: Vec<u8>,
}

// SAFETY: the range belongs to the stitcher, and code in it is changed only while nobody runs it.
unsafe impl Send for Stitcher {}

unsafe extern "C" {
    /// The end of the program's code, from the linker.
    static etext: u8;
}

/// A template's place in a block's copy.
struct Placed {
    handler: usize,
    op: *const Op,
    hot: usize,
    cold: usize,
    /// Bytes that RSI is behind the op when the copy is entered.
    behind: u32,
    hot_end: usize,
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
            let stitcher = Stitcher {
                base: base.cast(),
                used: 0,
                templates: HashMap::new(),
                hot: Vec::new(),
                cold: Vec::new(),
            };
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
        let (mut hot, mut cold) = (std::mem::take(&mut self.hot), std::mem::take(&mut self.cold));
        hot.clear();
        cold.clear();
        let mut placed: Vec<Placed> = Vec::with_capacity(ops.len());
        let mut entries: Vec<(*mut Op, usize)> = Vec::new();
        // How far RSI is behind the op to come; `None`: the copy does not run into it.
        let mut behind: Option<u32> = None;
        for (index, &op) in ops.iter().enumerate() {
            // SAFETY: the caller's promise.
            let handler = unsafe { (*op).handler } as usize;
            let Some(template) = self.template(handler) else {
                if let Some(distance) = behind.take() {
                    advance(&mut hot, distance);
                    // jmp [rsi]
                    hot.extend([0xff, 0x26]);
                }
                continue;
            };
            if behind.is_none() {
                entries.push((op, hot.len()));
            }
            let mut distance = behind.unwrap_or(0);
            if template.wants_op && distance != 0 {
                advance(&mut hot, distance);
                distance = 0;
            }
            let place = Placed {
                handler,
                op,
                hot: hot.len(),
                cold: cold.len(),
                behind: distance,
                hot_end: hot.len() + template.hot.len(),
            };
            hot.extend(&template.hot);
            cold.extend(&template.cold);
            placed.push(place);
            behind = template.next.map(|next| distance + next - template.moved);
            if let Some(next) = template.next {
                let follows = ops
                    .get(index + 1)
                    .is_some_and(|following| *following as usize == op as usize + next as usize);
                if !follows {
                    advance(&mut hot, behind.take().unwrap_or(0));
                    hot.extend([0xff, 0x26]);
                }
            }
        }
        let start = self.used.next_multiple_of(16);
        let size = hot.len() + cold.len();
        if entries.is_empty() || start + size > BYTES {
            (self.hot, self.cold) = (hot, cold);
            return;
        }
        let base = self.base as usize + start;
        let split = hot.len();
        hot.extend(&cold);
        for place in &placed {
            let Some(Some(template)) = self.templates.get(&place.handler) else { continue };
            for (site, patch) in &template.patches {
                let position = |site: &Site| match site.part {
                    Part::Hot => place.hot + site.at as usize,
                    Part::Cold => split + place.cold + site.at as usize,
                };
                let at = position(site);
                let distance = |target: usize, end: u32| target.wrapping_sub(base + at + end as usize) as u32;
                let value = match *patch {
                    // SAFETY: fields lie in the slots of the op, which are written.
                    Patch::Field { from, bytes } => unsafe { field(place.op, from, bytes) },
                    // SAFETY: as above.
                    Patch::Place { from, bytes, plus } => {
                        unsafe { field(place.op, from, bytes) }.wrapping_add(plus)
                    }
                    Patch::Outside { target, end } => distance(target, end),
                    Patch::Inside(to) => distance(base + position(&to), 4),
                    Patch::HotEnd => distance(base + place.hot_end, 4),
                    Patch::Behind => place.behind,
                };
                hot[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
        // SAFETY: the range from `start` on is free, and long enough. The copies have the type of the handlers they come from.
        unsafe {
            std::ptr::copy_nonoverlapping(hot.as_ptr(), self.base.add(start), size);
            for (op, at) in entries {
                (*op).handler = std::mem::transmute::<usize, super::op::Handler>(base + at);
            }
        }
        self.used = start + size;
        (self.hot, self.cold) = (hot, cold);
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
