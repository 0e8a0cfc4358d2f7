//! The stack as a program finds it: its arguments, its environment, and the auxiliary vector (getauxval(3)).
//!
//! From the highest address down: 8 bytes of zeros, the name executed, the environment's and the arguments' strings, the
//! platform's name, 16 random bytes, and, aligned to 16 bytes, the auxiliary vector, the environment's and the
//! arguments' pointers and their count, at which ESP points.

use super::vdso::Addresses;
use super::{LoadError, Program, host};
use crate::memory::{BadAddress, END, MapError, MapRequest, Memory, Place, Prot, page};
use std::os::unix::ffi::OsStrExt;

/// Tags of the auxiliary vector, as `<elf.h>` names them.
pub mod at {
    #![allow(missing_docs)]
    pub const NULL: u32 = 0;
    pub const PHDR: u32 = 3;
    pub const PHENT: u32 = 4;
    pub const PHNUM: u32 = 5;
    pub const PAGESZ: u32 = 6;
    pub const BASE: u32 = 7;
    pub const FLAGS: u32 = 8;
    pub const ENTRY: u32 = 9;
    pub const UID: u32 = 11;
    pub const EUID: u32 = 12;
    pub const GID: u32 = 13;
    pub const EGID: u32 = 14;
    pub const PLATFORM: u32 = 15;
    pub const HWCAP: u32 = 16;
    pub const CLKTCK: u32 = 17;
    pub const SECURE: u32 = 23;
    pub const RANDOM: u32 = 25;
    pub const HWCAP2: u32 = 26;
    pub const EXECFN: u32 = 31;
    pub const SYSINFO: u32 = 32;
    pub const SYSINFO_EHDR: u32 = 33;
    pub const MINSIGSTKSZ: u32 = 51;
}

/// What programs find as `AT_PLATFORM`.
const PLATFORM: &[u8] = b"i686\0";

/// Bytes of a program header (`AT_PHENT`).
const PHDR_BYTES: u32 = 32;

/// `AT_MINSIGSTKSZ`: room for a signal frame with an FXSAVE image, which takes less than a KiB; i386's traditional value.
const SIGNAL_STACK_MIN: u32 = 2048;

/// Zeros at the very top.
const TOP_BYTES: u64 = 8;

/// Stack that is mapped at once beyond what is used.
const HEADROOM: u64 = 128 << 10;

/// Longest argument or environment string, its NUL included (`MAX_ARG_STRLEN`).
const STRING_MAX: u64 = 128 << 10;

/// Bytes of arguments and environment that are always allowed (`ARG_MAX`).
const STRINGS_MIN: u64 = 128 << 10;
/// Bytes of arguments and environment that are never exceeded: three quarters of 8 MiB.
const STRINGS_MAX: u64 = 6 << 20;

/// Where placement of mappings starts downwards, for a stack of at most `limit` bytes: below 128 MiB at least and five
/// sixths of the address space at most, with a guard gap.
pub(super) fn mmap_base(limit: u32) -> u32 {
    const GUARD_GAP: u32 = 256 * page::SIZE;
    let gap = limit.saturating_add(GUARD_GAP).clamp(128 << 20, END / 6 * 5);
    (END - gap) / page::SIZE * page::SIZE
}

/// What the auxiliary vector says beside what the stack itself and the host know.
pub(super) struct Facts {
    /// Address of the program headers; 0 if they are not mapped.
    pub headers: u32,
    pub header_count: u32,
    /// Where the dynamic linker was put.
    pub base: u32,
    /// The program's entry point.
    pub entry: u32,
    pub vdso: Addresses,
    pub hwcap: u32,
}

/// The stack's upper part, whose addresses do not depend on anything else.
pub(super) struct Strings {
    /// From `start` up to [`END`].
    bytes: Vec<u8>,
    start: u32,
    exec_name: u32,
    argv: Vec<u32>,
    environment: Vec<u32>,
}

