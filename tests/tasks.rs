//! Processes and signals as programs see them: each program of `tests/tasks/` checks what the kernel does to it and
//! exits with 0, or with the number of the check that failed. `tests/tasks/build --native` runs them on Linux itself.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use table86::kernel::exec::Launch;
use table86::kernel::{Image, Options, Process};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory};

/// Where the programs are assembled to start.
const ORIGIN: u32 = 0x1_0000;
/// Top of the stack, and its size in bytes.
const STACK: u32 = 0x800_0000;
const STACK_SIZE: u32 = 0x2_0000;
/// Names the program that a child of the test is to run.
const VARIABLE: &str = "TABLE86_TEST_TASK";

/// Runs a program to its end, which is this process's end.
fn run(name: &str) -> ! {
    let path = format!("{}/tests/tasks/{name}.bin", env!("CARGO_MANIFEST_DIR"));
    let code = std::fs::read(&path).unwrap();
    let memory = Arc::new(Memory::new().unwrap());
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(&MapRequest::bytes(Place::Fixed(ORIGIN), code, all, None)).unwrap();
    let stack = MapRequest::anonymous(Place::Fixed(STACK - STACK_SIZE), STACK_SIZE, all);
    memory.map(&stack).unwrap();
    let mut machine = Machine::new(memory).unwrap();
    machine.cpu.eip = ORIGIN;
    machine.cpu.regs[table86::cpu::reg::ESP] = STACK;
    let image = Image { exec_name: name.into(), brk_start: 0x100_0000, ..Image::default() };
    // An endless wait would be a failure, too.
    let options = Options { max_instructions: Some(2_000_000_000), ..Options::default() };
    Process::new(machine, image, options, Launch::new()).run().finish()
}

/// Runs a program in a process of its own: this test program again, told to run only that.
fn status_of(name: &str) -> ExitStatus {
    let test = std::env::current_exe().unwrap();
    let arguments = ["--exact", "child", "--nocapture", "--test-threads=1"];
    Command::new(test).args(arguments).env(VARIABLE, name).output().unwrap().status
}

/// Does nothing but in the children of the other tests.
#[test]
fn child() {
    if let Some(name) = std::env::var_os(VARIABLE) {
        run(name.to_str().unwrap());
    }
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
fn waiting_calls_are_interrupted_and_restarted() {
    assert_eq!(status_of("waiting").code(), Some(0));
}

#[test]
fn handlers_run_on_the_alternate_stack_and_die_without_room() {
    assert_eq!(status_of("stacks").signal(), Some(libc::SIGSEGV));
}
