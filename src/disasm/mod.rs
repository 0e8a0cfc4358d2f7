//! Assembly text of decoded instructions, in Intel's syntax as `objdump -M intel` shows it.
//!
//! ```
//! use table86::{disasm::text, isa::decode};
//! let insn = decode(&[0x8b, 0x45, 0xf8], 0x1000).unwrap();
//! assert_eq!(text(&insn), "mov eax, dword ptr [ebp-0x8]");
//! ```

mod operand;

use crate::isa::{Code, Insn, Operand, Rep};
use std::fmt;

/// The text of an instruction.
pub fn text(insn: &Insn) -> String {
    Text(insn).to_string()
}

/// Shows an instruction when it is formatted.
pub struct Text<'a>(pub &'a Insn);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let insn = self.0;
        let form = insn.form();
        if insn.lock {
            f.write_str("lock ")?;
        }
        f.write_str(repeat(insn))?;
        let shown: Vec<&Operand> = shown_operands(insn).collect();
        let has_address = insn.mem.is_some() || shown.iter().any(|operand| is_string(operand));
        let mnemonic = match form.mnemonic {
            "jecxz" if insn.addr16 => "jcxz",
            name => {
                // The address size also counts where no address is shown: LOOP, string instructions.
                if insn.addr16 && !has_address {
                    f.write_str("addr16 ")?;
                }
                name
            }
        };
        f.write_str(mnemonic)?;
        let mut immediates = 0;
        for (index, operand) in shown.into_iter().enumerate() {
            f.write_str(if index == 0 { " " } else { ", " })?;
            let shown = operand::Shown { insn, operand, second_immediate: immediates > 0 };
            write!(f, "{shown}")?;
            immediates += u32::from(matches!(operand.code, Code::I | Code::SignedI));
        }
        Ok(())
    }
}

/// The name of a general register of 1, 2 or 4 bytes, as ModRM numbers it.
pub fn register(number: u8, bytes: u32) -> &'static str {
    operand::register(number, bytes)
}

/// The name of a segment register.
pub fn segment(number: u8) -> &'static str {
    operand::SEGMENTS[usize::from(number & 7)]
}

/// Tells whether an operand is what a string instruction works on.
fn is_string(operand: &Operand) -> bool {
    matches!(operand.code, Code::X | Code::Y)
}

/// The operands in the text. String instructions say theirs by their names, unless a prefix changes them.
fn shown_operands(insn: &Insn) -> impl Iterator<Item = &'static Operand> {
    let operands = insn.form().operands;
    let plain_string = operands.iter().any(is_string) && insn.segment.is_none();
    operands.iter().filter(move |operand| !operand.implicit && !plain_string)
}

/// The repeat prefix, if it is one rather than a part of the opcode.
fn repeat(insn: &Insn) -> &'static str {
    let form = insn.form();
    let mandatory = form.op.starts_with("F2") || form.op.starts_with("F3");
    match (insn.rep, form.rep) {
        (0, _) => "",
        (_, Rep::Ignored) if mandatory => "",
        (0xf3, Rep::Repe) => "repe ",
        (0xf3, _) => "rep ",
        _ => "repne ",
    }
}

#[cfg(test)]
mod tests;
