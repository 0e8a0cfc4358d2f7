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
fn code_that_writes_its_successor_runs_what_it_wrote() {
    // mov byte [CODE+8], 0x41 ; nop ; inc eax -> becomes inc ecx ; int 0x80
    let code = [0xc6, 0x05, 8, 0, 0, 0x10, 0x41, 0x90, 0x40, 0xcd, 0x80];
    let mut machine = machine(&code);
    assert_eq!(machine.run(u64::MAX), Stop::Exception(Fault::int(0x80)));
    assert_eq!((machine.cpu.regs[0], machine.cpu.regs[1]), (0, 1));
}
