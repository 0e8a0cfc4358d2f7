//! Lockstep: programs that agree to their end, and machines with an error in one row, which has to be found at the very
//! instruction. Where the host cannot run or trace IA-32 programs, only settings of ours are compared.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use table86::cpu::eflags;
use table86::debug::check::{
    CheckError, Divergence, Ended, Maker, Options, Outcome, Subject, against_processor,
};
use table86::isa::decode::MAX_LEN;
use table86::isa::{Insn, decode};
use table86::loader::hex;
use table86::{Cpu, Machine, Memory, Stop};

/// Where the program's one segment is, and its code in it.
const BASE: u32 = 0x0040_0000;
const CODE: u32 = BASE + 0x54;
/// Where the data is, behind the code.
const DATA: u32 = BASE + 0x800;

/// Integers, strings, flags, the FPU and vectors, 20 times; what no two runs agree in; then exit(7).
const PROGRAM: &str = "
    bd 14000000             ; mov ebp, 20
    be 00084000             ; mov esi, DATA
    ; again:
    b8 7f000000 ; mov eax, 0x7f
    01 e8       ; add eax, ebp
    83 d0 85    ; adc eax, -0x7b
    19 c3       ; sbb ebx, eax
    0f af d8    ; imul ebx, eax
    c1 e3 03    ; shl ebx, 3
    9c          ; pushf
    5a          ; pop edx
    89 1e       ; mov [esi], ebx
    8d 7e 08    ; lea edi, [esi+8]
    b9 05000000 ; mov ecx, 5
    fc          ; cld
    f3 a5       ; rep movsd
    be 00084000 ; mov esi, DATA
    d9 eb       ; fldpi
    d9 fe       ; fsin
    dc 46 10    ; fadd qword [esi+16]
    dd 5e 20    ; fstp qword [esi+32]
    d9 76 40    ; fnstenv [esi+64]
    66 0f 6e c3 ; movd xmm0, ebx
    0f 5b c0    ; cvtdq2ps xmm0, xmm0
    0f 58 c8    ; addps xmm1, xmm0
    0f 11 4e 30 ; movups [esi+48], xmm1
    31 c0       ; xor eax, eax
    0f a2       ; cpuid
    0f 31       ; rdtsc
    8c d0       ; mov eax, ss
    8e d0       ; mov ss, eax
    90          ; nop
    f3 0f bc c6 ; rep bsf eax, esi
    b8 14000000 ; mov eax, 20 (getpid)
    cd 80       ; int 0x80
    4d          ; dec ebp
    75 a6       ; jnz again
    bb 07000000 ; mov ebx, 7
    b8 01000000 ; mov eax, 1
    cd 80       ; int 0x80
";
/// Instructions of a round.
const ROUND: u64 = 34;

/// An ELF file with the program, in a directory of the test's own.
fn program(test: &str) -> PathBuf {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let halves = |halves: &[u16]| -> Vec<u8> { halves.iter().flat_map(|half| half.to_le_bytes()).collect() };
    let code = hex::parse(PROGRAM.as_bytes()).expect("a listing");
    let mut bytes = [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        halves(&[2, 3]),
        words(&[1, CODE, 52, 0, 0]),
        halves(&[52, 32, 1, 40, 0, 0]),
        words(&[1, 0, BASE, BASE, 0x1000, 0x1000, 7, 0x1000]),
        code,
    ]
    .concat();
    assert!(bytes.len() < (DATA - BASE) as usize, "the code reaches the data");
    bytes.resize(0x1000, 0);
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("check");
    fs::create_dir_all(&directory).expect("a directory");
    let path = directory.join(test);
    fs::write(&path, bytes).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
    path
}

fn sound(memory: Arc<Memory>) -> std::io::Result<Box<dyn Subject>> {
    Ok(Box::new(Machine::new(memory)?))
}

/// A machine whose row of one mnemonic is wrong.
struct Broken {
    machine: Machine,
    mnemonic: &'static str,
    spoil: fn(&mut Cpu, &Memory),
}

impl Broken {
    fn next(&self) -> Option<Insn> {
        let mut bytes = [0; MAX_LEN];
        let eip = self.machine.cpu.eip;
        let len = self.machine.memory.fetch(eip, &mut bytes);
        decode(&bytes[..len], eip).ok()
    }
}

impl Subject for Broken {
    fn machine(&mut self) -> &mut Machine {
        &mut self.machine
    }

    fn run(&mut self, max: u64) -> Stop {
        for _ in 0..max {
            let hit = self.next().is_some_and(|insn| insn.form().mnemonic == self.mnemonic);
            match self.machine.run(1) {
                Stop::Limit => {}
                stop => return stop,
            }
            if hit {
                (self.spoil)(&mut self.machine.cpu, &self.machine.memory);
            }
        }
        Stop::Limit
    }
}

