//! What an operation reads from the control word and what it reports back.

/// Bits of the status word that operations report; exceptions share their positions with the masks of the
/// control word (SDM Vol. 1, 8.1.3 and 8.1.5).
pub mod flag {
    /// Invalid operation (`#IA`, and `#IS` together with [`SF`]).
    pub const IE: u16 = 1 << 0;
    /// Denormal operand (`#D`).
    pub const DE: u16 = 1 << 1;
    /// Division by zero (`#Z`).
    pub const ZE: u16 = 1 << 2;
    /// Overflow (`#O`).
    pub const OE: u16 = 1 << 3;
    /// Underflow (`#U`).
    pub const UE: u16 = 1 << 4;
    /// Inexact result (`#P`).
    pub const PE: u16 = 1 << 5;
    /// Stack fault.
    pub const SF: u16 = 1 << 6;
    /// Error summary: an unmasked exception waits for the next waiting instruction.
    pub const ES: u16 = 1 << 7;
    /// Condition code 0.
    pub const C0: u16 = 1 << 8;
    /// Condition code 1: rounded away from zero; with [`SF`], overflow of the stack rather than underflow.
    pub const C1: u16 = 1 << 9;
    /// Condition code 2.
    pub const C2: u16 = 1 << 10;
    /// Condition code 3.
    pub const C3: u16 = 1 << 14;
    /// Busy: a copy of [`ES`].
    pub const B: u16 = 1 << 15;
    /// The six exceptions.
    pub const EXCEPTIONS: u16 = 0x3f;
    /// The four condition codes.
    pub const CODES: u16 = C0 | C1 | C2 | C3;
}

/// The rounding control, bits 10 and 11 of the control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounding(u8);

impl Rounding {
    /// To nearest, ties to even.
    pub const NEAREST: Self = Self(0);
    /// Toward −∞.
    pub const DOWN: Self = Self(1);
    /// Toward +∞.
    pub const UP: Self = Self(2);
    /// Toward zero.
    pub const ZERO: Self = Self(3);
}

/// The environment of one operation: the control word going in, the raised exceptions and C1 coming out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Env {
    control: u16,
    flags: u16,
}

impl Env {
    /// Runs a rare path on a copy, so that on the usual path the environment can stay in registers.
    #[inline(always)]
    pub(super) fn rarely<T>(&mut self, path: impl FnOnce(&mut Self) -> T) -> T {
        let mut copy = *self;
        let result = path(&mut copy);
        *self = copy;
        result
    }

    /// Starts an operation under `control`, the x87 control word, with nothing raised.
    #[inline]
    #[must_use]
    pub const fn new(control: u16) -> Self {
        Self { control, flags: 0 }
    }

    /// The control word the operation runs under.
    #[inline]
    #[must_use]
    pub const fn control(&self) -> u16 {
        self.control
    }

    /// The exceptions, SF and C1 raised so far, at their positions in the status word.
    #[inline]
    #[must_use]
    pub const fn flags(&self) -> u16 {
        self.flags
    }

    /// The rounding control.
    #[inline]
    #[must_use]
    pub const fn rounding(&self) -> Rounding {
        Rounding((self.control >> 10 & 3) as u8)
    }

    /// The precision control: 24, 53 or 64 bits of significand. The reserved encoding 01 means 64, as on silicon.
    #[inline]
    #[must_use]
    pub const fn precision_bits(&self) -> u32 {
        match (self.control >> 8) & 3 {
            0 => 24,
            2 => 53,
            _ => 64,
        }
    }

    /// Reports that the source in memory was a denormal of its own format, which its binary80 value does not show.
    ///
    /// Called before the operation, which withdraws the report when a NaN, an invalid operation or a division by
    /// zero takes precedence (SDM Vol. 1, 4.9.2).
    #[inline]
    pub const fn denormal_source(&mut self) {
        self.flags |= flag::DE;
    }

    /// Reports an empty register read.
    #[inline]
    pub const fn stack_underflow(&mut self) {
        self.flags |= flag::IE | flag::SF;
    }

    /// Reports a push onto a register that is not empty.
    #[inline]
    pub const fn stack_overflow(&mut self) {
        self.flags |= flag::IE | flag::SF | flag::C1;
    }

    /// Whether an unmasked `#I`, `#D` or `#Z` leaves the destination, the stack and the condition codes alone.
    #[inline]
    #[must_use]
    pub const fn stops(&self) -> bool {
        self.unmasked() & (flag::IE | flag::DE | flag::ZE) != 0
    }

    /// Whether a store to memory must leave memory and the stack alone: as [`Env::stops`], or an unmasked `#O`
    /// or `#U`.
    #[inline]
    #[must_use]
    pub const fn stops_store(&self) -> bool {
        self.unmasked() & (flag::IE | flag::DE | flag::ZE | flag::OE | flag::UE) != 0
    }

    /// The raised exceptions that the control word does not mask.
    #[inline]
    #[must_use]
    pub const fn unmasked(&self) -> u16 {
        self.flags & !self.control & flag::EXCEPTIONS
    }

    /// Whether the exceptions in `flags` are all masked.
    #[inline]
    pub(super) const fn masked(&self, flags: u16) -> bool {
        self.control & flags == flags
    }

    /// Whether a denormal source was reported and no operation has withdrawn it.
    #[inline]
    pub(super) const fn has_denormal(&self) -> bool {
        self.flags & flag::DE != 0
    }

    /// Withdraws the report of a denormal source.
    #[inline]
    pub(super) const fn withdraw_denormal(&mut self) {
        self.flags &= !flag::DE;
    }

    /// Raises `flags`.
    #[inline]
    pub(super) const fn raise(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Raises `#P` if the result is `inexact`, and C1 if it was rounded `away` from zero.
    #[inline]
    pub(super) const fn inexact(&mut self, inexact: bool, away: bool) {
        self.flags |=
            (inexact as u16) << flag::PE.trailing_zeros() | (away as u16) << flag::C1.trailing_zeros();
    }

    /// Raises `#IA`, which takes precedence over a denormal operand.
    #[inline]
    pub(super) const fn invalid(&mut self) {
        self.withdraw_denormal();
        self.flags |= flag::IE;
    }

    /// Raises `#Z`, which takes precedence over a denormal operand.
    #[inline]
    pub(super) const fn zero_divide(&mut self) {
        self.withdraw_denormal();
        self.flags |= flag::ZE;
    }
}
