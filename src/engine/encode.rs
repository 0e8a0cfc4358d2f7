//! From a decoded instruction to an op's fields and to the keys of the handlers that fit it.

use super::keys::{self, Few};
use super::op::{Handler, Op};
use super::path::Job;
use crate::cpu::exec::attribute;
use crate::cpu::{Seg, ZERO_REG};
use crate::isa::decode::NO_REG;
use crate::isa::{Access, Code, Insn, Operand, Rep, Size};

/// Whether an immediate stands beside a memory operand or another immediate.
pub(super) fn needs_second_slot(insn: &Insn) -> bool {
    let immediates = passed(insn).filter(|operand| matches!(operand.code, Code::I | Code::SignedI)).count();
    immediates > 1 || (insn.mem.is_some() && immediates > 0) || register_beside_memory(insn).is_some()
}

/// The second register beside a memory operand: the op has no field for it.
pub(super) fn register_beside_memory(insn: &Insn) -> Option<u8> {
    let named = |operand: &&Operand| matches!(operand.code, Code::G | Code::B);
    insn.mem.and_then(|_| passed(insn).filter(named).nth(1)).and_then(|operand| register(insn, operand))
}

/// Bytes of an XMM register.
const XMM_BYTES: u8 = 16;

/// Byte offset of a register.
fn register_offset(number: u8, bytes: u32) -> u8 {
    if bytes == 1 { (number & 3) * 4 + (number >> 2) } else { number * 4 }
}

/// The operands that reach the body, as the generator counts them.
pub(super) fn passed(insn: &Insn) -> impl Iterator<Item = &'static Operand> {
    insn.form().operands.iter().filter(|operand| {
        operand.access != Access::Shown && !matches!(operand.code, Code::J | Code::X | Code::Y | Code::XEdi)
    })
}

/// The register that an operand names in this encoding: its byte offset, or its number for those outside the file.
fn register(insn: &Insn, operand: &Operand) -> Option<u8> {
    let bytes = match operand.size {
        Size::B => 1,
        _ => 4,
    };
    Some(match operand.code {
        Code::E | Code::R if insn.mem.is_none() => register_offset(insn.rm(), bytes),
        Code::G => register_offset(insn.reg(), bytes),
        Code::B => register_offset(insn.vvvv, bytes),
        Code::Z => register_offset(insn.low, bytes),
        Code::Reg(number) => register_offset(number, bytes),
        Code::S | Code::C | Code::D => insn.reg(),
        Code::SegReg(number) => number,
        Code::StI => insn.rm(),
        Code::P => insn.reg(),
        Code::Q | Code::N if insn.mem.is_none() => insn.rm(),
        Code::V => insn.reg() * XMM_BYTES,
        Code::W | Code::U if insn.mem.is_none() => insn.rm() * XMM_BYTES,
        Code::St => 0,
        _ => return None,
    })
}

/// The part of a key that fits an operand wherever it is; `None` if keys do not speak of it.
fn any_key(insn: &Insn, at: usize, operand: &Operand) -> Option<u64> {
    use keys::spec;
    let spec = match operand.code {
        Code::I | Code::SignedI => spec::IMMEDIATE,
        Code::A | Code::One | Code::S | Code::SegReg(_) | Code::C | Code::D | Code::St | Code::StI => {
            return None;
        }
        Code::P | Code::N => spec::MM,
        Code::V | Code::U => spec::XMM,
        Code::B => spec::REGISTER,
        Code::XmmReg(number) => spec::FIXED_XMM + number,
        Code::Q if insn.mem.is_none() => spec::MM,
        Code::W if insn.mem.is_none() => spec::XMM,
        Code::Reg(_) => spec::FIXED + register(insn, operand).unwrap_or(0),
        _ if register(insn, operand).is_some() => spec::REGISTER,
        _ => spec::MEMORY,
    };
    Some(keys::operand(at, spec))
}

/// The part of a key that says where operands are, of the handler that takes them anywhere.
pub(super) fn generic_key(insn: &Insn) -> u64 {
    let parts = passed(insn).enumerate().filter_map(|(at, operand)| any_key(insn, at, operand));
    parts.fold(0, |key, part| key | part)
}

