//! The rows of the FPU and its images: as the other rows, but with the FPU's state before and after, and behind each
//! instruction an FNSTENV, so that the pointers to it are compared as well.

use crate::bench::{BASES, Bench, Difference, Event, Left, Pace, SLOT, SLOT_ENTRY};
use crate::cases::Rng;
use crate::encode::{Encoding, encode_for_slot, has_area};
use crate::exempt::{departs, has};
use crate::operands::{AREA_UNIT, area_header, prepare};
use crate::oracle::{DATA, PAGE, State, WINDOW};
use crate::random::Random;
use crate::single::{Tally, Trial, departs_in_memory, describe, is_fault, is_right, numbers_for};
use std::fmt::Write;
use table86::cpu::Seg;
use table86::cpu::image::{FXSAVE_BYTES, LEGACY_BYTES, MXCSR_MASK, XSAVE_BYTES, component};
use table86::fpu::soft::{F80, flag};
use table86::fpu::{FXSAVE_X87, Fpu};
use table86::isa::decode::NO_REG;
use table86::isa::{Code, FORMS, Form, Part, Size, decode};

/// States tried with each encoding.
const STATES: u32 = 8;
/// Differences of a row that are written out.
const SHOWN: u32 = 2;
/// Runs of a case that differs: a context switch may lose the pointers on the processor.
const TRIES: u32 = 3;
/// Where FNSTENV stores.
const ENVIRONMENT: u32 = DATA + WINDOW - 64;
/// Where the 32-bit environment has the status word, FCS with FOP behind it, and FDP with FDS behind it.
const STATUS: u32 = 4;
const FCS: u32 = 16;
const FDP: u32 = 20;
/// The bit of the status word that tells of an unmasked exception.
const PENDING: u8 = 0x80;
/// What chooses among the states of an XSAVE area.
const EAX: usize = 0;
/// Where an FXSAVE image has MXCSR.
const MXCSR: usize = 24;

/// Whether a row is compared here.
pub fn is_here(form: &Form) -> bool {
    form.room.starts_with("x87") || form.room == "fxsave"
}

/// Compares a row. Differences are written to the report.
pub fn prove_row(bench: &mut Bench<'_>, index: usize, trial: Trial<'_>, report: &mut String) -> Tally {
    let mut random = numbers_for(&FORMS[index], trial.seed);
    let mut rng = Rng(random.next());
    let mut tally = Tally::default();
    bench.fill(&mut random);
    while tally.vectors < trial.vectors {
        let page = bench.slot_page();
        let mut codes = Vec::new();
        let mut first = Vec::new();
        for slot in 0..PAGE / SLOT {
            let encoding = encode_for_slot(index, page + slot * SLOT + SLOT_ENTRY, &[], &mut random);
            let state = prepare(bench, &encoding, &mut random);
            let mut code = encoding.bytes.clone();
            if let Some(base) = base(bench, state.segs[Seg::Ds as usize]) {
                code.extend(tail(encoding.insn.form(), ENVIRONMENT.wrapping_sub(base)));
            }
            codes.push(code);
            first.push((encoding, state.segs[Seg::Ds as usize]));
        }
        bench.load_slots(&codes);
        for ((encoding, ds), code) in first.iter().zip(&codes) {
            for _ in 0..STATES {
                // The code behind the instruction depends on DS.
                let mut state = prepare(bench, encoding, &mut random);
                while state.segs[Seg::Ds as usize] != *ds {
                    state = prepare(bench, encoding, &mut random);
                }
                (trial.change)(&encoding.insn, &mut state, &mut random);
                let operand = suit(bench, encoding, &mut state, &mut random, &mut rng);
                if operand.as_ref().is_some_and(|operand| operand.wraps) {
                    continue;
                }
                let pace = if random.percent(90) { Pace::Whole } else { Pace::Pieces(random.next()) };
                let (silicon, differences) = compare(bench, encoding, code, &state, pace, &operand);
                tally.note(silicon.eip == encoding.insn.eip, !differences.is_empty());
                if !differences.is_empty() && tally.differed <= SHOWN {
                    *report += &show(encoding, &state, &operand, &differences);
                }
            }
        }
    }
    tally
}

