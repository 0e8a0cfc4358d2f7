//! Control and status of SSE. SDM Vol. 1, 10.2.3 and 11.5.

/// Bits of MXCSR: the exception flags; their masks are 7 bits further up.
pub mod flag {
    /// Invalid operation.
    pub const INVALID: u32 = 1;
    /// A denormal operand.
    pub const DENORMAL: u32 = 2;
    /// Division by zero.
    pub const ZERO_DIVIDE: u32 = 4;
    /// Overflow.
    pub const OVERFLOW: u32 = 8;
    /// Underflow.
    pub const UNDERFLOW: u32 = 16;
    /// The result is not exact.
    pub const PRECISION: u32 = 32;
    /// All six.
    pub const ALL: u32 = 63;
    /// Those that operands raise, before anything is computed.
    pub const BEFORE: u32 = INVALID | DENORMAL | ZERO_DIVIDE;
}

/// MXCSR at reset: every exception masked, rounding to nearest.
pub const ALL_MASKED: u32 = 0x1f80;
/// Rounding, FTZ and DAZ.
pub const MODES: u32 = 0xe040;

/// Denormals are zeros.
const DAZ: u32 = 1 << 6;
/// From a flag to its mask.
const MASKS: u32 = 7;
/// Flush to zero.
const FTZ: u32 = 1 << 15;

/// How a result is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to even.
    Nearest,
    /// Towards minus infinity.
    Down,
    /// Towards plus infinity.
    Up,
    /// Towards zero.
    Zero,
}

impl Rounding {
    /// As two bits of MXCSR or of an immediate say it.
    #[inline(always)]
    pub fn from_bits(bits: u32) -> Rounding {
        match bits & 3 {
            0 => Rounding::Nearest,
            1 => Rounding::Down,
            2 => Rounding::Up,
            _ => Rounding::Zero,
        }
    }
}

/// MXCSR while an instruction runs: what it was, and which exceptions the instruction raises.
#[derive(Clone, Copy, Debug)]
pub struct Mxcsr {
    before: u32,
    raised: u32,
    /// Raised by earlier operations of the same instruction, all of it masked.
    earlier: u32,
    native: bool,
}

impl Mxcsr {
    /// Nothing raised yet; everything is computed in software.
    #[inline(always)]
    pub fn new(mxcsr: u32) -> Mxcsr {
        Mxcsr { before: mxcsr, raised: 0, earlier: 0, native: false }
    }

    /// The same on a host whose own MXCSR has the guest's modes and collects the flags, if `native`.
    #[inline(always)]
    pub fn on_host(mxcsr: u32, native: bool) -> Mxcsr {
        Mxcsr { before: mxcsr, raised: 0, earlier: 0, native }
    }

    /// Whether the host's instructions do what the guest's should.
    #[inline(always)]
    pub fn native(self) -> bool {
        self.native
    }

    /// What is raised so far.
    #[inline(always)]
    pub fn raised(self) -> u32 {
        self.raised | self.earlier
    }

    /// Notes exceptions (bits of [`flag`]).
    #[inline(always)]
    pub fn raise(&mut self, flags: u32) {
        self.raised |= flags;
    }

    /// The rounding control.
    #[inline(always)]
    pub fn rounding(self) -> Rounding {
        Rounding::from_bits(self.before >> 13)
    }

    /// Whether denormal operands count as zeros.
    #[inline(always)]
    pub fn denormals_are_zeros(self) -> bool {
        self.before & DAZ != 0
    }

    /// Whether tiny results become zero, which they do only while underflow is masked.
    #[inline(always)]
    pub fn flushes_to_zero(self) -> bool {
        self.before & FTZ != 0 && self.is_masked(flag::UNDERFLOW)
    }

    /// Whether all of these exceptions are masked.
    #[inline(always)]
    pub fn is_masked(self, flags: u32) -> bool {
        self.before >> MASKS & flags == flags
    }

    /// The same without a mask's effect on `flags`: for instructions that do not report them.
    #[inline(always)]
    pub fn forget(&mut self, flags: u32) {
        self.raised &= !flags;
    }

    /// What is raised and not masked.
    #[inline(always)]
    fn unmasked(self) -> u32 {
        self.raised & !(self.before >> MASKS)
    }

    /// Whether an exception stops the instruction: #XM.
    #[inline(always)]
    pub fn stops(self) -> bool {
        self.unmasked() != 0
    }

    /// Ends the first of several operations of an instruction: what it raised stays, even if operands of the next one stop
    /// that. Gives whether an exception stops the instruction here.
    #[inline(always)]
    pub fn stops_between(&mut self) -> bool {
        if self.stops() {
            return true;
        }
        self.earlier |= self.raised;
        self.raised = 0;
        false
    }

    /// MXCSR behind the instruction. An unmasked exception of an operand leaves none of the flags that a result would set.
    #[inline(always)]
    pub fn committed(self) -> u32 {
        let early = self.unmasked() & flag::BEFORE != 0;
        self.before | self.earlier | if early { self.raised & flag::BEFORE } else { self.raised }
    }
}
