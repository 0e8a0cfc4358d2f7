//! Programs that store into their own code: ahead, behind, in the piece that runs, and across pages. A processor executes
//! what was stored from the next instruction on.

use crate::exempt::{differs_in_flags, differs_in_result};
use crate::program::{ABSOLUTE, Author, EAX, ECX, EDI, Item};

/// Bytes of a slot that whole instructions are stored to.
const SLOT: usize = 4;
const NOP: u8 = 0x90;

/// What a place in the code can become.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// An immediate of four bytes.
    Immediate,
    /// The ModRM byte of an operation on this register.
    Operation(u8),
    /// The opcode of INC or DEC of this register.
    Count(u8),
    /// The opcode of a short branch.
    Condition,
    /// [`SLOT`] bytes of instructions.
    Slot,
}

/// A place in a program that it stores to.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    label: u32,
    kind: Kind,
}

impl Author<'_> {
    /// Chooses the places of a program.
    pub fn choose_sites(&mut self) -> Vec<Site> {
        let count = 2 + self.random.below(6);
        (0..count).map(|_| self.site()).collect()
    }

    fn site(&mut self) -> Site {
        let register = self.free_register();
        let kinds =
            [Kind::Immediate, Kind::Operation(register), Kind::Count(register), Kind::Condition, Kind::Slot];
        Site { label: self.label(), kind: self.random.pick(&kinds) }
    }

    /// The code that is there at first.
    pub fn write_site(&mut self, site: Site) {
        let place = Item::Label(site.label);
        match site.kind {
            Kind::Immediate => {
                let register = self.free_register();
                self.code(&[0xb8 + register]);
                self.items.push(place);
                let value = self.random.operand();
                self.code(&value.to_le_bytes());
            }
            Kind::Operation(register) => {
                let short = self.random.percent(50);
                self.code(&[if short { 0x83 } else { 0x81 }]);
                self.items.push(place);
                let value = self.random.operand().to_le_bytes();
                let operation = self.random.below(8) as u8;
                self.code(&[0xc0 | operation << 3 | register]);
                self.code(if short { &value[..1] } else { &value });
            }
            Kind::Count(register) => {
                self.items.push(place);
                let down = self.random.below(2) as u8;
                self.code(&[0x40 | down << 3 | register]);
            }
            Kind::Condition => {
                self.items.push(place);
                let behind = self.label();
                let opcode = 0x70 | self.random.below(16) as u8;
                self.items.push(Item::Relative(vec![opcode], false, behind));
                self.instruction(&self.rows.plain);
                self.items.push(Item::Label(behind));
            }
            Kind::Slot => {
                self.items.push(place);
                let code = self.fill_slot();
                self.code(&code);
            }
        }
    }

    /// Instructions of [`SLOT`] bytes.
    fn fill_slot(&mut self) -> [u8; SLOT] {
        let mut code = [NOP; SLOT];
        for _ in 0..20 {
            let index = self.random.pick(&self.rows.plain);
            let fits = self.encode(index, Some(self.frame), &ABSOLUTE).filter(|encoding| {
                encoding.bytes.len() <= SLOT
                    && self.is_harmless(&encoding.insn)
                    && !differs_in_result(&encoding.insn)
                    && !differs_in_flags(encoding.insn.form())
            });
            if let Some(encoding) = fits {
                let start = self.random.below((SLOT - encoding.bytes.len()) as u32 + 1) as usize;
                code[start..][..encoding.bytes.len()].copy_from_slice(&encoding.bytes);
                break;
            }
        }
        code
    }

    /// Stores to one of the places, or to a new one that follows soon.
    pub fn modify(&mut self, sites: &[Site]) {
        if self.random.percent(50) {
            let site = self.random.pick(sites);
            return self.store(site);
        }
        let site = self.site();
        self.store(site);
        for _ in 0..self.random.below(3) {
            self.instruction(&self.rows.plain);
        }
        self.write_site(site);
    }

    fn store(&mut self, site: Site) {
        match site.kind {
            Kind::Immediate => {
                let value = self.random.operand();
                self.store_dword(site.label, value, true);
            }
            Kind::Slot if self.random.percent(25) && !self.is_string_kept() && !self.is_kept(EAX) => {
                // cld; mov eax, NOPs; mov edi, place; mov ecx, SLOT; rep stosb
                let nops = [&[0xfc, 0xb8 + EAX][..], &[NOP; SLOT]].concat();
                self.code(&nops);
                self.items.push(Item::Absolute(vec![0xb8 + EDI], site.label));
                self.code(&[0xb8 + ECX, SLOT as u8, 0, 0, 0, 0xf3, 0xaa]);
            }
            Kind::Slot => {
                let value = u32::from_le_bytes(self.fill_slot());
                self.store_dword(site.label, value, false);
            }
            Kind::Operation(register) => {
                let byte = 0xc0 | (self.random.below(8) as u8) << 3 | register;
                self.store_byte(site.label, byte, 0x38);
            }
            Kind::Count(register) => {
                let byte = 0x40 | (self.random.below(2) as u8) << 3 | register;
                self.store_byte(site.label, byte, 8);
            }
            Kind::Condition => {
                let byte = 0x70 | self.random.below(16) as u8;
                let bit = 1 << self.random.below(4);
                self.store_byte(site.label, byte, bit);
            }
        }
    }

    /// Stores four bytes: at once, from a register, by an exchange; or only the lower two.
    fn store_dword(&mut self, label: u32, value: u32, may_be_half: bool) {
        let bytes = value.to_le_bytes();
        let register = self.free_register();
        match self.random.below(4) {
            // mov dword [place], value
            0 => {
                self.items.push(Item::Absolute(vec![0xc7, 0x05], label));
                self.code(&bytes);
            }
            // mov word [place], value
            1 if may_be_half => {
                self.items.push(Item::Absolute(vec![0x66, 0xc7, 0x05], label));
                self.code(&bytes[..2]);
            }
            // mov register, value; mov or xchg [place], register
            other => {
                self.code(&[&[0xb8 + register][..], &bytes].concat());
                let opcode = if other == 3 { 0x87 } else { 0x89 };
                self.items.push(Item::Absolute(vec![opcode, register << 3 | 5], label));
            }
        }
    }

    /// Stores a byte, or changes these bits of it.
    fn store_byte(&mut self, label: u32, byte: u8, bits: u8) {
        let (opcode, value) = match self.random.below(3) {
            // xor byte [place], bits; the same with LOCK
            0 => (vec![0x80, 0x35], bits),
            1 => (vec![0xf0, 0x80, 0x35], bits),
            // mov byte [place], byte
            _ => (vec![0xc6, 0x05], byte),
        };
        self.items.push(Item::Absolute(opcode, label));
        self.code(&[value]);
    }
}
