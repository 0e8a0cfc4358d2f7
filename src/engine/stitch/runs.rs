//! Runs of x87 instructions: what their handlers do for those who come after them, and need not do in a copy.
//!
//! A handler of the x87 looks whether the host's FPU has the state, or in software whether the short ways may be taken, and leaves a
//! note for the pointers to the last instruction (`fpu::notes`). In a row of them the first looks and the last leaves notes for all; for
//! guest registers do not change meanwhile, and so whoever finds that an access in the middle has faulted can make up the notes of those
//! before it (`notes::settle_run`). A short way that ends in the middle leaves the copy, and from there on all do everything.

use super::analysis::{Value, Values, number};
use super::code::{Block, End};
use crate::cpu::Cpu;
use crate::engine::op::Op;
use crate::fpu::Fpu;
use crate::fpu::live::Live;
use crate::fpu::notes::Notes as Left;
use iced_x86::{Code, ConditionCode, Instruction, OpKind, Register};
use std::mem::offset_of;

/// What handlers look at: whether the host's FPU has the state, and whether short ways may be taken; offsets in the CPU.
const ON: u64 = (offset_of!(Cpu, live) + Live::ON) as u64;
pub(super) const SHORT: u64 = (offset_of!(Cpu, fpu) + Fpu::SHORT) as u64;

/// Bytes of an op of the x87: two slots.
const OP: usize = 2 * size_of::<Op>();

/// What is left out of a template.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Omit {
    /// The look.
    pub(super) look: bool,
    /// The note of an op without a memory operand.
    pub(super) last: bool,
    /// The notes of one with it.
    pub(super) operand: bool,
    /// The look whether MXCSR lets the host's instructions do ([`floats`](super::floats)).
    pub(super) floats: bool,
    /// A stack segment's base and end ([`flat`](super::flat)).
    pub(super) stack: bool,
    /// That registers of the x87's stack are found by its top, as this is the top ([`top`](super::top)).
    pub(super) top: Option<u8>,
    /// The look whether it is.
    pub(super) top_look: bool,
}

/// Which notes a handler leaves; each of the x87 some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) last: bool,
    pub(super) operand: bool,
    /// What it looks at: an offset in the CPU.
    look: u64,
    /// How far on the handler goes: one op, or the two of a pair.
    bytes: u32,
}

/// The notes that an instruction leaves.
fn notes(insn: &Instruction, values: &Values) -> Notes {
    const LAST: u64 = (offset_of!(Cpu, notes) + Left::LAST) as u64;
    const MEMORY: u64 = (offset_of!(Cpu, notes) + Left::MEMORY) as u64;
    const ADDR: u64 = (offset_of!(Cpu, notes) + Left::ADDR) as u64;
    let store = insn.code() == Code::Mov_rm64_r64
        && insn.op0_kind() == OpKind::Memory
        && insn.memory_index() == Register::None
        && number(insn.memory_base()).is_some_and(|base| values[base] == Value::Cpu);
    match insn.memory_displacement64() {
        LAST if store => Notes { last: true, ..Notes::default() },
        MEMORY | ADDR if store => Notes { operand: true, ..Notes::default() },
        _ => Notes::default(),
    }
}

impl Notes {
    /// Adds what an instruction leaves. Tells whether it is to be left out.
    pub(super) fn add(&mut self, insn: &Instruction, values: &Values, omit: Omit) -> bool {
        let left = notes(insn, values);
        self.last |= left.last;
        self.operand |= left.operand;
        left.last && omit.last || left.operand && omit.operand
    }

    /// As they are of a handler with such a look, that goes on with the op so many bytes behind its own.
    pub(super) fn with(self, look: &Look, bytes: u32) -> Notes {
        Notes { look: look.field, bytes, ..self }
    }

    /// Whether they are of a handler that computes in software.
    pub(super) fn are_in_software(&self) -> bool {
        self.look == SHORT
    }

