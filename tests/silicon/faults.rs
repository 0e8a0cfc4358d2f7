//! Injected faults: an instruction whose memory is wrong, with instructions around it whose flags and registers are still
//! on their way, for each row and for each line of the list of specialised handlers. The fault's state is the processor's.

use crate::bench::{Bench, Difference, EXIT_LEN, Event, MACHINES, Pace, SLOT, SLOT_ENTRY};
use crate::encode::{Encoding, MOST_INDEX, Options, encode};
use crate::exempt;
use crate::exempt::{UndefinedFlags, departs};
use crate::hot::Lines;
use crate::operands::{ABSOLUTE, prepare_faulting, status_flags, wrong_address, wrong_stack};
use crate::oracle::{CODE, DATA, PAGE, STACK, State, WINDOW, flag};
use crate::random::Random;
use crate::single::{departs_in_memory, describe, is_same, row};
use std::collections::BTreeMap;
use std::fmt;
use table86::cpu::image::XSAVE_BYTES;
use table86::isa::decode::{NO_REG, operand_bytes};
use table86::isa::{Access, Code, FORMS, Flow, Form, Insn, Part, Privilege, Rep, decode};

/// shl eax, 1
const SHL: [u8; 3] = [0xc1, 0xe0, 1];
const EDX: u8 = 2;
const ESP: u8 = 4;
/// States tried with each piece of code.
const STATES: u32 = 8;
/// Mismatches that are looked for.
const ENOUGH: usize = 5;
/// Targets of far branches.
const TARGETS: [u32; 2] = [CODE + 0x100, CODE + WINDOW];

/// Faults by what the instruction does, and what differed.
#[derive(Default)]
pub struct Faults {
    /// Faults of a machine that were compared.
    pub by_class: BTreeMap<&'static str, u64>,
    /// Those among them at the first byte of a page, after an access that began in the page before it.
    pub crossing: u64,
    /// Those of instructions that have a specialised handler of their own or share one with a neighbour.
    pub specialised: u64,
    /// The first mismatches.
    pub mismatches: Vec<String>,
}

impl Faults {
    /// All faults.
    pub fn total(&self) -> u64 {
        self.by_class.values().sum()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, Faults { crossing, specialised, .. }) = (self.total(), self);
        write!(f, "{total} faults, {crossing} across pages, {specialised} in lines of the list")?;
        self.by_class.iter().try_for_each(|(class, count)| write!(f, ", {class} {count}"))
    }
}

/// A piece of code: what stands before, the instructions that may fault, what stands behind.
struct Piece {
    bytes: Vec<u8>,
    at: u32,
    victims: Vec<Encoding>,
}

impl Piece {
    /// Puts victims, which were encoded for an address behind `before`, between others.
    fn new(at: u32, before: &[u8], victims: Vec<Encoding>, behind: &[u8]) -> Piece {
        let mut bytes = before.to_vec();
        victims.iter().for_each(|victim| bytes.extend(&victim.bytes));
        bytes.extend(behind);
        Piece { bytes, at, victims }
    }
}

/// What the instruction does when it faults.
fn class(insn: &Insn) -> &'static str {
    let form = insn.form();
    match (form.room, form.mnemonic) {
        (room, _) if room.starts_with("x87") || room == "fxsave" => "x87",
        ("string", _) if insn.rep != 0 && form.rep != Rep::Ignored => "rep",
        ("string", _) => "string",
        (_, "pusha" | "pushad" | "popa" | "popad" | "enter" | "leave") => "frame",
        (_, "call" | "callf") => "call",
        (_, "ret" | "retf" | "iret" | "iretd") => "ret",
        ("stack", mnemonic) if mnemonic.starts_with("push") => "push",
        ("stack", _) => "pop",
        _ if insn.lock => "locked",
        _ => {
            let memory = |code: Code| matches!(code, Code::E | Code::M | Code::O);
            let access =
                form.operands.iter().find(|operand| memory(operand.code)).map(|operand| operand.access);
            match access {
                Some(Access::W) => "store",
                Some(access) if access.updates() => "update",
                _ => "load",
            }
        }
    }
}