/// What stands behind an instruction that leaves pointers: FNSTENV to an offset in DS; then zeros over what depends on
/// the processor, or on what it had before.
fn tail(form: &Form, offset: u32) -> Vec<u8> {
    if !form.needs_eip {
        return Vec::new();
    }
    let mut code = vec![0xd9, 0x35];
    code.extend(offset.to_le_bytes());
    if departs(form, Part::LastPlace) {
        // C1: mov byte [status + 1], 0
        code.extend([0xc6, 0x05]);
        code.extend(offset.wrapping_add(STATUS + 1).to_le_bytes());
        code.push(0);
    }
    if !form.operands.iter().any(|operand| operand.code == Code::M) {
        // FDP stays, but not over FXRSTOR: mov dword [fdp], 0
        for at in [FDP, FDP + 4] {
            code.extend([0xc7, 0x05]);
            code.extend(offset.wrapping_add(at).to_le_bytes());
            code.extend([0; 4]);
        }
    }
    code
}

/// Replaces the pointers in an image that the processor has stored by those of the state before, and MXCSR's mask by
/// the machine's: AMD's FXRSTOR loads and FXSAVE stores pointers only while an exception is pending.
fn fill_in(bench: &mut Bench<'_>, encoding: &Encoding, state: &State, at: u32) {
    let mut before = Fpu::default();
    before.fxrstor(state.fx.first_chunk().expect("it is longer"));
    let mut put = |from: usize, bytes: &[u8]| {
        bench.oracle.bytes_mut(at.wrapping_add(from as u32), bytes.len()).copy_from_slice(bytes);
    };
    match (encoding.insn.form().mnemonic, encoding.insn.opsize16) {
        ("fnstenv" | "fnsave", true) => put(6, &before.env16()[6..]),
        ("fnstenv" | "fnsave", false) => put(12, &before.env32()[12..]),
        ("fxsave" | "xsave", _) => {
            let mut image = [0; FXSAVE_X87];
            before.fxsave(&mut image);
            let wanted = if has_area(encoding.insn.form()) { state.regs[EAX] } else { u32::MAX };
            if wanted & component::X87 != 0 {
                put(6, &image[6..MXCSR]);
            }
            if wanted & component::SSE != 0 {
                put(MXCSR + 4, &MXCSR_MASK.to_le_bytes());
            }
        }
        _ => {}
    }
}

/// Replaces pointers that this processor keeps from before, or does not have any more, by those that the machine stores:
/// only where they are what the tables say.
fn mend_pointers(bench: &mut Bench<'_>, encoding: &Encoding, state: &State, operand: &Option<Memory>) {
    if !encoding.insn.form().needs_eip {
        return;
    }
    let mut before = Fpu::default();
    before.fxrstor(state.fx.first_chunk().expect("it is longer"));
    let before = before.pointers;
    let selector = encoding.insn.mem.map_or(0, |mem| state.segs[mem.seg as usize]);
    let base = base(bench, selector).unwrap_or(0);
    let unmasked = bench.oracle.bytes(ENVIRONMENT + STATUS, 1)[0] & PENDING != 0;
    let no_selectors = has("ZERO_FCS_FDS");
    let mut mend = |at: u32, theirs: &[u8], ours: &[u8]| {
        let bytes = bench.oracle.bytes_mut(ENVIRONMENT + at, ours.len());
        if bytes == theirs {
            bytes.copy_from_slice(ours);
        }
    };
    if no_selectors {
        mend(FCS, &[0; 2], &state.segs[Seg::Cs as usize].to_le_bytes());
    }
    if !unmasked {
        mend(FCS + 2, &before.fop.to_le_bytes(), &fop(&encoding.bytes).to_le_bytes());
    }
    let Some(Memory { at, .. }) = operand else { return };
    if no_selectors {
        mend(FDP + 4, &[0; 2], &selector.to_le_bytes());
    }
    if !unmasked && has("FDP_EXCPTN_ONLY") {
        mend(FDP, &before.fdp.to_le_bytes(), &at.wrapping_sub(base).to_le_bytes());
    }
}

/// Whether the processor kept a store from memory, and from the fault that the machines raise, as the tables say of it.
fn is_kept_store(bench: &Bench<'_>, encoding: &Encoding, silicon: &Left, differences: &[Difference]) -> bool {
    departs(encoding.insn.form(), Part::UnmaskedStore)
        && silicon.event == Event::End
        && (bench.oracle.bytes(ENVIRONMENT + STATUS, 1)[0] | silicon.fx.0[2]) & PENDING != 0
        && differences.iter().all(|difference| is_fault(&difference.left))
}

/// The low three bits of the first opcode byte, and the second one.
fn fop(bytes: &[u8]) -> u16 {
    let at = bytes.iter().position(|byte| (0xd8..=0xdf).contains(byte)).unwrap_or_default();
    u16::from(bytes[at] & 7) << 8 | u16::from(bytes[at + 1])
}

