//! One instruction at a time: on the processor and on the machines, from the same state.

use crate::bench::{Bench, Difference, Event, Left, Pace, SLOT, SLOT_ENTRY, write_registers};
use crate::encode::{Encoding, encode_for_slot};
use crate::exempt::{UndefinedFlags, departs, departs_always};
use crate::operands::prepare;
use crate::oracle::{self, CODE, Fault, PAGE, State, WINDOW};
use crate::random::{Random, digest};
use std::collections::BTreeMap;
use std::fmt::Write;
use table86::cpu::image::XSAVE_BYTES;
use table86::fpu::FXSAVE_X87;
use table86::isa::decode::{NO_REG, operand_bytes};
use table86::isa::proof::key;
use table86::isa::{Code, FORMS, Form, Insn, Operand, Part, Privilege, Size, flag};

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
    /// By rule, case and undefined flag.
    pub undefined: BTreeMap<(&'static str, usize, u32), Seen>,
}

/// What the processor was seen to do with an undefined flag.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Runs.
    pub all: u64,
    /// It was clear afterwards.
    pub clear: u64,
    /// It was what it was before.
    pub kept: u64,
    /// It was what we make of it.
    pub same: u64,
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

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: Tally) {
        self.vectors += other.vectors;
        self.completed += other.completed;
        self.faulted += other.faulted;
        self.differed += other.differed;
    }

    /// Whether the row was seen at work: as often as needed to the end, or if it only ever traps, doing that.
    pub fn is_verified(&self, form: &Form) -> bool {
        let traps = form.privilege != Privilege::User || form.flow == table86::isa::Flow::Trap;
        let seen = if traps { self.faulted } else { self.completed };
        self.differed == 0 && seen >= self.vectors.min(50) / 10
    }
}

/// Random numbers for a row: the same wherever it stands in its table.
pub fn numbers_for(form: &Form, seed: u64) -> Random {
    Random::new(seed, digest(0, key(form).join("\t").as_bytes()))
}

/// How a row is tried.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// On so many states.
    pub vectors: u32,
    /// Chooses them.
    pub seed: u64,
    /// Changes each before it is run: registers, flags and segments; for rows of the x87 not DS.
    pub change: &'a dyn Fn(&Insn, &mut State, &mut Random),
}

impl Trial<'_> {
    /// On states as they are chosen.
    pub fn plain(vectors: u32, seed: u64) -> Self {
        Trial { vectors, seed, change: &|_, _, _| {} }
    }
}

