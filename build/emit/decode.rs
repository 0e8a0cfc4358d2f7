//! `decode.rs`: the opcode maps as look-up tables, and the check that no two rows claim an encoding.

use crate::build::notation::{Code, Low, Mandatory, ModRm, Size, VEX_MAPS};
use crate::build::report::Report;
use crate::build::rules::Rules;
use crate::build::schema::Form;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// 66 or not, with F3, F2 or neither.
const PREFIX_CLASSES: usize = 6;
/// VEX's pp, L and W.
const VEX_CLASSES: usize = 16;
/// Opcode maps, with and without VEX.
const MAPS: u8 = VEX_MAPS + 4;
/// Values of ModRM, as far as they choose.
const MODRM_CELLS: usize = 2 * 8 * 8;

/// How many kinds of prefixes a map tells apart.
fn prefix_classes(map: u8) -> usize {
    if map > VEX_MAPS { VEX_CLASSES } else { PREFIX_CLASSES }
}

/// What the decoder knows when it chooses: prefixes, then the fields of ModRM.
#[derive(Clone, Copy)]
struct Cell {
    /// Bit 0: 66; then 0 none, 1 F3, 2 F2. With VEX: pp, L, W from the low bits.
    prefix: usize,
    register: bool,
    reg: u8,
    rm: u8,
}

fn cells(map: u8) -> impl Iterator<Item = Cell> {
    (0..prefix_classes(map) * MODRM_CELLS).map(|at| Cell {
        prefix: at / MODRM_CELLS,
        register: at / 64 % 2 == 1,
        reg: (at / 8 % 8) as u8,
        rm: (at % 8) as u8,
    })
}

/// The decision for each cell of one opcode: a form's index, or none.
pub type OpcodeMap = BTreeMap<(u8, u8), Vec<Option<usize>>>;

/// Works out all cells and reports overlaps.
pub fn resolve(forms: &[Form], report: &mut Report) -> OpcodeMap {
    let mut by_opcode: BTreeMap<(u8, u8), Vec<usize>> = BTreeMap::new();
    for (index, form) in forms.iter().enumerate() {
        let free = if form.encoding.low == Low::Register { 8 } else { 1 };
        for low in 0..free {
            by_opcode.entry((form.encoding.map, form.encoding.opcode | low)).or_default().push(index);
        }
    }
    let mut clashes = BTreeSet::new();
    let mut result = OpcodeMap::new();
    for (opcode, claimants) in by_opcode {
        let with_modrm = |index: &usize| forms[*index].encoding.modrm != ModRm::Absent;
        if let Some(other) = claimants.iter().find(|index| with_modrm(index) != with_modrm(&claimants[0])) {
            let (form, first) = (&forms[*other], &forms[claimants[0]]);
            let message =
                format!("`{}` and `{}` disagree on whether a ModRM byte follows", form.op, first.op);
            report.clash(&form.op_place, message, "the other row", &first.op_place);
            continue;
        }
        let decisions = cells(opcode.0)
            .map(|cell| {
                let fitting = claimants.iter().copied().filter(|&index| fits(&forms[index], cell));
                winner(forms, fitting.collect(), cell, &mut clashes)
            })
            .collect();
        result.insert(opcode, decisions);
    }
    for (first, second) in clashes {
        let (first, second) = (&forms[first], &forms[second]);
        let message = format!("`{}` ({}) claims an encoding that is taken", second.op, second.mnemonic);
        report.clash(&second.op_place, message, &format!("`{}` has it", first.mnemonic), &first.op_place);
    }
    result
}

