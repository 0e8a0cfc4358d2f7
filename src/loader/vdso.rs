//! The vDSO: a small shared object that Linux maps into every program (vdso(7)).
//!
//! Its functions make system calls, nothing more; but the C library takes its way of entering the kernel from here, signal
//! handlers return through it, debuggers and unwinders know the trampolines by their bytes, and a program's own SYSENTER comes
//! back here.

mod frame;

use super::LoadError;
use crate::memory::{MapRequest, Memory, Place, Prot, VDSO};

/// Bytes of the ELF header, a program header, a symbol, a dynamic entry.
const EHDR: u32 = 52;
const PHDR: u32 = 32;
const SYMBOL: u32 = 16;
const DYNAMIC: u32 = 8;
const SHDR: u16 = 40;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
/// How many of them there are.
const PROGRAM_HEADERS: u32 = 3;
const PF_X: u32 = 1;
const PF_R: u32 = 4;

/// Tags of the dynamic section.
mod dt {
    pub const NULL: u32 = 0;
    pub const HASH: u32 = 4;
    pub const STRTAB: u32 = 5;
    pub const SYMTAB: u32 = 6;
    pub const STRSZ: u32 = 10;
    pub const SYMENT: u32 = 11;
    pub const SONAME: u32 = 14;
    pub const VERSYM: u32 = 0x6fff_fff0;
    pub const VERDEF: u32 = 0x6fff_fffc;
    pub const VERDEFNUM: u32 = 0x6fff_fffd;
}

/// The name and version that the real one has.
const SONAME: &str = "linux-gate.so.1";
/// Indices of the versions in version definitions; 1 is the object itself.
const LINUX_2_6: u16 = 2;
const LINUX_2_5: u16 = 3;
const VERSIONS: [(&str, u16); 3] = [(SONAME, 1), ("LINUX_2.6", LINUX_2_6), ("LINUX_2.5", LINUX_2_5)];

/// `int 0x80`.
const INT_80: [u8; 2] = [0xcd, 0x80];
const NOP: u8 = 0x90;
const RET: u8 = 0xc3;

/// Entry points, as addresses in the guest; as offsets before it is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The ELF header (`AT_SYSINFO_EHDR`).
    pub base: u32,
    /// `__kernel_vsyscall` (`AT_SYSINFO`): makes the system call in EAX.
    pub vsyscall: u32,
    /// `__kernel_sigreturn`: where handlers without SA_SIGINFO return to.
    pub sigreturn: u32,
    /// `__kernel_rt_sigreturn`: where handlers with SA_SIGINFO return to.
    pub rt_sigreturn: u32,
    /// In `__kernel_vsyscall`, behind its `int 0x80`: where SYSENTER comes back. A call to be made again goes back to that.
    pub landing_pad: u32,
}

/// Maps the vDSO wherever there is room.
pub(super) fn map(memory: &Memory) -> Result<Addresses, LoadError> {
    let (image, offsets) = build();
    let bytes = image.len() as u64;
    let request = MapRequest::bytes(Place::Anywhere, image, Prot::READ | Prot::EXEC, Some(VDSO));
    let base = memory.map(&request).map_err(|error| LoadError::Map { what: "the vDSO", bytes, error })?;
    Ok(Addresses {
        base,
        vsyscall: base + offsets.vsyscall,
        sigreturn: base + offsets.sigreturn,
        rt_sigreturn: base + offsets.rt_sigreturn,
        landing_pad: base + offsets.landing_pad,
    })
}

/// A function of the vDSO.
struct Function {
    name: &'static str,
    version: u16,
    code: Vec<u8>,
    /// How to unwind it; nothing for the trampolines, which unwinders know.
    unwind: Vec<u8>,
}

/// What Linux has for processors without SYSENTER: push ecx; push edx; push ebp; int 0x80; pop ebp; pop edx; pop ecx; ret. With
/// SYSENTER, `mov ebp, esp; sysenter` stands before the `int 0x80`.
const VSYSCALL: [u8; 9] = [0x51, 0x52, 0x55, INT_80[0], INT_80[1], 0x5d, 0x5a, 0x59, RET];
/// Bytes of it before the landing pad.
const LANDING_PAD: u32 = 5;

/// A C function of up to three arguments that makes system call `nr` with them, and how to unwind it.
fn wrapper(nr: u32, arguments: usize) -> (Vec<u8>, Vec<u8>) {
    // push ebx; mov eax, nr; mov ebx, [esp+8]; mov ecx, [esp+12]; mov edx, [esp+16]; int 0x80; pop ebx; ret
    const LOADS: [[u8; 4]; 3] = [[0x8b, 0x5c, 0x24, 8], [0x8b, 0x4c, 0x24, 12], [0x8b, 0x54, 0x24, 16]];
    let mut code = vec![0x53, 0xb8];
    code.extend(nr.to_le_bytes());
    code.extend(LOADS[..arguments].concat());
    code.extend(INT_80);
    let pop = code.len() as u8;
    code.extend([0x5b, RET]);
    (code, [frame::pushed(1, frame::EBX, 2), frame::popped(pop, frame::EBX, 1)].concat())
}

