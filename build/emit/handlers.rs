//! `handlers.rs`: a type for each family, which wraps the body's call with loading and storing, and the tables of handlers.

use super::families::{Families, Family, Instance, Live, LiveOperand, Shape, Spec};
use super::hot::Hot;
use crate::build::schema::{Flow, Lock, Takes};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Makes the file: the families' types (formatted), then the tables.
pub fn emit(families: &Families, hot: &Hot, startup: &str) -> String {
    let mut types = String::new();
    for family in &families.list {
        if !matches!(family.flow, Flow::Jump | Flow::Call | Flow::Ret) {
            emit_family(&mut types, family);
        }
    }
    let mut out = match syn::parse_file(&types) {
        Ok(file) => prettyplease::unparse(&file),
        Err(error) => format!("compile_error!(\"generated code does not parse: {error}\");\n{types}"),
    };
    let mut singles: BTreeMap<u64, String> = BTreeMap::new();
    for instance in families.instances.iter().chain(&hot.singles) {
        if let Some(handler) = single(families, instance) {
            singles.insert(instance.key(), handler);
        }
        if let Some(handler) = in_software(families, instance) {
            singles.insert(instance.key() | Instance::SOFTWARE, handler);
        }
    }
    put_together(&mut out, families, hot, startup, &mut singles);
    let mut pairs: BTreeMap<(u64, u64), String> = BTreeMap::new();
    for (first, second) in &hot.pairs {
        if let Some(handler) = pair_in_software(families, first, second) {
            pairs.insert((first.key() | Instance::SOFTWARE, second.key() | Instance::SOFTWARE), handler);
        }
        if let Some(handler) = pair(families, first, second, false) {
            pairs.insert((first.key(), second.key()), handler);
        }
        if let Some(handler) = pair(families, first, second, true) {
            pairs.insert((first.key() | Instance::AT_EXIT, second.key()), handler);
        }
    }
    emit_tables(&mut out, families, &singles, &pairs);
    out
}

/// The section of the handlers that every program begins with: `build/order.rs` puts it first.
pub const COMMON_SECTION: &str = ".text.table86.common";

/// Wraps the generic handlers of the families that occur in `hot.txt` or in `build/startup.txt` in functions of a section: they
/// are what programs begin with, some ten thousand bytes that would be all over the handlers.
fn put_together(
    out: &mut String,
    families: &Families,
    hot: &Hot,
    startup: &str,
    singles: &mut BTreeMap<u64, String>,
) {
    let pairs = hot.pairs.iter().flat_map(|(first, second)| [first, second]);
    let mut common: BTreeSet<u16> = hot.singles.iter().chain(pairs).map(|instance| instance.family).collect();
    let listed: BTreeSet<&str> = startup.lines().filter_map(|line| line.strip_prefix("family:")).collect();
    let is_listed = |(_, family): &(u16, &Family)| listed.contains(family.name.as_str());
    common.extend((1..).zip(&families.list).filter(is_listed).map(|(number, _)| number));
    for instance in families.instances.iter().filter(|instance| common.contains(&instance.family)) {
        let key = instance.key();
        let Some(handler) = singles.get_mut(&key) else { continue };
        let name = format!("common_{key:x}");
        let _ = writeln!(
            out,
            "#[unsafe(link_section = {COMMON_SECTION:?})]\n\
             unsafe extern \"C\" fn {name}(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {{\n\
             // SAFETY: as for every handler.\nunsafe {{ {handler}(cpu, op, mem) }}\n}}"
        );
        *handler = name;
    }
}

/// Letters of the generic parameters.
const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