fn fits(form: &Form, cell: Cell) -> bool {
    if let Some(vex) = form.encoding.vex {
        const PP: [Mandatory; 4] = [Mandatory::Np, Mandatory::P66, Mandatory::F3, Mandatory::F2];
        // General registers have 32 bits here, whatever W says.
        let general = form.operands.iter().any(|operand| operand.size == Size::Y);
        let wide = vex.wide.filter(|_| !general);
        let chosen = |wanted: Option<bool>, bit: usize| {
            wanted.is_none_or(|bit_is| bit_is == (cell.prefix >> bit & 1 != 0))
        };
        if form.encoding.mandatory != PP[cell.prefix & 3] || !chosen(vex.long, 2) || !chosen(wide, 3) {
            return false;
        }
    }
    match form.encoding.modrm {
        ModRm::Absent => return true,
        ModRm::Any => {}
        ModRm::Digit(digit) => {
            if cell.reg != digit {
                return false;
            }
        }
        ModRm::Fixed { byte, any_rm } => {
            let rm = any_rm || cell.rm == byte & 7;
            return cell.register && cell.reg == byte >> 3 & 7 && rm;
        }
    }
    let uses = |codes: &[Code]| form.operands.iter().any(|operand| codes.contains(&operand.code));
    if uses(&[Code::C, Code::D]) {
        return true;
    }
    if uses(&[Code::M]) {
        return !cell.register;
    }
    if uses(&[Code::R, Code::N, Code::U]) {
        return cell.register;
    }
    true
}

fn winner(
    forms: &[Form],
    fitting: Vec<usize>,
    cell: Cell,
    clashes: &mut BTreeSet<(usize, usize)>,
) -> Option<usize> {
    let mut pick = |mandatory: Mandatory| {
        let mut matching =
            fitting.iter().copied().filter(|&index| forms[index].encoding.mandatory == mandatory);
        let first = matching.next()?;
        if let Some(second) = matching.next() {
            clashes.insert((first, second));
        }
        Some(first)
    };
    if let Some(form) = fitting.first().map(|index| &forms[*index]).filter(|form| form.encoding.vex.is_some())
    {
        return pick(form.encoding.mandatory);
    }
    let any = pick(Mandatory::Any);
    let with_66 = cell.prefix & 1 != 0;
    let by_repeat = match cell.prefix >> 1 {
        1 => pick(Mandatory::F3),
        2 => pick(Mandatory::F2),
        _ => None,
    };
    if by_repeat.is_some() {
        return by_repeat;
    }
    let repeated = cell.prefix >> 1 != 0;
    // 66 beside a repeat prefix that means nothing here selects only among rows of an unprefixed instruction.
    if with_66 && (!repeated || any.is_some()) {
        let by_66 = pick(Mandatory::P66);
        if by_66.is_some() {
            return by_66;
        }
    }
    if cell.prefix == 0 {
        let none = pick(Mandatory::Np);
        if none.is_some() {
            return none;
        }
    }
    any
}

const HAS_MODRM: u8 = 1;
const BY_PREFIX: u8 = 2;
const BY_MOD: u8 = 4;
const BY_REG: u8 = 8;
const BY_RM: u8 = 16;

/// Makes the file.
pub fn emit(forms: &[Form], rules: &Rules, map: &OpcodeMap) -> String {
    let mut out = String::from(
        "/// One opcode: which of prefix, mod, reg, rm decide, and where its nodes start.\n\
         #[derive(Clone, Copy)]\n pub struct Root { pub dims: u8, pub base: u16 }\n\
         /// No row.\npub const UNDEFINED: u16 = u16::MAX;\n",
    );
    for (name, value) in [
        ("HAS_MODRM", HAS_MODRM),
        ("BY_PREFIX", BY_PREFIX),
        ("BY_MOD", BY_MOD),
        ("BY_REG", BY_REG),
        ("BY_RM", BY_RM),
    ] {
        let _ = writeln!(out, "pub const {name}: u8 = {value};");
    }
    emit_prefixes(&mut out, rules);
    let mut nodes: Vec<u16> = vec![u16::MAX];
    let mut roots = String::new();
    for page in 0..MAPS {
        roots.push_str("[\n");
        for opcode in 0..=255 {
            match map.get(&(page, opcode)) {
                None => roots.push_str("Root { dims: 0, base: 0 },\n"),
                Some(decisions) => {
                    let modrm = forms.iter().any(|form| {
                        form.encoding.map == page
                            && form.encoding.opcode == opcode & !low_mask(form)
                            && form.encoding.modrm != ModRm::Absent
                    });
                    let (dims, packed) = pack(decisions);
                    let dims = dims | if modrm { HAS_MODRM } else { 0 };
                    let base = place(&mut nodes, &packed);
                    let _ = writeln!(roots, "Root {{ dims: {dims}, base: {base} }}, // {page} {opcode:02X}");
                }
            }
        }
        roots.push_str("],\n");
    }
    let _ = writeln!(
        out,
        "pub static ROOTS: [[Root; 256]; {MAPS}] = [{roots}];\n/// The map of VEX's number 0.\npub const VEX_MAPS: usize = {VEX_MAPS};"
    );
    let _ = writeln!(out, "pub static NODES: [u16; {}] = {nodes:?};", nodes.len());
    out
}