/// The functions, with i386's system call numbers.
fn functions() -> Vec<Function> {
    let call = |name, nr, arguments| {
        let (code, unwind) = wrapper(nr, arguments);
        Function { name, version: LINUX_2_6, code, unwind }
    };
    let kernel = |name, code: Vec<u8>| Function { name, version: LINUX_2_5, code, unwind: Vec::new() };
    let unwind = [
        frame::pushed(1, frame::ECX, 2),
        frame::pushed(1, frame::EDX, 3),
        frame::pushed(1, frame::EBP, 4),
        frame::popped(3, frame::EBP, 3),
        frame::popped(1, frame::EDX, 2),
        frame::popped(1, frame::ECX, 1),
    ];
    vec![
        Function { unwind: unwind.concat(), ..kernel("__kernel_vsyscall", VSYSCALL.to_vec()) },
        // pop eax; mov eax, 119; int 0x80
        kernel("__kernel_sigreturn", vec![0x58, 0xb8, 119, 0, 0, 0, INT_80[0], INT_80[1]]),
        // mov eax, 173; int 0x80
        kernel("__kernel_rt_sigreturn", vec![0xb8, 173, 0, 0, 0, INT_80[0], INT_80[1]]),
        call("__vdso_time", 13, 1),
        call("__vdso_gettimeofday", 78, 2),
        call("__vdso_clock_gettime", 265, 2),
        call("__vdso_clock_gettime64", 403, 2),
        call("__vdso_clock_getres", 266, 2),
        call("__vdso_getcpu", 318, 3),
    ]
}

/// The hash of System V's `DT_HASH` and of versions.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, byte| {
        let hash = (hash << 4).wrapping_add(byte.into());
        let high = hash & 0xf000_0000;
        (hash ^ high >> 24) & !high
    })
}

/// Little-endian words of a section.
fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn halves(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// NUL-terminated names, found again by offset.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        let at = self.0.len() as u32;
        self.0.extend(text.bytes().chain([0]));
        at
    }
}

/// An image under construction; sections are appended at multiples of 16 bytes.
struct Image(Vec<u8>);

impl Image {
    /// Where the next section will be.
    fn next(&self) -> u32 {
        self.0.len().next_multiple_of(16) as u32
    }

    fn append(&mut self, section: &[u8]) -> u32 {
        let at = self.next();
        self.0.resize(at as usize, 0);
        self.0.extend_from_slice(section);
        at
    }
}