fn emit_family(out: &mut String, family: &Family) {
    let places: Vec<(usize, Shape)> = family.shapes.iter().copied().enumerate().collect();
    let generic: Vec<usize> =
        places.iter().filter(|(_, shape)| is_generic(*shape)).map(|(at, _)| *at).collect();
    let parameters: Vec<&str> = generic.iter().map(|&at| LETTERS[at]).collect();
    let condition = if family.conditional { "const CC: u8, " } else { "" };
    let condition_argument = if family.conditional { "CC, " } else { "" };
    let bounds: Vec<String> =
        generic.iter().map(|&at| format!("{}: {}", LETTERS[at], bound(family.shapes[at]))).collect();
    let out_type = if family.flow == Flow::Branch { "bool" } else { "()" };
    let slots = if family.flow == Flow::Branch || family.needs_eip {
        "2".to_owned()
    } else {
        let values = |at: &&usize| matches!(family.shapes[**at], Shape::Place { .. } | Shape::Imm { .. });
        let ext: Vec<String> =
            generic.iter().filter(values).map(|&at| format!("{}::EXT", LETTERS[at])).collect();
        if ext.is_empty() { "1".to_owned() } else { format!("1 + ({}) as usize", ext.join(" | ")) }
    };
    let _ = writeln!(
        out,
        "#[doc = {:?}]\n#[allow(non_camel_case_types)]\npub struct {}<{condition}{}>(PhantomData<({})>);\n\
         impl<{condition}{}> Run for {}<{condition_argument}{}> {{\ntype Out = {out_type};\nconst SLOTS: usize = {slots};\n\
         #[inline(always)]\nfn run(x: Exec, f: &mut Pending) -> Result<{out_type}, Fault> {{",
        format!("{} {}", family.origin, family.doc),
        family.name,
        parameters.join(", "),
        parameters.iter().map(|letter| format!("{letter},")).collect::<String>(),
        bounds.join(", "),
        family.name,
        parameters.join(", "),
    );
    if !matches!(family.takes, Takes::Mxcsr | Takes::Host) {
        emit_run(out, family, "Whole");
        out.push_str("}\n}\n");
        if family.takes == Takes::X87 {
            let _ = writeln!(
                out,
                "impl<{}> InSoftware for {}<{}> {{\n\
                 #[inline(always)]\nfn run_short(x: Exec, f: &mut Pending) -> Result<(), NotShort> {{",
                bounds.join(", "),
                family.name,
                parameters.join(", "),
            );
            emit_run(out, family, "Short");
            out.push_str("}\n}\n");
        }
        if let Some(live) = &family.live {
            emit_live(out, family, live);
        }
        return;
    }
    let mut conditions: Vec<String> = Vec::new();
    if family.takes == Takes::Mxcsr {
        conditions.push("x.has_host_floats()".into());
    }
    if family.takes == Takes::Host || !family.host.is_empty() {
        let bits: Vec<String> = family.host.iter().map(|name| format!("native::{name}")).collect();
        conditions
            .push(format!("x.has_host({})", if bits.is_empty() { "0".into() } else { bits.join(" | ") }));
    }
    let on_host = conditions.join(" && ");
    let _ = writeln!(
        out,
        "Self::compute(x, f, true)\n}}\n\
         const APART: bool = true;\n#[inline(always)]\nfn is_apart(x: Exec) -> bool {{ !({on_host}) }}\n\
         #[inline(always)]\nfn run_apart(x: Exec, f: &mut Pending) -> Result<(), Fault> {{ Self::compute(x, f, false) }}\n}}\n\
         impl<{condition}{bounds}> {name}<{condition_argument}{parameters}> {{\n\
         #[inline(always)]\nfn compute(x: Exec, f: &mut Pending, native: bool) -> Result<(), Fault> {{",
        bounds = bounds.join(", "),
        name = family.name,
        parameters = parameters.join(", "),
    );
    emit_run(out, family, "");
    out.push_str("}\n}\n");
}

