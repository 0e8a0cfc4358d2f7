//! What is not compared, and why: rows that no processor can be asked about, those that this one lacks, and the parts of an
//! outcome in which the tables say that this vendor's processors differ.

use crate::oracle::State;
use crate::single::{eflags_bits, flag_case};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeSet;
use table86::isa::vendor::find;
use table86::isa::{DEPARTURES, FEATURES, FORMS, Feature, Form, Insn, Part, Status, Vendor, VendorFlags};

/// Rows that the processor cannot be asked about: mnemonic and reason.
const UNVERIFIABLE: [(&str, &str); 14] = [
    ("cpuid", "answers as the model that was chosen, not as the host"),
    ("xgetbv", "shows what the host's kernel has enabled"),
    ("rdtsc", "no two readings are alike"),
    ("rdtscp", "no two readings are alike"),
    ("rdrand", "no two numbers are alike"),
    ("rdseed", "no two numbers are alike"),
    ("rdpid", "the thread may move to another processor in between"),
    ("sysenter", "the kernel says where it goes on; tests/programs compares that"),
    ("syscall", "AMD's call the kernel, which says where it goes on; Intel's raise #UD"),
    ("sgdt", "shows the host's own table where it has no UMIP"),
    ("sidt", "shows the host's own table where it has no UMIP"),
    ("sldt", "shows the host's own selector where it has no UMIP"),
    ("str", "shows the host's own selector where it has no UMIP"),
    ("smsw", "shows the host's own CR0 where it has no UMIP"),
];

/// A processor that machines are compared with: this one, unless [`compare_with`] said otherwise on this thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processor {
    /// Vendor, family and model, as CPUID gives them.
    pub name: String,
    /// Features of `opcodes/features.toml` that it shows.
    pub features: BTreeSet<String>,
}

thread_local! {
    static PROCESSOR: RefCell<Processor> = RefCell::new(Processor::here());
}

/// Compares with this processor, on this thread, as long as what is given back lives.
pub fn compare_with(processor: &Processor) -> Comparing {
    Comparing(PROCESSOR.replace(processor.clone()))
}

/// A comparison with another processor; has the one that comes again behind it.
pub struct Comparing(Processor);

impl Drop for Comparing {
    fn drop(&mut self) {
        PROCESSOR.set(self.0.clone());
    }
}

/// What is asked about the processor that machines are compared with.
fn ask<T>(question: impl FnOnce(&Processor) -> T) -> T {
    PROCESSOR.with_borrow(question)
}

impl Processor {
    /// The one that runs this.
    pub fn here() -> Processor {
        let shown = FEATURES.iter().filter(|feature| shows(feature));
        Processor { name: name(), features: shown.map(|feature| feature.name.to_owned()).collect() }
    }

    /// Its maker, if the tables know anything about its processors.
    pub fn vendor(&self) -> Option<Vendor> {
        let mut parts = self.name.split('-');
        let id = parts.next()?;
        let mut number = || parts.next()?.parse().ok();
        Vendor::by_id(id.as_bytes(), (number()?, number()?))
    }
}

/// Whether the table declares that this processor differs in this part of the row's outcome.
pub fn departs(form: &Form, part: Part) -> bool {
    form.departure(ask(Processor::vendor), part).is_some()
}

/// Whether this processor differs in this part of any row's outcome.
pub fn departs_always(part: Part) -> bool {
    find(DEPARTURES, ask(Processor::vendor), part).is_some()
}

/// What this processor makes of a row's undefined flags, as bits of EFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UndefinedFlags {
    /// All that the manual leaves undefined.
    pub all: u32,
    /// Cleared here.
    cleared: u32,
    /// Set here.
    set: u32,
    /// Kept here.
    kept: u32,
    /// Written in a way that the tables do not know.
    unknown: u32,
}

impl UndefinedFlags {
    /// Of an instruction that is completed from this state.
    pub fn of(insn: &Insn, state: &State) -> UndefinedFlags {
        let facts = &insn.form().flags;
        let case = flag_case(insn, state);
        let all = facts.undefined[case];
        let bits = eflags_bits;
        let Some(vendor) = ask(Processor::vendor) else {
            return UndefinedFlags { all: bits(all), unknown: bits(all), ..UndefinedFlags::default() };
        };
        let Some(theirs) = VendorFlags::find(facts.vendors, vendor) else {
            return UndefinedFlags { all: bits(all), ..UndefinedFlags::default() };
        };
        UndefinedFlags {
            all: bits(all),
            cleared: bits(theirs.cleared[case]),
            set: bits(theirs.set[case]),
            kept: bits(theirs.kept[case]),
            unknown: bits(theirs.written[case]),
        }
    }

