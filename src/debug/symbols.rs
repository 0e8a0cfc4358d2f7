//! Names of addresses: the ELF symbols of what is mapped, found through the mappings themselves.

use crate::memory::{Memory, Region};
use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;
use goblin::elf::sym::{STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that is mapped somewhere: its name, symbols and segments.
#[derive(Debug, Default)]
pub struct Module {
    /// The file's path, as it was mapped, or the name of memory without a file, such as `[vdso]`.
    pub path: PathBuf,
    /// The host's path of the file, if it is still there.
    pub host: Option<PathBuf>,
    /// Functions and labels by address, as the file has it.
    symbols: Vec<Symbol>,
    segments: Vec<Segment>,
}

#[derive(Debug)]
struct Symbol {
    value: u32,
    size: u32,
    name: Box<str>,
}

/// What of the file is loaded where.
#[derive(Clone, Copy, Debug)]
struct Segment {
    offset: u64,
    vaddr: u32,
    len: u64,
}

/// Where an address is.
#[derive(Clone, Debug)]
pub struct Location {
    /// In which file.
    pub module: Arc<Module>,
    /// The symbol's name, if one covers the address.
    pub symbol: Option<Arc<str>>,
    /// How far behind the symbol, or without one behind the start of the file's first mapping.
    pub offset: u32,
    /// First and last address of the part that has the same symbol.
    range: (u32, u32),
}

impl Location {
    /// `main+0x4 (hello)`, or `hello+0x1004` without a symbol.
    pub fn text(&self) -> String {
        let module = self.module.name();
        match &self.symbol {
            Some(name) => format!("{name}+{:#x} ({module})", self.offset),
            None => format!("{module}+{:#x}", self.offset),
        }
    }
}

impl Module {
    /// The file's name without directories.
    pub fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy()
    }

    /// Whether it is a file that can have symbols.
    pub fn is_elf(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Reads what an ELF file says of itself; nothing of one that is none.
    fn read(path: &Path, host: Option<PathBuf>) -> Module {
        let mut module = Module { path: path.to_owned(), host, ..Module::default() };
        if let Some(bytes) = module.host.as_ref().and_then(|host| std::fs::read(host).ok())
            && let Ok(elf) = Elf::parse(&bytes)
        {
            module.take(&elf);
        }
        module
    }

    fn take(&mut self, elf: &Elf<'_>) {
        let loaded = elf.program_headers.iter().filter(|header| header.p_type == PT_LOAD);
        self.segments = loaded
            .map(|header| Segment {
                offset: header.p_offset,
                vaddr: header.p_vaddr as u32,
                len: header.p_filesz,
            })
            .collect();
        let tables = [(&elf.syms, &elf.strtab), (&elf.dynsyms, &elf.dynstrtab)];
        for (symbols, names) in tables {
            let code = symbols.iter().filter(|symbol| {
                matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE | STT_GNU_IFUNC) && symbol.st_shndx != 0
            });
            self.symbols.extend(code.filter_map(|symbol| {
                let name = names.get_at(symbol.st_name).filter(|name| !name.is_empty())?;
                Some(Symbol { value: symbol.st_value as u32, size: symbol.st_size as u32, name: name.into() })
            }));
        }
        self.add_stubs(elf);
        // Of several names at an address, the shortest and first in the alphabet.
        self.symbols.sort_by(|a, b| (a.value, a.name.len(), &a.name).cmp(&(b.value, b.name.len(), &b.name)));
        self.symbols.dedup_by_key(|symbol| symbol.value);
    }

    /// Names the stubs of the procedure linkage table by what they lead to: `puts@plt`.
    fn add_stubs(&mut self, elf: &Elf<'_>) {
        const STUB: u32 = 16;
        let section = |wanted: &str| {
            elf.section_headers.iter().find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(wanted))
        };
        // With IBT, the stubs are in a section of their own; else the first one is that of the resolver.
        let start = match (section(".plt.sec"), section(".plt")) {
            (Some(stubs), _) => stubs.sh_addr as u32,
            (None, Some(stubs)) => stubs.sh_addr as u32 + STUB,
            (None, None) => return,
        };
        for (index, relocation) in elf.pltrelocs.iter().enumerate() {
            let name =
                elf.dynsyms.get(relocation.r_sym).and_then(|symbol| elf.dynstrtab.get_at(symbol.st_name));
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                let value = start.wrapping_add(STUB * index as u32);
                self.symbols.push(Symbol { value, size: STUB, name: format!("{name}@plt").into() });
            }
        }
    }

    /// How far behind the addresses in the file a mapping of it is.
    pub fn bias(&self, region: &Region) -> Option<u32> {
        let page = region.offset & !0xfff;
        let inside = |segment: &&Segment| {
            let start = segment.offset & !0xfff;
            (start..segment.offset + segment.len).contains(&page)
        };
        let segment = self.segments.iter().find(inside)?;
        let mapped = i64::from(region.start) - region.offset as i64 + segment.offset as i64;
        Some((mapped as u32).wrapping_sub(segment.vaddr))
    }

    /// The symbol at an address of the file, and the addresses that it goes over.
    fn symbol(&self, vaddr: u32) -> (Option<&Symbol>, u32, u32) {
        let next = self.symbols.partition_point(|symbol| symbol.value <= vaddr);
        let end = self.symbols.get(next).map_or(u32::MAX, |symbol| symbol.value - 1);
        let Some(symbol) = next.checked_sub(1).map(|at| &self.symbols[at]) else { return (None, 0, end) };
        if symbol.size == 0 {
            return (Some(symbol), symbol.value, end);
        }
        let last = symbol.value.saturating_add(symbol.size - 1);
        if vaddr <= last {
            (Some(symbol), symbol.value, last.min(end))
        } else {
            (None, last.saturating_add(1), end)
        }
    }

    /// Address in the file of a symbol.
    pub fn address_of(&self, name: &str) -> Option<u32> {
        self.symbols.iter().find(|symbol| &*symbol.name == name).map(|symbol| symbol.value)
    }
}

