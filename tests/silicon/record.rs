//! The record of what was proven, `opcodes/PROOF.tsv`: written with `TABLE86_BLESS=1`, and otherwise compared with what was
//! found.

use crate::exempt::{self, Processor};
use crate::single::{Tally, row};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;
use table86::isa::proof::{Proof, key, proof};
use table86::isa::{FORMS, Form};

/// What the record's columns are.
const HEAD: &str = "\
# What comparing the rows with processors has shown. Written by the tests in tests/silicon: TABLE86_BLESS=1 cargo test
# --release --test silicon each_row. Columns: table, mnemonic, opcode, operands, flag rule, body; then states, test, and
# processor (vendor-family-model), or why no processor can be asked. A row has a line for each processor, whose own tests
# write it and leave the others alone. A row whose columns change has lost its proof.
";

/// The lines of a test.
pub struct Record {
    test: &'static str,
    processor: String,
    /// By row, what stands behind its key.
    found: Vec<(&'static Form, String)>,
    failed: Vec<String>,
}

impl Record {
    /// Nothing is proven yet.
    pub fn new(test: &'static str) -> Record {
        Record { test, processor: Processor::here().name, found: Vec::new(), failed: Vec::new() }
    }

    /// Notes how a row fared.
    pub fn note(&mut self, form: &'static Form, tally: &Tally) {
        if tally.is_verified(form) {
            self.found.push((form, format!("{}\t{}\t{}", tally.vectors, self.test, self.processor)));
        } else {
            self.failed.push(format!("{}: {tally:?}", row(form)));
        }
    }

    /// Notes that this processor lacks what a row needs, if no other one has been asked about it either.
    pub fn lacks(&mut self, form: &'static Form) {
        if exempt::is_implemented(form) && !matches!(proof(form), Some(Proof::Verified(_))) {
            self.excuse(
                form,
                &format!("not compared yet: no processor asked so far has {}", form.cpuid.join(", ")),
            );
        }
    }

    /// Notes a row that cannot be compared.
    pub fn excuse(&mut self, form: &'static Form, reason: &str) {
        self.found.push((form, reason.to_owned()));
    }

    /// Writes the record, or compares it with what was found; panics on rows that are not proven.
    pub fn settle(self) {
        let blessing = crate::is_blessing();
        if blessing {
            self.write();
        }
        assert!(
            self.failed.is_empty(),
            "{} rows are not proven:\n{}",
            self.failed.len(),
            self.failed.join("\n")
        );
        if blessing || std::env::var_os("ROW").is_some() {
            return;
        }
        let found = |form: &Form| self.found.iter().any(|(other, _)| key(other) == key(form));
        let of_this_test = |form: &&Form| matches!(proof(form), Some(Proof::Verified(all)) if all.iter().any(|one| one.test == self.test));
        let lost = FORMS.iter().filter(of_this_test).filter(|form| exempt::is_here(form) && !found(form));
        let new = self.found.iter().map(|(form, _)| *form).filter(|form| proof(form).is_none());
        let (lost, new): (Vec<String>, Vec<String>) = (lost.map(row).collect(), new.map(row).collect());
        assert!(lost.is_empty(), "on record as proven, but not tried:\n{}", lost.join("\n"));
        assert!(
            new.is_empty(),
            "not in opcodes/PROOF.tsv, which TABLE86_BLESS=1 cargo test --release --test silicon each_row writes:\n{}",
            new.join("\n")
        );
    }

    /// Replaces the lines of this test on this processor, and drops those of rows that are gone.
    fn write(&self) {
        static WRITING: Mutex<()> = Mutex::new(());
        let _writing = WRITING.lock();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("opcodes/PROOF.tsv");
        let before = std::fs::read_to_string(&path).unwrap_or_default();
        // By key and processor.
        let mut lines: HashMap<String, BTreeMap<String, String>> = HashMap::new();
        let known = before.lines().filter_map(|line| {
            let end = line.match_indices('\t').nth(5)?.0;
            Some((line[..end].to_owned(), line[end + 1..].to_owned()))
        });
        let found = self.found.iter().map(|(form, line)| (key(form).join("\t"), line.clone()));
        for (key, line) in known.chain(found) {
            let processor = line.rsplit('\t').next().filter(|_| line.contains('\t')).unwrap_or_default();
            lines.entry(key).or_default().insert(processor.to_owned(), line);
        }
        let mut text = HEAD.to_owned();
        for form in FORMS.iter().filter(|form| exempt::is_implemented(form)) {
            let key = key(form).join("\t");
            let lines = lines.get(&key).into_iter().flatten();
            // A processor's answer takes the place of the reason why there was none.
            let verified = lines.clone().any(|(processor, _)| !processor.is_empty());
            for (_, line) in lines.filter(|(processor, _)| !verified || !processor.is_empty()) {
                let _ = writeln!(text, "{key}\t{line}");
            }
        }
        std::fs::write(&path, text).expect("the record can be written");
    }
}
