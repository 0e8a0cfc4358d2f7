//! Facts about single instructions of handlers.

use super::access::Place;
use super::analysis::{Operand, RCX, RDI, RSP, Step, Value, Values, number};
use iced_x86::{Code, ConditionCode, Instruction, OpKind, Register};

/// Whether the instruction only moves its memory operand into its register.
pub(super) fn pure_load(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Mov_r32_rm32 | Code::Movzx_r32_rm8 | Code::Movzx_r32_rm16 | Code::Mov_r64_rm64
    )
}

/// Whether nothing but registers and flags can tell that the instruction ran.
pub(super) fn is_pure(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Mov_r32_rm32
            | Code::Mov_r64_rm64
            | Code::Mov_rm64_r64
            | Code::Mov_rm32_r32
            | Code::Movzx_r32_rm8
            | Code::Movzx_r32_rm16
            | Code::Lea_r64_m
            | Code::Lea_r32_m
            | Code::Add_rm64_imm8
            | Code::Add_rm64_imm32
            | Code::Add_RAX_imm32
            | Code::And_r32_rm32
            | Code::And_rm32_imm8
            | Code::And_rm8_imm8
            | Code::Inc_rm32
            | Code::Dec_rm32
            | Code::Mov_r32_imm32
    ) && (insn.op0_kind() == OpKind::Register)
}

/// Whether an instruction only zero-extends a register that the one before has loaded so.
pub(super) fn extends_again(before: &Instruction, insn: &Instruction) -> bool {
    let register = insn.op0_register();
    matches!(insn.code(), Code::Movzx_r32_rm8 | Code::Movzx_r32_rm16)
        && insn.code() == before.code()
        && before.op0_register() == register
        && insn.op1_kind() == OpKind::Register
        && insn.op1_register().full_register32() == register
        && !is_high_byte(insn.op1_register())
}

/// Whether a register is AH, CH, DH or BH.
pub(super) fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

impl Step {
    /// Whether it accesses memory that is neither the CPU's, the op's, the stack's nor a constant.
    pub(super) fn accesses_guest(&self) -> bool {
        let insn = &self.insn;
        let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
        if address_only || insn.is_ip_rel_memory_operand() || self.operand != Operand::Same {
            return false;
        }
        (0..insn.op_count()).any(|at| match insn.op_kind(at) {
            OpKind::Memory => match number(insn.memory_base()) {
                Some(RSP) => false,
                // An element of something in the CPU, if there is an index.
                Some(base) if self.values[base] == Value::Cpu => false,
                Some(base) => {
                    let known = matches!(self.values[base], Value::Op(_));
                    insn.memory_index() != Register::None || !known
                }
                None => true,
            },
            OpKind::Register
            | OpKind::NearBranch64
            | OpKind::Immediate8
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate8to16
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate32to64
            | OpKind::Immediate64 => false,
            _ => true,
        })
    }
}

pub(super) fn is_cpu(register: Register, values: &Values) -> bool {
    number(register).is_some_and(|at| values[at] == Value::Cpu)
}

/// Whether the instruction shifts or rotates by CL; with the opcode's [`COUNT`] bits changed it does so by an immediate.
fn shifts_by_cl(insn: &Instruction) -> bool {
    matches!(
        insn.code(),
        Code::Rol_rm32_CL
            | Code::Rol_rm16_CL
            | Code::Rol_rm8_CL
            | Code::Ror_rm32_CL
            | Code::Ror_rm16_CL
            | Code::Ror_rm8_CL
            | Code::Shl_rm32_CL
            | Code::Shl_rm64_CL
            | Code::Shr_rm32_CL
            | Code::Shr_rm64_CL
            | Code::Sar_rm32_CL
            | Code::Sar_rm64_CL
    )
}

/// In which bits D2 and D3 (shifts by CL) differ from C0 and C1 (by an immediate).
pub(super) const COUNT: u8 = 0xd3 ^ 0xc1;

