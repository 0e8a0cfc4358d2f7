//! What rows say they read and write, beside what instructions do: random encodings of every opcode are executed, and whatever
//! changes has to be declared; then each register that is not declared as read is changed, and nothing else may differ.

use std::collections::BTreeSet;
use std::sync::Arc;
use table86::debug::effects::{Place, Touch, touches};
use table86::isa::decode::MAX_LEN;
use table86::isa::{FORMS, Insn, Privilege, Status, decode};
use table86::memory::{MapRequest, Place as At, Prot};
use table86::{Machine, Memory};

const CODE: u32 = 0x1000_0000;
const DATA: u32 = 0x2000_0000;
const DATA_BYTES: usize = 0x3000;
const ESP: usize = 4;
/// Tries of each opcode.
const TRIES: u32 = 60;
/// Forms that have to be reached, of those that a user can run: some need operands that random ones hardly ever are.
const LEAST: usize = 500;

/// Clocks, random numbers and the number of the host's processor are nobody's operands.
const DIFFERENT_EACH_TIME: [&str; 5] = ["rdtsc", "rdtscp", "rdrand", "rdseed", "rdpid"];

/// Reads its operand before it perhaps writes it, and faults as a read: the notation has no word for that.
const READS_UNSAID: &str = "arpl";

struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
}

/// What a program sees.
#[derive(Clone, PartialEq)]
struct State {
    regs: [u32; 8],
    eflags: u32,
    eip: u32,
    data: Vec<u8>,
}

fn state(machine: &Machine) -> State {
    let mut data = vec![0; DATA_BYTES];
    machine.memory.read_bytes(DATA, &mut data).expect("mapped");
    let cpu = &machine.cpu;
    State { regs: cpu.regs, eflags: cpu.eflags(), eip: cpu.eip, data }
}

fn set(machine: &mut Machine, state: &State) {
    machine.cpu.regs = state.regs;
    machine.cpu.set_eflags(state.eflags);
    machine.cpu.eip = state.eip;
    machine.cpu.reset_fpu();
    machine.memory.write_bytes(DATA, &state.data).expect("mapped");
}

/// Executes one instruction; `None` if it does not complete.
fn run(machine: &mut Machine, before: &State) -> Option<State> {
    set(machine, before);
    machine.step().is_none().then(|| state(machine))
}

fn machine() -> Machine {
    let memory = Arc::new(Memory::new().expect("addresses"));
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(&MapRequest::anonymous(At::Fixed(CODE), 0x1000, all)).expect("code");
    let plain = Prot::READ | Prot::WRITE;
    memory.map(&MapRequest::anonymous(At::Fixed(DATA), DATA_BYTES as u32, plain)).expect("data");
    Machine::generic(memory).expect("translations")
}

fn random_state(random: &mut Random) -> State {
    let mut regs = [0; 8];
    for (number, value) in regs.iter_mut().enumerate() {
        let points = number == ESP || random.below(2) == 0;
        *value = if points { DATA + 0x1000 + random.below(0x400) * 4 } else { random.below(24) };
    }
    let data = (0..DATA_BYTES).map(|_| random.next() as u8).collect();
    State { regs, eflags: 0x202 | random.next() & 0xcd5, eip: CODE, data }
}

/// The registers that are touched in a certain way, with the bits of each.
fn registers(list: &[Touch], is_meant: impl Fn(&Touch) -> bool) -> [u32; 8] {
    let mut masks = [0u32; 8];
    for touch in list.iter().filter(|touch| is_meant(touch)) {
        if let Place::Reg { number, bytes } = touch.place {
            let (index, mask) = match bytes {
                1 => (number & 3, 0xff << (u32::from(number & 4) * 2)),
                2 => (number, 0xffff),
                _ => (number, u32::MAX),
            };
            masks[usize::from(index)] |= mask;
        }
    }
    masks
}

/// Whether the byte of memory at an address is touched in a certain way.
fn is_touched(list: &[Touch], addr: u32, is_meant: impl Fn(&Touch) -> bool) -> bool {
    list.iter().filter(|touch| is_meant(touch)).any(|touch| match touch.place {
        Place::Memory { addr: first, len } => addr.wrapping_sub(first) < len,
        _ => false,
    })
}

fn describe(insn: &Insn) -> String {
    let form = insn.form();
    format!("{} (opcodes/{}.toml:{})", table86::disasm::text(insn), form.room, form.line)
}

/// An instruction that was executed, with what its row says that it touches.
struct Done<'a> {
    insn: &'a Insn,
    list: &'a [Touch],
    before: &'a State,
    after: &'a State,
}

