//! Looking for code in files that are broken, or made to break who looks: whatever is in them, it ends, without a panic.

use std::path::PathBuf;
use table86::audit::program::{How, examine};
use table86::isa::FORMS;
use table86::loader::code;

/// Where the file is loaded.
const BASE: u32 = 0x1_0000;
/// Offsets of what is in the file.
const TEXT: usize = 0x100;
const SYMBOLS: usize = 0x200;
const STRINGS: usize = 0x240;
const RELOCATIONS: usize = 0x260;
const DYNAMIC: usize = 0x280;
const UNWIND: usize = 0x2c0;
const SLOTS: usize = 0x300;
const NAMES: usize = 0x340;
const SECTIONS: usize = 0x400;

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0.resize(self.0.len().max(at + bytes.len()), 0);
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn words(&mut self, at: usize, words: &[u32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(at, &bytes);
    }

    /// A section header: its place in the table, name, kind, flags, offset, size, link.
    fn section(&mut self, index: usize, [name, kind, flags, offset, size, link]: [u32; 6]) {
        self.words(SECTIONS + index * 40, &[name, kind, flags, BASE + offset, offset, size, link, 0, 4, 0]);
    }
}

/// A program with everything that an audit reads: a symbol, a relocated pointer, a slot of an imported function with its stub, an
/// unwinding table, a jump table.
fn program() -> Vec<u8> {
    let mut image = Image(Vec::new());
    image.put(0, b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0");
    image.words(20, &[1, BASE + TEXT as u32, 52, SECTIONS as u32, 0]);
    image.put(40, &[52, 0, 32, 0, 1, 0, 40, 0, 9, 0, 8, 0]);
    image.words(52, &[1, 0, BASE, BASE, 0x540, 0x540, 7, 0x1000]);
    let table = (BASE + SLOTS as u32 + 0x10).to_le_bytes();
    let slot = (BASE + SLOTS as u32).to_le_bytes();
    // cmp eax, 1; ja +7; jmp [eax*4+table]; then functions: by table, by symbol, by pointer, by unwinding; a stub.
    image.put(TEXT, &[&[0x83, 0xf8, 0x01, 0x77, 0x07, 0xff, 0x24, 0x85][..], &table, &[0x40, 0xc3]].concat());
    image.put(TEXT + 0x20, &[0x41, 0xc3]);
    image.put(TEXT + 0x30, &[0x42, 0xc3]);
    image.put(TEXT + 0x40, &[0x43, 0xb8, 1, 0, 0, 0, 0xcd, 0x80, 0xc3]);
    image.put(TEXT + 0x50, &[0x44, 0xc3]);
    image.put(TEXT + 0x60, &[&[0xff, 0x25][..], &slot].concat());
    let text = BASE + TEXT as u32;
    image.words(SYMBOLS, &[0, 0, 0, 0, 1, text + 0x20, 2, 0x0001_0012, 6, 0, 0, 0x12]);
    image.put(STRINGS, b"\0main\0puts\0");
    image.words(RELOCATIONS, &[BASE + SLOTS as u32 + 8, 8, BASE + SLOTS as u32, 2 << 8 | 7]);
    image.words(
        DYNAMIC,
        &[12, text + 0x50, 3, BASE + SLOTS as u32, 25, BASE + SLOTS as u32 + 12, 27, 4, 0, 0],
    );
    image.put(UNWIND, &[1, 0x1b, 0x03, 0x3b]);
    image.words(UNWIND + 4, &[0, 1, (text + 0x40).wrapping_sub(BASE + UNWIND as u32), 0]);
    image.words(SLOTS, &[0, 0, text + 0x30, text + 0x50, text + 0x0c, text + 0x0d, 0]);
    image.put(NAMES, b"\0.text\0.plt\0.eh_frame_hdr\0");
    image.section(1, [1, 1, 6, TEXT as u32, 0x60, 0]);
    image.section(2, [7, 1, 6, TEXT as u32 + 0x60, 0x10, 0]);
    image.section(3, [0, 2, 0, SYMBOLS as u32, 48, 6]);
    image.section(4, [0, 9, 0, RELOCATIONS as u32, 16, 3]);
    image.section(5, [0, 6, 0, DYNAMIC as u32, 40, 6]);
    image.section(6, [0, 3, 0, STRINGS as u32, 16, 0]);
    image.section(7, [12, 1, 0, UNWIND as u32, 20, 0]);
    image.section(8, [0, 3, 0, NAMES as u32, 0x20, 0]);
    image.0.resize(SECTIONS + 9 * 40, 0);
    image.0
}

/// A file of this test's own.
fn file(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("table86-audit-{}-{name}", std::process::id()))
}

#[test]
fn everything_that_leads_to_code_is_followed() {
    let path = file("whole");
    std::fs::write(&path, program()).expect("a file");
    let image = code::image(&path, None, 0).expect("it is sound");
    let _ = std::fs::remove_file(&path);
    let findings = examine(&image);
    let incs: Vec<_> =
        findings.forms.iter().filter(|(index, _)| FORMS[usize::from(**index)].mnemonic == "inc").collect();
    for how in [How::Entry, How::Symbol, How::Unwind, How::Pointer, How::Table] {
        let count: u64 = incs.iter().map(|(_, tally)| tally.by_how[how as usize]).sum();
        assert_eq!(count, 1, "{how:?}: {incs:?}");
    }
    assert_eq!(image.stubs(), [(BASE + TEXT as u32 + 0x60, "puts@plt".to_owned())]);
    assert_eq!(findings.calls.by_number.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(image.imports.values().map(String::as_str).collect::<Vec<_>>(), ["puts"]);
}

#[test]
fn broken_files_are_read_as_far_as_they_go() {
    let path = file("broken");
    let whole = program();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let mut sound = 0;
    for _ in 0..1_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(6) {
            // Headers and tables more often than code.
            let at =
                if random(2) == 0 { random(bytes.len()) } else { SECTIONS + random(bytes.len() - SECTIONS) };
            bytes[at] = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
        }
        if random(8) == 0 {
            bytes.truncate(random(bytes.len()));
        }
        std::fs::write(&path, &bytes).expect("a file");
        if let Ok(image) = code::image(&path, None, 0) {
            let findings = examine(&image);
            let counted: u64 = findings.bytes_by_how.iter().sum();
            assert_eq!(counted + findings.padding + findings.unknown.count(), findings.bytes);
            let _ = image.stubs();
            sound += 1;
        }
    }
    let _ = std::fs::remove_file(&path);
    assert!(sound > 300, "{sound} were read at all");
}