/// The host's instruction in place of the body's call.
fn emit_live(out: &mut String, family: &Family, live: &Live) {
    let Live { opcode, modrm, .. } = live;
    let (parameters, bound, call) = match (live.operand, live.reads_flags, live.writes_flags) {
        (LiveOperand::None, ..) => ("", "", format!("plain::<{opcode}, {modrm}>(x)")),
        (LiveOperand::Memory | LiveOperand::Store80, ..) => {
            let function = if live.operand == LiveOperand::Memory { "with_memory" } else { "store_80" };
            ("A", "A: Address", format!("{function}::<{opcode}, {modrm}>(x, A::address(x))"))
        }
        (LiveOperand::Stack, reads, writes) => {
            let function = match (reads, writes) {
                (true, _) => "by_flags",
                (_, true) => "into_flags",
                _ => "with_register",
            };
            ("A", "A: FixedNumber", format!("{function}::<{opcode}, {modrm}, A>(x)"))
        }
    };
    let _ = writeln!(
        out,
        "#[cfg(trap_memory)]\nimpl<{bound}> Live for {}<{parameters}> {{\n#[inline(always)]\nfn run_live(x: Exec) {{\n\
         live::{call}\n}}\n}}",
        family.name
    );
}

fn is_generic(shape: Shape) -> bool {
    !matches!(shape, Shape::Far | Shape::One)
}

fn bound(shape: Shape) -> String {
    match shape {
        Shape::Place { bits: 128, .. } => "Place<V128>".into(),
        Shape::Place { bits, .. } => format!("Place<u{bits}>"),
        Shape::Imm { bits } => format!("Source<u{bits}>"),
        Shape::Address => "Address".into(),
        Shape::Number => "Number".into(),
        Shape::Selector => "Selector".into(),
        Shape::Far | Shape::One => String::new(),
    }
}

