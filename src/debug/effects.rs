//! What an instruction reads and writes, by the operands of its row and what the row says it touches beside them.
//!
//! Nothing here knows an instruction: [`touches`] turns [`Operand`]s and [`Also`] into places, given the registers before the
//! instruction runs.

use crate::cpu::{Cpu, Seg, eflags, reg};
use crate::isa::decode::{NO_REG, operand_bytes};
use crate::isa::{Access, Also, Code, Flow, Implicit, Insn, Operand, Rep, Size};

/// A register or a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A general register, or a part of one, as ModRM numbers it.
    Reg {
        /// Number; for a byte, AL CL DL BL AH CH DH BH.
        number: u8,
        /// 1, 2 or 4.
        bytes: u8,
    },
    /// A segment register.
    Seg(u8),
    /// A register of the x87's stack.
    St(u8),
    /// An MMX register.
    Mm(u8),
    /// An XMM register, or the low part of one.
    Xmm {
        /// Number.
        number: u8,
        /// 4, 8 or 16.
        bytes: u8,
    },
    /// Bytes in memory.
    Memory {
        /// Linear address of the first.
        addr: u32,
        /// How many.
        len: u32,
    },
}

/// A place, and how an instruction uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Where.
    pub place: Place,
    /// It reads there, or may.
    pub reads: bool,
    /// It writes there, or may.
    pub writes: bool,
    /// It only computes an address from it.
    pub address: bool,
}

/// The part of a string that a repeated instruction has worked on, which is known only afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// ECX (or CX) before.
    pub count: u32,
    /// Bytes of an element.
    pub bytes: u32,
    /// DF is set: addresses go down.
    pub down: bool,
}

/// What `insn` is going to touch with these registers, appended to `out`; flags are in its form. Memory that a repeated string
/// instruction touches is given for all elements.
pub fn touches(insn: &Insn, cpu: &Cpu, out: &mut Vec<Touch>) {
    let form = insn.form();
    if let Some(mem) = insn.mem {
        let bytes = if insn.addr16 { 2 } else { 4 };
        for number in [mem.base, mem.index].into_iter().filter(|number| *number != NO_REG) {
            let place = Place::Reg { number, bytes };
            out.push(Touch { place, reads: true, writes: false, address: true });
        }
    }
    // A bit string's operand says where it begins, not what is touched.
    let elsewhere = form.also.iter().any(|also| also.place == Implicit::BitString);
    for operand in form.operands {
        let is_memory = matches!(operand.code, Code::E | Code::M);
        if !(elsewhere && is_memory)
            && let Some(place) = place(insn, cpu, operand)
        {
            let (reads, writes) = (operand.access.reads(), operand.access.writes());
            if reads || writes {
                out.push(Touch { place, reads, writes, address: false });
            }
        }
    }
    for also in form.also {
        let (reads, writes) = (also.access.reads(), also.access.writes());
        let place = implicit(insn, cpu, also);
        match place {
            // ENTER's level may leave nothing.
            Place::Memory { len: 0, .. } => {}
            _ => out.push(Touch { place, reads, writes, address: false }),
        }
    }
    if repeats(insn) {
        let place = Place::Reg { number: reg::ECX as u8, bytes: if insn.addr16 { 2 } else { 4 } };
        out.push(Touch { place, reads: true, writes: true, address: false });
    }
}

/// Whether a repeat prefix counts.
pub fn repeats(insn: &Insn) -> bool {
    insn.form().rep != Rep::Ignored && insn.rep != 0
}

/// How a repeated string instruction goes through memory.
pub fn repeat(insn: &Insn, cpu: &Cpu) -> Option<Repeat> {
    let operands = insn.form().operands;
    let string = operands.iter().find(|operand| matches!(operand.code, Code::X | Code::Y))?;
    repeats(insn).then(|| Repeat {
        count: low(cpu.regs[reg::ECX], insn.addr16),
        bytes: operand_bytes(string.size, insn.opsize16),
        down: cpu.system_flags & eflags::DF != 0,
    })
}

/// Whether an instruction is a call that pushes the address behind it, near or far.
pub fn is_call(insn: &Insn) -> bool {
    let form = insn.form();
    form.flow == Flow::Call || form.flow == Flow::Far && pushes(insn)
}

/// Whether an instruction takes EIP from the stack.
pub fn is_return(insn: &Insn) -> bool {
    let form = insn.form();
    form.flow == Flow::Ret
        || form.flow == Flow::Far && form.also.iter().any(|also| matches!(also.place, Implicit::Above { .. }))
}

fn pushes(insn: &Insn) -> bool {
    insn.form().also.iter().any(|also| matches!(also.place, Implicit::Below { .. }))
}

fn low(value: u32, half: bool) -> u32 {
    if half { value & 0xffff } else { value }
}

