//! What processors of some vendor do otherwise than a row does: the field `vendor` of tables and rows, and the vendors'
//! tables in flag rules. A vendor's newer processors may have a key of their own beside it.

use super::report::Report;
use super::rules::{Effect, Effects, FLAG_LETTERS};
use super::walk::{Node, Table};

/// Vendors, by their key in the tables and as `table86::isa::Vendor` names them.
const VENDORS: [(&str, &str); 3] = [("amd", "Amd"), ("zen4", "Zen4"), ("intel", "Intel")];

/// What can be otherwise, by its key in the tables and as `table86::isa::Part` names it.
const PARTS: [(&str, &str); 20] = [
    ("access-width", "AccessWidth"),
    ("alignment", "Alignment"),
    ("beyond-width", "BeyondWidth"),
    ("eip", "Eip"),
    ("end-of-memory", "EndOfMemory"),
    ("fault", "Fault"),
    ("flags-at-faults", "FlagsAtFaults"),
    ("fpu-at-faults", "FpuAtFaults"),
    ("last-place", "LastPlace"),
    ("nan", "Nan"),
    ("pointers", "Pointers"),
    ("registers-at-faults", "RegistersAtFaults"),
    ("store-by-cs", "StoreByCs"),
    ("stored-at-faults", "StoredAtFaults"),
    ("tiny-result", "TinyResult"),
    ("too-long", "TooLong"),
    ("touched", "Touched"),
    ("undefined-bits", "UndefinedBits"),
    ("unmasked-store", "UnmaskedStore"),
    ("wrapping", "Wrapping"),
];

/// One thing that one vendor's processors do otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departure {
    /// The variant of `Vendor`.
    pub vendor: &'static str,
    /// The variant of `Part`.
    pub part: &'static str,
    /// What they do.
    pub how: String,
}

/// Reads the field `vendor` of a table, an instruction or a form.
pub fn departures(table: &Table, report: &mut Report) -> Vec<Departure> {
    let mut found = Vec::new();
    let Some(vendors) = table.table("vendor", report) else { return found };
    for (key, node) in vendors.entries() {
        let Some(vendor) = known(&VENDORS, &key.text) else {
            report.error(&key.place, format!("`{}` is no vendor; known are {}", key.text, names(&VENDORS)));
            continue;
        };
        let Some(parts) = node.table(report) else { continue };
        for (key, node) in parts.entries() {
            match (known(&PARTS, &key.text), node.str().filter(|how| !how.is_empty())) {
                (Some(part), Some(how)) => found.push(Departure { vendor, part, how: how.to_owned() }),
                (None, _) => report.error(
                    &key.place,
                    format!("vendors do not differ in `{}`; known are {}", key.text, names(&PARTS)),
                ),
                (_, None) => report.error(&node.place, format!("`{}` says in words what differs", key.text)),
            }
        }
    }
    found
}

/// What holds for a form: what it says itself, and what its instruction and its table say of other parts.
pub fn merge(levels: [Vec<Departure>; 3]) -> Vec<Departure> {
    let mut all: Vec<Departure> = Vec::new();
    for departure in levels.into_iter().flatten() {
        if !all.iter().any(|other| (other.vendor, other.part) == (departure.vendor, departure.part)) {
            all.push(departure);
        }
    }
    all
}

/// What a vendor's processors make of undefined flags: one effect each of O S Z A P C, `None` where it is what the rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendorFlags {
    /// The variant of `Vendor`.
    pub vendor: &'static str,
    /// For counts 0, 1 and larger, as in the rule.
    pub cases: [[Option<Effect>; 6]; 3],
}

/// Keys under which a rule or a case of it says what vendors do.
pub fn vendor_keys() -> impl Iterator<Item = &'static str> {
    VENDORS.iter().map(|(key, _)| *key)
}

/// Reads what vendors do in one case of a rule.
pub fn flags(
    table: &Table,
    effects: &Effects,
    report: &mut Report,
) -> Vec<(&'static str, [Option<Effect>; 6])> {
    let mut found = Vec::new();
    for (key, vendor) in VENDORS {
        let Some(table) = table.table(key, report) else { continue };
        let mut theirs = [None; 6];
        for (key, node) in table.entries() {
            let at = FLAG_LETTERS[..6].iter().position(|(letter, _)| key.text == letter.to_string());
            match (at, effect(node)) {
                (Some(at), Some(effect)) if effects[at].undefined() => theirs[at] = Some(effect),
                (Some(_), Some(_)) => report
                    .error(&key.place, format!("{} is defined here, so no vendor has a choice", key.text)),
                (Some(_), None) => report.error(&node.place, "a vendor's effect is one of w 0 1 k"),
                (None, _) => report.error(&key.place, format!("`{}` is no flag of O S Z A P C", key.text)),
            }
        }
        found.push((vendor, theirs));
    }
    found
}

fn effect(node: &Node) -> Option<Effect> {
    Effect::parse(node.str()?).filter(|effect| !effect.undefined())
}

fn known(list: &[(&str, &'static str)], key: &str) -> Option<&'static str> {
    list.iter().find(|(name, _)| *name == key).map(|(_, variant)| *variant)
}

fn names(list: &[(&str, &str)]) -> String {
    list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