/// The body's call between loads and stores. Order: addresses, loads, body, the store that may fault, registers. A body of the x87
/// is told which way to go.
fn emit_run(out: &mut String, family: &Family, way: &str) {
    let shapes = &family.shapes;
    let updates = family.lock != Lock::Never
        && matches!(shapes.first(), Some(Shape::Place { reads: true, writes: true, .. }));
    for (at, shape) in shapes.iter().enumerate() {
        let letter = LETTERS[at];
        let _ = match shape {
            Shape::Place { .. } => writeln!(out, "let at{at} = {letter}::locate(x);"),
            _ => Ok(()),
        };
    }
    let places: Vec<&str> = shapes
        .iter()
        .enumerate()
        .filter(|(_, shape)| matches!(shape, Shape::Place { .. }))
        .map(|(at, _)| LETTERS[at])
        .collect();
    let mmx: Vec<String> = places.iter().map(|letter| format!("{letter}::MMX")).collect();
    if family.mmx {
        let _ = writeln!(out, "if {} {{ x.wait_for_fpu()?; }}", mmx.join(" | "));
    }
    let mut arguments: Vec<String> = Vec::new();
    if family.takes.cpu() {
        arguments.push("x".into());
    }
    if family.conditional {
        arguments.push("f.condition::<CC>()".into());
    }
    for (at, shape) in shapes.iter().enumerate() {
        let letter = LETTERS[at];
        match *shape {
            Shape::Place { reads: true, .. } => {
                if !(updates && at == 0) {
                    let _ = writeln!(out, "let v{at} = {letter}::read(x, at{at})?;");
                }
                arguments.push(format!("v{at}"));
            }
            Shape::Place { .. } => {}
            Shape::Imm { .. } => arguments.push(format!("{letter}::get(x)?")),
            Shape::Address => arguments.push(format!("{letter}::address(x)")),
            Shape::Number => arguments.push(format!("{letter}::number(x)")),
            Shape::Selector => arguments.push(format!("{letter}::selector(x)")),
            Shape::Far => arguments.push("x.op().imm, x.ext().imm2 as u16".into()),
            Shape::One => arguments.push("1".into()),
        }
    }
    if family.takes == Takes::Mxcsr {
        out.push_str("let mut m = x.mxcsr(native);\n");
        arguments.push("&mut m".into());
    }
    if family.takes == Takes::Host {
        arguments.push("Native::new(native)".into());
    }
    if family.passes_flags {
        arguments.push(if updates { "&mut flags".into() } else { "f".into() });
    }
    let way = (family.takes == Takes::X87).then(|| way.to_owned());
    let types: Vec<String> = way.into_iter().chain(family.size_bits.map(|bits| format!("u{bits}"))).collect();
    let turbofish = if types.is_empty() { String::new() } else { format!("::<{}>", types.join(", ")) };
    let question = if family.fallible { "?" } else { "" };
    let call =
        format!("body::{}::{}{turbofish}({}){question}", family.room, family.body, arguments.join(", "));
    let written: Vec<usize> = shapes
        .iter()
        .enumerate()
        .filter(|(_, shape)| matches!(shape, Shape::Place { writes: true, .. }))
        .map(|(at, _)| at)
        .collect();
    let pattern = |names: &[String]| match names {
        [] => "()".to_owned(),
        [one] => one.clone(),
        more => format!("({})", more.join(", ")),
    };
    let names: Vec<String> = written.iter().map(|at| format!("r{at}")).collect();
    if updates {
        // With more results than one, the first comes out too: it is written again below.
        let rest: Vec<String> = if names.len() > 1 { names.clone() } else { Vec::new() };
        let (flags, keep) = if family.passes_flags { ("let mut flags = *f;", "flags, ") } else { ("", "") };
        let _ = writeln!(
            out,
            "let ({bind}{rest}) = A::update(x, at0, |v0| {{ {flags} let {all} = {call}; Ok((r0, ({keep}{rest}))) }})?;",
            bind = if family.passes_flags { "flags, " } else { "" },
            rest = rest.iter().map(|name| format!("{name},")).collect::<String>(),
            all = pattern(&names),
        );
        if family.passes_flags {
            out.push_str("*f = flags;\n");
        }
        for (at, name) in written.iter().zip(&names).skip(1) {
            let _ = writeln!(out, "{}::write(x, at{at}, {name})?;", LETTERS[*at]);
        }
        if names.len() > 1 {
            out.push_str("A::prevail(x, at0, r0);\n");
        }
        out.push_str("Ok(())\n");
        return;
    }
    if family.flow == Flow::Branch {
        let _ = writeln!(out, "Ok({call})");
        return;
    }
    let enter = |out: &mut String| {
        if family.mmx {
            let _ = writeln!(out, "if {} {{ x.enter_mmx(); }}", mmx.join(" | "));
        }
    };
    // What raises #XM, or faults at an operand that only the body knows, has entered MMX by then.
    let early = !matches!(family.takes, Takes::Values | Takes::Host);
    if early {
        enter(out);
    }
    let _ = writeln!(out, "let {} = {call};", pattern(&names));
    if family.takes == Takes::Mxcsr {
        out.push_str("x.commit_mxcsr(m)?;\n");
    }
    if family.commits_flags {
        // For the instruction that is joined with this one.
        out.push_str("*f = x.flags();\n");
    }
    for (at, name) in written.iter().zip(&names) {
        let _ = writeln!(out, "{}::write(x, at{at}, {name})?;", LETTERS[*at]);
    }
    if written.len() > 1 && written[0] == 0 {
        out.push_str("A::prevail(x, at0, r0);\n");
    }
    if !early {
        enter(out);
    }
    out.push_str("Ok(())\n");
}

