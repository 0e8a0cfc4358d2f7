//! Instructions of handlers that access a guest register in the CPU, and how a copy may have it in a register of the host.

use super::facts::{COUNT, is_high_byte};
use super::kept::{HOSTS, Kept, LOAD, move_word};
use super::vector::{self, Vector};
use iced_x86::{Encoder, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// Where in the CPU an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this offset.
    At(u32),
    /// At the offset that a field of an op says (so many bytes from the op, so many bytes long), and `plus`.
    Named { from: u32, bytes: u8, plus: u32 },
}

impl Place {
    /// The eight guest registers are the first bytes of the CPU.
    pub(super) const REGISTERS: u32 = 32;

    /// Whether a register is at this offset in the CPU.
    pub(super) fn is_register(offset: u32) -> bool {
        offset < Place::REGISTERS || vector::FILE.contains(&offset)
    }
}

/// An instruction with a memory operand in the CPU, taken apart.
#[derive(Debug)]
pub(super) struct Access {
    prefixes: Box<[u8]>,
    /// REX with W and R, or 0.
    rex: u8,
    opcode: Box<[u8]>,
    reg: u8,
    immediate: Box<[u8]>,
    /// The field of an op that is its immediate: bytes from the op.
    count: Option<u32>,
    vector: Vector,
    place: Place,
    bytes: u32,
    reads: bool,
    writes: bool,
    /// It has a form with a register in place of the memory operand.
    renames: bool,
    /// One of AH, CH, DH, BH is its other operand, so that it cannot have a REX prefix.
    high_byte: bool,
}

impl Access {
    /// `count` is the field of an op that it shifts by in place of CL, if there is one.
    pub(super) fn new(insn: &Instruction, place: Place, count: Option<u32>) -> Option<Access> {
        let mut encoded = *insn;
        encoded.set_memory_base(Register::RDI);
        encoded.set_memory_index(Register::None);
        encoded.set_memory_displ_size(8);
        // Too far for a short displacement.
        encoded.set_memory_displacement64(0x7fff_ffff);
        let mut encoder = Encoder::new(64);
        encoder.encode(&encoded, 0).ok()?;
        let at = encoder.get_constant_offsets().displacement_offset();
        let code = encoder.take_buffer();
        let modrm = *code.get(at.checked_sub(1)?)?;
        let prefixes = code.iter().take_while(|byte| matches!(byte, 0x66 | 0xf2 | 0xf3 | 0xf0)).count();
        let rex = if code[prefixes] & 0xf0 == 0x40 { code[prefixes] } else { 0 };
        let opcode = prefixes + usize::from(rex != 0);
        let mut info = InstructionInfoFactory::new();
        let access = info.info(insn).used_memory().first().map(|used| used.access())?;
        Some(Access {
            prefixes: code[..prefixes].into(),
            rex: rex & !1,
            opcode: code[opcode..at - 1]
                .iter()
                .map(|byte| byte ^ if count.is_some() { COUNT } else { 0 })
                .collect(),
            reg: modrm >> 3 & 7,
            immediate: code[at + 4..].into(),
            count,
            vector: Vector::of(insn, access == OpAccess::Read),
            place,
            bytes: insn.memory_size().size() as u32,
            reads: !matches!(access, OpAccess::Write),
            writes: !matches!(access, OpAccess::Read | OpAccess::CondRead),
            renames: renames(insn),
            high_byte: (0..insn.op_count())
                .any(|at| insn.op_kind(at) == OpKind::Register && is_high_byte(insn.op_register(at))),
        })
    }

    /// Where the operand is, given what reads a field of the op.
    pub(super) fn offset(&self, field: impl Fn(u32, u8) -> u32) -> u32 {
        match self.place {
            Place::At(offset) => offset,
            Place::Named { from, bytes, plus } => field(from, bytes).wrapping_add(plus),
        }
    }

    /// The number of the other operand, a register.
    pub(super) fn register(&self) -> u8 {
        self.reg | (self.rex & 4) << 1
    }

    /// What it does with an XMM register.
    pub(super) fn vector(&self) -> Vector {
        self.vector
    }

    /// What is behind the operand; `field` reads a field of the op.
    fn write_immediate(&self, code: &mut Vec<u8>, field: impl Fn(u32, u8) -> u32) {
        code.extend(&self.immediate);
        code.extend(self.count.map(|from| field(from, 1) as u8));
    }

    pub(super) fn memory_form(&self, code: &mut Vec<u8>, offset: u32, field: impl Fn(u32, u8) -> u32) {
        code.extend(&self.prefixes);
        if self.rex != 0 {
            code.push(self.rex);
        }
        code.extend(&self.opcode);
        operand(code, self.reg, offset);
        self.write_immediate(code, field);
    }