/// Finds names of addresses; remembers what it has read.
#[derive(Debug, Default)]
pub struct Symbols {
    sysroot: Option<PathBuf>,
    modules: HashMap<(u64, u64, PathBuf), Arc<Module>>,
    last: Option<Location>,
}

impl Symbols {
    /// Nothing is read yet. Files that were mapped by a guest's path are looked for below `sysroot` first.
    pub fn new(sysroot: Option<PathBuf>) -> Symbols {
        Symbols { sysroot, ..Symbols::default() }
    }

    /// To be called when mappings may have changed.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// The module that a mapping shows.
    pub fn module(&mut self, region: &Region) -> Option<Arc<Module>> {
        let path = match (region.path(), region.name) {
            (Some(path), _) => path.to_owned(),
            (None, Some(name)) => name.into(),
            (None, None) => return None,
        };
        let key = (region.dev, region.ino, path);
        if let Some(module) = self.modules.get(&key) {
            return Some(Arc::clone(module));
        }
        let module = Arc::new(Module::read(&key.2, self.on_host(region)));
        self.modules.insert(key, Arc::clone(&module));
        Some(module)
    }

    /// The host's path of a mapping's file: the very file that is mapped.
    fn on_host(&self, region: &Region) -> Option<PathBuf> {
        use std::os::unix::fs::MetadataExt;
        let path = region.path()?;
        let inside = self.sysroot.as_ref().map(|root| root.join(path.strip_prefix("/").unwrap_or(path)));
        let is_it = |path: &PathBuf| {
            std::fs::metadata(path).is_ok_and(|file| file.ino() == region.ino && file.dev() == region.dev)
        };
        inside.into_iter().chain([path.to_owned()]).find(is_it)
    }

    /// Where an address is; `None` in memory that no file or name belongs to.
    pub fn locate(&mut self, memory: &Memory, addr: u32) -> Option<Location> {
        if let Some(last) = &self.last
            && (last.range.0..=last.range.1).contains(&addr)
        {
            let offset = last.offset.wrapping_add(addr.wrapping_sub(last.range.0));
            return Some(Location { offset, ..last.clone() });
        }
        let region = memory.region_at(addr)?;
        let module = self.module(&region)?;
        let bias = module.bias(&region);
        let found = bias.and_then(|bias| {
            let (symbol, first, last) = module.symbol(addr.wrapping_sub(bias));
            let symbol = symbol.map(|symbol| (Arc::<str>::from(&*symbol.name), symbol.value))?;
            let first = first.wrapping_add(bias).max(region.start);
            let last = last.saturating_add(bias).min(region.end - 1);
            Some((symbol.0, first, last, symbol.1.wrapping_add(bias)))
        });
        let location = match found {
            Some((name, first, last, value)) => Location {
                module,
                symbol: Some(name),
                offset: first.wrapping_sub(value),
                range: (first, last),
            },
            None => {
                let path = region.path();
                let start = match path {
                    Some(path) => memory
                        .regions()
                        .iter()
                        .find(|other| other.path() == Some(path))
                        .map_or(region.start, |first| first.start),
                    None => region.start,
                };
                // A symbol may begin anywhere behind it.
                return Some(Location {
                    module,
                    symbol: None,
                    offset: addr.wrapping_sub(start),
                    range: (addr, addr),
                });
            }
        };
        self.last = Some(location.clone());
        let offset = location.offset.wrapping_add(addr.wrapping_sub(location.range.0));
        Some(Location { offset, ..location })
    }
}
