//! What two decoders say about an instruction, brought into one form.

use iced_x86::{Instruction, OpKind, Register};
use table86::cpu::Seg;
use table86::isa::decode::{NO_REG, operand_bytes};
use table86::isa::{Code, Insn};

/// An operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// By its name.
    Register(String),
    /// In as many bits as it is used with.
    Immediate(u64),
    /// Target of a near branch.
    Near(u32),
    /// Selector and offset.
    Far(u32, u32),
    /// Segment, base, index, scale (1 if there is no index), displacement, bytes.
    Memory(String, String, String, u32, u32, u32),
    /// What ESI or EDI points to: segment, pointer register, bytes.
    String(String, String, u32),
}

/// An operand, and whether it is implicit: perhaps not shown.
pub type Ours = (Operand, bool);

const SEGMENTS: [&str; 7] = ["es", "cs", "ss", "ds", "fs", "gs", "none"];

fn register(number: u8, bytes: u32) -> String {
    const BYTES: [&str; 8] = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
    const WORDS: [&str; 8] = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
    let number = usize::from(number & 7);
    match bytes {
        1 => BYTES[number].to_owned(),
        2 => WORDS[number].to_owned(),
        _ => format!("e{}", WORDS[number]),
    }
}

/// Our operands in their order.
pub fn ours(insn: &Insn) -> Vec<Ours> {
    let mut immediates = [insn.imm, insn.imm2].into_iter();
    let operands = insn.form().operands.iter().filter_map(|operand| {
        let bytes = operand_bytes(operand.size, insn.opsize16);
        let name = |class: &str, number: u8| Operand::Register(format!("{class}{number}"));
        let general = |number: u8| Operand::Register(register(number, bytes));
        let pointer = if insn.addr16 { 2 } else { 4 };
        let found = match operand.code {
            Code::E | Code::M | Code::R | Code::O | Code::Q | Code::N | Code::W | Code::U
                if insn.mem.is_some() =>
            {
                memory(insn, bytes)
            }
            Code::E | Code::M | Code::R | Code::O => general(insn.rm()),
            Code::Q | Code::N => name("mm", insn.rm()),
            Code::W | Code::U => name("xmm", insn.rm()),
            Code::G => general(insn.reg()),
            Code::B => general(insn.vvvv),
            Code::P => name("mm", insn.reg()),
            Code::V => name("xmm", insn.reg()),
            Code::XmmReg(number) => name("xmm", number),
            Code::Z => general(insn.low),
            Code::Reg(number) => general(number),
            Code::S => Operand::Register(SEGMENTS[usize::from(insn.reg()).min(6)].to_owned()),
            Code::SegReg(number) => Operand::Register(SEGMENTS[usize::from(number)].to_owned()),
            Code::C => name("cr", insn.reg()),
            Code::D => name("dr", insn.reg()),
            Code::St => name("st", 0),
            Code::StI => name("st", insn.rm()),
            Code::One => Operand::Immediate(1),
            Code::I | Code::SignedI => {
                let value = immediates.next()?;
                let bits = if operand.code == Code::SignedI { insn.operand_bytes() } else { bytes } * 8;
                Operand::Immediate(u64::from(value & u32::MAX >> (32 - bits)))
            }
            Code::J => Operand::Near(insn.imm),
            Code::A => Operand::Far(insn.imm2, insn.imm),
            Code::X => {
                let segment = insn.segment.unwrap_or(Seg::Ds);
                Operand::String(SEGMENTS[segment as usize].to_owned(), register(6, pointer), bytes)
            }
            Code::XEdi => {
                let segment = insn.segment.unwrap_or(Seg::Ds);
                Operand::String(SEGMENTS[segment as usize].to_owned(), register(7, pointer), bytes)
            }
            Code::Y => Operand::String("es".to_owned(), register(7, pointer), bytes),
        };
        Some((found, operand.implicit))
    });
    operands.collect()
}

