//! States for an instruction to run in: registers and memory so that its operands are edges, its addresses lie in
//! the windows or just beside them, and what it jumps or loads from exists more often than not.

use crate::bench::{BASES, Bench, MIXED, MIXED_LEN};
use crate::encode::{Encoding, far_selector, has_area};
use crate::oracle::{CODE, DATA, PAGE, STACK, State, WINDOW, flag};
use crate::random::Random;
use table86::cpu::Seg;
use table86::cpu::image::LEGACY_BYTES;
use table86::isa::decode::{NO_REG, operand_bytes};
use table86::isa::{Code, Flow, Insn, Mem, Operand, Size};

const EAX: usize = 0;
const ECX: usize = 1;
const EDX: usize = 2;
const EBX: usize = 3;
const ESP: usize = 4;
const EBP: usize = 5;
const ESI: usize = 6;
const EDI: usize = 7;

/// Registers and segments for one run.
pub struct Setup<'a> {
    /// What the run starts with.
    pub state: State,
    bases: [u32; 6],
    insn: &'a Insn,
    random: &'a mut Random,
    /// Most addresses are wrong.
    faulting: bool,
}

/// How many addresses in a hundred are wrong where faults are wanted: an instruction may have two.
const WRONG: u32 = 70;

/// An address where an operand of `len` bytes cannot be, or not as a whole, or not written.
pub fn wrong_address(random: &mut Random, len: u32) -> u32 {
    match random.below(10) {
        0..3 => DATA + WINDOW - random.below(len),
        3 => DATA - 1 - random.below(len),
        4 => DATA + WINDOW + random.below(PAGE),
        5 => MIXED + PAGE - random.below(len),
        6 => MIXED + 2 * PAGE - 1 - random.below(len),
        7 => MIXED + PAGE + random.below(PAGE),
        8 => random.pick(&[0, 0x1000, 0x4000_0000, 0xbfff_f000, 0xffff_d000]) + random.below(PAGE),
        _ => 0u32.wrapping_sub(random.below(2 * len + 1)),
    }
}

/// A stack pointer about which the stack ends, or cannot be written.
pub fn wrong_stack(random: &mut Random) -> u32 {
    let aligned = random.percent(60);
    let at = match random.below(8) {
        0 | 1 => STACK + random.below(48),
        2 | 3 => STACK + WINDOW - random.below(48),
        4 => MIXED + PAGE + random.below(48),
        5 => MIXED + 2 * PAGE + random.below(48),
        6 => random.pick(&[0x1000, 0x4000_0000, 0xbfff_f000]) + random.below(PAGE),
        _ => random.below(96).wrapping_sub(48),
    };
    if aligned { at & !3 } else { at }
}

/// Addresses for operands that are absolute: in the windows, at their ends, and in what a segment with 16-bit
/// addresses reaches.
pub const ABSOLUTE: [u32; 12] = [
    DATA,
    DATA + 0x123,
    DATA + PAGE - 1,
    DATA + 2 * PAGE - 3,
    DATA + WINDOW - 1,
    DATA + WINDOW - 4,
    DATA + WINDOW - 8,
    DATA - 2,
    STACK + 0x40,
    MIXED + PAGE - 2,
    DATA + 0xf00,
    MIXED + PAGE + 8,
];

/// What an XSAVE area is aligned to.
pub const AREA_UNIT: u32 = 64;

/// Bits of states: of the x87 and SSE, and sometimes of some that no processor has. There are others between them that only the
/// tables lack.
fn state_bits(random: &mut Random) -> u64 {
    const NOBODYS: u64 = 0x3fff_ffff_fff0_0000;
    let bits = u64::from(random.below(4));
    if random.percent(20) { bits | random.next() & NOBODYS } else { bits }
}

/// The parts of an XSAVE area's header that are looked at: mostly what XRSTOR takes, never that of the compacted format.
pub fn area_header(random: &mut Random) -> [u8; 24] {
    let mut odd = || if random.percent(94) { 0 } else { random.next() >> 1 >> random.below(63) };
    let words = [0, odd(), odd()];
    let mut header = [0; 24];
    for (bytes, word) in header.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let states = state_bits(random);
    header[..8].copy_from_slice(&states.to_le_bytes());
    header
}

