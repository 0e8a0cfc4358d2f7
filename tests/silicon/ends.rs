//! Operands, pushes and pops about the end of segments that have a base: offset 2³².

use crate::bench::Bench;
use crate::oracle::State;
use crate::random::Random;
use crate::rows::{comparable, prove};
use crate::single::{Tally, Trial};
use crate::x87;
use table86::cpu::Seg;
use table86::isa::decode::NO_REG;
use table86::isa::{Access, Also, Code, Form, Implicit, Insn, Operand};

const ESP: usize = 4;
const ESI: usize = 6;
const EDI: usize = 7;
/// Bytes about the end that operands are placed at.
const ABOUT: u32 = 20;

/// Runs each row that pushes or pops one element with ESP there; gives mismatches, written out.
pub fn prove_stack_ends(bench: &mut Bench<'_>, vectors: u32, seed: u64) -> (Tally, Vec<String>) {
    let one = |also: &Also| {
        matches!(also.place, Implicit::Above { count: 1, .. } | Implicit::Below { count: 1, .. })
    };
    let rows = |form: &Form| matches!(form.room, "stack" | "control") && form.also.iter().any(one);
    let [selector, ..] = bench.tls;
    let change = |_: &Insn, state: &mut State, random: &mut Random| {
        state.segs[Seg::Ss as usize] = selector;
        state.regs[ESP] = near_end(random);
    };
    prove_rows(bench, rows, Trial { vectors, seed, change: &change })
}

/// Runs each row that accesses memory with its operands there; gives mismatches, written out.
pub fn prove_operand_ends(bench: &mut Bench<'_>, vectors: u32, seed: u64) -> (Tally, Vec<String>) {
    let rows = |form: &Form| form.operands.iter().any(is_in_memory);
    let [selector, ..] = bench.tls;
    let change = |insn: &Insn, state: &mut State, random: &mut Random| {
        aim_at_end(insn, state, selector, random);
    };
    prove_rows(bench, rows, Trial { vectors, seed, change: &change })
}

/// An offset about the end.
fn near_end(random: &mut Random) -> u32 {
    random.below(2 * ABOUT).wrapping_sub(ABOUT)
}

/// Gives segments a base, and moves operands near the end of theirs.
fn aim_at_end(insn: &Insn, state: &mut State, selector: u16, random: &mut Random) {
    for seg in [Seg::Es, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs] {
        let is_free = seg != Seg::Ds || !x87::is_here(insn.form());
        if is_free && random.percent(80) {
            state.segs[seg as usize] = selector;
        }
    }
    for index in [ESI, EDI] {
        if insn.form().room == "string" && random.percent(70) {
            state.regs[index] = near_end(random);
        }
    }
    let Some(mem) = insn.mem.filter(|mem| mem.base != NO_REG && mem.base != mem.index) else { return };
    let distance = near_end(random).wrapping_sub(insn.offset(&state.regs));
    let base = &mut state.regs[usize::from(mem.base)];
    *base = base.wrapping_add(distance);
}

/// Whether an operand may be memory that is accessed.
fn is_in_memory(operand: &Operand) -> bool {
    let string = matches!(operand.code, Code::X | Code::Y | Code::XEdi);
    let place = string || operand.code.may_be_memory();
    place && !matches!(operand.access, Access::Address | Access::Shown)
}

/// Compares the rows that can be compared and are wanted.
fn prove_rows(
    bench: &mut Bench<'_>,
    wanted: impl Fn(&Form) -> bool,
    trial: Trial<'_>,
) -> (Tally, Vec<String>) {
    let (mut all, mut mismatches) = (Tally::default(), Vec::new());
    for (index, _) in comparable("").filter(|(_, form)| wanted(form)) {
        let (tally, found) = prove(bench, index, trial);
        all.add(tally);
        mismatches.extend(found);
    }
    (all, mismatches)
}
