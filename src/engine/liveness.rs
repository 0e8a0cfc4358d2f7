//! Which status flags are needed: from the rows' facts, backwards through a block.

use crate::isa::{Access, Code, Flow, Insn, Size, flag};

/// What an instruction means for the flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Read.
    pub(crate) reads: u8,
    /// Changed, perhaps, by a handler that could also leave them out. A body that takes the CPU changes them itself.
    pub(crate) writes: bool,
    /// No longer dependent on what they were.
    pub(crate) kills: u8,
    /// May fault or leave the handlers, so all flags must be exact before it.
    pub(crate) barrier: bool,
}

/// Facts about a decoded instruction.
pub(crate) fn facts(insn: &Insn) -> Facts {
    let form = insn.form();
    let flags = &form.flags;
    let kills = if !flags.by_count {
        flags.kills[0]
    } else {
        match known_count(insn) {
            Some(0) => flags.kills[0],
            Some(1) => flags.kills[1],
            Some(_) => flags.kills[2],
            None => flags.kills[0] & flags.kills[1] & flags.kills[2],
        }
    };
    let touches_memory = insn.mem.is_some()
        && form.operands.iter().any(|operand| {
            !matches!(operand.access, Access::Address | Access::Shown)
                && matches!(operand.code, Code::E | Code::M | Code::O | Code::Q | Code::W)
        });
    let barrier = touches_memory || form.takes_cpu || !form.exceptions.is_empty();
    Facts { reads: flags.reads & flag::STATUS, writes: flags.writes && !form.takes_cpu, kills, barrier }
}

/// The shift count, if the encoding says it.
fn known_count(insn: &Insn) -> Option<u32> {
    let count = insn
        .form()
        .operands
        .iter()
        .rev()
        .find(|operand| operand.size == Size::B && operand.access == Access::R)?;
    match count.code {
        Code::I => Some(insn.imm & 31),
        Code::One => Some(1),
        _ => None,
    }
}

/// Flags needed before an instruction, from those needed behind it.
pub(crate) fn before(facts: &Facts, after: u8) -> u8 {
    if facts.barrier { flag::STATUS } else { after & !facts.kills | facts.reads }
}

/// How far a successor is read to find flags that it overwrites.
pub(crate) const LOOKAHEAD: usize = 10;

/// Flags needed at the start of what `next` decodes, one instruction a call.
pub(crate) fn lookahead(mut next: impl FnMut() -> Option<Insn>) -> u8 {
    let mut open = flag::STATUS;
    let mut needed = 0;
    for _ in 0..LOOKAHEAD {
        let Some(insn) = next() else { break };
        let facts = facts(&insn);
        needed |= facts.reads & open;
        if facts.barrier || insn.form().flow != Flow::Next {
            break;
        }
        open &= !facts.kills;
        if open == 0 {
            break;
        }
    }
    needed | open
}
