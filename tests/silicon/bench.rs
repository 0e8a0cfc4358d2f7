//! The processor and the machines side by side, with the same memory at the same addresses.
//!
//! The windows keep what instructions wrote, on all three alike; only a difference sets them equal again.

use crate::answers::{self, Answer, Row, Silicon, Tape};
use crate::exempt::differs_in_flags;
use crate::oracle::{self, Access, CODE, DATA, Oracle, PAGE, STACK, Segment, State, WINDOW};
use crate::program::defines_flags;
use crate::random::Random;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use table86::cpu::image::FXSAVE_BYTES;
use table86::fpu::FXSAVE_X87;
use table86::isa::decode;
use table86::isa::decode::MAX_LEN;
use table86::memory::{MapRequest, Place, Prot};
use table86::{Fault, FaultKind, Machine, Memory, Stop};

/// Where instructions stand that are tried one by one, [`SLOT`] bytes each; readable, writable, executable.
pub const SLOTS: u32 = 0x1100_0000;
/// Bytes of a slot. All but the code in its middle is HLT.
pub const SLOT: u32 = 512;
/// Where the code begins in its slot.
pub const SLOT_ENTRY: u32 = SLOT / 2;
const SLOTS_LEN: u32 = 32 * PAGE;
/// Where programs stand; as [`SLOTS`], and not mapped behind its end.
pub const PROGRAMS: u32 = 0x1200_0000;
/// Bytes for programs.
pub const PROGRAMS_LEN: u32 = 32 * PAGE;
/// Three pages of data, of which the middle one is read-only.
pub const MIXED: u32 = 0x2400_0000;
/// Bytes of them.
pub const MIXED_LEN: u32 = 3 * PAGE;
/// Windows of data.
const WINDOWS: [(u32, u32); 3] = [(DATA, WINDOW), (STACK, WINDOW), (MIXED, MIXED_LEN)];

/// Bases of the segments that the three TLS descriptors hold: the upper part of the first one's 64 KiB is the data
/// window, of the second one's the stack; the third one's offsets wrap around.
pub const BASES: [u32; 3] = [DATA - 0xf000, STACK - 0x9000, 0xb000_0000];

const HLT: u8 = 0xf4;
const INT80: [u8; 2] = [0xcd, 0x80];
/// Length of the longest exit that the code may be followed by, in bytes.
pub const EXIT_LEN: u32 = 7;
/// What a run of a machine may take.
const LIMIT: u64 = 30_000;
const RF: u32 = oracle::flag::RF;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The code ran to its end.
    End,
    /// INT 80h.
    Syscall,
    /// A fault or trap; `cr2` is 0 but for #PF.
    Fault { vector: u8, error: u32, cr2: u32 },
    /// It does not end.
    Hang,
    /// The machine says that the row is missing.
    Todo,
}

/// What a run left behind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// General registers.
    pub regs: [u32; 8],
    /// The instruction pointer.
    pub eip: u32,
    /// EFLAGS without RF.
    pub eflags: u32,
    /// Selectors; 0 for all four null ones, since a null selector becomes 0 when the kernel returns to user mode.
    pub segs: [u16; 6],
    /// FPU, MXCSR and XMM registers.
    pub fx: Fx,
    /// Why it ended.
    pub event: Event,
}

/// An FXSAVE image without what processors fill in differently: pointers and MXCSR's mask. Runs whose oracle leaves the
/// FPU alone begin and end with the same one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fx(pub [u8; FXSAVE_BYTES]);

impl Fx {
    /// Of an image, which may be longer.
    pub fn of(image: &[u8]) -> Fx {
        let mut fx = Fx(*image.first_chunk().expect("an FXSAVE image"));
        fx.0[6..24].fill(0);
        fx.0[28..32].fill(0);
        fx
    }
}

impl Fx {
    /// The byte of the status word that has TOP.
    const TOP: usize = 3;

