//! Instructions that are left and gone on with: by the trap flag behind each of them, by a limit behind each of them, and
//! string instructions by a page fault in their middle.

use crate::bench::{Bench, Event, Left, MIXED, Pace, SLOT_ENTRY, single_steps};
use crate::exempt;
use crate::oracle::{DATA, PAGE, State, flag};
use crate::program::{Rows, write};
use crate::random::Random;
use crate::single::{Before, Report, Tally, Trial, is_trap, prove_row, row};
use table86::isa::{FORMS, Flow, Form, Insn, Privilege, Rep};

const ECX: usize = 1;
const ESI: usize = 6;
const EDI: usize = 7;
/// Mismatches that are looked for.
const ENOUGH: usize = 5;

/// Whether #DB comes behind an instruction of this row, and nothing else does.
fn can_trap(form: &Form) -> bool {
    let plain = matches!(form.flow, Flow::Next | Flow::Branch | Flow::Jump | Flow::Call | Flow::Ret)
        && form.privilege == Privilege::User
        && exempt::is_comparable(form)
        && exempt::unverifiable(form).is_none();
    // POPF replaces the flag, which the exit then shows or not.
    plain
        && !matches!(form.body, "popf" | "popfd")
        && matches!(form.room, "integer" | "shift" | "bit" | "bcd" | "flag" | "stack" | "control" | "string")
}

/// Runs each row with the trap flag set, and with RF, which no instruction sees; gives how they fared, and mismatches.
pub fn prove_traps(
    bench: &mut Bench<'_>,
    vectors: u32,
    seed: u64,
    report: &mut Report,
) -> Vec<(&'static Form, Tally)> {
    let rows = FORMS.iter().enumerate().filter(|(_, form)| can_trap(form));
    let change = |_: &Insn, state: &mut State, _: &mut Random| state.eflags |= flag::TF | flag::RF;
    let trial = Trial { vectors, seed, change: &change };
    rows.map(|(index, form)| (form, prove_row(bench, index, trial, report))).collect()
}

/// Runs random programs one instruction at a time on the processor and by a limit of one on a machine; gives the number of
/// instructions, and mismatches.
pub fn prove_steps(bench: &mut Bench<'_>, programs: u32, seed: u64) -> (u64, Vec<String>) {
    const MOST_STEPS: u32 = 400;
    let rows = Rows::choose();
    let mut mismatches = Vec::new();
    let mut steps = 0;
    for number in 0..programs {
        let mut random = Random::new(seed, u64::from(number) << 32);
        bench.fill(&mut random);
        let len = 20 + random.below(60);
        let program = write(&rows, len, &mut random);
        // PUSHF shows the trap flag by which the processor is stepped.
        let Some(len) = program.assemble(0).filter(|_| !program.pushes_flags()).map(|code| code.len()) else {
            continue;
        };
        let at = bench.program_place(len as u32);
        let Some(code) = program.assemble(at) else { continue };
        bench.load_program(&code);
        bench.oracle.load(&code, at);
        let (done, difference) = single_steps(bench, at, &program.state, MOST_STEPS);
        steps += done;
        if let Some(difference) = difference {
            mismatches.push(format!("program {number}, {difference}"));
            bench.begin_anew();
        }
        if mismatches.len() == ENOUGH {
            break;
        }
    }
    (steps, mismatches)
}

/// A repeated string instruction in bytes.
fn repeated(random: &mut Random) -> Vec<u8> {
    let strings: Vec<u8> = FORMS
        .iter()
        .filter(|form| form.room == "string" && form.rep != Rep::Ignored && form.privilege == Privilege::User)
        .filter_map(|form| u8::from_str_radix(form.op.split(' ').next_back()?, 16).ok())
        .collect();
    let mut code = vec![random.pick(&[0xf2, 0xf3])];
    if random.percent(30) {
        code.push(0x66);
    }
    code.push(random.pick(&strings));
    code
}

/// Runs repeated string instructions into a page that cannot be written, opens it, and goes on; gives the number of faults
/// that were gone on from, and mismatches.
pub fn prove_restarts(bench: &mut Bench<'_>, count: u32, seed: u64) -> (u32, Vec<String>) {
    let mut random = Random::new(seed, 31);
    let mut restarts = 0;
    let mut mismatches = Vec::new();
    for number in 0..count {
        if number % 32 == 0 {
            bench.begin_anew();
        }
        let code = repeated(&mut random);
        let at = bench.slot_page() + SLOT_ENTRY;
        bench.load_slots(std::slice::from_ref(&code));
        let mut state = State::default();
        state.regs[0] = 0x8080_8080 | random.word();
        state.regs[ECX] = random.below(600);
        let backward = random.percent(40);
        state.eflags = 0x202 | random.word() & flag::ARITHMETIC | if backward { flag::DF } else { 0 };
        let mut towards = || {
            let distance = random.below(500);
            if backward { MIXED + 2 * PAGE - 4 + distance } else { MIXED + PAGE - distance }
        };
        let (source, target) = (towards(), towards());
        state.regs[ESI] = if random.percent(50) { source } else { DATA + 2 * PAGE + random.below(600) };
        state.regs[EDI] = if random.percent(70) { target } else { DATA + 2 * PAGE + random.below(600) };
        // Comparisons run for a while over equal bytes only.
        bench.open_mixed();
        bench.poke_all(MIXED, 3 * PAGE, state.regs[0] as u8);
        bench.close_mixed();
        let pace = if random.percent(70) { Pace::Whole } else { Pace::Pieces(random.next()) };
        let mut compare = |bench: &mut Bench<'_>, state: &State, what: &str| -> Option<Left> {
            let silicon = bench.silicon(&code, at, state);
            let differences = bench.compare(&code, at, state, pace, &silicon, |left| {
                let mut left = *left;
                let faulted = matches!(silicon.event, Event::Fault { .. }) && !is_trap(&silicon);
                let insn = table86::isa::decode(&code, at);
                if faulted
                    && insn.is_ok_and(|insn| exempt::departs(insn.form(), table86::isa::Part::FlagsAtFaults))
                {
                    left.eflags = silicon.eflags;
                }
                left == silicon
            });
            if !differences.is_empty() {
                mismatches.push(format!("{what} {code:02x?} from {}\n  {differences:#?}", Before(state)));
            }
            differences.is_empty().then_some(silicon)
        };
        let Some(first) = compare(bench, &state, "up to the fault") else { continue };
        bench.open_mixed();
        if matches!(first.event, Event::Fault { vector: 14, .. }) {
            restarts += 1;
            let State { segs, fx, .. } = state.clone();
            let next = State { regs: first.regs, eip: first.eip, eflags: first.eflags, segs, fx };
            compare(bench, &next, "behind the fault");
        }
        bench.close_mixed();
        if mismatches.len() >= ENOUGH {
            break;
        }
    }
    (restarts, mismatches)
}

/// Where a row stands that did not trap as often as it was run to its end.
pub fn untrapped(fared: &[(&'static Form, Tally)]) -> Vec<String> {
    fared
        .iter()
        .filter(|(_, tally)| tally.completed == 0 && tally.vectors > 0)
        .map(|(form, _)| row(form))
        .collect()
}
