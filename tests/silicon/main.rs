//! Every implemented row of the tables against this processor.
//!
//! `VECTORS=100000 cargo test --release --test silicon` does the same with more numbers. See `tests/README.md`.
// A state is filled field by field; modules shared with other test binaries are not used whole here.
#![allow(clippy::field_reassign_with_default, dead_code)]
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod answers;
mod bench;
#[path = "../fpu/cases.rs"]
mod cases;
mod encode;
mod ends;
mod exempt;
mod faults;
mod hot;
mod models;
mod modifying;
mod operands;
#[path = "../oracle/mod.rs"]
mod oracle;
mod program;
mod random;
mod record;
mod recorded;
mod refused;
mod rounds;
mod rows;
mod sequence;
mod single;
mod stops;
mod vector;
mod x87;

use answers::Row;
use bench::{Bench, machines};
use faults::Faults;
use oracle::with_oracle;
use program::Rows;
use record::Record;
use refused::Refused;
use sequence::prove_programs;
use single::{Report, Tally, Trial, prove_row, row};
use table86::isa::FORMS;

/// What TABLE86_BLESS=1 asks for: to write down what is found.
fn is_blessing() -> bool {
    std::env::var_os("TABLE86_BLESS").is_some_and(|value| value == "1")
}

/// Runs a test on a bench, if this host can be asked.
fn with_bench(test: impl FnOnce(&mut Bench<'_>)) {
    let machines = machines();
    with_oracle(|oracle| test(&mut Bench::new(oracle, machines)));
}

/// The seed of all tests here; a failure can be repeated with it.
const SEED: u64 = 0x7461_626c_6538_3605;

/// Programs.
const PROGRAMS: u32 = if cfg!(debug_assertions) { 400 } else { 4000 };

/// The same, or as many as are asked for.
fn programs() -> u32 {
    std::env::var("PROGRAMS").map_or(PROGRAMS, |text| text.parse().expect("a number"))
}

#[test]
fn programs_end_as_on_the_processor_however_they_are_cut() {
    with_bench(|bench| {
        let outcome = prove_programs(bench, &Rows::choose(), programs(), SEED);
        println!("{outcome}");
        assert!(outcome.mismatches.is_empty(), "{}", outcome.mismatches.join("\n"));
    });
}

#[test]
fn programs_of_vectors_end_as_on_the_processor() {
    with_bench(|bench| {
        bench.oracle.fpu = true;
        let outcome = prove_programs(bench, &Rows::with_vectors(), programs(), SEED);
        println!("{outcome}");
        assert!(outcome.mismatches.is_empty(), "{}", outcome.mismatches.join("\n"));
    });
}

#[test]
fn programs_that_store_into_their_code_end_as_on_the_processor() {
    with_bench(|bench| {
        let outcome = sequence::prove_modifying(bench, programs(), SEED);
        println!("{outcome}");
        assert!(outcome.mismatches.is_empty(), "{}", outcome.mismatches.join("\n"));
        assert!(outcome.modified > programs() / 3, "{outcome}");
    });
}

/// Every so many lines of the list of specialised handlers.
const EVERY: usize = 1;

#[test]
fn specialised_handlers_and_pairs_do_what_the_processor_does() {
    with_bench(|bench| {
        let outcome = sequence::prove_hot_handlers(bench, EVERY, SEED);
        println!("{outcome}");
        assert!(outcome.mismatches.is_empty(), "{}", outcome.mismatches.join("\n"));
    });
}

#[test]
fn loops_end_or_fault_in_the_round_that_they_do_on_the_processor() {
    with_bench(|bench| {
        let outcome = sequence::prove_loops(bench, EVERY, SEED);
        println!("{outcome}");
        assert!(outcome.mismatches.is_empty(), "{}", outcome.mismatches.join("\n"));
        assert!(outcome.programs > 500 && outcome.faulted > 200, "{outcome}");
    });
}

/// States a row.
const VECTORS: u32 = if cfg!(debug_assertions) { 320 } else { 1000 };

/// The same, or as many as are asked for.
fn vectors() -> u32 {
    std::env::var("VECTORS").map_or(VECTORS, |text| text.parse().expect("a number"))
}

#[test]
fn each_row_does_what_the_processor_does() {
    with_bench(|bench| {
        let mut report = Report::default();
        let mut record = Record::new("each_row_does_what_the_processor_does");
        let only = std::env::var("ROW").ok();
        for (index, form) in FORMS.iter().enumerate() {
            let wanted = only.as_ref().is_none_or(|only| row(form).contains(only.as_str()));
            if !wanted || x87::is_here(form) || vector::is_here(form) || !exempt::is_comparable(form) {
                continue;
            }
            match exempt::unverifiable(form) {
                Some(reason) => record.excuse(form, reason),
                None => {
                    record.note(form, &prove_row(bench, index, Trial::plain(vectors(), SEED), &mut report))
                }
            }
        }
        println!("seed {SEED:#x}, {} runs", report.vectors);
        for ((rule, case, bit), seen) in &report.undefined {
            println!("undefined flag {bit:#x} of {rule}, case {case}: {seen:?}");
        }
        for mismatch in &report.mismatches {
            println!("{mismatch}");
        }
        record.settle();
    });
    assert!(exempt::idle_entries().is_empty(), "{:?} name no row", exempt::idle_entries());
}

#[test]
fn each_row_of_the_fpu_does_what_the_processor_does() {
    with_bench(|bench| {
        bench.oracle.fpu = true;
        let mut report = String::new();
        let mut record = Record::new("each_row_of_the_fpu_does_what_the_processor_does");
        let only = std::env::var("ROW").ok();
        for (index, form) in FORMS.iter().enumerate().filter(|(_, form)| x87::is_here(form)) {
            if only.as_ref().is_none_or(|only| row(form).contains(only.as_str())) {
                record.note(form, &x87::prove_row(bench, index, Trial::plain(vectors(), SEED), &mut report));
            }
        }
        println!("seed {SEED:#x}\n{report}");
        record.settle();
    });
}

/// States a row, and lines of the list of specialised handlers, for injected faults.
const FAULTY_STATES: u32 = if cfg!(debug_assertions) { 128 } else { 512 };

#[test]
fn injected_faults_leave_what_the_processor_leaves() {
    with_bench(|bench| {
        let mut faults = Faults::default();
        faults::prove_rows(bench, FAULTY_STATES, SEED, &mut faults);
        faults::prove_hot_handlers(bench, EVERY, SEED, &mut faults);
        println!("seed {SEED:#x}: {faults}");
        assert!(faults.mismatches.is_empty(), "{}", faults.mismatches.join("\n"));
        assert!(faults.total() >= 150_000, "{faults}");
        assert!(faults.by_class.values().all(|count| *count >= 500), "{faults}");
    });
}

/// Tries encodings that are refused, and prints how often by which fault.
fn refuse(attempt: fn(&mut Bench<'_>, u64, &mut Refused), least: [u64; 3]) {
    with_bench(|bench| {
        let mut refused = Refused::default();
        attempt(bench, SEED, &mut refused);
        let [ud, gp, pf] = refused.faults;
        println!("seed {SEED:#x}: {} runs, #UD {ud}, #GP {gp}, #PF {pf}", refused.runs);
        assert!(refused.mismatches.is_empty(), "{}", refused.mismatches.join("\n"));
        assert!(refused.faults.iter().zip(least).all(|(found, least)| *found >= least), "{least:?}");
    });
}

#[test]
fn lock_is_refused_where_no_row_allows_it() {
    refuse(refused::try_locks, [5000, 0, 0]);
}

#[test]
fn encodings_that_no_row_declares_are_refused() {
    refuse(refused::try_gaps, [2000, 0, 0]);
}

#[test]
fn more_than_fifteen_bytes_are_refused() {
    refuse(refused::try_lengths, [0, 1000, 0]);
}

#[test]
fn instructions_cut_off_by_the_end_of_memory_fault_at_the_byte_that_is_missing() {
    refuse(refused::try_cuts, [0, 0, 1500]);
}

#[test]
fn a_model_runs_no_row_whose_features_it_lacks() {
    let (wrong, tried) = models::wrong(SEED);
    println!("{tried} tried");
    assert!(tried > 1000 && wrong.is_empty(), "{tried} tried:\n{}", wrong.join("\n"));
}

#[test]
fn each_row_of_the_vectors_does_what_the_processor_does() {
    with_bench(|bench| {
        bench.oracle.fpu = true;
        let mut report = String::new();
        let mut record = Record::new("each_row_of_the_vectors_does_what_the_processor_does");
        let only = std::env::var("ROW").ok();
        for (index, form) in FORMS.iter().enumerate() {
            let wanted = only.as_ref().is_none_or(|only| row(form).contains(only.as_str()));
            if !wanted || !vector::is_here(form) {
                continue;
            }
            if exempt::is_comparable(form) {
                record
                    .note(form, &vector::prove_row(bench, index, Trial::plain(vectors(), SEED), &mut report));
            } else {
                record.lacks(form);
            }
        }
        println!("seed {SEED:#x}\n{report}");
        record.settle();
    });
}

#[test]
fn each_row_traps_behind_itself_by_the_trap_flag() {
    const STATES: u32 = if cfg!(debug_assertions) { 64 } else { 512 };
    with_bench(|bench| {
        let mut report = Report::default();
        let fared = stops::prove_traps(bench, STATES, SEED, &mut report);
        println!("{} rows, {} runs", fared.len(), report.vectors);
        assert!(report.mismatches.is_empty(), "{}", report.mismatches.join("\n"));
        assert!(stops::untrapped(&fared).is_empty(), "{:?}", stops::untrapped(&fared));
    });
}

#[test]
fn pushes_and_pops_end_with_a_stack_segment_that_has_a_base() {
    prove_ends(ends::prove_stack_ends);
}

#[test]
fn operands_end_with_a_segment_that_has_a_base() {
    prove_ends(ends::prove_operand_ends);
}

fn prove_ends(prove: impl FnOnce(&mut Bench<'_>, u32, u64) -> (Tally, Vec<String>)) {
    const STATES: u32 = if cfg!(debug_assertions) { 64 } else { 512 };
    with_bench(|bench| {
        let (tally, mismatches) = prove(bench, STATES, SEED);
        println!("{} runs, {} faulted", tally.vectors, tally.faulted);
        assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
        assert!(tally.faulted > 1000, "{} of {} runs faulted", tally.faulted, tally.vectors);
    });
}

#[test]
fn programs_can_be_stopped_behind_each_instruction() {
    with_bench(|bench| {
        let (steps, mismatches) = stops::prove_steps(bench, PROGRAMS / 4, SEED);
        println!("{steps} steps");
        assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
        assert!(steps > 5000, "{steps}");
    });
}

#[test]
fn repeated_string_instructions_go_on_behind_a_fault() {
    with_bench(|bench| {
        let (restarts, mismatches) = stops::prove_restarts(bench, 2 * PROGRAMS, SEED);
        println!("{restarts} restarts");
        assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
        assert!(restarts > 100, "{restarts}");
    });
}

#[test]
fn fpu_encodings_without_a_row_are_undefined_on_the_processor() {
    with_bench(|bench| {
        bench.oracle.fpu = true;
        let wrong = x87::prove_gaps(bench);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}

#[test]
fn recorded_answers_of_processors_are_what_the_machines_do() {
    let part = std::env::var("ROW").unwrap_or_default();
    if is_blessing() {
        let failed = recorded::record(&part, SEED);
        assert!(failed.is_empty(), "not recorded, as they differ:\n{}", failed.join("\n"));
    }
    for played in recorded::play(&part, SEED, |_| ()) {
        println!("{}: {} rows, {} states", played.name, played.rows, played.vectors);
        assert_eq!(played.complaint(), None);
        assert!(played.rows > 900 || !part.is_empty(), "only {} rows are compared", played.rows);
    }
}

#[test]
fn a_recording_of_other_states_is_stale_and_not_a_mismatch() {
    for played in recorded::play(" shld Ev", SEED + 1, |_| ()) {
        assert!(played.mismatches.is_empty(), "{}", played.mismatches.join("\n"));
        assert!(played.rows == 0 && played.stale.len() > 1, "{:?}", played.stale);
    }
}

#[test]
fn one_wrong_answer_in_a_recording_is_a_mismatch() {
    for played in recorded::play(" xchg Ev", SEED, Row::falsify) {
        assert!(played.rows > 0 && played.stale.is_empty(), "{:?}", played.stale);
        assert_eq!(
            played.mismatches.iter().filter(|text| text.contains("differed: 1 }")).count(),
            played.rows
        );
    }
}
