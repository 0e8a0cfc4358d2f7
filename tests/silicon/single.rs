//! One instruction at a time: on the processor and on the machines, from the same state.

use crate::bench::{Bench, Difference, Event, Left, Pace, SLOT, SLOT_ENTRY, write_registers};
use crate::encode::{Encoding, encode_for_slot};
use crate::exempt::{Departure, departure};
use crate::operands::prepare;
use crate::oracle::{self, CODE, PAGE, State, WINDOW};
use crate::random::Random;
use std::collections::BTreeMap;
use std::fmt::Write;
use table86::isa::{Code, Form, Insn, Privilege, Size, flag};

/// States tried with each encoding.
const STATES: u32 = 8;
/// Mismatches of a row that are written out.
const SHOWN: u32 = 2;

/// Targets of far branches: HLT, and where nothing is.
const TARGETS: [u32; 4] = [CODE + 0x100, CODE + WINDOW - 1, CODE + WINDOW, 0x1000];

/// What the comparison has found.
#[derive(Default)]
pub struct Report {
    /// Mismatches, written out.
    pub mismatches: Vec<String>,
    /// Runs compared.
    pub vectors: u64,
    /// By rule: undefined flags that agree with the processor's, of how many.
    pub undefined: BTreeMap<&'static str, [u64; 2]>,
}

/// How one row fared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub vectors: u32,
    /// Runs in which the instruction was completed.
    pub completed: u32,
    /// Runs that faulted or trapped.
    pub faulted: u32,
    /// Runs that differed.
    pub differed: u32,
}

impl Tally {
    /// Counts a run.
    pub fn note(&mut self, faulted: bool, differed: bool) {
        self.vectors += 1;
        self.faulted += u32::from(faulted);
        self.completed += u32::from(!faulted);
        self.differed += u32::from(differed);
    }

    /// Whether the row was seen at work: as often as needed to the end, or if it only ever traps, doing that.
    pub fn is_verified(&self, form: &Form) -> bool {
        let traps = form.privilege != Privilege::User || form.flow == table86::isa::Flow::Trap;
        let seen = if traps { self.faulted } else { self.completed };
        self.differed == 0 && seen >= self.vectors.min(50) / 10
    }
}

/// Compares a row on so many states.
pub fn prove_row(bench: &mut Bench<'_>, index: usize, vectors: u32, seed: u64, report: &mut Report) -> Tally {
    let mut random = Random::new(seed, index as u64);
    let mut tally = Tally::default();
    let mut shown = 0;
    bench.fill(&mut random);
    while tally.vectors < vectors {
        let page = bench.slot_page();
        let encodings: Vec<Encoding> = (0..PAGE / SLOT)
            .map(|slot| encode_for_slot(index, page + slot * SLOT + SLOT_ENTRY, &TARGETS, &mut random))
            .collect();
        let codes: Vec<Vec<u8>> = encodings.iter().map(|encoding| encoding.bytes.clone()).collect();
        bench.load_slots(&codes);
        for encoding in &encodings {
            for _ in 0..STATES {
                let state = prepare(bench, encoding, &mut random);
                let pace = if random.percent(85) { Pace::Whole } else { Pace::Pieces(random.next()) };
                let (silicon, differences) = compare_one(bench, encoding, &state, pace, report);
                tally.vectors += 1;
                report.vectors += 1;
                match silicon.event {
                    _ if silicon.eip != encoding.insn.eip => tally.completed += 1,
                    _ => tally.faulted += 1,
                }
                if matches!(silicon.event, Event::Fault { .. }) && silicon.eip != encoding.insn.eip {
                    tally.faulted += 1;
                }
                if !differences.is_empty() {
                    tally.differed += 1;
                    if shown < SHOWN {
                        shown += 1;
                        report.mismatches.push(describe(encoding, &state, &differences));
                    }
                }
            }
        }
        if random.percent(10) {
            bench.fill(&mut random);
        }
    }
    tally
}