/// Changes a byte.
fn flip(memory: &Memory, addr: u32) {
    let byte: u8 = memory.read(addr).expect("data");
    memory.write(addr, !byte).expect("data");
}

/// Compares a program with the processor; `None`, and why, where the host cannot.
fn check(test: &str, options: &Options, make: &Maker) -> Option<Outcome> {
    match against_processor(&mut Command::new(program(test)), options, make) {
        Ok(outcome) => Some(outcome),
        Err(error @ (CheckError::HostCannot | CheckError::NoTracing(_))) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn broken(mnemonic: &'static str, spoil: fn(&mut Cpu, &Memory)) -> Box<Maker> {
    Box::new(move |memory| Ok(Box::new(Broken { machine: Machine::new(memory)?, mnemonic, spoil })))
}

#[test]
fn a_program_agrees_with_the_processor_to_its_end() {
    for every in [1, 7, 1000] {
        let options = Options { every, ..Options::default() };
        let Some(outcome) = check("agrees", &options, &sound) else { return };
        match outcome {
            Outcome::Agreed(summary) => {
                assert_eq!(summary.ended, Some(Ended::Exited(7)));
                assert!(summary.instructions > 20 * ROUND, "{summary:?}");
            }
            Outcome::Diverged(divergence) => panic!("{divergence}"),
        }
    }
}

#[test]
fn comparing_begins_and_ends_where_it_is_told_to() {
    let options = Options { skip: 10, max_instructions: Some(50), ..Options::default() };
    let Some(Outcome::Agreed(summary)) = check("part", &options, &sound) else { return };
    assert_eq!((summary.instructions, summary.ended), (50, None));
    let again = CODE + 10;
    let options = Options { from: Some(again), until: Some(again), ..Options::default() };
    let Some(Outcome::Agreed(summary)) = check("part", &options, &sound) else { panic!("it just worked") };
    assert_eq!((summary.instructions, summary.ended), (ROUND, None));
}

#[test]
fn a_broken_row_is_found_at_its_instruction() {
    type Spoil = fn(&mut Cpu, &Memory);
    let rows: [(&str, Spoil, &str); 7] = [
        ("adc", |cpu, _| cpu.set_eflags(cpu.eflags() ^ eflags::AF), "flags AF"),
        ("imul", |cpu, _| cpu.regs[3] ^= 1 << 31, "ebx"),
        ("lea", |cpu, _| cpu.eip += 1, "eip"),
        ("fadd", |cpu, _| cpu.fpu.set_status(cpu.fpu.status() ^ 4), "fpu status"),
        ("addps", |cpu, _| cpu.xmm[1] = table86::cpu::V128::ZERO, "xmm1"),
        ("movups", |_, memory| flip(memory, DATA + 48), "memory at 0x00400830"),
        ("movsd", |_, memory| flip(memory, DATA + 11), "memory at 0x0040080b"),
    ];
    for (mnemonic, spoil, what) in rows {
        let Some(outcome) = check("broken", &Options::default(), &broken(mnemonic, spoil)) else { return };
        let Outcome::Diverged(divergence) = outcome else { panic!("{mnemonic}: nothing found") };
        let Divergence { step, differences, .. } = &*divergence;
        let insn = step.and_then(|step| step.insn()).expect("one instruction");
        assert_eq!((insn.form().mnemonic, differences[0].what.as_str()), (mnemonic, what), "{divergence}");
        let text = divergence.to_string();
        let form = insn.form();
        assert!(text.contains(&format!("opcodes/{}.toml:{}", form.room, form.line)), "{text}");
    }
}

#[test]
fn a_stray_store_is_found_at_the_next_system_call() {
    let stray = broken("shl", |_, memory| flip(memory, DATA + 0x400));
    let Some(Outcome::Diverged(divergence)) = check("stray", &Options::default(), &stray) else { return };
    assert!(!divergence.by_row && divergence.step.is_none(), "{divergence}");
    assert_eq!(divergence.differences[0].what, "memory at 0x00400c00");
}

#[test]
fn a_broken_row_is_found_within_a_window() {
    let options = Options { every: 20, ..Options::default() };
    let wrong = broken("imul", |cpu, _| cpu.regs[3] ^= 4);
    let Some(Outcome::Diverged(divergence)) = check("window", &options, &wrong) else { return };
    let Divergence { agreed, window, .. } = *divergence;
    assert!(agreed < 7 && 7 <= agreed + window && window <= 20, "{divergence}");
}
