//! What the processor refuses: LOCK where it is not legal, opcodes that are none, more than 15 bytes, and instructions
//! of which a part cannot be fetched. The machines refuse the same, by the same fault.

use crate::bench::{Bench, Event, Left, Pace, SLOT, SLOT_ENTRY};
use crate::encode::{Options, encode};
use crate::exempt;
use crate::oracle::{DATA, Fault, PAGE, STACK, State, WINDOW, flag};
use crate::random::Random;
use crate::single::{Before, row};
use iced_x86::{Decoder, DecoderOptions};
use table86::isa::decode::MAX_LEN;
use table86::isa::{Code, DecodeError, FORMS, Form, Part, decode};

/// Mismatches that are looked for.
const ENOUGH: usize = 8;

/// What trying refused encodings has found.
#[derive(Default)]
pub struct Refused {
    /// Runs compared.
    pub runs: u64,
    /// Runs that ended by #UD, #GP and #PF.
    pub faults: [u64; 3],
    /// The first mismatches.
    pub mismatches: Vec<String>,
}

impl Refused {
    fn count(&mut self, event: Event) {
        self.runs += 1;
        let at = match event {
            Event::Fault { vector: Fault::UD, .. } => 0,
            Event::Fault { vector: Fault::GP, .. } => 1,
            Event::Fault { vector: Fault::PF, .. } => 2,
            _ => return,
        };
        self.faults[at] += 1;
    }

    fn is_enough(&self) -> bool {
        self.mismatches.len() >= ENOUGH
    }
}

/// Encodings without prefixes that need not be there, whose operands lie in the data.
const OPTIONS: Options<'static> = Options {
    absolute: &[DATA + 0x40],
    targets: &[DATA],
    reach: [100, 100],
    exit: 16,
    frame: None,
    decorate: false,
};

fn state(random: &mut Random) -> State {
    let mut state = State::default();
    state.regs = [0; 8].map(|_: u32| DATA + (random.below(WINDOW - 64) & !15));
    state.regs[4] = STACK + WINDOW / 2;
    state.eflags |= random.word() & flag::ARITHMETIC;
    state
}

/// Whether nothing but the fault is left, where the instruction stands.
fn is_refused(left: &Left, at: u32, state: &State, vector: u8) -> bool {
    let untouched = left.regs == state.regs && left.eip == at && left.eflags == state.eflags & !flag::RF;
    untouched && matches!(left.event, Event::Fault { vector: raised, .. } if raised == vector)
}

/// A piece of code to try.
struct Trial {
    bytes: Vec<u8>,
    what: String,
    /// The vector that is expected; whatever the processor says if there is none.
    vector: Option<u8>,
}

impl Trial {
    /// The address behind it.
    fn end(&self, at: u32) -> u32 {
        at + self.bytes.len() as u32
    }
}

/// Tries code, as many pieces at a time as there are slots in a page.
fn try_all(bench: &mut Bench<'_>, trials: &[Trial], random: &mut Random, refused: &mut Refused) {
    for trials in trials.chunks((PAGE / SLOT) as usize) {
        let page = bench.slot_page();
        let codes: Vec<Vec<u8>> = trials.iter().map(|trial| trial.bytes.clone()).collect();
        bench.load_slots(&codes);
        for (slot, trial) in trials.iter().enumerate() {
            let at = page + slot as u32 * SLOT + SLOT_ENTRY;
            let state = state(random);
            let silicon = bench.silicon(&trial.bytes, at, &state);
            try_one(bench, trial, at, &state, &silicon, refused);
        }
        if refused.is_enough() {
            return;
        }
    }
}

