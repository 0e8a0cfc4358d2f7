//! What gdb asks about the process: the target's description, libraries, memory, files.

use super::Hub;
use crate::debug::symbols::Symbols;
use crate::kernel::paths;
use crate::memory::Memory;
use std::fmt::Write;
use std::os::unix::ffi::OsStringExt;

/// Tags of the auxiliary vector and of dynamic sections (elf(5)).
mod tag {
    pub const AT_PHDR: u32 = 3;
    pub const AT_PHENT: u32 = 4;
    pub const AT_PHNUM: u32 = 5;
    pub const PT_PHDR: u32 = 6;
    pub const PT_DYNAMIC: u32 = 2;
    pub const DT_DEBUG: u32 = 21;
}

/// Namespaces that are shown; dlmopen(3) has no more than 16.
const MOST_NAMESPACES: usize = 64;
/// Libraries that a list is followed over.
const MOST_LIBRARIES: usize = 10_000;
/// Longest name of one.
const NAME_MAX: usize = 4096;

/// The registers in the order in which `X86CoreRegs` has them, as features that gdb knows ("Standard Target Features", i386).
pub fn target_description() -> String {
    let mut text = String::from(
        "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">\
         <architecture>i386</architecture><osabi>GNU/Linux</osabi><feature name=\"org.gnu.gdb.i386.core\">\
         <flags id=\"i386_eflags\" size=\"4\">",
    );
    let flags = [
        ("CF", 0),
        ("", 1),
        ("PF", 2),
        ("AF", 4),
        ("ZF", 6),
        ("SF", 7),
        ("TF", 8),
        ("IF", 9),
        ("DF", 10),
        ("OF", 11),
        ("NT", 14),
        ("RF", 16),
        ("VM", 17),
        ("AC", 18),
        ("VIF", 19),
        ("VIP", 20),
        ("ID", 21),
    ];
    for (name, bit) in flags {
        let _ = write!(text, "<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>");
    }
    text.push_str("</flags>");
    let mut register = |name: &str, bits: u32, kind: &str, group: &str| {
        let group = if group.is_empty() { String::new() } else { format!(" group=\"{group}\"") };
        let _ = write!(text, "<reg name=\"{name}\" bitsize=\"{bits}\" type=\"{kind}\"{group}/>");
    };
    for name in ["eax", "ecx", "edx", "ebx"] {
        register(name, 32, "int32", "");
    }
    for name in ["esp", "ebp"] {
        register(name, 32, "data_ptr", "");
    }
    for name in ["esi", "edi"] {
        register(name, 32, "int32", "");
    }
    register("eip", 32, "code_ptr", "");
    register("eflags", 32, "i386_eflags", "");
    for name in ["cs", "ss", "ds", "es", "fs", "gs"] {
        register(name, 32, "int32", "");
    }
    for number in 0..8 {
        register(&format!("st{number}"), 80, "i387_ext", "");
    }
    for name in ["fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"] {
        register(name, 32, "int", "float");
    }
    text.push_str("</feature><feature name=\"org.gnu.gdb.i386.sse\">");
    let vectors = [
        ("v4f", "ieee_single", 4),
        ("v2d", "ieee_double", 2),
        ("v16i8", "int8", 16),
        ("v8i16", "int16", 8),
        ("v4i32", "int32", 4),
        ("v2i64", "int64", 2),
    ];
    for (id, kind, count) in vectors {
        let _ = write!(text, "<vector id=\"{id}\" type=\"{kind}\" count=\"{count}\"/>");
    }
    text.push_str("<union id=\"vec128\">");
    let views = ["v4_float", "v2_double", "v16_int8", "v8_int16", "v4_int32", "v2_int64"];
    for (name, (id, ..)) in views.iter().zip(vectors) {
        let _ = write!(text, "<field name=\"{name}\" type=\"{id}\"/>");
    }
    text.push_str("<field name=\"uint128\" type=\"uint128\"/></union><flags id=\"i386_mxcsr\" size=\"4\">");
    let mxcsr = ["IE", "DE", "ZE", "OE", "UE", "PE", "DAZ", "IM", "DM", "ZM", "OM", "UM", "PM", "", "", "FZ"];
    for (bit, name) in mxcsr.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let _ = write!(text, "<field name=\"{name}\" start=\"{bit}\" end=\"{bit}\"/>");
    }
    text.push_str("</flags>");
    for number in 0..8 {
        let _ = write!(text, "<reg name=\"xmm{number}\" bitsize=\"128\" type=\"vec128\"/>");
    }
    text.push_str(
        "<reg name=\"mxcsr\" bitsize=\"32\" type=\"i386_mxcsr\" group=\"vector\"/></feature><feature name=\"org.gnu.gdb.i386.linux\">\
         <reg name=\"orig_eax\" bitsize=\"32\" type=\"int\" group=\"system\"/></feature></target>",
    );
    text
}

/// All of the guest's 4 GiB: what is mapped changes, and gdb asks once.
pub const MEMORY_MAP: &str = "<?xml version=\"1.0\"?><!DOCTYPE memory-map PUBLIC \"+//IDN gnu.org//DTD GDB Memory Map V1.0//EN\" \
     \"http://sourceware.org/gdb/gdb-memory-map.dtd\"><memory-map><memory type=\"ram\" start=\"0x0\" \
     length=\"0x100000000\"/></memory-map>";