/// The type of an instance, or nothing if its operands do not fit the family.
fn type_of(families: &Families, instance: &Instance) -> Option<String> {
    let family = families.of(instance)?;
    let has_memory = instance.specs.iter().any(|spec| spec.is_memory());
    let mut arguments = Vec::new();
    if family.conditional {
        arguments.push(instance.condition.to_string());
    }
    let mut registers = 0;
    let mut immediates = 0;
    for (at, shape) in family.shapes.iter().enumerate() {
        // Beside a memory operand, a second register is in the second slot.
        let field = |registers: usize| match (registers, has_memory) {
            (0, _) => "A",
            (1, false) => "B",
            (1, true) => "X",
            _ => "C",
        };
        let spec = instance.specs[at];
        let operand = match shape {
            Shape::Far | Shape::One => continue,
            Shape::Number => match spec {
                Spec::Fixed(number) => format!("NumberIs<{number}>"),
                _ => {
                    registers += 1;
                    format!("Number{}", field(registers - 1))
                }
            },
            Shape::Selector => {
                registers += 1;
                format!("Selector{}", field(registers - 1))
            }
            Shape::Imm { .. } => {
                immediates += 1;
                (if has_memory || immediates > 1 { "SecondImm" } else { "Imm" }).into()
            }
            Shape::Place { .. } | Shape::Address => match spec {
                Spec::Register => {
                    registers += 1;
                    format!("Reg{}", field(registers - 1))
                }
                Spec::Mm | Spec::Xmm => {
                    registers += 1;
                    let kind = if spec == Spec::Mm { "Mm" } else { "Xmm" };
                    format!("{kind}{}", field(registers - 1))
                }
                Spec::Fixed(offset) => {
                    registers += 1;
                    format!("Reg<{offset}>")
                }
                Spec::FixedXmm(number) => format!("Xmm<{number}>"),
                _ => {
                    let memory = match spec {
                        Spec::Memory => "MemAny".into(),
                        Spec::Sib => "MemSib".into(),
                        Spec::Scaled(scale) => format!("MemScaled<{scale}>"),
                        Spec::Absolute => "MemAbs".into(),
                        Spec::Base => "MemBase".into(),
                        Spec::FixedBase(offset) => format!("MemFixed<{offset}>"),
                        Spec::Indexed(which) => format!("MemIndexed<{which}>"),
                        _ => return None,
                    };
                    match shape {
                        Shape::Place { bits: 128, .. } if family.aligned => format!("Aligned<{memory}>"),
                        _ if instance.locked => format!("Locked<{memory}>"),
                        _ => memory,
                    }
                }
            },
        };
        arguments.push(operand);
    }
    Some(format!("{}<{}>", family.name, arguments.join(", ")))
}

fn single(families: &Families, instance: &Instance) -> Option<String> {
    let family = families.of(instance)?;
    let bits = family.size_bits.unwrap_or(32);
    if matches!(family.flow, Flow::Jump | Flow::Call | Flow::Ret) {
        let target = type_of(families, instance)?;
        let target = target.split_once('<').map_or("", |(_, rest)| rest.trim_end_matches('>'));
        let target = if instance.specs[0] == Spec::None { "" } else { target };
        // `MemFixed<8>` loses its closing bracket above.
        let target = if target.contains('<') { format!("{target}>") } else { target.to_owned() };
        return Some(match (family.flow, target.as_str()) {
            (Flow::Ret, _) => format!("ret::<u{bits}>"),
            (Flow::Jump, "") => "jump".into(),
            (Flow::Jump, target) => format!("jump_to::<u{bits}, {target}>"),
            (_, "") => format!("call::<u{bits}>"),
            (_, target) => format!("call_to::<u{bits}, {target}>"),
        });
    }
    let run = type_of(families, instance)?;
    Some(match family.flow {
        Flow::Branch => format!("branch::<{run}>"),
        Flow::Far => format!("far::<{run}>"),
        Flow::Sync => format!("sync::<{run}>"),
        _ if family.is_live(instance) => format!("x87::<{run}>"),
        _ if family.takes == Takes::X87 => format!("in_software::<{run}>"),
        _ => format!("single::<{run}, {}>", instance.live),
    })
}

/// The second handler of what the host's FPU can do: the row's body.
fn in_software(families: &Families, instance: &Instance) -> Option<String> {
    let family = families.of(instance)?;
    family.is_live(instance).then_some(())?;
    Some(format!("in_software::<{}>", type_of(families, instance)?))
}

/// The handler of two instructions of the x87 in software.
fn pair_in_software(families: &Families, first: &Instance, second: &Instance) -> Option<String> {
    let run = |instance: &Instance| {
        let family = families.of(instance)?;
        let goes_on = family.takes == Takes::X87 && family.flow == Flow::Next;
        goes_on.then(|| type_of(families, instance)).flatten()
    };
    Some(format!("pair_in_software::<{}, {}>", run(first)?, run(second)?))
}

