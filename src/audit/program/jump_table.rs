//! Jump tables as compilers make them for `switch`.

use crate::isa::decode::NO_REG;
use crate::isa::{Code, Flow, Insn};
use crate::loader::code::Image;

/// How far before a jump its table may be named.
const BEFORE: usize = 12;
/// Most entries of a table whose bound is not seen.
const ENTRIES: u32 = 1024;
/// Factor 4, as a shift.
const BY_FOUR: u8 = 2;

/// The last instructions before a jump.
#[derive(Default)]
pub(super) struct Recent {
    insns: Vec<Insn>,
}

impl Recent {
    pub(super) fn add(&mut self, insn: Insn) {
        if self.insns.len() == BEFORE {
            self.insns.remove(0);
        }
        self.insns.push(insn);
    }

    /// Where an indirect jump may go, if a table is to be seen: `jmp [reg*4+table]`, `mov r, [reg*4+table]` before `jmp r`, and,
    /// with offsets from the global offset table, `mov r, [got+reg*4+offset]`, `add r, got`, `jmp r`.
    pub(super) fn targets(&self, jump: &Insn, image: &Image) -> Vec<u32> {
        let is_table = |insn: &&Insn| insn.mem.is_some_and(|mem| mem.scale == BY_FOUR && mem.disp != 0);
        let Some(load) = std::iter::once(jump).chain(self.insns.iter().rev()).find(is_table) else {
            return Vec::new();
        };
        let Some(mem) = load.mem else { return Vec::new() };
        let (table, origin) = match (mem.base, image.got) {
            (NO_REG, _) => (mem.disp, 0),
            (_, Some(got)) => (got.wrapping_add(mem.disp), got),
            _ => return Vec::new(),
        };
        let entries = self.bound().unwrap_or(ENTRIES);
        (0..entries)
            .map_while(|index| image.word_at(table.wrapping_add(index * 4)))
            .map(|word| word.wrapping_add(origin))
            .take_while(|target| image.is_code(*target))
            .collect()
    }

    /// How many entries a comparison before the jump lets through: one more than the constant compared with, if `ja` follows.
    fn bound(&self) -> Option<u32> {
        let above = self.insns.iter().rposition(|insn| insn.form().flow == Flow::Branch)?;
        let compare = self.insns[..above].iter().rev().find(|insn| insn.form().mnemonic == "cmp")?;
        let has_constant =
            compare.form().operands.iter().any(|operand| matches!(operand.code, Code::I | Code::SignedI));
        (has_constant && compare.imm < ENTRIES).then(|| compare.imm + 1)
    }
}
