//! Puts a block's copy together from templates. Unsafe: reads fields of ops.

use super::kept::{Kept, Set};
use super::template::{Atom, HOT_END, Part, Template, Way};
use crate::engine::op::Op;

/// A place in a block's copy.
#[derive(Clone, Copy, Debug)]
struct Site {
    cold: bool,
    at: usize,
}

/// Where a template is written.
#[derive(Clone, Copy)]
struct At {
    /// The op of its handler.
    op: *const Op,
    /// How far RSI is behind it.
    behind: u32,
    /// The number of its first label.
    first: usize,
}

/// What is known of a template's labels while it is written.
struct Labels {
    /// What the CPU lacks at those of the cold part.
    owed: Vec<Set>,
    /// What is kept at those of the others, as far as they have been written or led to.
    kept: Vec<Option<Kept>>,
}

/// What is to be made good when the host's instruction at a place in the copies faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fixup {
    /// The place: bytes from the start of the copy, then of all copies.
    pub(super) at: u32,
    /// How far RSI is behind the op.
    pub(super) behind: u32,
    /// What the CPU lacks, and host registers have.
    pub(super) owed: Set,
}

/// A block's copy, as it is put together: the hot parts in a row, and the warm and cold parts, which go behind them.
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
    /// In the order of their places.
    pub(super) fixups: Vec<Fixup>,
}

impl Draft {
    pub(super) fn clear(&mut self) {
        self.hot.clear();
        self.cold.clear();
        self.labels.clear();
        self.jumps.clear();
        self.outside.clear();
        self.fixups.clear();
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
        let first = self.labels.len();
        self.labels.resize(first + template.labels, Site { cold: false, at: 0 });
        let at = At { op, behind, first };
        let mut labels = Labels { owed: vec![Set::NONE; template.labels], kept: vec![None; template.labels] };
        // SAFETY: the caller's promise.
        unsafe {
            self.write_part(template, Part::Hot, at, kept, &mut labels);
            for part in [Part::Warm, Part::Cold] {
                let mut nothing = Kept::NONE;
                self.write_part(template, part, at, &mut nothing, &mut labels);
            }
        }
    }

    /// Writes a part of a template.
    ///
    /// # Safety
    /// As for `write`.
    unsafe fn write_part(
        &mut self,
        template: &Template,
        part: Part,
        At { op, behind, first }: At,
        kept: &mut Kept,
        labels: &mut Labels,
    ) {
        let cold = part != Part::Hot;
        // SAFETY: fields lie in the slots of the op; the caller's promise.
        let field = |from: u32, bytes: u8| unsafe { field(op, from, bytes) };
        // What is kept on all ways to a label.
        let mut arriving = vec![Kept::ALL; template.labels];
        if !cold {
            if template.opaque || template.peeks {
                kept.complete(&mut self.hot);
            }
            kept.release(&mut self.hot, template.uses, template.vectors);
            if template.opaque {
                *kept = Kept::NONE;
            }
        }
        let atoms = match part {
            Part::Hot => &template.hot,
            Part::Warm => &template.warm,
            Part::Cold => &template.cold,
        };
        // Where nothing is kept.
        let plain = part == Part::Cold || template.opaque;
        for atom in atoms {
            match atom {
                Atom::Raw(bytes) => self.code(cold).extend(bytes),
                Atom::Guest(bytes) => {
                    let owed = kept.owed();
                    if part == Part::Hot && (behind != 0 || owed != Set::NONE) {
                        self.fixups.push(Fixup { at: self.hot.len() as u32, behind, owed });
                    }
                    self.code(cold).extend(bytes);
                }
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
                Atom::Sum(sum) if plain => sum.write_plain(self.code(cold), field),
                Atom::Sum(sum) => {
                    sum.write(self.code(cold), kept, (template.uses, template.vectors), field);
                    if template.peeks {
                        kept.complete(self.code(cold));
                    }
                }
                Atom::Access(access) if plain => access.write_plain(self.code(cold), field),
                Atom::Access(access) => {
                    access.write(self.code(cold), kept, (template.uses, template.vectors), field);
                    if template.peeks {
                        kept.complete(self.code(cold));
                    }
                }
                Atom::Jump { code, label, way } => {
                    let mut to = first + label;
                    match way {
                        Way::Within => {
                            kept.complete(self.code(cold));
                            arriving[*label] = arriving[*label].and(*kept);
                        }
                        Way::Aside => match labels.kept[*label] {
                            None => labels.kept[*label] = Some(*kept),
                            Some(there) => kept.adapt(self.code(cold), there),
                        },
                        Way::OnlyOut => labels.owed[*label] = kept.owed(),
                        Way::Out if kept.owed() == Set::NONE => {}
                        Way::Out => to = self.way_out(kept.owed(), to),
                    }
                    self.jump(cold, code, to);
                }
                Atom::Label(label) => {
                    match part {
                        // Nobody runs into it.
                        Part::Warm => *kept = labels.kept[*label].unwrap_or(Kept::NONE),
                        _ if arriving[*label] != Kept::ALL => {
                            kept.complete(self.code(cold));
                            *kept = kept.and(arriving[*label]);
                        }
                        _ => {}
                    }
                    labels.kept[*label] = Some(*kept);
                    self.labels[first + label] = self.here(cold);
                    if part == Part::Cold {
                        labels.owed[*label].store(&mut self.cold);
                    }
                }
                Atom::Complete => kept.complete(self.code(cold)),
                Atom::Correct if behind != 0 => {
                    // lea rsi, [rsi + behind]
                    self.code(cold).extend([0x48, 0x8d, 0xb6]);
                    self.code(cold).extend(behind.to_le_bytes());
                }
                Atom::Correct => {}
            }
        }
        if !cold {
            if arriving[HOT_END] != Kept::ALL {
                kept.complete(&mut self.hot);
                *kept = kept.and(arriving[HOT_END]);
            }
            labels.kept[HOT_END] = Some(*kept);
            self.labels[first + HOT_END] = self.here(false);
        }
    }

    /// Writes a jump to a label.
    fn jump(&mut self, cold: bool, opcode: &[u8], label: usize) {
        self.code(cold).extend(opcode);
        let site = self.here(cold);
        self.code(cold).extend([0; 4]);
        self.jumps.push((site, label));
    }

    /// Writes, into the cold part, a way to a label of it on which the CPU gets what it lacks. Gives the label of the way.
    fn way_out(&mut self, owed: Set, to: usize) -> usize {
        let label = self.labels.len();
        let here = self.here(true);
        self.labels.push(here);
        owed.store(&mut self.cold);
        self.jump(true, &[0xe9], to);
        label
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
