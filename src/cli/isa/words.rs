//! Rows in words: operands, flags, and all else that is to be said of a form. What is shown, as text or as pages, comes from here.

use table86::audit::State;
use table86::isa::proof::{Comparison, Proof};
use table86::isa::{
    Access, CONDITIONS, Code, Departure, FEATURES, FlagFacts, Flow, Form, Lock, Operand, Privilege, Rep,
    Size, VendorFlags, flag,
};

/// The status flags in the order of the tables, with their bits.
pub(super) const FLAGS: [(&str, u8); 6] =
    [("O", flag::O), ("S", flag::S), ("Z", flag::Z), ("A", flag::A), ("P", flag::P), ("C", flag::C)];

/// A flag's name in full.
pub(super) fn flag_name(letter: &str) -> &'static str {
    match letter {
        "O" => "overflow",
        "S" => "sign",
        "Z" => "zero",
        "A" => "auxiliary carry",
        "P" => "parity",
        _ => "carry",
    }
}

/// Other names of a mnemonic: those of its condition.
pub(super) fn other_names(mnemonic: &str) -> Vec<String> {
    let mut names = Vec::new();
    for stem in ["j", "set", "cmov"] {
        let condition =
            CONDITIONS.iter().find(|condition| mnemonic.strip_prefix(stem) == Some(condition.name));
        names.extend(
            condition.into_iter().flat_map(|condition| condition.alias).map(|alias| format!("{stem}{alias}")),
        );
    }
    names
}

const GENERAL: [&str; 8] = ["EAX", "ECX", "EDX", "EBX", "ESP", "EBP", "ESI", "EDI"];
const BYTES: [&str; 8] = ["AL", "CL", "DL", "BL", "AH", "CH", "DH", "BH"];
const SEGMENTS: [&str; 6] = ["ES", "CS", "SS", "DS", "FS", "GS"];

/// An operand as the row writes it, with what it is and how it is used.
pub(super) fn operand(operand: &Operand) -> String {
    let size = size(operand.size);
    let of_size = |what: &str| if size.is_empty() { what.to_owned() } else { format!("{what}, {size}") };
    let what = match operand.code {
        Code::E => of_size("a register or memory, by ModRM's r/m field"),
        Code::M => of_size("memory, by ModRM's r/m field"),
        Code::R => of_size("a register, by ModRM's r/m field"),
        Code::G => of_size("a register, by ModRM's reg field"),
        Code::B => of_size("a register, by VEX's vvvv field"),
        Code::Z => of_size("a register, by the opcode's low three bits"),
        Code::I => of_size("an immediate"),
        Code::SignedI => "an immediate byte, sign-extended to the operand size".to_owned(),
        Code::J => of_size("the target of a branch, relative to the next instruction"),
        Code::A => "a far pointer in the instruction: offset, then selector".to_owned(),
        Code::O => of_size("memory at an address in the instruction"),
        Code::S => "a segment register, by ModRM's reg field".to_owned(),
        Code::C => "a control register, by ModRM's reg field".to_owned(),
        Code::D => "a debug register, by ModRM's reg field".to_owned(),
        Code::X => of_size("memory at DS:ESI, the segment overridable"),
        Code::Y => of_size("memory at ES:EDI"),
        Code::XEdi => of_size("memory at DS:EDI, the segment overridable"),
        Code::P => of_size("an MMX register, by ModRM's reg field"),
        Code::Q => of_size("an MMX register or memory, by ModRM's r/m field"),
        Code::N => of_size("an MMX register, by ModRM's r/m field"),
        Code::V => of_size("an XMM register, by ModRM's reg field"),
        Code::W => of_size("an XMM register or memory, by ModRM's r/m field"),
        Code::U => of_size("an XMM register, by ModRM's r/m field"),
        Code::XmmReg(number) => format!("XMM{number}"),
        Code::St => "ST(0), the top of the FPU's stack".to_owned(),
        Code::StI => "ST(i), by ModRM's r/m field".to_owned(),
        Code::Reg(number) => register(number, operand.size),
        Code::SegReg(number) => {
            SEGMENTS.get(usize::from(number)).copied().unwrap_or("a segment register").to_owned()
        }
        Code::One => "the constant 1".to_owned(),
    };
    let implicit = if operand.implicit { "; implicit, not written in assembly text" } else { "" };
    format!("{what}; {}{implicit}", access(operand.access))
}

fn register(number: u8, size: Size) -> String {
    let index = usize::from(number & 7);
    match size {
        Size::B => BYTES[index].to_owned(),
        Size::W => GENERAL[index][1..].to_owned(),
        Size::V | Size::Z => format!("{} or {}, by the operand size", &GENERAL[index][1..], GENERAL[index]),
        _ => GENERAL[index].to_owned(),
    }
}

