//! Keys of generated handlers: a family and how each operand is found. `build/emit/families.rs` has the same
//! numbers.

use super::handlers::generated;
use super::op::Handler;

/// How an operand is found: a byte of the key.
pub(crate) mod spec {
    pub(crate) const REGISTER: u8 = 1;
    pub(crate) const IMMEDIATE: u8 = 2;
    pub(crate) const MEMORY: u8 = 3;
    pub(crate) const SIB: u8 = 4;
    pub(crate) const ABSOLUTE: u8 = 5;
    pub(crate) const BASE: u8 = 6;
    pub(crate) const INDEXED: u8 = 7;
    pub(crate) const MM: u8 = 8;
    pub(crate) const XMM: u8 = 9;
    /// And the scale, 0 to 3.
    pub(crate) const SCALED: u8 = 12;
    pub(crate) const FIXED: u8 = 0x20;
    pub(crate) const FIXED_BASE: u8 = 0x40;
    pub(crate) const FIXED_XMM: u8 = 0x60;
}

/// A few keys or parts of keys, in their order, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Few {
    list: [u64; Few::MOST],
    len: usize,
}

impl Few {
    /// Two registers and a memory operand have no more.
    const MOST: usize = 16;

    pub(crate) fn of<const N: usize>(keys: [u64; N]) -> Few {
        let mut list = [0; Few::MOST];
        list[..N].copy_from_slice(&keys);
        Few { list, len: N }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        self.list[..self.len].iter().copied()
    }

    /// The same, those that are `last` behind the others.
    pub(crate) fn with_last(&self, last: impl Fn(u64) -> bool) -> Few {
        let mut sorted = Few { list: [0; Few::MOST], len: self.len };
        let keys = self.iter().filter(|key| !last(*key)).chain(self.iter().filter(|key| last(*key)));
        sorted.list.iter_mut().zip(keys).for_each(|(place, key)| *place = key);
        sorted
    }

    /// Each of these joined with each of the others, in the order of these first.
    pub(crate) fn with_each(&self, others: &Few) -> Few {
        let mut joined = Few { list: [0; Few::MOST], len: 0 };
        for key in self.iter() {
            for other in others.iter() {
                joined.list[joined.len] = key | other;
                joined.len += 1;
            }
        }
        joined
    }
}

/// A key without its operands.
pub(crate) fn family(family: u16, live: bool, locked: bool, condition: u8) -> u64 {
    u64::from(family) | u64::from(live) << 40 | u64::from(locked) << 41 | u64::from(condition) << 44
}

/// Where the parts of a key for each operand are.
const OPERANDS: [u32; 4] = [16, 24, 32, 56];

/// A key's part for operand `at`, 0 to 3.
pub(crate) fn operand(at: usize, spec: u8) -> u64 {
    u64::from(spec) << OPERANDS[at & 3]
}

/// Whether a key takes a memory operand anywhere, whatever its segment.
pub(crate) fn takes_any_memory(key: u64) -> bool {
    OPERANDS.iter().any(|at| (key >> at) as u8 == spec::MEMORY)
}

/// A key's part for operand `at` being memory with a certain base, index and scale.
pub(crate) fn indexed(at: usize, which: u8) -> u64 {
    operand(at, spec::INDEXED) | u64::from(which) << 48
}

/// The flag of a key that says that the flags it writes are needed.
pub(crate) const LIVE: u64 = 1 << 40;

/// The flag of a pair's first key that says, beside [`LIVE`], that flags are needed only where the branch behind is taken.
pub(crate) const AT_EXIT: u64 = 1 << 43;

/// The bit of a key that says "in software": a second handler of what the host's FPU can do.
pub(crate) const SOFTWARE: u64 = 1 << 42;

fn hash(key: u64) -> u64 {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// The handler of a single instruction.
pub(crate) fn single(key: u64) -> Option<Handler> {
    let mask = generated::SINGLE_INDEX.len() - 1;
    let mut slot = hash(key) as usize & mask;
    loop {
        let at = generated::SINGLE_INDEX[slot];
        let (found, handler) = generated::SINGLES.get(usize::from(at))?;
        if *found == key {
            return Some(*handler);
        }
        slot = (slot + 1) & mask;
    }
}

/// The same, in software if that is asked for and there is one: either handler is right for both, and this one does not have to
/// ask first.
pub(crate) fn single_for(key: u64, software: bool) -> Option<Handler> {
    software.then(|| single(key | SOFTWARE)).flatten().or_else(|| single(key))
}

/// The handler of two instructions in a row.
pub(crate) fn pair(first: u64, second: u64) -> Option<Handler> {
    let mask = generated::PAIR_INDEX.len() - 1;
    let mut slot = hash(first ^ second.rotate_left(32)) as usize & mask;
    loop {
        let at = generated::PAIR_INDEX[slot];
        let (found, handler) = generated::PAIRS.get(usize::from(at))?;
        if *found == (first, second) {
            return Some(*handler);
        }
        slot = (slot + 1) & mask;
    }
}

/// The same, in software if that is asked for and there is one.
pub(crate) fn pair_for(first: u64, second: u64, software: bool) -> Option<Handler> {
    software.then(|| pair(first | SOFTWARE, second | SOFTWARE)).flatten().or_else(|| pair(first, second))
}

/// Whether any pair starts with this key's family.
pub(crate) fn starts_pair(key: u64) -> bool {
    generated::STARTS_PAIR[usize::from(key as u16)]
}

/// Whether a key's family is one of the x87, which has handlers that compute in software.
pub(crate) fn is_in_software(key: u64) -> bool {
    generated::IN_SOFTWARE[usize::from(key as u16)]
}

/// A key in the notation of `opcodes/hot.txt`.
pub(crate) fn describe(key: u64) -> String {
    let family = generated::FAMILIES.get(usize::from(key as u16).wrapping_sub(1)).copied().unwrap_or("?");
    let mut text = family.to_owned();
    if family.contains("cc_") || family.ends_with("cc") {
        text.push_str(&format!(" cc={}", key >> 44 & 15));
    }
    // A family's name has a part for each operand.
    for at in 0..operand_count(family) {
        let byte = (key >> OPERANDS[at & 3]) as u8;
        text.push_str(&match byte {
            0 => " -".to_owned(),
            spec::REGISTER => " r".to_owned(),
            spec::IMMEDIATE => " i".to_owned(),
            spec::MEMORY => " m".to_owned(),
            spec::SIB => " sib".to_owned(),
            spec::ABSOLUTE => " abs".to_owned(),
            spec::BASE => " b".to_owned(),
            spec::MM => " mm".to_owned(),
            spec::XMM => " xmm".to_owned(),
            spec::INDEXED => format!(" x{}", key >> 48 & 0xff),
            spec::SCALED..16 => format!(" s{}", byte - spec::SCALED),
            spec::FIXED_XMM.. => format!(" xmm{}", byte - spec::FIXED_XMM),
            spec::FIXED_BASE.. => format!(" b{}", byte - spec::FIXED_BASE),
            _ => format!(" r{}", byte - spec::FIXED),
        });
    }
    if key & LIVE != 0 {
        text.push_str(" live");
    }
    text
}

fn operand_count(family: &str) -> usize {
    let at = generated::FAMILIES.iter().position(|name| *name == family);
    at.map_or(0, |at| usize::from(generated::OPERANDS[at]))
}
