//! `forms.rs`: the rows as data.

use super::families::Families;
use crate::build::notation::{Access, Also, Code, Low, Mandatory, Size};
use crate::build::rules::{Effect, FlagRule, Rules, mask};
use crate::build::schema::{Form, Status, Takes};
use crate::build::vendors::{Departure, VendorFlags};
use std::fmt::Write as _;

/// Makes the file.
pub fn emit(forms: &[Form], rules: &Rules, families: &Families) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "/// Every form, in the order of the tables.\npub static FORMS: [Form; {}] = [",
        forms.len()
    );
    for (index, form) in forms.iter().enumerate() {
        emit_form(&mut out, form, rules, families.of_form[index], without_prefix(forms, form));
    }
    out.push_str("];\n");
    out.push_str("/// The conditions, in opcode order.\npub static CONDITIONS: [Condition; 16] = [\n");
    for condition in &rules.conditions {
        let _ = writeln!(
            out,
            "Condition {{ name: {:?}, alias: &{:?}, doc: {:?}, reads: {} }},",
            condition.name, condition.alias, condition.doc, condition.reads
        );
    }
    out.push_str("];\n");
    let _ = writeln!(
        out,
        "/// What processors do otherwise than all rows.\npub static DEPARTURES: &[Departure] = &[{}];",
        departures(&rules.departures)
    );
    out
}

/// The form that a processor which does not know a mandatory prefix runs.
fn without_prefix(forms: &[Form], form: &Form) -> Option<usize> {
    let encoding = &form.encoding;
    if encoding.vex.is_some() || matches!(encoding.mandatory, Mandatory::Any | Mandatory::Np) {
        return None;
    }
    forms.iter().position(|other| {
        let plain = other.encoding.mandatory == Mandatory::Any && other.encoding.low == Low::Nothing;
        let place = |form: &Form| (form.encoding.map, form.encoding.opcode, form.encoding.modrm);
        plain && place(other) == place(form)
    })
}

fn emit_form(
    out: &mut String,
    form: &Form,
    rules: &Rules,
    families: [u16; 2],
    without_prefix: Option<usize>,
) {
    let operands: Vec<String> = form
        .operands
        .iter()
        .map(|operand| {
            let code = match operand.code {
                Code::Reg(number) => format!("Reg({number})"),
                Code::SegReg(number) => format!("SegReg({number})"),
                Code::XmmReg(number) => format!("XmmReg({number})"),
                other => format!("{other:?}"),
            };
            let size: Size = operand.size;
            let access: Access = operand.access;
            format!(
                "Operand {{ code: Code::{code}, size: Size::{size:?}, access: Access::{access:?}, implicit: {} }}",
                operand.implicit
            )
        })
        .collect();
    let also: Vec<String> = form.also.iter().map(also_text).collect();
    let imms: Vec<String> = form.encoding.imms.iter().map(|imm| format!("Imm::{imm:?}")).collect();
    let ignores_mod = form.operands.iter().any(|operand| matches!(operand.code, Code::C | Code::D));
    let rule = rules.flags.get(&form.flags);
    let masks =
        |which: fn(Effect) -> bool| rule.map_or([0; 3], |rule| [0, 1, 2].map(|case| rule.mask(case, which)));
    let vendor_flags: Vec<String> = rule.map_or_else(Vec::new, vendor_flags);
    let status = match &form.status {
        Status::Implemented => "Status::Implemented".to_owned(),
        Status::Todo(why) => format!("Status::Todo({why:?})"),
    };
    let _ = writeln!(
        out,
        "// opcodes/{room}.toml:{line}\nForm {{ mnemonic: {mnemonic:?}, doc: {doc:?}, room: {room:?}, line: {line}, op: {op:?}, ops: {ops:?}, \
         operands: &[{operands}], also: &[{also}], imms: &[{imms}], ignores_mod: {ignores_mod}, \
         flags: FlagFacts {{ rule: {rule_name:?}, reads: {reads}, writes: {writes}, by_count: {by_count}, kills: {kills:?}, undefined: {undefined:?}, vendors: &[{vendor_flags}] }}, \
         condition: {condition:?}, body: {body:?}, takes_cpu: {takes}, takes_mxcsr: {takes_mxcsr}, needs_eip: {needs_eip}, flow: Flow::{flow:?}, lock: Lock::{lock:?}, \
         rep: Rep::{rep:?}, privilege: Privilege::{privilege:?}, cpuid: &{cpuid:?}, exceptions: &{exceptions:?}, after_pop: {after_pop}, unaligned: {unaligned}, status: {status}, \
         note: {note:?}, departures: &[{departures}], has_vvvv: {has_vvvv}, without_prefix: {without_prefix:?}, families: {families:?} }},",
        room = form.room,
        line = form.place.line(),
        mnemonic = form.mnemonic,
        doc = form.doc,
        op = form.op,
        ops = form.ops,
        operands = operands.join(", "),
        also = also.join(", "),
        imms = imms.join(", "),
        rule_name = form.flags,
        reads = form.reads,
        writes = rule.is_some_and(FlagRule::writes),
        by_count = rule.is_some_and(|rule| rule.by_count),
        kills = masks(Effect::kills),
        undefined = masks(Effect::undefined),
        condition = form.condition,
        body = form.body,
        takes = form.takes.cpu(),
        takes_mxcsr = form.takes == Takes::Mxcsr,
        needs_eip = super::families::needs_eip(form),
        flow = form.flow,
        lock = form.lock,
        rep = form.rep,
        privilege = form.privilege,
        cpuid = form.cpuid,
        exceptions = form.exceptions,
        after_pop = form.after_pop,
        unaligned = form.unaligned,
        note = form.note,
        vendor_flags = vendor_flags.join(", "),
        departures = departures(&form.departures),
        has_vvvv = form.operands.iter().any(|operand| operand.code == Code::B),
    );
}

fn departures(departures: &[Departure]) -> String {
    let one = |Departure { vendor, part, how }: &Departure| {
        format!("Departure {{ vendor: Vendor::{vendor}, part: Part::{part}, how: {how:?} }}, ")
    };
    departures.iter().map(one).collect()
}

/// What vendors make of a rule's undefined flags.
fn vendor_flags(rule: &FlagRule) -> Vec<String> {
    let of_vendor = |vendor: &VendorFlags| {
        let masks = |wanted: Effect| [0, 1, 2].map(|case| mask(|at| vendor.cases[case][at] == Some(wanted)));
        format!(
            "VendorFlags {{ vendor: Vendor::{}, cleared: {:?}, set: {:?}, kept: {:?}, written: {:?} }}",
            vendor.vendor,
            masks(Effect::Cleared),
            masks(Effect::Set),
            masks(Effect::Kept),
            masks(Effect::Written)
        )
    };
    rule.vendors.iter().map(of_vendor).collect()
}

/// Something that a row touches beside its operands, as an expression.
fn also_text(also: &Also) -> String {
    format!(
        "Also {{ place: Implicit::{:?}, size: Size::{:?}, access: Access::{:?} }}",
        also.place, also.size, also.access
    )
}