fn place(insn: &Insn, cpu: &Cpu, operand: &Operand) -> Option<Place> {
    let bytes = operand_bytes(operand.size, insn.opsize16);
    let general = |number: u8| Place::Reg { number, bytes: bytes.clamp(1, 4) as u8 };
    let vector = |number: u8| Place::Xmm { number, bytes: bytes.clamp(1, 16) as u8 };
    if operand.access == Access::Address {
        return None;
    }
    Some(match operand.code {
        code if code.may_be_memory() && insn.mem.is_some() => memory(insn, cpu, operand)?,
        Code::E | Code::R => general(insn.rm()),
        Code::G => general(insn.reg()),
        Code::B => general(insn.vvvv),
        Code::Z => general(insn.low),
        Code::Reg(number) => general(number),
        Code::S => Place::Seg(insn.reg()),
        Code::SegReg(number) => Place::Seg(number),
        Code::St => Place::St(0),
        Code::StI => Place::St(insn.rm()),
        Code::P => Place::Mm(insn.reg()),
        Code::Q | Code::N => Place::Mm(insn.rm()),
        Code::V => vector(insn.reg()),
        Code::XmmReg(number) => vector(number),
        Code::W | Code::U => vector(insn.rm()),
        Code::X => string(insn, cpu, bytes, insn.segment.unwrap_or(Seg::Ds), reg::ESI),
        Code::XEdi => string(insn, cpu, bytes, insn.segment.unwrap_or(Seg::Ds), reg::EDI),
        Code::Y => string(insn, cpu, bytes, Seg::Es, reg::EDI),
        Code::I | Code::SignedI | Code::J | Code::A | Code::One | Code::C | Code::D | Code::M | Code::O => {
            return None;
        }
    })
}

/// Bytes of the FPU's whole image in memory, by operand size: what an operand sized by nothing else is.
const FPU_IMAGE: [u32; 2] = [108, 94];

/// What a ModRM or moffs operand in memory is.
fn memory(insn: &Insn, cpu: &Cpu, operand: &Operand) -> Option<Place> {
    let mem = insn.mem?;
    let len = match operand.size {
        Size::M => FPU_IMAGE[usize::from(insn.opsize16)],
        size => operand_bytes(size, insn.opsize16),
    };
    let popped = if insn.form().after_pop && mem.base == reg::ESP as u8 { insn.operand_bytes() } else { 0 };
    let addr = insn.offset(&cpu.regs).wrapping_add(popped).wrapping_add(base(cpu, mem.seg));
    Some(Place::Memory { addr, len })
}

fn base(cpu: &Cpu, seg: Seg) -> u32 {
    cpu.segment_bases[seg as usize & 7]
}

/// The elements of a string at ESI or EDI.
fn string(insn: &Insn, cpu: &Cpu, bytes: u32, seg: Seg, register: usize) -> Place {
    let first = low(cpu.regs[register], insn.addr16).wrapping_add(base(cpu, seg));
    match repeat(insn, cpu) {
        None => Place::Memory { addr: first, len: bytes },
        Some(repeat) => repeat.range(first, repeat.count),
    }
}

impl Repeat {
    /// Where `elements` elements are, the first of which is at `first`.
    pub fn range(self, first: u32, elements: u32) -> Place {
        let back = if self.down { elements.saturating_sub(1).wrapping_mul(self.bytes) } else { 0 };
        Place::Memory { addr: first.wrapping_sub(back), len: elements.saturating_mul(self.bytes) }
    }
}

fn implicit(insn: &Insn, cpu: &Cpu, also: &Also) -> Place {
    let bytes = operand_bytes(also.size, insn.opsize16);
    let counter = insn.addr16 && insn.form().flow == Flow::Branch;
    let at = |number: u8| cpu.regs[usize::from(number & 7)];
    let stack = base(cpu, Seg::Ss);
    match also.place {
        // LOOP and JECXZ count in CX with 16-bit addresses.
        Implicit::Reg(number) => Place::Reg { number, bytes: if counter { 2 } else { bytes as u8 } },
        Implicit::SegReg(number) => Place::Seg(number),
        Implicit::XmmReg(number) => Place::Xmm { number, bytes: bytes as u8 },
        Implicit::St(number) => Place::St(number),
        Implicit::Above { base, count } => {
            Place::Memory { addr: at(base).wrapping_add(stack), len: bytes * u32::from(count) }
        }
        Implicit::Below { base, count } => {
            let count = if count == 0 { 1 + (insn.imm2 & 31) } else { u32::from(count) };
            Place::Memory {
                addr: at(base).wrapping_add(stack).wrapping_sub(bytes * count),
                len: bytes * count,
            }
        }
        Implicit::LookedUp => {
            let [al, ..] = cpu.regs[reg::EAX].to_le_bytes();
            let offset = low(cpu.regs[reg::EBX].wrapping_add(u32::from(al)), insn.addr16);
            let addr = offset.wrapping_add(base(cpu, insn.segment.unwrap_or(Seg::Ds)));
            Place::Memory { addr, len: 1 }
        }
        Implicit::BitString => {
            let index = at(insn.reg());
            let (index, shift) = if insn.opsize16 { (index as i16 as i32, 4) } else { (index as i32, 5) };
            let moved = insn.offset(&cpu.regs).wrapping_add(((index >> shift) as u32).wrapping_mul(bytes));
            let addr =
                low(moved, insn.addr16).wrapping_add(base(cpu, insn.mem.map_or(Seg::Ds, |mem| mem.seg)));
            Place::Memory { addr, len: bytes }
        }
    }
}