fn size(size: Size) -> &'static str {
    match size {
        Size::None | Size::M => "",
        Size::B => "8 bits",
        Size::W => "16 bits",
        Size::D | Size::Y => "32 bits",
        Size::Q => "64 bits",
        Size::V | Size::Z => "16 or 32 bits by the operand size",
        Size::P => "a far pointer: 16:16 or 16:32 by the operand size",
        Size::A => "two bounds of 16 or 32 bits by the operand size",
        Size::T => "80 bits",
        Size::Dq => "128 bits",
        Size::Ss => "a float in the low 32 bits",
        Size::Sd => "a double in the low 64 bits",
        Size::Ps => "four floats, 128 bits",
        Size::Pd => "two doubles, 128 bits",
        Size::S => "limit and base, 6 bytes",
        Size::E => "the FPU's environment, 14 or 28 bytes by the operand size",
        Size::Fs => "the image of FXSAVE, 512 bytes",
        Size::Xs => "the XSAVE area of x87 and SSE, 576 bytes",
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::R => "read",
        Access::W => "written",
        Access::Rw => "read and written",
        Access::Address => "only its address is computed",
        Access::Linear => "read by the instruction itself",
        Access::LinearW => "written by the instruction itself",
        Access::LinearRw => "read and written by the instruction itself",
        Access::Shown => "named only",
    }
}

/// What becomes of a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Effect {
    /// result, set, cleared, kept.
    pub what: &'static str,
    /// The manual leaves it undefined; `what` is what Table86 does.
    pub is_undefined: bool,
}

/// The flags of a form: each case with what becomes of O S Z A P C.
pub(super) fn flags(form: &Form) -> Vec<(&'static str, [Effect; 6])> {
    let Some(rule) = form.flag_rule() else { return Vec::new() };
    let case = |index: usize| {
        FLAGS.map(|(_, bit)| {
            let is_in = |masks: [u8; 3]| masks[index] & bit != 0;
            let what = match () {
                () if is_in(rule.written) => "result",
                () if is_in(rule.set) => "set",
                () if is_in(rule.cleared) => "cleared",
                () => "kept",
            };
            Effect { what, is_undefined: is_in(form.flags.undefined) }
        })
    };
    if form.flags.by_count {
        vec![("count 0", case(0)), ("count 1", case(1)), ("count 2 or more", case(2))]
    } else {
        vec![("always", case(0))]
    }
}

/// Whether a form changes any flag.
pub(super) fn changes_flags(form: &Form) -> bool {
    flags(form).iter().any(|(_, effects)| effects.iter().any(|effect| effect.what != "kept"))
}

/// Tokens of opcode strings that are no plain bytes, each explained once.
pub(super) fn notation(forms: &[&Form]) -> Vec<(&'static str, &'static str)> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for token in forms.iter().flat_map(|form| form.op.split_whitespace()) {
        let name = token.split_once('+').map_or(token, |(_, low)| match low {
            "r" => "+r",
            "cc" => "+cc",
            _ => "+i",
        });
        let meaning = match name {
            "/r" => "a ModRM byte; its fields name the operands",
            "+r" => "the opcode's low three bits name a register",
            "+cc" => "the opcode's low four bits are the condition",
            "+i" => "the byte's low three bits name ST(i)",
            "ib" => "an immediate of one byte",
            "iw" => "an immediate of two bytes",
            "id" => "an immediate of four bytes",
            "iz" => "an immediate of two or four bytes, by the operand size",
            "cb" => "a branch's distance of one byte, signed",
            "cz" => "a branch's distance of two or four bytes, by the operand size",
            "cp" => "an offset of two or four bytes by the operand size, then a selector of two",
            "mo" => "an address of two or four bytes, by the address size",
            "NP" => "none of the prefixes 66, F2, F3",
            digit if digit.starts_with('/') => {
                "a ModRM byte whose reg field is this digit; its r/m field names an operand"
            }
            _ => continue,
        };
        if !seen.contains(&(name, meaning)) {
            seen.push((name, meaning));
        }
    }
    seen
}

/// What the words for flags mean.
pub(super) const FLAGS_LEGEND: &str = "result: depends on the operands; set: 1; cleared: 0; kept: as before. With ?: the manual \
                                       leaves it undefined, and this is what Table86 does.";

/// Letters of the flags that a form reads.
pub(super) fn flags_read(form: &Form) -> String {
    letters(form.flags.reads)
}

