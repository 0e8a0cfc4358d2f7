//! The decoder beside another one, iced-x86: which bytes are an instruction, how long, which one, with which operands.
//!
//! Where the two do not agree, `differences.rs` says why.

mod assembler;
mod differences;
mod operands;
mod touches;

use differences::{Case, Differences};
use iced_x86::{Decoder, DecoderOptions, Instruction};
use table86::isa::decode;

/// Where the instructions stand.
const AT: u32 = 0x0012_3000;
/// Bytes that both decoders get: more than the longest instruction has.
const LEN: usize = 24;

/// A generator: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// Bytes that are as random as they can be.
    fn bytes(&mut self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// Compares the decoders on the instruction at the start of these bytes.
fn compare(bytes: &[u8; LEN], differences: &mut Differences) {
    let ours = decode(bytes, AT);
    let mut decoder = Decoder::with_ip(32, bytes, AT.into(), DecoderOptions::NONE);
    let mut theirs = Instruction::default();
    decoder.decode_out(&mut theirs);
    differences.compare(&Case { bytes, ours, theirs });
}

/// Prefixes before each opcode: none, and those that choose one of its instructions or sizes, alone and together.
const PREFIXES: [&[u8]; 16] = [
    &[],
    &[0x66],
    &[0xf2],
    &[0xf3],
    &[0x67],
    &[0xf0],
    &[0x66, 0x67],
    &[0x66, 0xf2],
    &[0xf3, 0x66],
    &[0x66, 0xf0],
    &[0xf2, 0xf0],
    &[0xf0, 0xf3],
    &[0x64],
    &[0x65, 0x67, 0xf3],
    &[0x2e, 0xf2],
    &[0x26, 0x3e, 0x66],
];
/// What leads to an opcode map.
const ESCAPES: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];

#[test]
fn each_opcode_with_each_modrm_byte_is_what_iced_says_or_differs_for_a_reason() {
    let mut random = Random(1);
    let mut differences = Differences::default();
    for prefixes in PREFIXES {
        for escape in ESCAPES {
            for opcode in 0..=0xffff_u16 {
                let mut bytes = random.bytes();
                let head = [prefixes, escape, &opcode.to_be_bytes()].concat();
                bytes[..head.len()].copy_from_slice(&head);
                compare(&bytes, &mut differences);
            }
        }
    }
    differences.report(true);
}

/// Random byte strings, unless `DECODES` says how many.
const RANDOM: u64 = if cfg!(debug_assertions) { 1_000_000 } else { 10_000_000 };

#[test]
fn random_bytes_are_what_iced_says_or_differ_for_a_reason() {
    let count = std::env::var("DECODES").map_or(RANDOM, |text| text.parse().expect("a number"));
    let seed = std::env::var("SEED").map_or(86, |text| text.parse().expect("a number"));
    let mut random = Random(seed);
    let mut differences = Differences::default();
    for _ in 0..count {
        let mut bytes = random.bytes();
        // Prefixes are rare among random bytes, and several of them rarer, so that few reach the longest length.
        let many = random.next();
        let prefixes = if many & 7 == 0 { many as usize >> 3 & 15 } else { many as usize >> 3 & 1 };
        for byte in &mut bytes[..prefixes] {
            *byte = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x66, 0x67, 0xf0, 0xf2, 0xf3]
                [usize::from(*byte) % 12];
        }
        if many >> 60 & 3 == 0 {
            bytes[prefixes] = 0x0f;
        }
        compare(&bytes, &mut differences);
    }
    differences.report(false);
}
