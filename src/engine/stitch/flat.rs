//! Stacks in a segment without a base, as nearly all are: copies need neither add the base nor look for the segment's end.
//!
//! There the end of the segment is that of the guest's memory, where the access faults by itself, and whoever handles that finds out
//! that it was the segment's end (`Machine::beyond_limit`). Blocks are made for a [`Mode`](crate::engine::path::Mode) that says
//! whether any of the usual segments has a base.

use super::analysis::number;
use super::code::{Block, End};
use crate::cpu::{Cpu, Seg};
use iced_x86::{Code, ConditionCode, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register};
use std::collections::HashMap;
use std::mem::offset_of;

const BASE: u64 = (offset_of!(Cpu, segment_bases) + size_of::<u32>() * Seg::Ss as usize) as u64;

/// Registers that hold the base, as a bit set.
type Bases = u16;

/// Takes both out of a handler. The load of a base that nobody wants any more is dropped with all such.
pub(super) fn omit(blocks: &mut Vec<Block>) {
    let mut info = InstructionInfoFactory::new();
    if blocks.iter().flat_map(|block| &block.insns).any(|insn| writes(&mut info, insn, Register::RDI)) {
        return;
    }
    let mut behind: HashMap<u64, Bases> = HashMap::new();
    let mut at = 0;
    while at < blocks.len() {
        let from = only_way(blocks, at);
        let before = from.and_then(|from| behind.get(&blocks[from].start)).copied().unwrap_or(0);
        let (sum, bases) = fold(&mut blocks[at], before, &mut info);
        let earlier = from.map(|from| blocks[from].start);
        match (sum, from) {
            (Some(sum), Some(from)) if omit_limit(blocks, from, at, sum, &mut info) => {
                // The block is a part of the one before it now.
                behind.extend(earlier.map(|start| (start, bases)));
            }
            _ => {
                behind.insert(blocks[at].start, bases);
                at += 1;
            }
        }
    }
}

/// The block that alone leads to block `at`, which is not the first.
fn only_way(blocks: &[Block], at: usize) -> Option<usize> {
    let leads = |from: &usize| blocks[*from].successors().any(|to| to == blocks[at].start);
    let mut ways = (0..blocks.len()).filter(leads);
    ways.next().filter(|from| at != 0 && *from != at && ways.next().is_none())
}

