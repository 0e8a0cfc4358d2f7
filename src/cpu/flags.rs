//! Lazy status flags: two words from which each of O S Z A P C is read without knowing what wrote them.
//!
//! `result` holds the last result, sign-extended to 32 bits: Z is "low half zero", S its bit 31, P the parity
//! of its low byte. `carries` holds the carry into each bit, `a ^ b ^ wide result`, shifted so that the
//! operand's top bit is bit 31: C is bit 32, O is bit 32 xor bit 31, and A (always) bit 4. Setting all flags
//! costs two exclusive ors and two stores, and no kind of operation has to be remembered or switched on.
//! Combinations that no result shows (S with Z after POPF) use the upper half of `result`: bit 63 flips S,
//! bits 32 to 39 flip the byte whose parity is P.

use super::word::Word;

/// Bits of EFLAGS (SDM Vol. 1, 3.4.3).
pub mod eflags {
    /// Carry.
    pub const CF: u32 = 1 << 0;
    /// Always one.
    pub const FIXED: u32 = 1 << 1;
    /// Parity of the low byte: set if even.
    pub const PF: u32 = 1 << 2;
    /// Carry out of bit 3.
    pub const AF: u32 = 1 << 4;
    /// Zero.
    pub const ZF: u32 = 1 << 6;
    /// Sign.
    pub const SF: u32 = 1 << 7;
    /// Trap: #DB after each instruction.
    pub const TF: u32 = 1 << 8;
    /// Interrupts enabled; always set in user mode.
    pub const IF: u32 = 1 << 9;
    /// Direction of string instructions: set for down.
    pub const DF: u32 = 1 << 10;
    /// Overflow.
    pub const OF: u32 = 1 << 11;
    /// I/O privilege level, two bits; zero in user mode.
    pub const IOPL: u32 = 3 << 12;
    /// Nested task.
    pub const NT: u32 = 1 << 14;
    /// Resume: suppresses instruction breakpoints.
    pub const RF: u32 = 1 << 16;
    /// Virtual-8086 mode; never set here.
    pub const VM: u32 = 1 << 17;
    /// Alignment check.
    pub const AC: u32 = 1 << 18;
    /// CPUID is available: can be changed.
    pub const ID: u32 = 1 << 21;
    /// The six status flags.
    pub const STATUS: u32 = CF | PF | AF | ZF | SF | OF;
}
use eflags::*;

/// The status flags at rest, as the CPU keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlagState {
    pub(crate) result: u64,
    pub(crate) carries: u64,
}

const CARRY: u64 = 1 << 32;
const CARRY_IN: u64 = 1 << 31;
const AUX: u64 = 1 << 4;

impl FlagState {
    /// Takes O S Z A P C out of an EFLAGS image.
    pub fn from_eflags(image: u32) -> Self {
        let mut flags = FlagState::default();
        flags.set_eflags(image);
        flags
    }

    /// The six status flags as EFLAGS has them; all other bits are zero.
    #[inline(always)]
    pub fn eflags(&self) -> u32 {
        u32::from(self.carry())
            | u32::from(self.parity()) << 2
            | u32::from(self.aux()) << 4
            | u32::from(self.zero()) << 6
            | u32::from(self.sign()) << 7
            | u32::from(self.overflow()) << 11
    }

    /// Replaces all six by those of an EFLAGS image.
    #[inline(always)]
    pub fn set_eflags(&mut self, image: u32) {
        let carry = u64::from(image & CF);
        let overflow = u64::from(image >> 11 & 1);
        let zero = image & ZF != 0;
        // A result of 1 has odd parity and no sign, one of 0 even parity; the upper half mends the rest.
        let parity_flips = zero != (image & PF != 0);
        self.result = u64::from(!zero) | u64::from(image >> 7 & 1) << 63 | u64::from(parity_flips) << 32;
        self.carries = carry << 32 | (carry ^ overflow) << 31 | u64::from(image & AF);
    }

