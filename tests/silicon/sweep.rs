//! The sweep: every row against this processor, with as many states as one has time for. `--help` says how.
//!
//! Each row is tried in chunks, which do not depend on each other, so that a mismatch can be repeated without what came
//! before it. The report has a line for each finished row; a sweep that was interrupted goes on behind the last of them.
#![cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(unused))]
// A state is filled field by field; modules shared with the tests are not used whole here.
#![allow(clippy::field_reassign_with_default, dead_code)]

mod answers;
mod bench;
#[path = "../fpu/cases.rs"]
mod cases;
mod encode;
mod exempt;
mod modifying;
mod operands;
#[path = "../oracle/mod.rs"]
mod oracle;
mod program;
mod random;
mod rows;
mod single;
mod vector;
mod x87;

use bench::{Bench, machines};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use single::{Tally, row};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use table86::isa::{FORMS, Form};

/// States that are tried without a pause, and by which a mismatch is repeated.
const CHUNK: u32 = 1000;

/// Compares every row of the tables with this processor, from random states.
#[derive(Parser)]
#[command(
    after_help = "A report of another seed, number of states or processor is not gone on with. Mismatches end the sweep with \
                        status 1, not before all rows are tried."
)]
struct Sweep {
    /// Only rows that have this in their line, as `shift.toml:124` or ` shld Ev`
    #[arg(long, value_name = "TEXT", default_value = "")]
    rows: String,
    /// States a row
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    vectors: u32,
    /// Chooses the states
    #[arg(long, value_name = "SEED", default_value = "0x7461626c65383605", value_parser = number)]
    seed: u64,
    /// A file to note finished rows in, and to go on from
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Only this chunk of 1,000 states, as a mismatch says
    #[arg(long, value_name = "N")]
    chunk: Option<u32>,
}

fn number(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| error.to_string())
}

/// What is known of a row that is done.
#[derive(Clone, Copy, Default)]
struct Done {
    tally: Tally,
    seconds: f64,
}

/// The file with what is done: a head that says of what, a line a row, and mismatches as comments.
struct Notes {
    file: Option<File>,
    done: HashMap<String, Done>,
}

impl Notes {
    /// Opens or makes the file.
    fn open(path: Option<&Path>, head: &str) -> Result<Notes, String> {
        let Some(path) = path else { return Ok(Notes { file: None, done: HashMap::new() }) };
        let shown = path.display();
        let before = std::fs::read_to_string(path).unwrap_or_default();
        let mut lines = before.lines();
        if lines.next().is_some_and(|first| first != head) {
            return Err(format!(
                "{shown} is the report of another sweep; give another --report, or the same --seed and --vectors\n  it is    {}\n  wanted   {head}",
                before.lines().next().unwrap_or_default()
            ));
        }
        let done = lines.filter(|line| !line.starts_with('#')).filter_map(parse).collect();
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.map_err(|error| format!("{shown}: {error}"))?;
        if before.is_empty() {
            writeln!(file, "{head}").map_err(|error| format!("{shown}: {error}"))?;
        }
        Ok(Notes { file: Some(file), done })
    }

    fn note(&mut self, form: &Form, done: Done, mismatches: &[String]) -> Result<(), String> {
        self.done.insert(key(form), done);
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut text = String::new();
        for line in mismatches.iter().flat_map(|mismatch| mismatch.lines()) {
            text += &format!("# {line}\n");
        }
        let Tally { vectors, completed, faulted, differed } = done.tally;
        let seconds = done.seconds;
        text += &format!("{}\t{vectors}\t{completed}\t{faulted}\t{differed}\t{seconds:.1}\n", key(form));
        file.write_all(text.as_bytes()).map_err(|error| format!("the report cannot be written: {error}"))
    }
}

/// What a row is called in the report: what stands in the table, but for the line.
fn key(form: &Form) -> String {
    table86::isa::proof::key(form).join("\t")
}

/// A line of the report. One that was cut off is none.
fn parse(line: &str) -> Option<(String, Done)> {
    let at = line.match_indices('\t').nth(5)?.0;
    let mut columns = line[at + 1..].split('\t');
    let mut count = || columns.next()?.parse().ok();
    let tally = Tally { vectors: count()?, completed: count()?, faulted: count()?, differed: count()? };
    let seconds = columns.next()?.parse().ok()?;
    Some((line[..at].to_owned(), Done { tally, seconds }))
}

