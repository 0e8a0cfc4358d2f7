//! What is not compared, and why: every row that is missing from the comparison is here.

use table86::isa::{FORMS, Form, Status};

/// Rows that the processor cannot be asked about: mnemonic and reason.
const UNVERIFIABLE: [(&str, &str); 11] = [
    ("cpuid", "answers as the model that was chosen, not as the host"),
    ("rdtsc", "no two readings are alike"),
    ("rdtscp", "no two readings are alike"),
    ("rdrand", "no two numbers are alike"),
    ("rdseed", "no two numbers are alike"),
    ("rdpid", "the thread may move to another processor in between"),
    ("sgdt", "shows the host's own table where it has no UMIP"),
    ("sidt", "shows the host's own table where it has no UMIP"),
    ("sldt", "shows the host's own selector where it has no UMIP"),
    ("str", "shows the host's own selector where it has no UMIP"),
    ("smsw", "shows the host's own CR0 where it has no UMIP"),
];

/// What is not promised of a row that is compared otherwise: body, what of it, and why.
const DEPARTURES: [(&str, Departure, &str); 5] = [
    ("popa", Departure::RegistersAtFaults, "AMD has written the registers that it popped before the fault"),
    (
        "cmps",
        Departure::FlagsAtFaults,
        "AMD leaves the flags of the last comparison, the SDM those from before",
    ),
    (
        "scas",
        Departure::FlagsAtFaults,
        "AMD leaves the flags of the last comparison, the SDM those from before",
    ),
    (
        "maskmov",
        Departure::Wrapping,
        "AMD checks what lies on both sides of the end in an order of its own, some of it whatever the mask",
    ),
    ("int1", Departure::Eip, "reported behind it by processors, at it by KVM on AMD"),
];

/// A part of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// General registers, if there was a fault.
    RegistersAtFaults,
    /// The status flags, if there was a fault.
    FlagsAtFaults,
    /// EIP.
    Eip,
    /// Everything, if the operand runs over the end of 16-bit offsets.
    Wrapping,
    /// All is compared.
    Nothing,
}

/// What is not compared of a row.
pub fn departure(form: &Form) -> Departure {
    let entry = DEPARTURES.iter().find(|(body, ..)| *body == form.body);
    entry.map_or(Departure::Nothing, |(_, departure, _)| *departure)
}

/// Why a row cannot be compared with the processor, if so.
pub fn unverifiable(form: &Form) -> Option<&'static str> {
    UNVERIFIABLE.iter().find(|(mnemonic, _)| *mnemonic == form.mnemonic).map(|(_, reason)| *reason)
}

/// Entries of the table that name no row.
pub fn idle_entries() -> Vec<&'static str> {
    let named = |mnemonic: &str| FORMS.iter().any(|form| form.mnemonic == mnemonic);
    let departs =
        DEPARTURES.iter().map(|(body, ..)| *body).filter(|body| FORMS.iter().all(|form| form.body != *body));
    UNVERIFIABLE
        .iter()
        .map(|(mnemonic, _)| *mnemonic)
        .filter(|mnemonic| !named(mnemonic))
        .chain(departs)
        .collect()
}

/// Whether what this processor does with what the manual leaves undefined is what the tables say: they were measured on
/// AMD's.
pub fn undefined_is_known() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// Whether a row has a body that could be compared.
pub fn is_implemented(form: &Form) -> bool {
    form.status == Status::Implemented
}
