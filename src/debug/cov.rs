//! Coverage of guest code, from the places of a counted run ([`Detail::Places`](super::count::Detail)): as drcov, which tools that show covered basic
//! blocks read, and as lcov, by the lines of DWARF.

use super::count::{Places, Totals};
use crate::isa::decode::MAX_LEN;
use crate::isa::{Flow, decode};
use addr2line::Loader;
use goblin::elf::Elf;
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A basic block that was executed, by addresses as its file has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Address of the first instruction.
    pub vaddr: u64,
    /// Bytes.
    pub len: u16,
}

/// What of a file was executed.
#[derive(Debug)]
pub struct Covered {
    /// The file.
    pub path: PathBuf,
    /// Where it is loaded if nothing is in the way: the first address.
    pub base: u64,
    /// The address behind the last.
    pub end: u64,
    /// Where it starts.
    pub entry: u64,
    /// In order of addresses, not overlapping.
    pub blocks: Vec<Block>,
    /// How often each instruction was executed, by address.
    pub counts: BTreeMap<u64, u64>,
}

/// What of each ELF file a run has executed. Files that cannot be read any more are left out, with the reasons.
pub fn covered(totals: &Totals) -> (Vec<Covered>, Vec<String>) {
    let mut found = Vec::new();
    let mut lost = Vec::new();
    for (path, places) in &totals.files {
        match of_file(path, places) {
            Ok(covered) => found.push(covered),
            Err(why) => lost.push(format!("{}: {why}", path.display())),
        }
    }
    (found, lost)
}

fn of_file(path: &Path, places: &Places) -> Result<Covered, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let elf = Elf::parse(&bytes).map_err(|error| error.to_string())?;
    let loaded: Vec<&ProgramHeader> =
        elf.program_headers.iter().filter(|header| header.p_type == PT_LOAD).collect();
    let base = loaded.iter().map(|header| header.p_vaddr & !0xfff).min().ok_or("nothing of it is loaded")?;
    let end = loaded.iter().map(|header| header.p_vaddr + header.p_memsz).max().unwrap_or(base);
    // A segment's pages show what is in the file around it, too.
    let to_vaddr = |offset: u64| {
        let header = loaded
            .iter()
            .find(|header| (header.p_offset & !0xfff..header.p_offset + header.p_filesz).contains(&offset))?;
        Some((offset + header.p_vaddr).wrapping_sub(header.p_offset))
    };
    let mut blocks: Vec<Block> = Vec::new();
    let mut counts = BTreeMap::new();
    // Where the next instruction of the block would be, and how often the last one was executed.
    let mut open: Option<(u64, u64)> = None;
    for (&offset, &(len, count)) in places {
        let Some(vaddr) = to_vaddr(offset) else { continue };
        counts.insert(vaddr, count);
        match (open, blocks.last_mut()) {
            (Some((next, times)), Some(block))
                if next == vaddr && times == count && block.len < u16::MAX - MAX_LEN as u16 =>
            {
                block.len += u16::from(len);
            }
            _ => blocks.push(Block { vaddr, len: len.into() }),
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let ends = decode(&bytes[at..], 0).is_ok_and(|insn| insn.form().flow != Flow::Next);
        open = (!ends).then_some((vaddr + u64::from(len), count));
    }
    Ok(Covered { path: path.to_owned(), base, end, entry: elf.entry, blocks, counts })
}

/// Writes drcov, version 2.
///
/// # Errors
/// The writer's.
pub fn write_drcov(out: &mut impl Write, files: &[Covered]) -> io::Result<()> {
    writeln!(out, "DRCOV VERSION: 2\nDRCOV FLAVOR: drcov")?;
    writeln!(out, "Module Table: version 2, count {}", files.len())?;
    writeln!(out, "Columns: id, base, end, entry, checksum, timestamp, path")?;
    for (id, Covered { path, base, end, entry, .. }) in files.iter().enumerate() {
        let path = path.display();
        writeln!(out, "{id:3}, {base:#010x}, {end:#010x}, {entry:#018x}, 0x00000000, 0x00000000, {path}")?;
    }
    let blocks: usize = files.iter().map(|file| file.blocks.len()).sum();
    writeln!(out, "BB Table: {blocks} bbs")?;
    for (id, file) in files.iter().enumerate() {
        for block in &file.blocks {
            out.write_all(&((block.vaddr - file.base) as u32).to_le_bytes())?;
            out.write_all(&block.len.to_le_bytes())?;
            out.write_all(&(id as u16).to_le_bytes())?;
        }
    }
    Ok(())
}

/// Lines of a source file, and how often each was executed.
type Lines = BTreeMap<u32, u64>;

/// The text of an lcov tracefile. A line was executed as often as that of its instructions that was executed most. Files without
/// lines are left out and named in `without`.
pub fn lcov(files: &[Covered], without: &mut Vec<String>) -> String {
    let mut sources = BTreeMap::<String, Lines>::new();
    for file in files {
        match Loader::new(&file.path) {
            Ok(loader) => {
                let before = sources.len();
                add_lines(&loader, file, &mut sources);
                if sources.len() == before {
                    without.push(format!("{}: no line numbers (DWARF)", file.path.display()));
                }
            }
            Err(error) => without.push(format!("{}: {error}", file.path.display())),
        }
    }
    let mut text = String::new();
    for (source, lines) in sources {
        let _ = writeln!(text, "TN:\nSF:{source}");
        for (line, count) in &lines {
            let _ = writeln!(text, "DA:{line},{count}");
        }
        let hit = lines.values().filter(|count| **count > 0).count();
        let _ = writeln!(text, "LF:{}\nLH:{hit}\nend_of_record", lines.len());
    }
    text
}

fn add_lines(loader: &Loader, file: &Covered, sources: &mut BTreeMap<String, Lines>) {
    // What is executable in the file is in its address space; a broken line table ends the list.
    let Ok(ranges) = loader.find_location_range(file.base, file.end) else { return };
    for (start, len, location) in ranges {
        let (Some(source), Some(line)) = (location.file, location.line.filter(|line| *line > 0)) else {
            continue;
        };
        let most = file.counts.range(start..start + len).map(|(_, count)| *count).max().unwrap_or(0);
        let entry = sources.entry(source.to_owned()).or_default().entry(line).or_default();
        *entry = (*entry).max(most);
    }
}
