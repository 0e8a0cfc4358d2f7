//! Instructions with implicit operands (stack, control, strings, segments, system) against the processor.
//!
//! Each line of [`CASES`] is code that both run on random registers and memory, pointers near page edges and near
//! the end of what is mapped included; registers, EFLAGS, selectors, memory and faults must agree.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod oracle;

use oracle::reg::{EAX, EBP, EBX, ECX, EDI, EDX, ESI, ESP};
use oracle::{CODE, DATA, Oracle, PAGE, STACK, Segment, State, WINDOW, flag, with_oracle};
use std::sync::Arc;
use table86::isa::{Part, Vendor, decode};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory, Stop};

/// Status flags, DF, NT and ID. Not AC: alignment is not checked here.
const FLAGS: u32 = flag::ARITHMETIC | flag::DF | flag::NT | flag::ID;

/// In what a case may differ, beside what the tables say of this vendor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Note {
    None,
    /// The kind of fault: far returns on AMD look at an outer stack first.
    OuterStack,
    /// At a page fault the address, and what was stored: Linux emulates the instruction under UMIP.
    Umip,
    /// The result is about this processor's number: selector 78h is left out.
    NoCpuNumber,
}
use Note::{NoCpuNumber, None, OuterStack, Umip};

/// Code in hex, the number of its instructions, a note.
const CASES: &[(&str, u64, Note)] = &[
    // push: registers, immediates, memory, segment registers
    ("50", 1, None),
    ("54", 1, None),
    ("6653", 1, None),
    ("68a1b2c3d4", 1, None),
    ("6668a1b2", 1, None),
    ("6a80", 1, None),
    ("666a80", 1, None),
    ("ff33", 1, None),
    ("66ff33", 1, None),
    ("ff742404", 1, None),
    ("06", 1, None),
    ("6616", 1, None),
    ("1e", 1, None),
    ("0e", 1, None),
    ("0fa0", 1, None),
    ("660fa8", 1, None),
    // pop
    ("58", 1, None),
    ("5c", 1, None),
    ("665c", 1, None),
    ("8f03", 1, None),
    ("668f03", 1, None),
    ("8f442404", 1, None),
    ("8f0424", 1, None),
    ("668f4424fe", 1, None),
    ("8fc0", 1, None),
    ("8fc4", 1, None),
    ("07", 1, None),
    ("1f", 1, None),
    ("6607", 1, None),
    ("17", 1, None),
    ("0fa1", 1, None),
    ("0fa9", 1, None),
    ("660fa9", 1, None),
    // pusha, popa, pushf, popf (TF cleared in the image), enter, leave
    ("60", 1, None),
    ("6660", 1, None),
    ("61", 1, None),
    ("6661", 1, None),
    ("9c", 1, None),
    ("669c", 1, None),
    ("812424fffefbff9d9c", 3, None),
    ("812424fffefbff669d9c", 3, None),
    ("c8000000", 1, None),
    ("c8100000", 1, None),
    ("c8100001", 1, None),
    ("c8040102", 1, None),
    ("c8080007", 1, None),
    ("c808001f", 1, None),
    ("c8080020", 1, None),
    ("66c8080000", 1, None),
    ("66c8080005", 1, None),
    ("c9", 1, None),
    ("66c9", 1, None),
    // near branches and counts
    ("7005", 1, None),
    ("7205", 1, None),
    ("7405", 1, None),
    ("7605", 1, None),
    ("7805", 1, None),
    ("7a05", 1, None),
    ("7c05", 1, None),
    ("7f05", 1, None),
    ("0f8510000000", 1, None),
    ("e305", 1, None),
    ("67e305", 1, None),
    ("e205", 1, None),
    ("67e205", 1, None),
    ("e105", 1, None),
    ("67e105", 1, None),
    ("e005", 1, None),
    ("67e005", 1, None),
    ("eb20", 1, None),
    ("e920000000", 1, None),
    ("e820000000", 1, None),
    ("66e82000", 1, None),
    ("ff13", 1, None),
    ("ff23", 1, None),
    ("c3", 1, None),
    ("66c3", 1, None),
    ("c20800", 1, None),
    ("c2ffff", 1, None),
    // far transfers
    ("ea000800102300", 1, None),
    ("ea000800102000", 1, None),
    ("ea000800102b00", 1, None),
    ("ea000800100000", 1, None),
    ("ea000800100300", 1, None),
    ("ea000800101000", 1, None),
    ("ea000800104000", 1, None),
    ("ea00080010f8ff", 1, None),
    ("ea000800100700", 1, None),
    ("ff2b", 1, None),
    ("66ff2b", 1, None),
    ("9a000800102300", 1, None),
    ("9a000800102b00", 1, None),
    ("669a00082300", 1, None),
    ("ff1b", 1, None),
    ("cb", 1, OuterStack),
    ("66cb", 1, OuterStack),
    ("ca0800", 1, OuterStack),
    ("81642408fffefbffcf", 2, OuterStack),
    ("6681642404fffe66cf", 2, OuterStack),
    // interrupts, bound; not INT1, after which hypervisors on AMD leave EIP at the instruction
    ("cc", 1, None),
    ("ce", 1, None),
    ("cd00", 1, None),
    ("cd01", 1, None),
    ("cd03", 1, None),
    ("cd04", 1, None),
    ("cd21", 1, None),
    ("cdff", 1, None),
    ("6203", 1, None),
    ("666203", 1, None),
    ("620c24", 1, None),
    // strings, alone
    ("a4", 1, None),
    ("66a5", 1, None),
    ("a5", 1, None),
    ("67a4", 1, None),
    ("a6", 1, None),
    ("66a7", 1, None),
    ("a7", 1, None),
    ("aa", 1, None),
    ("66ab", 1, None),
    ("ab", 1, None),
    ("ac", 1, None),
    ("66ad", 1, None),
    ("ad", 1, None),
    ("ae", 1, None),
    ("66af", 1, None),
    ("af", 1, None),
    ("65a5", 1, None),
    ("65a7", 1, None),
    ("65ad", 1, None),
    // strings, repeated
    ("f3a4", 1, None),
    ("f366a5", 1, None),
    ("66f3a5", 1, None),
    ("f3a5", 1, None),
    ("f2a4", 1, None),
    ("f2a5", 1, None),
    ("67f3a4", 1, None),
    ("67f3a5", 1, None),
    ("f3a6", 1, None),
    ("f366a7", 1, None),
    ("f3a7", 1, None),
    ("f2a6", 1, None),
    ("f266a7", 1, None),
    ("f2a7", 1, None),
    ("f3aa", 1, None),
    ("f366ab", 1, None),
    ("f3ab", 1, None),
    ("f2ab", 1, None),
    ("f3ac", 1, None),
    ("f366ad", 1, None),
    ("f3ad", 1, None),
    ("f2ae", 1, None),
    ("f366af", 1, None),
    ("f2af", 1, None),
    ("f3ae", 1, None),
    ("65f3a4", 1, None),
    ("65f3a6", 1, None),
    // segment registers
    ("8cc0", 1, None),
    ("668cd8", 1, None),
    ("8c13", 1, None),
    ("8ec0", 1, None),
    ("8ed8", 1, None),
    ("8ed0", 1, None),
    ("8ee0", 1, None),
    ("8ee8", 1, None),
    ("8e03", 1, None),
    ("8ec8", 1, None),
    ("8ef0", 1, None),
    ("c403", 1, None),
    ("66c503", 1, None),
    ("0fb203", 1, None),
    ("0fb403", 1, None),
    ("660fb503", 1, None),
    ("63c8", 1, None),
    ("630b", 1, None),
    ("0f02c8", 1, None),
    ("660f02c8", 1, None),
    ("0f020b", 1, None),
    ("0f03c8", 1, NoCpuNumber),
    ("660f03c8", 1, NoCpuNumber),
    ("0f00e0", 1, None),
    ("0f00e8", 1, None),
    ("0f0023", 1, None),
    ("0f00c0", 1, None),
    ("660f00c0", 1, None),
    ("0f0003", 1, Umip),
    ("0f00c8", 1, None),
    ("0f000b", 1, Umip),
    ("0f01e0", 1, None),
    ("660f01e0", 1, None),
    ("0f0123", 1, Umip),
    ("0f0103", 1, Umip),
    ("0f010b", 1, Umip),
    // system
    ("0fffc0", 1, None),
    ("0fb9c0", 1, None),
    ("0f0b", 1, None),
    ("0faa", 1, None),
    ("0f01c8", 1, None),
    ("0f01ca", 1, None),
    ("0f35", 1, None),
    ("0f07", 1, None),
    ("f4", 1, None),
    ("e480", 1, None),
    ("ed", 1, None),
    ("ee", 1, None),
    ("6c", 1, None),
    ("f36f", 1, None),
    ("0f00d0", 1, None),
    ("0f0113", 1, None),
    ("0f01f0", 1, None),
    ("0f013b", 1, None),
    ("0f06", 1, None),
    ("0f08", 1, None),
    ("0f09", 1, None),
    ("0f30", 1, None),
    ("0f32", 1, None),
    ("0f20c0", 1, None),
    ("0f20c8", 1, None),
    ("0f2000", 1, None),
    ("0f22d8", 1, None),
    ("0f21e0", 1, None),
    ("0f23f8", 1, None),
    // extensions
    ("f30fb8c3", 1, None),
    ("66f30fb803", 1, None),
    ("0f38f003", 1, None),
    ("660f38f103", 1, None),
    ("f20f38f0c3", 1, None),
    ("f20f38f1c3", 1, None),
    ("66f20f38f103", 1, None),
    ("660f38f6c3", 1, None),
    ("f30f38f6c3", 1, None),
    ("0f180b", 1, None),
    ("0f0d0b", 1, None),
    ("0faee8", 1, None),
    ("0faef7", 1, None),
    ("0faeff", 1, None),
    ("0fae3b", 1, None),
    ("660fae3b", 1, None),
    ("0fc30b", 1, None),
];

