//! ELF programs: what Linux's loader looks at, checked before anything is mapped (elf(5)).

mod map;

pub(super) use map::Base;

use crate::memory::{END, MapError, Prot, page};
use goblin::elf::header::{self, EM_386, ET_CORE, ET_DYN, ET_EXEC, ET_REL, header32};
use goblin::elf::program_header::{
    PF_R, PF_W, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, program_header32::ProgramHeader,
};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

/// The 486's machine number, which Linux takes for the 386's.
const EM_486: u16 = 6;

/// Bytes of an ELF header and of a program header.
const EHDR: usize = 52;
const PHDR: usize = 32;

/// Bytes of the program headers that Linux reads at most.
const HEADERS_MAX: usize = 65_536;

/// Longest interpreter path, its NUL included.
const PATH_MAX: u32 = 4096;

/// Why an ELF file cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Of another class of machines.
    #[error("64-bit ELF ({0}); only IA-32 programs run here")]
    Is64Bit(&'static str),
    /// Of another machine.
    #[error("ELF for {0}; only IA-32 programs run here")]
    Machine(String),
    /// Nothing that runs.
    #[error("ELF {0}, not a program")]
    Kind(String),
    /// The file ends before something that it announces.
    #[error("truncated ELF file: {what} needs {needed} bytes, the file has {size}")]
    Truncated {
        /// What is missing.
        what: &'static str,
        /// How long the file would have to be.
        needed: u64,
        /// How long it is.
        size: u64,
    },
    /// Program headers of another size than IA-32's.
    #[error("broken ELF header: program headers of {0} bytes instead of 32")]
    HeaderSize(u16),
    /// No program headers at all.
    #[error("ELF file without program headers; object files have to be linked first")]
    NoHeaders,
    /// More headers than Linux takes.
    #[error("ELF file with {0} program headers; 2048 are the limit")]
    TooManyHeaders(u16),
    /// Nothing to load.
    #[error("ELF file without segments to load")]
    NoSegments,
    /// A segment that makes no sense.
    #[error("broken ELF segment {index}: {problem}")]
    Segment {
        /// Index of the program header.
        index: usize,
        /// What is wrong with it.
        problem: SegmentProblem,
    },
    /// A PT_INTERP that makes no sense.
    #[error("broken ELF file: the interpreter's path has {0} bytes, or does not end in a NUL")]
    Interpreter(u32),
    /// A segment could not be mapped.
    #[error("no memory for the segment at {addr:#x} ({bytes} bytes): {error}")]
    Map {
        /// Where.
        addr: u32,
        /// How much.
        bytes: u32,
        /// Why.
        error: MapError,
    },
    /// There is no room for the program where it has to be.
    #[error("addresses {start:#x} to {end:#x} are taken (by the stack, or by the program's own interpreter)")]
    Occupied {
        /// First address.
        start: u32,
        /// Address behind.
        end: u32,
    },
    /// The host cannot read it.
    #[error("cannot be read: {0}")]
    Read(io::Error),
}

/// What is wrong with a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentProblem {
    /// More in the file than in memory.
    #[error("{file} bytes in the file, but only {memory} in memory")]
    LongerInFile {
        /// `p_filesz`.
        file: u32,
        /// `p_memsz`.
        memory: u32,
    },
    /// It leaves the address space.
    #[error("{len} bytes at {addr:#x} leave the address space, which ends at {END:#x}")]
    OutOfRange {
        /// `p_vaddr`.
        addr: u32,
        /// `p_memsz`.
        len: u32,
    },
    /// A page of the file cannot be a page of memory.
    #[error("address {addr:#x} and file offset {offset:#x} differ within a page")]
    Misaligned {
        /// `p_vaddr`.
        addr: u32,
        /// `p_offset`.
        offset: u32,
    },
    /// It shares addresses with another one.
    #[error("it overlaps segment {0}")]
    Overlaps(usize),
}

/// What a program says about its stack by `PT_GNU_STACK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackProtection {
    /// Nothing: an old program, for which all readable memory is executable.
    Unsaid,
    /// The stack is executable.
    Exec,
    /// It is not.
    NoExec,
}

/// A segment to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address, before relocation.
    pub addr: u32,
    /// Bytes in memory, not 0.
    pub memory_len: u32,
    /// Bytes in the file, the rest is zeros.
    pub file_len: u32,
    /// Where in the file.
    pub offset: u32,
    /// Alignment asked for, in bytes; a power of two or meaningless.
    pub align: u32,
    /// Protection.
    pub prot: Prot,
}

impl Segment {
    /// First address of its first page.
    fn page_start(&self) -> u32 {
        self.addr / page::SIZE * page::SIZE
    }

    /// First address behind its last page.
    fn page_end(&self) -> u32 {
        (self.addr + self.memory_len).next_multiple_of(page::SIZE)
    }
}

