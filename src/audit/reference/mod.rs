//! Every instruction form that there is in 32-bit mode, the tables' or not: `opcodes/REFERENCE.tsv`, as data.
//!
//! A test makes the list from another decoder, so nothing but text is needed here, on any host.

mod decode;
mod parse;

pub use decode::decode;

use std::sync::LazyLock;

/// The list: a line a form, columns by tabs, as its head says.
const LIST: &str = include_str!("../../../opcodes/REFERENCE.tsv");

/// How an instruction's opcode is led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// By nothing, or by the escapes 0F, 0F 38, 0F 3A.
    Legacy,
    /// By C4 or C5: AVX.
    Vex,
    /// By 62: AVX-512.
    Evex,
    /// By 8F: AMD's XOP.
    Xop,
}

/// A mandatory prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mandatory {
    /// Nothing is said: 66 is the operand size, F2 and F3 mean nothing.
    Any,
    /// None of them.
    Np,
    /// 66.
    P66,
    /// F2.
    F2,
    /// F3.
    F3,
}

/// What the ModRM byte has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModRm {
    /// There is none.
    Absent,
    /// Anything.
    Any,
    /// Its reg field is this digit.
    Digit(u8),
    /// This byte, with any r/m field if the second is true.
    Fixed(u8, bool),
}

/// What an encoding looks like: an opcode string of the manual's, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// What leads to it.
    pub space: Space,
    /// 0 one byte, 1 0F, 2 0F 38, 3 0F 3A; as they are numbered in VEX, EVEX and XOP.
    pub map: u8,
    /// Mandatory prefix.
    pub mandatory: Mandatory,
    /// The opcode byte; the lowest one if there are several.
    pub opcode: u8,
    /// How many opcode bytes: 8 if the low bits name a register, 16 for conditions.
    pub span: u8,
    /// The ModRM byte.
    pub modrm: ModRm,
    /// ModRM may name memory.
    pub memory: bool,
    /// ModRM may name a register.
    pub register: bool,
    /// 16 or 32: one operand size only.
    pub operand_bits: Option<u8>,
    /// 16 or 32: one address size only.
    pub address_bits: Option<u8>,
    /// VEX.L and the like: 0, 1, 2; `None`: ignored.
    pub length: Option<u8>,
    /// VEX.W and the like; `None`: ignored.
    pub wide: Option<u8>,
    /// Bytes behind ModRM, SIB and displacement.
    pub immediate: Immediate,
    /// 3DNow!: the last byte of the instruction selects it.
    pub suffix: Option<u8>,
}

/// Bytes of immediates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    /// So many.
    Bytes(u8),
    /// So many, and besides 2 or 4 by the operand size.
    ByOperandSize(u8),
    /// 2 or 4 by the address size.
    ByAddressSize,
}

/// One form of the list.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Its place in the list.
    pub index: usize,
    /// The encoding, as manuals write it.
    pub op: &'static str,
    /// Mnemonic and operands, as manuals write them.
    pub text: &'static str,
    /// The mnemonic, in capitals.
    pub mnemonic: &'static str,
    /// CPUID features, by the other decoder's names, blanks between.
    pub features: &'static str,
    /// The encoding, taken apart.
    pub encoding: Encoding,
}

/// The list, in its file's order.
pub fn all() -> &'static [Reference] {
    static ALL: LazyLock<Vec<Reference>> = LazyLock::new(|| {
        let lines = LIST.lines().filter(|line| !line.starts_with('#'));
        lines.enumerate().filter_map(|(index, text)| line(index, text)).collect()
    });
    &ALL
}

fn line(index: usize, line: &'static str) -> Option<Reference> {
    let mut columns = line.split('\t');
    let (op, text, features) = (columns.next()?, columns.next()?, columns.next()?);
    let mnemonic = text.split(' ').next()?;
    let mut encoding = parse::encoding(op)?;
    let operands = parse::operands(text);
    encoding.memory &= operands.memory;
    encoding.register &= operands.register;
    Some(Reference { index, op, text, mnemonic, features, encoding })
}

/// An opcode string of the tables, taken apart in the same way. Whether ModRM may name memory or a register is not in it.
pub fn encoding(op: &str) -> Option<Encoding> {
    parse::encoding(op)
}

#[cfg(test)]
mod tests;
