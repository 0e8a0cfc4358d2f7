//! The engine on small pieces of code.

use std::sync::Arc;
use table86::memory::{MapRequest, Place, Prot};
use table86::{Fault, Machine, Memory, Stop};

const CODE: u32 = 0x1000_0000;
const DATA: u32 = 0x2000_0000;

fn machine(code: &[u8]) -> Machine {
    let memory = Arc::new(Memory::new().expect("reservation"));
    let rwx = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(&MapRequest::anonymous(Place::Fixed(CODE), 0x2000, rwx)).expect("code");
    memory.map(&MapRequest::anonymous(Place::Fixed(DATA), 0x4000, Prot::READ | Prot::WRITE)).expect("data");
    memory.write_bytes(CODE, code).expect("code is mapped");
    let mut machine = Machine::new(memory).expect("translations");
    machine.cpu.eip = CODE;
    machine.cpu.regs[4] = DATA + 0x2000;
    machine
}

#[test]
fn a_loop_sums_and_counts_exactly() {
    // xor eax,eax; mov ecx,1000; 1: add eax,ecx; dec ecx; jnz 1b; int 0x80
    let code = [0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0, 1, 0xc8, 0x49, 0x75, 0xfb, 0xcd, 0x80];
    let mut machine = machine(&code);
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    assert_eq!(machine.cpu.regs[0], 500_500);
    assert_eq!(machine.cpu.eip, CODE + code.len() as u32);
    assert_eq!(machine.cpu.instructions(), 2 + 3 * 1000 + 1);
}

#[test]
fn a_limit_stops_exactly_there() {
    let code = [0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0, 1, 0xc8, 0x49, 0x75, 0xfb, 0xcd, 0x80];
    for limit in [0, 1, 2, 3, 100, 999, 1000, 1001, 3001] {
        let mut machine = machine(&code);
        assert_eq!(machine.run(limit), Stop::Limit);
        assert_eq!(machine.cpu.instructions(), limit);
    }
}

#[test]
fn calls_return_and_faults_are_exact() {
    // mov ebx,5; 1: call f; dec ebx; jnz 1b; mov [0],eax   f: inc eax; ret
    let code = [0xbb, 5, 0, 0, 0, 0xe8, 8, 0, 0, 0, 0x4b, 0x75, 0xf8, 0xa3, 0, 0, 0, 0, 0x40, 0xc3];
    let mut machine = machine(&code);
    let stop = machine.run(u64::MAX);
    assert_eq!(stop, Stop::Exception(Fault::pf(6)), "{:x?}", machine.cpu.eip);
    assert_eq!(machine.cpu.cr2, 0);
    assert_eq!(machine.cpu.regs[0], 5);
    assert_eq!(machine.cpu.eip, CODE + 13);
    assert_eq!(machine.cpu.instructions(), 1 + 5 * 5);
}

