//! Addresses: what handlers add up of guest registers, one of them shifted, and fields of ops, and copies compute at once.

use super::access::{Access, Place};
use super::analysis::{Operand, Step, number};
use super::facts::{immediate_form, pure_load};
use super::kept::{HOSTS, Kept};
use iced_x86::{Code, OpKind, RflagsBits};

/// A sum of guest registers and fields of ops, in a register of the host.
#[derive(Debug)]
pub(super) struct Sum {
    /// The register.
    to: u8,
    /// The first of the guest registers is shifted so far to the left.
    shift: u8,
    /// In the order in which the handler has them.
    parts: Vec<Part>,
}

/// An instruction of the handler.
#[derive(Debug)]
enum Part {
    /// Loads or adds a guest register.
    Register(Access),
    /// Loads or adds a field of an op: the code before an immediate of 32 bits, then bytes from the op, and how many it has.
    Field { code: Vec<u8>, from: u32, bytes: u8 },
    /// Shifts what is there by [`Sum::shift`].
    Shift,
}

/// The host's status flags.
const STATUS: u32 =
    RflagsBits::OF | RflagsBits::SF | RflagsBits::ZF | RflagsBits::AF | RflagsBits::CF | RflagsBits::PF;

/// Whether steps, and behind them what `ends`, make new flags before anything wants those that are there.
fn wants_no_flags(steps: &[Step], ends: bool) -> bool {
    for step in steps {
        if step.insn.rflags_read() != 0 {
            return false;
        }
        if step.insn.rflags_modified() & STATUS == STATUS {
            return true;
        }
    }
    ends
}

impl Sum {
    /// Takes the longest sum that the steps begin with, and gives how many of them it is. `ends`: behind them nobody wants flags.
    pub(super) fn take(steps: &[Step], ends: bool) -> Option<(Sum, usize)> {
        let first = steps.first()?;
        let register = first.insn.op0_register();
        let to = number(register).filter(|_| pure_load(&first.insn))? as u8;
        let mut sum = Sum { to, shift: 0, parts: vec![Sum::term(first)?] };
        for step in &steps[1..] {
            let insn = &step.insn;
            if insn.op0_kind() != OpKind::Register || insn.op0_register() != register || step.count.is_some()
            {
                break;
            }
            let part = match insn.code() {
                Code::Add_r32_rm32 => Sum::term(step),
                Code::Shl_rm32_imm8 if sum.is_register() && insn.immediate8() <= 3 => {
                    sum.shift = insn.immediate8();
                    Some(Part::Shift)
                }
                _ => None,
            };
            let Some(part) =
                part.filter(|part| !matches!(part, Part::Register(_)) || sum.registers().count() < 2)
            else {
                break;
            };
            sum.parts.push(part);
        }
        let taken = sum.parts.len();
        (taken > 1 && wants_no_flags(&steps[taken..], ends)).then_some((sum, taken))
    }

    /// What a step loads or adds.
    fn term(step: &Step) -> Option<Part> {
        match step.operand {
            Operand::Immediate(from) => {
                let bytes = step.insn.memory_size().size() as u8;
                Some(Part::Field { code: immediate_form(&step.insn)?, from, bytes })
            }
            Operand::Cpu(place) if step.insn.memory_size().size() == 4 => {
                Some(Part::Register(Access::new(&step.insn, place, None)?))
            }
            _ => None,
        }
    }

    /// Whether it is nothing yet but one guest register.
    fn is_register(&self) -> bool {
        matches!(self.parts[..], [Part::Register(_)])
    }

    fn registers(&self) -> impl Iterator<Item = &Access> {
        self.parts.iter().filter_map(|part| match part {
            Part::Register(access) => Some(access),
            _ => None,
        })
    }