fn escaped(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The libraries that the dynamic linker has loaded, by its own lists (`struct r_debug` of link.h), one a namespace.
pub fn libraries(hub: &Hub) -> String {
    let mut text = String::from("<library-list-svr4 version=\"1.0\"");
    let spaces = namespaces(&hub.memory, &hub.image.auxv).unwrap_or_default();
    // The first entry of the first namespace is the program.
    let mut shown = Vec::new();
    for (index, space) in spaces.iter().enumerate() {
        let list = link_map(&hub.memory, space.first).unwrap_or_default();
        if let Some(program) = list.first().filter(|_| index == 0) {
            let _ = write!(text, " main-lm=\"{:#x}\"", program.at);
        }
        shown.extend(list.into_iter().skip(usize::from(index == 0)).map(|entry| (space.at, entry)));
    }
    text.push('>');
    for (space, entry) in shown.iter().filter(|(_, entry)| !entry.name.is_empty()) {
        let _ = write!(
            text,
            "<library name=\"{}\" lm=\"{:#x}\" l_addr=\"{:#x}\" l_ld=\"{:#x}\" lmid=\"{space:#x}\"/>",
            escaped(&entry.name),
            entry.at,
            entry.base,
            entry.dynamic
        );
    }
    text + "</library-list-svr4>"
}

/// A `struct r_debug`, by whose address gdb tells namespaces apart.
struct Namespace {
    at: u32,
    /// Its `r_map`.
    first: u32,
}

/// A `struct link_map`.
struct Linked {
    at: u32,
    base: u32,
    name: Vec<u8>,
    dynamic: u32,
}

fn namespaces(memory: &Memory, auxv: &[u8]) -> Option<Vec<Namespace>> {
    let word = |at: u32| memory.read::<u32>(at).ok();
    let aux = |wanted: u32| {
        let mut pairs = auxv.chunks_exact(8).map(|pair| {
            let half = |at: usize| u32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            (half(0), half(4))
        });
        pairs.find(|(tag, _)| *tag == wanted).map(|(_, value)| value)
    };
    let (headers, size, count) = (aux(tag::AT_PHDR)?, aux(tag::AT_PHENT)?, aux(tag::AT_PHNUM)?);
    let header = |kind: u32| {
        let mut all = (0..count.min(64)).map(|index| headers.wrapping_add(index.wrapping_mul(size)));
        all.find(|at| word(*at) == Some(kind))
    };
    let bias = header(tag::PT_PHDR)
        .and_then(|at| word(at.wrapping_add(8)))
        .map_or(0, |vaddr| headers.wrapping_sub(vaddr));
    let dynamic = word(header(tag::PT_DYNAMIC)?.wrapping_add(8))?.wrapping_add(bias);
    let mut at = (0..1000).map(|index| dynamic.wrapping_add(index * 8)).find_map(|at| match word(at) {
        Some(tag::DT_DEBUG) => Some(word(at.wrapping_add(4))),
        Some(0) | None => Some(None),
        Some(_) => None,
    })??;
    let mut list = Vec::new();
    while at != 0 && list.len() < MOST_NAMESPACES {
        let version = word(at)?;
        list.push(Namespace { at, first: word(at.wrapping_add(4))? });
        // `r_next`, which older linkers do not have.
        at = if version >= 2 { word(at.wrapping_add(20))? } else { 0 };
    }
    Some(list)
}

fn link_map(memory: &Memory, first: u32) -> Option<Vec<Linked>> {
    let word = |at: u32| memory.read::<u32>(at).ok();
    let mut at = first;
    let mut list = Vec::new();
    while at != 0 && list.len() < MOST_LIBRARIES {
        let name = memory.read_cstr(word(at.wrapping_add(4))?, NAME_MAX).unwrap_or_default();
        list.push(Linked { at, base: word(at)?, name, dynamic: word(at.wrapping_add(8))? });
        at = word(at.wrapping_add(12))?;
    }
    Some(list)
}

/// The program's file, as the guest knows it.
pub fn exec_file(hub: &Hub) -> Vec<u8> {
    let path = hub.ask(|process| paths::to_guest(process, process.image.exe_path.clone()));
    path.unwrap_or_else(|| hub.image.exe_path.clone()).into_os_string().into_vec()
}

/// What `monitor` followed by these words gives.
pub fn monitor(hub: &Hub, command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        [] | ["help"] => "monitor maps          the mappings, as in /proc/PID/maps\n\
                          monitor where ADDR    file and symbol of an address\n\
                          monitor insn ADDR     the instruction there, its row in opcodes/, what it does\n"
            .to_owned(),
        ["maps"] => hub.memory.regions().iter().map(|region| format!("{region}\n")).collect(),
        ["where", addr] => match address(addr) {
            Some(addr) => {
                let found = Symbols::new(hub.options.sysroot.clone()).locate(&hub.memory, addr);
                found.map_or_else(|| "no file is mapped there\n".to_owned(), |place| place.text() + "\n")
            }
            None => format!("{addr}: no address\n"),
        },
        ["insn", addr] => match address(addr) {
            Some(addr) => insn(&hub.memory, addr),
            None => format!("{addr}: no address\n"),
        },
        _ => format!("{command}: unknown; try monitor help\n"),
    }
}

fn address(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn insn(memory: &Memory, addr: u32) -> String {
    let mut bytes = [0; crate::isa::decode::MAX_LEN];
    let len = memory.fetch(addr, &mut bytes);
    match crate::isa::decode(&bytes[..len], addr) {
        Ok(insn) => {
            let form = insn.form();
            let text = crate::disasm::text(&insn);
            format!("{text}    opcodes/{}.toml:{}\n{}\n", form.room, form.line, form.doc)
        }
        Err(error) => format!("{error}\n"),
    }
}
