//! The code in a file, for those who look at it without running it.

use super::detect::Format;
use super::elf::Elf;
use super::{LoadError, Program, flat, hex};
use crate::memory::Prot;
use goblin::elf::section_header::{SHF_EXECINSTR, SHT_PROGBITS, section_header32::SIZEOF_SHDR};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// The section's name, or what stands for it; may be empty.
    pub name: String,
    /// Address of the first byte, before relocation.
    pub addr: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Reads the code in a file: of an ELF program its executable sections or, without them, executable segments; of flat images
/// and hex listings everything, at `org`.
///
/// # Errors
/// As [`super::load`].
pub fn read(path: &Path, format: Option<Format>, org: u32) -> Result<Vec<Code>, LoadError> {
    let program = Program::open(path, Vec::new(), Vec::new())?;
    let options = super::Options { format, ..super::Options::default() };
    let bytes = match program.format(&options)? {
        Format::Elf => return elf_code(&program.file),
        Format::Hex => hex::parse(&program.read_all(hex::MAX_TEXT)?)?,
        Format::Flat => program.read_all(flat::MAX_IMAGE)?,
        Format::Script => return Err(LoadError::Foreign("script")),
    };
    Ok(vec![Code { name: String::new(), addr: org, bytes }])
}

fn elf_code(file: &File) -> Result<Vec<Code>, LoadError> {
    let elf = Elf::read(file)?;
    if let Some(sections) = executable_sections(file).filter(|sections| !sections.is_empty()) {
        return Ok(sections);
    }
    let segments = elf.segments.iter().filter(|segment| segment.prot.contains(Prot::EXEC));
    segments
        .map(|segment| {
            // The headers are no code; what is meant to be both can be had by `--as flat`.
            let skipped = if segment.offset == 0 { elf.headers_end().min(segment.file_len) } else { 0 };
            let mut bytes = vec![0; (segment.file_len - skipped) as usize];
            let offset = segment.offset + skipped;
            file.read_exact_at(&mut bytes, offset.into()).map_err(LoadError::Unreadable)?;
            Ok(Code { name: "executable segment".to_owned(), addr: segment.addr + skipped, bytes })
        })
        .collect()
}

/// A section header's fields that matter here.
struct Section {
    name: u32,
    kind: u32,
    flags: u32,
    addr: u32,
    offset: u32,
    size: u32,
}

/// The sections with code; `None` if the section headers are missing or broken, as nothing needs them to run.
fn executable_sections(file: &File) -> Option<Vec<Code>> {
    let file_len = file.metadata().ok()?.len();
    let read = |offset: u32, len: u32| {
        let in_file = u64::from(offset) + u64::from(len) <= file_len;
        let mut bytes = in_file.then(|| vec![0; len as usize])?;
        file.read_exact_at(&mut bytes, offset.into()).ok().map(|()| bytes)
    };
    let header = read(0, 52)?;
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let word = |bytes: &[u8], at: usize| {
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let (table_at, entry_len, count, names) = (word(&header, 32), half(46), half(48), half(50));
    if usize::from(entry_len) != SIZEOF_SHDR {
        return None;
    }
    let table = read(table_at, u32::from(count) * SIZEOF_SHDR as u32)?;
    let sections: Vec<Section> = table
        .chunks_exact(SIZEOF_SHDR)
        .map(|bytes| Section {
            name: word(bytes, 0),
            kind: word(bytes, 4),
            flags: word(bytes, 8),
            addr: word(bytes, 12),
            offset: word(bytes, 16),
            size: word(bytes, 20),
        })
        .collect();
    let names = sections.get(usize::from(names)).and_then(|section| read(section.offset, section.size));
    let name = |at: u32| {
        let text = names.as_ref()?.get(at as usize..)?.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let is_code = |section: &&Section| section.kind == SHT_PROGBITS && section.flags & SHF_EXECINSTR != 0;
    sections
        .iter()
        .filter(is_code)
        .map(|section| {
            let bytes = read(section.offset, section.size)?;
            Some(Code { name: name(section.name).unwrap_or_default(), addr: section.addr, bytes })
        })
        .collect()
}
