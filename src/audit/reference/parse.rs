//! Opcode strings, the manual's and the tables', taken apart.

use super::{Encoding, Immediate, Mandatory, ModRm, Space};

/// What ModRM's r/m field may name, by the operands' text.
pub(super) struct Operands {
    pub memory: bool,
    pub register: bool,
}

/// Reads the operands of `MNEMONIC op, op`: `xmm2/m128` may be both, `m64` is memory, all else a register.
pub(super) fn operands(text: &str) -> Operands {
    let list = text.split_once(' ').map_or("", |(_, list)| list);
    let is_memory = |operand: &str| {
        let rest = operand.strip_prefix('v').unwrap_or(operand);
        let behind = rest.strip_prefix('m');
        operand == "mem"
            || behind.is_some_and(|rest| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let words =
        || list.split(',').map(str::trim).map(|operand| operand.split(['{', ' ']).next().unwrap_or(""));
    let both = words().any(|operand| operand.split('/').skip(1).any(is_memory));
    let memory = words().any(is_memory);
    Operands { memory: both || memory, register: both || !memory }
}

/// Takes an opcode string apart; `None` for what is none.
pub(super) fn encoding(op: &str) -> Option<Encoding> {
    let mut result = Encoding {
        space: Space::Legacy,
        map: 0,
        mandatory: Mandatory::Any,
        opcode: 0,
        span: 1,
        modrm: ModRm::Absent,
        memory: true,
        register: true,
        operand_bits: None,
        address_bits: None,
        length: None,
        wide: None,
        immediate: Immediate::Bytes(0),
        suffix: None,
    };
    let mut has_opcode = false;
    for token in op.split_whitespace() {
        if has_opcode {
            behind_opcode(&mut result, token)?;
        } else {
            has_opcode = before_opcode(&mut result, token)?;
        }
    }
    has_opcode.then_some(result)
}

/// Prefixes, escapes, and the opcode itself: then it is true.
fn before_opcode(result: &mut Encoding, token: &str) -> Option<bool> {
    let is_legacy = result.space == Space::Legacy;
    match token {
        "NP" => result.mandatory = Mandatory::Np,
        "o16" => result.operand_bits = Some(16),
        "o32" => result.operand_bits = Some(32),
        "a16" => result.address_bits = Some(16),
        "a32" => result.address_bits = Some(32),
        "66" if result.map == 0 && is_legacy => result.mandatory = Mandatory::P66,
        "F2" if result.map == 0 && is_legacy => result.mandatory = Mandatory::F2,
        "F3" if result.map == 0 && is_legacy => result.mandatory = Mandatory::F3,
        "0F" if result.map == 0 && is_legacy => result.map = 1,
        "38" if result.map == 1 && is_legacy => result.map = 2,
        "3A" if result.map == 1 && is_legacy => result.map = 3,
        _ if token.contains('.') => vector_prefix(result, token)?,
        _ => {
            let (byte, low) = token.split_once('+').unwrap_or((token, ""));
            result.opcode = u8::from_str_radix(byte, 16).ok()?;
            result.span = match low {
                "" => 1,
                "cc" => 16,
                _ => 8,
            };
            return Some(true);
        }
    }
    Some(false)
}

/// `VEX.128.66.0F38.W0` and the like.
fn vector_prefix(result: &mut Encoding, token: &str) -> Option<()> {
    let mut parts = token.split('.');
    result.space = match parts.next()? {
        "VEX" => Space::Vex,
        "EVEX" => Space::Evex,
        "XOP" => Space::Xop,
        _ => return None,
    };
    result.mandatory = Mandatory::Np;
    for part in parts {
        match part {
            "128" | "L0" | "LZ" => result.length = Some(0),
            "256" | "L1" => result.length = Some(1),
            "512" => result.length = Some(2),
            "LIG" | "WIG" => {}
            "66" => result.mandatory = Mandatory::P66,
            "F2" => result.mandatory = Mandatory::F2,
            "F3" => result.mandatory = Mandatory::F3,
            "NP" => {}
            "0F" => result.map = 1,
            "0F38" => result.map = 2,
            "0F3A" => result.map = 3,
            "W0" => result.wide = Some(0),
            "W1" => result.wide = Some(1),
            "X8" => result.map = 8,
            "X9" => result.map = 9,
            "XA" => result.map = 10,
            _ => result.map = part.strip_prefix("MAP")?.parse().ok()?,
        }
    }
    Some(())
}

fn behind_opcode(result: &mut Encoding, token: &str) -> Option<()> {
    let add = |result: &mut Encoding, more: u8| {
        result.immediate = match result.immediate {
            Immediate::Bytes(bytes) => Immediate::Bytes(bytes + more),
            Immediate::ByOperandSize(bytes) => Immediate::ByOperandSize(bytes + more),
            Immediate::ByAddressSize => Immediate::ByAddressSize,
        };
    };
    match token {
        "/r" => result.modrm = ModRm::Any,
        "/vsib" => {
            result.modrm = if result.modrm == ModRm::Absent { ModRm::Any } else { result.modrm };
        }
        "/is4" | "/is5" | "ib" | "cb" => add(result, 1),
        "iw" | "cw" => add(result, 2),
        "id" | "cd" => add(result, 4),
        // The reference's is a far pointer's 6 bytes, the tables' goes by the operand size.
        "cp" if result.operand_bits == Some(32) => add(result, 6),
        "cp" => result.immediate = Immediate::ByOperandSize(2),
        "iz" | "cz" => result.immediate = Immediate::ByOperandSize(0),
        "mo" => result.immediate = Immediate::ByAddressSize,
        _ => {
            if let Some(digit) = token.strip_prefix('/') {
                result.modrm = ModRm::Digit(digit.parse().ok().filter(|digit| *digit < 8)?);
            } else if let Some((mode, fields)) = token.split_once(':') {
                result.memory = mode != "11";
                result.register = mode == "11";
                let reg = fields.split(':').next()?;
                result.modrm = u8::from_str_radix(reg, 2).map_or(ModRm::Any, ModRm::Digit);
            } else {
                fixed(result, token)?;
            }
        }
    }
    Some(())
}

/// A byte behind the opcode: ModRM, or what selects a 3DNow! instruction.
fn fixed(result: &mut Encoding, token: &str) -> Option<()> {
    let (byte, low) = token.split_once('+').unwrap_or((token, ""));
    let byte = u8::from_str_radix(byte, 16).ok()?;
    if result.modrm == ModRm::Absent {
        (result.modrm, result.memory) = (ModRm::Fixed(byte, !low.is_empty()), false);
    } else {
        result.suffix = Some(byte);
    }
    Some(())
}
