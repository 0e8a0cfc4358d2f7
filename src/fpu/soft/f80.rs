//! The double extended-precision format, binary80.

use core::fmt;

/// A value in the 80-bit format of the x87 registers (SDM Vol. 1, 4.2.2 and 8.2).
///
/// Equality compares the encodings, not the numbers: two NaNs may be equal, and −0 differs from +0.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct F80 {
    /// The significand with its explicit integer bit, bit 63.
    pub sig: u64,
    /// Bit 15: the sign; bits 0–14: the exponent, biased by 16383.
    pub se: u16,
}

/// The exponent's bias.
pub(super) const BIAS: i32 = 0x3fff;
/// The exponent of infinities and NaNs.
pub(super) const EXP_MAX: i32 = 0x7fff;
/// The integer bit of a significand.
pub(super) const INTEGER: u64 = 1 << 63;
/// The bit that makes a NaN quiet.
const QUIET: u64 = 1 << 62;

/// What a binary80 encoding stands for (SDM Vol. 1, tables 4-3 and 8-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// ±0.
    Zero,
    /// Exponent 0, integer bit clear, fraction not 0.
    Denormal,
    /// Exponent 0, integer bit set: worth as much as with exponent 1, and reported as a denormal operand.
    PseudoDenormal,
    /// A normalized number.
    Normal,
    /// ±∞.
    Infinity,
    /// A quiet NaN.
    QuietNan,
    /// A signaling NaN.
    SignalingNan,
    /// An unnormal, a pseudo-infinity or a pseudo-NaN: any use is an invalid operation.
    Unsupported,
}

impl F80 {
    /// +0.
    pub const ZERO: Self = Self::new(0, 0);
    /// +1.
    pub const ONE: Self = Self::new(0x3fff, INTEGER);
    /// +∞.
    pub const INFINITY: Self = Self::new(0x7fff, INTEGER);
    /// The QNaN floating-point indefinite, the masked response to an invalid operation.
    pub const INDEFINITE: Self = Self::new(0xffff, INTEGER | QUIET);

    /// Makes a value of the sign and exponent `se` and the significand `sig`.
    #[inline]
    #[must_use]
    pub const fn new(se: u16, sig: u64) -> Self {
        Self { sig, se }
    }

