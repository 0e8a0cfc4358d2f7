//! From a decoded instruction to an op's fields and to the keys of the handlers that fit it.

use super::keys::{self, Few};
use super::liveness;
use super::op::{Handler, Op};
use super::path::{Job, has_no_effect};
use crate::cpu::exec::attribute;
use crate::cpu::{Seg, ZERO_REG};
use crate::isa::decode::NO_REG;
use crate::isa::{Access, Code, FORMS, Flow, Insn, Lock, Operand, Privilege, Rep, Size, Status};

/// Bytes of an XMM register.
const XMM_BYTES: u8 = 16;

/// The operands that reach the body, as the generator counts them.
pub(super) fn passed(insn: &Insn) -> impl Iterator<Item = &'static Operand> {
    insn.form().operands.iter().filter(|operand| {
        operand.access != Access::Shown && !matches!(operand.code, Code::J | Code::X | Code::Y | Code::XEdi)
    })
}

/// Where an encoding says which register an operand is, and what an op has of that: its byte offset in the file, or its
/// number for those outside.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Where [`numbers`] has the register's number, and which bits of that count.
    shift: u8,
    mask: u8,
    /// The number, if the encoding does not say it.
    fixed: u8,
    /// What a number is multiplied by.
    unit: u8,
    /// Numbers 4 to 7 mean the second bytes of the first four registers.
    bytes: bool,
}

/// The registers' numbers that an encoding has: of ModRM's rm and reg, of VEX, and of the opcode.
fn numbers(insn: &Insn) -> u32 {
    u32::from_le_bytes([insn.rm(), insn.reg(), insn.vvvv, insn.low])
}

impl Place {
    /// Of an operand that is no register.
    const NONE: Place = Place { shift: 0, mask: 0, fixed: 0, unit: 0, bytes: false };
    const RM: Place = Place { shift: 0, mask: 7, fixed: 0, unit: 1, bytes: false };
    const REG: Place = Place { shift: 8, ..Place::RM };
    const VVVV: Place = Place { shift: 16, ..Place::RM };
    const LOW: Place = Place { shift: 24, ..Place::RM };

    fn is(fixed: u8) -> Place {
        Place { mask: 0, fixed, ..Place::RM }
    }

    fn of(operand: &Operand, in_memory: bool) -> Option<Place> {
        let bytes = operand.size == Size::B;
        let general = |place: Place| Place { unit: 4, bytes, ..place };
        let xmm = |place: Place| Place { unit: XMM_BYTES, ..place };
        Some(match operand.code {
            Code::E | Code::R if !in_memory => general(Place::RM),
            Code::G => general(Place::REG),
            Code::B => general(Place::VVVV),
            Code::Z => general(Place::LOW),
            Code::Reg(number) => general(Place::is(number)),
            Code::S | Code::C | Code::D | Code::P => Place::REG,
            Code::SegReg(number) => Place::is(number),
            Code::StI => Place::RM,
            Code::Q | Code::N if !in_memory => Place::RM,
            Code::V => xmm(Place::REG),
            Code::W | Code::U if !in_memory => xmm(Place::RM),
            Code::St => Place::is(0),
            _ => return None,
        })
    }

    #[inline(always)]
    fn in_op(self, numbers: u32) -> u8 {
        let number = (numbers >> self.shift) as u8 & self.mask | self.fixed;
        if self.bytes { (number & 3) * 4 + (number >> 2) } else { number * self.unit }
    }
}

/// The register that an operand names in this encoding: its byte offset, or its number for those outside the file.
fn register(insn: &Insn, operand: &Operand) -> Option<u8> {
    Place::of(operand, insn.mem.is_some()).map(|place| place.in_op(numbers(insn)))
}

/// What the ops of a row have in common, where its ModRM is a register or where it is memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// The part of a key that says where operands are, of the handler that takes them anywhere.
    pub(super) generic: u64,
    /// An immediate or a register stands beside a memory operand, or an immediate beside another one.
    pub(super) second_slot: bool,
    registers: [Place; 3],
    /// The second register beside a memory operand, for which the op has no field.
    beside: Option<Place>,
    string: StringOperand,
    address_only: bool,
    /// The handler of quick translations, if the op is all that it takes: without LOCK, all flags exact.
    pub(super) quick: Option<Handler>,
    /// See [`has_no_effect`].
    pub(super) has_no_effect: bool,
}

/// Memory at ESI or EDI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StringOperand {
    None,
    /// Of string instructions.
    Repeated,
    /// Of MASKMOVQ and MASKMOVDQU.
    Single,
}

