//! Programs on the processor and on the machines: in one go, in pieces, and up to a limit.

use crate::bench::{Bench, Difference, Event, Left, PROGRAMS, Pace};
use crate::hot::Lines;
use crate::oracle::PAGE;
use crate::oracle::flag::ARITHMETIC;
use crate::program::{Program, Rows, write, write_modifying};
use crate::random::Random;
use crate::single::Before;
use std::fmt::{self, Write};
use table86::isa::{CONDITIONS, decode};

/// What running programs has found.
#[derive(Default)]
pub struct Outcome {
    /// Programs run.
    pub programs: u32,
    /// Instructions that the machines executed.
    pub instructions: u64,
    /// Lines of the list of specialised handlers that were used.
    pub lines: usize,
    /// Programs that ended by a fault.
    pub faulted: u32,
    /// Programs whose code was another one afterwards.
    pub modified: u32,
    /// The first programs that differ, made as short as possible.
    pub mismatches: Vec<String>,
}

/// Mismatches that are looked for.
const ENOUGH: usize = 3;

/// Runs `count` programs of these rows.
pub fn prove_programs(bench: &mut Bench<'_>, rows: &Rows, count: u32, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for number in 0..count {
        let mut random = Random::new(seed, u64::from(number));
        if number % 16 == 0 {
            bench.fill(&mut random);
        }
        let most = match random.below(100) {
            0..2 => 1980,
            2..32 => 280,
            _ => 60,
        };
        let len = 20 + random.below(most);
        let program = write(rows, len, &mut random);
        outcome.try_program(bench, program, random.next(), number);
        if outcome.mismatches.len() == ENOUGH {
            break;
        }
    }
    outcome
}

/// Runs `count` programs that store into their own code.
pub fn prove_modifying(bench: &mut Bench<'_>, count: u32, seed: u64) -> Outcome {
    let rows = Rows::choose();
    let mut outcome = Outcome::default();
    for number in 0..count {
        let mut random = Random::new(seed, u64::from(number) << 16 | 9);
        if number % 16 == 0 {
            bench.fill(&mut random);
        }
        let len = 20 + random.below(100);
        let program = write_modifying(&rows, len, &mut random);
        outcome.try_program(bench, program, random.next(), number);
        if outcome.mismatches.len() == ENOUGH {
            break;
        }
    }
    outcome
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { programs, instructions, faulted, lines, .. } = self;
        write!(f, "{programs} programs, {faulted} of them fault, {instructions} instructions")?;
        if self.modified > 0 {
            write!(f, ", {} changed their code", self.modified)?;
        }
        if *lines > 0 { write!(f, ", {lines} specialised handlers and pairs") } else { Ok(()) }
    }
}

impl Outcome {
    fn try_program(&mut self, bench: &mut Bench<'_>, program: Program, seed: u64, number: u32) {
        let Some(found) = compare(bench, &program, seed) else { return };
        self.programs += 1;
        self.instructions += found.instructions;
        self.faulted += u32::from(found.faulted);
        self.modified += u32::from(found.modified);
        if !found.differences.is_empty() {
            let whole = listing(&program);
            let program = shorten(bench, program, seed);
            let mut text = describe(bench, &program, seed, number);
            let _ = writeln!(text, "before it was shortened:\n{whole}{}", found.differences.join("\n"));
            self.mismatches.push(text);
        }
    }
}

/// Lines of the list of specialised handlers in one program.
const LINES: usize = 12;
/// Loops in one program.
const LOOPS: usize = 4;

/// Runs programs that use every `every`th line of the list of specialised handlers.
pub fn prove_hot_handlers(bench: &mut Bench<'_>, every: usize, seed: u64) -> Outcome {
    prove_lines(bench, every, seed, LINES, |lines, chosen, random| {
        lines.program(chosen.iter().copied(), random)
    })
}

/// Runs programs with a loop around every `every`th line of the list of specialised handlers.
pub fn prove_loops(bench: &mut Bench<'_>, every: usize, seed: u64) -> Outcome {
    prove_lines(bench, every, seed, LOOPS, Lines::loops)
}

fn prove_lines(
    bench: &mut Bench<'_>,
    every: usize,
    seed: u64,
    together: usize,
    compose: impl Fn(&Lines, &[usize], &mut Random) -> (Program, usize),
) -> Outcome {
    let lines = Lines::read(include_str!("../../opcodes/hot.txt"));
    let mut outcome = Outcome::default();
    let mut random = Random::new(seed, 7);
    let mut order: Vec<usize> = (0..lines.len()).filter(|at| at % every == 0).collect();
    for end in (1..order.len()).rev() {
        order.swap(end, random.below(end as u32 + 1) as usize);
    }
    for (number, lines_of_one) in order.chunks(together).enumerate() {
        if number % 16 == 0 {
            bench.fill(&mut random);
        }
        let (program, used) = compose(&lines, lines_of_one, &mut random);
        outcome.lines += used;
        outcome.try_program(bench, program, random.next(), number as u32);
        if outcome.mismatches.len() == ENOUGH {
            break;
        }
    }
    outcome
}

/// What one program showed.
#[derive(Default)]
struct Found {
    differences: Vec<String>,
    instructions: u64,
    faulted: bool,
    /// Its code was another one afterwards.
    modified: bool,
    /// A machine did not come to an end.
    endless: bool,
}

