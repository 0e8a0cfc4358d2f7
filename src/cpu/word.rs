//! The three operand widths of integer instructions.

use std::fmt::Debug;

/// An 8-, 16- or 32-bit operand.
pub trait Word: Copy + Eq + Ord + Debug + Default + 'static {
    /// Width in bits.
    const BITS: u32;
    /// Width in bytes.
    const BYTES: u32;
    /// All bits set.
    const ONES: Self;
    /// Only the sign bit set.
    const SIGN: Self;
    /// Twice as wide, as the results of MUL are.
    type Double: Copy;

    /// Keeps the low bits of `value`.
    fn low(value: u64) -> Self;
    /// Zero-extends to 64 bits.
    fn zext(self) -> u64;
    /// Sign-extends to 64 bits.
    fn sext(self) -> i64;

    /// Rotates left by `count` modulo the width.
    fn rotated_left(self, count: u32) -> Self;

    /// Zero-extends to 32 bits.
    #[inline(always)]
    fn u32(self) -> u32 {
        self.zext() as u32
    }
    /// Tells whether the most significant bit is set.
    #[inline(always)]
    fn sign(self) -> bool {
        self.sext() < 0
    }
    /// Tells whether every bit is clear.
    #[inline(always)]
    fn is_zero(self) -> bool {
        self.zext() == 0
    }
}

macro_rules! word {
    ($unsigned:ty, $signed:ty, $double:ty) => {
        impl Word for $unsigned {
            const BITS: u32 = <$unsigned>::BITS;
            const BYTES: u32 = <$unsigned>::BITS / 8;
            const ONES: Self = <$unsigned>::MAX;
            const SIGN: Self = 1 << (<$unsigned>::BITS - 1);
            type Double = $double;
            #[inline(always)]
            fn low(value: u64) -> Self {
                value as $unsigned
            }
            #[inline(always)]
            fn zext(self) -> u64 {
                u64::from(self)
            }
            #[inline(always)]
            fn sext(self) -> i64 {
                i64::from(self as $signed)
            }
            #[inline(always)]
            fn rotated_left(self, count: u32) -> Self {
                self.rotate_left(count)
            }
        }
    };
}

word!(u8, i8, u16);
word!(u16, i16, u32);
word!(u32, i32, u64);