/// Whether it has memory that no operand shows: the stack, or XLAT's table.
fn is_implicit(form: &Form) -> bool {
    let branch = form.flow == Flow::Branch || form.flow == Flow::Jump;
    matches!(form.room, "stack" | "string") || form.room == "control" && !branch || form.mnemonic == "xlat"
}

/// Whether an instruction of this row can fault on memory.
fn accesses_memory(form: &Form) -> bool {
    is_implicit(form)
        || form.operands.iter().any(|operand| {
            let memory = operand.code.may_be_memory();
            memory && !matches!(operand.access, Access::Address | Access::Shown)
        })
}

/// Flags that are needed if the next instruction faults: an instruction or two that write some, and at most `spare`.
fn before(random: &mut Random, spare: Option<u8>) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..1 + random.below(2) {
        let modrm = 0xc0 | random.below(64) as u8;
        let imm = random.operand() as u8;
        match (random.below(9), spare) {
            // cmp, test, stc, cmc, cmp al, test al
            (0 | 1, _) => code.extend([random.pick(&[0x38, 0x39]), modrm]),
            (2, _) => code.extend([random.pick(&[0x84, 0x85]), modrm]),
            (3, _) => code.push(random.pick(&[0xf9, 0xf5])),
            (4, _) => code.extend([random.pick(&[0x3c, 0xa8]), imm]),
            // inc, dec, sub, shl, mov of the spare register
            (5, Some(register)) => code.push(random.pick(&[0x40, 0x48]) + register),
            (6, Some(register)) => code.extend([0x83, 0xe8 + register, imm]),
            (7, Some(register)) if !shl_differs() => code.extend([0xc1, 0xe0 + register, 1 + (imm & 15)]),
            (8, Some(register)) => code.extend([0x8b, 0xc0 | register << 3 | (modrm & 7)]),
            _ => code.extend([0x83, 0xf8 + (modrm & 7), imm]),
        }
    }
    if random.percent(15) {
        // jmp to what is next
        code.extend([0xeb, 0]);
    }
    code
}

/// An instruction that writes an XMM register.
fn before_vector(random: &mut Random) -> &'static [u8] {
    // movaps xmm0, xmm1; paddd xmm2, xmm3; movq xmm4, xmm5; movd xmm6, eax
    let codes: [&[u8]; 4] = [
        &[0x0f, 0x28, 0xc1],
        &[0x66, 0x0f, 0xfe, 0xd3],
        &[0xf3, 0x0f, 0x7e, 0xe5],
        &[0x66, 0x0f, 0x6e, 0xf0],
    ];
    codes[random.below(4) as usize]
}

/// Whether SHL leaves flags otherwise on this processor.
fn shl_differs() -> bool {
    decode(&SHL, 0).is_ok_and(|insn| exempt::differs_in_flags(insn.form()))
}

/// What stands behind: nothing, or what needs some of the flags or none.
fn behind(random: &mut Random, flags_differ: bool) -> &'static [u8] {
    // test eax, eax; inc eax; xor edx, edx; adc eax, edx
    let codes: [&[u8]; 5] = [&[], &[0x85, 0xc0], &[0x40], &[0x31, 0xd2], &[0x11, 0xd0]];
    let most = if flags_differ { 4 } else { 5 };
    codes[random.below(most) as usize]
}

/// A register that the instruction does not use: EDX, where it is not.
fn spare(insn: &Insn) -> Option<u8> {
    let pointer = insn.mem.is_some_and(|mem| [mem.base, mem.index].contains(&EDX));
    (!pointer).then_some(EDX)
}

/// Faults of each row, from so many states.
pub fn prove_rows(bench: &mut Bench<'_>, states: u32, seed: u64, faults: &mut Faults) {
    for (index, form) in FORMS.iter().enumerate() {
        let usable = exempt::is_comparable(form)
            && exempt::unverifiable(form).is_none()
            && form.privilege == Privilege::User
            && accesses_memory(form);
        if !usable {
            continue;
        }
        let mut random = Random::new(seed, index as u64);
        bench.fill(&mut random);
        // Rows that leave the FPU alone are faster without it.
        bench.oracle.fpu = !matches!(class_of_row(form), Registers::General);
        for _ in 0..states.div_ceil(STATES * PAGE / SLOT) {
            let page = bench.slot_page();
            let pieces: Vec<Piece> = (0..PAGE / SLOT)
                .filter_map(|slot| row_piece(index, page + slot * SLOT + SLOT_ENTRY, &mut random))
                .collect();
            run_pieces(bench, &pieces, page, &mut random, faults, |bench, piece, random| {
                prepare_faulting(bench, &piece.victims[0], random)
            });
        }
        bench.oracle.fpu = false;
        if faults.mismatches.len() >= ENOUGH {
            return;
        }
    }
}