fn is_changed(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

fn writes(info: &mut InstructionInfoFactory, insn: &Instruction, register: Register) -> bool {
    let same = |used: Register| used.full_register() == register.full_register();
    info.info(insn).used_registers().iter().any(|used| same(used.register()) && is_changed(used.access()))
}

/// Whether nobody sees the flags behind an instruction.
fn flags_end(block: &Block, at: usize) -> bool {
    for insn in &block.insns[at + 1..] {
        if insn.rflags_read() != 0 {
            return false;
        }
        if insn.rflags_modified() != 0 {
            return true;
        }
    }
    matches!(block.end, End::Outside(_) | End::Leave(_))
}

/// Where an offset became an address: its register, and how many instructions are before.
type Sum = (Register, usize);

/// Lets sums of a base and an offset be the offset, given the registers that hold the base before the block. Gives the first such
/// sum, and the registers behind it.
fn fold(block: &mut Block, mut bases: Bases, info: &mut InstructionInfoFactory) -> (Option<Sum>, Bases) {
    let mut first = None;
    for at in 0..block.insns.len() {
        let insn = block.insns[at];
        let is_base = |register: Register| number(register).is_some_and(|at| bases >> at & 1 != 0);
        let loads = insn.code() == Code::Mov_r32_rm32
            && insn.op1_kind() == OpKind::Memory
            && insn.memory_base() == Register::RDI
            && insn.memory_index() == Register::None
            && insn.memory_displacement64() == BASE;
        if let Some((sum, offset)) = without_base(&insn, is_base)
            && (insn.code() == Code::Lea_r32_m || flags_end(block, at))
        {
            block.insns[at] = sum;
            first = first.or(Some((offset, at)));
        }
        for register in info.info(&insn).used_registers() {
            if let (Some(at), true) = (number(register.register()), is_changed(register.access())) {
                bases &= !(1 << at);
            }
        }
        if let (true, Some(at)) = (loads, number(insn.op0_register())) {
            bases |= 1 << at;
        }
    }
    (first, bases)
}

/// A copy of an offset, of 32 bits, for an instruction that adds a base to it, and the offset's register (none if it is in memory).
fn without_base(insn: &Instruction, is_base: impl Fn(Register) -> bool) -> Option<(Instruction, Register)> {
    let registers = insn.op0_kind() == OpKind::Register;
    match insn.code() {
        Code::Add_r32_rm32 if is_base(insn.op0_register()) => {
            let mut copy = *insn;
            copy.set_code(Code::Mov_r32_rm32);
            // It is none of the handler's own any more.
            copy.set_ip(0);
            (insn.op1_register() != insn.op0_register()).then_some((copy, insn.op1_register()))
        }
        Code::Add_rm32_r32 if registers && is_base(insn.op0_register()) => {
            copied(insn.op0_register(), insn.op1_register())
        }
        Code::Add_rm32_r32 if registers && is_base(insn.op1_register()) => {
            copied(insn.op0_register(), insn.op0_register())
        }
        Code::Lea_r32_m if insn.memory_index_scale() == 1 && insn.memory_displacement64() == 0 => {
            match (insn.memory_base(), insn.memory_index()) {
                (base, offset) if is_base(base) && offset != base => copied(insn.op0_register(), offset),
                (offset, base) if is_base(base) && offset != base => copied(insn.op0_register(), offset),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `mov to, offset`, of 32 bits.
fn copied(to: Register, offset: Register) -> Option<(Instruction, Register)> {
    let of_32_bits = |register: Register| number(register).map(|at| Register::EAX + at as u32);
    let offset = of_32_bits(offset)?;
    let copy = Instruction::with2(Code::Mov_r32_rm32, of_32_bits(to)?, offset).ok()?;
    Some((copy, offset))
}

/// Takes out the look whether an offset is at the segment's end, if it is what block `from` ends with, the only way to block `at`, and
/// the offset is the same until it becomes an address there. Then the two are one; tells whether they are.
fn omit_limit(
    blocks: &mut Vec<Block>,
    from: usize,
    at: usize,
    (offset, until): Sum,
    info: &mut InstructionInfoFactory,
) -> bool {
    let End::Branch { insn: branch, taken, not_taken } = blocks[from].end else { return false };
    let first = &blocks[from].insns;
    let Some(compare) = first.iter().rposition(|insn| insn.rflags_modified() != 0) else { return false };
    let insn = &first[compare];
    let looks = matches!(insn.code(), Code::Cmp_rm32_imm8 | Code::Cmp_rm32_imm32 | Code::Cmp_EAX_imm32)
        && insn.op0_kind() == OpKind::Register
        && insn.op0_register() == offset
        && (-4..0).contains(&(insn.immediate(1) as i32))
        && matches!(branch.condition_code(), ConditionCode::a | ConditionCode::ae | ConditionCode::e);
    let mut between = first[compare + 1..].iter().chain(&blocks[at].insns[..until]);
    if !looks || not_taken != blocks[at].start || between.any(|insn| writes(info, insn, offset)) {
        return false;
    }
    let Block { insns, end, .. } = blocks[at].clone();
    blocks[from].insns.remove(compare);
    blocks[from].insns.extend(insns);
    blocks[from].end = end;
    blocks.remove(at);
    if !blocks.iter().any(|block| block.successors().any(|way| way == taken)) {
        // A way out, behind all others.
        blocks.retain(|block| block.start != taken);
    }
    true
}