fn try_one(
    bench: &mut Bench<'_>,
    trial: &Trial,
    at: u32,
    state: &State,
    silicon: &Left,
    refused: &mut Refused,
) {
    refused.count(silicon.event);
    let as_expected = trial.vector.is_none_or(|vector| is_refused(silicon, at, state, vector));
    let differences = bench.compare(&trial.bytes, at, state, Pace::Whole, silicon, |left| {
        let mut left = *left;
        if exempt::departs_always(Part::TooLong)
            && matches!(left.event, Event::Fault { vector: Fault::GP, .. })
            && matches!(silicon.event, Event::Fault { vector: Fault::PF, cr2, .. } if cr2 == trial.end(at))
        {
            left.event = silicon.event;
        }
        left == *silicon
    });
    if (!as_expected || !differences.is_empty()) && !refused.is_enough() {
        let machines: Vec<String> = differences
            .iter()
            .map(|difference| format!("\n  {:<7} {:?}", difference.machine, difference.left))
            .collect();
        refused.mismatches.push(format!(
            "{}: {:02x?} at {at:08x}\n  before  {}\n  silicon {silicon:?}{}",
            trial.what,
            trial.bytes,
            Before(state),
            machines.concat()
        ));
    }
}

/// What AMD's processors do with LOCK where the SDM wants #UD: VERW has the second task to clear buffers and ignores it
/// before memory, and MOV to and from CR0 becomes that of CR8, which is privileged just so.
fn takes_lock(form: &Form) -> bool {
    form.mnemonic == "verw" || form.operands.iter().any(|operand| operand.code == Code::C)
}

/// LOCK before each row, wherever the tables do not allow it.
pub fn try_locks(bench: &mut Bench<'_>, seed: u64, refused: &mut Refused) {
    for (index, form) in FORMS.iter().enumerate().filter(|(_, form)| !takes_lock(form)) {
        let mut random = Random::new(seed, index as u64);
        let mut trials = Vec::new();
        for _ in 0..16 {
            let Some(encoding) = encode(index, 0, &OPTIONS, &mut random) else { continue };
            let mut bytes = encoding.bytes;
            bytes.insert(random.below(2) as usize * usize::from(is_prefix(bytes[0])), 0xf0);
            if decode(&bytes, 0).err() == Some(DecodeError::Undefined) {
                trials.push(Trial { bytes, what: format!("lock, {}", row(form)), vector: Some(Fault::UD) });
            }
        }
        try_all(bench, &trials, &mut random, refused);
        if refused.is_enough() {
            return;
        }
    }
}

fn is_prefix(byte: u8) -> bool {
    matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

/// Opcodes, with each of the prefixes that may choose an instruction, each value of ModRM's reg field, and memory
/// or a register, that no row declares. Those that are instructions of newer processors are left out: this one
/// may have them.
pub fn try_gaps(bench: &mut Bench<'_>, seed: u64, refused: &mut Refused) {
    let mut random = Random::new(seed, 21);
    for escape in [&[][..], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]] {
        for opcode in 0..=0xff_u8 {
            let mut trials = Vec::new();
            for prefix in [&[][..], &[0x66], &[0xf2], &[0xf3]] {
                for modrm in 0..=0xff_u8 {
                    let register = random.below(8) as u8;
                    // All of the fixed ones, and one register of the others.
                    if modrm & 7 != register && !(opcode == 1 && modrm >= 0xc0) {
                        continue;
                    }
                    let head = [prefix, escape, &[opcode, modrm, 0x20, 0x10, 0, 0, 0x20]].concat();
                    let undeclared = decode(&head, 0).err() == Some(DecodeError::Undefined);
                    if undeclared && is_no_instruction(&head) {
                        let what = "a gap in the tables".to_owned();
                        trials.push(Trial { bytes: head, what, vector: Some(Fault::UD) });
                    }
                }
            }
            try_all(bench, &trials, &mut random, refused);
            if refused.is_enough() {
                return;
            }
        }
    }
}

/// Whether no processor has an instruction there, by another decoder.
fn is_no_instruction(bytes: &[u8]) -> bool {
    // Some processors ignore the prefix that makes it none.
    let start = usize::from(is_prefix(bytes[0]));
    [0, start].iter().all(|start| {
        let mut long = bytes[*start..].to_vec();
        long.resize(MAX_LEN, 0);
        Decoder::new(32, &long, DecoderOptions::NONE).decode().is_invalid()
    })
}

