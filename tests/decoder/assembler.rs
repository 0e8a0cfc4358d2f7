//! The disassembler's text, given to an assembler: what it makes of it has to read the same.

use crate::{AT, ESCAPES, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use table86::disasm::text;
use table86::isa::{Code, decode};

/// Bytes for each instruction in the assembler's output: more than the longest has.
const SLOT: usize = 16;

/// Whether a text is meant.
type Sign = fn(&str) -> bool;

/// What nasm refuses or reads otherwise: mnemonic, a sign of it in the text, and why.
const EXCEPTIONS: &[(&str, Sign, &str)] = &[
    ("reservednop", |_| true, "a hole in the map, for which nasm has other names"),
    ("fstpnce", |_| true, "undocumented, nasm has no name for it"),
    ("fwait", |text| text != "fwait", "nasm writes FWAIT before its prefixes"),
    ("bswap", |_| true, "nasm has none of 16 bits, whose result is undefined"),
    ("movsx", is_of_words, "nasm has none that extends nothing"),
    ("movzx", is_of_words, "nasm has none that extends nothing"),
    ("xchg", |text| text.ends_with("xchg eax, eax"), "nasm takes the short form, which is NOP"),
];

/// Whether a word is extended to a word.
fn is_of_words(text: &str) -> bool {
    let word = |register: &str| register.len() == 2 && !register.ends_with(['l', 'h']);
    let operands =
        text.rsplit_once("movsx ").or(text.rsplit_once("movzx ")).map_or("", |(_, operands)| operands);
    operands.split_once(", ").is_some_and(|(to, from)| word(to) && (word(from) || from.starts_with("word")))
}

/// The texts of instructions: each opcode with a part of the ModRM bytes, with prefixes that matter.
fn texts() -> BTreeSet<String> {
    let mut random = Random(3);
    let mut texts = BTreeSet::new();
    for (prefixes, one_in) in [
        (&[][..], 8),
        (&[0x66][..], 16),
        (&[0xf3][..], 16),
        (&[0xf2][..], 16),
        (&[0x67][..], 32),
        (&[0xf0][..], 16),
        (&[0x65][..], 32),
        (&[0x66, 0x67][..], 64),
    ] {
        for escape in ESCAPES {
            for opcode in 0..=0xffff_u16 {
                if !random.next().is_multiple_of(one_in) {
                    continue;
                }
                let mut bytes = random.bytes();
                let head = [prefixes, escape, &opcode.to_be_bytes()].concat();
                bytes[..head.len()].copy_from_slice(&head);
                let Ok(insn) = decode(&bytes, AT) else { continue };
                // The text of a branch does not tell that it cuts EIP to 16 bits.
                let branch = insn.form().operands.iter().any(|operand| operand.code == Code::J);
                if !(branch && insn.opsize16) {
                    texts.insert(text(&insn));
                }
            }
        }
    }
    texts
}

/// Prefixes at the beginning of the text, and the rest.
fn prefixes(text: &str) -> (&str, &str) {
    let mut rest = text;
    while let Some((word, behind)) = rest.split_once(' ')
        && matches!(word, "lock" | "rep" | "repe" | "repne" | "addr16")
    {
        rest = behind;
    }
    text.split_at(text.len() - rest.len())
}

/// The same in nasm's words. Without `sizes`, operands in memory have none.
fn translated(text: &str, sizes: bool) -> String {
    let (prefixes, rest) = prefixes(text);
    let (mnemonic, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    let prefixes = prefixes.replace("addr16", "a16");
    // With a branch nasm knows F2 by another name.
    let counts = mnemonic.ends_with("cxz") || mnemonic.starts_with("loop");
    let near =
        matches!(mnemonic, "call" | "jmp" | "ret") && far(operands).is_none() && !operands.contains(":0x");
    let bound = near || is_branch(text) && !counts;
    let prefixes = if bound { prefixes.replace("repne", "bnd") } else { prefixes };
    // String instructions have their segment and address size as prefixes; ES:EDI is shown if there is any segment.
    if is_string(mnemonic, operands) && operands.contains('[') {
        let wide = operands.contains("[e");
        let segment =
            operands.split(' ').find_map(|word| word.split_once(":[").filter(|(_, at)| at.contains("si")));
        let segment = segment.map_or("gs", |(segment, _)| segment);
        return format!("{prefixes}{}{segment} {mnemonic}", if wide { "" } else { "a16 " });
    }
    let mnemonic = match mnemonic {
        // By default nasm's are those of the current size.
        "popa" | "pusha" | "popf" | "pushf" | "iret" if operands.is_empty() => format!("{mnemonic}w"),
        mnemonic => mnemonic.to_owned(),
    };
    if let Some((size, place)) = far(operands).filter(|_| matches!(mnemonic.as_str(), "call" | "jmp")) {
        return format!("{prefixes}{mnemonic} {size} far {}", operand_in_nasm(place, false));
    }
    let words: Vec<String> = operands.split(", ").map(|operand| operand_in_nasm(operand, sizes)).collect();
    format!("{prefixes}{mnemonic} {}", words.join(", "))
}

/// The operand of an indirect far branch, and the size of its offset.
fn far(operands: &str) -> Option<(&str, &str)> {
    let short = operands.strip_prefix("far ").map(|operand| ("word", operand));
    short.or(operands.starts_with("fword").then_some(("dword", operands)))
}

fn is_string(mnemonic: &str, operands: &str) -> bool {
    let names = ["movs", "cmps", "scas", "lods", "stos", "ins", "outs"];
    let plain = !operands.contains("xmm") && !operands.contains('+');
    plain
        && names
            .iter()
            .any(|name| mnemonic.strip_prefix(name).is_some_and(|size| ["b", "w", "d"].contains(&size)))
}

fn operand_in_nasm(operand: &str, sizes: bool) -> String {
    if operand == "st" {
        return "st0".to_owned();
    }
    let mut text = operand.replace("st(", "st").replace(')', "");
    if let Some((size, place)) = operand.split_once(" ptr ") {
        let size = match size {
            "xmmword" => "oword",
            "tbyte" => "tword",
            size => size,
        };
        text = if sizes { format!("{size} {place}") } else { place.to_owned() };
    }
    // An index alone stays an index.
    let place = text.rsplit('[').next().unwrap_or("");
    if text.contains('[') && place.get(3..4) == Some("*") {
        text = text.replace('[', "[nosplit ");
    }
    // Inside of the brackets nasm wants the segment.
    if let Some((before, behind)) = text.split_once(":[") {
        let (size, segment) = before.rsplit_once(' ').map_or(("", before), |(size, segment)| (size, segment));
        text = format!("{size} [{segment}:{behind}");
    }
    text
}

/// The text, with operands that may change places in order.
fn comparable(text: &str) -> String {
    let (prefixes, rest) = prefixes(text);
    let (mnemonic, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut operands: Vec<&str> = operands.split(", ").collect();
    match mnemonic {
        "xchg" | "test" => operands.sort_unstable(),
        _ if operands.contains(&"st") && operands.contains(&"st(0)") => operands.sort_unstable(),
        // nasm has one form for both.
        "rol" | "ror" | "rcl" | "rcr" | "shl" | "shr" | "sar" if operands.last() == Some(&"0x1") => {
            operands.pop();
            operands.push("1");
        }
        _ => {}
    }
    format!("{prefixes}{mnemonic} {}", operands.join(", "))
}

/// A directory that is removed in the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Assembles lines, each in its slot; the image, or the lines that nasm refuses, with what it says.
fn assemble(directory: &Path, lines: &[(&str, bool)]) -> Result<Vec<u8>, BTreeMap<usize, String>> {
    let mut source = format!("bits 32\norg {AT:#x}\n");
    for (line, sizes) in lines {
        let mut words = translated(line, *sizes);
        // A direct branch: as far as from the place where it was decoded.
        if let Some((before, target)) = words.rsplit_once(" 0x")
            && is_branch(line)
            && let Ok(target) = u32::from_str_radix(target, 16)
        {
            words = format!("{before} $+({})", target.wrapping_sub(AT) as i32);
        }
        source += &format!("align {SLOT}, db 0x90\n{words}\n");
    }
    fs::write(directory.join("source.asm"), source).expect("a scratch file");
    let status = Command::new("nasm")
        .current_dir(directory)
        .args(["-O0", "-f", "bin", "-w-all", "-o", "image", "-Z", "errors", "source.asm"])
        .status()
        .expect("nasm was there before");
    if status.success() {
        return Ok(fs::read(directory.join("image")).expect("nasm wrote it"));
    }
    let errors = fs::read_to_string(directory.join("errors")).expect("nasm wrote it");
    let refused = errors.lines().filter_map(|error| {
        let (line, message) = error.strip_prefix("source.asm:")?.split_once(": error: ")?;
        // Two lines at the top, two for each instruction.
        Some(((line.parse::<usize>().ok()? - 4) / 2, message.trim().to_owned()))
    });
    Err(refused.collect())
}

fn is_branch(text: &str) -> bool {
    let (_, rest) = prefixes(text);
    let mnemonic = rest.split(' ').next().unwrap_or("");
    (mnemonic.starts_with('j') || mnemonic.starts_with("loop") || mnemonic == "call")
        && !rest.contains(':')
        && !rest.contains('[')
}

#[test]
fn an_assembler_makes_of_the_text_what_reads_the_same() {
    if Command::new("nasm").arg("-v").output().is_err() {
        println!("\nNOT CHECKED: whether the disassembler's text can be assembled; nasm is not installed");
        return;
    }
    let scratch = Scratch(std::env::temp_dir().join(format!("table86-assembler-{}", std::process::id())));
    fs::create_dir_all(&scratch.0).expect("a scratch directory");
    let texts = texts();
    let all = texts.len();
    let mut lines: Vec<(&str, bool)> = texts.iter().map(|text| (text.as_str(), true)).collect();
    let mut refused = BTreeMap::new();
    let image = loop {
        match assemble(&scratch.0, &lines) {
            Ok(image) => break image,
            Err(errors) => {
                assert!(!errors.is_empty(), "nasm says nothing");
                let mut kept = Vec::new();
                for (at, (line, sizes)) in lines.into_iter().enumerate() {
                    match errors.get(&at) {
                        None => kept.push((line, sizes)),
                        // Where an instruction needs no size, nasm may want none.
                        Some(_) if sizes => kept.push((line, false)),
                        Some(error) => {
                            refused.insert(line.to_owned(), error.clone());
                        }
                    }
                }
                lines = kept;
            }
        }
    };
    let mut wrong: Vec<String> = refused.iter().map(|(line, error)| format!("{line}: {error}")).collect();
    for (slot, (line, _)) in lines.iter().enumerate() {
        let bytes = image.get(slot * SLOT..).unwrap_or_default();
        let again = decode(bytes, AT).map(|insn| text(&insn));
        if again.as_deref().map(comparable) != Ok(comparable(line)) {
            wrong.push(format!("{line}: becomes {again:?}, {:02x?}", &bytes[..bytes.len().min(SLOT)]));
        }
    }
    let mut excepted = [0; EXCEPTIONS.len()];
    wrong.retain(|text| {
        let line = text.split_once(": ").map_or("", |(line, _)| line);
        let mnemonic = prefixes(line).1.split(' ').next().unwrap_or("");
        let entry = EXCEPTIONS.iter().position(|(name, applies, _)| *name == mnemonic && applies(line));
        entry.map(|at| excepted[at] += 1).is_none()
    });
    println!("{all} texts");
    for ((mnemonic, _, why), count) in EXCEPTIONS.iter().zip(excepted) {
        println!("{count:>7}  {mnemonic}: {why}");
        assert!(count > 0, "{mnemonic} is no exception");
    }
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
