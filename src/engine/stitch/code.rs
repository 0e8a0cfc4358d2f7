//! Reads a handler's machine code into basic blocks.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};
use std::collections::BTreeMap;

/// Handlers with more instructions than this are not read.
const MAX_INSNS: usize = 160;

/// How a block ends.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// Goes on at an address in the handler.
    Goto(u64),
    /// A conditional branch.
    Branch { insn: Instruction, taken: u64, not_taken: u64 },
    /// A jump out of the handler.
    Outside(u64),
    /// An indirect jump, a return, or an instruction that never goes on.
    Leave(Instruction),
}

/// Instructions in a row, without the branch at their end.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) start: u64,
    pub(super) insns: Vec<Instruction>,
    pub(super) end: End,
}

impl Block {
    /// Where it may go on.
    pub(super) fn successors(&self) -> impl Iterator<Item = u64> + use<> {
        let (one, other) = match self.end {
            End::Goto(target) => (Some(target), None),
            End::Branch { taken, not_taken, .. } => (Some(taken), Some(not_taken)),
            End::Outside(_) | End::Leave(_) => (None, None),
        };
        one.into_iter().chain(other)
    }
}

/// The blocks that can be reached from the start of `bytes`, which are at address `base`, in the order of their addresses, and behind
/// them ways out for conditional branches that leave. `None`
/// when there are too many or one is not understood.
pub(super) fn read(bytes: &[u8], base: u64) -> Option<Vec<Block>> {
    let end = base + bytes.len() as u64;
    let mut insns: BTreeMap<u64, Instruction> = BTreeMap::new();
    let mut leaders = vec![base];
    let mut work = vec![base];
    // Where branches lead that are conditional: each gets a block that goes there, as the handler's own blocks are first.
    let mut outside = Vec::new();
    while let Some(mut ip) = work.pop() {
        while !insns.contains_key(&ip) {
            if insns.len() >= MAX_INSNS || !(base..end).contains(&ip) {
                return None;
            }
            let mut decoder = Decoder::with_ip(64, &bytes[(ip - base) as usize..], ip, DecoderOptions::NONE);
            let insn = decoder.decode();
            if insn.is_invalid() {
                return None;
            }
            insns.insert(ip, insn);
            let next = insn.next_ip();
            match insn.flow_control() {
                FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                FlowControl::ConditionalBranch => {
                    let target = insn.near_branch_target();
                    if !insn.is_jcc_short_or_near() {
                        return None;
                    }
                    leaders.push(next);
                    if (base..end).contains(&target) {
                        leaders.push(target);
                        work.push(target);
                    } else {
                        outside.push(target);
                    }
                }
                FlowControl::UnconditionalBranch => {
                    let target = insn.near_branch_target();
                    if (base..end).contains(&target) {
                        leaders.push(target);
                        work.push(target);
                    }
                    break;
                }
                FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::Interrupt
                | FlowControl::Exception => break,
                FlowControl::XbeginXabortXend => return None,
            }
            ip = next;
        }
    }
    leaders.sort_unstable();
    leaders.dedup();
    outside.sort_unstable();
    outside.dedup();
    let ways =
        outside.iter().map(|target| Block { start: *target, insns: Vec::new(), end: End::Outside(*target) });
    let blocks = leaders.iter().map(|start| block(&insns, &leaders, *start, base..end));
    blocks.chain(ways.map(Some)).collect()
}

fn block(
    insns: &BTreeMap<u64, Instruction>,
    leaders: &[u64],
    start: u64,
    inside: std::ops::Range<u64>,
) -> Option<Block> {
    let mut found = Vec::new();
    let mut ip = start;
    loop {
        let insn = insns.get(&ip)?;
        let target = insn.near_branch_target();
        let end = match insn.flow_control() {
            FlowControl::ConditionalBranch => {
                Some(End::Branch { insn: *insn, taken: target, not_taken: insn.next_ip() })
            }
            FlowControl::UnconditionalBranch if inside.contains(&target) => Some(End::Goto(target)),
            FlowControl::UnconditionalBranch => Some(End::Outside(target)),
            FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Interrupt
            | FlowControl::Exception => Some(End::Leave(*insn)),
            _ => None,
        };
        if let Some(end) = end {
            return Some(Block { start, insns: found, end });
        }
        found.push(*insn);
        ip = insn.next_ip();
        if leaders.binary_search(&ip).is_ok() {
            return Some(Block { start, insns: found, end: End::Goto(ip) });
        }
    }
}