    /// Those in which this processor may differ from us.
    pub fn differing(self) -> u32 {
        self.cleared | self.set | self.kept | self.unknown
    }

    /// Our flags with those in which this processor differs as it has them, by the tables, or as they were found if the
    /// tables do not know.
    pub fn as_here(self, ours: u32, before: u32, silicon: u32) -> u32 {
        let mut flags = (ours & !self.cleared | self.set) & !(self.kept | self.unknown);
        flags |= before & self.kept;
        flags | silicon & self.unknown
    }
}

/// Flags, as the tables' bits, in which this processor may differ from us behind an instruction of this row.
pub fn flags_that_differ(form: &Form) -> u8 {
    let flags = &form.flags;
    let Some(vendor) = ask(Processor::vendor) else {
        return flags.undefined.iter().fold(0, |all, case| all | case);
    };
    let theirs = VendorFlags::find(flags.vendors, vendor).into_iter();
    let masks = theirs.flat_map(|theirs| [theirs.cleared, theirs.set, theirs.kept, theirs.written]);
    masks.flatten().fold(0, |all, case| all | case)
}

/// Whether there are any.
pub fn differs_in_flags(form: &Form) -> bool {
    flags_that_differ(form) != 0
}

/// Whether this processor differs in the result of an instruction, so that what comes behind it would, too.
pub fn differs_in_result(insn: &Insn) -> bool {
    let form = insn.form();
    let part = if insn.opsize16 { Part::BeyondWidth } else { Part::AccessWidth };
    departs(form, part) || departs(form, Part::Nan) || ends_otherwise(insn)
}

/// Whether this processor may complete an instruction with a memory operand at which we raise #GP.
pub fn ends_otherwise(insn: &Insn) -> bool {
    insn.mem.is_some() && departs(insn.form(), Part::Alignment)
}

/// Why a row cannot be compared with the processor, if so.
pub fn unverifiable(form: &Form) -> Option<&'static str> {
    UNVERIFIABLE.iter().find(|(mnemonic, _)| *mnemonic == form.mnemonic).map(|(_, reason)| *reason)
}

/// Entries of the table that name no row.
pub fn idle_entries() -> Vec<&'static str> {
    let named = |mnemonic: &str| FORMS.iter().any(|form| form.mnemonic == mnemonic);
    UNVERIFIABLE.iter().map(|(mnemonic, _)| *mnemonic).filter(|mnemonic| !named(mnemonic)).collect()
}

/// Whether a row has a body that could be compared.
pub fn is_implemented(form: &Form) -> bool {
    form.status == Status::Implemented
}

/// Whether this processor has what the row needs.
pub fn is_here(form: &Form) -> bool {
    form.cpuid.iter().all(|name| has(name))
}

/// Whether this processor's CPUID shows a feature of `opcodes/features.toml`.
pub fn has(name: &str) -> bool {
    ask(|processor| processor.features.contains(name))
}

/// Whether a row's result is the host processor's own, so that only that one can be compared with.
pub fn is_the_hosts_own(form: &Form) -> bool {
    matches!(form.body, "rcpps" | "rsqrtps")
}

/// Whether the host's CPUID shows a feature.
fn shows(feature: &Feature) -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let range = feature.leaf & 0x8000_0000;
    if __cpuid(range).eax < feature.leaf {
        return false;
    }
    let leaf = __cpuid_count(feature.leaf, 0);
    let registers = [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx];
    registers[feature.register] >> feature.bit & 1 != 0
}

/// Vendor, family and model of the host's processor.
fn name() -> String {
    use std::arch::x86_64::__cpuid;
    let vendor = __cpuid(0);
    let vendor = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    let (family, model) = Vendor::family_and_model(__cpuid(1).eax);
    format!("{}-{family}-{model}", String::from_utf8_lossy(&vendor))
}

/// Whether this processor can be asked about a row.
pub fn is_comparable(form: &Form) -> bool {
    is_implemented(form) && is_here(form)
}
