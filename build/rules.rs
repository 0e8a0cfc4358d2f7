//! `opcodes/rules.toml`: prefixes, conditions, flag rules.

use super::report::{Report, Source};
use super::vendors::{self, Departure, VendorFlags};
use super::walk::Table;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bits of a flag mask, as `table86::isa` has them.
pub const FLAG_LETTERS: [(char, u8); 7] =
    [('O', 32), ('S', 16), ('Z', 8), ('A', 4), ('P', 2), ('C', 1), ('D', 64)];

/// What a rule does to one flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Written,
    Cleared,
    Set,
    Kept,
    UndefinedWritten,
    UndefinedCleared,
    UndefinedSet,
    UndefinedKept,
}

impl Effect {
    pub fn parse(text: &str) -> Option<Effect> {
        Some(match text {
            "w" => Effect::Written,
            "0" => Effect::Cleared,
            "1" => Effect::Set,
            "k" => Effect::Kept,
            "uw" => Effect::UndefinedWritten,
            "u0" => Effect::UndefinedCleared,
            "u1" => Effect::UndefinedSet,
            "uk" => Effect::UndefinedKept,
            _ => return None,
        })
    }
    /// Whether the flag afterwards does not depend on what it was.
    pub fn kills(self) -> bool {
        !matches!(self, Effect::Kept | Effect::UndefinedKept)
    }
    pub fn undefined(self) -> bool {
        matches!(
            self,
            Effect::UndefinedWritten
                | Effect::UndefinedCleared
                | Effect::UndefinedSet
                | Effect::UndefinedKept
        )
    }
}

/// The mask of those of O S Z A P C, by their place in this order, for which `holds`.
pub fn mask(holds: impl Fn(usize) -> bool) -> u8 {
    (0..6).filter(|&at| holds(at)).map(|at| FLAG_LETTERS[at].1).sum()
}

/// The effects on O S Z A P C, in this order.
pub type Effects = [Effect; 6];

/// A flag rule: one set of effects, or one for counts 0, 1 and larger.
#[derive(Clone, Debug)]
pub struct FlagRule {
    pub by_count: bool,
    /// Without `by_count` all three are equal.
    pub cases: [Effects; 3],
    /// What vendors make of the undefined ones.
    pub vendors: Vec<VendorFlags>,
}

impl FlagRule {
    pub fn mask(&self, case: usize, which: impl Fn(Effect) -> bool) -> u8 {
        mask(|at| which(self.cases[case][at]))
    }
    pub fn writes(&self) -> bool {
        (0..3).any(|case| self.mask(case, |effect| effect != Effect::Kept) != 0)
    }
}

/// A condition code.
#[derive(Clone, Debug)]
pub struct Condition {
    pub name: String,
    pub alias: Vec<String>,
    pub doc: String,
    /// Flags that it reads.
    pub reads: u8,
}

/// Everything in `rules.toml`.
#[derive(Debug, Default)]
pub struct Rules {
    pub prefixes: BTreeMap<u8, String>,
    pub conditions: Vec<Condition>,
    pub flags: BTreeMap<String, FlagRule>,
    /// What vendors do otherwise than all rows.
    pub departures: Vec<Departure>,
    /// What each flag rule is, in words.
    pub docs: BTreeMap<String, String>,
}

const ROLES: [&str; 13] =
    ["opsize", "addrsize", "lock", "repne", "rep", "es", "cs", "ss", "ds", "fs", "gs", "vex2", "vex3"];