    /// Reads the ten bytes of `m80fp`.
    #[inline]
    #[must_use]
    pub const fn from_bytes(b: [u8; 10]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j] = b;
        Self { sig: u64::from_le_bytes([a, b, c, d, e, f, g, h]), se: u16::from_le_bytes([i, j]) }
    }

    /// Gives the ten bytes of `m80fp`.
    #[inline]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 10] {
        let [a, b, c, d, e, f, g, h] = self.sig.to_le_bytes();
        let [i, j] = self.se.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j]
    }

    /// The biased exponent, 0 to 0x7fff.
    #[inline]
    #[must_use]
    pub const fn exponent(self) -> i32 {
        (self.se & 0x7fff) as i32
    }

    /// The sign in place: 0 or 0x8000.
    #[inline]
    #[must_use]
    pub const fn sign(self) -> u16 {
        self.se & 0x8000
    }

    /// Whether the sign bit is set, whatever the value is.
    #[inline]
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.sign() != 0
    }

    /// Classifies the encoding.
    #[inline]
    #[must_use]
    pub const fn class(self) -> Class {
        let integer = self.sig & INTEGER != 0;
        match self.exponent() {
            0 if self.sig == 0 => Class::Zero,
            0 if integer => Class::PseudoDenormal,
            0 => Class::Denormal,
            _ if !integer => Class::Unsupported,
            EXP_MAX if self.sig == INTEGER => Class::Infinity,
            EXP_MAX if self.sig & QUIET != 0 => Class::QuietNan,
            EXP_MAX => Class::SignalingNan,
            _ => Class::Normal,
        }
    }

    /// Whether the value is a normalized number: not zero, denormal, infinite, NaN or unsupported.
    #[inline]
    #[must_use]
    pub const fn is_normal(self) -> bool {
        self.sig & INTEGER != 0 && (self.exponent() as u32).wrapping_sub(1) < 0x7ffe
    }

    /// Whether the value is ±0.
    #[inline]
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.exponent() == 0 && self.sig == 0
    }

    /// Whether the value is ±∞.
    #[inline]
    #[must_use]
    pub const fn is_infinite(self) -> bool {
        self.exponent() == EXP_MAX && self.sig == INTEGER
    }

    /// Whether the value is a NaN, quiet or signaling, in a supported encoding.
    #[inline]
    #[must_use]
    pub const fn is_nan(self) -> bool {
        self.exponent() == EXP_MAX && self.sig > INTEGER
    }

    /// Whether the value is a signaling NaN.
    #[inline]
    #[must_use]
    pub const fn is_signaling(self) -> bool {
        self.is_nan() && self.sig & QUIET == 0
    }

    /// Whether the value is a denormal or a pseudo-denormal, which `#D` reports.
    #[inline]
    #[must_use]
    pub const fn is_denormal(self) -> bool {
        self.exponent() == 0 && self.sig != 0
    }

    /// Whether the encoding is one that the processor does not support.
    #[inline]
    #[must_use]
    pub const fn is_unsupported(self) -> bool {
        self.exponent() != 0 && self.sig & INTEGER == 0
    }

    /// Inverts the sign, of NaNs and unsupported encodings too. SDM Vol. 2A, "FCHS".
    #[inline]
    #[must_use]
    pub const fn chs(self) -> Self {
        Self { se: self.se ^ 0x8000, ..self }
    }

    /// What an operation makes of a number that it has nothing to do to: a pseudo-denormal becomes the normal number that it is.
    /// Nothing is rounded, so there is no underflow.
    pub(super) const fn unchanged(self) -> Self {
        let pseudo_denormal = self.se & 0x7fff == 0 && self.sig & INTEGER != 0;
        Self { se: self.se | pseudo_denormal as u16, sig: self.sig }
    }

    /// Clears the sign, of NaNs and unsupported encodings too. SDM Vol. 2A, "FABS".
    #[inline]
    #[must_use]
    pub const fn abs(self) -> Self {
        Self { se: self.se & 0x7fff, ..self }
    }

    /// Makes a NaN quiet.
    #[inline]
    pub(super) const fn quiet(self) -> Self {
        Self { sig: self.sig | QUIET, ..self }
    }

    /// Zero with the sign `sign`, 0 or 0x8000.
    #[inline]
    pub(super) const fn zero(sign: u16) -> Self {
        Self::new(sign, 0)
    }

    /// Infinity with the sign `sign`, 0 or 0x8000.
    #[inline]
    pub(super) const fn infinity(sign: u16) -> Self {
        Self::new(sign | 0x7fff, INTEGER)
    }
}

impl fmt::Debug for F80 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:016x}", self.se, self.sig)
    }
}

/// A finite number other than zero, taken apart: ±`sig` × 2^(`exp` − 16383 − 63), bit 63 of `sig` set.
///
/// Denormals have exponents below 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Num {
    /// 0 or 0x8000.
    pub sign: u16,
    /// The biased exponent, not limited to 15 bits.
    pub exp: i32,
    /// The significand, normalized.
    pub sig: u64,
}

impl Num {
    /// Takes a normal number apart.
    #[inline]
    pub(super) const fn normal(a: F80) -> Self {
        Self { sign: a.sign(), exp: a.exponent(), sig: a.sig }
    }

    /// Takes a normal, denormal or pseudo-denormal number apart.
    #[inline]
    pub(super) const fn finite(a: F80) -> Self {
        if a.exponent() != 0 {
            return Self::normal(a);
        }
        let shift = a.sig.leading_zeros();
        Self { sign: a.sign(), exp: 1 - shift as i32, sig: a.sig << (shift & 63) }
    }
}
