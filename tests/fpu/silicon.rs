//! The comparison with the host.

use std::fmt::Write as _;

use table86::fpu::Fpu;
use table86::fpu::soft::{F80, flag};

use crate::cases::Rng;
use crate::harness::{ARITHMETIC, Frame, Instruction, LastInstruction};
use crate::instructions::{
    ADD_SUB, ALIASES, COMPARES, CONTROL, IMAGES, LOADS, MONADIC, MUL_DIV, STACK, STORES,
};
use crate::native::is_amd;

/// How many cases each instruction gets.
pub fn cases() -> u64 {
    std::env::var("TABLE86_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
}

/// Shows the state in two lines.
fn show(frame: &Frame) -> String {
    let fpu = frame.fpu();
    let mut text = format!(
        "  control {:04x} status {:04x} top {} tags {:04x} eflags {:03x} memory {:02x?}\n   ",
        fpu.control(),
        fpu.status(),
        fpu.top(),
        fpu.tag_word(),
        frame.flags & ARITHMETIC,
        &frame.memory[..10],
    );
    for i in 0..8 {
        let _ = write!(text, " {:?}", fpu.st(i));
    }
    text
}

/// Shows an instruction that came out differently.
pub fn describe(instruction: &Instruction, before: &Frame, silicon: &Frame, model: &Frame) -> String {
    format!(
        "{}\n before\n{}\n silicon\n{}\n table86\n{}\n",
        instruction.text,
        show(before),
        show(silicon),
        show(model),
    )
}

/// Whether only the processor has an underflow, where the tables say so of AMD's (`tiny-result`): a tiny operand that comes back as it
/// was, and unmasked.
fn is_tiny_result(instruction: &Instruction, silicon: &Frame, model: &Frame) -> bool {
    let scales = ["fscale", "fprem"].iter().any(|name| instruction.text.starts_with(name));
    let underflows = |frame: &Frame| frame.fpu().status() & flag::UE != 0;
    scales && is_amd() && underflows(silicon) && !underflows(model)
}

/// Runs each instruction on the same random states here and there, and shows the first differences.
fn check(instructions: &[Instruction], pointers: LastInstruction) {
    check_on(instructions.iter(), pointers, Rng::fpu);
}

/// The same on states of a kind.
fn check_on<'a>(
    instructions: impl Iterator<Item = &'a Instruction>,
    pointers: LastInstruction,
    state: impl Fn(&mut Rng) -> Fpu,
) {
    let mut report = String::new();
    for instruction in instructions {
        let mut rng = instruction.generator();
        let mut wrong = 0u64;
        for _ in 0..cases() {
            let fpu = state(&mut rng);
            let before = Frame::random(instruction, &fpu, &mut rng);
            let model = instruction.run_on_model(&before);
            let silicon = instruction.run_on_silicon(&before, &model, pointers);
            if silicon.significant(pointers) == model.significant(pointers)
                || is_tiny_result(instruction, &silicon, &model)
            {
                continue;
            }
            wrong += 1;
            if wrong <= 3 {
                report += &describe(instruction, &before, &silicon, &model);
            }
        }
        if wrong != 0 {
            let _ = writeln!(report, "{}: {wrong} of {} differ\n", instruction.text, cases());
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[test]
fn additions_and_subtractions_match_silicon() {
    check(ADD_SUB, LastInstruction::Replaced);
}

#[test]
fn multiplications_divisions_and_roots_match_silicon() {
    check(MUL_DIV, LastInstruction::Replaced);
}

#[test]
fn other_arithmetic_matches_silicon() {
    check(MONADIC, LastInstruction::Replaced);
}

/// They are left as they are, which is no underflow.
#[test]
fn denormals_by_zeros_and_infinities_match_silicon() {
    let state = |rng: &mut Rng| {
        let mut fpu = rng.fpu();
        let sign = rng.bits() as u16 & 0x8000;
        const INTEGER: u64 = 1 << 63;
        let other = if rng.one_in(2) { F80::new(sign, 0) } else { F80::new(sign | 0x7fff, INTEGER) };
        fpu.set_st(0, F80::new(rng.bits() as u16 & 0x8000, rng.word() >> 1));
        fpu.set_st(1, other);
        fpu
    };
    let instructions =
        MONADIC.iter().filter(|it| it.text.starts_with("fscale") || it.text.starts_with("fprem"));
    check_on(instructions, LastInstruction::Replaced, state);
}

#[test]
fn loads_match_silicon() {
    check(LOADS, LastInstruction::Replaced);
}

#[test]
fn stores_match_silicon() {
    check(STORES, LastInstruction::Replaced);
}

#[test]
fn comparisons_match_silicon() {
    check(COMPARES, LastInstruction::Replaced);
}

#[test]
fn stack_operations_match_silicon() {
    check(STACK, LastInstruction::Replaced);
}

#[test]
fn control_operations_match_silicon() {
    check(CONTROL, LastInstruction::Compared);
}

#[test]
fn images_match_silicon() {
    check(IMAGES, LastInstruction::Compared);
}

#[test]
fn undocumented_aliases_match_silicon() {
    check(ALIASES, LastInstruction::Replaced);
}
