//! The two backends of the x87 side by side: random programs, stopped at random places, have to go through the same states on a
//! machine whose FPU is software and on machines that use the host's.
//!
//! `PROGRAMS=100000 cargo test --release --test fpu_backends` runs more of them.
#![allow(dead_code)] // `cases` is shared with other tests

#[path = "fpu/cases.rs"]
mod cases;

use cases::Rng;
use std::sync::Arc;
use table86::cpu::V128;
use table86::fpu::soft::flag;
use table86::fpu::{Backend, Fpu};
use table86::isa::decode;
use table86::memory::{MapRequest, Place, Prot};
use table86::{Fault, FaultKind, Machine, Memory, Stop};

const CODE: u32 = 0x1000_0000;
const CODE_LEN: u32 = 0x1000;
const DATA: u32 = 0x2000_0000;
const DATA_LEN: u32 = 0x3000;
/// Of the data, the last page can only be read.
const READ_ONLY: u32 = DATA + 0x2000;
const SEED: u64 = 0x6c69_7665_0000_0087;
/// Programs of a test; in optimised builds blocks are copied, too.
const PROGRAMS: u32 = if cfg!(debug_assertions) { 1500 } else { 20_000 };
/// No program runs longer.
const MOST: u64 = 20_000;

/// Registers that programs count with, and that address memory.
const EAX: usize = 0;
const ECX: usize = 1;
const EBX: usize = 3;
const ESP: usize = 4;
const ESI: usize = 6;

fn memory() -> Arc<Memory> {
    let memory = Memory::new().expect("a reservation");
    let map = |start, len, prot| {
        memory.map(&MapRequest::anonymous(Place::Fixed(start), len, prot)).expect("it is mapped");
    };
    map(CODE, CODE_LEN, Prot::READ | Prot::WRITE | Prot::EXEC);
    map(DATA, DATA_LEN, Prot::READ | Prot::WRITE);
    Arc::new(memory)
}

/// A machine of each kind; the first one is software.
fn machines() -> Vec<(&'static str, Machine)> {
    let with = |name, machine: std::io::Result<Machine>, backend| {
        let mut machine = machine.expect("translations");
        machine.set_fpu(backend);
        (name, machine)
    };
    vec![
        with("soft", Machine::new(memory()), Backend::Soft),
        with("live", Machine::new(memory()), Backend::Live),
        with("live, tiered", Machine::tiered(memory(), 2), Backend::Live),
        with("generic", Machine::generic(memory()), Backend::Soft),
    ]
}

/// A ModRM byte, with what follows it, of a memory operand: near ESI, near EBX (which may be at a page's end, or beyond) or at a
/// fixed address.
fn memory_operand(rng: &mut Rng, reg: u8) -> Vec<u8> {
    let displacement = rng.below(64) as u8;
    match rng.below(12) {
        0 => {
            let mut bytes = vec![reg << 3 | 5];
            bytes.extend((DATA + rng.below(0x1f00) as u32).to_le_bytes());
            bytes
        }
        // [esi + ecx * scale + disp8]
        1 | 2 => vec![0x44 | reg << 3, (rng.below(4) as u8) << 6 | 1 << 3 | 6, displacement],
        3 => vec![0x44 | reg << 3, 0x24, displacement],
        4 => vec![0x43 | reg << 3, rng.below(32) as u8],
        _ => vec![0x46 | reg << 3, displacement],
    }
}

/// An instruction of the x87: any that there is, those that leave the usual states less often.
fn x87(rng: &mut Rng) -> Vec<u8> {
    loop {
        let opcode = 0xd8 + rng.below(8) as u8;
        let mut code = vec![opcode];
        if rng.one_in(2) {
            code.push(0xc0 | rng.below(64) as u8);
        } else {
            code.extend(memory_operand(rng, rng.0 as u8 >> 3 & 7));
        }
        let Ok(insn) = decode(&code, CODE) else { continue };
        let rare = match insn.form().mnemonic {
            "fldenv" | "frstor" => 40,
            "fnsave" | "fninit" | "fldcw" => 10,
            "fnstenv" | "fdecstp" | "fincstp" | "ffree" | "ffreep" => 4,
            _ => 1,
        };
        if rng.one_in(rare) {
            return code;
        }
    }
}

