//! Recorded answers of processors, checked in, so that the rows can be compared on hosts that cannot run IA-32 code, and with
//! processors of another vendor.
//!
//! `recorded/PROCESSOR/` has a file a table, JSON compressed by zlib, and `processor.json`. The states are chosen anew when
//! they are played, as the live comparison chooses them, so a change of the choice, or of a row, makes a recording stale.

use crate::answers::Row;
use crate::bench::{Bench, machines};
use crate::exempt::{Processor, compare_with, is_the_hosts_own};
use crate::oracle::with_oracle;
use crate::rows::{comparable, prove_anew};
use crate::single::row;
use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use table86::isa::{Form, proof};

/// States a row.
const STATES: u32 = 64;
/// zlib's level.
const BEST: u8 = 9;
/// How to record.
const COMMAND: &str = "TABLE86_BLESS=1 cargo test --release --test silicon recorded";

/// Whose answers a directory has.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    processor: Processor,
    /// The selectors of the thread's segments there.
    tls: [u16; 3],
}

/// The recorded rows of a table, by what is proven of them.
type Table = BTreeMap<String, Row>;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/silicon/recorded")
}

fn read_table(path: &Path) -> Table {
    let Ok(bytes) = fs::read(path) else { return Table::new() };
    let text = decompress_to_vec_zlib(&bytes).map_err(|error| error.to_string());
    let table = text.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    table.unwrap_or_else(|error| panic!("{}: {error}; written anew by: {COMMAND}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|before| before == bytes) {
        return;
    }
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn key(form: &Form) -> String {
    proof::key(form).join("\t")
}

/// The tables that these rows are in, with their rows.
fn by_table(
    rows: impl Iterator<Item = (usize, &'static Form)>,
) -> BTreeMap<&'static str, Vec<(usize, &'static Form)>> {
    let mut tables: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (index, form) in rows {
        tables.entry(form.room).or_default().push((index, form));
    }
    tables
}

/// Records what this processor answers, for rows that have `part` in their line; gives the rows that differ.
pub fn record(part: &str, seed: u64) -> Vec<String> {
    let mut failed = Vec::new();
    let machines = machines();
    with_oracle(|oracle| {
        let mut bench = Bench::new(oracle, machines);
        let recorded = Recorded { processor: Processor::here(), tls: bench.tls };
        let directory = directory().join(&recorded.processor.name);
        fs::create_dir_all(&directory).expect("a directory can be made");
        let description =
            serde_json::to_string_pretty(&recorded).expect("it has only strings as keys") + "\n";
        write(&directory.join("processor.json"), description.as_bytes());
        for (table, rows) in by_table(comparable("")) {
            let path = directory.join(table).with_extension("z");
            let mut recordings = read_table(&path);
            recordings.retain(|known, _| rows.iter().any(|(_, form)| key(form) == *known));
            for (index, form) in rows.into_iter().filter(|(_, form)| row(form).contains(part)) {
                bench.record();
                let (tally, mismatches) = prove_anew(&mut bench, index, STATES, seed);
                let recording = bench.recorded();
                if tally.is_verified(form) {
                    recordings.insert(key(form), recording);
                } else {
                    failed.extend(mismatches);
                }
            }
            let text = serde_json::to_vec(&recordings).expect("it has only strings as keys");
            write(&path, &compress_to_vec_zlib(&text, BEST));
        }
    });
    failed
}

/// What playing a recording has shown.
#[derive(Default)]
pub struct Played {
    /// The processor.
    pub name: String,
    /// Rows that were compared.
    pub rows: usize,
    /// And states.
    pub vectors: u64,
    /// Mismatches, written out.
    pub mismatches: Vec<String>,
    /// Rows that have no recording, or one of other states.
    pub stale: Vec<String>,
}

impl Played {
    /// What is wrong; `None` if nothing is, or nothing that this host could mend.
    pub fn complaint(&self) -> Option<String> {
        let Played { name, mismatches, stale, .. } = self;
        if !mismatches.is_empty() {
            return Some(format!("not as recorded of {name}:\n{}", mismatches.join("\n")));
        }
        if stale.is_empty() {
            return None;
        }
        let stale = format!(
            "no recording, or one of other states, of {name}; made by: {COMMAND}\n{}",
            stale.join("\n")
        );
        if *name == Processor::here().name {
            return Some(stale);
        }
        println!("NOT CHECKED: {stale}");
        None
    }
}

/// Compares rows that have `part` in their line with the recordings of each processor there is one of; `prepare` may change
/// a recording before.
pub fn play(part: &str, seed: u64, prepare: fn(&mut Row)) -> Vec<Played> {
    let mut all = Vec::new();
    let entries = fs::read_dir(directory()).expect("recordings are checked in");
    for entry in entries {
        let directory = entry.expect("a directory can be read").path();
        let description = fs::read(directory.join("processor.json")).expect("each recording has one");
        let recorded: Recorded = serde_json::from_slice(&description).expect("the test has written it");
        all.push(play_one(&directory, &recorded, part, seed, prepare));
    }
    all
}

fn play_one(directory: &Path, recorded: &Recorded, part: &str, seed: u64, prepare: fn(&mut Row)) -> Played {
    let _comparing = compare_with(&recorded.processor);
    let mut played = Played { name: recorded.processor.name.clone(), ..Played::default() };
    let own = played.name == Processor::here().name;
    let mut bench = Bench::without(recorded.tls, machines());
    for (table, rows) in by_table(comparable(part)) {
        let mut recordings = read_table(&directory.join(table).with_extension("z"));
        for (index, form) in rows.into_iter().filter(|(_, form)| own || !is_the_hosts_own(form)) {
            let Some(mut recording) = recordings.remove(&key(form)) else {
                played.stale.push(row(form));
                continue;
            };
            prepare(&mut recording);
            bench.play(recording);
            let (tally, mismatches) = prove_anew(&mut bench, index, STATES, seed);
            if !bench.played() {
                played.stale.push(row(form));
                continue;
            }
            played.rows += 1;
            played.vectors += u64::from(tally.vectors);
            if !tally.is_verified(form) {
                played.mismatches.push(format!("{}: {tally:?}", row(form)));
                played.mismatches.extend(mismatches);
            }
        }
    }
    played
}
