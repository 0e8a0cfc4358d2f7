//! Puts a block's copy together from templates. Unsafe: reads fields of ops.

use super::access::Kept;
use super::template::{Atom, HOT_END, Template};
use crate::engine::op::Op;

/// A place in a block's copy.
#[derive(Clone, Copy, Debug)]
struct Site {
    cold: bool,
    at: usize,
}

/// A block's copy, as it is put together: the hot parts in a row, and the cold parts, which go behind them.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) hot: Vec<u8>,
    pub(super) cold: Vec<u8>,
    /// By number; those of a template follow those of the one before.
    labels: Vec<Site>,
    /// Distances to be filled in, and the label that each leads to.
    jumps: Vec<(Site, usize)>,
    /// Distances to be filled in, the address that each leads to, and from where it counts.
    outside: Vec<(Site, usize, usize)>,
}

impl Draft {
    pub(super) fn clear(&mut self) {
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

    /// Writes a template. `behind` is how far RSI is behind the op, `kept` what is kept before it and then behind it.
    ///
    /// # Safety
    /// `op` is the op of the template's handler, and complete.
    pub(super) unsafe fn write(&mut self, template: &Template, op: *const Op, behind: u32, kept: &mut Kept) {
        let labels = self.labels.len() + template.labels;
        self.labels.resize(labels, Site { cold: false, at: 0 });
        // SAFETY: the caller's promise.
        unsafe {
            self.write_part(template, false, op, behind, kept);
            // In the cold part nothing is kept.
            let mut nothing = Kept::NONE;
            self.write_part(template, true, op, behind, &mut nothing);
        }
    }

    /// Writes a part of a template whose labels have their numbers.
    ///
    /// # Safety
    /// As for `write`.
    unsafe fn write_part(
        &mut self,
        template: &Template,
        cold: bool,
        op: *const Op,
        behind: u32,
        kept: &mut Kept,
    ) {
        let first = self.labels.len() - template.labels;
        // SAFETY: fields lie in the slots of the op; the caller's promise.
        let field = |from: u32, bytes: u8| unsafe { field(op, from, bytes) };
        // What is kept on all ways to a label.
        let mut arriving = vec![Kept::ALL; template.labels];
        if !cold {
            *kept = if template.opaque {
                Kept::NONE
            } else {
                kept.without_hosts(template.uses, template.vectors)
            };
        }
        for atom in if cold { &template.cold } else { &template.hot } {
            match atom {
                Atom::Raw(bytes) => self.code(cold).extend(bytes),
                Atom::Immediate { code, from, bytes } => {
                    self.code(cold).extend(code);
                    self.code(cold).extend(field(*from, *bytes).to_le_bytes());
                }
                Atom::Count { code, from } => {
                    self.code(cold).extend(code);
                    self.code(cold).push(field(*from, 1) as u8);
                }
                Atom::Outside { code, at, target } => {
                    let start = self.here(cold).at;
                    self.code(cold).extend(code);
                    self.outside.push((Site { cold, at: start + at }, *target, start + code.len()));
                }
                Atom::Access(access) if cold || template.opaque => access.write_plain(self.code(cold), field),
                Atom::Access(access) => {
                    access.write(self.code(cold), kept, (template.uses, template.vectors), field);
                }
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
    pub(super) fn finish(&mut self, base: usize) {
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

/// `add rsi, distance`.
pub(super) fn advance(code: &mut Vec<u8>, distance: u32) {
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
pub(super) fn leave(code: &mut Vec<u8>, distance: u32) {
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