/// The handler of a pair; `at_exit`: that which keeps the flags only where the branch is taken, if there is a difference.
fn pair(families: &Families, first: &Instance, second: &Instance, at_exit: bool) -> Option<String> {
    let [one, two] = [families.of(first)?, families.of(second)?];
    if one.flow != Flow::Next || one.takes == Takes::X87 || two.takes == Takes::X87 {
        return None;
    }
    let flow = two.flow;
    let (one, two) = (type_of(families, first)?, type_of(families, second)?);
    let needed = match (first.live, at_exit) {
        (true, true) => "AT_EXIT",
        (true, false) => "EVERYWHERE",
        (false, false) => "NOWHERE",
        (false, true) => return None,
    };
    match flow {
        Flow::Next if at_exit => None,
        Flow::Next => Some(format!("pair::<{one}, {}, {two}, {}>", first.live, second.live)),
        Flow::Branch => Some(format!("pair_branch::<{one}, {needed}, {two}>")),
        _ => None,
    }
}

fn emit_tables(
    out: &mut String,
    families: &Families,
    singles: &BTreeMap<u64, String>,
    pairs: &BTreeMap<(u64, u64), String>,
) {
    let _ = writeln!(
        out,
        "/// Names of the families; family n is at n - 1.\npub static FAMILIES: [&str; {}] = [",
        families.list.len()
    );
    for family in &families.list {
        let _ = writeln!(out, "    {:?}, // {}", family.name, family.origin);
    }
    out.push_str("];\n");
    let operands: Vec<usize> = families.list.iter().map(|family| family.shapes.len()).collect();
    let _ = writeln!(
        out,
        "/// How many operands each family has.\npub static OPERANDS: [u8; {}] = {operands:?};",
        operands.len()
    );
    let mut starts_pair = vec![false; families.list.len() + 1];
    for (first, _) in pairs.keys() {
        starts_pair[usize::from(*first as u16)] = true;
    }
    let _ = writeln!(
        out,
        "/// Families that some pair starts with.\npub static STARTS_PAIR: [bool; {}] = {starts_pair:?};",
        starts_pair.len()
    );
    let x87 = families.list.iter().map(|family| family.takes == Takes::X87);
    let in_software: Vec<bool> = std::iter::once(false).chain(x87).collect();
    let _ = writeln!(
        out,
        "/// Families of the x87.\npub static IN_SOFTWARE: [bool; {}] = {in_software:?};",
        in_software.len()
    );
    let _ = writeln!(
        out,
        "/// Handlers of single instructions by key.\npub static SINGLES: [(u64, Handler); {}] = [",
        singles.len()
    );
    for (key, handler) in singles {
        let _ = writeln!(out, "    ({key:#x}, {handler}),");
    }
    out.push_str("];\n");
    let hashes: Vec<u64> = singles.keys().map(|key| hash(*key)).collect();
    emit_index(out, "SINGLE", &hashes);
    let _ = writeln!(
        out,
        "/// Handlers of pairs by both keys.\npub static PAIRS: [((u64, u64), Handler); {}] = [",
        pairs.len()
    );
    for ((first, second), handler) in pairs {
        let _ = writeln!(out, "    (({first:#x}, {second:#x}), {handler}),");
    }
    out.push_str("];\n");
    let hashes: Vec<u64> = pairs.keys().map(|(first, second)| hash(first ^ second.rotate_left(32))).collect();
    emit_index(out, "PAIR", &hashes);
}

/// `table86::engine::keys::hash` is the same function.
fn hash(key: u64) -> u64 {
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// An open-addressed index of positions; `u16::MAX` is free.
fn emit_index(out: &mut String, name: &str, hashes: &[u64]) {
    let size = (hashes.len() * 2).next_power_of_two().max(2);
    let mut index = vec![u16::MAX; size];
    for (at, hash) in hashes.iter().enumerate() {
        let mut slot = *hash as usize & (size - 1);
        while index[slot] != u16::MAX {
            slot = (slot + 1) & (size - 1);
        }
        index[slot] = at as u16;
    }
    let _ = writeln!(
        out,
        "/// Hash index into the table above.\npub static {name}_INDEX: [u16; {size}] = {index:?};"
    );
}