/// Chooses a state for an instruction, and writes its operands to memory.
pub fn prepare(bench: &mut Bench<'_>, encoding: &Encoding, random: &mut Random) -> State {
    prepare_with(bench, encoding, random, false)
}

/// The same, but most of what the instruction accesses is not there, or only begins there.
pub fn prepare_faulting(bench: &mut Bench<'_>, encoding: &Encoding, random: &mut Random) -> State {
    prepare_with(bench, encoding, random, true)
}

fn prepare_with(bench: &mut Bench<'_>, encoding: &Encoding, random: &mut Random, faulting: bool) -> State {
    let mut state = State::default();
    state.regs = [0; 8].map(|_: u32| random.operand());
    state.eflags = status_flags(random);
    let tls = bench.tls;
    let mut setup = Setup { state, bases: [0; 6], insn: &encoding.insn, random, faulting };
    setup.choose_segments(tls);
    setup.choose_stack();
    setup.place_operands(bench);
    setup.suit_instruction(bench);
    setup.state
}

/// Random status flags; sometimes DF and ID.
pub fn status_flags(random: &mut Random) -> u32 {
    let mut flags = 0x202 | random.word() & flag::ARITHMETIC;
    if random.percent(30) {
        flags |= flag::DF;
    }
    if random.percent(5) {
        flags |= flag::ID;
    }
    flags
}

/// A selector to load or to ask about: flat data, TLS, code, null, the LDT's, the kernel's, any.
fn selector(random: &mut Random, tls: [u16; 3]) -> u16 {
    let rpl = random.below(4) as u16;
    match random.below(10) {
        0..3 => 0x2b,
        3..5 => random.pick(&tls),
        5 => random.pick(&tls) & !3 | rpl,
        6 => random.pick(&[0, 1, 2, 3]),
        7 => random.pick(&[0x20, 0x28, 0x30, 0x78]) | rpl,
        8 => random.pick(&[0x04, 0x0c, 0x08, 0x10, 0x18, 0x40, 0x50, 0x80, 0xf8, 0xfffc]) | rpl,
        _ => random.word() as u16,
    }
}

