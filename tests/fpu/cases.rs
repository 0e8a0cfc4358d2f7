//! Operands and states that bring out what random bits alone would not.

use table86::fpu::soft::{F80, flag};
use table86::fpu::{Fpu, Pointers};

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// One in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 64 bits: random ones, or few ones, few zeros, runs, the edges of the shorter precisions.
    pub fn word(&mut self) -> u64 {
        match self.below(8) {
            0 => 1u64 << self.below(64) | 1u64 << self.below(64) | 1u64 << self.below(64),
            1 => !(1u64 << self.below(64) | 1u64 << self.below(64)),
            2 => u64::MAX << self.below(64),
            3 => u64::MAX >> self.below(64),
            // Near ties of 24 and 53 bits.
            4 => (self.bits() << 40 | 1 << 39).wrapping_add(self.below(3)).wrapping_sub(1),
            5 => (self.bits() << 11 | 1 << 10).wrapping_add(self.below(3)).wrapping_sub(1),
            _ => self.bits(),
        }
    }

    fn exponent(&mut self, near: u16) -> u16 {
        let around = |rng: &mut Self, center: u16, spread: u64| {
            center.wrapping_add(rng.below(2 * spread + 1) as u16).wrapping_sub(spread as u16) & 0x7fff
        };
        match self.below(16) {
            0 => self.bits() as u16 & 0x7fff,
            1 => self.below(70) as u16,
            2 => 0x7ffe - self.below(70) as u16,
            3 => around(self, 0x3fff - 127, 30),
            4 => around(self, 0x3fff + 127, 4),
            5 => around(self, 0x3fff - 1023, 60),
            6 => around(self, 0x3fff + 1023, 4),
            7 => around(self, 0x3fff + 32, 36),
            8 => around(self, 0x3fff, 3),
            9 => around(self, 0x3fff, 80),
            10 | 11 => around(self, near, 140),
            12 => around(self, near, 70),
            13 => near,
            _ => around(self, near, 2),
        }
    }

    /// A binary80 value, often of an exponent close to `near`.
    pub fn f80(&mut self, near: u16) -> F80 {
        let sign = (self.bits() as u16) & 0x8000;
        let sig = self.word();
        const INTEGER: u64 = 1 << 63;
        match self.below(32) {
            0 => F80::new(sign, 0),
            1 => F80::new(sign | 0x7fff, INTEGER),
            2 => F80::new(sign | 0x7fff, INTEGER | sig),
            3 => F80::new(sign | 0x7fff, (INTEGER | sig) & !(1 << 62)),
            4 => F80::new(sign, sig & !INTEGER),
            5 => F80::new(sign, sig | INTEGER),
            6 => F80::new(sign | self.exponent(near), sig & !INTEGER),
            7 => F80::new(sign | 0x7fff, sig & !INTEGER),
            8 => F80::new(sign | 0x3fff, INTEGER),
            9 => F80::new(sign | (0x3fff + self.below(64) as u16), INTEGER | sig),
            // An integer, or an odd half.
            10 | 11 => {
                let places = self.below(64) as u16;
                F80::new(sign | (0x3fff + places), INTEGER | (sig & u64::MAX << (62 - places.min(62))))
            }
            _ => F80::new(sign | self.exponent(near), INTEGER | sig),
        }
    }

    fn f80_related(&mut self, other: F80) -> F80 {
        match self.below(6) {
            0 => other,
            1 => other.chs(),
            2 => F80::new(other.se, other.sig.wrapping_add(self.below(3)).wrapping_sub(1)),
            _ => self.f80(other.se & 0x7fff),
        }
    }

    pub fn f32(&mut self) -> u32 {
        let word = (self.word() >> 40) as u32;
        let sign = (self.bits() as u32) & 1 << 31;
        match self.below(16) {
            0 => sign,
            1 => sign | 0x7f80_0000,
            2 => sign | 0x7fc0_0000 | word & 0x3f_ffff,
            3 => sign | 0x7f80_0000 | word & 0x3f_ffff,
            4 => sign | word & 0x7f_ffff,
            5 => sign | 0x3f80_0000,
            6..10 => sign | (120 + self.below(20) as u32) << 23 | word & 0x7f_ffff,
            _ => sign | (self.bits() as u32) & 0x7f80_0000 | word & 0x7f_ffff,
        }
    }

    pub fn f64(&mut self) -> u64 {
        let word = self.word() >> 11;
        let fraction = word & 0xf_ffff_ffff_ffff;
        let sign = self.bits() & 1 << 63;
        match self.below(16) {
            0 => sign,
            1 => sign | 0x7ff << 52,
            2 => sign | 0xfff << 51 | fraction,
            3 => sign | 0x7ff << 52 | fraction >> 1,
            4 => sign | fraction,
            5 => sign | 0x3ff << 52,
            6..10 => sign | (1010 + self.below(80)) << 52 | fraction,
            _ => sign | self.bits() & 0x7ff << 52 | fraction,
        }
    }

    /// Any 16 bytes that are worth reading as one of the memory formats, integers by default.
    pub fn integer(&mut self) -> i64 {
        match self.below(4) {
            0 => self.below(5) as i64 - 2,
            1 => self.word() as i64 >> self.below(64),
            2 => i64::MIN >> self.below(64),
            _ => self.word() as i64,
        }
    }

    pub fn bcd(&mut self) -> [u8; 10] {
        let mut bytes = [0; 10];
        let digits = self.one_in(4);
        for byte in &mut bytes {
            *byte = if digits { self.bits() as u8 } else { (self.below(10) << 4 | self.below(10)) as u8 };
        }
        bytes
    }

    fn control(&mut self) -> u16 {
        let masks = match self.below(4) {
            0 => self.bits() as u16 & flag::EXCEPTIONS,
            1 => flag::EXCEPTIONS ^ 1 << self.below(6),
            _ => flag::EXCEPTIONS,
        };
        (self.bits() as u16) & 0x1f00 | masks
    }

    /// A state without a pending exception.
    pub fn fpu(&mut self) -> Fpu {
        let mut fpu = Fpu::default();
        let bits = self.bits();
        fpu.pointers = Pointers {
            fip: bits as u32,
            fdp: (bits >> 32) as u32,
            fcs: (bits >> 8) as u16,
            fds: (bits >> 24) as u16,
            fop: (bits >> 40) as u16 & 0x7ff,
        };
        fpu.set_control(self.control());
        let sticky = if self.one_in(2) { self.bits() as u16 & 0x7f & fpu.control() } else { 0 };
        fpu.set_status((self.bits() as u16) & (flag::CODES | 7 << 11) | sticky);
        let near = if self.one_in(2) { 0x3fff } else { self.exponent(0x3fff) };
        for i in 0..8 {
            let value = self.f80(near);
            fpu.set_st(i, value);
        }
        for i in 1..4 {
            let value = self.f80_related(fpu.st(0));
            fpu.set_st(i, value);
        }
        match self.below(16) {
            0 => fpu.set_tags(self.bits() as u8),
            1 => {}
            _ => fpu.ffree(7),
        }
        fpu
    }

    /// An image in one of the three formats, of a state that may have an exception pending.
    pub fn image(&mut self, memory: &mut [u8]) {
        for byte in memory.iter_mut() {
            *byte = self.bits() as u8;
        }
        // MXCSR, which only FXRSTOR looks at.
        memory[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    }

    /// A state whose ST(0) has one of 2^`span` magnitudes below 2^`most`, and mostly nothing else special.
    pub fn transcendental(&mut self, most: i32, span: u64) -> Fpu {
        let mut fpu = self.fpu();
        if self.one_in(8) {
            return fpu;
        }
        for i in 0..2 {
            let sign = (self.bits() as u16) & 0x8000;
            let exponent = 0x3fff + most - 1 - self.below(span) as i32;
            fpu.set_st(i, F80::new(sign | exponent as u16, self.word() | 1 << 63));
        }
        if !self.one_in(8) {
            fpu.set_control(fpu.control() | flag::EXCEPTIONS);
        }
        fpu
    }
}
