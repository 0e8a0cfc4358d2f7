//! Values of vector registers: 128 bits of XMM, 64 of MMX, or the low part of either.

/// What an XMM register holds; lane 0 is the lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct V128([u8; 16]);

impl V128 {
    /// All bits clear.
    pub const ZERO: V128 = V128([0; 16]);
}

impl From<[u8; 16]> for V128 {
    #[inline(always)]
    fn from(bytes: [u8; 16]) -> V128 {
        V128(bytes)
    }
}

impl From<V128> for [u8; 16] {
    #[inline(always)]
    fn from(vector: V128) -> [u8; 16] {
        vector.0
    }
}

impl From<u128> for V128 {
    #[inline(always)]
    fn from(bits: u128) -> V128 {
        V128(bits.to_le_bytes())
    }
}

impl From<V128> for u128 {
    #[inline(always)]
    fn from(vector: V128) -> u128 {
        u128::from_le_bytes(vector.0)
    }
}

#[cfg(target_arch = "x86_64")]
impl From<std::arch::x86_64::__m128i> for V128 {
    #[inline(always)]
    fn from(host: std::arch::x86_64::__m128i) -> V128 {
        // SAFETY: both are 16 bytes without padding, for which every pattern is valid.
        unsafe { std::mem::transmute(host) }
    }
}

#[cfg(target_arch = "x86_64")]
impl From<V128> for std::arch::x86_64::__m128i {
    #[inline(always)]
    fn from(vector: V128) -> std::arch::x86_64::__m128i {
        // SAFETY: as above.
        unsafe { std::mem::transmute(vector) }
    }
}

/// An element of a vector.
pub trait Lane: Copy + Default {
    /// Its size.
    const BYTES: usize;
    /// From little-endian bytes; exactly [`Lane::BYTES`] of them.
    fn load(bytes: &[u8]) -> Self;
    /// To little-endian bytes.
    fn store(self, bytes: &mut [u8]);
}

macro_rules! lane {
    ($($type:ty)*) => {$(
        impl Lane for $type {
            const BYTES: usize = size_of::<$type>();
            #[inline(always)]
            fn load(bytes: &[u8]) -> Self {
                bytes.first_chunk().map_or(0, |bytes| <$type>::from_le_bytes(*bytes))
            }
            #[inline(always)]
            fn store(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

lane!(u8 i8 u16 i16 u32 i32 u64 i64 u128);

/// A row of lanes: what a body gets for an MMX or XMM operand, or for its low part.
pub trait Vector: Copy + Eq + 'static {
    /// Its size.
    const BYTES: usize;
    /// All bits clear.
    const ZERO: Self;
    /// The lane at `at`, counted from the lowest; 0 beyond the last.
    fn lane<L: Lane>(self, at: usize) -> L;
    /// The same with one lane replaced; nothing happens beyond the last.
    fn with_lane<L: Lane>(self, at: usize, lane: L) -> Self;

    /// How many lanes there are.
    #[inline(always)]
    fn lanes<L: Lane>() -> usize {
        Self::BYTES / L::BYTES
    }

    /// Makes each lane of its number.
    #[inline(always)]
    fn from_lanes<L: Lane>(mut lane: impl FnMut(usize) -> L) -> Self {
        // A loop rather than an iterator, which is not always inlined: handlers may not have closures on the host's stack.
        let mut vector = Self::ZERO;
        for at in 0..Self::lanes::<L>() {
            vector = vector.with_lane(at, lane(at));
        }
        vector
    }

    /// Replaces each lane.
    #[inline(always)]
    fn map<L: Lane>(self, mut lane: impl FnMut(L) -> L) -> Self {
        Self::from_lanes(|at| lane(self.lane(at)))
    }

    /// Joins each lane with the other vector's.
    #[inline(always)]
    fn zip<L: Lane>(self, other: Self, mut lane: impl FnMut(L, L) -> L) -> Self {
        Self::from_lanes(|at| lane(self.lane(at), other.lane(at)))
    }

    /// Adds up what `part` makes of the numbers of so many lanes.
    #[inline(always)]
    fn sum<T: Default + std::ops::Add<Output = T>>(lanes: usize, mut part: impl FnMut(usize) -> T) -> T {
        let mut sum = T::default();
        for at in 0..lanes {
            sum = sum + part(at);
        }
        sum
    }

    /// The low part, or all with zeros above.
    #[inline(always)]
    fn resize<V: Vector>(self) -> V {
        match (Self::BYTES, V::BYTES) {
            (16, 16) => V::ZERO.with_lane(0, self.lane::<u128>(0)),
            (8.., 8..) => V::ZERO.with_lane(0, self.lane::<u64>(0)),
            (4.., 4..) => V::ZERO.with_lane(0, self.lane::<u32>(0)),
            _ => V::ZERO.with_lane(0, self.lane::<u16>(0)),
        }
    }
}

macro_rules! vector {
    ($type:ty, $zero:expr, $from:expr, $to:expr) => {
        impl Vector for $type {
            const BYTES: usize = size_of::<$type>();
            const ZERO: Self = $zero;
            #[inline(always)]
            fn lane<L: Lane>(self, at: usize) -> L {
                ($to)(self).get(at * L::BYTES..(at + 1) * L::BYTES).map_or(L::default(), L::load)
            }
            #[inline(always)]
            fn with_lane<L: Lane>(self, at: usize, lane: L) -> Self {
                let mut bytes = ($to)(self);
                if let Some(bytes) = bytes.get_mut(at * L::BYTES..(at + 1) * L::BYTES) {
                    lane.store(bytes);
                }
                ($from)(bytes)
            }
        }
    };
}

vector!(V128, V128::ZERO, V128, <[u8; 16]>::from);
vector!(u64, 0, u64::from_le_bytes, u64::to_le_bytes);
vector!(u32, 0, u32::from_le_bytes, u32::to_le_bytes);
vector!(u16, 0, u16::from_le_bytes, u16::to_le_bytes);