    /// The register that is the top of the x87's stack.
    pub fn top(&self) -> usize {
        usize::from(self.0[Fx::TOP] >> 3 & 7)
    }

    /// Takes some bits of an XMM register from another image.
    pub fn take_bits(&mut self, other: &Fx, register: usize, bits: u128) {
        let at = FXSAVE_X87 + 16 * register;
        let taken = self.vector(register) & !bits | other.vector(register) & bits;
        self.0[at..at + 16].copy_from_slice(&taken.to_le_bytes());
    }

    /// An XMM register.
    pub fn vector(&self, register: usize) -> u128 {
        let at = FXSAVE_X87 + 16 * register;
        u128::from_le_bytes(std::array::from_fn(|byte| self.0[at + byte]))
    }

    /// #U of the x87's status word.
    pub fn has_underflow(&self) -> bool {
        const STATUS: usize = 2;
        const UNDERFLOW: u8 = 1 << 4;
        self.0[STATUS] & UNDERFLOW != 0
    }

    /// Makes register 0 the top of the x87's stack; no register changes.
    pub fn rewind(&mut self) {
        const REGISTERS: usize = 32;
        const REGISTER: usize = 16;
        let top = self.top();
        self.0[Fx::TOP] &= !0x38;
        self.0[REGISTERS..][..8 * REGISTER].rotate_right(REGISTER * top);
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_registers(f, self.regs, self.eip, self.eflags, self.segs)?;
        write!(f, "  {:x?}", self.event)
    }
}

/// Writes a state in one line.
pub fn write_registers(
    f: &mut fmt::Formatter<'_>,
    regs: [u32; 8],
    eip: u32,
    eflags: u32,
    segs: [u16; 6],
) -> fmt::Result {
    for (name, value) in ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"].into_iter().zip(regs) {
        write!(f, "{name} {value:08x} ")?;
    }
    write!(f, "eip {eip:08x} flags {eflags:08x} ")?;
    for (bit, name) in [(0, 'C'), (2, 'P'), (4, 'A'), (6, 'Z'), (7, 'S'), (10, 'D'), (11, 'O')] {
        write!(f, "{}", if eflags >> bit & 1 != 0 { name } else { '-' })?;
    }
    write!(f, " segs {segs:02x?}")
}

/// Which machine differs, and how it ended.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The machine's name in [`machines`].
    pub machine: &'static str,
    /// What the processor left.
    pub silicon: Left,
    /// What the machine left.
    pub left: Left,
    /// Addresses where memory differs, with the processor's byte and the machine's: the first few.
    pub memory: Vec<(u32, u8, u8)>,
    /// Instructions that the machine counted.
    pub counted: u64,
}

/// How a machine is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// In one go.
    Whole,
    /// So many instructions at a time at most, chosen anew each time from this seed.
    Pieces(u64),
}

