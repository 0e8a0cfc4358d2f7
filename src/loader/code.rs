//! The code in a file, for those who look at it without running it.

mod image;

pub use image::{Image, Origin};

use super::detect::Format;
use super::elf::Elf;
use super::{LoadError, Program, flat, hex};
use crate::memory::Prot;
use goblin::elf::section_header::{SHF_EXECINSTR, SHT_DYNSYM, SHT_PROGBITS, SHT_SYMTAB};
use goblin::elf::{section_header::section_header32::SIZEOF_SHDR, sym::sym32::SIZEOF_SYM};
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
    /// Names of addresses in it, ascending.
    pub symbols: Vec<(u32, String)>,
}

/// As [`read`], and what leads into the code; code without an ELF file around it starts at its first byte.
///
/// # Errors
/// As [`super::load`].
pub fn image(path: &Path, format: Option<Format>, org: u32) -> Result<Image, LoadError> {
    let program = Program::open(path, Vec::new(), Vec::new())?;
    let options = super::Options { format, ..super::Options::default() };
    match program.format(&options)? {
        Format::Elf => Image::read(&program.file),
        _ => Ok(Image::flat(read(path, format, org)?)),
    }
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
    Ok(vec![Code { name: String::new(), addr: org, bytes, symbols: Vec::new() }])
}

fn elf_code(file: &File) -> Result<Vec<Code>, LoadError> {
    let elf = Elf::read(file)?;
    let sections = Sections::read(file).and_then(|sections| sections.code());
    if let Some(code) = sections.filter(|code| !code.is_empty()) {
        return Ok(code);
    }
    let mut read = 0;
    let segments = elf.segments.iter().filter(|segment| segment.prot.contains(Prot::EXEC));
    segments
        .filter(|segment| has_room(&mut read, segment.file_len))
        .map(|segment| {
            // The headers are no code; what is meant to be both can be had by `--as flat`.
            let skipped = if segment.offset == 0 { elf.headers_end().min(segment.file_len) } else { 0 };
            let mut bytes = vec![0; (segment.file_len - skipped) as usize];
            let offset = segment.offset + skipped;
            file.read_exact_at(&mut bytes, offset.into()).map_err(LoadError::Unreadable)?;
            let name = "executable segment".to_owned();
            Ok(Code { name, addr: segment.addr + skipped, bytes, symbols: Vec::new() })
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
    link: u32,
}

/// The little-endian word at byte `at`, which is in `bytes`.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The string at byte `at` of a string table.
fn string(table: &[u8], at: u32) -> Option<String> {
    let text = table.get(at as usize..)?.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// An ELF file's section headers, and what they describe.
struct Sections<'a> {
    file: &'a File,
    headers: Vec<Section>,
    /// The sections' names.
    names: Vec<u8>,
}

impl Sections<'_> {
    /// `None` if the headers are missing or broken, as nothing needs them to run.
    fn read(file: &File) -> Option<Sections<'_>> {
        const EHDR: u32 = 52;
        let header = read_range(file, 0, EHDR)?;
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (table_at, entry_len, count, names) = (word(&header, 32), half(46), half(48), half(50));
        if usize::from(entry_len) != SIZEOF_SHDR {
            return None;
        }
        let table = read_range(file, table_at, u32::from(count) * SIZEOF_SHDR as u32)?;
        let headers = table.chunks_exact(SIZEOF_SHDR).map(|bytes| Section {
            name: word(bytes, 0),
            kind: word(bytes, 4),
            flags: word(bytes, 8),
            addr: word(bytes, 12),
            offset: word(bytes, 16),
            size: word(bytes, 20),
            link: word(bytes, 24),
        });
        let mut sections = Sections { file, headers: headers.collect(), names: Vec::new() };
        let names = sections.headers.get(usize::from(names)).and_then(|section| sections.contents(section));
        sections.names = names.unwrap_or_default();
        Some(sections)
    }

    fn contents(&self, section: &Section) -> Option<Vec<u8>> {
        read_range(self.file, section.offset, section.size)
    }

    fn of_kind(&self, kind: u32) -> Option<&Section> {
        self.headers.iter().find(|section| section.kind == kind)
    }

    fn name(&self, section: &Section) -> Option<String> {
        string(&self.names, section.name)
    }

    fn named(&self, name: &str) -> Option<&Section> {
        self.headers.iter().find(|section| self.name(section).as_deref() == Some(name))
    }

    /// Functions and labels by address: of the symbol table, else of the dynamic one.
    fn symbols(&self) -> Option<Vec<(u32, String)>> {
        const NOTYPE: u8 = 0;
        const FUNC: u8 = 2;
        let table = self.of_kind(SHT_SYMTAB).or_else(|| self.of_kind(SHT_DYNSYM))?;
        let strings = self.contents(self.headers.get(table.link as usize)?)?;
        let entries = self.contents(table)?;
        let mut symbols: Vec<(u32, String)> = entries
            .chunks_exact(SIZEOF_SYM)
            .filter(|entry| matches!(entry[12] & 15, NOTYPE | FUNC) && word(entry, 4) != 0)
            .filter_map(|entry| Some((word(entry, 4), string(&strings, word(entry, 0))?)))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        symbols.sort_unstable();
        symbols.dedup_by_key(|symbol| symbol.0);
        Some(symbols)
    }

    /// The sections with code.
    fn code(&self) -> Option<Vec<Code>> {
        let symbols = self.symbols().unwrap_or_default();
        let is_code = |section: &&Section| section.kind == SHT_PROGBITS && section.flags & SHF_EXECINSTR != 0;
        let mut read = 0;
        self.headers
            .iter()
            .filter(is_code)
            .filter(|section| has_room(&mut read, section.size))
            .map(|section| {
                let bytes = self.contents(section)?;
                let end = u64::from(section.addr) + u64::from(section.size);
                let first = symbols.partition_point(|symbol| symbol.0 < section.addr);
                let last = symbols.partition_point(|symbol| u64::from(symbol.0) < end);
                let name = self.name(section);
                Some(Code {
                    name: name.unwrap_or_default(),
                    addr: section.addr,
                    bytes,
                    symbols: symbols.get(first..last).unwrap_or_default().to_vec(),
                })
            })
            .collect()
    }
}

/// Most bytes of code that are read of a file, or of data: programs are smaller, and a file with holes may claim anything.
const MAX_BYTES: u64 = 1 << 29;

/// Tells whether `len` more bytes may be read, of which `read` were already.
fn has_room(read: &mut u64, len: u32) -> bool {
    *read += u64::from(len);
    *read <= MAX_BYTES
}

/// Bytes of a file, if it has them.
fn read_range(file: &File, offset: u32, len: u32) -> Option<Vec<u8>> {
    let file_len = file.metadata().ok()?.len();
    if u64::from(offset) + u64::from(len) > file_len {
        return None;
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset.into()).ok()?;
    Some(bytes)
}