    /// Of how many instructions they are.
    fn ops(&self) -> u8 {
        (self.bytes as usize / OP) as u8
    }
}

/// Where a handler looks, and where it goes on if it may: else it leaves its work to another handler.
pub(super) struct Look {
    /// What it looks at: an offset in the CPU.
    field: u64,
    at: usize,
    on: u64,
    off: u64,
}

impl Look {
    /// Finds it. `None` in a handler of something else, or one that has no short way.
    pub(super) fn find(blocks: &[Block]) -> Option<Look> {
        let first = blocks.first()?;
        let End::Branch { insn, taken, not_taken } = &first.end else { return None };
        let looks = |insn: &Instruction| {
            insn.code() == Code::Cmp_rm8_imm8
                && insn.memory_base() == Register::RDI
                && insn.memory_index() == Register::None
                && matches!(insn.memory_displacement64(), ON | SHORT)
                && insn.immediate8() == 0
        };
        let at = first.insns.iter().position(looks)?;
        // What decides is the comparison, and nothing else does anything that it or the branch could notice.
        let plain = |insn: &Instruction| insn.rflags_modified() == 0 && insn.op0_register() != Register::RDI;
        let leaves = |block: &Block| block.start == *taken && matches!(block.end, End::Outside(_));
        let found = insn.condition_code() == ConditionCode::e
            && first.insns[at + 1..].iter().all(plain)
            && blocks.iter().any(leaves);
        let field = first.insns[at].memory_displacement64();
        found.then_some(Look { field, at, on: *not_taken, off: *taken })
    }

    /// Takes it out.
    pub(super) fn omit(&self, blocks: &mut Vec<Block>) {
        blocks[0].insns.remove(self.at);
        blocks[0].end = End::Goto(self.on);
        let reached = blocks.iter().any(|block| block.successors().any(|to| to == self.off));
        blocks.retain(|block| reached || block.start != self.off);
    }
}

/// What is known of one of a block's ops.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// What its copy may leave out.
    pub(super) omit: Omit,
    /// How many ops of the x87 stand directly before it.
    before: u8,
    /// Of how many such ops it is the first, all done by one handler.
    ops: u8,
}

impl Place {
    /// The ops of `op`'s handler that have others of the x87 before them, and how many.
    pub(super) fn ops_behind_others(self, op: *mut Op) -> impl Iterator<Item = (*const Op, u8)> {
        let at = move |index: u8| op.cast_const().wrapping_byte_add(usize::from(index) * OP);
        let places = (0..self.ops.max(1)).map(move |index| (at(index), self.before.saturating_add(index)));
        places.filter(|(_, before)| *before > 0)
    }
}

/// What each of a block's ops may leave out, and how many ops of the x87 stand directly before it. `notes` are those of their
/// handlers, `None` if they cannot be copied.
pub(super) fn find(ops: &[*mut Op], notes: &[Option<Notes>]) -> Vec<Place> {
    let noted = |at: usize| notes[at].filter(|notes| notes.last || notes.operand);
    let mut found = vec![Place::default(); ops.len()];
    for at in 0..ops.len() {
        let Some(here) = noted(at) else { continue };
        found[at].ops = here.ops();
        let Some(before) = at.checked_sub(1).and_then(noted) else { continue };
        let follows =
            before.look == here.look && ops[at] as usize == ops[at - 1] as usize + before.bytes as usize;
        // No block has so many.
        let count = found[at - 1].before.checked_add(before.ops());
        if let (true, Some(count)) = (follows, count) {
            found[at].before = count;
            found[at].omit.look = true;
            found[at - 1].omit.last = true;
        }
    }
    // Notes of an operand are good until the next one.
    let mut later = false;
    for at in (0..ops.len()).rev() {
        found[at].omit.operand = later && found[at].omit.last;
        later = found[at].before > 0 && (later || notes[at].is_some_and(|notes| notes.operand));
    }
    found
}
