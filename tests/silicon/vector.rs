//! The rows with MMX and XMM registers: as the other rows, with vectors, MXCSR and the x87's state before and after.

use crate::bench::{Bench, Difference, Left, Pace, SLOT, SLOT_ENTRY};
use crate::cases::Rng;
use crate::encode::{Encoding, encode_for_slot};
use crate::exempt::departs;
use crate::operands::prepare;
use crate::oracle::{DATA, PAGE, State, WINDOW};
use crate::random::Random;
use crate::single::{Tally, Trial, describe, is_right, numbers_for};
use crate::x87::{base, choose_fpu};
use std::fmt::Write;
use table86::cpu::Seg;
use table86::cpu::image::{FXSAVE_BYTES, MXCSR_MASK};
use table86::fpu::FXSAVE_X87;
use table86::isa::decode::NO_REG;
use table86::isa::{Code, FORMS, Form, Insn, Part, Size};

/// States tried with each encoding.
const STATES: u32 = 8;
/// Differences of a row that are written out.
const SHOWN: u32 = 2;
/// Where an FXSAVE image has MXCSR.
const MXCSR: usize = 24;
/// Where an FXSAVE image has the x87's registers, 16 bytes apart.
const REGISTERS: usize = 32;
/// EDI.
const EDI: usize = 7;
/// What PCMPESTRI takes lengths from.
const LENGTHS: [u8; 2] = [0, 2];

/// Whether a row is compared here.
pub fn is_here(form: &Form) -> bool {
    let vector = |code: Code| matches!(code, Code::P | Code::Q | Code::N | Code::V | Code::W | Code::U);
    form.operands.iter().any(|operand| vector(operand.code))
        || matches!(form.body, "emms" | "ldmxcsr" | "stmxcsr")
}

/// What lanes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Integers,
    Floats,
    Doubles,
    /// Strings of few different characters, some of them with an end.
    Text,
}

fn kind(form: &Form) -> Kind {
    if form.flags.rule == "pcmpstr" {
        return Kind::Text;
    }
    if !matches!(form.room, "sse_float" | "sse_convert" | "sse4") {
        return Kind::Integers;
    }
    let name = form.mnemonic.trim_start_matches("cvtt").trim_start_matches("cvt");
    let name = name.split('2').next().unwrap_or(name);
    match &name[name.len() - 2..] {
        "ps" | "ss" => Kind::Floats,
        "pd" | "sd" => Kind::Doubles,
        _ => Kind::Integers,
    }
}

/// Compares a row. Differences are written to the report.
pub fn prove_row(bench: &mut Bench<'_>, index: usize, trial: Trial<'_>, report: &mut String) -> Tally {
    let mut random = numbers_for(&FORMS[index], trial.seed);
    let mut rng = Rng(random.next());
    let mut tally = Tally::default();
    bench.fill(&mut random);
    while tally.vectors < trial.vectors {
        let page = bench.slot_page();
        let encodings: Vec<Encoding> = (0..PAGE / SLOT)
            .map(|slot| encode_for_slot(index, page + slot * SLOT + SLOT_ENTRY, &[], &mut random))
            .collect();
        let codes: Vec<Vec<u8>> = encodings.iter().map(|encoding| encoding.bytes.clone()).collect();
        bench.load_slots(&codes);
        for encoding in &encodings {
            for _ in 0..STATES {
                let mut state = prepare(bench, encoding, &mut random);
                (trial.change)(&encoding.insn, &mut state, &mut random);
                let at = suit(bench, encoding, &mut state, &mut random, &mut rng);
                let pace = if random.percent(90) { Pace::Whole } else { Pace::Pieces(random.next()) };
                let (silicon, differences) = compare(bench, encoding, &state, pace);
                tally.note(silicon.eip == encoding.insn.eip, !differences.is_empty());
                if !differences.is_empty() && tally.differed <= SHOWN {
                    *report += &show(encoding, &state, at, &differences);
                }
            }
        }
    }
    tally
}