impl Setup<'_> {
    fn choose_segments(&mut self, tls: [u16; 3]) {
        let slots = [0, 1, 2].map(|slot| (tls[slot], BASES[slot]));
        // By a null selector one of two operands would fault here, but perhaps the other on the processor.
        let two_strings = self.has_two_strings();
        let mut set = |seg: Seg, (selector, base): (u16, u32)| {
            self.state.segs[seg as usize] = selector;
            self.bases[seg as usize] = base;
        };
        if two_strings {
            set(Seg::Fs, (0x2b, 0));
            set(Seg::Gs, (0x2b, 0));
        }
        // 16-bit addresses reach nothing in flat segments.
        let choice = if self.insn.addr16 { 45 + self.random.below(55) } else { self.random.below(100) };
        match choice {
            0..50 => {}
            50..75 => {
                set(Seg::Fs, slots[0]);
                set(Seg::Gs, self.random.pick(&slots));
            }
            75..92 => {
                set(Seg::Ds, slots[0]);
                set(Seg::Es, self.random.pick(&slots));
                set(Seg::Fs, self.random.pick(&slots));
            }
            92..97 => {
                set(Seg::Ss, slots[1]);
                set(Seg::Ds, slots[0]);
            }
            97..99 if two_strings => {}
            97..99 => set(self.random.pick(&[Seg::Ds, Seg::Es]), (0, 0)),
            _ => set(self.random.pick(&[Seg::Fs, Seg::Gs]), (0x2b, 0)),
        }
    }

    fn has_two_strings(&self) -> bool {
        let operands = self.insn.form().operands.iter();
        operands.filter(|operand| matches!(operand.code, Code::X | Code::Y)).count() == 2
    }

    /// ESP in its window, if anything uses it.
    fn choose_stack(&mut self) {
        let form = self.insn.form();
        if matches!(form.room, "integer" | "shift" | "bit" | "bcd" | "flag") && self.random.percent(70) {
            return;
        }
        let top = self.stack_address();
        self.state.regs[ESP] = top.wrapping_sub(self.bases[Seg::Ss as usize]);
    }

    fn stack_address(&mut self) -> u32 {
        if self.faulting && self.random.percent(WRONG) {
            return wrong_stack(self.random);
        }
        match self.random.below(20) {
            0 => STACK + self.random.below(40),
            1 => STACK + WINDOW - self.random.below(40),
            2 => MIXED + PAGE + self.random.below(48),
            3 => MIXED + 2 * PAGE + self.random.below(48),
            4..8 => STACK + PAGE + self.random.below(2 * PAGE),
            _ => STACK + PAGE + (self.random.below(2 * PAGE) & !3),
        }
    }

    /// An address for an operand of `len` bytes.
    fn address(&mut self, len: u32) -> u32 {
        let len = len.max(1);
        if self.faulting && self.random.percent(WRONG) {
            return wrong_address(self.random, len);
        }
        match self.random.below(40) {
            // Around the ends of the window: partly or not at all mapped.
            0..3 => DATA + WINDOW - self.random.below(len + 1),
            3 => DATA - self.random.below(len + 1),
            // Around the read-only page.
            4..6 => MIXED + PAGE - self.random.below(len + 1),
            6 => MIXED + 2 * PAGE - self.random.below(len + 1),
            7 => MIXED + self.random.below(MIXED_LEN - len),
            8 => self.random.pick(&[0, 0x1000, 0x4000_0000, 0xbfff_fff0, 0xffff_d000]),
            // Across a page's end.
            9..13 => DATA + PAGE * (1 + self.random.below(3)) - self.random.below(len + 1),
            13..16 => STACK + self.random.below(WINDOW - len),
            16..24 => DATA + self.random.below(WINDOW - len),
            _ => DATA + (self.random.below(WINDOW - len) & !3),
        }
    }

    /// Where a memory operand is.
    fn effective(&self, mem: &Mem) -> u32 {
        let register = |number: u8| if number == NO_REG { 0 } else { self.state.regs[usize::from(number)] };
        let mut offset =
            register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
        if self.insn.addr16 {
            offset &= 0xffff;
        }
        offset.wrapping_add(self.base(mem.seg))
    }

    fn base(&self, seg: Seg) -> u32 {
        self.bases.get(seg as usize).copied().unwrap_or(0)
    }

    /// Sets base and index so that the operand is at `target`, as far as they allow.
    fn aim(&mut self, mem: &Mem, target: u32) {
        let offset = target.wrapping_sub(self.base(mem.seg));
        let regs = &mut self.state.regs;
        let mut set = |number: u8, value: u32| {
            let register = &mut regs[usize::from(number)];
            *register = if self.insn.addr16 { *register & 0xffff_0000 | value & 0xffff } else { value };
        };
        let rest = offset.wrapping_sub(mem.disp);
        match (mem.base, mem.index) {
            (NO_REG, NO_REG) => {}
            (base, NO_REG) => set(base, rest),
            (NO_REG, index) => set(index, rest >> mem.scale),
            (base, index) if base == index => set(base, rest / (1 + (1 << mem.scale))),
            (base, index) => {
                let value = regs[usize::from(index)];
                let value = if self.random.percent(50) { value & 0xff } else { value };
                let index = &mut regs[usize::from(index)];
                *index = value;
                let rest = rest.wrapping_sub(value << mem.scale);
                let register = &mut regs[usize::from(base)];
                *register = if self.insn.addr16 { *register & 0xffff_0000 | rest & 0xffff } else { rest };
            }
        }
    }

    /// Bytes that the instruction accesses at its memory operand.
    fn memory_bytes(&self) -> u32 {
        let form = self.insn.form();
        let size = |operand: &Operand| match operand.code {
            code if code.may_be_memory() => operand_bytes(operand.size, self.insn.opsize16),
            _ => 0,
        };
        form.operands.iter().map(size).max().unwrap_or(0)
    }

    /// Aims the memory operand, string operands and what else points somewhere.
    fn place_operands(&mut self, bench: &mut Bench<'_>) {
        let len = self.memory_bytes();
        if let Some(mem) = self.insn.mem {
            let is_area = has_area(self.insn.form());
            let target = self.address(len);
            self.aim(&mem, if is_area { target & !(AREA_UNIT - 1) } else { target });
            let at = self.effective(&mem);
            let mut bytes = Vec::new();
            while bytes.len() < len as usize {
                bytes.extend(self.random.operand().to_le_bytes());
            }
            if is_area {
                bytes[LEGACY_BYTES..LEGACY_BYTES + 24].copy_from_slice(&area_header(self.random));
            }
            bench.poke(at, &bytes[..len as usize]);
        }
        let form = self.insn.form();
        for operand in form.operands.iter().filter(|operand| operand.access != table86::isa::Access::Shown) {
            let (register, seg) = match operand.code {
                Code::X => (ESI, self.insn.segment.unwrap_or(Seg::Ds)),
                Code::Y => (EDI, Seg::Es),
                _ => continue,
            };
            let target = self.address(operand_bytes(operand.size, self.insn.opsize16));
            let offset = target.wrapping_sub(self.base(seg));
            let kept = if self.insn.addr16 { 0xffff_0000 } else { 0 };
            self.state.regs[register] = self.state.regs[register] & kept | offset & !kept;
            let count = match self.random.below(8) {
                0 => 0,
                1 => 1,
                2 => self.random.below(3000),
                3 => self.random.operand(),
                _ => self.random.below(80),
            };
            self.state.regs[ECX] = self.state.regs[ECX] & kept | count & !kept;
        }
        if self.has_two_strings() && self.random.percent(25) {
            // Source and destination overlap.
            let distance = self.random.below(40).wrapping_sub(20);
            let source = self.base(self.insn.segment.unwrap_or(Seg::Ds)).wrapping_add(self.state.regs[ESI]);
            let offset = source.wrapping_add(distance).wrapping_sub(self.base(Seg::Es));
            if (0x1000..0xffff_f000).contains(&offset) {
                self.state.regs[EDI] = offset;
            }
        }
        if form.body == "pop_memory" {
            // A segment that cannot be written faults here before the stack is looked at.
            let mem = self.insn.mem.map_or(Seg::Ds, |mem| mem.seg);
            if mem == Seg::Cs || self.state.segs[mem as usize] == 0 {
                self.state.regs[ESP] = (STACK + PAGE).wrapping_sub(self.base(Seg::Ss));
            }
        }
    }

    /// The register or memory operand of `code`: its value.
    fn set_operand(&mut self, bench: &mut Bench<'_>, value: u32) {
        let form = self.insn.form();
        let Some(operand) =
            form.operands.iter().find(|operand| matches!(operand.code, Code::E | Code::R | Code::M))
        else {
            return;
        };
        let bytes = operand_bytes(operand.size, self.insn.opsize16) as usize;
        match self.insn.mem {
            Some(mem) => bench.poke(self.effective(&mem), &value.to_le_bytes()[..bytes.min(4)]),
            None => self.set_register(usize::from(self.insn.rm()), bytes, value),
        }
    }

    fn set_register(&mut self, number: usize, bytes: usize, value: u32) {
        let regs = &mut self.state.regs;
        match bytes {
            1 => {
                let shift = (number & 4) * 2;
                let register = &mut regs[number & 3];
                *register = *register & !(0xff << shift) | (value & 0xff) << shift;
            }
            2 => regs[number] = regs[number] & 0xffff_0000 | value & 0xffff,
            _ => regs[number] = value,
        }
    }

    fn register(&self, number: usize, bytes: usize) -> u32 {
        let regs = &self.state.regs;
        match bytes {
            1 => regs[number & 3] >> ((number & 4) * 2) & 0xff,
            2 => regs[number] & 0xffff,
            _ => regs[number],
        }
    }

    fn operand_value(&self, bench: &Bench<'_>, bytes: usize) -> u32 {
        match self.insn.mem {
            None => self.register(usize::from(self.insn.rm()), bytes),
            Some(mem) => {
                let at = self.effective(&mem);
                let value = bench.peek::<4>(at).map(u32::from_le_bytes).unwrap_or(1);
                if bytes == 4 { value } else { value & ((1 << (bytes * 8)) - 1) }
            }
        }
    }

    /// Writes to the stack, `slot` slots above its top.
    fn poke_stack(&mut self, bench: &mut Bench<'_>, slot: u32, value: u32) {
        let bytes = self.insn.operand_bytes();
        let top = self.state.regs[ESP].wrapping_add(self.bases[Seg::Ss as usize]);
        bench.poke(top.wrapping_add(slot * bytes), &value.to_le_bytes()[..bytes as usize]);
    }

    fn code_address(&mut self) -> u32 {
        match self.random.below(10) {
            0 => self.random.operand(),
            1 => DATA + self.random.below(WINDOW),
            _ => CODE + self.random.below(WINDOW),
        }
    }

    /// An image for POPF and IRET; without TF, which would trap behind the next instruction.
    fn flags_image(&mut self) -> u32 {
        let image = self.random.word() & !flag::TF;
        if self.random.percent(60) { image & !(flag::NT | flag::AC) } else { image & !flag::AC }
    }

    /// What only some instructions want.
    fn suit_instruction(&mut self, bench: &mut Bench<'_>) {
        let form = self.insn.form();
        let v = self.insn.operand_bytes() as usize;
        let tls = bench.tls;
        let with_selector =
            form.room == "segment" && form.operands.iter().any(|operand| operand.size == Size::W);
        match (form.mnemonic, form.flow) {
            ("div" | "idiv", _) => self.suit_division(bench),
            _ if has_area(form) => {
                self.state.regs[EAX] = state_bits(self.random) as u32;
                self.state.regs[EDX] = (state_bits(self.random) >> 32) as u32;
            }
            // The host's kernel takes these of a call that it hands back for its own "restart", and sets EIP back.
            ("int", _) if (-516..=-512).contains(&(self.state.regs[EAX] as i32)) => self.state.regs[EAX] = 0,
            ("cmpxchg", _) if self.random.percent(50) => {
                let bytes = operand_bytes(form.operands[0].size, self.insn.opsize16) as usize;
                self.set_operand(bench, self.register(EAX, bytes));
            }
            ("cmpxchg8b", _) if self.random.percent(50) => {
                if let Some(mem) = self.insn.mem {
                    let at = self.effective(&mem);
                    bench.poke(at, &self.state.regs[EAX].to_le_bytes());
                    bench.poke(at.wrapping_add(4), &self.state.regs[EDX].to_le_bytes());
                }
            }
            ("bsf" | "bsr", _) if self.random.percent(20) => self.set_operand(bench, 0),
            ("xlat", _) => {
                let target = self.address(1);
                let seg = self.insn.segment.unwrap_or(Seg::Ds);
                let al = self.state.regs[EAX] & 0xff;
                self.state.regs[EBX] = target.wrapping_sub(self.base(seg)).wrapping_sub(al);
            }
            ("bound", _) => {
                if let Some(mem) = self.insn.mem {
                    let index = self.register(usize::from(self.insn.reg()), v);
                    let at = self.effective(&mem);
                    let spread = self.random.below(4);
                    let low = index.wrapping_sub(spread).wrapping_add(u32::from(self.random.percent(20)));
                    bench.poke(at, &low.to_le_bytes()[..v]);
                    let high = index
                        .wrapping_add(self.random.below(3))
                        .wrapping_sub(u32::from(self.random.percent(20)));
                    bench.poke(at.wrapping_add(v as u32), &high.to_le_bytes()[..v]);
                }
            }
            ("les" | "lds" | "lss" | "lfs" | "lgs", _) => {
                if let Some(mem) = self.insn.mem {
                    let at = self.effective(&mem).wrapping_add(v as u32);
                    bench.poke(at, &selector(self.random, tls).to_le_bytes());
                }
            }
            ("enter" | "leave", _) => {
                let frame = self.stack_address();
                self.state.regs[EBP] = frame.wrapping_sub(self.bases[Seg::Ss as usize]);
            }
            ("loop" | "loope" | "loopne" | "jecxz", _) if self.random.percent(70) => {
                let upper = self.random.word() & 0xffff_0000;
                let count = self.random.below(3);
                self.state.regs[ECX] = if self.insn.addr16 { upper | count } else { count };
            }
            ("popf" | "popfd", _) => {
                let image = self.flags_image();
                self.poke_stack(bench, 0, image);
            }
            ("iret" | "iretd" | "retf", _) => {
                let base = self.bases[Seg::Ss as usize];
                if self.state.regs[ESP].wrapping_add(base).wrapping_sub(MIXED) < MIXED_LEN {
                    self.state.regs[ESP] = (STACK + PAGE).wrapping_sub(base);
                }
                let target = self.code_address();
                let image = self.flags_image();
                let mut code = u32::from(far_selector(self.random)) | self.random.word() << 16;
                let top = self.state.regs[ESP].wrapping_add(self.bases[Seg::Ss as usize]).wrapping_sub(STACK);
                if self.insn.imm != 0 || !(64..WINDOW - 64).contains(&top) {
                    // AMD reads ESP and SS, too, before it checks that a lower level is no place to return to.
                    code |= 3;
                }
                for (slot, value) in [target, code, image].into_iter().enumerate().take(3) {
                    self.poke_stack(bench, slot as u32, value);
                }
                if form.mnemonic != "retf" && self.random.percent(3) {
                    self.state.eflags |= flag::NT;
                }
            }
            ("pop", Flow::Sync) => {
                let value = u32::from(selector(self.random, tls)) | self.random.word() << 16;
                self.poke_stack(bench, 0, value);
            }
            (_, Flow::Ret) => {
                let target = self.code_address();
                self.poke_stack(bench, 0, target);
            }
            (_, Flow::Jump | Flow::Call) => {
                let target = self.code_address();
                self.set_operand(bench, target);
            }
            (_, Flow::Far) => {
                if let Some(mem) = self.insn.mem {
                    let (target, at) = (self.code_address(), self.effective(&mem));
                    bench.poke(at, &target.to_le_bytes()[..v]);
                    bench.poke(at.wrapping_add(v as u32), &far_selector(self.random).to_le_bytes());
                }
            }
            _ if with_selector => {
                let value = u32::from(selector(self.random, tls));
                // The limit of the last one is the number of the CPU that this thread is on.
                let value = if form.mnemonic == "lsl" && value >> 3 == 15 { 0x2b } else { value };
                self.set_operand(bench, value);
                if form.mnemonic == "arpl" && self.random.percent(50) {
                    let value = self.random.operand();
                    self.set_operand(bench, value);
                }
            }
            _ if form.body.ends_with("_string") => {
                // The register reaches up to its value divided by 8 beyond the operand.
                let number = usize::from(self.insn.reg());
                let bits = self.random.below(0x8000).wrapping_sub(0x4000);
                let used = self.insn.mem.is_some_and(|mem| [mem.base, mem.index].contains(&self.insn.reg()));
                if !used && self.random.percent(85) {
                    self.set_register(number, v, bits);
                }
            }
            _ => {}
        }
    }

    /// A dividend that fits the divisor more often than not.
    fn suit_division(&mut self, bench: &Bench<'_>) {
        let form = self.insn.form();
        let bytes = operand_bytes(form.operands[0].size, self.insn.opsize16) as usize;
        let own = self.insn.mem.is_none() && {
            let number = usize::from(self.insn.rm());
            if bytes == 1 { number == 0 || number == 4 } else { number == EAX || number == EDX }
        };
        let points =
            |mem: Mem| [mem.base, mem.index].iter().any(|number| [EAX as u8, EDX as u8].contains(number));
        if own || self.insn.mem.is_some_and(points) || self.random.percent(25) {
            return;
        }
        let divisor = self.operand_value(bench, bytes);
        let bits = bytes as u32 * 8;
        let sign = |value: u32| i64::from((value << (32 - bits)) as i32 >> (32 - bits));
        let dividend = if form.mnemonic == "div" {
            let (quotient, divisor) = (u64::from(self.random.operand()), u64::from(divisor));
            let quotient = if bits == 32 { quotient } else { quotient & ((1 << bits) - 1) };
            quotient * divisor + if divisor == 0 { 0 } else { self.random.next() % divisor }
        } else {
            let (quotient, divisor) = (sign(self.random.operand()), sign(divisor));
            let rest = if divisor == 0 { 0 } else { (self.random.next() >> 2) as i64 % divisor };
            (quotient * divisor + if self.random.percent(50) { rest } else { 0 }) as u64
        };
        self.set_register(EAX, bytes, dividend as u32);
        let (high, number) = ((dividend >> bits) as u32, if bytes == 1 { 4 } else { EDX });
        self.set_register(number, bytes, high);
    }
}
