//! An ELF file as those see it who look for its code: where control comes in, and what its data says of addresses.

use super::{Code, Sections, elf_code, has_room, read_range, string, word};
use crate::isa::decode::NO_REG;
use crate::isa::{Flow, Insn, decode};
use crate::loader::LoadError;
use crate::loader::elf::Elf;
use goblin::elf::dynamic::{
    DT_FINI, DT_FINI_ARRAY, DT_FINI_ARRAYSZ, DT_INIT, DT_INIT_ARRAY, DT_INIT_ARRAYSZ, DT_PLTGOT,
};
use goblin::elf::section_header::{SHT_DYNAMIC, SHT_DYNSYM, SHT_REL, SHT_SYMTAB};
use goblin::elf::sym::sym32::SIZEOF_SYM;
use std::collections::BTreeMap;
use std::fs::File;

/// What says that an instruction starts at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The entry point, or what is called before and behind the program.
    Entry,
    /// A function's symbol.
    Symbol,
    /// The table by which stacks are unwound (`.eh_frame_hdr`).
    Unwind,
    /// A pointer in data that a relocation marks as one.
    Pointer,
}

/// An ELF file's code, and what leads into it.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// The code, by sections.
    pub parts: Vec<Code>,
    /// Where control comes in, and what says so; ascending.
    pub entries: Vec<(u32, Origin)>,
    /// What is loaded: address and bytes.
    pub loaded: Vec<(u32, Vec<u8>)>,
    /// `_GLOBAL_OFFSET_TABLE_`, to which position-independent code relates its addresses.
    pub got: Option<u32>,
    /// Slots through which imported functions are called, by address, with the functions' names.
    pub imports: BTreeMap<u32, String>,
}

/// Relocations whose place holds an address in the file (System V ABI, Intel386 supplement).
const R_386_JMP_SLOT: u8 = 7;
const R_386_GLOB_DAT: u8 = 6;
const R_386_RELATIVE: u8 = 8;
const R_386_IRELATIVE: u8 = 42;

impl Image {
    /// Reads an ELF program or library.
    ///
    /// # Errors
    /// As [`super::read`]. What nothing needs to run the file may be broken; it is left out then.
    pub fn read(file: &File) -> Result<Image, LoadError> {
        let elf = Elf::read(file)?;
        let mut image = Image { parts: elf_code(file)?, ..Image::default() };
        let mut read = 0;
        for segment in elf.segments.iter().filter(|segment| has_room(&mut read, segment.file_len)) {
            if let Some(bytes) = read_range(file, segment.offset, segment.file_len) {
                image.loaded.push((segment.addr, bytes));
            }
        }
        image.enter(elf.entry, Origin::Entry);
        if let Some(sections) = Sections::read(file) {
            image.dynamic(&sections);
            image.symbols(&sections);
            image.relocations(&sections);
            image.unwinding(&sections);
        }
        image.entries.sort_unstable();
        image.entries.dedup_by_key(|entry| entry.0);
        Ok(image)
    }

    /// Code without an ELF file around it, which starts at the first byte of each part.
    pub fn flat(parts: Vec<Code>) -> Image {
        let entries = parts.iter().map(|code| (code.addr, Origin::Entry)).collect();
        let loaded = parts.iter().map(|code| (code.addr, code.bytes.clone())).collect();
        Image { parts, entries, loaded, ..Image::default() }
    }