    /// CF.
    #[inline(always)]
    pub fn carry(&self) -> bool {
        self.carries & CARRY != 0
    }
    /// ZF.
    #[inline(always)]
    pub fn zero(&self) -> bool {
        self.result as u32 == 0
    }
    /// SF.
    #[inline(always)]
    pub fn sign(&self) -> bool {
        ((self.result as u32 >> 31) ^ (self.result >> 63) as u32) & 1 != 0
    }
    /// PF.
    #[inline(always)]
    pub fn parity(&self) -> bool {
        ((self.result ^ self.result >> 32) as u8).count_ones() & 1 == 0
    }
    /// AF.
    #[inline(always)]
    pub fn aux(&self) -> bool {
        self.carries & AUX != 0
    }
    /// OF.
    #[inline(always)]
    pub fn overflow(&self) -> bool {
        (self.carries ^ self.carries << 1) & CARRY != 0
    }

    #[inline(always)]
    fn set_carry_and_overflow(&mut self, carry: bool, overflow: bool) {
        let upper = u64::from(carry) << 32 | u64::from(carry ^ overflow) << 31;
        self.carries = self.carries & AUX | upper;
    }
}

/// What the last operation was, so that a condition right behind it needs no flags at all.
#[derive(Clone, Copy)]
enum Hint {
    None,
    /// `a - b`, both sign-extended to 64 bits and zero-extended to 64 bits.
    Sub {
        a: u64,
        b: u64,
        signed_a: i64,
        signed_b: i64,
    },
    /// A logical operation: C and O are clear.
    Logic,
}

/// The flags while an instruction runs: a body changes them, and they are committed when it is complete.
#[derive(Clone, Copy)]
pub struct Pending {
    state: FlagState,
    hint: Hint,
}

impl Pending {
    /// Starts from the flags that are there.
    #[inline(always)]
    pub fn new(state: FlagState) -> Self {
        Pending { state, hint: Hint::None }
    }

    /// What has to be kept when the instruction is complete.
    #[inline(always)]
    pub fn state(&self) -> FlagState {
        self.state
    }

    /// Sets all six after `a + b (+ carry)`; `wide` is the sum of the zero-extended operands in 64 bits.
    #[inline(always)]
    pub fn add<W: Word>(&mut self, a: W, b: W, wide: u64) {
        self.arithmetic(a, b, wide);
        self.hint = Hint::None;
    }

    /// Sets all six after `a - b (- borrow)`; `wide` is the difference of the zero-extended operands,
    /// wrapping in 64 bits.
    #[inline(always)]
    pub fn sub<W: Word>(&mut self, a: W, b: W, wide: u64) {
        self.arithmetic(a, b, wide);
        self.hint = Hint::None;
    }

    /// Sets all six after `a - b` without a borrow, as CMP and SUB do.
    #[inline(always)]
    pub fn compare<W: Word>(&mut self, a: W, b: W) {
        self.arithmetic(a, b, a.zext().wrapping_sub(b.zext()));
        self.hint = Hint::Sub { a: a.zext(), b: b.zext(), signed_a: a.sext(), signed_b: b.sext() };
    }

    #[inline(always)]
    fn arithmetic<W: Word>(&mut self, a: W, b: W, wide: u64) {
        let carries = a.zext() ^ b.zext() ^ wide;
        self.set_result(W::low(wide));
        self.state.carries = if W::BITS == 32 { carries } else { carries << (32 - W::BITS) | carries & AUX };
    }

    /// Sets S Z P from `result`, clears O C A, as AND, OR, XOR and TEST do.
    #[inline(always)]
    pub fn logic<W: Word>(&mut self, result: W) {
        self.set_result(result);
        self.state.carries = 0;
        self.hint = Hint::Logic;
    }

    /// Sets S Z P from `result`; O A C stay.
    #[inline(always)]
    pub fn result<W: Word>(&mut self, result: W) {
        self.set_result(result);
        self.hint = Hint::None;
    }