/// Xorshift; the same numbers in each run.
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
    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }
    /// An address in or just outside of the windows, mostly near an edge of a page.
    fn pointer(&mut self) -> u32 {
        let window = self.pick(&[DATA, STACK]);
        let page = self.below(WINDOW / PAGE + 1) * PAGE;
        let offset = match self.below(4) {
            0 => self.below(PAGE),
            _ => self.below(24).wrapping_sub(12),
        };
        window.wrapping_add(page).wrapping_add(offset)
    }
    /// A selector: those that Linux has, null, and some that it has not.
    fn selector(&mut self, note: Note) -> u32 {
        let selector =
            self.pick(&[0, 0x20, 0x28, 0x28, 0x28, 0x30, 0x60, 0x78, 0x08, 0x40, 0x70, 0x88, 0xfff8, 4, 0xc]);
        if note == NoCpuNumber && selector == 0x78 { 0 } else { selector | self.pick(&[0, 1, 2, 3, 3, 3]) }
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn machine() -> Machine {
    let memory = Memory::new().expect("a reservation");
    let rw = Prot::READ | Prot::WRITE;
    for (start, prot) in [(CODE, rw | Prot::EXEC), (DATA, rw), (STACK, rw)] {
        memory.map(&MapRequest::anonymous(Place::Fixed(start), WINDOW, prot)).expect("a window");
    }
    memory.fill(CODE, 0xf4, WINDOW).expect("HLT everywhere");
    Machine::new(Arc::new(memory)).expect("translations")
}

struct Pair<'a> {
    oracle: &'a mut Oracle,
    machine: &'a mut Machine,
    random: Random,
    tls: u16,
}