    /// The word at an address, as it is in the file.
    pub fn word_at(&self, addr: u32) -> Option<u32> {
        let bytes = self.bytes_at(addr)?;
        bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// What is loaded from an address on, to the end of its segment.
    pub fn bytes_at(&self, addr: u32) -> Option<&[u8]> {
        self.loaded.iter().find_map(|(start, bytes)| bytes.get(addr.checked_sub(*start)? as usize..))
    }

    /// Tells whether code can be at an address.
    pub fn is_code(&self, addr: u32) -> bool {
        self.parts.iter().any(|code| (addr.wrapping_sub(code.addr) as usize) < code.bytes.len())
    }

    fn enter(&mut self, addr: u32, origin: Origin) {
        if self.is_code(addr) {
            self.entries.push((addr, origin));
        }
    }

    /// The dynamic section: what runs first and last, and the offset table.
    fn dynamic(&mut self, sections: &Sections<'_>) {
        let Some(bytes) = sections.of_kind(SHT_DYNAMIC).and_then(|section| sections.contents(section)) else {
            return;
        };
        let values: BTreeMap<u32, u32> =
            bytes.chunks_exact(8).map(|entry| (word(entry, 0), word(entry, 4))).collect();
        let value = |tag: u64| values.get(&(tag as u32)).copied();
        self.got = value(DT_PLTGOT);
        for addr in [DT_INIT, DT_FINI].into_iter().filter_map(value) {
            self.enter(addr, Origin::Entry);
        }
        for (array, bytes) in [(DT_INIT_ARRAY, DT_INIT_ARRAYSZ), (DT_FINI_ARRAY, DT_FINI_ARRAYSZ)] {
            let (Some(array), Some(bytes)) = (value(array), value(bytes)) else { continue };
            let found: Vec<u32> = self.words(array, bytes / 4).collect();
            found.into_iter().for_each(|addr| self.enter(addr, Origin::Entry));
        }
    }

    /// Words from an address on, as many as the file has.
    fn words(&self, addr: u32, count: u32) -> impl Iterator<Item = u32> {
        let bytes = self.bytes_at(addr).unwrap_or_default();
        bytes.chunks_exact(4).take(count as usize).map(|bytes| word(bytes, 0))
    }

    /// Functions of both symbol tables.
    fn symbols(&mut self, sections: &Sections<'_>) {
        const FUNC: u8 = 2;
        const GNU_IFUNC: u8 = 10;
        let tables =
            sections.headers.iter().filter(|section| matches!(section.kind, SHT_SYMTAB | SHT_DYNSYM));
        for bytes in tables.filter_map(|section| sections.contents(section)) {
            for entry in bytes.chunks_exact(SIZEOF_SYM) {
                if matches!(entry[12] & 15, FUNC | GNU_IFUNC) {
                    self.enter(word(entry, 4), Origin::Symbol);
                }
            }
        }
    }

    /// Pointers to code, and the slots of imported functions.
    fn relocations(&mut self, sections: &Sections<'_>) {
        for section in sections.headers.iter().filter(|section| section.kind == SHT_REL) {
            let Some(entries) = sections.contents(section) else { continue };
            let table = sections.headers.get(section.link as usize);
            let symbols = table.and_then(|table| sections.contents(table)).unwrap_or_default();
            let strings = table.and_then(|table| sections.headers.get(table.link as usize));
            let strings = strings.and_then(|strings| sections.contents(strings)).unwrap_or_default();
            for entry in entries.chunks_exact(8) {
                let (place, info) = (word(entry, 0), word(entry, 4));
                match info as u8 {
                    R_386_RELATIVE | R_386_IRELATIVE => {
                        if let Some(target) = self.word_at(place) {
                            self.enter(target, Origin::Pointer);
                        }
                    }
                    R_386_JMP_SLOT | R_386_GLOB_DAT => {
                        let symbol = symbols.chunks_exact(SIZEOF_SYM).nth((info >> 8) as usize);
                        if let Some(name) = symbol.and_then(|symbol| string(&strings, word(symbol, 0))) {
                            self.imports.insert(place, name);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// `.eh_frame_hdr`: a sorted table of functions, if it is of the usual kind (Linux Standard Base, "Exception Frames").
    fn unwinding(&mut self, sections: &Sections<'_>) {
        /// Version 1; the frame's address relative, the count absolute, the table relative to the header: 4 bytes each.
        const USUAL: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
        let Some(section) = sections.named(".eh_frame_hdr") else { return };
        let Some(bytes) = sections.contents(section) else { return };
        if bytes.first_chunk() != Some(&USUAL) || bytes.len() < 12 {
            return;
        }
        let count = word(&bytes, 8) as usize;
        for entry in bytes[12..].chunks_exact(8).take(count) {
            self.enter(section.addr.wrapping_add(word(entry, 0)), Origin::Unwind);
        }
    }

    /// Names of the stubs that call imported functions, `NAME@plt`, by address: found by the slots that they jump through.
    pub fn stubs(&self) -> Vec<(u32, String)> {
        /// ENDBR32, which may stand before the jump.
        const ENDBR32: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfb];
        let mut stubs = Vec::new();
        for code in self.parts.iter().filter(|code| code.name.starts_with(".plt")) {
            let mut at = 0;
            while let Some(rest) = code.bytes.get(at..).filter(|rest| !rest.is_empty()) {
                let Ok(insn) = decode(rest, code.addr.wrapping_add(at as u32)) else {
                    at += 1;
                    continue;
                };
                if let Some(name) = self.slot(&insn).and_then(|slot| self.imports.get(&slot)) {
                    let is_marked = code.bytes[..at].ends_with(&ENDBR32);
                    stubs.push((insn.eip.wrapping_sub(if is_marked { 4 } else { 0 }), format!("{name}@plt")));
                }
                at += usize::from(insn.len);
            }
        }
        stubs
    }

    /// The slot that `jmp [slot]` or `jmp [ebx+slot]` goes through.
    fn slot(&self, insn: &Insn) -> Option<u32> {
        const EBX: u8 = 3;
        let mem = insn.mem.filter(|mem| mem.index == NO_REG && insn.form().flow == Flow::Jump)?;
        match mem.base {
            NO_REG => Some(mem.disp),
            EBX => Some(self.got?.wrapping_add(mem.disp)),
            _ => None,
        }
    }
}