    pub(super) fn register_form(&self, code: &mut Vec<u8>, host: u8, field: impl Fn(u32, u8) -> u32) {
        code.extend(&self.prefixes);
        // Without a REX prefix, bytes of numbers 4 to 7 would be AH to BH.
        let byte = if self.bytes == 1 && host >= 4 { 0x40 } else { 0 };
        let high = if host >= 8 { 0x41 } else { 0 };
        if self.rex | byte | high != 0 {
            code.push(self.rex | byte | high);
        }
        code.extend(&self.opcode);
        code.push(0xc0 | self.reg << 3 | host & 7);
        self.write_immediate(code, field);
    }

    /// Writes the instruction as it is in the handler.
    pub(super) fn write_plain(&self, code: &mut Vec<u8>, field: impl Fn(u32, u8) -> u32) {
        self.memory_form(code, self.offset(&field), field);
    }

    /// Writes the instruction with the guest register in its host register where that is possible. `uses` are host registers
    /// that the handler uses itself, general ones and XMM.
    pub(super) fn write(
        &self,
        code: &mut Vec<u8>,
        kept: &mut Kept,
        (uses, vectors): (u16, u16),
        field: impl Fn(u32, u8) -> u32,
    ) {
        let offset = self.offset(&field);
        if vector::FILE.contains(&offset) && vector::write(self, code, kept, vectors, offset, &field) {
            return;
        }
        let register = offset as usize / 4;
        let host = HOSTS.get(register).copied().filter(|host| uses >> host & 1 == 0);
        let whole = offset.is_multiple_of(4) && self.bytes <= 4;
        let no_prefix = self.high_byte && host.is_some_and(|host| host >= 4);
        let Some(host) = host.filter(|_| whole && self.renames && !no_prefix) else {
            kept.complete_range(code, offset, self.bytes);
            self.memory_form(code, offset, field);
            if self.writes {
                kept.forget(offset, self.bytes);
            }
            return;
        };
        if self.bytes < 4 && !self.writes && !kept.has(register) {
            return self.memory_form(code, offset, field);
        }
        if (self.reads || self.bytes < 4) && !kept.has(register) {
            move_word(code, LOAD, host, offset);
        }
        kept.add(register);
        self.register_form(code, host, field);
        if self.writes {
            kept.owe(register);
        }
    }
}

/// ModRM and displacement of `[rdi + offset]`.
pub(super) fn operand(code: &mut Vec<u8>, reg: u8, offset: u32) {
    if offset < 128 {
        code.extend([0x47 | reg << 3, offset as u8]);
    } else {
        code.push(0x87 | reg << 3);
        code.extend(offset.to_le_bytes());
    }
}

/// Whether the instruction does the same with a register in place of its memory operand.
fn renames(insn: &Instruction) -> bool {
    use Mnemonic::{
        Adc, Add, And, Cmova, Cmovae, Cmovb, Cmovbe, Cmove, Cmovg, Cmovge, Cmovl, Cmovle, Cmovne, Cmovno,
        Cmovnp, Cmovns, Cmovo, Cmovp, Cmovs, Cmp, Dec, Imul, Inc, Mov, Movsx, Movsxd, Movzx, Neg, Not, Or,
        Rol, Ror, Sar, Sbb, Seta, Setae, Setb, Setbe, Sete, Setg, Setge, Setl, Setle, Setne, Setno, Setnp,
        Setns, Seto, Setp, Sets, Shl, Shld, Shr, Shrd, Sub, Test, Xor,
    };
    let segment = insn.op0_register().is_segment_register() || insn.op1_register().is_segment_register();
    !segment
        && matches!(
            insn.mnemonic(),
            Adc | Add
                | And
                | Cmova
                | Cmovae
                | Cmovb
                | Cmovbe
                | Cmove
                | Cmovg
                | Cmovge
                | Cmovl
                | Cmovle
                | Cmovne
                | Cmovno
                | Cmovnp
                | Cmovns
                | Cmovo
                | Cmovp
                | Cmovs
                | Cmp
                | Dec
                | Imul
                | Inc
                | Mov
                | Movsx
                | Movsxd
                | Movzx
                | Neg
                | Not
                | Or
                | Rol
                | Ror
                | Sar
                | Sbb
                | Seta
                | Setae
                | Setb
                | Setbe
                | Sete
                | Setg
                | Setge
                | Setl
                | Setle
                | Setne
                | Setno
                | Setnp
                | Setns
                | Seto
                | Setp
                | Sets
                | Shl
                | Shld
                | Shr
                | Shrd
                | Sub
                | Test
                | Xor
        )
}