/// An ELF program whose headers are sound.
#[derive(Clone, Debug)]
pub struct Elf {
    /// Its addresses are relative (`ET_DYN`).
    pub relocatable: bool,
    /// Entry point, before relocation.
    pub entry: u32,
    /// Segments to be loaded, in the file's order; at least one.
    pub segments: Vec<Segment>,
    /// The path in `PT_INTERP`.
    pub interpreter: Option<OsString>,
    /// `PT_GNU_STACK`.
    pub stack: StackProtection,
    /// Where the program headers are in the file.
    pub headers_offset: u32,
    /// How many there are.
    pub header_count: u32,
}

impl Elf {
    /// Reads and checks the headers of an ELF program, 64 KiB at most.
    ///
    /// # Errors
    /// See [`ElfError`].
    pub fn read(file: &File) -> Result<Elf, ElfError> {
        let size = file.metadata().map_err(ElfError::Read)?.len();
        let header = read_header(file, size)?;
        let headers = read_program_headers(file, size, &header)?;
        let segments = segments(&headers, size)?;
        let interpreter = match headers.iter().find(|header| header.p_type == PT_INTERP) {
            Some(header) => Some(interpreter(file, size, header)?),
            None => None,
        };
        let stack = match headers.iter().rfind(|header| header.p_type == PT_GNU_STACK) {
            None => StackProtection::Unsaid,
            Some(header) if header.p_flags & PF_X != 0 => StackProtection::Exec,
            Some(_) => StackProtection::NoExec,
        };
        Ok(Elf {
            relocatable: header.e_type == ET_DYN,
            entry: header.e_entry,
            segments,
            interpreter,
            stack,
            headers_offset: header.e_phoff,
            header_count: header.e_phnum.into(),
        })
    }
}

impl Elf {
    /// Where in the file the ELF header and the program headers that follow it end.
    pub(super) fn headers_end(&self) -> u32 {
        let end = EHDR as u32;
        if self.headers_offset > end {
            end
        } else {
            (self.headers_offset + self.header_count * PHDR as u32).max(end)
        }
    }
}

/// The ELF header of an IA-32 program. As Linux does, takes a file that is shorter than the header as if zeros followed, and looks
/// at the machine rather than at class, byte order and version.
fn read_header(file: &File, size: u64) -> Result<header32::Header, ElfError> {
    let mut bytes = [0; EHDR];
    let present = (size as usize).min(EHDR);
    read_exact(file, &mut bytes[..present], 0)?;
    let machine = u16::from_le_bytes([bytes[18], bytes[19]]);
    if machine != EM_386 && machine != EM_486 {
        return Err(other_machine(&bytes, size));
    }
    bytes[header::EI_DATA] = header::ELFDATA2LSB;
    let header =
        header32::Header::parse(&bytes).map_err(|_| truncated("the ELF header", EHDR as u64, size))?;
    match header.e_type {
        ET_EXEC | ET_DYN => {}
        ET_REL => return Err(ElfError::Kind("object file (.o)".to_owned())),
        ET_CORE => return Err(ElfError::Kind("core dump".to_owned())),
        _ if present < EHDR => return Err(truncated("the ELF header", EHDR as u64, size)),
        kind => return Err(ElfError::Kind(format!("file of unknown type {kind}"))),
    }
    if present < EHDR && header.e_phnum == 0 {
        return Err(truncated("the ELF header", EHDR as u64, size));
    }
    Ok(header)
}

fn truncated(what: &'static str, needed: u64, size: u64) -> ElfError {
    ElfError::Truncated { what, needed, size }
}

/// Names the machine that a file is for.
fn other_machine(header: &[u8; EHDR], size: u64) -> ElfError {
    const MACHINE_END: u64 = 20;
    if size < MACHINE_END {
        return truncated("the ELF header", EHDR as u64, size);
    }
    let big_endian = header[header::EI_DATA] == header::ELFDATA2MSB;
    let bytes = [header[18], header[19]];
    let machine = if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
    let name = match machine {
        header::EM_X86_64 => "x86-64",
        header::EM_AARCH64 => "AArch64",
        header::EM_ARM => "ARM",
        header::EM_RISCV => "RISC-V",
        header::EM_PPC => "PowerPC",
        header::EM_PPC64 => "PowerPC 64",
        header::EM_MIPS => "MIPS",
        header::EM_S390 => "S/390",
        header::EM_SPARC | header::EM_SPARCV9 => "SPARC",
        header::EM_IA_64 => "IA-64",
        header::EM_68K => "m68k",
        header::EM_386 | EM_486 => "big-endian i386",
        _ => "",
    };
    if header[header::EI_CLASS] == header::ELFCLASS64 {
        return ElfError::Is64Bit(if name.is_empty() { "unknown machine" } else { name });
    }
    ElfError::Machine(if name.is_empty() { format!("machine {machine}") } else { name.to_owned() })
}

