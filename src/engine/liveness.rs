//! Which status flags are needed: from the rows' facts, backwards through a block.

use crate::isa::{Access, Code, Flow, Form, Insn, Privilege, Size, Status, flag};

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

impl Facts {
    /// What is needed of them where no flag is left out.
    pub(crate) fn without_liveness(insn: &Insn) -> Facts {
        let form = insn.form();
        Facts { reads: 0, writes: form.flags.writes && !form.takes_cpu, kills: 0, barrier: true }
    }
}

/// Flags that an instruction may change.
pub(crate) fn changed(form: &Form) -> u8 {
    let kills = form.flags.kills;
    flag::STATUS & (kills[0] | kills[1] | kills[2])
}

/// Whether there are handlers that leave flags out. A body that takes the CPU keeps them itself.
pub(crate) fn may_be_live(form: &Form) -> bool {
    !form.takes_cpu && form.flags.writes && changed(form) != 0
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
            !matches!(operand.access, Access::Address | Access::Shown) && operand.code.may_be_memory()
        });
    // They push or pop EIP.
    let stack = matches!(form.flow, Flow::Call | Flow::Ret);
    // Privileged ones, and those that are missing, do nothing else.
    let refused = form.privilege != Privilege::User || form.status != Status::Implemented;
    // #MF of the x87 is due at the next instruction of MMX.
    let mmx = form.operands.iter().any(|operand| matches!(operand.code, Code::P | Code::Q | Code::N));
    let raises = form.takes_mxcsr || mmx || !form.exceptions.is_empty();
    let barrier = touches_memory || stack || refused || form.takes_cpu || raises;
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

/// Registers that an instruction reads and writes, as masks by number, XMM registers behind the general ones; part of a register
/// counts as all of it.
///
/// Only for instructions that work on values: a body that takes the CPU may use any. MMX registers are not there, as an instruction
/// that has one is a barrier.
fn registers(insn: &Insn) -> (u16, u16) {
    const XMM: u8 = 8;
    let (mut read, mut written) = (0, 0);
    for operand in insn.form().operands {
        let number = match operand.code {
            Code::E | Code::R if insn.mem.is_none() => insn.rm(),
            Code::G => insn.reg(),
            Code::B => insn.vvvv,
            Code::Z => insn.low,
            Code::Reg(number) => number,
            Code::V => XMM + insn.reg(),
            Code::W | Code::U if insn.mem.is_none() => XMM + insn.rm(),
            Code::XmmReg(number) => XMM + number,
            _ => continue,
        };
        let byte = operand.size == Size::B && number < XMM;
        let bit = 1 << if byte { number & 3 } else { number };
        if operand.access.reads() {
            read |= bit;
        }
        if operand.access.writes() {
            written |= bit;
        }
    }
    for part in insn.mem.iter().flat_map(|mem| [mem.base, mem.index]).filter(|part| *part < 8) {
        read |= 1 << part;
    }
    (read, written)
}

/// Whether two instructions in a row may change places: neither can fault or leave the handlers, the second neither reads nor
/// writes flags, and neither writes a register that the other uses.
pub(crate) fn may_swap(first: &Insn, second: &Insn) -> bool {
    let (one, two) = (facts(first), facts(second));
    let plain = |insn: &Insn| insn.form().flow == Flow::Next && !insn.form().takes_cpu;
    if one.barrier || two.barrier || two.writes || two.reads != 0 || !plain(first) || !plain(second) {
        return false;
    }
    let ((read, written), (read2, written2)) = (registers(first), registers(second));
    written & (read2 | written2) == 0 && written2 & read == 0
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
