//! Operands as text.

use crate::cpu::Seg;
use crate::isa::decode::{NO_REG, operand_bytes};
use crate::isa::{Code, Flow, Insn, Mem, Operand, Size};
use std::fmt;

const BYTE_REGS: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
const WORD_REGS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const DWORD_REGS: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
pub(super) const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "?", "?"];

/// The name of a general register of 1, 2 or 4 bytes.
pub(super) fn register(number: u8, bytes: u32) -> &'static str {
    let names = match bytes {
        1 => BYTE_REGS,
        2 => WORD_REGS,
        _ => DWORD_REGS,
    };
    names[usize::from(number & 7)]
}

/// What a memory operand of this size is called; nothing where the instruction says it all.
fn pointer(size: Size, opsize16: bool) -> &'static str {
    if matches!(size, Size::None | Size::M | Size::S | Size::E | Size::Fs | Size::Xs) {
        return "";
    }
    match operand_bytes(size, opsize16) {
        1 => "byte ptr ",
        2 => "word ptr ",
        4 => "dword ptr ",
        6 => "fword ptr ",
        8 => "qword ptr ",
        10 => "tbyte ptr ",
        16 => "xmmword ptr ",
        _ => "",
    }
}

/// An operand, with what is needed to show it.
pub(super) struct Shown<'a> {
    pub insn: &'a Insn,
    pub operand: &'a Operand,
    /// An immediate came before: this one is the second.
    pub second_immediate: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (insn, size) = (self.insn, self.operand.size);
        let bytes = operand_bytes(size, insn.opsize16);
        let with_class = |class: &str, number: u8| format!("{class}{number}");
        match self.operand.code {
            Code::E | Code::M | Code::R => match insn.mem {
                Some(mem) => self.memory(f, mem),
                None => f.write_str(register(insn.rm(), bytes)),
            },
            Code::Q | Code::N | Code::W | Code::U => match (insn.mem, self.operand.code) {
                (Some(mem), _) => self.memory(f, mem),
                (None, Code::Q | Code::N) => f.write_str(&with_class("mm", insn.rm())),
                (None, _) => f.write_str(&with_class("xmm", insn.rm())),
            },
            Code::O => match insn.mem {
                Some(mem) => self.memory(f, mem),
                None => Ok(()),
            },
            Code::G => f.write_str(register(insn.reg(), bytes)),
            Code::B => f.write_str(register(insn.vvvv, bytes)),
            Code::P => f.write_str(&with_class("mm", insn.reg())),
            Code::V => f.write_str(&with_class("xmm", insn.reg())),
            Code::XmmReg(number) => f.write_str(&with_class("xmm", number)),
            Code::Z => f.write_str(register(insn.low, bytes)),
            Code::Reg(number) => f.write_str(register(number, bytes)),
            Code::S => f.write_str(SEGMENTS[usize::from(insn.reg())]),
            Code::SegReg(number) => f.write_str(SEGMENTS[usize::from(number & 7)]),
            Code::C => f.write_str(&with_class("cr", insn.reg())),
            Code::D => f.write_str(&with_class("dr", insn.reg())),
            Code::St => f.write_str("st"),
            Code::StI => write!(f, "st({})", insn.rm()),
            Code::One => f.write_str("1"),
            Code::I | Code::SignedI => self.immediate(f),
            Code::J => write!(f, "{:#x}", insn.imm),
            Code::A => write!(f, "{:#x}:{:#x}", insn.imm2, insn.imm),
            Code::X => self.string(f, insn.segment.unwrap_or(Seg::Ds), 6),
            Code::XEdi => self.string(f, insn.segment.unwrap_or(Seg::Ds), 7),
            Code::Y => self.string(f, Seg::Es, 7),
        }
    }
}

impl Shown<'_> {
    /// An immediate in as many bits as it is used with.
    fn immediate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = if self.second_immediate { self.insn.imm2 } else { self.insn.imm };
        let bits = match self.operand.code {
            // Sign-extended to the operand size.
            Code::SignedI => self.insn.operand_bytes() * 8,
            _ => operand_bytes(self.operand.size, self.insn.opsize16) * 8,
        };
        let mask = u32::MAX.checked_shr(32 - bits.clamp(8, 32)).unwrap_or(u32::MAX);
        write!(f, "{:#x}", value & mask)
    }

    /// What ESI or EDI points to.
    fn string(&self, f: &mut fmt::Formatter<'_>, segment: Seg, register_number: u8) -> fmt::Result {
        let bytes = if self.insn.addr16 { 2 } else { 4 };
        let pointer = pointer(self.operand.size, self.insn.opsize16);
        write!(f, "{pointer}{}:[{}]", SEGMENTS[segment as usize], register(register_number, bytes))
    }

    /// `dword ptr gs:[base+index*scale-0x8]`.
    fn memory(&self, f: &mut fmt::Formatter<'_>, mem: Mem) -> fmt::Result {
        if self.operand.size == Size::P && self.insn.opsize16 && self.insn.form().flow == Flow::Far {
            // Its size is that of a near branch's operand.
            f.write_str("far ")?;
        }
        f.write_str(pointer(self.operand.size, self.insn.opsize16))?;
        if let Some(segment) = self.insn.segment {
            write!(f, "{}:", SEGMENTS[segment as usize])?;
        }
        f.write_str("[")?;
        let bytes = if self.insn.addr16 { 2 } else { 4 };
        let has_base = mem.base != NO_REG;
        let has_index = mem.index != NO_REG;
        if has_base {
            f.write_str(register(mem.base, bytes))?;
        }
        if has_index {
            let plus = if has_base { "+" } else { "" };
            write!(f, "{plus}{}", register(mem.index, bytes))?;
            if !self.insn.addr16 && (mem.scale > 0 || !has_base) {
                write!(f, "*{}", 1 << mem.scale)?;
            }
        }
        let disp = if self.insn.addr16 { i32::from(mem.disp as i16) } else { mem.disp as i32 };
        if !has_base && !has_index {
            let mask = if self.insn.addr16 { 0xffff } else { u32::MAX };
            write!(f, "{:#x}", mem.disp & mask)?;
        } else if disp < 0 {
            write!(f, "-{:#x}", disp.unsigned_abs())?;
        } else if disp > 0 {
            write!(f, "+{disp:#x}")?;
        }
        f.write_str("]")
    }
}