fn read_program_headers(
    file: &File,
    size: u64,
    header: &header32::Header,
) -> Result<Vec<ProgramHeader>, ElfError> {
    if header.e_phnum == 0 {
        return Err(ElfError::NoHeaders);
    }
    if usize::from(header.e_phentsize) != PHDR {
        return Err(ElfError::HeaderSize(header.e_phentsize));
    }
    let len = usize::from(header.e_phnum) * PHDR;
    if len > HEADERS_MAX {
        return Err(ElfError::TooManyHeaders(header.e_phnum));
    }
    let end = u64::from(header.e_phoff) + len as u64;
    if end > size {
        return Err(truncated("the table of program headers", end, size));
    }
    let mut table = vec![0; len];
    read_exact(file, &mut table, header.e_phoff.into())?;
    Ok(table.chunks_exact(PHDR).map(program_header).collect())
}

/// A program header from its 32 bytes.
fn program_header(bytes: &[u8]) -> ProgramHeader {
    let word = |index: usize| bytes[index * 4..].first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
    ProgramHeader {
        p_type: word(0),
        p_offset: word(1),
        p_vaddr: word(2),
        p_paddr: word(3),
        p_filesz: word(4),
        p_memsz: word(5),
        p_flags: word(6),
        p_align: word(7),
    }
}

/// The segments to be loaded, checked.
fn segments(headers: &[ProgramHeader], size: u64) -> Result<Vec<Segment>, ElfError> {
    let mut found: Vec<(usize, Segment)> = Vec::new();
    for (index, header) in headers.iter().enumerate().filter(|(_, header)| header.p_type == PT_LOAD) {
        let segment = Segment {
            addr: header.p_vaddr,
            memory_len: header.p_memsz,
            file_len: header.p_filesz,
            offset: header.p_offset,
            align: header.p_align,
            prot: protection(header.p_flags),
        };
        check(&segment).map_err(|problem| ElfError::Segment { index, problem })?;
        let file_end = u64::from(segment.offset) + u64::from(segment.file_len);
        if segment.file_len > 0 && file_end > size {
            return Err(truncated("a segment", file_end, size));
        }
        if segment.memory_len > 0 {
            found.push((index, segment));
        }
    }
    let mut ascending: Vec<&(usize, Segment)> = found.iter().collect();
    ascending.sort_by_key(|(_, segment)| segment.addr);
    for pair in ascending.windows(2) {
        let [(other, low), (index, high)] = [pair[0], pair[1]];
        if low.addr + low.memory_len > high.addr {
            return Err(ElfError::Segment { index: *index, problem: SegmentProblem::Overlaps(*other) });
        }
    }
    if found.is_empty() {
        return Err(ElfError::NoSegments);
    }
    Ok(found.into_iter().map(|(_, segment)| segment).collect())
}

fn protection(flags: u32) -> Prot {
    let bit = |flag, prot| if flags & flag != 0 { prot } else { Prot::NONE };
    bit(PF_R, Prot::READ) | bit(PF_W, Prot::WRITE) | bit(PF_X, Prot::EXEC)
}

fn check(segment: &Segment) -> Result<(), SegmentProblem> {
    let &Segment { addr, memory_len, file_len, offset, .. } = segment;
    if file_len > memory_len {
        return Err(SegmentProblem::LongerInFile { file: file_len, memory: memory_len });
    }
    if u64::from(addr) + u64::from(memory_len) > u64::from(END) {
        return Err(SegmentProblem::OutOfRange { addr, len: memory_len });
    }
    if file_len > 0 && addr % page::SIZE != offset % page::SIZE {
        return Err(SegmentProblem::Misaligned { addr, offset });
    }
    Ok(())
}

/// The path in a `PT_INTERP`.
fn interpreter(file: &File, size: u64, header: &ProgramHeader) -> Result<OsString, ElfError> {
    let len = header.p_filesz;
    if !(2..=PATH_MAX).contains(&len) {
        return Err(ElfError::Interpreter(len));
    }
    let end = u64::from(header.p_offset) + u64::from(len);
    if end > size {
        return Err(truncated("the interpreter's path", end, size));
    }
    let mut path = vec![0; len as usize];
    read_exact(file, &mut path, header.p_offset.into())?;
    if path.last() != Some(&0) {
        return Err(ElfError::Interpreter(len));
    }
    path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or_default());
    if path.is_empty() {
        return Err(ElfError::Interpreter(len));
    }
    Ok(OsString::from_vec(path))
}

fn read_exact(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), ElfError> {
    file.read_exact_at(bytes, offset).map_err(ElfError::Read)
}