/// A processor and the machines that are compared with it.
pub struct Bench<'a> {
    /// The processor.
    pub oracle: Silicon<'a>,
    /// Where its answers go, or come from.
    tape: Option<Tape>,
    machines: [(&'static str, Machine); MACHINES],
    /// Selectors of [`BASES`].
    pub tls: [u16; 3],
    next_slot: u32,
    next_program: u32,
}

/// How many machines are compared.
pub const MACHINES: usize = 3;

/// How often a block runs on the tiered machine before it is translated well: a few times, so that loops see both translations.
const WARM: u32 = 3;

/// The machines; to be made before the oracle, which wants to be the first to see faults.
pub fn machines() -> [(&'static str, Machine); MACHINES] {
    let memory = || {
        let memory = Memory::new().expect("a reservation");
        let rw = Prot::READ | Prot::WRITE;
        for (start, len) in WINDOWS {
            memory.map(&MapRequest::anonymous(Place::Fixed(start), len, rw)).expect("a window");
        }
        for (start, len) in [(CODE, WINDOW), (SLOTS, SLOTS_LEN), (PROGRAMS, PROGRAMS_LEN)] {
            map_code(&memory, start, len);
        }
        Arc::new(memory)
    };
    let machines = [
        ("new", Machine::new(memory())),
        ("tiered", Machine::tiered(memory(), WARM)),
        ("generic", Machine::generic(memory())),
    ];
    machines.map(|(name, machine)| (name, machine.expect("translations")))
}

/// Maps code pages anew: how often they were written is forgotten.
fn map_code(memory: &Memory, start: u32, len: u32) {
    let prot = Prot::READ | Prot::WRITE | Prot::EXEC;
    memory.map(&MapRequest::anonymous(Place::Fixed(start), len, prot)).expect("a window for code");
    memory.fill(start, HLT, len).expect("it is mapped");
}

impl<'a> Bench<'a> {
    /// With this processor.
    pub fn new(oracle: &'a mut Oracle, machines: [(&'static str, Machine); MACHINES]) -> Bench<'a> {
        Bench::with(Silicon::here(oracle), machines)
    }

    /// Without a processor, for [`Bench::play`]; `tls` are the selectors that the recorded one had.
    pub fn without(tls: [u16; 3], machines: [(&'static str, Machine); MACHINES]) -> Bench<'static> {
        let mut silicon = Silicon::elsewhere(&[CODE, DATA, STACK], tls);
        silicon.bytes_mut(CODE, WINDOW as usize).fill(HLT);
        Bench::with(silicon, machines)
    }

    /// Maps the windows on both sides.
    fn with(mut oracle: Silicon<'a>, mut machines: [(&'static str, Machine); MACHINES]) -> Bench<'a> {
        for (start, len) in [(SLOTS, SLOTS_LEN), (PROGRAMS, PROGRAMS_LEN)] {
            oracle.map(start, len, Access::ReadWriteExecute, HLT);
        }
        oracle.map(MIXED, MIXED_LEN, Access::ReadWrite, 0);
        let mut tls = [0; 3];
        for (slot, base) in BASES.into_iter().enumerate() {
            tls[slot] = oracle.set_segment(slot, &Segment::flat(base)).expect("32-bit system calls");
            for (_, machine) in &mut machines {
                machine.cpu.descriptors.gdt[usize::from(tls[slot] >> 3)] = flat_descriptor(base);
            }
        }
        let mut bench = Bench { oracle, tape: None, machines, tls, next_slot: SLOTS, next_program: PROGRAMS };
        bench.begin_anew();
        bench
    }

    /// Gives all memory the contents, and the next code the place, that a new bench has.
    pub fn begin_anew(&mut self) {
        let mut random = Random::new(1, 1);
        self.fill(&mut random);
        let mixed: Vec<u8> = (0..MIXED_LEN).map(|_| random.word() as u8 | 0x80).collect();
        self.protect_mixed(false);
        self.write(MIXED, &mixed);
        self.protect_mixed(true);
        self.next_slot = SLOTS;
        self.next_program = PROGRAMS;
    }

    /// Lets the middle page of [`MIXED`] be written.
    pub fn open_mixed(&mut self) {
        self.protect_mixed(false);
    }

    /// Lets it be read only, as it is in a new bench.
    pub fn close_mixed(&mut self) {
        self.protect_mixed(true);
    }

    /// Fills memory that can be written on all sides.
    pub fn poke_all(&mut self, start: u32, len: u32, byte: u8) {
        self.write(start, &vec![byte; len as usize]);
    }

    fn protect_mixed(&mut self, closed: bool) {
        let access = if closed { Access::Read } else { Access::ReadWrite };
        self.oracle.protect(MIXED + PAGE, PAGE, access);
        let prot = if closed { Prot::READ } else { Prot::READ | Prot::WRITE };
        for (_, machine) in &self.machines {
            machine.memory.protect(MIXED + PAGE, PAGE, prot).expect("the page is mapped");
        }
    }

    /// Gives memory new contents: random words, and runs of equal bytes for the string instructions.
    pub fn fill(&mut self, random: &mut Random) {
        for page in (DATA..DATA + WINDOW).chain(STACK..STACK + WINDOW).step_by(PAGE as usize) {
            let runs = random.percent(50);
            let mut bytes = [0; PAGE as usize];
            let mut at = 0;
            while at < bytes.len() {
                let len = if runs { 1 + random.below(200) as usize } else { 4 };
                let value = random.operand().to_le_bytes();
                for (index, byte) in bytes[at..].iter_mut().take(len).enumerate() {
                    *byte = if runs { value[0] } else { value[index & 3] };
                }
                at += len;
            }
            self.poke(page, &bytes);
        }
    }

    /// Writes to memory on all sides; what is not mapped or not writable is left out.
    pub fn poke(&mut self, address: u32, bytes: &[u8]) {
        for (start, len) in WINDOWS {
            // All bytes of an operand that straddles a window's end and lie within it.
            for (index, byte) in bytes.iter().enumerate() {
                let at = address.wrapping_add(index as u32);
                let closed = start == MIXED && (PAGE..2 * PAGE).contains(&at.wrapping_sub(start));
                if at.wrapping_sub(start) >= len || closed {
                    continue;
                }
                if bytes.len() as u32 == PAGE {
                    self.write(at, bytes);
                    break;
                }
                self.write(at, &[*byte]);
            }
        }
    }

    fn write(&mut self, address: u32, bytes: &[u8]) {
        self.oracle.bytes_mut(address, bytes.len()).copy_from_slice(bytes);
        for (_, machine) in &self.machines {
            machine_bytes(machine, address, bytes.len()).copy_from_slice(bytes);
        }
    }

    /// Reads mapped data.
    pub fn peek<const N: usize>(&self, address: u32) -> Option<[u8; N]> {
        let within = |(start, len): &(u32, u32)| address.wrapping_sub(*start) <= len - N as u32;
        WINDOWS.iter().any(within).then(|| self.oracle.bytes(address, N).try_into().expect("N bytes"))
    }

    /// Puts code into the next slots, each into one of its own; gives the address of the first. Each has its exit
    /// behind it.
    pub fn load_slots(&mut self, codes: &[Vec<u8>]) {
        let page = self.slot_page();
        if page == SLOTS {
            for (_, machine) in &self.machines {
                map_code(&machine.memory, SLOTS, SLOTS_LEN);
            }
        }
        assert!(codes.len() as u32 <= PAGE / SLOT);
        self.oracle.bytes_mut(page, PAGE as usize).fill(HLT);
        let mut bytes = [HLT; PAGE as usize];
        for (slot, code) in codes.iter().enumerate() {
            let start = slot * SLOT as usize + SLOT_ENTRY as usize;
            bytes[start..start + code.len()].copy_from_slice(code);
            bytes[start + code.len()..][..INT80.len()].copy_from_slice(&INT80);
        }
        for (_, machine) in &self.machines {
            machine.memory.write_bytes(page, &bytes).expect("slots are mapped");
        }
        self.next_slot += PAGE;
        if self.next_slot == SLOTS + SLOTS_LEN {
            self.next_slot = SLOTS;
        }
    }

    /// The page that the next call of [`Bench::load_slots`] will use.
    pub fn slot_page(&self) -> u32 {
        self.next_slot
    }

    /// Where the next program of `len` bytes will stand.
    pub fn program_place(&mut self, len: u32) -> u32 {
        assert!(len + EXIT_LEN < PROGRAMS_LEN);
        if self.next_program + len + EXIT_LEN + 64 > PROGRAMS + PROGRAMS_LEN {
            self.clear_programs();
        }
        self.next_program
    }

    /// Makes all of the place for programs HLT again; how often its pages were written is forgotten.
    pub fn clear_programs(&mut self) {
        self.next_program = PROGRAMS;
        self.oracle.bytes_mut(PROGRAMS, PROGRAMS_LEN as usize).fill(HLT);
        for (_, machine) in &self.machines {
            map_code(&machine.memory, PROGRAMS, PROGRAMS_LEN);
        }
    }

    /// Lets the next program stand there.
    pub fn program_goes_to(&mut self, at: u32) {
        self.next_program = at;
    }

    /// Makes a program on all sides what it was before it ran, if it stores into its own code.
    pub fn reload(&mut self, at: u32, code: &[u8]) {
        self.oracle.load(code, at);
        for (_, machine) in &self.machines {
            let mut now = vec![0; code.len()];
            machine.memory.read_bytes(at, &mut now).expect("programs are mapped");
            if now != code {
                machine.memory.write_bytes(at, code).expect("programs are mapped");
            }
        }
    }

    /// Where code that was modified differs: address, the processor's byte, the machine's; the first place.
    pub fn code_difference(&self, at: u32, len: usize) -> Option<String> {
        let silicon = self.oracle.bytes(at, len);
        let mut now = vec![0; len];
        self.machines.iter().find_map(|(name, machine)| {
            machine.memory.read_bytes(at, &mut now).expect("programs are mapped");
            let place = (0..len).find(|place| silicon[*place] != now[*place])?;
            let [theirs, ours] = [silicon[place], now[place]];
            Some(format!(
                "{name}: code at {:#x} is {theirs:02x} on silicon, {ours:02x} here",
                at + place as u32
            ))
        })
    }

    /// Puts a program where [`Bench::program_place`] said.
    pub fn load_program(&mut self, code: &[u8]) {
        let mut bytes = code.to_vec();
        bytes.extend(INT80);
        for (_, machine) in &self.machines {
            machine.memory.write_bytes(self.next_program, &bytes).expect("programs are mapped");
        }
        self.next_program = (self.next_program + code.len() as u32 + EXIT_LEN + 64) & !63;
    }

    /// Whether a program on the machines is no longer what was loaded: it has written into itself.
    pub fn has_changed(&self, at: u32, code: &[u8]) -> bool {
        let mut now = vec![0; code.len()];
        self.machines.iter().any(|(_, machine)| {
            machine.memory.read_bytes(at, &mut now).expect("programs are mapped");
            now != code
        })
    }

    /// Puts code in front of an address behind which nothing is mapped. It has no exit.
    pub fn load_at_the_edge(&mut self, code: &[u8]) -> u32 {
        let at = PROGRAMS + PROGRAMS_LEN - code.len() as u32;
        self.oracle.load(code, at);
        for (_, machine) in &self.machines {
            machine.memory.write_bytes(at, code).expect("programs are mapped");
        }
        at
    }

    /// Writes down the processor's answers from here on.
    pub fn record(&mut self) {
        self.tape = Some(Tape::blank());
    }

    /// The answers since.
    pub fn recorded(&mut self) -> Row {
        self.tape.take().expect("it was recorded").row()
    }

    /// Takes answers from a recording from here on.
    pub fn play(&mut self, row: Row) {
        self.tape = Some(Tape::of(row));
    }

    /// Ends that; says whether the cases since were those of the recording.
    pub fn played(&mut self) -> bool {
        self.tape.take().is_some_and(|tape| tape.is_the_same())
    }

    /// Runs code that is in its place on the processor, or takes its answer from a recording.
    pub fn silicon(&mut self, code: &[u8], at: u32, state: &State) -> Left {
        let Some(mut tape) = self.tape.take() else { return self.ask(code, at, state) };
        let case = answers::case(code, at, state, self.oracle.fpu);
        let played = tape.is_played().then(|| tape.answer(case)).flatten();
        let left = match &played {
            Some(answer) => {
                for answers::Run(start, bytes) in &answer.memory {
                    self.oracle.bytes_mut(*start, bytes.len()).copy_from_slice(bytes);
                }
                answer.left(at, state)
            }
            None => self.ask(code, at, state),
        };
        if !tape.is_played() {
            tape.note(case, Answer::new(at, state, &left, self.written()));
        }
        self.tape = Some(tape);
        left
    }

    /// What the processor has written since the machines had the same memory.
    fn written(&self) -> Vec<answers::Run> {
        let machine = &self.machines[0].1;
        let windows = WINDOWS.into_iter().chain([(CODE, WINDOW)]);
        let differences = windows.map(|(start, len)| {
            let before = &*machine_bytes(machine, start, len as usize);
            answers::runs(start, before, self.oracle.bytes(start, len as usize))
        });
        differences.flatten().collect()
    }

    fn ask(&mut self, code: &[u8], at: u32, state: &State) -> Left {
        let outcome = self.oracle.run(code, at, state);
        let State { regs, eip, eflags, segs, .. } = outcome.state;
        let event = match outcome.stop {
            oracle::Stop::End => Event::End,
            oracle::Stop::Syscall => Event::Syscall,
            oracle::Stop::Fault(fault) => {
                Event::Fault { vector: fault.vector, error: fault.error, cr2: fault.cr2 }
            }
            oracle::Stop::Jump | oracle::Stop::Step | oracle::Stop::Timeout => Event::Hang,
        };
        Left {
            regs,
            eip,
            eflags: eflags & !RF,
            segs: segs.map(one_null),
            fx: Fx::of(&outcome.state.fx),
            event,
        }
    }

    /// Runs the same on all machines and compares; `same` says whether what a machine left is what it should be,
    /// and may be more lenient than equality.
    pub fn compare(
        &mut self,
        code: &[u8],
        at: u32,
        state: &State,
        pace: Pace,
        silicon: &Left,
        mut same: impl FnMut(&Left) -> bool,
    ) -> Vec<Difference> {
        let end = at.wrapping_add(code.len() as u32);
        let mut differences = Vec::new();
        for index in 0..self.machines.len() {
            let (name, machine) = &mut self.machines[index];
            let name = *name;
            let before = machine.cpu.instructions();
            let left = run_machine(machine, at, end, state, pace);
            let counted = machine.cpu.instructions() - before;
            let memory = self.memory_differences(index);
            let equal = same(&left);
            if !memory.is_empty() || !equal {
                differences.push(Difference { machine: name, silicon: *silicon, left, memory, counted });
            }
        }
        if differences.iter().any(|difference| !difference.memory.is_empty()) {
            self.copy_memory();
        }
        if self.oracle.bytes(CODE, WINDOW as usize) != [HLT; WINDOW as usize] {
            self.oracle.bytes_mut(CODE, WINDOW as usize).fill(HLT);
            for (_, machine) in &self.machines {
                machine.memory.fill(CODE, HLT, WINDOW).expect("it is mapped");
            }
        }
        differences
    }

    /// Runs each machine until a limit and gives what is there then, without comparing.
    pub fn run_limited(&mut self, at: u32, state: &State, limit: u64) -> [(Left, u64); MACHINES] {
        self.machines.each_mut().map(|(_, machine)| {
            set(machine, at, state);
            let before = machine.cpu.instructions();
            let stop = machine.run(limit);
            (left(machine, event(machine, stop)), machine.cpu.instructions() - before)
        })
    }

    /// Runs so many single steps on the processor, and says whether its flags may differ from ours then; `None` if it ends
    /// before.
    pub fn silicon_steps(&mut self, at: u32, state: &State, steps: u32) -> Option<(Left, bool)> {
        let mut state = State { eip: at, ..state.clone() };
        let mut flags_differ = false;
        for _ in 0..steps {
            // A shortened program may jump anywhere.
            if !self.oracle.is_mapped(state.eip, MAX_LEN) {
                return None;
            }
            let code = self.oracle.bytes(state.eip, MAX_LEN);
            flags_differ &= !defines_flags(code);
            flags_differ |= decode(code, state.eip).is_ok_and(|insn| differs_in_flags(insn.form()));
            loop {
                let outcome = self.oracle.step(&state);
                if outcome.stop != oracle::Stop::Step {
                    return None;
                }
                // A repeated string instruction takes a step an element.
                let same = outcome.state.eip == state.eip && outcome.state.regs != state.regs;
                state = outcome.state;
                if !same {
                    break;
                }
            }
        }
        let fx = Fx::of(&state.fx);
        let State { regs, eip, eflags, segs, .. } = state;
        let eflags = eflags & !RF;
        let left = Left { regs, eip, eflags, segs: segs.map(one_null), fx, event: Event::Hang };
        Some((left, flags_differ))
    }

    /// Instructions that all machines executed.
    pub fn instructions(&self) -> u64 {
        self.machines.iter().map(|(_, machine)| machine.cpu.instructions()).sum()
    }

    /// Makes memory on all sides that of the given windows' contents.
    pub fn restore(&mut self, saved: &[Vec<u8>]) {
        for ((start, _), bytes) in WINDOWS.into_iter().zip(saved).take(2) {
            self.write(start, bytes);
        }
    }

    /// What the windows hold.
    pub fn save(&self) -> Vec<Vec<u8>> {
        WINDOWS.iter().map(|(start, len)| self.oracle.bytes(*start, *len as usize).to_vec()).collect()
    }

    fn memory_differences(&self, index: usize) -> Vec<(u32, u8, u8)> {
        let machine = &self.machines[index].1;
        let mut found = Vec::new();
        for (start, len) in WINDOWS.into_iter().chain([(CODE, WINDOW)]) {
            let ours = &*machine_bytes(machine, start, len as usize);
            let silicon = self.oracle.bytes(start, len as usize);
            if ours != silicon {
                let different = (0..len as usize).filter(|at| ours[*at] != silicon[*at]);
                found.extend(different.take(8).map(|at| (start + at as u32, silicon[at], ours[at])));
            }
        }
        found
    }

    /// Gives all machines the processor's memory.
    fn copy_memory(&mut self) {
        for (start, len) in WINDOWS {
            for (_, machine) in &self.machines {
                let silicon = self.oracle.bytes(start, len as usize);
                if start == MIXED {
                    for page in [0, 2 * PAGE] {
                        machine_bytes(machine, start + page, PAGE as usize)
                            .copy_from_slice(&silicon[page as usize..][..PAGE as usize]);
                    }
                } else {
                    machine_bytes(machine, start, len as usize).copy_from_slice(silicon);
                }
            }
        }
    }
}

