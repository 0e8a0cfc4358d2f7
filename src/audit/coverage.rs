//! Which of all instruction forms the tables declare.

use super::State;
use super::reference::{Encoding, Mandatory, ModRm, Reference, Space, all};
use crate::isa::{Form, decode};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// One form of the reference list, and the rows that declare it.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// The form.
    pub reference: &'static Reference,
    /// Rows: none, or one, or two where memory and registers have rows of their own.
    pub rows: Vec<&'static Form>,
    /// Part of the form has no row: its memory operands, or its registers.
    pub is_partial: bool,
}

impl Coverage {
    /// Whether a row declares it.
    pub fn is_declared(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Whether all of it runs.
    pub fn is_implemented(&self) -> bool {
        self.is_declared() && !self.is_partial && self.rows.iter().all(|row| !State::of(row).is_missing())
    }

    /// Whether all of it was compared with a processor.
    pub fn is_verified(&self) -> bool {
        self.is_implemented() && self.rows.iter().all(|row| State::of(row).is_verified())
    }
}

/// The reference list, each form with its rows, in the list's order.
pub fn coverage() -> &'static [Coverage] {
    static COVERAGE: LazyLock<Vec<Coverage>> = LazyLock::new(|| all().iter().map(cover).collect());
    &COVERAGE
}

/// What bytes are that the decoder refuses, if they are an instruction that no row declares, and its length. Bytes that are of a
/// declared form and refused all the same, for a register that does not exist or the like, are no instruction.
pub fn undeclared(bytes: &[u8]) -> Option<(&'static Reference, usize)> {
    let is_undeclared =
        |form: &Reference| coverage().get(form.index).is_some_and(|coverage| !coverage.is_declared());
    super::reference::decode(bytes).filter(|(form, _)| is_undeclared(form))
}

/// Mnemonics of one instruction: the reference's, ours.
const NAMES: [(&str, &str); 4] = [("wait", "fwait"), ("xlatb", "xlat"), ("sal", "shl"), ("jcxz", "jecxz")];

/// Finds the rows of a form by decoding examples of it.
fn cover(reference: &'static Reference) -> Coverage {
    let wanted = reference.mnemonic.to_lowercase();
    let wanted = NAMES.iter().find(|(theirs, _)| *theirs == wanted).map_or(wanted.as_str(), |(_, ours)| ours);
    let mut rows: Vec<&'static Form> = Vec::new();
    let mut is_partial = false;
    for kind in examples(&reference.encoding) {
        let found = kind.iter().filter_map(|bytes| decode(bytes, 0).ok()).map(|insn| insn.form());
        let found: Vec<&Form> = found.filter(|form| form.mnemonic == wanted).collect();
        is_partial |= found.is_empty();
        for form in found {
            if !rows.iter().any(|row| std::ptr::eq(*row, form)) {
                rows.push(form);
            }
        }
    }
    Coverage { reference, rows, is_partial }
}

/// Bytes that are of this encoding, with zeros behind for whatever follows: those with a memory operand, those with a register.
/// Where ModRM's reg field names a register, each, as some are rows of their own.
fn examples(encoding: &Encoding) -> Vec<Vec<Vec<u8>>> {
    let mut head = Vec::new();
    if encoding.address_bits == Some(16) {
        head.push(0x67);
    }
    if encoding.operand_bits == Some(16) {
        head.push(0x66);
    }
    let (pp, prefix) = match encoding.mandatory {
        Mandatory::Any | Mandatory::Np => (0, None),
        Mandatory::P66 => (1, Some(0x66)),
        Mandatory::F3 => (2, Some(0xf3)),
        Mandatory::F2 => (3, Some(0xf2)),
    };
    let Encoding { map, length, wide, .. } = *encoding;
    let (length, wide) = (length.unwrap_or(0), wide.unwrap_or(0));
    // No further register: all ones, inverted.
    const NO_REGISTER: u8 = 0x78;
    match encoding.space {
        Space::Legacy => {
            head.extend(prefix);
            head.extend_from_slice([&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]][usize::from(map & 3)]);
        }
        Space::Vex => head.extend([0xc4, 0xe0 | map, wide << 7 | NO_REGISTER | length << 2 | pp]),
        Space::Xop => head.extend([0x8f, 0xe0 | map, wide << 7 | NO_REGISTER | length << 2 | pp]),
        Space::Evex => head.extend([0x62, 0xf0 | map, wide << 7 | NO_REGISTER | 4 | pp, length << 5 | 8]),
    }
    // Not the first register: XCHG with EAX is NOP.
    head.push(encoding.opcode | u8::from(encoding.span == 8));
    const REGISTERS: u8 = 0xc1;
    let behind = encoding.suffix.unwrap_or(0);
    let with = |modrm: u8| [&head[..], &[modrm], &[behind; 8]].concat();
    let fields = match encoding.modrm {
        ModRm::Absent => return vec![vec![[&head[..], &[0; 8]].concat()]],
        ModRm::Fixed(byte, _) => return vec![vec![with(byte)]],
        ModRm::Digit(digit) => digit..=digit,
        ModRm::Any => 0..=7,
    };
    let kinds =
        [(encoding.memory, 0), (encoding.register, REGISTERS)].into_iter().filter(|(is_there, _)| *is_there);
    kinds.map(|(_, mode)| fields.clone().map(|reg| with(mode | reg << 3)).collect()).collect()
}

/// How much of something there is: forms in all, declared, implemented, verified.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Forms of the reference list.
    pub forms: u64,
    /// Those with a row.
    pub declared: u64,
    /// Those that run.
    pub implemented: u64,
    /// Those that were compared with a processor.
    pub verified: u64,
    /// Mnemonics that no row declares, in the list's order.
    pub undeclared: Vec<String>,
}

/// Totals by CPUID feature, by the reference's names.
pub fn by_feature() -> BTreeMap<&'static str, Totals> {
    let mut totals: BTreeMap<&str, Totals> = BTreeMap::new();
    for coverage in coverage() {
        let total = totals.entry(coverage.reference.features).or_default();
        total.forms += 1;
        total.declared += u64::from(coverage.is_declared());
        total.implemented += u64::from(coverage.is_implemented());
        total.verified += u64::from(coverage.is_verified());
        let name = coverage.reference.mnemonic.to_lowercase();
        if (!coverage.is_declared() || coverage.is_partial) && !total.undeclared.contains(&name) {
            total.undeclared.push(name);
        }
    }
    totals
}
