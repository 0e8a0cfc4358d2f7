//! The list is read whole, and bytes are found in it.

use super::{LIST, all, decode};

#[test]
fn each_line_is_understood() {
    let lines: Vec<&str> = LIST.lines().filter(|line| !line.starts_with('#')).collect();
    let understood: Vec<&str> = all().iter().map(|form| form.op).collect();
    for line in &lines {
        let op = line.split('\t').next().expect("a column");
        assert!(understood.contains(&op), "{line}");
    }
    assert_eq!(lines.len(), understood.len());
}

/// `bytes => mnemonic`; the length is that of the bytes.
const CASES: &str = "
c5 f9 fe c1          => VPADDD
c4 e2 7d 00 44 24 10 => VPSHUFB
c5 f8 77             => VZEROUPPER
c5 fd 6f 05 10 20 00 00 => VMOVDQA
c4 e3 7d 39 c1 01    => VEXTRACTI128
8f e8 78 c2 c1 07    => VPROTD
62 f1 7d 48 fe c1    => VPADDD
62 f1 7c 18 58 c1    => VADDPS
66 0f 38 00 c1       => PSHUFB
0f 0f c1 9e          => PFADD
c4 e2 70 f2 c2       => ANDN
0f c7 f0             => RDRAND
f3 0f bc c1          => TZCNT
66 67 a1 34 12       => MOV
";

#[test]
fn bytes_are_found_whether_a_row_declares_them_or_not() {
    for line in CASES.lines().filter(|line| !line.is_empty()) {
        let (bytes, mnemonic) = line.split_once("=>").expect("a case");
        let bytes: Vec<u8> =
            bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
        let (form, len) = decode(&bytes).unwrap_or_else(|| panic!("{line}: nothing found"));
        assert_eq!((form.mnemonic, len), (mnemonic.trim(), bytes.len()), "{line}");
    }
}