/// The image, and its entry points as offsets in it.
fn build() -> (Vec<u8>, Addresses) {
    let functions = functions();
    let mut image = Image(vec![0; (EHDR + PROGRAM_HEADERS * PHDR) as usize]);
    let mut strings = Strings::default();
    strings.add("");

    let mut code_at = Vec::new();
    for function in &functions {
        // Unwinders look up the address before a return address, which must not belong to the function before.
        let code = [&[NOP; 16][..], &function.code].concat();
        code_at.push(image.append(&code) + 16);
    }

    let mut symbols = words(&[0; 4]);
    let mut versions = vec![0];
    for (function, &at) in functions.iter().zip(&code_at) {
        const GLOBAL_FUNCTION: u32 = 1 << 4 | 2;
        let name = strings.add(function.name);
        let len = function.code.len() as u32;
        symbols.extend(words(&[name, at, len, TEXT << 16 | GLOBAL_FUNCTION]));
        versions.push(function.version);
    }
    let count = versions.len() as u32;
    // One bucket, which chains all symbols.
    let chain = (1..count).map(|index| if index + 1 < count { index + 1 } else { 0 });
    let hashes: Vec<u32> = [1, count, 1, 0].into_iter().chain(chain).collect();

    let mut definitions = Vec::new();
    for (index, (name, version)) in VERSIONS.into_iter().enumerate() {
        const DEFINITION: u32 = 20;
        const AUXILIARY: u32 = 8;
        const BASE: u16 = 1;
        let next = if index + 1 < VERSIONS.len() { DEFINITION + AUXILIARY } else { 0 };
        let flags = if version == 1 { BASE } else { 0 };
        let at = strings.add(name);
        definitions.extend(halves(&[1, flags, version, 1]));
        definitions.extend(words(&[hash(name), DEFINITION, next, at, 0]));
    }
    let soname = strings.add(SONAME);

    let hash_at = image.append(&words(&hashes));
    let symbols_at = image.append(&symbols);
    let strings_at = image.append(&strings.0);
    let versym_at = image.append(&halves(&versions));
    let verdef_at = image.append(&definitions);
    let dynamic = [
        [dt::SONAME, soname],
        [dt::HASH, hash_at],
        [dt::STRTAB, strings_at],
        [dt::SYMTAB, symbols_at],
        [dt::STRSZ, strings.0.len() as u32],
        [dt::SYMENT, SYMBOL],
        [dt::VERDEF, verdef_at],
        [dt::VERDEFNUM, VERSIONS.len() as u32],
        [dt::VERSYM, versym_at],
        [dt::NULL, 0],
    ]
    .concat();
    let dynamic_at = image.append(&words(&dynamic));

    let unwound: Vec<(u32, u32, &[u8])> = functions
        .iter()
        .zip(&code_at)
        .filter(|(function, _)| !function.unwind.is_empty())
        .map(|(function, &at)| (at, function.code.len() as u32, &function.unwind[..]))
        .collect();
    let frames_at = image.next();
    let (frames, records) = frame::section(frames_at, &unwound);
    image.append(&frames);
    let entries: Vec<(u32, u32)> = unwound.iter().map(|(at, ..)| *at).zip(records).collect();
    let table_at = image.next();
    let table = frame::table(table_at, frames_at, &entries);
    image.append(&table);

    let code_end = code_at.iter().zip(&functions).map(|(at, function)| at + function.code.len() as u32).max();
    let pieces = [
        (code_at[0], code_end.unwrap_or(0) - code_at[0]),
        (symbols_at, count * SYMBOL),
        (strings_at, strings.0.len() as u32),
        (dynamic_at, dynamic.len() as u32 * 4),
        (frames_at, frames.len() as u32),
        (table_at, table.len() as u32),
    ];
    let sections_at = append_sections(&mut image, &pieces);

    let mut image = image.0;
    let headers = Headers {
        entry: code_at[0],
        len: image.len() as u32,
        dynamic: (dynamic_at, dynamic.len() as u32 * 4),
        table: (table_at, table.len() as u32),
        sections_at,
    };
    let headers = headers.bytes();
    image[..headers.len()].copy_from_slice(&headers);
    let offsets = Addresses {
        base: 0,
        vsyscall: code_at[0],
        sigreturn: code_at[1],
        rt_sigreturn: code_at[2],
        landing_pad: code_at[0] + LANDING_PAD,
    };
    (image, offsets)
}

/// The sections that debuggers look for, in the order in which [`build`] gives their places: names, types, flags, and what the last
/// three fields of their headers are.
const SECTIONS: [(&str, [u32; 2], [u32; 4]); 6] = [
    (".text", [SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR], [0, 0, 16, 0]),
    (".dynsym", [SHT_DYNSYM, SHF_ALLOC], [DYNSTR, 1, 4, SYMBOL]),
    (".dynstr", [SHT_STRTAB, SHF_ALLOC], [0, 0, 1, 0]),
    (".dynamic", [SHT_DYNAMIC, SHF_ALLOC], [DYNSTR, 0, 4, DYNAMIC]),
    (".eh_frame", [SHT_PROGBITS, SHF_ALLOC], [0, 0, 4, 0]),
    (".eh_frame_hdr", [SHT_PROGBITS, SHF_ALLOC], [0, 0, 4, 0]),
];
/// Numbers of two of them; 0 is none.
const TEXT: u32 = 1;
const DYNSTR: u32 = 3;
const SHT_PROGBITS: u32 = 1;
const SHT_STRTAB: u32 = 3;
const SHT_DYNAMIC: u32 = 6;
const SHT_DYNSYM: u32 = 11;
const SHF_ALLOC: u32 = 2;
const SHF_EXECINSTR: u32 = 4;

/// Appends the sections' names, and headers for pieces with these places and lengths; gives where the headers are.
fn append_sections(image: &mut Image, pieces: &[(u32, u32)]) -> u32 {
    let mut names = Strings::default();
    names.add("");
    let mut headers = words(&[0; 10]);
    for ((name, [kind, flags], [link, info, align, entry]), &(at, len)) in SECTIONS.into_iter().zip(pieces) {
        headers.extend(words(&[names.add(name), kind, flags, at, at, len, link, info, align, entry]));
    }
    let own = names.add(".shstrtab");
    let at = image.append(&names.0);
    headers.extend(words(&[own, SHT_STRTAB, 0, 0, at, names.0.len() as u32, 0, 0, 1, 0]));
    image.append(&headers)
}

/// What the ELF header and the program headers say.
struct Headers {
    entry: u32,
    len: u32,
    /// Places and lengths.
    dynamic: (u32, u32),
    table: (u32, u32),
    sections_at: u32,
}