impl Strings {
    /// Lays out a program's strings for a stack of at most `stack_limit` bytes.
    ///
    /// # Errors
    /// [`LoadError::ArgumentsTooLong`].
    pub(super) fn new(program: &Program, stack_limit: u32) -> Result<Strings, LoadError> {
        let strings = || program.argv.iter().chain(&program.environment).chain([&program.exec_name]);
        let bytes: u64 = strings().map(|text| text.len() as u64 + 1).sum();
        let pointers = (program.argv.len() + program.environment.len()) as u64 * 4;
        let max = u64::from(stack_limit / 4).clamp(STRINGS_MIN, STRINGS_MAX);
        if let Some(long) = strings().map(|text| text.len() as u64 + 1).find(|&len| len > STRING_MAX) {
            return Err(LoadError::ArgumentsTooLong { bytes: long, max: STRING_MAX });
        }
        if bytes + pointers > max {
            return Err(LoadError::ArgumentsTooLong { bytes: bytes + pointers, max });
        }
        let start = END - (bytes + TOP_BYTES) as u32;
        let mut laid_out = Strings {
            bytes: Vec::with_capacity((bytes + TOP_BYTES) as usize),
            start,
            exec_name: 0,
            argv: Vec::new(),
            environment: Vec::new(),
        };
        laid_out.argv = program.argv.iter().map(|text| laid_out.append(text.as_bytes())).collect();
        laid_out.environment =
            program.environment.iter().map(|text| laid_out.append(text.as_bytes())).collect();
        laid_out.exec_name = laid_out.append(program.exec_name.as_bytes());
        laid_out.bytes.extend([0; TOP_BYTES as usize]);
        Ok(laid_out)
    }

    /// Adds a string with its NUL; gives its address.
    fn append(&mut self, text: &[u8]) -> u32 {
        let addr = self.start + self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        addr
    }

    /// Maps the stack, which grows down to `stack_limit` bytes.
    pub(super) fn map(&self, memory: &Memory, executable: bool, stack_limit: u32) -> Result<(), LoadError> {
        let pointers = (self.argv.len() + self.environment.len()) as u64 * 4;
        let used = self.bytes.len() as u64 + pointers;
        let len = (used + HEADROOM).min(u64::from(stack_limit).max(used + u64::from(2 * page::SIZE)));
        let len = (len as u32).next_multiple_of(page::SIZE);
        let prot = Prot::READ | Prot::WRITE | if executable { Prot::EXEC } else { Prot::NONE };
        let request = MapRequest {
            grows_down: true,
            name: Some("[stack]"),
            ..MapRequest::anonymous(Place::FixedNoReplace(END - len), len, prot)
        };
        memory.map(&request).map_err(|error| no_stack(len.into(), error))?;
        memory.write_bytes(self.start, &self.bytes).map_err(no_page)
    }

    /// Writes the stack's lower part. Gives ESP and the auxiliary vector.
    pub(super) fn finish(&self, memory: &Memory, facts: &Facts) -> Result<(u32, Vec<u8>), LoadError> {
        let platform = (self.start & !15) - PLATFORM.len() as u32;
        let random = platform - 16;
        memory.write_bytes(platform, PLATFORM).map_err(no_page)?;
        memory.write_bytes(random, &host::random()).map_err(no_page)?;

        let identity = host::identity();
        let vector = [
            (at::SYSINFO, facts.vdso.vsyscall),
            (at::SYSINFO_EHDR, facts.vdso.base),
            (at::MINSIGSTKSZ, SIGNAL_STACK_MIN),
            (at::HWCAP, facts.hwcap),
            (at::PAGESZ, page::SIZE),
            (at::CLKTCK, host::clock_ticks()),
            (at::PHDR, facts.headers),
            (at::PHENT, PHDR_BYTES),
            (at::PHNUM, facts.header_count),
            (at::BASE, facts.base),
            (at::FLAGS, 0),
            (at::ENTRY, facts.entry),
            (at::UID, identity.uid),
            (at::EUID, identity.euid),
            (at::GID, identity.gid),
            (at::EGID, identity.egid),
            (at::SECURE, identity.secure),
            (at::RANDOM, random),
            (at::HWCAP2, 0),
            (at::EXECFN, self.exec_name),
            (at::PLATFORM, platform),
            (at::NULL, 0),
        ];
        let auxv: Vec<u8> =
            vector.iter().flat_map(|&(tag, value)| [tag, value]).flat_map(u32::to_le_bytes).collect();

        let argc = self.argv.len() as u32;
        let words: Vec<u32> = std::iter::once(argc)
            .chain(self.argv.iter().copied())
            .chain([0])
            .chain(self.environment.iter().copied())
            .chain([0])
            .collect();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&auxv);
        let esp = (random - bytes.len() as u32) & !15;
        memory.write_bytes(esp, &bytes).map_err(no_page)?;
        Ok((esp, auxv))
    }
}

fn no_stack(bytes: u64, error: MapError) -> LoadError {
    LoadError::Map { what: "the stack", bytes, error }
}

/// The stack could not grow.
fn no_page(_: BadAddress) -> LoadError {
    no_stack(page::SIZE.into(), MapError::NoMemory)
}