/// What compilers make of `a[i] = b[i] * c + d`: it leaves the stack as it was, so the loop finds it the same each time.
fn expression(rng: &mut Rng) -> Vec<u8> {
    const LOAD: usize = 0;
    const ADD: usize = 1;
    const STORE: usize = 2;
    /// Opcodes of 32 and 64 bits.
    const OPCODES: [[u8; 3]; 2] = [[0xd9, 0xd8, 0xd9], [0xdd, 0xdc, 0xdd]];
    let operand = |rng: &mut Rng, what: usize, reg: u8| {
        let opcode = OPCODES[rng.below(2) as usize][what];
        [vec![opcode], memory_operand(rng, reg)].concat()
    };
    let any_arithmetic = |rng: &mut Rng| [0, 1, 4, 5, 6, 7][rng.below(6) as usize];
    let mut code = operand(rng, LOAD, 0);
    for _ in 0..rng.below(4) {
        let operation = any_arithmetic(rng);
        if rng.one_in(2) {
            code.extend(operand(rng, ADD, operation));
        } else {
            code.extend([0xd8, 0xc0 | operation << 3 | rng.below(8) as u8]);
        }
    }
    code.extend(operand(rng, STORE, 3));
    code
}

/// An instruction that is none of the x87's.
fn other(rng: &mut Rng) -> Vec<u8> {
    let low = rng.below(64) as u8;
    match rng.below(16) {
        0 => vec![0x83, 0xc0, low],                                   // add eax, imm8
        1 => vec![0x83, 0xf8, low],                                   // cmp eax, imm8
        2 => vec![0x85, 0xc9],                                        // test ecx, ecx
        3 => vec![0x8b, 0x46, low & !3],                              // mov eax, [esi + disp8]
        4 => vec![0x89, 0x46, low],                                   // mov [esi + disp8], eax
        5 => vec![0xb9, low & 15, 0, 0, 0],                           // mov ecx, imm
        6 => vec![0x8d, 0x5e, low],                                   // lea ebx, [esi + disp8]
        7 => vec![0x9e],                                              // sahf
        8 => [vec![0x0f, 0xae], vec![0x46, 0]].concat(),              // fxsave [esi]
        9 => vec![0x0f, 0x6e, 0xc8 | low & 1],                        // movd mm1, eax or ecx
        10 => vec![0x0f, 0xfc, 0xc0 | low],                           // paddb mm, mm
        11 => vec![0x0f, 0x77],                                       // emms
        12 => vec![0xcd, 0x80],                                       // int 0x80
        13 => vec![0xd9, 0x2d, low & 6, 0, (DATA >> 16) as u8, 0x20], // fldcw [DATA + 0, 2, 4, 6]
        14 => vec![0x74, 0],                                          // jz to the next instruction
        _ => vec![0x66, 0x0f, 0x2a, 0xc0 | low & 7],                  // cvtpi2pd xmm0, mm
    }
}

/// A loop of random instructions; it ends in `int 0x81`.
fn program(rng: &mut Rng) -> Vec<u8> {
    let mut code = vec![0xbf, 1 + rng.below(9) as u8, 0, 0, 0];
    let start = code.len();
    let calm = rng.one_in(2);
    let numeric = rng.one_in(3);
    for _ in 0..1 + rng.below(if calm { 24 } else { 60 }) {
        code.extend(match () {
            () if rng.one_in(if calm { 20 } else { 5 }) => other(rng),
            () if numeric && !rng.one_in(16) => expression(rng),
            () => x87(rng),
        });
    }
    // dec edi; jnz start
    code.push(0x4f);
    code.extend([0x0f, 0x85]);
    code.extend((start as u32).wrapping_sub(code.len() as u32 + 4).to_le_bytes());
    code.extend([0xcd, 0x81]);
    code
}

/// Numbers of all formats, and some control words at the start.
fn data(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for control in [0x037f, 0x027f, 0x0c7f, if rng.one_in(8) { 0x0340 } else { 0x007f }] {
        bytes.extend(u16::to_le_bytes(control));
    }
    while bytes.len() < DATA_LEN as usize {
        match rng.below(5) {
            0 => bytes.extend(rng.f32().to_le_bytes()),
            1 | 2 => bytes.extend(rng.f64().to_le_bytes()),
            3 => bytes.extend(rng.f80(0x3fff).to_bytes()),
            _ => bytes.extend(rng.integer().to_le_bytes()),
        }
    }
    bytes.truncate(DATA_LEN as usize);
    bytes
}

/// All that a program can see of a machine but for memory.
#[derive(Debug, PartialEq)]
struct Seen {
    stop: Stop,
    regs: [u32; 8],
    eip: u32,
    eflags: u32,
    cr2: u32,
    fpu: Fpu,
    xmm: [V128; 8],
    count: u64,
}

