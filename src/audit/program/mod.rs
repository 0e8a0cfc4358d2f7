//! A program's code, found and counted without running it.
//!
//! Code is found from what certainly is some: the entry point, symbols, the unwinding table, pointers that relocations mark. From
//! there it is followed, through direct branches and through jump tables of the usual shapes. What is left of the executable
//! sections is swept from beginning to end; a stretch of it that does not end as code does counts as doubtful.

mod calls;
mod jump_table;
mod walk;

pub use calls::Calls;

use super::reference::Reference;
use crate::isa::FORMS;
use crate::loader::code::{Image, Origin};
use std::collections::BTreeMap;

/// How an instruction was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Behind an entry point.
    Entry,
    /// In a function that has a symbol.
    Symbol,
    /// In a function that the unwinding table names.
    Unwind,
    /// Behind a pointer that a relocation marks.
    Pointer,
    /// Behind a direct branch.
    Branch,
    /// Behind a jump through a table.
    Table,
    /// In what was left, by sweeping it.
    Sweep,
    /// By sweeping, too, in a stretch that ends in bytes that are no instruction: data, or code that is not declared.
    Doubtful,
}

impl How {
    /// All of them, the surest first.
    pub const ALL: [How; 8] = [
        How::Entry,
        How::Symbol,
        How::Unwind,
        How::Pointer,
        How::Branch,
        How::Table,
        How::Sweep,
        How::Doubtful,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        ["entry", "symbol", "unwind", "pointer", "branch", "table", "sweep", "doubtful"][self as usize]
    }
}

impl From<Origin> for How {
    fn from(origin: Origin) -> How {
        match origin {
            Origin::Entry => How::Entry,
            Origin::Symbol => How::Symbol,
            Origin::Unwind => How::Unwind,
            Origin::Pointer => How::Pointer,
        }
    }
}

/// Most addresses that are kept of what occurs often.
pub const EXAMPLES: usize = 3;

/// How often something occurs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By how it was found, in the order of [`How::ALL`].
    pub by_how: [u64; 8],
    /// Where, for a few: file, by an index of the caller's, and address; the surest first.
    pub examples: Vec<(How, u32, u32)>,
}

impl Tally {
    fn add(&mut self, how: How, addr: u32) {
        self.by_how[how as usize] += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push((how, 0, addr));
        }
    }

    /// How often in all.
    pub fn count(&self) -> u64 {
        self.by_how.iter().sum()
    }

    /// How often where it surely is an instruction.
    pub fn certain(&self) -> u64 {
        self.count() - self.by_how[How::Doubtful as usize]
    }

    fn merge(&mut self, other: &Tally, file: u32) {
        self.by_how.iter_mut().zip(other.by_how).for_each(|(sum, count)| *sum += count);
        self.examples.extend(other.examples.iter().map(|&(how, _, addr)| (how, file, addr)));
        self.examples.sort_by_key(|example| example.0);
        self.examples.truncate(EXAMPLES);
    }
}

/// What is in a program's code.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Declared instructions, by index into [`FORMS`].
    pub forms: BTreeMap<u16, Tally>,
    /// Instructions that no row declares, by mnemonic.
    pub undeclared: BTreeMap<&'static str, (Tally, &'static Reference)>,
    /// Bytes that are no instruction at all.
    pub unknown: Tally,
    /// Bytes of executable sections.
    pub bytes: u64,
    /// Bytes of instructions, by how they were found.
    pub bytes_by_how: [u64; 8],
    /// Bytes between functions: padding.
    pub padding: u64,
    /// System calls.
    pub calls: Calls,
}

impl Findings {
    /// Instructions in all, declared or not.
    pub fn instructions(&self) -> u64 {
        let declared: u64 = self.forms.values().map(Tally::count).sum();
        declared + self.undeclared.values().map(|(tally, _)| tally.count()).sum::<u64>()
    }

    /// How many instructions were found each way.
    pub fn by_how(&self) -> [u64; 8] {
        let mut sums = [0; 8];
        let tallies = self.forms.values().chain(self.undeclared.values().map(|(tally, _)| tally));
        tallies.for_each(|tally| sums.iter_mut().zip(tally.by_how).for_each(|(sum, count)| *sum += count));
        sums
    }

    /// Adds those of another program; `file` is what its examples are marked with.
    pub fn merge(&mut self, other: &Findings, file: u32) {
        for (index, tally) in &other.forms {
            self.forms.entry(*index).or_default().merge(tally, file);
        }
        for (name, (tally, form)) in &other.undeclared {
            self.undeclared.entry(name).or_insert_with(|| (Tally::default(), form)).0.merge(tally, file);
        }
        self.unknown.merge(&other.unknown, file);
        self.bytes += other.bytes;
        self.bytes_by_how.iter_mut().zip(other.bytes_by_how).for_each(|(sum, bytes)| *sum += bytes);
        self.padding += other.padding;
        self.calls.merge(&other.calls, file);
    }
}

/// Counts while code is found.
struct Counter {
    forms: Vec<Tally>,
    findings: Findings,
}

impl Counter {
    fn new() -> Counter {
        Counter { forms: vec![Tally::default(); FORMS.len()], findings: Findings::default() }
    }

    fn finish(mut self) -> Findings {
        let used = self.forms.into_iter().enumerate().filter(|(_, tally)| tally.count() > 0);
        self.findings.forms = used.map(|(index, tally)| (index as u16, tally)).collect();
        self.findings
    }
}

/// Finds the code of a program or library and counts what is in it.
pub fn examine(image: &Image) -> Findings {
    walk::Walk::new(image).run()
}

#[cfg(test)]
mod tests;