impl Shape {
    fn of(insn: &Insn, software: bool) -> Shape {
        let in_memory = insn.mem.is_some();
        let mut places = passed(insn).filter_map(|operand| Place::of(operand, in_memory));
        let registers = [(); 3].map(|()| places.next().unwrap_or(Place::NONE));
        let immediates =
            passed(insn).filter(|operand| matches!(operand.code, Code::I | Code::SignedI)).count();
        let named = |operand: &&Operand| matches!(operand.code, Code::G | Code::B);
        let beside = passed(insn).filter(named).nth(1).filter(|_| in_memory);
        let has = |codes: &[Code]| insn.form().operands.iter().any(|operand| codes.contains(&operand.code));
        let parts = passed(insn).enumerate().filter_map(|(at, operand)| any_key(insn, at, operand));
        let generic = parts.fold(0, |key, part| key | part);
        let second_slot = immediates > 1 || in_memory && immediates > 0 || beside.is_some();
        let form = insn.form();
        let is_plain = form.flow == Flow::Next
            && form.privilege == Privilege::User
            && form.status == Status::Implemented
            && form.lock != Lock::Always
            && !(second_slot || form.needs_eip);
        let live = liveness::may_be_live(form);
        let family = || {
            keys::family(form.families[usize::from(insn.opsize16)], live, false, form.condition.unwrap_or(0))
        };
        Shape {
            generic,
            second_slot,
            quick: if is_plain { keys::single_for(generic | family(), software) } else { None },
            registers,
            beside: beside.and_then(|operand| Place::of(operand, in_memory)),
            string: match () {
                () if has(&[Code::XEdi]) => StringOperand::Single,
                () if has(&[Code::X, Code::Y]) => StringOperand::Repeated,
                () => StringOperand::None,
            },
            address_only: passed(insn).any(|operand| operand.access == Access::Address),
            has_no_effect: has_no_effect(insn),
        }
    }

    /// The second register beside a memory operand.
    pub(super) fn register_beside(&self, insn: &Insn) -> Option<u8> {
        self.beside.map(|place| place.in_op(numbers(insn)))
    }
}

/// The shapes of rows that were met.
#[derive(Debug)]
pub(super) struct Shapes {
    /// For each row four times, with and without memory, of 32 and of 16 bits: place in `met` and one more, 0 before it is
    /// there.
    places: Vec<u16>,
    met: Vec<Shape>,
    /// Handlers are those that compute for the x87 in software.
    software: bool,
}

impl Shapes {
    /// None yet.
    pub(super) fn new(software: bool) -> Shapes {
        Shapes { places: vec![0; 4 * FORMS.len()], met: Vec::new(), software }
    }

    pub(super) fn of(&mut self, insn: &Insn) -> &Shape {
        let kind = usize::from(insn.mem.is_some()) + 2 * usize::from(insn.opsize16);
        let place = &mut self.places[4 * usize::from(insn.index) + kind];
        if *place == 0 {
            self.met.push(Shape::of(insn, self.software));
            *place = self.met.len() as u16;
        }
        &self.met[usize::from(*place) - 1]
    }
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
pub(super) fn encode(job: &Job<'_>, insn: &Insn, shape: &Shape, handler: Handler) -> Op {
    let form = insn.form();
    let [a, b, c] = shape.registers.map(|place| place.in_op(numbers(insn)));
    let mut op = Op { handler, a, b, c, d: 0, imm: insn.imm };
    if insn.addr16 {
        op.d |= attribute::ADDR16;
    }
    if insn.lock {
        op.d |= attribute::LOCKED;
    }
    if shape.string != StringOperand::None {
        op.d |= (insn.segment.unwrap_or(Seg::Ds) as u8) << attribute::SEG_SHIFT;
    }
    if shape.string == StringOperand::Repeated {
        op.a = match (form.rep, insn.rep) {
            (Rep::Ignored, _) | (_, 0) => 0,
            (_, 0xf3) => 1,
            _ => 2,
        };
    }
    if let Some(mem) = insn.mem {
        let offset = |register: u8| if register == NO_REG { ZERO_REG } else { register * 4 };
        op.b = offset(mem.base);
        op.c = offset(mem.index);
        let seg = if shape.address_only { Seg::None } else { job.segment(mem.seg) };
        op.d |= mem.scale | (seg as u8) << attribute::SEG_SHIFT;
        op.imm = mem.disp;
        if form.after_pop && mem.base == 4 {
            op.imm = op.imm.wrapping_add(insn.operand_bytes());
        }
    }
    op
}