    #[inline(always)]
    fn set_result<W: Word>(&mut self, result: W) {
        self.state.result = u64::from(result.sext() as u32);
    }

    /// CF.
    #[inline(always)]
    pub fn carry(&self) -> bool {
        self.state.carry()
    }
    /// PF.
    #[inline(always)]
    pub fn parity(&self) -> bool {
        self.state.parity()
    }
    /// AF.
    #[inline(always)]
    pub fn aux(&self) -> bool {
        self.state.aux()
    }
    /// ZF.
    #[inline(always)]
    pub fn zero(&self) -> bool {
        self.state.zero()
    }
    /// SF.
    #[inline(always)]
    pub fn sign(&self) -> bool {
        self.state.sign()
    }
    /// OF.
    #[inline(always)]
    pub fn overflow(&self) -> bool {
        self.state.overflow()
    }
    /// The six status flags as an EFLAGS image.
    #[inline(always)]
    pub fn eflags(&self) -> u32 {
        self.state.eflags()
    }

    /// Sets C, keeps the rest.
    #[inline(always)]
    pub fn set_carry(&mut self, carry: bool) {
        let overflow = self.overflow();
        self.set_carry_overflow(carry, overflow);
    }
    /// Sets O, keeps the rest.
    #[inline(always)]
    pub fn set_overflow(&mut self, overflow: bool) {
        let carry = self.carry();
        self.set_carry_overflow(carry, overflow);
    }
    /// Sets C and O, keeps the rest.
    #[inline(always)]
    pub fn set_carry_overflow(&mut self, carry: bool, overflow: bool) {
        self.state.set_carry_and_overflow(carry, overflow);
        self.hint = Hint::None;
    }
    /// Sets A, keeps the rest.
    #[inline(always)]
    pub fn set_aux(&mut self, aux: bool) {
        self.state.carries = self.state.carries & !AUX | u64::from(aux) << 4;
        self.hint = Hint::None;
    }
    /// Sets Z, keeps the rest.
    #[inline(always)]
    pub fn set_zero(&mut self, zero: bool) {
        let image = self.state.eflags() & !ZF | u32::from(zero) << 6;
        self.set_eflags(image);
    }
    /// Replaces all six by those of an EFLAGS image.
    #[inline(always)]
    pub fn set_eflags(&mut self, image: u32) {
        self.state.set_eflags(image);
        self.hint = Hint::None;
    }

    /// Evaluates the condition that `CC`, the low four bits of Jcc's opcode, stands for (SDM Vol. 1, App. B).
    #[inline(always)]
    pub fn condition<const CC: u8>(&self) -> bool {
        let holds = match CC >> 1 {
            0 => self.overflow(),
            1 => match self.hint {
                Hint::Sub { a, b, .. } => a < b,
                Hint::Logic => false,
                Hint::None => self.carry(),
            },
            2 => match self.hint {
                Hint::Sub { a, b, .. } => a == b,
                _ => self.zero(),
            },
            3 => match self.hint {
                Hint::Sub { a, b, .. } => a <= b,
                Hint::Logic => self.zero(),
                Hint::None => self.carry() | self.zero(),
            },
            4 => self.sign(),
            5 => self.parity(),
            6 => match self.hint {
                Hint::Sub { signed_a, signed_b, .. } => signed_a < signed_b,
                Hint::Logic => self.sign(),
                Hint::None => self.sign() != self.overflow(),
            },
            _ => match self.hint {
                Hint::Sub { signed_a, signed_b, .. } => signed_a <= signed_b,
                Hint::Logic => self.sign() | self.zero(),
                Hint::None => (self.sign() != self.overflow()) | self.zero(),
            },
        };
        holds ^ (CC & 1 != 0)
    }
}

// CARRY_IN is the other half of O; named for the reader of the layout above.
const _: () = assert!(CARRY_IN << 1 == CARRY);