#[test]
fn flags_are_exact_at_instructions_that_only_fault() {
    // hlt; cli; in al, 4; out 7, eax; rdmsr; xsave [eax], which is declared and not implemented
    for refused in [&[0xf4][..], &[0xfa], &[0xe4, 4], &[0xe7, 7], &[0x0f, 0x32], &[0x0f, 0xae, 0x20]] {
        // sub ebx, 1; the instruction; cmp ebx, ebx; int 0x80
        let code = [&[0x83, 0xeb, 1][..], refused, &[0x39, 0xdb, 0xcd, 0x80]].concat();
        let mut machine = machine(&code);
        assert!(matches!(machine.run(u64::MAX), Stop::Exception(_)));
        assert_eq!(machine.cpu.eip, CODE + 3, "{refused:x?}");
        assert_eq!(machine.cpu.eflags() & 0x8d5, 0x95, "{refused:x?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn rdtsc_reads_the_hosts_counter_into_edx_and_eax() {
    // SAFETY: RDTSC is in every x86-64 processor and touches no memory.
    let now = || unsafe { std::arch::x86_64::_rdtsc() };
    // rdtsc; int 0x80
    let mut machine = machine(&[0x0f, 0x31, 0xcd, 0x80]);
    let before = now();
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    let read = u64::from(machine.cpu.regs[2]) << 32 | u64::from(machine.cpu.regs[0]);
    assert!((before..=now()).contains(&read), "{before:#x} {read:#x}");
}

#[test]
fn code_that_writes_its_successor_runs_what_it_wrote() {
    // mov byte [CODE+8], 0x41 ; nop ; inc eax -> becomes inc ecx ; int 0x80
    let code = [0xc6, 0x05, 8, 0, 0, 0x10, 0x41, 0x90, 0x40, 0xcd, 0x80];
    let mut machine = machine(&code);
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    assert_eq!((machine.cpu.regs[0], machine.cpu.regs[1]), (0, 1));
}

#[test]
fn breakpoints_stop_before_the_instruction_in_translated_code_too() {
    // xor eax,eax; mov ecx,1000; 1: add eax,ecx; dec ecx; jnz 1b; int 0x80
    let code = [0x31, 0xc0, 0xb9, 0xe8, 3, 0, 0, 1, 0xc8, 0x49, 0x75, 0xfb, 0xcd, 0x80];
    let mut machine = machine(&code);
    assert_eq!(machine.run(300), Stop::Limit);
    let dec = CODE + 9;
    machine.breakpoints().insert(dec);
    for left in [901, 900, 899] {
        assert_eq!(machine.run(u64::MAX), Stop::Breakpoint);
        assert_eq!((machine.cpu.eip, machine.cpu.regs[1]), (dec, left));
        assert_eq!(machine.step(), None);
    }
    assert!(machine.breakpoints().remove(dec));
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    assert_eq!(machine.cpu.instructions(), 2 + 3 * 1000 + 1);
}

/// Adds up what a machine has counted: by address.
fn counted(machine: &Machine) -> std::collections::BTreeMap<u32, i64> {
    let mut counts = std::collections::BTreeMap::new();
    machine.drain_counts(|addr, _, count| *counts.entry(addr - CODE).or_default() += count);
    counts.retain(|_, count| *count != 0);
    counts
}

#[test]
fn each_instruction_is_counted_as_often_as_it_is_executed() {
    // mov ecx,1000; 1: test cl,7; jnz 2f; inc edx; mov [edx+ebx],al; 2: dec ecx; jnz 1b; int 0x80
    let code =
        [0xb9, 0xe8, 3, 0, 0, 0xf6, 0xc1, 7, 0x75, 4, 0x42, 0x88, 4, 0x1a, 0x49, 0x75, 0xf4, 0xcd, 0x80];
    for (warm, limit) in [(0, u64::MAX), (1, u64::MAX), (20, u64::MAX), (5, 7), (0, 300), (3, 1000)] {
        let memory = Arc::new(Memory::new().expect("reservation"));
        let all = Prot::READ | Prot::WRITE | Prot::EXEC;
        memory.map(&MapRequest::anonymous(Place::Fixed(CODE), 0x2000, all)).expect("code");
        memory.map(&MapRequest::anonymous(Place::Fixed(DATA), 0x1000, all)).expect("data");
        memory.write_bytes(CODE, &code).expect("mapped");
        let mut machine = Machine::counting(memory, warm).expect("translations");
        machine.cpu.eip = CODE;
        // The store faults when it comes to the end of the page.
        machine.cpu.regs[3] = DATA + 0x1000 - 101;
        let mut sum = std::collections::BTreeMap::<u32, i64>::new();
        let stop = loop {
            let stop = machine.run(limit);
            for (addr, count) in counted(&machine) {
                *sum.entry(addr).or_default() += count;
            }
            if stop != Stop::Limit {
                break stop;
            }
        };
        assert!(matches!(stop, Stop::Exception(fault) if fault.kind == table86::FaultKind::Pf), "{stop:?}");
        // ECX was 1000 down to 200 in 801 rounds, every eighth of which stored, the last one in vain.
        let expected = [(0, 1), (5, 801), (8, 801), (10, 101), (11, 100), (14, 800), (15, 800)];
        assert_eq!(sum.into_iter().collect::<Vec<_>>(), expected, "warm {warm}, limit {limit}");
        let total: i64 = expected.iter().map(|(_, count)| count).sum();
        assert_eq!(machine.cpu.instructions(), total as u64);
    }
}

#[test]
fn a_stop_that_is_asked_for_does_not_spoil_the_counts() {
    // 1: inc eax; cmp eax,ebx; jne 1b; int 0x80
    let code = [0x40, 0x39, 0xd8, 0x75, 0xfb, 0xcd, 0x80];
    let memory = Arc::new(Memory::new().expect("reservation"));
    let all = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(&MapRequest::anonymous(Place::Fixed(CODE), 0x2000, all)).expect("code");
    memory.write_bytes(CODE, &code).expect("mapped");
    let mut machine = Machine::counting(memory, 0).expect("translations");
    machine.cpu.eip = CODE;
    machine.cpu.regs[3] = 10_000;
    machine.cpu.request_stop();
    assert_eq!(machine.run(u64::MAX), Stop::Requested);
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    assert_eq!(
        counted(&machine).into_iter().collect::<Vec<_>>(),
        [(0, 10_000), (1, 10_000), (3, 10_000), (5, 1)]
    );
}
