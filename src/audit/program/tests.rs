//! Small programs, and what is found in them.

use super::{Findings, How, examine};
use crate::isa::FORMS;
use crate::loader::code::{Code, Image, Origin};

const AT: u32 = 0x1000;

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect()
}

fn flat(text: &str) -> Findings {
    let bytes = hex(text);
    examine(&Image::flat(vec![Code { name: String::new(), addr: AT, bytes, symbols: Vec::new() }]))
}

/// How often a mnemonic was found a certain way.
fn count(findings: &Findings, mnemonic: &str, how: How) -> u64 {
    let forms = findings.forms.iter().filter(|(index, _)| FORMS[usize::from(**index)].mnemonic == mnemonic);
    forms.map(|(_, tally)| tally.by_how[how as usize]).sum()
}

#[test]
fn branches_are_followed_and_what_they_skip_is_swept() {
    // jmp over a ret; the target increments and returns.
    let findings = flat("eb 01 c3 40 c3");
    assert_eq!(count(&findings, "jmp", How::Entry), 1);
    assert_eq!(count(&findings, "inc", How::Branch), 1);
    assert_eq!(count(&findings, "ret", How::Branch), 1);
    assert_eq!(count(&findings, "ret", How::Sweep), 1);
}

#[test]
fn data_behind_a_return_is_doubtful() {
    // Behind the return: an addition, then bytes that no processor executes.
    let findings = flat("c3 01 c0 0f ff");
    assert_eq!(count(&findings, "ret", How::Entry), 1);
    assert_eq!(count(&findings, "add", How::Doubtful), 1);
}

#[test]
fn tables_of_addresses_are_followed_as_far_as_the_comparison_lets() {
    // cmp eax, 1; ja +7; jmp [eax*4+0x2000]; both targets; a third entry belongs to something else.
    let code = "83 f8 01 77 09 ff 24 85 00 20 00 00 40 c3 c3 48 c3";
    let image = Image {
        parts: vec![Code { name: String::new(), addr: AT, bytes: hex(code), symbols: Vec::new() }],
        entries: vec![(AT, Origin::Symbol)],
        loaded: vec![(AT, hex(code)), (0x2000, hex("0c 10 00 00 0f 10 00 00 0d 10 00 00"))],
        ..Image::default()
    };
    let findings = examine(&image);
    assert_eq!(count(&findings, "inc", How::Table), 1);
    assert_eq!(count(&findings, "dec", How::Table), 1);
}

#[test]
fn numbers_of_system_calls_are_seen() {
    // mov eax, 4; mov ebx, 1; int 0x80; push 1; pop eax; int 0x80; int 0x80 with what that gave; xor eax, eax; mov al, 6;
    // call gs:[0x10]; ret
    let findings =
        flat("b8 04 00 00 00 bb 01 00 00 00 cd 80 6a 01 58 cd 80 cd 80 31 c0 b0 06 65 ff 15 10 00 00 00 c3");
    let numbers: Vec<u32> = findings.calls.by_number.keys().copied().collect();
    assert_eq!(numbers, [1, 4, 6]);
    assert_eq!(findings.calls.unseen.count(), 1);
}

#[test]
fn undeclared_instructions_have_names() {
    // pfadd mm0, mm1: of processors that nobody offers.
    let findings = flat("0f 0f c1 9e c3");
    assert_eq!(findings.undeclared.keys().copied().collect::<Vec<_>>(), ["PFADD"]);
    assert_eq!(count(&findings, "ret", How::Entry), 1);
}

#[test]
fn random_bytes_are_walked_to_their_end() {
    let mut state = 1_u32;
    let mut bytes = Vec::new();
    for _ in 0..200_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.push((state >> 24) as u8);
    }
    let len = bytes.len() as u64;
    let code = Code { name: String::new(), addr: u32::MAX - 100_000, bytes, symbols: Vec::new() };
    let findings = examine(&Image::flat(vec![code]));
    let seen: u64 = findings.bytes_by_how.iter().sum();
    assert_eq!(seen + findings.padding + findings.unknown.count(), len);
}