impl Headers {
    fn bytes(&self) -> Vec<u8> {
        const ET_DYN: u16 = 3;
        const EM_386: u16 = 3;
        // The one before the first, and the names' behind the last.
        const SECTION_HEADERS: u16 = SECTIONS.len() as u16 + 2;
        let Headers { entry, len, dynamic: (dynamic_at, dynamic_len), table: (table_at, table_len), .. } =
            *self;
        let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
        bytes.resize(16, 0);
        bytes.extend(halves(&[ET_DYN, EM_386]));
        bytes.extend(words(&[1, entry, EHDR, self.sections_at, 0]));
        let [ehdr, phdr, phnum] = [EHDR, PHDR, PROGRAM_HEADERS].map(|value| value as u16);
        bytes.extend(halves(&[ehdr, phdr, phnum, SHDR, SECTION_HEADERS, SECTION_HEADERS - 1]));
        bytes.extend(words(&[PT_LOAD, 0, 0, 0, len, len, PF_R | PF_X, 0x1000]));
        bytes.extend(words(&[
            PT_DYNAMIC,
            dynamic_at,
            dynamic_at,
            dynamic_at,
            dynamic_len,
            dynamic_len,
            PF_R,
            4,
        ]));
        bytes.extend(words(&[PT_GNU_EH_FRAME, table_at, table_at, table_at, table_len, table_len, PF_R, 4]));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin::elf::Elf;

    #[test]
    fn the_image_is_a_shared_object_with_versioned_functions() {
        let (image, offsets) = build();
        assert!(image.len() <= 4096, "one page");
        let elf = Elf::parse(&image).expect("valid ELF");
        assert_eq!(elf.soname, Some(SONAME));
        let tag = |tag: u32| {
            let dynamic = elf.dynamic.as_ref().expect("dynamic section");
            dynamic.dyns.iter().find(|entry| entry.d_tag == u64::from(tag)).expect("tag").d_val as usize
        };
        let half = |at: usize| u16::from_le_bytes([image[at], image[at + 1]]);
        let word =
            |at: usize| u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]]) as usize;
        // Definitions by index: their name and its hash, along the links that a look-up follows.
        let mut definitions = std::collections::HashMap::new();
        let mut at = tag(dt::VERDEF);
        for _ in 0..tag(dt::VERDEFNUM) {
            let name = elf.dynstrtab.get_at(word(at + word(at + 12))).expect("a name");
            assert_eq!(word(at + 8), hash(name) as usize, "{name}");
            definitions.insert(half(at + 4), name);
            at += word(at + 16);
        }
        for function in functions() {
            let (index, symbol) = elf
                .dynsyms
                .iter()
                .enumerate()
                .find(|(_, symbol)| elf.dynstrtab.get_at(symbol.st_name) == Some(function.name))
                .expect(function.name);
            let code = &image[symbol.st_value as usize..][..symbol.st_size as usize];
            assert_eq!(code, function.code, "{}", function.name);
            let version = definitions[&half(tag(dt::VERSYM) + 2 * index)];
            let expected = if function.name.starts_with("__kernel") { "LINUX_2.5" } else { "LINUX_2.6" };
            assert_eq!(version, expected, "{}", function.name);
        }
        assert_eq!(image[offsets.sigreturn as usize..][..8], [0x58, 0xb8, 0x77, 0, 0, 0, 0xcd, 0x80]);
        assert_eq!(image[offsets.rt_sigreturn as usize..][..7], [0xb8, 0xad, 0, 0, 0, 0xcd, 0x80]);
        assert_eq!(image[offsets.landing_pad as usize - 2..][..6], [0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3]);
    }

    #[test]
    fn debuggers_find_its_sections() {
        let (image, _) = build();
        let elf = Elf::parse(&image).expect("valid ELF");
        let name = |at: usize| elf.shdr_strtab.get_at(at);
        let names: Vec<_> = elf.section_headers.iter().filter_map(|section| name(section.sh_name)).collect();
        let expected = SECTIONS.iter().map(|(name, ..)| *name);
        assert!(names.iter().copied().eq([""].into_iter().chain(expected).chain([".shstrtab"])), "{names:?}");
        assert_eq!(name(elf.section_headers[TEXT as usize].sh_name), Some(".text"));
        assert_eq!(name(elf.section_headers[DYNSTR as usize].sh_name), Some(".dynstr"));
    }

    #[test]
    fn names_hash_as_the_c_library_has_them() {
        // The values that glibc's look-up of vDSO symbols carries for these versions.
        assert_eq!(hash("LINUX_2.6"), 61_765_110);
        assert_eq!(hash("LINUX_2.5"), 61_765_109);
    }
}