    /// Writes the handler's instructions; `register` writes one that has a guest register.
    fn write_parts(
        &self,
        code: &mut Vec<u8>,
        field: impl Fn(u32, u8) -> u32,
        mut register: impl FnMut(&mut Vec<u8>, &Access),
    ) {
        for part in &self.parts {
            match part {
                Part::Register(access) => register(code, access),
                // shl to, shift
                Part::Shift if self.to >= 8 => code.extend([0x41, 0xc1, 0xe0 | self.to & 7, self.shift]),
                Part::Shift => code.extend([0xc1, 0xe0 | self.to, self.shift]),
                Part::Field { code: load, from, bytes } => {
                    code.extend(load);
                    code.extend(field(*from, *bytes).to_le_bytes());
                }
            }
        }
    }

    /// Writes it as it is in the handler.
    pub(super) fn write_plain(&self, code: &mut Vec<u8>, field: impl Fn(u32, u8) -> u32 + Copy) {
        self.write_parts(code, field, |code, access| access.write_plain(code, field));
    }

    /// Writes it with the guest registers in their host registers: one instruction, unless the handler uses (a bit each) one of
    /// these itself.
    pub(super) fn write(
        &self,
        code: &mut Vec<u8>,
        kept: &mut Kept,
        uses: (u16, u16),
        field: impl Fn(u32, u8) -> u32 + Copy,
    ) {
        let free = |offset: u32| {
            let host = HOSTS.get(offset as usize / 4).filter(|_| offset.is_multiple_of(4));
            host.is_some_and(|host| uses.0 >> host & 1 == 0)
        };
        let offsets = || self.registers().map(|access| access.offset(field));
        if !offsets().all(|offset| free(offset) || offset == Place::REGISTERS) {
            return self.write_parts(code, field, |code, access| access.write(code, kept, uses, field));
        }
        let mut value = 0u32;
        for part in &self.parts {
            if let Part::Field { from, bytes, .. } = part {
                value = value.wrapping_add(field(*from, *bytes));
            }
        }
        // Behind the registers is a zero, for operands that lack one.
        let mut hosts =
            offsets().map(|offset| (offset < Place::REGISTERS).then(|| kept.load(code, offset as usize / 4)));
        let (first, second) = (hosts.next().flatten(), hosts.next().flatten());
        let (base, index) = match (first, second) {
            (Some(first), None) if self.shift == 0 => (Some(first), None),
            (Some(first), second) => (second, Some((first, self.shift))),
            (None, second) => (second, None),
        };
        drop(hosts);
        lea(code, self.to, base, index, value);
    }
}

/// Writes `lea to, [base + (index << shift) + value]` of 32 bits, or what does the same. The index is not RSP.
fn lea(code: &mut Vec<u8>, to: u8, base: Option<u8>, index: Option<(u8, u8)>, value: u32) {
    const SIB: u8 = 4;
    /// As a base without a displacement: none, but 32 bits of displacement.
    const NONE: u8 = 5;
    let high = |number: u8| number >> 3;
    let reg = (to & 7) << 3;
    let rex = 0x40 | high(to) << 2 | index.map_or(0, |(index, _)| high(index) << 1) | base.map_or(0, high);
    match (base, index) {
        (None, None) => {
            if high(to) != 0 {
                code.push(0x41);
            }
            code.push(0xb8 | to & 7);
            return code.extend(value.to_le_bytes());
        }
        // mov to, base
        (Some(base), None) if value == 0 => return code.extend([rex, 0x8b, 0xc0 | reg | base & 7]),
        _ => code.extend([rex, 0x8d]),
    }
    let low = base.map_or(NONE, |base| base & 7);
    let mode = match i8::try_from(value as i32) {
        _ if base.is_none() => 0,
        Ok(0) if low != NONE => 0,
        Ok(_) => 0x40,
        Err(_) => 0x80,
    };
    match index {
        None if low != SIB => code.push(mode | reg | low),
        None => code.extend([mode | reg | SIB, SIB << 3 | low]),
        Some((index, shift)) => code.extend([mode | reg | SIB, shift << 6 | (index & 7) << 3 | low]),
    }
    match mode {
        0x40 => code.push(value as u8),
        0 if base.is_some() => {}
        _ => code.extend(value.to_le_bytes()),
    }
}