fn go_on(machine: &mut Machine, count: u64) -> Seen {
    let stop = machine.run(count);
    let cpu = &machine.cpu;
    Seen {
        stop,
        regs: cpu.regs,
        eip: cpu.eip,
        eflags: cpu.eflags(),
        cr2: cpu.cr2,
        fpu: cpu.fpu,
        xmm: cpu.xmm,
        count: cpu.instructions(),
    }
}

/// Does what a kernel might do at a stop, so that the program goes on. Tells whether it does.
fn resume(machine: &mut Machine, seen: &Seen) -> bool {
    match seen.stop {
        Stop::Limit => true,
        Stop::Exception(fault) if fault == Fault::int(0x80) => true,
        Stop::Exception(fault) if fault.kind == FaultKind::Pf => {
            machine.cpu.regs[EBX] = DATA;
            machine.cpu.regs[ESI] = DATA + 0x100;
            machine.cpu.regs[ECX] &= 15;
            true
        }
        Stop::Exception(fault) if fault == Fault::MF => {
            machine.cpu.fpu.fnclex();
            machine.cpu.fpu.set_control(machine.cpu.fpu.control() | flag::EXCEPTIONS);
            true
        }
        _ => false,
    }
}

#[test]
fn random_programs_go_through_the_same_states() {
    let mut rng = Rng(SEED);
    let mut machines = machines();
    let programs = std::env::var("PROGRAMS").map_or(PROGRAMS, |text| text.parse().expect("a number"));
    let (mut faults, mut stops) = (0, 0);
    for number in 0..programs {
        let code = program(&mut rng);
        let data = data(&mut rng);
        let mut fpu = rng.fpu();
        if !rng.one_in(6) {
            fpu.set_control(fpu.control() | flag::EXCEPTIONS);
        }
        let edge = [DATA + 0x1000, READ_ONLY, DATA + DATA_LEN][rng.below(3) as usize];
        let ebx = edge - rng.below(40) as u32;
        let paced = rng.one_in(3);
        for (_, machine) in &mut machines {
            machine.memory.protect(READ_ONLY, 0x1000, Prot::READ | Prot::WRITE).expect("it is mapped");
            machine.memory.write_bytes(CODE, &code).expect("it is mapped");
            machine.memory.write_bytes(DATA, &data).expect("it is mapped");
            machine.memory.protect(READ_ONLY, 0x1000, Prot::READ).expect("it is mapped");
            let cpu = &mut machine.cpu;
            cpu.fpu = fpu;
            cpu.regs = [0, 3, 7, ebx, DATA + 0x800, 5, DATA + 0x100, 0];
            cpu.set_eflags(0x202);
            cpu.eip = CODE;
        }
        let start: Vec<u64> = machines.iter().map(|(_, machine)| machine.cpu.instructions()).collect();
        let mut left = MOST;
        while left > 0 {
            let count = if paced { 1 + rng.below(300) } else { left }.min(left);
            let mut first: Option<Seen> = None;
            for ((name, machine), start) in machines.iter_mut().zip(&start) {
                let mut seen = go_on(machine, count);
                seen.count -= start;
                let Some(first) = &first else {
                    first = Some(seen);
                    continue;
                };
                assert_eq!(seen, *first, "program {number} on {name} (left) and soft:\n{}", show(&code));
            }
            let Some(seen) = first else { break };
            stops += 1;
            faults += u32::from(matches!(seen.stop, Stop::Exception(fault) if fault.kind == FaultKind::Pf));
            left = MOST.saturating_sub(seen.count);
            if !machines
                .iter_mut()
                .map(|(_, machine)| resume(machine, &seen))
                .fold(true, |all, one| all & one)
            {
                break;
            }
        }
        let read = |machine: &Machine| {
            let mut bytes = vec![0; DATA_LEN as usize];
            machine.memory.read_bytes(DATA, &mut bytes).expect("it is mapped");
            bytes
        };
        let first = read(&machines[0].1);
        for (name, machine) in &machines[1..] {
            let other = read(machine);
            let at = first.iter().zip(&other).position(|(one, other)| one != other);
            assert_eq!(at, None, "memory of program {number} on {name}:\n{}", show(&code));
        }
    }
    println!("{programs} programs, {stops} stops, {faults} of them page faults");
    assert!(faults > programs / 20, "only {faults} page faults");
}

/// A program as text.
fn show(code: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while let Ok(insn) = decode(&code[at..], CODE + at as u32) {
        text += &format!(
            "{:08x} {:02x?} {}\n",
            insn.eip,
            &code[at..at + usize::from(insn.len)],
            insn.form().mnemonic
        );
        at += usize::from(insn.len);
        if at >= code.len() {
            break;
        }
    }
    text
}