/// Gives the vectors, MXCSR and x87 a state, and the memory operand a value; gives its address and value.
fn suit(
    bench: &mut Bench<'_>,
    encoding: &Encoding,
    state: &mut State,
    random: &mut Random,
    rng: &mut Rng,
) -> Option<(u32, [u8; 16])> {
    let form = encoding.insn.form();
    let kind = kind(form);
    if kind == Kind::Text {
        choose_lengths(encoding, state, random);
    }
    let fpu = choose_fpu(form, random, rng);
    fpu.fxsave(state.fx.first_chunk_mut().expect("it is longer"));
    for at in (0..8).map(|number| REGISTERS + 16 * number) {
        if random.percent(80) {
            let lanes = vector(kind, random);
            state.fx[at..at + 8].copy_from_slice(&lanes[..8]);
        }
    }
    fill_xmm(state, |random| vector(kind, random), random);
    if form.operands.iter().any(|operand| operand.code == Code::XEdi) {
        let seg = encoding.insn.segment.unwrap_or(Seg::Ds);
        // By a null selector MASKMOVQ faults, but AMD's has changed the x87's tags by then.
        if state.segs[seg as usize] < 4 {
            state.segs[seg as usize] = 0x2b;
        }
        if let Some(base) = base(bench, state.segs[seg as usize]) {
            let target = match random.below(8) {
                0 => DATA + WINDOW - random.below(24),
                1 => DATA + PAGE - random.below(24),
                2 => DATA - random.below(24),
                _ => DATA + random.below(WINDOW - 16),
            };
            state.regs[EDI] = target.wrapping_sub(base);
        }
        return None;
    }
    let mem = encoding.insn.mem?;
    let base = base(bench, state.segs[mem.seg as usize])?;
    let effective = |state: &State| {
        let register = |number: u8| if number == NO_REG { 0 } else { state.regs[usize::from(number)] };
        let offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
        base.wrapping_add(if encoding.insn.addr16 { offset & 0xffff } else { offset })
    };
    if wants_alignment(form) && mem.base != NO_REG && mem.base != mem.index && random.percent(85) {
        let surplus = effective(state) & 15;
        let register = &mut state.regs[usize::from(mem.base)];
        *register = register.wrapping_sub(surplus);
    }
    let mut value = vector(kind, random);
    if form.body == "ldmxcsr" {
        let control = if random.percent(90) { random.word() & MXCSR_MASK } else { random.word() & !0x2_0000 };
        value[..4].copy_from_slice(&control.to_le_bytes());
    }
    let at = effective(state);
    bench.poke(at, &value);
    Some((at, value))
}

/// Gives the XMM registers lanes, and MXCSR something.
fn fill_xmm(state: &mut State, mut lanes: impl FnMut(&mut Random) -> [u8; 16], random: &mut Random) {
    for register in state.fx[FXSAVE_X87..FXSAVE_BYTES].chunks_exact_mut(16) {
        register.copy_from_slice(&lanes(random));
    }
    state.fx[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr(random).to_le_bytes());
}

/// Gives the XMM registers lanes of all kinds, and MXCSR something.
pub fn fill(state: &mut State, random: &mut Random) {
    let kinds = [Kind::Integers, Kind::Floats, Kind::Doubles, Kind::Text];
    fill_xmm(state, |random| vector(random.pick(&kinds), random), random);
}

/// Whether a row's memory operand has to be aligned to 16 bytes.
pub fn wants_alignment(form: &Form) -> bool {
    let whole = |size: Size| matches!(size, Size::Dq | Size::Ps | Size::Pd);
    let wants =
        form.operands.iter().any(|operand| matches!(operand.code, Code::W | Code::M) && whole(operand.size));
    wants && !form.unaligned
}

/// Lengths of strings that may be in a vector, unless the registers address memory.
fn choose_lengths(encoding: &Encoding, state: &mut State, random: &mut Random) {
    let used = |number: u8| encoding.insn.mem.is_some_and(|mem| [mem.base, mem.index].contains(&number));
    for number in LENGTHS.into_iter().filter(|number| !used(*number)) {
        if random.percent(80) {
            state.regs[usize::from(number)] = random.below(40).wrapping_sub(20);
        }
    }
}

/// A control and status word without reserved bits: mostly everything masked, flags mostly clear.
pub fn mxcsr(random: &mut Random) -> u32 {
    let flags = if random.percent(30) { random.word() & 0x3f } else { 0 };
    let masks = if random.percent(70) { 0x1f80 } else { random.word() & 0x1f80 };
    let modes = [0, 0, 0x40, 0x8000, 0x8040];
    flags | masks | random.pick(&modes) | random.below(4) << 13
}

/// A register's worth of lanes.
fn vector(kind: Kind, random: &mut Random) -> [u8; 16] {
    let mut bytes = [0; 16];
    match kind {
        Kind::Integers => {
            for lane in bytes.chunks_exact_mut(4) {
                lane.copy_from_slice(&random.operand().to_le_bytes());
            }
            if random.percent(15) {
                // A count for shifts.
                bytes[..8].copy_from_slice(&u64::from(random.below(130)).to_le_bytes());
            }
        }
        Kind::Text => {
            let first = random.pick(&[0u8, 0x61, 0x7e, 0xfe]);
            for byte in &mut bytes {
                *byte = first.wrapping_add(random.below(if first == 0 { 2 } else { 4 }) as u8);
            }
            if random.percent(40) {
                let end = random.below(16) as usize & !1;
                bytes[end..end + 2].fill(0);
            }
            if random.percent(20) {
                // As words, of which one is rarely zero.
                bytes.chunks_exact_mut(2).for_each(|word| word[1] = 0);
            }
        }
        Kind::Floats => {
            for lane in bytes.chunks_exact_mut(4) {
                lane.copy_from_slice(&(float(random, 24, 8) as u32).to_le_bytes());
            }
        }
        Kind::Doubles => {
            for lane in bytes.chunks_exact_mut(8) {
                lane.copy_from_slice(&float(random, 53, 11).to_le_bytes());
            }
        }
    }
    bytes
}