fn low_mask(form: &Form) -> u8 {
    if form.encoding.low == Low::Register { 7 } else { 0 }
}

/// Puts nodes where the same run already stands, or at the end.
fn place(nodes: &mut Vec<u16>, packed: &[u16]) -> usize {
    if let Some(at) = nodes.windows(packed.len()).position(|window| window == packed) {
        return at;
    }
    nodes.extend_from_slice(packed);
    nodes.len() - packed.len()
}

/// Leaves out the dimensions on which nothing depends.
fn pack(decisions: &[Option<usize>]) -> (u8, Vec<u16>) {
    let at = |p: usize, m: usize, r: usize, b: usize| decisions[((p * 2 + m) * 8 + r) * 8 + b];
    let classes = decisions.len() / MODRM_CELLS;
    let all = || {
        (0..classes).flat_map(|p| {
            (0..2).flat_map(move |m| (0..8).flat_map(move |r| (0..8).map(move |b| (p, m, r, b))))
        })
    };
    let mut dims = 0;
    if all().any(|(p, m, r, b)| at(p, m, r, b) != at(0, m, r, b)) {
        dims |= BY_PREFIX;
    }
    if all().any(|(p, m, r, b)| at(p, m, r, b) != at(p, 0, r, b)) {
        dims |= BY_MOD;
    }
    if all().any(|(p, m, r, b)| at(p, m, r, b) != at(p, m, 0, b)) {
        dims |= BY_REG;
    }
    if all().any(|(p, m, r, b)| at(p, m, r, b) != at(p, m, r, 0)) {
        dims |= BY_RM;
    }
    let kept = |(p, m, r, b): &(usize, usize, usize, usize)| {
        (dims & BY_PREFIX != 0 || *p == 0)
            && (dims & BY_MOD != 0 || *m == 0)
            && (dims & BY_REG != 0 || *r == 0)
            && (dims & BY_RM != 0 || *b == 0)
    };
    let packed = all()
        .filter(kept)
        .map(|(p, m, r, b)| at(p, m, r, b).map_or(u16::MAX, |index| index as u16))
        .collect();
    (dims, packed)
}

fn emit_prefixes(out: &mut String, rules: &Rules) {
    const ROLES: [&str; 13] =
        ["opsize", "addrsize", "lock", "rep", "repne", "es", "cs", "ss", "ds", "fs", "gs", "vex2", "vex3"];
    const NAMES: [&str; 5] = ["OPSIZE", "ADDRSIZE", "LOCK", "REP", "REPNE"];
    let mut roles = [0_u8; 256];
    for (byte, role) in &rules.prefixes {
        roles[usize::from(*byte)] = 1 + ROLES.iter().position(|known| known == role).unwrap_or(0) as u8;
    }
    out.push_str("/// Not a prefix.\npub const NO_PREFIX: u8 = 0;\n");
    for (at, name) in NAMES.iter().enumerate() {
        let _ = writeln!(out, "pub const {name}: u8 = {};", at + 1);
    }
    let _ = writeln!(out, "pub const FIRST_SEGMENT: u8 = {};", NAMES.len() + 1);
    let _ = writeln!(
        out,
        "/// The prefix, if mod = 3 follows.\npub const VEX2: u8 = {};\npub const VEX3: u8 = {};",
        NAMES.len() + 7,
        NAMES.len() + 8
    );
    out.push_str("/// Overrides, from `FIRST_SEGMENT` on.\npub static SEGMENTS: [crate::cpu::Seg; 6] = {\nuse crate::cpu::Seg::*;\n[Es, Cs, Ss, Ds, Fs, Gs]\n};\n");
    let _ =
        writeln!(out, "/// The role of each byte as a prefix.\npub static PREFIXES: [u8; 256] = {roles:?};");
}