/// Compares a row.
pub fn prove_row(bench: &mut Bench<'_>, index: usize, trial: Trial<'_>, report: &mut Report) -> Tally {
    let mut random = numbers_for(&FORMS[index], trial.seed);
    let mut tally = Tally::default();
    let mut shown = 0;
    bench.fill(&mut random);
    while tally.vectors < trial.vectors {
        let page = bench.slot_page();
        let encodings: Vec<Encoding> = (0..PAGE / SLOT)
            .map(|slot| encode_for_slot(index, page + slot * SLOT + SLOT_ENTRY, &TARGETS, &mut random))
            .collect();
        let codes: Vec<Vec<u8>> = encodings.iter().map(|encoding| encoding.bytes.clone()).collect();
        bench.load_slots(&codes);
        for encoding in &encodings {
            for _ in 0..STATES {
                let mut state = prepare(bench, encoding, &mut random);
                (trial.change)(&encoding.insn, &mut state, &mut random);
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
    let undefined = UndefinedFlags::of(insn, state);
    let faulted = is_fault(&silicon);
    let mut ours = silicon.eflags;
    let mut differences = bench.compare(bytes, insn.eip, state, pace, &silicon, |left| {
        ours = left.eflags;
        is_right(insn, left, &silicon, state)
    });
    if departs_in_memory(bench, insn, state, &silicon, &differences) {
        differences.clear();
    }
    let rule = insn.form().flags.rule;
    for bit in (0..32).map(|bit| 1 << bit).filter(|bit| !faulted && undefined.all & bit != 0) {
        let seen = report.undefined.entry((rule, flag_case(insn, state), bit)).or_default();
        seen.all += 1;
        seen.clear += u64::from(silicon.eflags & bit == 0);
        seen.kept += u64::from((silicon.eflags ^ state.eflags) & bit == 0);
        seen.same += u64::from((silicon.eflags ^ ours) & bit == 0);
    }
    (silicon, differences)
}

/// Whether a run ended by a fault, before its instruction was completed.
pub fn is_fault(left: &Left) -> bool {
    matches!(left.event, Event::Fault { .. }) && !is_trap(left)
}

/// Whether a run ended by #DB.
pub fn is_trap(left: &Left) -> bool {
    matches!(left.event, Event::Fault { vector: Fault::DB, .. })
}

/// Status flags that a machine left otherwise than the row's flag rule declares: as 0, as 1, or as they were.
fn undeclared_flags(insn: &Insn, left: &Left, before: &State) -> u32 {
    let Some(rule) = insn.form().flag_rule() else { return 0 };
    // A fault where a branch has gone to comes behind it.
    let completed = match left.event {
        Event::End | Event::Syscall => true,
        Event::Fault { .. } => left.eip != insn.eip,
        Event::Hang | Event::Todo => false,
    };
    if !completed {
        return 0;
    }
    let case = flag_case(insn, before);
    let [written, set, cleared] =
        [rule.written, rule.set, rule.cleared].map(|masks| eflags_bits(masks[case]));
    let kept = oracle::flag::ARITHMETIC & !(written | set | cleared);
    set & !left.eflags | cleared & left.eflags | kept & (left.eflags ^ before.eflags)
}

/// Whether a machine left what the processor did, and what the row's flag rule declares.
pub fn is_right(insn: &Insn, left: &Left, silicon: &Left, before: &State) -> bool {
    is_same(insn, left, silicon, before) && undeclared_flags(insn, left, before) == 0
}

/// Whether a machine left what the processor did, but for what the tables say of this processor.
pub fn is_same(insn: &Insn, left: &Left, silicon: &Left, before: &State) -> bool {
    let mut left = *left;
    let form = insn.form();
    if departs(form, Part::Alignment)
        && is_general_protection(&left)
        && may_be_aligned_otherwise(insn, before)
    {
        return true;
    }
    // At a fault, or a trap between two repetitions.
    let is_within = is_fault(silicon) || is_trap(silicon) && silicon.eip == insn.eip;
    if is_within && departs(form, Part::FlagsAtFaults) {
        left.eflags ^= (left.eflags ^ silicon.eflags) & oracle::flag::ARITHMETIC;
    }
    if touches_more(form, silicon) {
        return true;
    }
    if is_fault(silicon) {
        if departs(form, Part::RegistersAtFaults) {
            left.regs = silicon.regs;
        }
        let wraps = departs_always(Part::EndOfMemory) && wraps_here(left.event, silicon.event);
        if departs(form, Part::Fault) && is_fault(&left) || wraps {
            left.event = silicon.event;
        }
        if departs(form, Part::FpuAtFaults) && silicon.fx.top() == 0 {
            left.fx.rewind();
        }
    } else {
        left.eflags = UndefinedFlags::of(insn, before).as_here(left.eflags, before.eflags, silicon.eflags);
        if is_beyond_width(insn, before) {
            left.eflags ^= (left.eflags ^ silicon.eflags) & oracle::flag::ARITHMETIC;
            if insn.mem.is_none() {
                let number = usize::from(insn.rm());
                left.regs[number] = left.regs[number] & !0xffff | silicon.regs[number] & 0xffff;
            }
        }
        if let Some((register, bits)) = undefined_bits(insn, before) {
            left.fx.take_bits(&silicon.fx, register, bits);
        }
        if departs(form, Part::Nan) {
            let register = usize::from(insn.reg());
            left.fx.take_bits(&silicon.fx, register, nans_in_both(form, &left, silicon, register));
        }
    }
    if departs(form, Part::Eip) {
        left.eip = silicon.eip;
    }
    left == *silicon
}

/// The bits of a vector register that the manual leaves undefined for this instruction, where the tables say that this processor
/// may do otherwise.
fn undefined_bits(insn: &Insn, before: &State) -> Option<(usize, u128)> {
    const WIDTH: u8 = 64;
    let form = insn.form();
    if !departs(form, Part::UndefinedBits) {
        return None;
    }
    let by_immediates = form.imms.len() == 2;
    let source = &before.fx[FXSAVE_X87 + 16 * usize::from(insn.rm())..][..16];
    let (length, place) = match form.mnemonic {
        _ if by_immediates => (insn.imm as u8, insn.imm2 as u8),
        "extrq" => (source[0], source[1]),
        _ => (source[8], source[9]),
    };
    let (length, place) = (length % WIDTH, place % WIDTH);
    let length = if length == 0 { WIDTH } else { length };
    let bits = if length + place > WIDTH { u128::MAX } else { u128::MAX << WIDTH };
    let register = if form.mnemonic == "extrq" && by_immediates { insn.rm() } else { insn.reg() };
    Some((usize::from(register), bits))
}

/// Whether a page fault may be due to bytes that we do not touch, by the tables.
fn touches_more(form: &Form, silicon: &Left) -> bool {
    departs(form, Part::Touched) && matches!(silicon.event, Event::Fault { vector: Fault::PF, .. })
}

/// Whether a run ended by #GP(0).
fn is_general_protection(left: &Left) -> bool {
    matches!(left.event, Event::Fault { vector: Fault::GP, error: 0, .. })
}

/// Whether #GP for an operand's alignment may be due: it is not aligned, or the instruction loads what says so.
fn may_be_aligned_otherwise(insn: &Insn, before: &State) -> bool {
    const VECTOR: u32 = 16;
    let is_vector = |operand: &Operand| operand_bytes(operand.size, insn.opsize16) == VECTOR;
    // Bases of segments are aligned.
    !insn.form().operands.iter().any(is_vector)
        || operand_offset(insn, before).is_some_and(|at| !at.is_multiple_of(VECTOR))
}

/// The bits of a vector register's elements that are NaNs both here and there.
fn nans_in_both(form: &Form, left: &Left, silicon: &Left, register: usize) -> u128 {
    let doubles = form.operands.iter().any(|operand| operand.size == Size::Pd);
    let [left, silicon] = [left, silicon].map(|left| left.fx.vector(register));
    let width = if doubles { 64 } else { 32 };
    let element = |value: u128, at: u32| (value >> at) as u64 & u64::MAX >> (64 - width);
    let is_nan = |bits: u64| match doubles {
        true => f64::from_bits(bits).is_nan(),
        false => f32::from_bits(bits as u32).is_nan(),
    };
    let places = (0..128).step_by(width as usize);
    let nans = places.filter(|&at| is_nan(element(left, at)) && is_nan(element(silicon, at)));
    nans.map(|at| u128::from(u64::MAX >> (64 - width)) << at).sum()
}

/// Whether an operand over the end of the 4 GiB raised #GP or #SS here, and on the processor a page fault about there.
fn wraps_here(ours: Event, silicon: Event) -> bool {
    const LONGEST: u32 = XSAVE_BYTES as u32;
    let about = |cr2: u32| cr2.wrapping_add(LONGEST) < 2 * LONGEST;
    matches!(ours, Event::Fault { vector: Fault::GP | Fault::SS, error: 0, .. })
        && matches!(silicon, Event::Fault { vector: Fault::PF, cr2, .. } if about(cr2))
}

/// Whether a count beyond the operand's width leaves what the tables say that this processor chooses otherwise.
fn is_beyond_width(insn: &Insn, before: &State) -> bool {
    const WIDTH: u32 = 16;
    departs(insn.form(), Part::BeyondWidth)
        && insn.opsize16
        && count(insn, before).is_some_and(|count| count > WIDTH)
}

/// Whether what differs in memory, or the fault for it, is what the tables say that this processor accesses otherwise.
pub fn departs_in_memory(
    bench: &Bench<'_>,
    insn: &Insn,
    state: &State,
    silicon: &Left,
    differences: &[Difference],
) -> bool {
    let others_equal = differences.iter().all(|difference| is_same(insn, &difference.left, silicon, state));
    let within = |start: u32, len: u32| {
        let mut places = differences.iter().flat_map(|difference| &difference.memory);
        places.all(|(at, ..)| at.wrapping_sub(start) < len)
    };
    if is_beyond_width(insn, state) && insn.mem.is_some() {
        return others_equal && operand_address(bench, insn, state).is_some_and(|at| within(at, 2));
    }
    if touches_more(insn.form(), silicon) {
        return others_equal;
    }
    if is_fault(silicon) && departs(insn.form(), Part::StoredAtFaults) {
        const STORED: u32 = 8;
        return others_equal && operand_address(bench, insn, state).is_some_and(|at| within(at, STORED));
    }
    if !departs(insn.form(), Part::AccessWidth) || insn.opsize16 {
        return false;
    }
    const ESP: usize = 4;
    const DWORD: u32 = 4;
    let Some(base) = crate::x87::base(bench, state.segs[oracle::seg::SS]) else { return false };
    let top = base.wrapping_add(state.regs[ESP]);
    let slot = match insn.form().mnemonic {
        "push" => top.wrapping_sub(DWORD),
        "retf" => top.wrapping_add(DWORD),
        _ => top,
    };
    let straddles = slot % PAGE > PAGE - DWORD;
    straddles || others_equal && within(slot.wrapping_add(2), 2)
}

/// Where the memory operand is; `None` by a null selector.
fn operand_address(bench: &Bench<'_>, insn: &Insn, state: &State) -> Option<u32> {
    let offset = operand_offset(insn, state)?;
    Some(crate::x87::base(bench, state.segs[insn.mem?.seg as usize])?.wrapping_add(offset))
}

/// Where it is in its segment.
fn operand_offset(insn: &Insn, state: &State) -> Option<u32> {
    let mem = insn.mem?;
    let register = |number: u8| if number == NO_REG { 0 } else { state.regs[usize::from(number)] };
    let offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
    Some(if insn.addr16 { offset & 0xffff } else { offset })
}

/// Which case of its flag rule an instruction is: 0 unless the rule goes by the count.
pub fn flag_case(insn: &Insn, state: &State) -> usize {
    match count(insn, state) {
        _ if !insn.form().flags.by_count => 0,
        Some(0) => 0,
        Some(1) => 1,
        _ => 2,
    }
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
        let (insn, left) = (&encoding.insn, &difference.left);
        let undeclared = undeclared_flags(insn, left, state);
        if undeclared != 0 && difference.memory.is_empty() && is_same(insn, left, &difference.silicon, state)
        {
            let rule = insn.form().flags.rule;
            let _ = writeln!(text, "  flags   {undeclared:#x} are not what rule {rule} declares of them");
        }
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