/// A floating-point number by its bits: edges, denormals, NaNs, and numbers close enough to each other for every rounding.
fn float(random: &mut Random, precision: u32, exponent_bits: u32) -> u64 {
    let fraction_bits = precision - 1;
    let ones = (1u64 << exponent_bits) - 1;
    let bias = ones >> 1;
    let mask = (1u64 << fraction_bits) - 1;
    let fraction = match random.below(6) {
        0 => 0,
        1 => mask,
        2 => 1 << random.below(fraction_bits),
        3 => mask << random.below(fraction_bits) & mask,
        4 => mask >> random.below(fraction_bits),
        _ => random.next() & mask,
    };
    let around = |random: &mut Random, center: u64, spread: u32| {
        (center + u64::from(random.below(2 * spread + 1))).saturating_sub(u64::from(spread)).min(ones)
    };
    let exponent = match random.below(20) {
        0 => 0,
        1 => ones,
        2 => random.next() & ones,
        3 => around(random, 0, precision),
        4 => around(random, ones, 3),
        5 => around(random, bias / 2, precision),
        6 => around(random, bias + bias / 2, precision),
        7 | 8 => around(random, bias, precision + 3),
        9 | 10 => bias + u64::from(random.below(36)),
        // What becomes a denormal float, or infinite.
        11 => around(random, bias.saturating_sub(127), 26),
        12 => around(random, bias + 127, 3).min(ones),
        _ => around(random, bias, 2),
    };
    let sign = u64::from(random.percent(50)) << (fraction_bits + exponent_bits);
    sign | exponent << fraction_bits | fraction
}

/// Runs one instruction everywhere.
fn compare(bench: &mut Bench<'_>, encoding: &Encoding, state: &State, pace: Pace) -> (Left, Vec<Difference>) {
    let (bytes, insn) = (&encoding.bytes, &encoding.insn);
    let silicon = bench.silicon(bytes, insn.eip, state);
    let mut differences =
        bench.compare(bytes, insn.eip, state, pace, &silicon, |left| is_right(insn, left, &silicon, state));
    let by_cs = insn.segment == Some(Seg::Cs);
    if departs(insn.form(), Part::Wrapping) && wraps(insn, state)
        || departs(insn.form(), Part::StoreByCs) && by_cs
    {
        differences.clear();
    }
    (silicon, differences)
}

/// Whether the bytes at EDI run over the end of 16-bit offsets.
fn wraps(insn: &Insn, state: &State) -> bool {
    const LONGEST: u32 = 16;
    insn.addr16 && (state.regs[EDI] & 0xffff) + LONGEST > 0x1_0000
}

fn show(
    encoding: &Encoding,
    state: &State,
    operand: Option<(u32, [u8; 16])>,
    differences: &[Difference],
) -> String {
    let mut text = describe(encoding, state, differences);
    let mut fx = |name: &str, fx: &[u8]| {
        let word = |at: usize| u16::from_le_bytes([fx[at], fx[at + 1]]);
        let _ = write!(
            text,
            "  {name:<7} mxcsr {:04x} control {:04x} status {:04x} tags {:02x}",
            word(MXCSR),
            word(0),
            word(2),
            fx[4]
        );
        for (number, register) in fx[FXSAVE_X87..FXSAVE_BYTES].chunks_exact(16).enumerate() {
            let value = u128::from_le_bytes(*register.first_chunk().expect("16 bytes"));
            let _ = write!(text, " xmm{number} {value:032x}");
        }
        for number in 0..8 {
            let at = REGISTERS + 16 * number;
            let value = u64::from_le_bytes(*fx[at..].first_chunk().expect("8 bytes"));
            let _ = write!(text, " st{number} {:04x}:{value:016x}", word(at + 8));
        }
        text.push('\n');
    };
    fx("before", &state.fx);
    for difference in differences {
        fx("silicon", &difference.silicon.fx.0);
        fx(difference.machine, &difference.left.fx.0);
    }
    if let Some((at, value)) = operand {
        let _ = writeln!(text, "  operand {at:08x}: {:032x}", u128::from_le_bytes(value));
    }
    text
}