/// Compares one chunk of a row; gives mismatches, written out.
fn prove_chunk(
    bench: &mut Bench<'_>,
    index: usize,
    chunk: u32,
    vectors: u32,
    seed: u64,
) -> (Tally, Vec<String>) {
    rows::prove_anew(bench, index, vectors, random::Random::new(seed, u64::from(chunk)).next())
}

impl Sweep {
    fn run(&self) -> Result<bool, String> {
        let rows: Vec<usize> = rows::comparable(&self.rows).map(|(index, _)| index).collect();
        if rows.is_empty() {
            return Err(format!("no row that can be compared has `{}` in its line", self.rows));
        }
        let head = format!(
            "# sweep of {} states a row, seed {:#x}, {}",
            self.vectors,
            self.seed,
            exempt::Processor::here().name
        );
        let mut notes = Notes::open(self.report.as_deref(), &head)?;
        let machines = machines();
        let mut oracle =
            oracle::Oracle::new().map_err(|reason| format!("this host cannot be asked: {reason}"))?;
        let mut bench = Bench::new(&mut oracle, machines);
        let chunks: Vec<u32> = match self.chunk {
            Some(chunk) => vec![chunk],
            None => (0..self.vectors.div_ceil(CHUNK)).collect(),
        };
        let bar = ProgressBar::new((rows.len() * chunks.len()) as u64);
        let style = "{elapsed_precise} {wide_bar} {percent}% {msg} (left: {eta})";
        bar.set_style(ProgressStyle::with_template(style).map_err(|error| error.to_string())?);
        let mut all = (0u64, Done::default(), 0);
        for index in rows {
            let form = &FORMS[index];
            let known = notes.done.get(&key(form)).filter(|_| self.chunk.is_none()).copied();
            let done = match known {
                Some(done) => {
                    bar.inc(chunks.len() as u64);
                    // What took no time says nothing about what is left.
                    bar.reset_eta();
                    done
                }
                None => {
                    bar.set_message(form.mnemonic);
                    let (done, mismatches) = self.sweep_row(&mut bench, index, &chunks, &bar);
                    if self.chunk.is_none() {
                        notes.note(form, done, &mismatches)?;
                    }
                    done
                }
            };
            all.0 += u64::from(done.tally.vectors);
            all.1.seconds += done.seconds;
            all.1.tally.differed += done.tally.differed;
            all.2 += 1;
        }
        bar.finish_and_clear();
        let (vectors, Done { tally, seconds }, rows) = all;
        println!(
            "{rows} rows, {vectors} states, {seconds:.0} s, {} mismatches; seed {:#x}",
            tally.differed, self.seed
        );
        Ok(tally.differed == 0)
    }

    /// Tries all chunks of a row, and shows its first mismatches.
    fn sweep_row(
        &self,
        bench: &mut Bench<'_>,
        index: usize,
        chunks: &[u32],
        bar: &ProgressBar,
    ) -> (Done, Vec<String>) {
        let start = Instant::now();
        let mut done = Done::default();
        let mut shown = Vec::new();
        for chunk in chunks {
            let vectors = CHUNK.min(self.vectors);
            let (tally, mismatches) = prove_chunk(bench, index, *chunk, vectors, self.seed);
            done.tally.add(tally);
            if shown.is_empty() && !mismatches.is_empty() {
                let form = &FORMS[index];
                let again = format!(
                    "again: cargo run --release --example sweep -- --rows '{}' --vectors {vectors} --seed {:#x} --chunk {chunk}",
                    row(form),
                    self.seed
                );
                shown = mismatches;
                shown.push(again);
                bar.suspend(|| println!("{}", shown.join("\n")));
            }
            bar.inc(1);
        }
        done.seconds = start.elapsed().as_secs_f64();
        (done, shown)
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn main() -> ExitCode {
    match Sweep::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("sweep: {message}");
            ExitCode::from(2)
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn main() {
    eprintln!("sweep: only an x86-64 processor under Linux can be asked");
}
