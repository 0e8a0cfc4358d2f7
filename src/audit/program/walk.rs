//! Follows code from where it is known to start, and sweeps the rest.

use super::calls::Tracker;
use super::jump_table::Recent;
use super::{Counter, Findings, How, Tally};
use crate::audit::{coverage, reference};
use crate::isa::{DecodeError, Flow, Insn, decode};
use crate::loader::code::{Code, Image};

/// How near, in bytes, to what is no instruction swept code is no longer trusted. Of random bytes, one in some 80 starts none.
const NEAR: usize = 512;

/// What is known of a byte of code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Unknown,
    /// An instruction starts here.
    Start,
    /// It is inside one.
    Inside,
}

/// One executable section on the way.
struct Part<'a> {
    code: &'a Code,
    marks: Vec<Mark>,
}

/// What stands at an address.
enum Found {
    Declared(Insn),
    Undeclared(&'static reference::Reference, usize),
}

impl Found {
    fn len(&self) -> usize {
        match self {
            Found::Declared(insn) => insn.len.into(),
            Found::Undeclared(_, len) => *len,
        }
    }
}

/// A walk through a program.
pub(super) struct Walk<'a> {
    image: &'a Image,
    parts: Vec<Part<'a>>,
    counter: Counter,
    /// Where code is known to start and has not been looked at, and how it became known.
    open: Vec<(u32, How)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(image: &'a Image) -> Walk<'a> {
        let part = |code: &'a Code| Part { code, marks: vec![Mark::Unknown; code.bytes.len()] };
        Walk {
            image,
            parts: image.parts.iter().map(part).collect(),
            counter: Counter::new(),
            open: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Findings {
        self.counter.findings.bytes = self.parts.iter().map(|part| part.code.bytes.len() as u64).sum();
        // The surest first, so that it decides where instructions start.
        let mut entries = self.image.entries.clone();
        entries.sort_by_key(|&(addr, origin)| (origin, addr));
        for (addr, origin) in entries {
            self.open.push((addr, origin.into()));
            while let Some((addr, how)) = self.open.pop() {
                self.follow(addr, how);
            }
        }
        for index in 0..self.parts.len() {
            self.sweep(index);
        }
        self.counter.finish()
    }

    /// The part and the offset in it that an address is.
    fn place(&self, addr: u32) -> Option<(usize, usize)> {
        self.parts.iter().enumerate().find_map(|(index, part)| {
            let at = addr.wrapping_sub(part.code.addr) as usize;
            (at < part.code.bytes.len()).then_some((index, at))
        })
    }

    /// Goes from instruction to instruction until control goes elsewhere or what follows is known.
    fn follow(&mut self, addr: u32, how: How) {
        let Some((index, mut at)) = self.place(addr) else { return };
        let mut tracker = Tracker::default();
        let mut recent = Recent::default();
        while let Some(found) = self.fresh(index, at) {
            self.take(index, at, &found, how);
            at += found.len();
            let Found::Declared(insn) = found else {
                tracker.forget();
                continue;
            };
            self.counter.findings.calls.note(&mut tracker, &insn, how, self.image);
            let form = insn.form();
            match form.flow {
                Flow::Branch | Flow::Call if is_direct(&insn) => self.open.push((insn.imm, How::Branch)),
                Flow::Jump if is_direct(&insn) => return self.open.push((insn.imm, How::Branch)),
                Flow::Jump => {
                    for target in recent.targets(&insn, self.image) {
                        self.open.push((target, How::Table));
                    }
                    return;
                }
                Flow::Ret => return,
                // INT n comes back, UD2 does not.
                Flow::Trap if form.imms.is_empty() && form.mnemonic.starts_with("ud") => return,
                Flow::Far if form.mnemonic != "call" => return,
                _ => {}
            }
            if form.mnemonic == "hlt" {
                return;
            }
            recent.add(insn);
        }
    }

    /// The instruction at a place of which nothing is known yet.
    fn fresh(&self, index: usize, at: usize) -> Option<Found> {
        let Part { code, marks } = &self.parts[index];
        if *marks.get(at)? != Mark::Unknown {
            return None;
        }
        let rest = &code.bytes[at..];
        let found = match decode(rest, code.addr.wrapping_add(at as u32)) {
            Ok(insn) => Found::Declared(insn),
            Err(DecodeError::Undefined) => {
                let (form, len) = coverage::undeclared(rest)?;
                Found::Undeclared(form, len)
            }
            Err(DecodeError::TooShort | DecodeError::TooLong) => return None,
        };
        let taken = marks.get(at..at + found.len())?;
        taken.iter().all(|mark| *mark == Mark::Unknown).then_some(found)
    }

    /// Counts an instruction and marks its bytes.
    fn take(&mut self, index: usize, at: usize, found: &Found, how: How) {
        let Part { code, marks } = &mut self.parts[index];
        let len = found.len();
        marks[at..at + len].fill(Mark::Inside);
        marks[at] = Mark::Start;
        let addr = code.addr.wrapping_add(at as u32);
        self.counter.findings.bytes_by_how[how as usize] += len as u64;
        match found {
            Found::Declared(insn) => self.counter.forms[usize::from(insn.index)].add(how, addr),
            Found::Undeclared(form, _) => {
                let entry = self.counter.findings.undeclared.entry(form.mnemonic);
                entry.or_insert_with(|| (Tally::default(), form)).0.add(how, addr);
            }
        }
    }

    /// Goes through what is still unknown of a part.
    fn sweep(&mut self, index: usize) {
        let (mut at, mut gap_end, mut refused) = (0, 0, Vec::new());
        while at < self.parts[index].marks.len() {
            if self.parts[index].marks[at] != Mark::Unknown {
                at += 1;
                continue;
            }
            if at >= gap_end {
                (gap_end, refused) = self.refused(index, at);
            }
            if let Some(padding) = self.padding(index, at) {
                self.parts[index].marks[at..at + padding].fill(Mark::Inside);
                self.counter.findings.padding += padding as u64;
                at += padding;
                continue;
            }
            at = self.stretch(index, at, &refused);
        }
    }

    /// Where a gap ends, and the places in it at which no instruction can be decoded, when it is gone through once.
    fn refused(&self, index: usize, start: usize) -> (usize, Vec<usize>) {
        let Part { code, marks } = &self.parts[index];
        let unknown = marks[start..].iter().take_while(|mark| **mark == Mark::Unknown).count();
        let end = start + unknown;
        let (mut at, mut refused) = (start, Vec::new());
        while at < end {
            match decode(&code.bytes[at..end], 0) {
                Ok(insn) => at += usize::from(insn.len),
                Err(_) => match coverage::undeclared(&code.bytes[at..end]) {
                    Some((_, len)) => at += len,
                    None => {
                        refused.push(at);
                        at += 1;
                    }
                },
            }
        }
        (end, refused)
    }

    /// Bytes that fill up: zeros or INT3.
    fn padding(&self, index: usize, at: usize) -> Option<usize> {
        let Part { code, marks } = &self.parts[index];
        let filler = *code.bytes.get(at).filter(|byte| matches!(byte, 0 | 0xcc))?;
        let unknown =
            marks[at..].iter().zip(&code.bytes[at..]).take_while(|(mark, _)| **mark == Mark::Unknown);
        let same = unknown.take_while(|(_, byte)| **byte == filler).count();
        let is_all = marks.get(at + same).is_none_or(|mark| *mark != Mark::Unknown);
        // One zero byte may well begin an instruction.
        (same >= 4 || is_all || filler == 0xcc).then_some(same)
    }

    /// Decodes a stretch of the gap at `at`: to where control goes elsewhere, known code, or bytes that are no instruction. Gives
    /// where the rest begins. It is doubtful if it ends in, or is near, what is no instruction: then it may be data, too, of which
    /// most bytes look like some instruction.
    fn stretch(&mut self, index: usize, start: usize, refused: &[usize]) -> usize {
        let mut stretch = Vec::new();
        let mut at = start;
        let ends_well = loop {
            let Some(found) = self.fresh(index, at) else {
                // Up to known code, or to the part's end: as it should be.
                break at >= self.parts[index].marks.len() || self.parts[index].marks[at] == Mark::Start;
            };
            let next = at + found.len();
            let leaves =
                matches!(&found, Found::Declared(insn) if matches!(insn.form().flow, Flow::Jump | Flow::Ret));
            stretch.push((at, found));
            at = next;
            if leaves {
                break true;
            }
        };
        if stretch.is_empty() {
            let addr = self.parts[index].code.addr.wrapping_add(start as u32);
            self.counter.findings.unknown.add(How::Doubtful, addr);
            self.parts[index].marks[start] = Mark::Inside;
            return start + 1;
        }
        let next_refused = refused.partition_point(|place| place + NEAR < start);
        let is_near = refused.get(next_refused).is_some_and(|place| *place < at + NEAR);
        let ends_well = ends_well && !is_near;
        let how = if ends_well { How::Sweep } else { How::Doubtful };
        let mut tracker = Tracker::default();
        let mut recent = Recent::default();
        for (at, found) in stretch {
            self.take(index, at, &found, how);
            let Found::Declared(insn) = found else {
                tracker.forget();
                continue;
            };
            if !ends_well {
                continue;
            }
            self.counter.findings.calls.note(&mut tracker, &insn, how, self.image);
            // What it branches to is as sure as itself.
            match insn.form().flow {
                Flow::Branch | Flow::Call | Flow::Jump if is_direct(&insn) => {
                    self.open.push((insn.imm, How::Sweep))
                }
                Flow::Jump => {
                    let targets = recent.targets(&insn, self.image);
                    self.open.extend(targets.into_iter().map(|target| (target, How::Sweep)));
                }
                _ => {}
            }
            recent.add(insn);
        }
        while let Some((addr, how)) = self.open.pop() {
            self.follow(addr, how);
        }
        at
    }
}

/// Tells whether a branch names its target.
fn is_direct(insn: &Insn) -> bool {
    insn.form().operands.first().is_some_and(|operand| operand.code == crate::isa::Code::J)
}
