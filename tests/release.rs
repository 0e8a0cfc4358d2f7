//! What has to hold of the optimised binary. Only in release builds: others return to a loop between handlers.
#![cfg(all(not(debug_assertions), target_arch = "x86_64"))]

use goblin::elf::{Elf, Sym};
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind};

/// How the names of generic handlers that stand together begin; what they have is one of `CHAINED`.
const COMMON: &str = "generated::common_";
/// Handlers that go on with another op, by the name of their generic function.
const CHAINED: [&str; 18] = [
    "single",
    "apart",
    "x87",
    "x87_elsewhere",
    "in_software",
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
    "limit",
    "privileged_repeat",
];

/// A function's code.
fn code_of<'a>(bytes: &'a [u8], elf: &Elf<'_>, symbol: &Sym) -> Option<&'a [u8]> {
    let section = elf.section_headers.iter().find(|section| {
        section.is_executable() && section.vm_range().contains(&(symbol.st_value as usize))
    })?;
    let start = (symbol.st_value - section.sh_addr + section.sh_offset) as usize;
    bytes.get(start..start + symbol.st_size as usize)
}

/// The code of every handler in the binary, with its name.
fn handlers<'a>(bytes: &'a [u8], elf: &Elf<'_>) -> Vec<(String, u64, &'a [u8])> {
    let mut found = Vec::new();
    for symbol in elf.syms.iter().filter(|symbol| symbol.is_function() && symbol.st_size > 0) {
        let Some(mangled) = elf.strtab.get_at(symbol.st_name) else { continue };
        let name = format!("{:#}", rustc_demangle::demangle(mangled));
        let rooms = ["table86::engine::handlers::", "table86::engine::refuse::"];
        let Some(handler) = rooms.iter().find_map(|room| name.strip_prefix(room)) else { continue };
        let kind = handler.split("::<").next().unwrap_or(handler);
        if !CHAINED.contains(&kind) && !kind.starts_with(COMMON) {
            continue;
        }
        let code = code_of(bytes, elf, &symbol).expect("a function lies in a section");
        found.push((kind.to_owned(), symbol.st_value, code));
    }
    found
}

/// Whether an instruction touches the x87's stack, control or status.
fn is_x87(insn: &Instruction) -> bool {
    let saves =
        [Mnemonic::Emms, Mnemonic::Fxsave, Mnemonic::Fxrstor, Mnemonic::Fxsave64, Mnemonic::Fxrstor64];
    let mmx =
        (0..insn.op_count()).any(|at| insn.op_kind(at) == OpKind::Register && insn.op_register(at).is_mm());
    let fpu = insn.cpuid_features().iter().any(|feature| {
        matches!(
            feature,
            CpuidFeature::FPU | CpuidFeature::FPU287 | CpuidFeature::FPU387 | CpuidFeature::FPU387SL_ONLY
        )
    });
    fpu || mmx || saves.contains(&insn.mnemonic())
}

/// Functions that may use the x87: handlers, who gives the state to the host and takes it back, and bodies for the control word.
fn may_use_x87(name: &str) -> bool {
    let places = ["table86::engine::handlers::", "table86::fpu::live::"];
    let bodies = ["table86::cpu::insn::x87_control::", "table86::cpu::exec::", "table86::engine::recover::"];
    places.iter().chain(&bodies).any(|place| name.contains(place))
}

#[test]
fn nothing_but_the_fpu_uses_the_x87() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_table86")).expect("the binary");
    let elf = Elf::parse(&bytes).expect("an ELF file");
    let mut wrong = Vec::new();
    let (mut functions, mut found) = (0, 0);
    for symbol in elf.syms.iter().filter(|symbol| symbol.is_function() && symbol.st_size > 0) {
        let Some(mangled) = elf.strtab.get_at(symbol.st_name) else { continue };
        let name = format!("{:#}", rustc_demangle::demangle(mangled));
        functions += 1;
        let uses = code_of(&bytes, &elf, &symbol).is_some_and(|code| {
            Decoder::with_ip(64, code, symbol.st_value, DecoderOptions::NONE).iter().any(|insn| is_x87(&insn))
        });
        found += usize::from(uses);
        if uses && !may_use_x87(&name) {
            wrong.push(name);
        }
    }
    assert!(functions > 5000, "only {functions} functions: are the symbols gone?");
    assert!(found > 300, "only {found} functions use the x87: are its handlers gone?");
    assert!(wrong.is_empty(), "the x87 is used by {}", wrong.join(", "));
}

#[test]
fn every_handler_ends_in_a_jump_to_the_next() {
    let bytes = std::fs::read(env!("CARGO_BIN_EXE_table86")).expect("the binary");
    let elf = Elf::parse(&bytes).expect("an ELF file");
    let handlers = handlers(&bytes, &elf);
    assert!(handlers.len() > 1000, "only {} handlers: are the symbols gone?", handlers.len());
    let mut wrong = Vec::new();
    let (mut common, mut inlined) = (0, 0);
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
        common += usize::from(kind.starts_with(COMMON));
        // Some only jump to the handler that they stand for.
        let stands_for = instructions.first().is_some_and(|insn| insn.is_jmp_near() || insn.is_jmp_short());
        inlined += usize::from(kind.starts_with(COMMON) && !stands_for);
        raising += usize::from(!has(FlowControl::IndirectBranch) && !stands_for);
        if calls_on {
            wrong.push(format!("{kind} at {address:#x}"));
        }
    }
    assert!(inlined > 500, "only {inlined} of {common} common handlers have their work in them");
    assert!(raising < 16, "{raising} handlers have no jump");
    assert!(wrong.is_empty(), "{} of {} handlers: {}", wrong.len(), handlers.len(), wrong.join(", "));
}