/// Data of a machine's guest.
#[allow(clippy::mut_from_ref)]
fn machine_bytes(machine: &Machine, address: u32, len: usize) -> &mut [u8] {
    // SAFETY: only called for windows, which stay mapped; nothing runs meanwhile, and no two such slices live at a time.
    unsafe { std::slice::from_raw_parts_mut(machine.memory.base().add(address as usize), len) }
}

/// A descriptor of writable data for user mode, 4 GiB from `base` on, as `set_thread_area` makes one of what the oracle asks
/// for: with the bit AVL.
fn flat_descriptor(base: u32) -> u64 {
    let base = u64::from(base);
    0x00df_f300_0000_ffff | (base & 0xff_ffff) << 16 | (base >> 24) << 56
}

fn one_null(selector: u16) -> u16 {
    if selector < 4 { 0 } else { selector }
}

fn set(machine: &mut Machine, at: u32, state: &State) {
    let cpu = &mut machine.cpu;
    cpu.regs = state.regs;
    cpu.eip = at;
    cpu.set_eflags(state.eflags | 0x202);
    cpu.selectors = state.segs;
    for (index, selector) in state.segs.into_iter().enumerate() {
        let descriptor = cpu.descriptors.get(selector);
        cpu.segment_bases[index] = descriptor.map_or(0, table86::cpu::Descriptors::base);
    }
    cpu.fxrstor(state.fx.first_chunk().expect("it is longer"));
}

