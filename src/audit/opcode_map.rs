//! Opcode maps as grids of cells, as the manuals draw them (SDM Vol. 2D, App. A).

use super::State;
use super::coverage::coverage;
use super::reference::{Encoding, ModRm, Space, encoding};
use crate::isa::{FORMS, Form};
use std::collections::BTreeMap;

/// How a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CellState {
    /// No instruction has this opcode.
    Undefined,
    /// A prefix, or an escape to another map.
    Prefix,
    /// Nothing of it runs.
    Missing,
    /// Some of it runs.
    Partly,
    /// All of it runs; something was not compared with a processor.
    Implemented,
    /// All of it does what a processor does.
    Verified,
}

impl CellState {
    /// All of them, the best first.
    pub const ALL: [CellState; 6] = [
        CellState::Verified,
        CellState::Implemented,
        CellState::Partly,
        CellState::Missing,
        CellState::Prefix,
        CellState::Undefined,
    ];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            CellState::Undefined => "undefined",
            CellState::Prefix => "prefix or escape",
            CellState::Missing => "missing",
            CellState::Partly => "partly missing",
            CellState::Implemented => "implemented",
            CellState::Verified => "verified",
        }
    }

    /// In a character.
    pub fn symbol(self) -> char {
        match self {
            CellState::Undefined => '.',
            CellState::Prefix => 'p',
            CellState::Missing => '-',
            CellState::Partly => '%',
            CellState::Implemented => '+',
            CellState::Verified => '#',
        }
    }
}

/// One instruction in a cell.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Mnemonic in lower case.
    pub mnemonic: String,
    /// The encoding.
    pub op: &'static str,
    /// The row, if one declares it.
    pub form: Option<&'static Form>,
    /// CPUID features, blanks between.
    pub features: String,
}

impl Entry {
    /// Whether it does not run.
    pub fn is_missing(&self) -> bool {
        self.form.is_none_or(|form| State::of(form).is_missing())
    }
}

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    /// What has this opcode; a mnemonic may occur several times.
    pub entries: Vec<Entry>,
    /// A prefix's or an escape's name.
    pub prefix: &'static str,
}

impl Cell {
    /// How it stands.
    pub fn state(&self) -> CellState {
        let missing = self.entries.iter().filter(|entry| entry.is_missing()).count();
        let is_verified = |entry: &Entry| entry.form.is_some_and(|form| State::of(form).is_verified());
        match self.entries.len() {
            _ if !self.prefix.is_empty() => CellState::Prefix,
            0 => CellState::Undefined,
            all if all == missing => CellState::Missing,
            _ if missing > 0 => CellState::Partly,
            _ if self.entries.iter().all(is_verified) => CellState::Verified,
            _ => CellState::Implemented,
        }
    }

    /// Each mnemonic once, in order.
    pub fn mnemonics(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for entry in &self.entries {
            if !names.contains(&entry.mnemonic.as_str()) {
                names.push(&entry.mnemonic);
            }
        }
        names
    }
}

/// A grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// What it shows.
    pub title: String,
    /// Its columns' heads.
    pub columns: Vec<String>,
    /// Its lines, with their heads.
    pub lines: Vec<(String, Vec<Cell>)>,
}

/// Something that has a place in a map.
struct Placed {
    encoding: Encoding,
    opcode: u8,
    entry: Entry,
}

/// Everything that is declared, and what of the reference list is not.
fn placed() -> Vec<Placed> {
    let mut all = Vec::new();
    for form in &FORMS {
        let Some(encoding) = encoding(form.op) else { continue };
        let entry = Entry {
            mnemonic: form.mnemonic.to_owned(),
            op: form.op,
            form: Some(form),
            features: form.cpuid.join(" "),
        };
        let opcodes = match (encoding.span, form.condition) {
            (16, Some(condition)) => encoding.opcode | condition..=encoding.opcode | condition,
            (span, _) => encoding.opcode..=encoding.opcode + (span - 1),
        };
        all.extend(opcodes.map(|opcode| Placed { encoding, opcode, entry: entry.clone() }));
    }
    for missing in coverage().iter().filter(|coverage| !coverage.is_declared()) {
        let encoding = missing.reference.encoding;
        let entry = Entry {
            mnemonic: missing.reference.mnemonic.to_lowercase(),
            op: missing.reference.op,
            form: None,
            features: missing.reference.features.to_owned(),
        };
        let opcodes = encoding.opcode..=encoding.opcode + (encoding.span - 1);
        all.extend(opcodes.map(|opcode| Placed { encoding, opcode, entry: entry.clone() }));
    }
    all
}