/// Which registers a row is about.
enum Registers {
    General,
    Others,
}

fn class_of_row(form: &Form) -> Registers {
    match form.room {
        "integer" | "shift" | "bit" | "bcd" | "flag" | "stack" | "control" | "string" | "segment"
        | "system" => Registers::General,
        _ => Registers::Others,
    }
}

/// Code around one encoding of a row that accesses memory.
fn row_piece(index: usize, at: u32, random: &mut Random) -> Option<Piece> {
    let options = Options {
        absolute: &ABSOLUTE,
        targets: &TARGETS,
        reach: [SLOT_ENTRY as i32, (SLOT - SLOT_ENTRY) as i32 - 64],
        exit: EXIT_LEN as i32 + 8,
        frame: None,
        decorate: true,
    };
    for _ in 0..200 {
        let mut code = match class_of_row(&FORMS[index]) {
            Registers::General => Vec::new(),
            // fld1, fldpi
            Registers::Others => vec![0xd9, 0xe8, 0xd9, 0xeb],
        };
        if !code.is_empty() && random.percent(50) {
            code.extend(before_vector(random));
        }
        let with_spare = random.percent(50);
        code.extend(before(random, with_spare.then_some(EDX)));
        let Some(victim) = encode(index, at + code.len() as u32, &options, random) else { continue };
        if victim.insn.mem.is_none() && !is_implicit(victim.insn.form()) {
            continue;
        }
        if with_spare && spare(&victim.insn).is_none() {
            continue;
        }
        let behind = behind(random, exempt::differs_in_flags(victim.insn.form()));
        return Some(Piece::new(at, &code, vec![victim], behind));
    }
    None
}

