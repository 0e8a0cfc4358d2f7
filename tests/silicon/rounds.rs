//! Short loops around lines of `opcodes/hot.txt`, which translations unroll: some come to their end, in some a later round
//! faults, as its pointer has left memory by then.

use crate::hot::{Composer, Lines, Part};
use crate::oracle::{DATA, WINDOW};
use crate::program::{Item, Program, written_registers};
use crate::random::Random;
use table86::isa::decode::NO_REG;
use table86::isa::{Code, Insn, decode};

const ESP: u8 = 4;
/// Where a loop counts if no register is left.
const COUNTER: u32 = DATA + WINDOW / 2;
/// A distance that nearly every branch by one byte can have.
const NEAR: usize = 110;

impl Lines {
    /// A program with a loop around each of these lines, and how many of them are in it. The last loop may fault.
    pub fn loops(&self, lines: &[usize], random: &mut Random) -> (Program, usize) {
        let state = crate::hot::state(random);
        let mut composer = Composer::new(self, random);
        let mut used = 0;
        for (at, line) in lines.iter().enumerate() {
            let beyond = at + 1 == lines.len() && composer.random.percent(75);
            used += usize::from(composer.rounds(self.line(*line), beyond).is_some());
        }
        (Program { items: composer.items, state, modifies: false }, used)
    }
}

/// Instructions of a piece of a program.
fn insns(items: &[Item]) -> Vec<Insn> {
    let mut found = Vec::new();
    for item in items {
        let Item::Code(bytes) = item else { continue };
        let mut at = 0;
        while let Ok(insn) = decode(&bytes[at..], 0) {
            at += usize::from(insn.len);
            found.push(insn);
        }
    }
    found
}

/// Registers that an instruction has to do with, as operands or in its addresses.
fn registers(insn: &Insn) -> Vec<u8> {
    let mut found = Vec::new();
    for operand in insn.form().operands {
        match operand.code {
            Code::E | Code::R if insn.mem.is_none() => found.extend([insn.rm(), insn.rm() & 3]),
            Code::G => found.extend([insn.reg(), insn.reg() & 3]),
            Code::Z => found.extend([insn.low, insn.low & 3]),
            Code::Reg(number) => found.push(number),
            _ => {}
        }
    }
    if let Some(mem) = insn.mem {
        found.extend([mem.base, mem.index]);
    }
    found
}

/// The register that `mov r32, imm32` sets, and to what.
fn set(item: &Item) -> Option<(u8, u32)> {
    match item {
        Item::Code(bytes) if bytes.len() == 5 && bytes[0] & 0xf8 == 0xb8 => {
            Some((bytes[0] & 7, u32::from_le_bytes(bytes[1..].try_into().ok()?)))
        }
        _ => None,
    }
}

/// The operation of a loop that counts, from where, and the condition of its branch back.
struct Counter {
    start: u32,
    code: Vec<u8>,
    condition: u8,
}

/// Counts `rounds` in a register.
fn count_in_register(register: u8, rounds: u32, random: &mut Random) -> Counter {
    let [nz, ns, nbe, b] = [5, 9, 7, 2];
    let last = rounds as u8;
    match random.below(5) {
        // dec; jnz
        0 | 1 => Counter { start: rounds, code: vec![0x48 + register], condition: nz },
        // dec; jns
        2 => Counter { start: rounds - 1, code: vec![0x48 + register], condition: ns },
        // sub register, 1; ja
        3 => Counter { start: rounds, code: vec![0x83, 0xe8 + register, 1], condition: nbe },
        // inc register; cmp register, rounds; jb
        _ => Counter { start: 0, code: vec![0x40 + register, 0x83, 0xf8 + register, last], condition: b },
    }
}

impl Composer<'_> {
    /// A loop around a line. `None` if that cannot be used.
    fn rounds(&mut self, line: &[Part], beyond: bool) -> Option<()> {
        let start = self.items.len();
        let main = self.line(line)? - start;
        let mut before = self.items.split_off(start);
        let body = before.split_off(main);
        let inside = insns(&body);
        let written: Vec<u8> = inside.iter().flat_map(|insn| written_registers(insn.form(), insn)).collect();
        let used: Vec<u8> = inside.iter().flat_map(registers).collect();
        // Pointers that the line overwrites are set in each round.
        let stay = insns(&before)
            .iter()
            .all(|insn| written_registers(insn.form(), insn).all(|register| !written.contains(&register)));
        let stride = self.random.pick(&[1i32, 4, 4, 8, 64, -4, -16]);
        let moves = inside.iter().filter_map(|insn| insn.mem).find(|mem| {
            stay && mem.base != NO_REG
                && mem.base != ESP
                && mem.base != mem.index
                && !written.contains(&mem.base)
        });
        let mut rounds = 2 + self.random.below(40);
        if let (Some(mem), true) = (moves, beyond) {
            // The access leaves memory after some rounds.
            let good = self.random.below(30);
            rounds = good + 4;
            let edge = if stride > 0 { DATA + WINDOW } else { DATA - 4 };
            let index = before.iter().rev().filter_map(set).find(|(register, _)| *register == mem.index);
            let index = index.map_or(0, |(_, value)| value) << mem.scale;
            let first = edge.wrapping_sub(good.wrapping_mul(stride as u32));
            let value = first.wrapping_sub(index).wrapping_sub(mem.disp);
            before.push(Item::Code([&[0xb8 + mem.base][..], &value.to_le_bytes()].concat()));
        }
        let spare = [3, 5, 6, 7].into_iter().find(|register| !used.contains(register));
        let counter = match spare {
            Some(register) => count_in_register(register, rounds, self.random),
            None => {
                // dec dword [COUNTER]; jnz
                let code = [&[0xff, 0x0d][..], &COUNTER.to_le_bytes()].concat();
                Counter { start: rounds, code, condition: 5 }
            }
        };
        let set_counter = match spare {
            Some(register) => [&[0xb8 + register][..], &counter.start.to_le_bytes()].concat(),
            // mov dword [COUNTER], rounds
            None => [&[0xc7, 0x05][..], &COUNTER.to_le_bytes(), &counter.start.to_le_bytes()].concat(),
        };
        self.code(&set_counter);
        let top = self.label();
        if stay {
            self.items.append(&mut before);
        }
        self.items.push(Item::Label(top));
        let length = self.items.len();
        self.items.append(&mut before);
        self.items.extend(body);
        if let Some(mem) = moves {
            let code = match self.random.below(2) {
                // add base, stride
                0 => vec![0x83, 0xc0 + mem.base, stride as u8],
                // lea base, [base + stride]
                _ => vec![0x8d, 0x40 + mem.base * 9, stride as u8],
            };
            self.code(&code);
        }
        self.code(&counter.code);
        let bytes: usize = self.items[length..].iter().map(Item::len_bytes).sum();
        let short = bytes < NEAR && self.random.percent(70);
        let opcode =
            if short { vec![0x70 + counter.condition] } else { vec![0x0f, 0x80 + counter.condition] };
        self.items.push(Item::Relative(opcode, !short, top));
        Some(())
    }
}