fn left(machine: &Machine, event: Event) -> Left {
    let cpu = &machine.cpu;
    let fx = Fx::of(&cpu.fxsave());
    Left {
        regs: cpu.regs,
        eip: cpu.eip,
        eflags: cpu.eflags() & !RF,
        segs: cpu.selectors.map(one_null),
        fx,
        event,
    }
}

fn event(machine: &Machine, stop: Stop) -> Event {
    match stop {
        Stop::Exception(Fault { kind: FaultKind::Todo, .. }) => Event::Todo,
        Stop::Exception(Fault { kind: FaultKind::Int, code: 0x80 }) => Event::Syscall,
        Stop::Exception(fault) | Stop::Bus(fault) => Event::Fault {
            vector: fault.vector(),
            error: fault.error_code().into(),
            cr2: if fault.kind == FaultKind::Pf { machine.cpu.cr2 } else { 0 },
        },
        Stop::Limit | Stop::Requested | Stop::Hook | Stop::Breakpoint => Event::Hang,
    }
}

/// Runs code one instruction at a time, on the processor and by a limit of one on the first machine, at most so many times.
/// Gives how many were run, and what differs behind one of them.
pub fn single_steps(bench: &mut Bench<'_>, at: u32, state: &State, most: u32) -> (u64, Option<String>) {
    let mut state = State { eip: at, ..state.clone() };
    let mut flags_differ = false;
    set(&mut bench.machines[0].1, at, &state);
    for step in 0..most {
        let code = bench.oracle.bytes(state.eip, MAX_LEN).to_vec();
        let Ok(insn) = decode(&code, state.eip) else { return (u64::from(step), None) };
        flags_differ &= !defines_flags(&code);
        flags_differ |= differs_in_flags(insn.form());
        loop {
            let outcome = bench.oracle.step(&state);
            if outcome.stop != oracle::Stop::Step {
                return (u64::from(step), None);
            }
            // A repeated string instruction takes a step an element.
            let same = outcome.state.eip == state.eip && outcome.state.regs != state.regs;
            state = outcome.state;
            if !same {
                break;
            }
        }
        let machine = &mut bench.machines[0].1;
        let stop = machine.run(1);
        let mut ours = left(machine, event(machine, stop));
        let silicon = state.eflags & !RF;
        if flags_differ {
            ours.eflags ^= (ours.eflags ^ silicon) & oracle::flag::ARITHMETIC;
        }
        let memory = bench.memory_differences(0);
        let equal = ours.regs == state.regs && ours.eip == state.eip && ours.eflags == silicon;
        if !equal || ours.event != Event::Hang || !memory.is_empty() {
            return (
                u64::from(step),
                Some(format!(
                    "behind step {step}, {code:02x?}\n  silicon {:x?} eip {:08x} flags {silicon:08x}\n  machine {ours:?}\n  memory {memory:x?}",
                    state.regs, state.eip
                )),
            );
        }
    }
    (u64::from(most), None)
}

fn run_machine(machine: &mut Machine, at: u32, end: u32, state: &State, pace: Pace) -> Left {
    set(machine, at, state);
    let start = machine.cpu.instructions();
    let stop = match pace {
        Pace::Whole => match machine.run(LIMIT) {
            // Asked for in an earlier run, which ended before it was noticed.
            Stop::Requested => machine.run(LIMIT),
            stop => stop,
        },
        Pace::Pieces(seed) => {
            let mut random = Random::new(seed, 3);
            loop {
                let limit = match random.below(4) {
                    0 => random.below(4),
                    1 => random.below(30),
                    2 => random.below(200),
                    _ => random.below(1000),
                };
                if random.percent(20) {
                    machine.cpu.request_stop();
                }
                let stop = machine.run(u64::from(limit));
                let over = machine.cpu.instructions() - start > LIMIT;
                if over || !matches!(stop, Stop::Limit | Stop::Requested) {
                    break stop;
                }
            }
        }
    };
    let mut result = left(machine, event(machine, stop));
    if result.event == Event::Syscall && result.eip == end.wrapping_add(INT80.len() as u32) {
        result.event = Event::End;
        result.eip = end;
    }
    result
}