/// Everything about a form but its operands and flags, each under a label.
pub(super) fn facts(form: &Form) -> Vec<(&'static str, String)> {
    let mut facts = vec![("needs", needs(form)), ("exceptions", exceptions(form))];
    let mut add = |label, text: &str| {
        if !text.is_empty() {
            facts.push((label, text.to_owned()));
        }
    };
    add(
        "privilege",
        match form.privilege {
            Privilege::User => "",
            Privilege::Cpl => "only the kernel may execute it; a program gets #GP(0)",
            Privilege::Iopl => "as IOPL allows; else #GP(0)",
        },
    );
    add(
        "LOCK",
        match form.lock {
            Lock::Never => "not legal: #UD",
            Lock::Legal => "legal if the first operand is memory; else #UD",
            Lock::Always => "with memory always locked, with the prefix or without",
        },
    );
    add(
        "REP",
        match form.rep {
            Rep::Ignored => "",
            Rep::Rep => "F2 and F3 repeat ECX times",
            Rep::Repe => "F3 repeats while equal, F2 while not equal, ECX times at most",
        },
    );
    add(
        "goes on",
        match form.flow {
            Flow::Next => "",
            Flow::Sync => "with the next instruction, decoded anew",
            Flow::Branch => "at the target or with the next instruction",
            Flow::Jump => "at the target",
            Flow::Call => "at the target; the address of the next instruction is pushed",
            Flow::Ret => "at the address that is popped",
            Flow::Far => "anywhere, in another code segment perhaps",
            Flow::Trap => "never with the next instruction: it raises an exception",
        },
    );
    if form.after_pop {
        add("address", "an address with ESP is computed after ESP has grown");
    }
    add("note", form.note);
    for Departure { vendor, part, how } in form.departures {
        add("processors", &format!("{vendor}, {part}: {how}"));
    }
    for theirs in form.flags.vendors {
        add("processors", &format!("{}, undefined flags: {}", theirs.vendor, undefined(&form.flags, theirs)));
    }
    let state = match State::of(form) {
        State::Missing(why) => format!("not implemented: {why}; it raises SIGILL"),
        _ => "implemented".to_owned(),
    };
    facts.push(("state", state));
    facts.push(("proof", proof(form)));
    facts
}

/// `A cleared`, of a vendor's undefined flags.
fn undefined(facts: &FlagFacts, theirs: &VendorFlags) -> String {
    let case = |at: usize| {
        let effects = [
            (theirs.cleared, "cleared"),
            (theirs.set, "set"),
            (theirs.kept, "kept"),
            (theirs.written, "written"),
        ];
        let effects = effects.iter().filter(|(masks, _)| masks[at] != 0);
        effects
            .map(|(masks, effect)| format!("{} {effect}", letters(masks[at])))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !facts.by_count {
        return case(0);
    }
    let cases = [("0", 0), ("1", 1), ("more", 2)].map(|(count, at)| (count, case(at)));
    let said = cases.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(count, text)| format!("count {count}: {text}")).collect::<Vec<_>>().join("; ")
}

/// The letters of a flag mask.
fn letters(mask: u8) -> String {
    let letters = FLAGS.iter().chain([("D", flag::D)].iter());
    letters.filter(|(_, bit)| mask & bit != 0).map(|(letter, _)| *letter).collect::<Vec<_>>().join(" ")
}

fn needs(form: &Form) -> String {
    if form.cpuid.is_empty() {
        return "nothing: every processor has it".to_owned();
    }
    let one = |name: &&str| match FEATURES.iter().find(|feature| feature.name == *name) {
        Some(feature) => {
            let register = ["EAX", "EBX", "ECX", "EDX"][feature.register & 3];
            format!("{name} (CPUID leaf {:X}h, {register} bit {})", feature.leaf, feature.bit)
        }
        None => (*name).to_owned(),
    };
    format!("{}; else #UD", form.cpuid.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// What it raises: the body's own, and what follows from its operands.
fn exceptions(form: &Form) -> String {
    let mut parts: Vec<String> = form.exceptions.iter().map(|name| (*name).to_owned()).collect();
    let is_memory = |operand: &&Operand| {
        use Code::{E, M, O, Q, W, X, XEdi, Y};
        matches!(operand.code, E | M | O | Q | W | X | Y | XEdi) && operand.access != Access::Address
    };
    if let Some(operand) = form.operands.iter().find(is_memory) {
        parts.push("with memory: #PF, #GP(0), #SS(0)".to_owned());
        let is_wide = matches!(operand.size, Size::Dq | Size::Ps | Size::Pd);
        if is_wide && !form.unaligned {
            parts.push("#GP(0) if memory is not aligned to 16 bytes".to_owned());
        }
    }
    if parts.is_empty() { "none of its own".to_owned() } else { parts.join("; ") }
}

/// What is on record about comparing it with processors.
pub(super) fn proof(form: &Form) -> String {
    match State::of(form) {
        State::Proven(Proof::Verified(comparisons)) => {
            let one = |Comparison { vectors, test, processor }: &Comparison| {
                format!("{processor} from {vectors} states ({test})")
            };
            let each: Vec<String> = comparisons.iter().map(one).collect();
            format!("did what processors did: {}", each.join("; "))
        }
        State::Proven(Proof::Unverifiable(why)) => format!("no processor can be asked: {why}"),
        State::Unproven => "none on record".to_owned(),
        State::Missing(_) => "none: it does not run".to_owned(),
    }
}

/// Where things are, each under a label.
pub(super) fn places(form: &Form) -> Vec<(&'static str, String)> {
    let body = form.body_place().map_or_else(
        || "none: the engine does it, or nothing does".to_owned(),
        |place| format!("{place} (fn {})", form.body),
    );
    vec![("row", form.row_place()), ("body", body)]
}

/// How to run the tests of an instruction.
pub(super) fn tests(mnemonic: &str) -> String {
    format!("tests/silicon: ROW=\"{mnemonic} \" cargo test --release --test silicon")
}
