//! Processes and signals as programs see them: each program of `tests/tasks/` checks what the kernel does to it and
//! exits with 0, or with the number of the check that failed. `tests/tasks/build --native` runs them on Linux itself.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

/// Where the programs are assembled to start.
const ORIGIN: &str = "0x10000";
/// Seconds; an endless wait would be a failure, too.
const TIMEOUT: &str = "60";

fn status_of(name: &str) -> ExitStatus {
    let image = format!("{}/tests/tasks/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    let arguments = ["run", "--as", "flat", "--org", ORIGIN, "--timeout", TIMEOUT, &image];
    Command::new(env!("CARGO_BIN_EXE_table86")).args(arguments).status().unwrap()
}

#[test]
fn children_are_made_and_waited_for() {
    assert_eq!(status_of("children").code(), Some(0));
}

#[test]
fn faults_are_signals_with_their_traps() {
    assert_eq!(status_of("faults").code(), Some(0));
}

#[test]
fn frames_hold_and_restore_the_state() {
    assert_eq!(status_of("frames").code(), Some(0));
}

#[test]
fn vectors_are_saved_restored_inherited_and_raise_their_exceptions() {
    assert_eq!(status_of("vectors").code(), Some(0));
}

#[test]
fn waiting_calls_are_interrupted_and_restarted() {
    assert_eq!(status_of("waiting").code(), Some(0));
}

#[test]
fn handlers_run_on_the_alternate_stack_and_die_without_room() {
    assert_eq!(status_of("stacks").signal(), Some(libc::SIGSEGV));
}

#[test]
fn threads_share_memory_and_code_and_end_together() {
    assert_eq!(status_of("threads").code(), Some(0));
}
