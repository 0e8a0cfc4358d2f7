//! What is not compared, and why: every row that is missing from the comparison is here.

use table86::isa::{FORMS, Form, Status};

/// Rows that the processor cannot be asked about: mnemonic and reason.
const UNVERIFIABLE: [(&str, &str); 7] = [
    ("cpuid", "answers as the model that was chosen, not as the host"),
    ("rdtsc", "no two readings are alike"),
    ("sgdt", "shows the host's own table where it has no UMIP"),
    ("sidt", "shows the host's own table where it has no UMIP"),
    ("sldt", "shows the host's own selector where it has no UMIP"),
    ("str", "shows the host's own selector where it has no UMIP"),
    ("smsw", "shows the host's own CR0 where it has no UMIP"),
];

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
