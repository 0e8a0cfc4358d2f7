//! Synthetic programs: what is loaded where, what is refused, and that nothing hostile does more than be refused.

use super::*;
use crate::memory::{END, Prot};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;

const R: u32 = 4;
const W: u32 = 2;
const X: u32 = 1;

/// Words of a program header: type, offset, address, physical address, bytes in the file and in memory, flags, alignment.
type Header = [u32; 8];

fn load_header(offset: u32, addr: u32, file: u32, memory: u32, flags: u32) -> Header {
    [PT_LOAD, offset, addr, addr, file, memory, flags, 0x1000]
}

/// An ELF file: header, program headers, then bytes that tell their offset, up to `len`.
fn elf_file(kind: u16, headers: &[Header], len: usize) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x01\x01\x01".to_vec();
    bytes.resize(16, 0);
    for half in [kind, 3] {
        bytes.extend(half.to_le_bytes());
    }
    let entry = headers.first().map_or(0, |header| header[2]);
    for word in [1, entry, 52, 0, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for half in [52, 32, headers.len() as u16, 40, 0, 0] {
        bytes.extend(u16::to_le_bytes(half));
    }
    for word in headers.iter().flatten() {
        bytes.extend(word.to_le_bytes());
    }
    let at = bytes.len();
    bytes.extend((at..len.max(at)).map(|offset| offset as u8 | 1));
    bytes
}