/// Runs a program everywhere, in all ways. `None` if it cannot be assembled or does not end.
fn compare(bench: &mut Bench<'_>, program: &Program, seed: u64) -> Option<Found> {
    let mut random = Random::new(seed, 5);
    let len = program.assemble(0)?.len() as u32;
    let at = if program.modifies {
        if random.percent(25) {
            bench.clear_programs();
        }
        // Mostly over the end of a page.
        PROGRAMS + (1 + random.below(16)) * PAGE - random.below(len + PAGE / 4)
    } else {
        bench.program_place(len)
    };
    let code = program.assemble(at)?;
    bench.program_goes_to(at);
    bench.load_program(&code);
    let saved = bench.save();
    let mut found = Found::default();
    for pace in [Pace::Whole, Pace::Pieces(random.next())] {
        bench.restore(&saved);
        bench.reload(at, &code);
        let silicon = bench.silicon(&code, at, &program.state);
        if silicon.event == Event::Hang {
            bench.restore(&saved);
            return None;
        }
        found.faulted = matches!(silicon.event, Event::Fault { .. });
        let (differences, instructions) = run(bench, &code, at, program, pace, &silicon);
        if !program.modifies && bench.has_changed(at, &code) {
            // Nobody reloads it, so a second run would be one of another program.
            bench.restore(&saved);
            return None;
        }
        if program.modifies {
            found.modified |= bench.has_changed(at, &code);
            found.differences.extend(bench.code_difference(at, code.len()));
        }
        found.instructions += instructions;
        found.endless |= differences.iter().any(|difference| difference.left.event == Event::Hang);
        found.differences.extend(differences.iter().map(|difference| {
            format!(
                "{} ({pace:?})\n  silicon {:?}\n  machine {:?}\n  memory (address, silicon, machine) {:x?}",
                difference.machine, difference.silicon, difference.left, difference.memory
            )
        }));
    }
    // The machines among themselves, wherever a limit stops them.
    bench.restore(&saved);
    bench.reload(at, &code);
    let limit = u64::from(random.below(1500));
    let lefts = bench.run_limited(at, &program.state, limit);
    if lefts.iter().any(|left| *left != lefts[0]) {
        found.differences.push(format!("stopped after {limit}:\n  {lefts:?}"));
    }
    bench.restore(&saved);
    // PUSHF shows the trap flag by which the processor is stepped.
    if random.percent(10) && !program.pushes_flags() {
        let steps = random.below(60);
        bench.reload(at, &code);
        let silicon = bench.silicon_steps(at, &program.state, steps);
        if let Some((silicon, flags_differ)) = silicon {
            bench.restore(&saved);
            let [(mut new, _), ..] = bench.run_limited(at, &program.state, u64::from(steps));
            if flags_differ {
                new.eflags ^= (new.eflags ^ silicon.eflags) & ARITHMETIC;
            }
            let equal = Left { event: silicon.event, ..new } == silicon;
            if !equal {
                found.differences.push(format!("{steps} steps:\n  silicon {silicon:?}\n  new     {new:?}"));
            }
        }
        bench.restore(&saved);
    }
    Some(found)
}

fn run(
    bench: &mut Bench<'_>,
    code: &[u8],
    at: u32,
    program: &Program,
    pace: Pace,
    silicon: &Left,
) -> (Vec<Difference>, u64) {
    let before = bench.instructions();
    let differences = bench.compare(code, at, &program.state, pace, silicon, |left| left == silicon);
    (differences, bench.instructions() - before)
}

/// Leaves out what is not needed for a difference.
fn shorten(bench: &mut Bench<'_>, mut program: Program, seed: u64) -> Program {
    // A program that lost its end is another one.
    let mut differs = |program: &Program| {
        compare(bench, program, seed).is_some_and(|found| !found.differences.is_empty() && !found.endless)
    };
    let mut piece = program.items.len() / 2;
    while piece > 0 {
        let mut start = 0;
        while start < program.items.len() {
            let end = (start + piece).min(program.items.len());
            let mut shorter = program.clone();
            let mut at = 0;
            shorter.items.retain(|item| {
                at += 1;
                !(start..end).contains(&(at - 1)) || item.is_frame()
            });
            if shorter.items.len() < program.items.len() && differs(&shorter) {
                program = shorter;
            } else {
                start = end;
            }
        }
        piece /= 2;
    }
    program
}

/// The instructions of a program, as they are before it runs.
fn listing(program: &Program) -> String {
    let mut text = String::new();
    let Some(code) = program.assemble(0x1000) else { return text };
    let mut at = 0;
    while let Ok(insn) = decode(&code[at..], 0x1000 + at as u32) {
        let bytes: Vec<String> =
            code[at..at + usize::from(insn.len)].iter().map(|byte| format!("{byte:02x}")).collect();
        let form = insn.form();
        let condition = form.condition.map_or("", |number| CONDITIONS[usize::from(number)].name);
        let _ = writeln!(
            text,
            "  {:04x} {:<36} {} {} {condition}",
            insn.eip,
            bytes.join(" "),
            form.mnemonic,
            form.ops
        );
        at += usize::from(insn.len);
    }
    text
}

fn describe(bench: &mut Bench<'_>, program: &Program, seed: u64, number: u32) -> String {
    let mut text = format!("program {number}\n  before  {}\n{}", Before(&program.state), listing(program));
    for difference in compare(bench, program, seed).map(|found| found.differences).unwrap_or_default() {
        let _ = writeln!(text, "{difference}");
    }
    text
}