/// What it changes that its row does not say.
fn undeclared_writes(done: &Done<'_>, out: &mut BTreeSet<String>) {
    let Done { insn, list, before, after } = *done;
    let written = registers(list, |touch| touch.writes);
    let changed = before.regs.iter().zip(&after.regs).map(|(old, new)| old ^ new);
    for (number, (changed, written)) in changed.zip(written).enumerate() {
        if changed & !written != 0 {
            out.insert(format!("{}: changes register {number}", describe(insn)));
        }
    }
    for (at, (old, new)) in before.data.iter().zip(&after.data).enumerate() {
        let addr = DATA + at as u32;
        if old != new && !is_touched(list, addr, |touch| touch.writes) {
            out.insert(format!("{}: changes memory at {addr:#x}", describe(insn)));
            return;
        }
    }
}

/// What it depends on that its row does not say.
fn undeclared_reads(machine: &mut Machine, done: &Done<'_>, out: &mut BTreeSet<String>) {
    let Done { insn, list, before, after } = *done;
    let read = registers(list, |touch| touch.reads);
    for number in (0..8).filter(|number| read[*number] == 0) {
        let mut other = before.clone();
        other.regs[number] ^= 0x40;
        let Some(mut result) = run(machine, &other) else {
            out.insert(format!("{}: depends on register {number}", describe(insn)));
            continue;
        };
        // Bits that are not written stay what they were.
        result.regs[number] = after.regs[number];
        if result != *after {
            out.insert(format!("{}: depends on register {number}", describe(insn)));
        }
    }
}

/// What it depends on in memory that its row does not say: all other bytes are changed at once.
fn undeclared_loads(machine: &mut Machine, done: &Done<'_>, out: &mut BTreeSet<String>) {
    let Done { insn, list, before, after } = *done;
    let mut other = before.clone();
    for (at, byte) in other.data.iter_mut().enumerate() {
        if !is_touched(list, DATA + at as u32, |touch| touch.reads) {
            *byte ^= 0x5a;
        }
    }
    let same = run(machine, &other).is_some_and(|result| {
        // What is not written stays what it was.
        let bytes = result.data.iter().zip(&after.data).zip(&other.data);
        let data = bytes.into_iter().all(|((now, wanted), old)| now == wanted || now == old);
        data && State { data: after.data.clone(), ..result } == *after
    });
    if !same {
        out.insert(format!("{}: depends on memory", describe(insn)));
    }
}

/// An encoding that begins with an opcode of one of four maps.
fn encoding(random: &mut Random, map: u32, opcode: u8) -> [u8; MAX_LEN] {
    let mut bytes = Vec::new();
    match random.below(8) {
        0 | 1 => bytes.push(0x66),
        2 => bytes.push(0xf3),
        3 => bytes.push(0xf2),
        4 => bytes.push(0x67),
        _ => {}
    }
    bytes.extend_from_slice(match map {
        0 => &[],
        1 => &[0x0f],
        2 => &[0x0f, 0x38],
        _ => &[0x0f, 0x3a],
    });
    bytes.push(opcode);
    // ModRM without displacements, or with registers, more often than others.
    let modrm = random.next() as u8;
    bytes.push(if random.below(3) == 0 { modrm & 0x3f } else { modrm });
    let mut array = [0; MAX_LEN];
    array.iter_mut().for_each(|byte| *byte = if random.below(2) == 0 { 0 } else { random.next() as u8 });
    array[..bytes.len()].copy_from_slice(&bytes);
    array
}

#[test]
fn rows_declare_the_registers_and_the_memory_that_instructions_touch() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut machine = machine();
    let mut wrong = BTreeSet::new();
    let mut reached = BTreeSet::new();
    let mut list = Vec::new();
    for round in 0..TRIES * 1024 {
        let (map, opcode) = (round >> 8 & 3, round as u8);
        let bytes = encoding(&mut random, map, opcode);
        let Ok(insn) = decode(&bytes, CODE) else { continue };
        let form = insn.form();
        let plain = form.status == Status::Implemented && form.privilege == Privilege::User;
        if !plain || DIFFERENT_EACH_TIME.contains(&form.mnemonic) {
            continue;
        }
        machine.memory.write_bytes(CODE, &bytes).expect("mapped");
        let before = random_state(&mut random);
        set(&mut machine, &before);
        list.clear();
        touches(&insn, &machine.cpu, &mut list);
        let Some(after) = run(&mut machine, &before) else { continue };
        if machine.memory.read::<[u8; MAX_LEN]>(CODE) != Ok(bytes) {
            // It is another instruction now.
            continue;
        }
        reached.insert(insn.index);
        let done = Done { insn: &insn, list: &list, before: &before, after: &after };
        undeclared_writes(&done, &mut wrong);
        undeclared_reads(&mut machine, &done, &mut wrong);
        if form.mnemonic != READS_UNSAID {
            undeclared_loads(&mut machine, &done, &mut wrong);
        }
    }
    let wrong: Vec<&String> = wrong.iter().take(40).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(reached.len() >= LEAST, "only {} of {} forms were reached", reached.len(), FORMS.len());
}