/// Runs one instruction everywhere.
fn compare_one(
    bench: &mut Bench<'_>,
    encoding: &Encoding,
    state: &State,
    pace: Pace,
    report: &mut Report,
) -> (Left, Vec<Difference>) {
    let (bytes, insn) = (&encoding.bytes, &encoding.insn);
    let silicon = bench.silicon(bytes, insn.eip, state);
    let undefined = undefined_flags(insn, state);
    let (mut agree, mut all) = (0, 0);
    let differences = bench.compare(bytes, insn.eip, state, pace, &silicon, |left| {
        let wrong = (left.eflags ^ silicon.eflags) & undefined;
        agree += u64::from((undefined & !wrong).count_ones());
        all += u64::from(undefined.count_ones());
        is_same(insn, left, &silicon, undefined)
    });
    if undefined != 0 {
        let sum = report.undefined.entry(insn.form().flags.rule).or_default();
        *sum = [sum[0] + agree, sum[1] + all];
    }
    (silicon, differences)
}

/// Whether a machine left what the processor did, as far as the tables promise.
pub fn is_same(insn: &Insn, left: &Left, silicon: &Left, undefined: u32) -> bool {
    let mut left = *left;
    let faulted = matches!(silicon.event, Event::Fault { .. });
    left.eflags ^= (left.eflags ^ silicon.eflags) & undefined;
    match departure(insn.form()) {
        Departure::RegistersAtFaults if faulted => left.regs = silicon.regs,
        Departure::FlagsAtFaults if faulted => {
            left.eflags ^= (left.eflags ^ silicon.eflags) & oracle::flag::ARITHMETIC;
        }
        Departure::Eip => left.eip = silicon.eip,
        _ => {}
    }
    left == *silicon
}

/// The EFLAGS bits that the row leaves undefined for this state.
pub fn undefined_flags(insn: &Insn, state: &State) -> u32 {
    let flags = &insn.form().flags;
    let case = match count(insn, state) {
        Some(0) => 0,
        Some(1) => 1,
        _ => 2,
    };
    eflags_bits(flags.undefined[if flags.by_count { case } else { 0 }])
}

/// The masked count operand.
fn count(insn: &Insn, state: &State) -> Option<u32> {
    let operands = insn.form().operands;
    let count = operands.iter().rev().find(|operand| operand.size == Size::B)?;
    Some(match count.code {
        Code::I => insn.imm & 31,
        Code::One => 1,
        Code::Reg(1) => state.regs[1] & 31,
        _ => return None,
    })
}

/// A flag mask of the tables as bits of EFLAGS.
pub fn eflags_bits(mask: u8) -> u32 {
    let bits =
        [(flag::C, 0), (flag::P, 2), (flag::A, 4), (flag::Z, 6), (flag::S, 7), (flag::O, 11), (flag::D, 10)];
    bits.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, at)| 1 << at).sum()
}

/// Where a row stands.
pub fn row(form: &Form) -> String {
    format!("opcodes/{}.toml:{} {} {} {}", form.room, form.line, form.op, form.mnemonic, form.ops)
}

/// A state to be written in one line.
pub struct Before<'a>(pub &'a State);

impl std::fmt::Display for Before<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let State { regs, eip, eflags, segs, .. } = self.0;
        write_registers(f, *regs, *eip, *eflags, *segs)
    }
}

/// Writes differences out.
pub fn describe(encoding: &Encoding, state: &State, differences: &[Difference]) -> String {
    let mut text = format!("{}\n  bytes   ", row(encoding.insn.form()));
    for byte in &encoding.bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    let _ = write!(text, "at {:08x}\n  before  {}\n", encoding.insn.eip, Before(state));
    for difference in differences {
        let _ = writeln!(text, "  silicon {:?}", difference.silicon);
        let _ = writeln!(text, "  {:<7} {:?}", difference.machine, difference.left);
        for (at, silicon, ours) in &difference.memory {
            let _ = writeln!(
                text,
                "  memory  {at:08x}: silicon {silicon:02x}, {} {ours:02x}",
                difference.machine
            );
        }
    }
    text
}
