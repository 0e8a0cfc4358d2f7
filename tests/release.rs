//! What has to hold of the optimised binary. Only in release builds: others return to a loop between handlers.
#![cfg(all(not(debug_assertions), target_arch = "x86_64"))]

use goblin::elf::Elf;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

/// Handlers that go on with another op, by the name of their generic function.
const CHAINED: [&str; 12] = [
    "single",
    "pair",
    "pair_branch",
    "branch",
    "jump",
    "jump_to",
    "call",
    "call_inline",
    "call_to",
    "ret",
    "tally",
    "tally_exit",
];

/// The code of every handler in the binary, with its name.
fn handlers<'a>(bytes: &'a [u8], elf: &Elf<'_>) -> Vec<(String, u64, &'a [u8])> {
    let mut found = Vec::new();
    for symbol in elf.syms.iter().filter(|symbol| symbol.is_function() && symbol.st_size > 0) {
        let Some(mangled) = elf.strtab.get_at(symbol.st_name) else { continue };
        let name = format!("{:#}", rustc_demangle::demangle(mangled));
        let Some(handler) = name.strip_prefix("table86::engine::handlers::") else { continue };
        let kind = handler.split("::<").next().unwrap_or(handler);
        if !CHAINED.contains(&kind) {
            continue;
        }
        let section = elf
            .section_headers
            .iter()
            .find(|section| {
                section.is_executable() && section.vm_range().contains(&(symbol.st_value as usize))
            })
            .expect("a function lies in a section");
        let start = (symbol.st_value - section.sh_addr + section.sh_offset) as usize;
        found.push((kind.to_owned(), symbol.st_value, &bytes[start..start + symbol.st_size as usize]));
    }
    found
}

#[test]
fn every_handler_ends_in_a_jump_to_the_next() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_table86")).expect("the binary");
    let elf = Elf::parse(&bytes).expect("an ELF file");
    let handlers = handlers(&bytes, &elf);
    assert!(handlers.len() > 1000, "only {} handlers: are the symbols gone?", handlers.len());
    let mut wrong = Vec::new();
    // Bodies that always raise go on with nothing.
    let mut raising = 0;
    for (kind, address, code) in &handlers {
        let mut decoder = Decoder::with_ip(64, code, *address, DecoderOptions::NONE);
        let instructions: Vec<Instruction> = decoder.iter().collect();
        let has = |flow: FlowControl| instructions.iter().any(|insn| insn.flow_control() == flow);
        // A call of the next handler would be an indirect one, by a register or an op; calls through the global offset table are
        // those of functions.
        let calls_on = instructions
            .iter()
            .any(|insn| insn.flow_control() == FlowControl::IndirectCall && !insn.is_ip_rel_memory_operand());
        raising += usize::from(!has(FlowControl::IndirectBranch));
        if calls_on {
            wrong.push(format!("{kind} at {address:#x}"));
        }
    }
    assert!(raising < 16, "{raising} handlers have no jump");
    assert!(wrong.is_empty(), "{} of {} handlers: {}", wrong.len(), handlers.len(), wrong.join(", "));
}
