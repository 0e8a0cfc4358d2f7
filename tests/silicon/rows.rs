//! A row by itself: compared by the module that knows its kind, and not depending on what came before it.

use crate::bench::Bench;
use crate::exempt;
use crate::single::{self, Report, Tally, Trial, row};
use crate::{vector, x87};
use table86::isa::{FORMS, Form};

/// Rows that are compared, of those that have `part` in their line; with their numbers.
pub fn comparable(part: &str) -> impl Iterator<Item = (usize, &'static Form)> {
    FORMS.iter().enumerate().filter(move |(_, form)| {
        exempt::is_comparable(form) && exempt::unverifiable(form).is_none() && row(form).contains(part)
    })
}

/// Compares a row on so many states, on a bench as if new; gives mismatches, written out.
pub fn prove_anew(bench: &mut Bench<'_>, index: usize, vectors: u32, seed: u64) -> (Tally, Vec<String>) {
    bench.begin_anew();
    prove(bench, index, Trial::plain(vectors, seed))
}

/// Compares a row, whichever it is; gives mismatches, written out.
pub fn prove(bench: &mut Bench<'_>, index: usize, trial: Trial<'_>) -> (Tally, Vec<String>) {
    let form = &FORMS[index];
    let special = x87::is_here(form) || vector::is_here(form);
    bench.oracle.fpu = special;
    if !special {
        let mut report = Report::default();
        let tally = single::prove_row(bench, index, trial, &mut report);
        return (tally, report.mismatches);
    }
    let mut text = String::new();
    let prove = if x87::is_here(form) { x87::prove_row } else { vector::prove_row };
    let tally = prove(bench, index, trial, &mut text);
    (tally, if text.is_empty() { Vec::new() } else { vec![text] })
}