/// A file with these bytes, removed when it is dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new(bytes: &[u8]) -> Temporary {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("table86-loader-{}-{number}", std::process::id()));
        File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("temporary file");
        Temporary(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn strings(list: &[&str]) -> Vec<OsString> {
    list.iter().map(OsString::from).collect()
}

fn load_bytes(bytes: &[u8], options: &Options) -> Result<(Memory, Loaded), LoadError> {
    let file = Temporary::new(bytes);
    let memory = Memory::new().expect("reservation");
    let program = Program::open(&file.0, strings(&["prog", "one"]), strings(&["A=1"]))?;
    let loaded = load(&memory, &mut Cpu::new(), program, options)?;
    Ok((memory, loaded))
}

fn load_elf_file(bytes: &[u8]) -> Result<(Memory, Loaded), LoadError> {
    load_bytes(bytes, &Options::default())
}

/// Protection of the page at `addr`, as in `/proc/self/maps`.
fn protection(memory: &Memory, addr: u32) -> Option<Prot> {
    memory.region_at(addr).map(|region| region.prot)
}

const CODE: u32 = 0x0804_8000;
const NO_EXEC_STACK: Header = [PT_GNU_STACK, 0, 0, 0, 0, 0, R | W, 16];

#[test]
fn segments_are_where_their_headers_say() {
    let headers = [
        load_header(0, CODE, 0x800, 0x800, R | X),
        load_header(0x800, CODE + 0x1800, 0x300, 0x3000, R | W),
        NO_EXEC_STACK,
    ];
    let bytes = elf_file(2, &headers, 0x1000);
    let (memory, loaded) = load_elf_file(&bytes).expect("sound");
    assert_eq!((loaded.entry, loaded.base, loaded.interpreter_base), (CODE, 0, 0));
    assert_eq!(loaded.brk_start, CODE + 0x5000);
    assert!(!loaded.read_implies_exec);
    assert_eq!(protection(&memory, CODE), Some(Prot::READ | Prot::EXEC));
    assert_eq!(protection(&memory, CODE + 0x1800), Some(Prot::READ | Prot::WRITE));
    assert_eq!(protection(&memory, CODE + 0x5000), None);
    let mut data = vec![0; 0x3000];
    memory.read_bytes(CODE + 0x1800, &mut data).expect("mapped");
    assert_eq!(data[..0x300], bytes[0x800..0xb00]);
    assert!(data[0x300..].iter().all(|&byte| byte == 0), "bss is zero");
}

#[test]
fn programs_below_what_the_host_allows_are_loaded_all_the_same() {
    for addr in [0, 0x1000, 0xf000] {
        let headers = [
            load_header(0, addr, 0x200, 0x200, R | X),
            load_header(0x200, addr + 0x1200, 0x100, 0x1000, R | W),
            NO_EXEC_STACK,
        ];
        let bytes = elf_file(2, &headers, 0x300);
        let (memory, loaded) = load_elf_file(&bytes).expect("sound");
        assert_eq!((loaded.entry, loaded.base, loaded.brk_start), (addr, 0, addr + 0x3000));
        assert_eq!(protection(&memory, addr), Some(Prot::READ | Prot::EXEC));
        let mut text = vec![0; 0x200];
        memory.read_bytes(addr, &mut text).expect("mapped");
        assert_eq!(text[..], bytes[..0x200]);
        assert_eq!(auxiliary(&loaded.auxv, stack::at::PHDR), Some(addr + 52));
    }
}

#[test]
fn programs_that_do_not_say_what_their_stack_needs_may_execute_all_they_read() {
    let stack_of = |memory: &Memory| protection(memory, END - 1);
    let segment = load_header(0, CODE, 0x200, 0x200, R);
    for (header, implied, stack) in [
        (None, true, Prot::from_bits(7)),
        (Some([PT_GNU_STACK, 0, 0, 0, 0, 0, R | W | X, 16]), false, Prot::from_bits(7)),
        (Some(NO_EXEC_STACK), false, Prot::from_bits(3)),
    ] {
        let headers: Vec<Header> = [segment].into_iter().chain(header).collect();
        let (memory, loaded) = load_elf_file(&elf_file(2, &headers, 0x200)).expect("sound");
        assert_eq!(loaded.read_implies_exec, implied);
        assert_eq!(stack_of(&memory), Some(stack));
        let code = protection(&memory, CODE).expect("mapped");
        assert_eq!(code.contains(Prot::EXEC), implied);
    }
}

#[test]
fn relocatable_programs_without_a_linker_leave_the_heap_its_room() {
    let mut aligned = load_header(0, 0, 0x200, 0x200, R | X);
    aligned[7] = 0x1_0000;
    for header in
        [load_header(0, 0, 0x200, 0x200, R | X), load_header(0, 0x3000, 0x200, 0x200, R | X), aligned]
    {
        let (memory, loaded) = load_elf_file(&elf_file(3, &[header], 0x200)).expect("sound");
        assert_eq!(loaded.entry, loaded.base.wrapping_add(header[2]));
        assert!(protection(&memory, loaded.entry).is_some_and(|prot| prot.contains(Prot::EXEC)));
        assert_eq!(loaded.entry % header[7], 0);
        assert_eq!(loaded.brk_start, 0x5655_5000);
    }
}

#[test]
fn the_dynamic_linker_runs_first_and_the_program_lies_at_two_thirds() {
    let linker = Temporary::new(&elf_file(3, &[load_header(0, 0, 0x200, 0x200, R | X)], 0x200));
    let name = linker.0.to_str().expect("UTF-8").to_owned() + "\0";
    let headers_len = 52 + 32 * 2;
    let interp = [PT_INTERP, headers_len, 0, 0, name.len() as u32, name.len() as u32, R, 1];
    let mut bytes = elf_file(3, &[load_header(0, 0, 0x200, 0x200, R | X), interp], 0);
    bytes.extend(name.as_bytes());
    bytes.resize(0x200, 0);
    let (_, loaded) = load_elf_file(&bytes).expect("sound");
    assert_eq!(loaded.base, 0x5655_5000);
    assert_eq!(loaded.entry, loaded.interpreter_base);
    assert_eq!(loaded.brk_start, 0x5655_6000);
    let value = |tag| auxiliary(&loaded.auxv, tag);
    assert_eq!(value(stack::at::BASE), Some(loaded.interpreter_base));
    assert_eq!(value(stack::at::ENTRY), Some(loaded.base));
    assert_eq!(value(stack::at::PHDR), Some(loaded.base + 52));
    assert_eq!(value(stack::at::PHNUM), Some(2));

    drop(linker);
    let error = load_elf_file(&bytes).map(|_| ()).expect_err("no linker");
    assert!(error.is_not_found() && error.to_string().contains("give -L SYSROOT"), "{error}");
}

fn auxiliary(auxv: &[u8], tag: u32) -> Option<u32> {
    let words: Vec<u32> =
        auxv.chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four"))).collect();
    words.chunks_exact(2).find(|pair| pair[0] == tag).map(|pair| pair[1])
}

#[test]
fn broken_elf_files_are_refused_for_what_is_wrong() {
    let good = || load_header(0, CODE, 0x200, 0x200, R | X);
    let with = |index: usize, value: u32| {
        let mut header = good();
        header[index] = value;
        elf_file(2, &[header], 0x200)
    };
    let patched = |at: usize, values: &[u8]| {
        let mut bytes = elf_file(2, &[good()], 0x200);
        bytes[at..at + values.len()].copy_from_slice(values);
        bytes
    };
    let truncated = |len: usize| elf_file(2, &[good()], 0x200)[..len].to_vec();
    let interp =
        |offset: u32, len: u32| elf_file(2, &[good(), [PT_INTERP, offset, 0, 0, len, len, R, 1]], 0x200);
    for (bytes, message) in [
        (patched(18, &[62, 0]), "ELF for x86-64"),
        (patched(4, &[2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 62, 0]), "64-bit ELF (x86-64)"),
        (patched(4, &[2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 183, 0]), "64-bit ELF (AArch64)"),
        (patched(18, &[40, 0]), "ELF for ARM"),
        (patched(5, &[2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 20]), "ELF for PowerPC"),
        (patched(18, &[0xff, 0xee]), "ELF for machine 61183"),
        (patched(16, &[1, 0]), "object file"),
        (patched(16, &[4, 0]), "core dump"),
        (patched(16, &[9, 9]), "unknown type 2313"),
        (patched(44, &[0, 0]), "without program headers"),
        (patched(42, &[56, 0]), "program headers of 56 bytes"),
        (patched(44, &[0xff, 0xff]), "with 65535 program headers"),
        (patched(44, &[0, 8]), "truncated ELF file: the table of program headers"),
        (patched(28, &[0xff, 0xff, 0xff, 0xff]), "truncated ELF file: the table of program headers"),
        (truncated(4), "truncated ELF file: the ELF header"),
        (truncated(19), "truncated ELF file: the ELF header"),
        (truncated(40), "truncated ELF file: the ELF header"),
        (truncated(60), "truncated ELF file: the table of program headers"),
        (truncated(0x1ff), "truncated ELF file: a segment needs 512 bytes, the file has 511"),
        (with(0, 4), "without segments"),
        (with(5, 0x1ff), "512 bytes in the file, but only 511 in memory"),
        (with(5, 0xffff_ffff), "leave the address space"),
        (with(5, 0xf800_0000), "leave the address space"),
        (with(2, 0xffff_f000), "leave the address space"),
        (with(2, 0xffff_d000), "are taken"),
        (with(2, CODE + 4), "differ within a page"),
        (with(1, 0xffff_f000), "truncated ELF file: a segment"),
        (
            elf_file(2, &[good(), load_header(0, CODE, 0x200, 0x200, R)], 0x200),
            "broken ELF segment 1: it overlaps segment 0",
        ),
        (
            elf_file(
                2,
                &[load_header(0x100, CODE + 0x100, 1, 1, R), load_header(0, CODE, 0x101, 0x101, R)],
                0x200,
            ),
            "overlaps segment",
        ),
        (interp(0x100, 0), "the interpreter's path has 0 bytes"),
        (interp(0x100, 5000), "the interpreter's path has 5000 bytes"),
        (interp(0x100, 0x10), "does not end in a NUL"),
        (interp(0xffff_fff0, 0x20), "truncated ELF file: the interpreter's path"),
    ] {
        let error = load_elf_file(&bytes).err().unwrap_or_else(|| panic!("loaded, not: {message}"));
        assert!(error.to_string().contains(message), "`{error}` instead of `{message}`");
    }
}

#[test]
fn a_header_that_the_files_end_cuts_off_is_as_if_zeros_followed() {
    // 45 bytes that Linux runs: the program header lies over the ELF header, the code in fields that nobody reads.
    const ENTRY: u32 = 0x0001_0020;
    let mut bytes = vec![0; 45];
    let header = [PT_LOAD, 0, 0x0001_0000, 0x0003_0002, 45, ENTRY, R, 0];
    for (index, word) in header.iter().enumerate() {
        bytes[4 + index * 4..][..4].copy_from_slice(&word.to_le_bytes());
    }
    bytes[..4].copy_from_slice(b"\x7fELF");
    bytes[28..32].copy_from_slice(&4_u32.to_le_bytes());
    bytes[32..39].copy_from_slice(&[0xb3, 42, 0x31, 0xc0, 0x40, 0xcd, 0x80]);
    bytes[42..45].copy_from_slice(&[32, 0, 1]);
    let (memory, loaded) = load_elf_file(&bytes).expect("sound");
    assert_eq!(loaded.entry, ENTRY);
    assert_eq!(memory.read::<[u8; 7]>(ENTRY), Ok([0xb3, 42, 0x31, 0xc0, 0x40, 0xcd, 0x80]));
    assert!(protection(&memory, ENTRY).is_some_and(|prot| prot.contains(Prot::EXEC)));
}

#[test]
fn flat_images_and_listings_get_zeros_behind_them() {
    let options = Options { format: Some(Format::Flat), ..Options::default() };
    for (org, entry) in
        [(None, None), (Some(0x7c00), None), (Some(0x1234), Some(0x1236)), (Some(0x1000_0000), None)]
    {
        let options = Options { org, entry, ..options.clone() };
        let (memory, loaded) = load_bytes(&[0x90, 0xcd, 0x80], &options).expect("fits");
        let org = org.unwrap_or(0);
        assert_eq!(loaded.entry, entry.unwrap_or(org));
        assert_eq!(memory.read::<u32>(org), Ok(0x0080_cd90));
        assert_eq!(memory.write(org + flat::ROOM, 1_u32), Ok(()));
        assert!(loaded.brk_start > org + flat::ROOM && loaded.brk_start % 4096 == 0);
    }
    let (memory, _) = load_bytes(b"90 cd 80 ; comment", &Options::default()).expect("a listing");
    assert_eq!(memory.read::<u32>(0), Ok(0x0080_cd90));
}

#[test]
fn images_that_do_not_fit_are_refused() {
    let flat = Options { format: Some(Format::Flat), ..Options::default() };
    for (len, org, memory_bytes, message) in [
        (0x1_0000, None, Some(0x8000), "65536 bytes do not fit into the 32768"),
        (0x1_0000, None, Some(0x1_8000), "see --memory"),
        (16, Some(0xffff_fff8), None, "leave the address space"),
        (16, Some(0xffff_dff8), None, "reach into the stack"),
        (16, Some(0xffff_dff0), None, "reach into the stack"),
        (0, None, None, "empty file"),
    ] {
        let options = Options { org, memory_bytes, ..flat.clone() };
        let error = load_bytes(&vec![0x90; len], &options).map(|_| ()).expect_err(message);
        assert!(error.to_string().contains(message), "`{error}` instead of `{message}`");
    }
}

#[test]
fn scripts_are_followed_to_a_program() {
    let program = Temporary::new(&elf_file(2, &[load_header(0, CODE, 0x200, 0x200, R | X)], 0x200));
    let mut files = vec![program];
    for depth in 1..=SCRIPTS_MAX + 1 {
        let line = format!("#! {} -x {depth} \nrest", files[depth - 1].0.display());
        files.push(Temporary::new(line.as_bytes()));
        let memory = Memory::new().expect("reservation");
        let script = Program::open(&files[depth].0, strings(&["zero", "one"]), vec![]).expect("a file");
        let loaded = load(&memory, &mut Cpu::new(), script, &Options::default());
        if depth > SCRIPTS_MAX {
            assert!(matches!(loaded, Err(LoadError::TooManyScripts)));
            continue;
        }
        let loaded = loaded.expect("interpreted");
        assert_eq!(loaded.exec_name, files[depth].0);
        assert_eq!(loaded.exe_path, std::fs::canonicalize(&files[0].0).expect("there"));
        let mut argv: Vec<OsString> = Vec::new();
        for inner in 1..=depth {
            argv.push(files[inner - 1].0.clone().into());
            argv.push(format!("-x {inner}").into());
        }
        argv.push(files[depth].0.clone().into());
        argv.push("one".into());
        assert_eq!(loaded.argv, argv);
    }
    for (text, message) in [
        ("#!", "first line"),
        ("#!   \n", "first line"),
        ("#!/no/such/interpreter -e\n", "interpreter /no/such/interpreter not found"),
        ("#!/\n", "interpreter /: a directory"),
    ] {
        let error = load_bytes(text.as_bytes(), &Options::default()).map(|_| ()).expect_err(text);
        assert!(error.to_string().contains(message), "{text}: {error}");
    }
}

#[test]
fn the_stack_has_what_execve_says() {
    let bytes = elf_file(2, &[load_header(0, CODE, 0x200, 0x200, R | X)], 0x200);
    let (memory, loaded) = load_elf_file(&bytes).expect("sound");
    assert_eq!(loaded.stack % 16, 0);
    let word = |index: u32| memory.read::<u32>(loaded.stack + index * 4).expect("mapped");
    let string = |addr: u32| String::from_utf8(memory.read_cstr(addr, 4096).expect("mapped")).expect("UTF-8");
    assert_eq!(word(0), 2);
    assert_eq!([string(word(1)), string(word(2)), string(word(4))], ["prog", "one", "A=1"]);
    assert_eq!([word(3), word(5)], [0, 0]);
    let mut auxv = vec![0; loaded.auxv.len()];
    memory.read_bytes(loaded.stack + 6 * 4, &mut auxv).expect("mapped");
    assert_eq!(auxv, loaded.auxv);
    let value = |tag| auxiliary(&auxv, tag).expect("there");
    use stack::at;
    assert_eq!(string(value(at::PLATFORM)), "i686");
    assert_eq!(loaded.exec_name, *string(value(at::EXECFN)));
    assert_eq!(value(at::PAGESZ), 4096);
    assert_eq!((value(at::PHDR), value(at::PHENT), value(at::PHNUM)), (CODE + 52, 32, 1));
    assert_eq!((value(at::ENTRY), value(at::BASE)), (CODE, 0));
    assert_eq!(memory.read::<u32>(value(at::SYSINFO_EHDR)), Ok(u32::from_le_bytes(*b"\x7fELF")));
    // push ecx; push edx; push ebp
    assert_eq!(memory.read::<[u8; 3]>(value(at::SYSINFO)), Ok([0x51, 0x52, 0x55]));
    // Strings lie in order up to the name executed and eight zeros.
    assert_eq!(word(2), word(1) + 5);
    assert_eq!(value(at::EXECFN) + loaded.exec_name.len() as u32 + 1 + 8, END);
}

#[test]
fn too_long_arguments_are_refused() {
    let bytes = elf_file(2, &[load_header(0, CODE, 0x200, 0x200, R | X)], 0x200);
    let file = Temporary::new(&bytes);
    let load_with = |argv: Vec<OsString>| {
        let memory = Memory::new().expect("reservation");
        let program = Program::open(&file.0, argv, vec![]).expect("a file");
        let options = Options { stack_bytes: Some(8 << 20), ..Options::default() };
        load(&memory, &mut Cpu::new(), program, &options).map(|_| ())
    };
    let text = |len: usize| OsString::from("x".repeat(len));
    assert!(load_with(vec![text((128 << 10) - 1)]).is_ok());
    assert!(matches!(load_with(vec![text(128 << 10)]), Err(LoadError::ArgumentsTooLong { .. })));
    assert!(load_with(vec![text(100 << 10); 20]).is_ok());
    assert!(matches!(load_with(vec![text(100 << 10); 21]), Err(LoadError::ArgumentsTooLong { .. })));
}

/// Loads within a limit of memory and of time.
fn load_limited(bytes: &[u8]) {
    let options = Options { memory_bytes: Some(64 << 20), format: Some(Format::Elf), ..Options::default() };
    let start = Instant::now();
    let _ = load_bytes(bytes, &options);
    assert!(start.elapsed() < Duration::from_secs(1));
}

proptest! {
    #[test]
    fn no_elf_header_is_more_than_refused(
        kind in 0_u16..5,
        headers in proptest::collection::vec(
            proptest::array::uniform8(prop_oneof![
                0_u32..8, Just(PT_GNU_STACK), Just(0x1000), Just(0x200), Just(CODE), Just(0xffff_f000), any::<u32>()
            ]),
            0..6,
        ),
        len in 0_usize..0x3000,
    ) {
        load_limited(&elf_file(kind, &headers, len));
    }

    #[test]
    fn no_change_of_a_few_bytes_is_more_than_refused(
        changes in proptest::collection::vec((0_usize..0xb4, prop_oneof![Just(0), Just(0xff), any::<u8>()]), 1..6),
        len in 0_usize..0x2000,
    ) {
        let headers = [load_header(0, CODE, 0x800, 0x800, R | X), load_header(0x800, CODE + 0x1800, 0x300, 0x3000, R | W), NO_EXEC_STACK];
        let mut bytes = elf_file(2, &headers, 0x1000);
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(len);
        load_limited(&bytes);
    }

    #[test]
    fn code_of_no_file_is_more_than_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..52) {
        let mut file = elf_file(2, &[load_header(0, CODE, 0x200, 0x200, R | X)], 0x200);
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        let file = Temporary::new(&file);
        let _ = code::read(&file.0, None, 0);
    }
}