/// The field of an op that an instruction shifts by, if the copy can have it as an immediate: bytes from the op. Of a register,
/// or of one of the guest's in the CPU.
pub(super) fn count(insn: &Instruction, values: &Values) -> Option<u32> {
    let within = insn.op0_kind() == OpKind::Register || matches!(operand(insn, values), Operand::Cpu(_));
    match values[RCX] {
        Value::Field(from, _) if within && shifts_by_cl(insn) => Some(from),
        _ => None,
    }
}

/// What the copy has in place of an instruction's memory operand.
pub(super) fn operand(insn: &Instruction, values: &Values) -> Operand {
    if let Some(from) = field(insn, values) {
        return Operand::Immediate(from);
    }
    let (base, index) = (insn.memory_base(), insn.memory_index());
    let with = |other: Register| match values[number(other)?] {
        Value::Field(from, bytes) if other.is_gpr64() => Some((from, bytes)),
        _ => None,
    };
    let pair = insn.memory_index_scale() == 1 && base != Register::None && index != Register::None;
    let named = match pair && values[RDI] == Value::Cpu {
        true if is_cpu(base, values) => with(index),
        true if is_cpu(index, values) => with(base),
        _ => None,
    };
    let plus = insn.memory_displacement64() as u32;
    if let Some((from, bytes)) = named {
        return Operand::Cpu(Place::Named { from, bytes, plus });
    }
    let registers = index == Register::None && values[RDI] == Value::Cpu && is_cpu(base, values);
    let address_only = matches!(insn.code(), Code::Lea_r64_m | Code::Lea_r32_m | Code::Lea_r16_m);
    if registers && !address_only && Place::is_register(plus) {
        return Operand::Cpu(Place::At(plus));
    }
    Operand::Same
}

/// The field of an op that is an instruction's source, if the copy can have it as an immediate: bytes from the op. Links and
/// handlers, the first half of each slot, may change.
pub(super) fn field(insn: &Instruction, values: &Values) -> Option<u32> {
    if insn.op_count() != 2 || insn.op1_kind() != OpKind::Memory || insn.memory_index() != Register::None {
        return None;
    }
    let Value::Op(offset) = values[number(insn.memory_base())?] else { return None };
    let at = u32::try_from(i64::from(offset) + insn.memory_displacement64() as i64).ok()?;
    let bytes = insn.memory_size().size() as u32;
    let known = at % 16 >= 8 && at % 16 + bytes <= 16;
    (known && immediate_form(insn).is_some()).then_some(at)
}

/// The code of the same instruction with an immediate of 32 bits in place of its memory operand.
pub(super) fn immediate_form(insn: &Instruction) -> Option<Vec<u8>> {
    let register = number(insn.op0_register())? as u8;
    let (high, low) = (register >> 3, register & 7);
    let mut code = Vec::with_capacity(3);
    if high != 0 {
        code.push(0x41);
    }
    let extension = match insn.code() {
        Code::Mov_r32_rm32 | Code::Movzx_r32_rm8 | Code::Movzx_r32_rm16 => {
            code.push(0xb8 | low);
            return Some(code);
        }
        Code::Add_r32_rm32 => 0,
        Code::Or_r32_rm32 => 1,
        Code::And_r32_rm32 => 4,
        Code::Sub_r32_rm32 => 5,
        Code::Xor_r32_rm32 => 6,
        Code::Cmp_r32_rm32 => 7,
        _ => return None,
    };
    code.extend([0x81, 0xc0 | extension << 3 | low]);
    Some(code)
}

/// Number of a condition in an opcode.
pub(super) fn condition(code: ConditionCode) -> Option<u8> {
    use ConditionCode::{a, ae, b, be, e, g, ge, l, le, ne, no, np, ns, o, p, s};
    [o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g]
        .iter()
        .position(|cc| *cc == code)
        .map(|at| at as u8)
}
