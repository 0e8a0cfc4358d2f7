//! What handlers save for their callers: registers of the host, on its stack. Copies need not. Who runs them has saved all
//! (`recover::run`), and what a copy keeps in such a register itself it gives up before a handler that uses it.

use super::code::Block;
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, Register};

/// Registers that a function keeps.
const KEPT: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

fn is_save(insn: &Instruction) -> bool {
    matches!(insn.code(), Code::Push_r64 | Code::Pop_r64) && KEPT.contains(&insn.op0_register())
}

/// Takes saving and restoring out of a handler that uses the stack for nothing else.
pub(super) fn omit(blocks: &mut [Block]) {
    let mut info = InstructionInfoFactory::new();
    let mut uses_stack = |insn: &Instruction| {
        let calls = matches!(insn.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
        let used = info.info(insn).used_registers();
        calls || used.iter().any(|used| used.register().full_register() == Register::RSP)
    };
    let insns = || blocks.iter().flat_map(|block| &block.insns);
    if insns().any(is_save) && insns().all(|insn| is_save(insn) || !uses_stack(insn)) {
        for block in blocks {
            block.insns.retain(|insn| !is_save(insn));
        }
    }
}