/// Each row with prefixes that mean nothing until it has 15 bytes, and more.
pub fn try_lengths(bench: &mut Bench<'_>, seed: u64, refused: &mut Refused) {
    for (index, form) in FORMS.iter().enumerate().filter(|(_, form)| is_tried(form)) {
        let mut random = Random::new(seed, index as u64);
        let mut trials = Vec::new();
        for len in [MAX_LEN, MAX_LEN + 1, MAX_LEN + 2, 20] {
            let Some(encoding) = encode(index, 0, &OPTIONS, &mut random) else { continue };
            let mut bytes = encoding.bytes;
            let padding = [random.pick(&[0x3e, 0x26]), if bytes.contains(&0x66) { 0x66 } else { 0x3e }];
            while bytes.len() < len {
                bytes.insert(0, random.pick(&padding));
            }
            let what = format!("{len} bytes, {}", row(form));
            if let Err(DecodeError::TooLong) = decode(&bytes, 0) {
                trials.push(Trial { bytes, what, vector: Some(Fault::GP) });
            }
        }
        // Nothing but prefixes, and a gap behind too many of them.
        if index == 0 {
            for code in [vec![0x66; 15], vec![0x3e; 16], [vec![0x3e; 14], vec![0x0f, 0x0b]].concat()] {
                let what = "prefixes".to_owned();
                trials.push(Trial { bytes: code, what, vector: Some(Fault::GP) });
            }
            for code in
                [[vec![0x3e; 13], vec![0x0f, 0x04]].concat(), [vec![0x3e; 14], vec![0x0f, 0x04]].concat()]
            {
                trials.push(Trial { bytes: code, what: "prefixes before a gap".to_owned(), vector: None });
            }
        }
        try_all(bench, &trials, &mut random, refused);
        if refused.is_enough() {
            return;
        }
    }
}

/// UD0 and UD1 raise #UD whatever follows; AMD's processors do so before they look for the ModRM byte that the SDM gives
/// them, so that it cannot be missing. What a processor does not have raises #UD as early.
fn is_tried(form: &Form) -> bool {
    !matches!(form.mnemonic, "ud0" | "ud1") && exempt::is_here(form)
}

/// Each row at the end of memory, cut behind each of its bytes.
pub fn try_cuts(bench: &mut Bench<'_>, seed: u64, refused: &mut Refused) {
    for (index, form) in FORMS.iter().enumerate().filter(|(_, form)| is_tried(form)) {
        let mut random = Random::new(seed, index as u64);
        for lock in [false, true] {
            let Some(encoding) = encode(index, 0, &OPTIONS, &mut random) else { continue };
            let mut bytes = encoding.bytes;
            if lock {
                bytes.insert(0, 0xf0);
            }
            for len in 1..bytes.len() {
                // What is there must not be an instruction by itself.
                if decode(&bytes[..len], 0).err() != Some(DecodeError::TooShort) {
                    continue;
                }
                cut(bench, &bytes[..len], &row(form), &mut random, refused);
            }
            if refused.is_enough() {
                return;
            }
        }
    }
    // Prefixes up to the end: too many of them are too many before anything is missing.
    let mut random = Random::new(seed, 22);
    for len in 1..20 {
        cut(bench, &vec![0x3e; len], "prefixes", &mut random, refused);
    }
}

/// Tries what is left of an instruction at the end of memory, behind one whose flags are needed then.
fn cut(bench: &mut Bench<'_>, rest: &[u8], what: &str, random: &mut Random, refused: &mut Refused) {
    // cmp eax, ecx
    let code = [&[0x39, 0xc8][..], rest].concat();
    let at = bench.load_at_the_edge(&code);
    let state = state(random);
    let silicon = bench.silicon(&code, at, &state);
    let trial = Trial { bytes: code, what: format!("cut, {what}"), vector: None };
    try_one(bench, &trial, at, &state, &silicon, refused);
}
