//! The oracle and a machine in one process: both rely on SIGSEGV, and each gets its own.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod oracle;

use oracle::reg::{EAX, EBX, ECX, EDI, ESI};
use oracle::{CODE, DATA, Oracle, State, WINDOW, with_oracle};
use std::sync::Arc;
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory, Stop};

/// Code that ends with a page fault, and the registers it begins with.
/// Code, and registers by index with their values.
type Case = (&'static [u8], &'static [(usize, u32)]);

const CASES: &[Case] = &[
    (&[0x40, 0x8B, 0x03], &[(EBX, DATA + WINDOW - 2)]),
    (&[0x40, 0x89, 0x03], &[(EBX, 0)]),
    (&[0x40, 0x01, 0x03], &[(EBX, DATA - 4)]),
    (&[0xF3, 0xA4], &[(ESI, DATA), (EDI, DATA + WINDOW - 7), (ECX, 100)]),
    (&[0x40, 0xFF, 0xE3], &[(EAX, 5), (EBX, DATA + 2 * WINDOW)]),
];

fn machine() -> Machine {
    let memory = Memory::new().expect("a reservation");
    let rw = Prot::READ | Prot::WRITE;
    for (start, prot) in [(CODE, rw | Prot::EXEC), (DATA, rw)] {
        memory.map(&MapRequest::anonymous(Place::Fixed(start), WINDOW, prot)).expect("a window");
    }
    Machine::new(Arc::new(memory)).expect("translations")
}

/// Runs all cases on both, in turn, and compares the faults and where they left the registers.
fn compare(oracle: &mut Oracle, machine: &mut Machine) {
    for (number, &(code, regs)) in CASES.iter().enumerate() {
        let at = CODE + 0x100 * number as u32;
        let state = State::with(regs);
        let silicon = oracle.run(code, at, &state);
        let fault = silicon.fault().expect("a fault");
        machine.memory.write_bytes(at, code).expect("code is mapped");
        machine.cpu.regs = state.regs;
        machine.cpu.eip = at;
        let Stop::Exception(exception) = machine.run(u64::MAX) else { panic!("no exception in {code:x?}") };
        assert_eq!((exception.code.into(), machine.cpu.cr2), (fault.error, fault.cr2), "{code:x?}");
        assert_eq!((machine.cpu.regs, machine.cpu.eip), (silicon.state.regs, silicon.state.eip), "{code:x?}");
    }
}

#[test]
fn the_machine_first() {
    let mut machine = machine();
    with_oracle(|oracle| compare(oracle, &mut machine));
}

#[test]
fn the_oracle_first() {
    with_oracle(|oracle| {
        let mut machine = machine();
        oracle.claim_signals();
        compare(oracle, &mut machine);
    });
}

/// A page that nothing has touched, of a mapping that is not there otherwise.
const UNTOUCHED: u32 = 0x5000_0000;

#[test]
#[cfg_attr(feature = "portable", ignore = "pages that may be accessed count as touched there")]
fn a_page_is_present_once_it_was_touched() {
    let mut machine = machine();
    with_oracle(|oracle| {
        let len = 4 * oracle::PAGE;
        oracle.map(UNTOUCHED, len, oracle::Access::Read).expect("a window");
        let request = MapRequest::anonymous(Place::Fixed(UNTOUCHED), len, Prot::READ);
        machine.memory.map(&request).expect("a window");
        // mov [ebx], eax; mov eax, [ebx] and the same; jmp ebx; mov eax, [ebx] and the same
        let codes: [&[u8]; 4] =
            [&[0x89, 0x03], &[0x8B, 0x03, 0x89, 0x03], &[0xFF, 0xE3], &[0x8B, 0x03, 0xFF, 0xE3]];
        let mut seen = Vec::new();
        for (number, code) in (0..).zip(codes) {
            let at = CODE + 0x100 * number;
            let state = State::with(&[(EBX, UNTOUCHED + oracle::PAGE * number)]);
            let fault = oracle.run(code, at, &state).fault().expect("a fault");
            machine.memory.write_bytes(at, code).expect("code is mapped");
            machine.cpu.regs = state.regs;
            machine.cpu.eip = at;
            let Stop::Exception(exception) = machine.run(u64::MAX) else {
                panic!("no exception in {code:x?}")
            };
            assert_eq!((exception.code.into(), machine.cpu.cr2), (fault.error, fault.cr2), "{code:x?}");
            seen.push(fault.error);
        }
        println!("error codes {seen:x?}");
    });
}