impl Pair<'_> {
    /// Writes the same bytes on both sides.
    fn write(&mut self, addr: u32, bytes: &[u8]) {
        if self.machine.memory.write_bytes(addr, bytes).is_ok() {
            self.oracle.bytes_mut(addr, bytes.len()).copy_from_slice(bytes);
        }
    }

    fn state(&mut self, code: &[u8], note: Note) -> State {
        let random = &mut self.random;
        let mut state = State::default();
        for value in &mut state.regs {
            *value = if random.below(2) == 0 { random.next() } else { random.next() % 8 };
        }
        for register in [EBX, EBP, ESI, EDI, ESP] {
            state.regs[register] = random.pointer();
        }
        if random.below(2) == 0 {
            state.regs[EAX] = random.selector(note);
        }
        if random.below(3) == 0 {
            // Overlapping strings, a few bytes apart.
            state.regs[EDI] = state.regs[ESI].wrapping_add(random.below(40)).wrapping_sub(20);
        }
        if random.below(4) == 0 {
            state.regs[ESI] &= 0xffff;
        }
        state.regs[ECX] = match random.below(4) {
            0 => random.below(4),
            1 => random.below(40),
            _ => random.below(2 * PAGE),
        };
        state.regs[EDX] = random.pointer();
        let mut flags = random.next() & FLAGS;
        if random.below(8) != 0 {
            flags &= !flag::NT;
        }
        state.eflags = flags | flag::IF | 2;
        // The machine finds a null segment before it looks at anything else.
        let uses_gs = code[0] == 0x65;
        state.segs[oracle::seg::GS] = if uses_gs { self.tls } else { random.pick(&[0, self.tls]) };
        // The stack and what EBX points to hold selectors, addresses of code and small numbers.
        let pool = [CODE + 0x800, CODE + 0x900, 0x23, 0x23, 0x2b, 0x20, 0x800, 0, 0xffff_ffff];
        for at in [state.regs[ESP], state.regs[EBX]] {
            for slot in 0..4 {
                let value =
                    if slot < 2 || random.below(2) == 0 { random.pick(&pool) } else { random.selector(note) };
                let value = if random.below(8) == 0 { random.next() } else { value };
                let bytes = value.to_le_bytes();
                if self.machine.memory.write_bytes(at + slot * 4, &bytes).is_ok() {
                    self.oracle.bytes_mut(at + slot * 4, 4).copy_from_slice(&bytes);
                }
            }
        }
        state
    }

    /// Gives the machine the oracle's memory.
    fn equalize(&mut self) {
        for window in [DATA, STACK] {
            let bytes = self.oracle.bytes(window, WINDOW as usize);
            self.machine.memory.write_bytes(window, bytes).expect("mapped");
        }
    }

    /// Runs `code` on both and compares.
    fn check(&mut self, name: &str, code: &[u8], instructions: u64, note: Note) {
        let state = self.state(code, note);
        let at = CODE + 0x100;
        let row = decode(code, at).map(|insn| insn.form());
        let departs = |part| row.is_ok_and(|form| form.departure(Vendor::of_host(), part).is_some());
        let silicon = self.oracle.run(code, at, &state);
        if silicon.state.segs[oracle::seg::CS] == CODE64 {
            return self.equalize();
        }
        self.machine.memory.write_bytes(at, code).expect("code is mapped");
        // Behind the code the oracle puts its exit, the machine stops by its limit.
        let cpu = &mut self.machine.cpu;
        cpu.regs = state.regs;
        cpu.eip = at;
        cpu.set_eflags(state.eflags);
        cpu.selectors = state.segs;
        cpu.segment_bases = [0; 8];
        cpu.segment_bases[oracle::seg::GS] = if state.segs[oracle::seg::GS] == 0 { 0 } else { TLS_BASE };
        let stop = self.machine.run(instructions);
        let cpu = &self.machine.cpu;
        let context = || {
            format!(
                "{name}: {state:?}\nsilicon {silicon:x?}\nmachine {stop:?} {:x?} eip {:x} flags {:x} {:x?}",
                cpu.regs,
                cpu.eip,
                cpu.eflags(),
                cpu.selectors
            )
        };
        // A store to the lower half of a slot, or a fault of the upper one, is not compared here but in `silicon`.
        if departs(Part::AccessWidth) && code[0] != 0x66 {
            return self.equalize();
        }
        match stop {
            Stop::Limit => {
                // A branch arrives at HLT, or where nothing is mapped.
                let arrived = silicon.stop == oracle::Stop::End
                    || silicon
                        .fault()
                        .is_some_and(|fault| matches!(fault.vector, 13 | 14 | 17) && silicon.state.eip != at);
                assert!(arrived, "{}", context());
            }
            Stop::Exception(exception) => {
                let Some(fault) = silicon.fault() else { panic!("{}", context()) };
                let seen = (exception.vector(), u32::from(exception.code));
                // INT n carries its vector where faults carry an error code.
                let error = if exception.is_trap() { seen.1 } else { fault.error };
                let page_fault = fault.vector == oracle::Fault::PF;
                if !(note == OuterStack && page_fault || departs(Part::Fault)) {
                    assert_eq!(seen, (fault.vector, error), "{}", context());
                }
                if page_fault && !matches!(note, OuterStack | Umip) && !departs(Part::Fault) {
                    assert_eq!(cpu.cr2, fault.cr2, "{}", context());
                }
            }
            _ => panic!("{}", context()),
        }
        let faulted = matches!(stop, Stop::Exception(_));
        if !(faulted && departs(Part::RegistersAtFaults)) {
            assert_eq!(cpu.regs, silicon.state.regs, "{}", context());
        }
        assert_eq!(cpu.eip, silicon.state.eip, "{}", context());
        let hidden =
            if faulted && departs(Part::FlagsAtFaults) { flag::RF | flag::ARITHMETIC } else { flag::RF };
        assert_eq!(cpu.eflags() & !hidden, silicon.state.eflags & !hidden, "{}", context());
        assert_eq!(cpu.selectors, silicon.state.segs, "{}", context());
        if faulted && note == Umip {
            return self.equalize();
        }
        for window in [DATA, STACK] {
            let mut ours = vec![0; WINDOW as usize];
            self.machine.memory.read_bytes(window, &mut ours).expect("mapped");
            let theirs = self.oracle.bytes(window, WINDOW as usize);
            if let Some(differs) = (0..ours.len()).find(|&at| ours[at] != theirs[at]) {
                let place = window + differs as u32;
                panic!(
                    "{}\nat {place:#x}: machine {:x?}, silicon {:x?}",
                    context(),
                    &ours[differs..(differs + 8).min(ours.len())],
                    &theirs[differs..(differs + 8).min(ours.len())]
                );
            }
        }
    }
}

