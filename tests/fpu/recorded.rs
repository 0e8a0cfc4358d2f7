//! The comparison with what silicon left, recorded: it runs on every host.

use std::fmt::Write as _;

use table86::fpu::FXSAVE_X87;

use crate::harness::{Frame, Instruction, LastInstruction};
use crate::instructions::ALL;

/// One line an instruction: the digest of the states it left, and its text.
const RECORDED: &str = include_str!("silicon.txt");

/// How many states a digest covers.
const STATES: u64 = 500;

/// FNV-1a over the states that `run` makes of the first states of an instruction.
fn digest(instruction: &Instruction, pointers: LastInstruction, run: impl Fn(&Frame) -> Frame) -> u64 {
    let mut rng = instruction.generator();
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for _ in 0..STATES {
        let fpu = rng.fpu();
        let after = run(&Frame::random(instruction, &fpu, &mut rng)).significant(pointers);
        let flags = after.flags.to_le_bytes();
        let bytes = after.image.iter().chain(&after.memory[..FXSAVE_X87]).chain(&flags);
        hash = bytes.fold(hash, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    }
    hash
}

/// The lines of `silicon.txt` with digests by `run`.
fn lines(run: impl Fn(&Instruction, LastInstruction, &Frame) -> Frame) -> String {
    let mut text = String::new();
    for &(instructions, pointers) in ALL {
        for instruction in instructions {
            let digest = digest(instruction, pointers, |before| run(instruction, pointers, before));
            let _ = writeln!(text, "{digest:016x} {}", instruction.text);
        }
    }
    text
}

#[test]
fn every_instruction_leaves_the_recorded_states() {
    #[cfg(target_arch = "x86_64")]
    if crate::is_to_record() {
        return record();
    }
    let model = lines(|instruction, _, before| instruction.run_on_model(before));
    for (model, silicon) in model.lines().zip(RECORDED.lines()) {
        assert_eq!(model, silicon);
    }
    assert_eq!(model.lines().count(), RECORDED.lines().count());
}

/// Records `silicon.txt` anew.
#[cfg(target_arch = "x86_64")]
fn record() {
    let text = lines(|instruction, pointers, before| {
        instruction.run_on_silicon(before, &instruction.run_on_model(before), pointers)
    });
    std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fpu/silicon.txt"), text)
        .expect("a writable source tree");
}
