//! What comparing the rows with processors has shown: `opcodes/PROOF.tsv`, which the tests in `tests/silicon` write and
//! check.

use super::Form;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The record: a line for each row and processor, columns by tabs, as its head says.
const RECORD: &str = include_str!("../../opcodes/PROOF.tsv");

/// What is known of an implemented row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It did what processors did; one comparison each of them.
    Verified(Vec<Comparison>),
    /// No processor can be asked, for this reason.
    Unverifiable(&'static str),
}

/// What comparing a row with one processor has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// From so many states.
    pub vectors: u32,
    /// The test in `tests/silicon` that compared them.
    pub test: &'static str,
    /// The processor: vendor, family, model.
    pub processor: &'static str,
}

/// What a proof is about: it is lost when one of these changes.
type Key = [&'static str; 6];

/// What is on record for a row; `None` if nothing is, or the row has changed since.
pub fn proof(form: &Form) -> Option<&'static Proof> {
    static PROOFS: LazyLock<HashMap<Key, Proof>> = LazyLock::new(|| {
        let mut proofs: HashMap<Key, Proof> = HashMap::new();
        for (key, line) in RECORD.lines().filter_map(parse) {
            match (proofs.get_mut(&key), line) {
                (Some(Proof::Verified(all)), Proof::Verified(more)) => all.extend(more),
                (_, line) => {
                    proofs.insert(key, line);
                }
            }
        }
        proofs
    });
    PROOFS.get(&key(form))
}

/// Table, mnemonic, opcode, operands, flag rule, body.
pub fn key(form: &Form) -> Key {
    [form.room, form.mnemonic, form.op, form.ops, form.flags.rule, form.body]
}

/// A line of the record; `None` for comments.
pub fn parse(line: &'static str) -> Option<(Key, Proof)> {
    if line.starts_with('#') {
        return None;
    }
    let columns: Vec<&str> = line.split('\t').collect();
    let (key, rest) = columns.split_first_chunk()?;
    let proof = match rest {
        [vectors, test, processor] => {
            Proof::Verified(vec![Comparison { vectors: vectors.parse().ok()?, test, processor }])
        }
        [reason] => Proof::Unverifiable(reason),
        _ => return None,
    };
    Some((*key, proof))
}
