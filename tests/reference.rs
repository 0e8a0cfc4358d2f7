//! `opcodes/REFERENCE.tsv`: what there is beside what the tables have. Made from another decoder's list, iced-x86's, so that the
//! audit needs none to run.

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};
use std::fmt::Write as _;
use std::path::Path;

const HEAD: &str = "\
# Every instruction form of 32-bit mode that iced-x86 knows without options: what the tables are audited against. Made by a
# test: TABLE86_BLESS=1 cargo test --test reference. Columns: encoding, instruction, CPUID features.
";

/// The list as it has to be.
fn made() -> String {
    let mut text = HEAD.to_owned();
    for code in Code::values() {
        let facts = code.op_code();
        let features: Vec<String> =
            code.cpuid_features().iter().map(|feature| format!("{feature:?}")).collect();
        // Of single steppings of old processors, and what is two instructions, the first of them FWAIT.
        let is_odd =
            facts.fwait() || features.iter().any(|name| name.ends_with("_ONLY") || name.starts_with("CYRIX"));
        let is_plain =
            facts.is_instruction() && facts.mode32() && facts.decoder_option() == DecoderOptions::NONE;
        if !is_plain || is_odd {
            continue;
        }
        let _ = writeln!(
            text,
            "{}\t{}\t{}",
            facts.op_code_string(),
            facts.instruction_string(),
            features.join(" ")
        );
    }
    text
}

#[test]
fn list_is_what_the_other_decoder_knows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("opcodes/REFERENCE.tsv");
    let made = made();
    if std::env::var_os("TABLE86_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the list can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "opcodes/REFERENCE.tsv is not up to date: TABLE86_BLESS=1 cargo test --test reference"
    );
}

/// A generator: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// What leads to opcodes that no row declares.
const HEADS: [&[u8]; 9] = [
    &[0xc5],
    &[0xc4, 0xe1],
    &[0xc4, 0xe2],
    &[0xc4, 0xe3],
    &[0x8f, 0xe8],
    &[0x8f, 0xe9],
    &[0x62, 0xf1],
    &[0x62, 0xf2],
    &[0x0f],
];

#[test]
fn undeclared_bytes_are_found_as_the_other_decoder_finds_them() {
    let mut state = 86;
    let (mut compared, mut valid) = (0, 0);
    let mut differences = Vec::new();
    for _ in 0..400_000 {
        let mut bytes = [0; 24];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&random(&mut state).to_le_bytes());
        }
        let head = HEADS[random(&mut state) as usize % HEADS.len()];
        bytes[..head.len()].copy_from_slice(head);
        if table86::isa::decode(&bytes, 0).is_ok() {
            continue;
        }
        compared += 1;
        let mut decoder = Decoder::new(32, &bytes, DecoderOptions::NONE);
        let theirs = decoder.decode();
        let ours = table86::audit::reference::decode(&bytes);
        if theirs.is_invalid() || theirs.mnemonic() == Mnemonic::Xstore {
            // XSTORE: the other decoder takes any r/m field. Else: more than an instruction's beginning makes bytes invalid: reserved fields, registers that may not be equal. Such
            // are no instructions of a program, and nobody is told wrong about one.
            continue;
        }
        valid += 1;
        let wanted = (format!("{:?}", theirs.mnemonic()).to_uppercase(), theirs.len());
        let found = ours.map(|(form, len)| (form.mnemonic.to_uppercase(), len));
        if found.as_ref() != Some(&wanted) {
            differences.push(format!("{:02x?}: {found:?} instead of {wanted:?}", &bytes[..12]));
        }
    }
    assert!(valid > 10_000, "{valid} of {compared} were instructions");
    assert!(
        differences.is_empty(),
        "{} of {valid}:\n{}",
        differences.len(),
        differences[..differences.len().min(20)].join("\n")
    );
}