/// Base of a segment, or `None` of a null one.
pub fn base(bench: &Bench<'_>, selector: u16) -> Option<u32> {
    let tls = bench.tls.iter().position(|tls| *tls == selector).map(|slot| BASES[slot]);
    tls.or((selector & !3 != 0).then_some(0))
}

/// A memory operand: its address and what it holds.
struct Memory {
    at: u32,
    bytes: Vec<u8>,
    /// It runs over the end of 16-bit offsets. The processor goes on at offset 0, the machine behind the end.
    wraps: bool,
}

/// Gives the FPU a state, and a memory operand a value that suits the instruction.
fn suit(
    bench: &mut Bench<'_>,
    encoding: &Encoding,
    state: &mut State,
    random: &mut Random,
    rng: &mut Rng,
) -> Option<Memory> {
    let form = encoding.insn.form();
    let fpu = choose_fpu(form, random, rng);
    fpu.fxsave(state.fx.first_chunk_mut().expect("it is longer"));
    for byte in &mut state.fx[FXSAVE_X87..FXSAVE_BYTES] {
        *byte = random.word() as u8;
    }
    state.fx[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr(random).to_le_bytes());
    let mem = encoding.insn.mem?;
    let base = base(bench, state.segs[mem.seg as usize])?;
    let effective = |state: &State| {
        let register = |number: u8| if number == NO_REG { 0 } else { state.regs[usize::from(number)] };
        let offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
        base.wrapping_add(if encoding.insn.addr16 { offset & 0xffff } else { offset })
    };
    if form.room == "fxsave" && mem.base != NO_REG && mem.base != mem.index && random.percent(85) {
        let surplus = effective(state) & if has_area(form) { AREA_UNIT - 1 } else { 15 };
        let register = &mut state.regs[usize::from(mem.base)];
        *register = register.wrapping_sub(surplus);
    }
    let mut bytes = value(form, random, rng);
    if form.room == "fxsave" {
        let mxcsr = if random.percent(90) { mxcsr(random) } else { random.word() };
        bytes[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
    }
    let at = effective(state);
    bench.poke(at, &bytes);
    let wraps = encoding.insn.addr16 && at.wrapping_sub(base) as usize + bytes.len() > 0x1_0000;
    Some(Memory { at, bytes, wraps })
}

/// A control and status word of SSE without reserved bits.
fn mxcsr(random: &mut Random) -> u32 {
    random.word() & 0xffff
}

/// A state of the FPU, sometimes with an exception pending.
pub fn choose_fpu(form: &Form, random: &mut Random, rng: &mut Rng) -> Fpu {
    let mut fpu = match form.body {
        "f2xm1" => rng.transcendental(0, 70),
        "fyl2xp1" => rng.transcendental(-2, 70),
        "fyl2x" | "fpatan" => rng.transcendental(40, 80),
        "fsin" | "fcos" | "fsincos" | "fptan" => rng.transcendental(64, 140),
        _ => rng.fpu(),
    };
    if random.percent(4) {
        fpu.set_control(fpu.control() & !(random.word() as u16 & flag::EXCEPTIONS));
        fpu.set_status(fpu.status() | random.word() as u16 & (flag::EXCEPTIONS | flag::SF));
    }
    fpu
}

/// Bytes for the memory operand.
fn value(form: &Form, random: &mut Random, rng: &mut Rng) -> Vec<u8> {
    let operand = form.operands.iter().find(|operand| operand.code == Code::M);
    let real = form.body.ends_with("_real");
    match operand.map(|operand| operand.size) {
        Some(Size::D) if real => rng.f32().to_le_bytes().to_vec(),
        Some(Size::Q) if real => rng.f64().to_le_bytes().to_vec(),
        Some(Size::W | Size::D | Size::Q) => rng.integer().to_le_bytes().to_vec(),
        Some(Size::T) if form.body == "fbld" => rng.bcd().to_vec(),
        Some(Size::T) => rng.f80(0x3fff).to_bytes().to_vec(),
        Some(Size::Xs) => {
            let mut bytes: Vec<u8> = (0..XSAVE_BYTES).map(|_| random.word() as u8).collect();
            bytes[LEGACY_BYTES..LEGACY_BYTES + 24].copy_from_slice(&area_header(random));
            bytes
        }
        _ => (0..LEGACY_BYTES).map(|_| random.word() as u8).collect(),
    }
}

/// Runs one instruction everywhere; again if it differs, for the processor may have lost the pointers.
fn compare(
    bench: &mut Bench<'_>,
    encoding: &Encoding,
    code: &[u8],
    state: &State,
    pace: Pace,
    operand: &Option<Memory>,
) -> (Left, Vec<Difference>) {
    let rounds_otherwise = departs(encoding.insn.form(), Part::LastPlace);
    let underflows = departs(encoding.insn.form(), Part::TinyResult);
    let mut tries = 0;
    loop {
        let silicon = bench.silicon(code, encoding.insn.eip, state);
        if let Some(Memory { at, .. }) = operand
            && silicon.event == Event::End
        {
            fill_in(bench, encoding, state, *at);
        }
        let shows_pointers = code.len() > encoding.bytes.len();
        if silicon.event == Event::End && shows_pointers && departs(encoding.insn.form(), Part::Pointers) {
            mend_pointers(bench, encoding, state, operand);
        }
        let differences = bench.compare(code, encoding.insn.eip, state, pace, &silicon, |left| {
            is_right(&encoding.insn, left, &silicon, state)
                || rounds_otherwise && is_close(left, &silicon)
                || underflows && silicon.fx.has_underflow() && !left.fx.has_underflow()
        });
        if is_kept_store(bench, encoding, &silicon, &differences)
            || departs_in_memory(bench, &encoding.insn, state, &silicon, &differences)
        {
            return (silicon, Vec::new());
        }
        tries += 1;
        if differences.is_empty() || tries == TRIES {
            return (silicon, differences);
        }
        if let Some(Memory { at, bytes, .. }) = operand {
            bench.poke(*at, bytes);
        }
    }
}

/// Whether two states differ in nothing but C1 and by one unit in the last place of the stack's upper two.
fn is_close(left: &Left, silicon: &Left) -> bool {
    let [mut left, mut silicon] = [*left, *silicon];
    for i in 0..2 {
        let at = 32 + 16 * i;
        let value = |left: &Left| F80::from_bytes(*left.fx.0[at..].first_chunk().expect("ten bytes"));
        let place = |value: F80| (u128::from(value.se & 0x7fff) << 63) + u128::from(value.sig);
        let (a, b) = (value(&left), value(&silicon));
        if a.sign() == b.sign() && place(a).abs_diff(place(b)) <= 1 {
            left.fx.0[at..at + 10].fill(0);
            silicon.fx.0[at..at + 10].fill(0);
        }
    }
    for left in [&mut left, &mut silicon] {
        left.fx.0[3] &= !((flag::C1 >> 8) as u8);
    }
    left == silicon
}

fn show(encoding: &Encoding, state: &State, operand: &Option<Memory>, differences: &[Difference]) -> String {
    let mut text = describe(encoding, state, differences);
    let mut fx = |name: &str, fx: &[u8]| {
        let mut fpu = Fpu::default();
        fpu.fxrstor(fx.first_chunk().expect("it is longer"));
        let [control, status, tags] = [fpu.control(), fpu.status(), u16::from(fpu.tags())];
        let _ = write!(text, "  {name:<7} control {control:04x} status {status:04x} tags {tags:02x}");
        for i in 0..8 {
            let _ = write!(text, " {:?}", fpu.st(i));
        }
        text.push('\n');
    };
    fx("before", &state.fx);
    for difference in differences {
        fx("silicon", &difference.silicon.fx.0);
        fx(difference.machine, &difference.left.fx.0);
    }
    if let Some(Memory { at, bytes, .. }) = operand {
        let shown = &bytes[..bytes.len().min(28)];
        let _ = writeln!(text, "  operand {at:08x}: {shown:02x?}");
    }
    text
}

/// Tries each ModRM byte behind the FPU's opcodes: where no row is, the processor raises #UD, and only there.
pub fn prove_gaps(bench: &mut Bench<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for opcode in 0xd8..=0xdfu8 {
        // Absolute addresses, and all of the registers.
        for modrm in (0..8).map(|reg| reg << 3 | 5).chain(0xc0..=0xff) {
            let mut code = vec![opcode, modrm];
            if modrm < 0xc0 {
                code.extend(DATA.to_le_bytes());
            }
            let at = bench.slot_page() + SLOT_ENTRY;
            bench.load_slots(std::slice::from_ref(&code));
            let silicon = bench.silicon(&code, at, &State::default());
            let undefined = matches!(silicon.event, Event::Fault { vector: 6, .. });
            if undefined != decode(&code, at).is_err() {
                wrong.push(format!("{opcode:02x} {modrm:02x}: silicon {:x?}", silicon.event));
            }
        }
    }
    wrong
}
