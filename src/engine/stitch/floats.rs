//! Handlers that look whether MXCSR lets the host's instructions do: in a copy the first of several looks for all.
//!
//! What they look at ([`Exec::has_host_floats`](crate::cpu::Exec::has_host_floats)) is changed only by instructions that load MXCSR
//! and by whoever looks at a stopped machine. So it stays as it is until the copy is left, or something in it stores there or calls.

use super::analysis::{Analysis, Operand, Step, Value, number};
use super::code::{Block, End};
use crate::cpu::Cpu;
use iced_x86::{Code, ConditionCode, Instruction, OpAccess, OpKind, Register};
use std::mem::offset_of;

const CONTROL: u64 = offset_of!(Cpu, mxcsr) as u64;
const WANTED: u64 = offset_of!(Cpu, host_floats) as u64;

/// Where a handler's first block compares, and where it goes if the host's instructions will not do.
fn find(first: &Block) -> Option<(usize, u64)> {
    let End::Branch { insn: branch, taken, .. } = first.end else { return None };
    let field = |insn: &Instruction| {
        let of_cpu = insn.op1_kind() == OpKind::Memory
            && insn.memory_base() == Register::RDI
            && insn.memory_index() == Register::None;
        of_cpu.then_some(insn.memory_displacement64())
    };
    let at = first.insns.windows(3).position(|insns| {
        let [load, and, compare] = insns else { return false };
        let register = load.op0_register();
        load.code() == Code::Mov_r32_rm32
            && and.code() == Code::And_r32_rm32
            && and.op0_register() == register
            && matches!(compare.code(), Code::Cmp_EAX_imm32 | Code::Cmp_rm32_imm32)
            && compare.op0_kind() == OpKind::Register
            && compare.op0_register() == register
            && matches!(
                (field(load), field(and)),
                (Some(CONTROL), Some(WANTED)) | (Some(WANTED), Some(CONTROL))
            )
    })?;
    // What decides is the comparison, and nothing else does anything that it or the branch could notice.
    let plain = |insn: &Instruction| insn.rflags_modified() == 0;
    let of_cpu = |insn: &Instruction| insn.op0_register() != Register::RDI;
    let decides = branch.condition_code() == ConditionCode::ne
        && first.insns[at + 3..].iter().all(plain)
        && first.insns.iter().all(of_cpu);
    decides.then_some((at + 2, taken))
}

/// Where a handler that looks goes if the host's instructions will not do; `None` if it does not look.
pub(super) fn look(blocks: &[Block]) -> Option<u64> {
    find(blocks.first()?).map(|(_, elsewhere)| elsewhere)
}

/// Takes the look out of a handler. `None` if it is not found. What it compared is nobody's then, and dropped with all such.
pub(super) fn omit_look(blocks: &mut Vec<Block>) -> Option<()> {
    let first = blocks.first_mut()?;
    let (compare, elsewhere) = find(first)?;
    let End::Branch { not_taken, .. } = first.end else { return None };
    first.insns.remove(compare);
    first.end = End::Goto(not_taken);
    let ways = |blocks: &[Block], to: u64| {
        blocks.iter().flat_map(Block::successors).filter(|way| *way == to).count()
    };
    if ways(blocks, elsewhere) == 0 {
        blocks.retain(|block| block.start != elsewhere);
    }
    // In one block, so that flags are known to be nobody's.
    let next = blocks.iter().position(|block| block.start == not_taken)?;
    if next != 0 && ways(blocks, not_taken) == 1 {
        let next = blocks.remove(next);
        blocks[0].insns.extend(next.insns);
        blocks[0].end = next.end;
    }
    Some(())
}

/// Whether a step stores into what handlers look at.
pub(super) fn changes(analysis: &mut Analysis, step: &Step) -> bool {
    analysis.info.info(&step.insn).used_memory().iter().any(|used| {
        let reads = matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
        let in_cpu = number(used.base()).is_some_and(|base| step.values[base] == Value::Cpu);
        let end = used.displacement().wrapping_add(used.memory_size().size() as u64);
        let overlaps = |field: u64| used.displacement() < field + 4 && end > field;
        // A place that an op names is in the array that begins there.
        let anywhere = used.index() != Register::None && step.operand == Operand::Same;
        !reads && in_cpu && (anywhere || overlaps(CONTROL) || overlaps(WANTED))
    })
}
