//! Which guest registers a copy has in registers of the host, and which of them the CPU has yet to get.

use super::access::operand;
use super::vector;

/// Registers of the host that copies keep EAX, ECX, EDX, EBX, ESP, EBP, ESI and EDI in: those that handlers do not use, and two
/// that few do.
pub(super) const HOSTS: [u8; 8] = [3, 5, 12, 13, 14, 15, 10, 11];

/// `mov host, [..]`.
pub(super) const LOAD: u8 = 0x8b;
/// `mov [..], host`.
const STORE: u8 = 0x89;

/// A set of guest registers, general ones and XMM, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) general: u8,
    pub(super) vectors: u8,
}

impl Set {
    pub(super) const NONE: Set = Set { general: 0, vectors: 0 };
    const ALL: Set = Set { general: 0xff, vectors: 0xff };

    fn and(self, other: Set) -> Set {
        Set { general: self.general & other.general, vectors: self.vectors & other.vectors }
    }

    fn or(self, other: Set) -> Set {
        Set { general: self.general | other.general, vectors: self.vectors | other.vectors }
    }

    fn without(self, other: Set) -> Set {
        Set { general: self.general & !other.general, vectors: self.vectors & !other.vectors }
    }

    /// Those that lie in a range of the CPU, at least in part.
    fn overlapping(offset: u32, bytes: u32) -> Set {
        let general = (offset / 4..(offset + bytes).div_ceil(4).min(8)).fold(0, |all, at| all | 1 << at);
        Set { general, vectors: vector::overlapping(offset, bytes) }
    }

    /// Those that are kept in one of these host registers (a bit each), general ones and XMM.
    fn of_hosts(uses: u16, vectors: u16) -> Set {
        let general = (0..8).filter(|at| uses >> HOSTS[*at] & 1 != 0).fold(0, |all, at| all | 1 << at);
        Set { general, vectors: vector::of_hosts(vectors) }
    }

    /// Those of the general ones.
    fn registers(self) -> impl Iterator<Item = usize> {
        (0..8).filter(move |at| self.general >> at & 1 != 0)
    }

    /// Those of the XMM registers.
    fn numbers(self) -> impl Iterator<Item = u32> {
        (0..8).filter(move |at| self.vectors >> at & 1 != 0)
    }

    /// Writes stores of their host registers into the CPU.
    pub(super) fn store(self, code: &mut Vec<u8>) {
        self.registers().for_each(|at| move_word(code, STORE, HOSTS[at], 4 * at as u32));
        self.numbers().for_each(|number| vector::store(code, number));
    }

    /// Writes loads of their host registers from the CPU.
    fn load(self, code: &mut Vec<u8>) {
        self.registers().for_each(|at| move_word(code, LOAD, HOSTS[at], 4 * at as u32));
        self.numbers().for_each(|number| vector::load(code, number));
    }
}

/// Which guest registers are in their host register.
///
/// What is written stays there until the CPU has to be complete: before whatever may look at it or leave the copy. Of an access
/// that may fault, it is noted instead what the CPU lacks ([`Kept::owed`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    there: Set,
    /// Those of them that the CPU has not got yet.
    owed: Set,
}

impl Kept {
    pub(super) const NONE: Kept = Kept { there: Set::NONE, owed: Set::NONE };
    /// What is kept on no way at all.
    pub(super) const ALL: Kept = Kept { there: Set::ALL, owed: Set::NONE };

    /// Those that are kept in both, where nothing is owed.
    pub(super) fn and(self, other: Kept) -> Kept {
        debug_assert!(self.owed == Set::NONE && other.owed == Set::NONE);
        Kept { there: self.there.and(other.there), owed: Set::NONE }
    }

    /// Keeps at least what is kept in `there`, and owes no more, so that one can go on there.
    pub(super) fn adapt(&mut self, code: &mut Vec<u8>, there: Kept) {
        let more = self.owed.without(there.owed);
        more.store(code);
        self.owed = self.owed.without(more);
        let missing = there.there.without(self.there);
        missing.load(code);
        self.there = self.there.or(missing);
    }

    /// What the CPU lacks.
    pub(super) fn owed(self) -> Set {
        self.owed
    }

    /// Lets the CPU have all registers.
    pub(super) fn complete(&mut self, code: &mut Vec<u8>) {
        std::mem::take(&mut self.owed).store(code);
    }

    /// Lets the CPU have what lies in this range of it.
    pub(super) fn complete_range(&mut self, code: &mut Vec<u8>, offset: u32, bytes: u32) {
        let range = Set::overlapping(offset, bytes);
        self.owed.and(range).store(code);
        self.owed = self.owed.without(range);
    }

    /// Gives up these host registers (a bit each), general ones and XMM.
    pub(super) fn release(&mut self, code: &mut Vec<u8>, uses: u16, vectors: u16) {
        let used = Set::of_hosts(uses, vectors);
        self.owed.and(used).store(code);
        self.owed = self.owed.without(used);
        self.there = self.there.without(used);
    }

    /// Forgets what lies in this range of the CPU, which is changed there.
    pub(super) fn forget(&mut self, offset: u32, bytes: u32) {
        let range = Set::overlapping(offset, bytes);
        debug_assert!(self.owed.and(range) == Set::NONE);
        self.there = self.there.without(range);
    }

    pub(super) fn has(self, register: usize) -> bool {
        self.there.general >> register & 1 != 0
    }

    pub(super) fn add(&mut self, register: usize) {
        self.there.general |= 1 << register;
    }

    /// Makes sure that a general register is in its host register, and gives that.
    pub(super) fn load(&mut self, code: &mut Vec<u8>, register: usize) -> u8 {
        if !self.has(register) {
            move_word(code, LOAD, HOSTS[register], 4 * register as u32);
            self.add(register);
        }
        HOSTS[register]
    }

    /// Its host register has a new value.
    pub(super) fn owe(&mut self, register: usize) {
        self.owed.general |= 1 << register;
    }

    pub(super) fn has_vector(self, number: u32) -> bool {
        self.there.vectors >> number & 1 != 0
    }

    pub(super) fn add_vector(&mut self, number: u32) {
        self.there.vectors |= 1 << number;
    }

    /// As [`Kept::owe`].
    pub(super) fn owe_vector(&mut self, number: u32) {
        self.owed.vectors |= 1 << number;
    }
}

/// [`LOAD`] or [`STORE`] of the register at `offset` in the CPU.
pub(super) fn move_word(code: &mut Vec<u8>, opcode: u8, host: u8, offset: u32) {
    if host >= 8 {
        code.push(0x44);
    }
    code.push(opcode);
    operand(code, host & 7, offset & !3);
}
