//! Random numbers with a seed, and values at which instructions have edges.

/// FNV-1a of bytes, on top of what came before: 0 for nothing.
pub fn digest(before: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ before;
    bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// A generator: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed and a stream number, so that each row has numbers of its own.
    pub fn new(seed: u64, stream: u64) -> Random {
        let mut random = Random(seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// 32 random bits.
    pub fn word(&mut self) -> u32 {
        self.next() as u32
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(limit)) >> 32) as u32
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }

    /// One of the values.
    pub fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u32) as usize]
    }

    /// A value for an operand of any width: an edge of 8, 16 or 32 bits or next to one, a small number, one made of
    /// edges of its bytes, or any.
    pub fn operand(&mut self) -> u32 {
        const EDGES: [u32; 12] = [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0xffff,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_ffff,
            0xffff_8000,
        ];
        const BYTES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x55, 0x99];
        match self.below(8) {
            0 | 1 => self.pick(&EDGES),
            2 => self.pick(&EDGES).wrapping_add(self.below(3)).wrapping_sub(1),
            3 => self.below(40),
            4 => u32::from_le_bytes([0; 4].map(|_: u8| self.pick(&BYTES))),
            5 => 1 << self.below(32),
            _ => self.word(),
        }
    }
}