/// Reads the rules; mistakes go into the report.
pub fn read(source: Rc<Source>, report: &mut Report) -> Rules {
    let mut rules = Rules::default();
    let Some(top) = Table::parse(source, report) else { return rules };
    top.allow(&["prefixes", "condition", "flags", "vendor"], report);
    rules.departures = vendors::departures(&top, report);
    if let Some(table) = top.table("prefixes", report) {
        for (key, node) in table.entries() {
            match (u8::from_str_radix(&key.text, 16), node.str()) {
                (Ok(byte), Some(role)) if ROLES.contains(&role) => {
                    rules.prefixes.insert(byte, role.to_owned());
                }
                (Ok(_), Some(role)) => {
                    report
                        .error(&node.place, format!("`{role}` is no role of a prefix ({})", ROLES.join(" ")));
                }
                _ => report.error(&key.place, "a prefix is a hex byte with its role as text"),
            }
        }
    }
    for entry in top.tables("condition", report) {
        entry.allow(&["name", "alias", "when", "doc"], report);
        let name = entry.required_str("name", report).unwrap_or_default();
        let doc = entry.required_str("doc", report).unwrap_or_default();
        let alias = entry.strings("alias", report);
        let when = entry.required_str("when", report).unwrap_or_default();
        let reads = letters(&when.replace(['!', '|', '&', '^', '(', ')', ' '], ""));
        match reads {
            Some(reads) => rules.conditions.push(Condition { name, alias, doc, reads }),
            None => report.error(&entry.place, format!("`{when}` is no expression over O S Z A P C")),
        }
    }
    if rules.conditions.len() != 16 {
        report.error(&top.place, format!("there are 16 conditions, not {}", rules.conditions.len()));
    }
    if let Some(table) = top.table("flags", report) {
        for (key, node) in table.entries() {
            if let Some(doc) = node.table(report).and_then(|table| table.str("doc", report)) {
                rules.docs.insert(key.text.clone(), doc);
            }
            if let Some(rule) = node.table(report).and_then(|table| flag_rule(&key.text, &table, report)) {
                rules.flags.insert(key.text.clone(), rule);
            }
        }
    }
    rules
}

/// Parses flag letters to a mask.
pub fn letters(text: &str) -> Option<u8> {
    text.chars()
        .map(|c| FLAG_LETTERS.iter().find(|(letter, _)| *letter == c).map(|(_, bit)| bit))
        .try_fold(0, |mask, bit| bit.map(|bit| mask | bit))
}

fn flag_rule(name: &str, table: &Table, report: &mut Report) -> Option<FlagRule> {
    let by = table.str("by", report);
    let mut of_case = vec!["O", "S", "Z", "A", "P", "C"];
    of_case.extend(vendors::vendor_keys());
    table.allow(&[&["doc", "by", "case"], &of_case[..]].concat(), report);
    table.required_str("doc", report);
    match by {
        None => {
            let effects = effects(&format!("flags.{name}"), table, report)?;
            let vendors = vendors::flags(table, &effects, report);
            let vendors = vendors.into_iter().map(|(vendor, case)| VendorFlags { vendor, cases: [case; 3] });
            Some(FlagRule { by_count: false, cases: [effects; 3], vendors: vendors.collect() })
        }
        Some(by) if by == "count" => {
            let cases = table.table("case", report)?;
            cases.allow(&["0", "1", "n"], report);
            let mut all = [None; 3];
            let mut vendors: Vec<VendorFlags> = Vec::new();
            for (at, key) in ["0", "1", "n"].into_iter().enumerate() {
                let Some(case) = cases.table(key, report) else {
                    report.error(&table.place, format!("flags.{name} says nothing for count {key}"));
                    continue;
                };
                case.allow(&of_case, report);
                all[at] = effects(&format!("flags.{name}.case.{key}"), &case, report);
                let Some(effects) = &all[at] else { continue };
                for (vendor, flags) in vendors::flags(&case, effects, report) {
                    let place =
                        vendors.iter().position(|other| other.vendor == vendor).unwrap_or_else(|| {
                            vendors.push(VendorFlags { vendor, cases: [[None; 6]; 3] });
                            vendors.len() - 1
                        });
                    vendors[place].cases[at] = flags;
                }
            }
            Some(FlagRule { by_count: true, cases: [all[0]?, all[1]?, all[2]?], vendors })
        }
        Some(by) => {
            report.error(&table.place, format!("`by = \"{by}\"`: only \"count\" is known"));
            None
        }
    }
}

fn effects(what: &str, table: &Table, report: &mut Report) -> Option<Effects> {
    let mut result = [Effect::Kept; 6];
    let mut complete = true;
    for (at, (letter, _)) in FLAG_LETTERS[..6].iter().enumerate() {
        match table.node(&letter.to_string()) {
            None => {
                report.error(
                    &table.place,
                    format!("{what} does not say what happens to {letter}; a rule is total"),
                );
                complete = false;
            }
            Some(node) => match node.str().and_then(Effect::parse) {
                Some(effect) => result[at] = effect,
                None => {
                    report.error(&node.place, "an effect is one of w 0 1 k uw u0 u1 uk");
                    complete = false;
                }
            },
        }
    }
    complete.then_some(result)
}