/// Runs pieces of code from some states each.
fn run_pieces(
    bench: &mut Bench<'_>,
    pieces: &[Piece],
    page: u32,
    random: &mut Random,
    faults: &mut Faults,
    mut prepare: impl FnMut(&mut Bench<'_>, &Piece, &mut Random) -> State,
) {
    let mut codes = vec![Vec::new(); (PAGE / SLOT) as usize];
    for piece in pieces {
        codes[((piece.at - page) / SLOT) as usize].clone_from(&piece.bytes);
    }
    bench.load_slots(&codes);
    for piece in pieces {
        for _ in 0..STATES {
            let state = prepare(bench, piece, random);
            let pace = if random.percent(85) { Pace::Whole } else { Pace::Pieces(random.next()) };
            compare(bench, piece, &state, pace, faults);
        }
    }
}

/// Whether an image of the FPU runs over the end of 16-bit offsets: the processor goes on at offset 0, the machine behind
/// the end.
fn wraps(insn: &Insn, state: &State) -> bool {
    const LONGEST: u32 = XSAVE_BYTES as u32;
    let register = |number: u8| state.regs.get(usize::from(number)).copied().unwrap_or(0);
    let Some(mem) = insn.mem.filter(|_| insn.addr16 && class(insn) == "x87") else { return false };
    let offset = register(mem.base).wrapping_add(register(mem.index)).wrapping_add(mem.disp) & 0xffff;
    offset + LONGEST > 0x1_0000
}

/// Runs a piece everywhere from one state.
fn compare(bench: &mut Bench<'_>, piece: &Piece, state: &State, pace: Pace, faults: &mut Faults) {
    let ends_otherwise =
        |insn: &Insn| wraps(insn, state) || exempt::ends_otherwise(insn) || departs(insn.form(), Part::Nan);
    if piece.victims.iter().any(|victim| ends_otherwise(&victim.insn)) {
        return;
    }
    let silicon = bench.silicon(&piece.bytes, piece.at, state);
    let place = piece.victims.iter().position(|victim| victim.insn.eip == silicon.eip);
    let victim = place.map(|place| &piece.victims[place]);
    let insn = victim.map(|victim| &victim.insn);
    let fault = matches!(silicon.event, Event::Fault { .. });
    let completed = &piece.victims[..place.filter(|_| fault).unwrap_or(piece.victims.len())];
    let differing = completed.iter().map(|victim| UndefinedFlags::of(&victim.insn, state).differing());
    let undefined = differing.fold(0, |all, bits| all | bits);
    let mut differences = bench.compare(&piece.bytes, piece.at, state, pace, &silicon, |left| match insn {
        Some(insn) if fault => {
            let mut left = *left;
            left.eflags ^= (left.eflags ^ silicon.eflags) & undefined;
            is_same(insn, &left, &silicon, state)
        }
        _ => {
            left.eflags | undefined == silicon.eflags | undefined
                && crate::bench::Left { eflags: silicon.eflags, ..*left } == silicon
        }
    });
    // Not where others are around it: what they leave depends on it.
    if let [victim] = &piece.victims[..]
        && departs_in_memory(bench, &victim.insn, state, &silicon, &differences)
    {
        differences.clear();
    }
    if let (Some(insn), true) = (insn, fault) {
        let machines = MACHINES as u64;
        *faults.by_class.entry(class(insn)).or_default() += machines;
        if let Event::Fault { vector: 14, cr2, .. } = silicon.event
            && cr2 % PAGE == 0
        {
            faults.crossing += machines;
        }
    }
    // Images that were stored have pointers in them, which the test of the FPU's rows compares.
    let image = !fault && piece.victims.iter().any(|victim| class(&victim.insn) == "x87");
    if !differences.is_empty() && !image && faults.mismatches.len() < ENOUGH {
        faults.mismatches.push(mismatch(piece, state, pace, victim, &differences));
    }
}

fn mismatch(
    piece: &Piece,
    state: &State,
    pace: Pace,
    victim: Option<&Encoding>,
    differences: &[Difference],
) -> String {
    let rows: Vec<String> = piece.victims.iter().map(|victim| row(victim.insn.form())).collect();
    let victim = victim.unwrap_or(&piece.victims[0]);
    format!(
        "{}\n  all of it {:02x?} at {:08x}, {pace:?}\n{}",
        rows.join(", "),
        piece.bytes,
        piece.at,
        describe(victim, state, differences)
    )
}

/// Faults of each line of the list of specialised handlers, in each of its instructions.
pub fn prove_hot_handlers(bench: &mut Bench<'_>, every: usize, seed: u64, faults: &mut Faults) {
    let lines = Lines::read(include_str!("../../opcodes/hot.txt"));
    let mut random = Random::new(seed, 11);
    let before_lines = faults.total();
    let numbers: Vec<usize> = (0..lines.len()).filter(|at| at % every == 0).collect();
    let mut pending = Vec::new();
    for number in numbers {
        let page = bench.slot_page();
        let at = page + pending.len() as u32 * SLOT + SLOT_ENTRY;
        pending.extend(line_piece(&lines, number, at, &mut random));
        if pending.len() as u32 == PAGE / SLOT {
            if random.percent(3) {
                bench.fill(&mut random);
            }
            run_pieces(bench, &pending, page, &mut random, faults, aim_at_faults);
            pending.clear();
            if faults.mismatches.len() >= ENOUGH {
                break;
            }
        }
    }
    faults.specialised += faults.total() - before_lines;
}

/// Code around the instructions of a line. `None` if none of them touches memory.
fn line_piece(lines: &Lines, number: usize, at: u32, random: &mut Random) -> Option<Piece> {
    let (mut victims, branch) = lines.encode(number, random)?;
    if victims.iter().all(|victim| victim.insn.mem.is_none() && victim.insn.form().room != "stack") {
        return None;
    }
    let used = |register: u8| {
        victims
            .iter()
            .any(|victim| victim.insn.mem.is_some_and(|mem| [mem.base, mem.index].contains(&register)))
    };
    let spare = (0..8).find(|register| *register != ESP && !used(*register));
    let code = before(random, spare);
    let mut eip = at + code.len() as u32;
    for victim in &mut victims {
        victim.insn.eip = eip;
        eip += u32::from(victim.insn.len);
    }
    // A branch to what is next.
    let mut tail = branch.map_or(Vec::new(), |condition| vec![0x70 + condition, 0]);
    let flags_differ = victims.iter().any(|victim| exempt::differs_in_flags(victim.insn.form()));
    tail.extend(behind(random, flags_differ));
    Some(Piece::new(at, &code, victims, &tail))
}

/// A state in which one of the instructions has a wrong address, if the ones before it let it.
fn aim_at_faults(bench: &mut Bench<'_>, piece: &Piece, random: &mut Random) -> State {
    let mut state = State::default();
    state.regs = [0; 8].map(|_: u32| random.operand());
    state.eflags = status_flags(random) & !(flag::ID | flag::DF);
    state.regs[usize::from(ESP)] = STACK + WINDOW / 2 + (random.below(64) & !3);
    let touching: Vec<usize> = (0..piece.victims.len())
        .filter(|at| {
            let insn = &piece.victims[*at].insn;
            insn.mem.is_some() || insn.form().room == "stack"
        })
        .collect();
    let chosen = random.pick(&touching);
    // The first last: where both use a register, the second comes to what the first one leaves.
    for (at, victim) in piece.victims.iter().enumerate().rev() {
        let insn = &victim.insn;
        let wrong = at == chosen;
        if insn.form().room == "stack" && (wrong && insn.mem.is_none() || random.percent(20)) && at <= chosen
        {
            state.regs[usize::from(ESP)] = if wrong { wrong_stack(random) } else { STACK + WINDOW / 2 };
        }
        if let Some(mem) = insn.mem {
            let len = bytes(insn);
            let target =
                if wrong { wrong_address(random, len) } else { DATA + PAGE + random.below(PAGE - len) };
            let written = at > 0 && loads(&piece.victims[0].insn, mem.base);
            if written {
                // It comes from memory.
                let value = target.wrapping_sub(mem.disp);
                state.regs[usize::from(mem.index.min(7))] &= MOST_INDEX;
                let place = aim(&mut state, &piece.victims[0].insn, DATA + PAGE + 0x800);
                bench.poke(place, &value.to_le_bytes());
                break;
            }
            aim(&mut state, insn, target);
        }
    }
    state
}

/// Whether it loads this register from memory.
fn loads(insn: &Insn, register: u8) -> bool {
    insn.form().op == "8B /r" && insn.mem.is_some() && !insn.opsize16 && insn.reg() == register
}

/// Bytes that an instruction has at its memory operand, at least one.
fn bytes(insn: &Insn) -> u32 {
    let memory = |code: Code| matches!(code, Code::E | Code::M | Code::O);
    let operands = insn.form().operands.iter().filter(|operand| memory(operand.code));
    operands.map(|operand| operand_bytes(operand.size, insn.opsize16)).max().unwrap_or(1).max(1)
}

/// Sets base and index so that the operand is at `target`, if they allow; gives where it is.
fn aim(state: &mut State, insn: &Insn, target: u32) -> u32 {
    let Some(mem) = insn.mem else { return target };
    let regs = &mut state.regs;
    if mem.index != NO_REG && mem.index != mem.base {
        regs[usize::from(mem.index)] &= MOST_INDEX;
    }
    let register = |number: u8, regs: &[u32; 8]| regs.get(usize::from(number)).copied().unwrap_or(0);
    let index = register(mem.index, regs) << mem.scale;
    match (mem.base, mem.index) {
        (NO_REG, NO_REG) => {}
        (NO_REG, index) => regs[usize::from(index)] = target.wrapping_sub(mem.disp) >> mem.scale,
        (base, same) if base == same => {
            regs[usize::from(base)] = target.wrapping_sub(mem.disp) / (1 + (1 << mem.scale));
        }
        (base, _) => regs[usize::from(base)] = target.wrapping_sub(mem.disp).wrapping_sub(index),
    }
    register(mem.base, regs).wrapping_add(register(mem.index, regs) << mem.scale).wrapping_add(mem.disp)
}