/// The parts of keys that say where operands are, most special first.
pub(super) fn operand_keys(job: &Job<'_>, insn: &Insn) -> Few {
    use keys::spec;
    let mut result = Few::of([0]);
    for (at, operand) in passed(insn).enumerate() {
        if operand.code == Code::StI {
            // The number is part of the host's instruction.
            result = result.with_each(&Few::of([keys::operand(at, spec::FIXED + insn.rm()), 0]));
        }
        let Some(any) = any_key(insn, at, operand) else { continue };
        let choices = if any == keys::operand(at, spec::REGISTER) && operand.code != Code::B {
            let offset = register(insn, operand).unwrap_or(0);
            Few::of([keys::operand(at, spec::FIXED + offset), any])
        } else if any == keys::operand(at, spec::MEMORY) {
            memory_keys(job, insn, at)
        } else {
            Few::of([any])
        };
        result = result.with_each(&choices);
    }
    // A certain register saves less than segments cost.
    result.with_last(keys::takes_any_memory)
}

/// The parts of keys for a memory operand.
fn memory_keys(job: &Job<'_>, insn: &Insn, at: usize) -> Few {
    use keys::spec;
    let part = |spec: u8| keys::operand(at, spec);
    let any = part(spec::MEMORY);
    let Some(mem) = insn.mem else { return Few::of([any]) };
    let address_only = passed(insn).any(|operand| operand.access == Access::Address);
    let flat = address_only || job.segment(mem.seg) == Seg::None;
    if !flat || insn.addr16 {
        return Few::of([any]);
    }
    let indexed = |which: u8| {
        let scaled = part(spec::SCALED + mem.scale);
        Few::of([keys::indexed(at, which | mem.scale << 6), scaled, part(spec::SIB), any])
    };
    match (mem.base, mem.index) {
        (NO_REG, NO_REG) => Few::of([part(spec::ABSOLUTE), part(spec::SIB), any]),
        (base, NO_REG) => {
            Few::of([part(spec::FIXED_BASE + base * 4), part(spec::BASE), part(spec::SIB), any])
        }
        (NO_REG, index) => indexed(index | 4 << 3),
        (base, index) => indexed(base | index << 3),
    }
}

/// Fills an op's fields.
pub(super) fn encode(job: &Job<'_>, insn: &Insn, handler: Handler) -> Op {
    let form = insn.form();
    let mut op = Op { handler, a: 0, b: 0, c: 0, d: 0, imm: insn.imm };
    let mut registers = passed(insn).filter_map(|operand| register(insn, operand));
    op.a = registers.next().unwrap_or(0);
    op.b = registers.next().unwrap_or(0);
    op.c = registers.next().unwrap_or(0);
    if insn.addr16 {
        op.d |= attribute::ADDR16;
    }
    if insn.lock {
        op.d |= attribute::LOCKED;
    }
    let has = |codes: &[Code]| form.operands.iter().any(|operand| codes.contains(&operand.code));
    if has(&[Code::XEdi]) {
        op.d |= (insn.segment.unwrap_or(Seg::Ds) as u8) << attribute::SEG_SHIFT;
    } else if has(&[Code::X, Code::Y]) {
        op.a = match (form.rep, insn.rep) {
            (Rep::Ignored, _) | (_, 0) => 0,
            (_, 0xf3) => 1,
            _ => 2,
        };
        op.d |= (insn.segment.unwrap_or(Seg::Ds) as u8) << attribute::SEG_SHIFT;
    }
    if let Some(mem) = insn.mem {
        let offset = |register: u8| if register == NO_REG { ZERO_REG } else { register * 4 };
        op.b = offset(mem.base);
        op.c = offset(mem.index);
        let address_only = passed(insn).any(|operand| operand.access == Access::Address);
        let seg = if address_only { Seg::None } else { job.segment(mem.seg) };
        op.d |= mem.scale | (seg as u8) << attribute::SEG_SHIFT;
        op.imm = mem.disp;
        if form.after_pop && mem.base == 4 {
            op.imm = op.imm.wrapping_add(insn.operand_bytes());
        }
    }
    op
}