/// First and last of the FPU's opcodes.
const X87: std::ops::RangeInclusive<u8> = 0xd8..=0xdf;

/// All grids: the maps by escape, VEX's maps, the FPU with memory and with registers, groups by ModRM's reg field.
pub fn grids() -> Vec<Grid> {
    let placed = placed();
    let mut grids = Vec::new();
    const MAPS: [(Space, u8, &str); 7] = [
        (Space::Legacy, 0, "One byte"),
        (Space::Legacy, 1, "0F"),
        (Space::Legacy, 2, "0F 38"),
        (Space::Legacy, 3, "0F 3A"),
        (Space::Vex, 1, "VEX, map 1"),
        (Space::Vex, 2, "VEX, map 2"),
        (Space::Vex, 3, "VEX, map 3"),
    ];
    for (space, map, title) in MAPS {
        let here = placed.iter().filter(|one| (one.encoding.space, one.encoding.map) == (space, map));
        grids.push(sixteen(title, here, (space, map)));
    }
    let legacy = || placed.iter().filter(|one| one.encoding.space == Space::Legacy);
    let fpu = || legacy().filter(|one| one.encoding.map == 0 && X87.contains(&one.opcode));
    let digit_of = |one: &Placed| match one.encoding.modrm {
        ModRm::Digit(digit) => Some(digit),
        ModRm::Fixed(byte, _) => Some(byte >> 3 & 7),
        _ => None,
    };
    let is_register = |one: &&Placed| matches!(one.encoding.modrm, ModRm::Fixed(..));
    let title = "FPU with a memory operand, by ModRM's reg field";
    grids.push(eight(title, "/", fpu().filter(|one| !is_register(one)), digit_of));
    grids.push(eight("FPU with registers, by ModRM", "", fpu().filter(is_register), digit_of));
    let groups = || legacy().filter(|one| one.encoding.map != 0 || !X87.contains(&one.opcode));
    grids.push(eight("Groups, by ModRM's reg field", "/", groups(), digit_of));
    grids
}

/// 256 opcodes, 16 a line.
fn sixteen<'a>(title: &str, placed: impl Iterator<Item = &'a Placed>, map: (Space, u8)) -> Grid {
    let mut cells = vec![Cell::default(); 256];
    for one in placed {
        cells[usize::from(one.opcode)].entries.push(one.entry.clone());
    }
    for (opcode, name) in prefixes(map) {
        cells[usize::from(*opcode)].prefix = name;
    }
    let lines = cells.chunks(16).enumerate().map(|(line, cells)| (format!("{line:X}0"), cells.to_vec()));
    let lines = lines.collect();
    Grid { title: title.to_owned(), columns: (0..16).map(|column| format!("{column:X}")).collect(), lines }
}

/// Prefixes and escapes of a map. Those that are instructions, too, are not among them.
fn prefixes((space, map): (Space, u8)) -> &'static [(u8, &'static str)] {
    match (space, map) {
        (Space::Legacy, 0) => &[
            (0x0f, "escape"),
            (0x26, "es"),
            (0x2e, "cs"),
            (0x36, "ss"),
            (0x3e, "ds"),
            (0x64, "fs"),
            (0x65, "gs"),
            (0x66, "opsize"),
            (0x67, "addrsize"),
            (0xf0, "lock"),
            (0xf2, "repne"),
            (0xf3, "rep"),
        ],
        (Space::Legacy, 1) => &[(0x38, "escape"), (0x3a, "escape")],
        _ => &[],
    }
}

/// Opcodes whose instructions ModRM's reg field selects, 8 a line.
fn eight<'a>(
    title: &str,
    mark: &str,
    placed: impl Iterator<Item = &'a Placed>,
    digit_of: impl Fn(&Placed) -> Option<u8>,
) -> Grid {
    let mut lines: BTreeMap<(u8, u8), Vec<Cell>> = BTreeMap::new();
    for one in placed {
        let Some(digit) = digit_of(one) else { continue };
        let cells = lines.entry((one.encoding.map, one.opcode)).or_insert_with(|| vec![Cell::default(); 8]);
        cells[usize::from(digit)].entries.push(one.entry.clone());
    }
    const ESCAPES: [&str; 4] = ["", "0F ", "0F 38 ", "0F 3A "];
    let head = |column: u8| {
        if mark.is_empty() { format!("{:02X}", 0xc0 + column * 8) } else { format!("{mark}{column}") }
    };
    Grid {
        title: title.to_owned(),
        columns: (0..8).map(head).collect(),
        lines: lines
            .into_iter()
            .map(|((map, opcode), cells)| (format!("{}{opcode:02X}", ESCAPES[usize::from(map & 3)]), cells))
            .collect(),
    }
}