/// Linux's 64-bit code, which a far return reaches on the processor but not in the machine.
const CODE64: u16 = 0x33;
/// Base of the thread-local segment.
const TLS_BASE: u32 = DATA + 0x123;

#[test]
fn implicit_instructions_agree_with_the_processor() {
    let mut machine = machine();
    with_oracle(|oracle| {
        let segment = Segment {
            base: TLS_BASE,
            limit: 0xfffff,
            limit_in_pages: true,
            writable: true,
            expand_down: false,
        };
        let tls = oracle.set_segment(0, &segment).expect("a TLS entry");
        // As set_thread_area(2) makes it: data, 32 bits, AVL set, limit in pages.
        let base = u64::from(TLS_BASE);
        machine.cpu.descriptors.gdt[usize::from(tls >> 3)] =
            0x00df_f300_0000_ffff | (base & 0xff_ffff) << 16 | (base & 0xff00_0000) << 32;
        let rounds: u32 =
            std::env::var("TABLE86_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
        let mut pair = Pair { oracle, machine: &mut machine, random: Random(0x1234_5678_9abc_def1), tls };
        let mut noise = vec![0; WINDOW as usize];
        for window in [DATA, STACK] {
            for byte in &mut noise {
                // Few values, so that comparisons run for a while.
                *byte = pair.random.pick(&[0, 0, 0, 0, 0, 0, 0, 1]);
            }
            pair.write(window, &noise);
        }
        let mut failures = Vec::new();
        for &(name, instructions, note) in CASES {
            let code = hex(name);
            for _ in 0..rounds {
                let run = std::panic::AssertUnwindSafe(|| pair.check(name, &code, instructions, note));
                if let Err(error) = std::panic::catch_unwind(run) {
                    failures.push(error.downcast_ref::<String>().cloned().unwrap_or_default());
                    pair.equalize();
                    break;
                }
            }
        }
        assert!(
            failures.is_empty(),
            "{} of {} cases differ:\n{}",
            failures.len(),
            CASES.len(),
            failures.join("\n\n")
        );
    });
}