fn memory(insn: &Insn, bytes: u32) -> Operand {
    let mem = insn.mem.expect("a memory operand");
    let pointer = if insn.addr16 { 2 } else { 4 };
    let name = |number: u8| if number == NO_REG { "none".to_owned() } else { register(number, pointer) };
    let displacement = if insn.addr16 { mem.disp & 0xffff } else { mem.disp };
    let scale = if mem.index == NO_REG { 1 } else { 1 << mem.scale };
    let segment = SEGMENTS[mem.seg as usize].to_owned();
    Operand::Memory(segment, name(mem.base), name(mem.index), scale, displacement, bytes)
}

fn named(register: Register) -> String {
    format!("{register:?}").to_lowercase()
}

/// The other decoder's operands in their order.
pub fn theirs(instruction: &Instruction) -> Vec<Operand> {
    (0..instruction.op_count()).map(|index| their_operand(instruction, index)).collect()
}

fn their_operand(instruction: &Instruction, index: u32) -> Operand {
    let bytes = instruction.memory_size().size() as u32;
    let string = |register: &str, segment: String| Operand::String(segment, register.to_owned(), bytes);
    let source = || named(instruction.memory_segment());
    match instruction.op_kind(index) {
        OpKind::Register => Operand::Register(named(instruction.op_register(index))),
        OpKind::NearBranch16 => Operand::Near(u32::from(instruction.near_branch16())),
        OpKind::NearBranch32 => Operand::Near(instruction.near_branch32()),
        OpKind::FarBranch16 => {
            Operand::Far(instruction.far_branch_selector().into(), instruction.far_branch16().into())
        }
        OpKind::FarBranch32 => {
            Operand::Far(instruction.far_branch_selector().into(), instruction.far_branch32())
        }
        OpKind::Immediate8 => Operand::Immediate(instruction.immediate8().into()),
        OpKind::Immediate8_2nd => Operand::Immediate(instruction.immediate8_2nd().into()),
        OpKind::Immediate16 => Operand::Immediate(instruction.immediate16().into()),
        OpKind::Immediate32 => Operand::Immediate(instruction.immediate32().into()),
        OpKind::Immediate8to16 => Operand::Immediate(u64::from(instruction.immediate8to16() as u16)),
        OpKind::Immediate8to32 => Operand::Immediate(u64::from(instruction.immediate8to32() as u32)),
        OpKind::MemorySegSI => string("si", source()),
        OpKind::MemorySegESI => string("esi", source()),
        OpKind::MemorySegDI => string("di", source()),
        OpKind::MemorySegEDI => string("edi", source()),
        OpKind::MemoryESDI => string("di", "es".to_owned()),
        OpKind::MemoryESEDI => string("edi", "es".to_owned()),
        OpKind::Memory => {
            let index = instruction.memory_index();
            let scale = if index == Register::None { 1 } else { instruction.memory_index_scale() };
            Operand::Memory(
                source(),
                named(instruction.memory_base()),
                named(index),
                scale,
                instruction.memory_displacement32(),
                bytes,
            )
        }
        other => panic!("{other:?} in 32-bit code"),
    }
}

/// Whether both lists are the same operands; implicit ones of ours may be missing from theirs, and a size that only one side
/// has is no difference.
pub fn agree(ours: &[Ours], theirs: &[Operand]) -> bool {
    let mut theirs = theirs.iter().peekable();
    for (ours, implicit) in ours {
        if theirs.peek().is_some_and(|theirs| same(ours, theirs)) {
            theirs.next();
        } else if !implicit {
            return false;
        }
    }
    theirs.peek().is_none()
}

fn same(ours: &Operand, theirs: &Operand) -> bool {
    match (ours, theirs) {
        (
            Operand::Memory(segment, base, index, scale, displacement, bytes),
            Operand::Memory(segment2, base2, index2, scale2, displacement2, bytes2),
        ) => {
            (segment, base, index, scale, displacement) == (segment2, base2, index2, scale2, displacement2)
                && (bytes == bytes2 || *bytes == 0 || *bytes2 == 0)
        }
        _ => ours == theirs,
    }
}
