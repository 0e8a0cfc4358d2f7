//! The rows: `[[insn]]` tables into fully expanded forms.

use super::notation::{self, Access, Also, Code, Encoding, Low, Mandatory, Operand, Size};
use super::report::{Place, Report, Source};
use super::rules::{self, Rules};
use super::vendors::{self, Departure};
use super::walk::Table;
use std::rc::Rc;

/// How EIP goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Next,
    Branch,
    Jump,
    Call,
    Ret,
    Far,
    Sync,
    Trap,
}

/// Where LOCK is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    Never,
    /// With a memory operand 1.
    Legal,
    /// With a memory operand 1, and locked even without the prefix.
    Always,
}

/// What F2 and F3 mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names)] // named as the manual names the prefixes
pub enum Rep {
    Ignored,
    Rep,
    Repe,
}

/// Who may execute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    User,
    Cpl,
    Iopl,
}

/// What a body gets besides operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    Values,
    Cpu,
    CpuEip,
    /// As `CpuEip`; and the host's FPU does the same by the row's opcode.
    X87,
    /// Operands, and the control and status of SSE.
    Mxcsr,
    /// Operands, and whether the host has the instruction.
    Host,
}

impl Takes {
    /// Whether the body gets the CPU.
    pub fn cpu(self) -> bool {
        matches!(self, Takes::Cpu | Takes::CpuEip | Takes::X87)
    }
}

/// Whether a row runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Implemented,
    Todo(String),
}

/// One form of one instruction, conditions expanded.
#[derive(Clone, Debug)]
pub struct Form {
    pub mnemonic: String,
    pub doc: String,
    /// File stem of the table, which is also the bodies' module.
    pub room: String,
    pub place: Place,
    pub op_place: Place,
    pub op: String,
    pub ops: String,
    pub encoding: Encoding,
    pub operands: Vec<Operand>,
    /// What it reads and writes beside its operands.
    pub also: Vec<Also>,
    pub flags: String,
    pub reads: u8,
    pub condition: Option<u8>,
    pub body: String,
    pub takes: Takes,
    pub size: Option<Size>,
    pub fallible: bool,
    pub exceptions: Vec<String>,
    pub flow: Flow,
    pub lock: Lock,
    pub rep: Rep,
    pub privilege: Privilege,
    pub cpuid: Vec<String>,
    pub after_pop: bool,
    /// Its 128-bit memory operand may stand anywhere.
    pub unaligned: bool,
    /// What the host needs for `takes = "host"`, if not what `cpuid` says.
    pub host: Vec<String>,
    pub note: String,
    /// What vendors do otherwise.
    pub departures: Vec<Departure>,
    pub status: Status,
}

impl Form {
    /// Whether a body is called for it.
    pub fn has_body(&self) -> bool {
        self.status == Status::Implemented
            && self.privilege == Privilege::User
            && !matches!(self.flow, Flow::Jump | Flow::Call | Flow::Ret)
    }

    /// Whether some operand or the body depends on the operand size.
    pub fn by_operand_size(&self) -> bool {
        self.size == Some(Size::V)
            || self.operands.iter().any(|operand| {
                matches!(operand.size, Size::V | Size::Z | Size::P | Size::A) || operand.code == Code::J
            })
            || matches!(self.flow, Flow::Jump | Flow::Call | Flow::Ret)
    }
}

const FORM_KEYS: [&str; 21] = [
    "also",
    "host",
    "flags",
    "reads",
    "body",
    "takes",
    "size",
    "exc",
    "flow",
    "lock",
    "rep",
    "cpl",
    "iopl",
    "cpuid",
    "after_pop",
    "unaligned",
    "note",
    "status",
    "op",
    "ops",
    "vendor",
];

/// Reads one table of instructions.
pub fn read(source: Rc<Source>, room: &str, rules: &Rules, report: &mut Report) -> Vec<Form> {
    let mut forms = Vec::new();
    let Some(top) = Table::parse(source, report) else { return forms };
    top.allow(&["insn", "vendor"], report);
    let of_table = vendors::departures(&top, report);
    for insn in top.tables("insn", report) {
        let mut keys = vec!["name", "doc", "each", "forms"];
        keys.extend(FORM_KEYS.iter().filter(|key| !key.starts_with("op")));
        insn.allow(&keys, report);
        let name = insn.required_str("name", report).unwrap_or_default();
        let doc = insn.required_str("doc", report).unwrap_or_default();
        let each = insn.str("each", report);
        if each.as_deref().is_some_and(|each| each != "cc") {
            report.error(&insn.place, "`each` can only be \"cc\"");
        }
        if insn.node("forms").is_none() {
            report.error(&insn.place, format!("`{name}` has no forms"));
        }
        let of_insn = vendors::departures(&insn, report);
        for row in insn.tables("forms", report) {
            row.allow(&FORM_KEYS, report);
            let of_row = vendors::departures(&row, report);
            if let Some(mut form) = form(&insn, &row, &name, &doc, room, rules, report) {
                form.departures = vendors::merge([of_row, of_insn.clone(), of_table.clone()]);
                expand(form, each.as_deref() == Some("cc"), rules, report, &mut forms);
            }
        }
    }
    forms
}

/// A form's fields fall back to its instruction's.
struct Fields<'a> {
    insn: &'a Table,
    row: &'a Table,
}

impl Fields<'_> {
    fn owner(&self, key: &str) -> &Table {
        if self.row.node(key).is_some() { self.row } else { self.insn }
    }
    fn str(&self, key: &str, report: &mut Report) -> Option<String> {
        self.owner(key).str(key, report)
    }
    fn bool(&self, key: &str, report: &mut Report) -> bool {
        self.owner(key).bool(key, report)
    }
    fn strings(&self, key: &str, report: &mut Report) -> Vec<String> {
        self.owner(key).strings(key, report)
    }
    /// One of several words, each with its meaning.
    fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)], default: T, report: &mut Report) -> T {
        let Some(text) = self.str(key, report) else { return default };
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => *value,
            None => {
                let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                let place = &self.owner(key).node(key).map_or(&self.row.place, |node| &node.place).clone();
                report.error(place, format!("`{key} = \"{text}\"`: known are {}", known.join(", ")));
                default
            }
        }
    }
}

fn form(
    insn: &Table,
    row: &Table,
    name: &str,
    doc: &str,
    room: &str,
    rules: &Rules,
    report: &mut Report,
) -> Option<Form> {
    let fields = Fields { insn, row };
    let op = row.required_str("op", report)?;
    let op_place = row.node("op").map_or(&row.place, |node| &node.place).clone();
    let ops = row.str("ops", report).unwrap_or_default();
    let ops_place = row.node("ops").map_or(&row.place, |node| &node.place).clone();
    let encoding = notation::encoding(&op).map_err(|message| report.error(&op_place, message)).ok();
    let operands = notation::operands(&ops).map_err(|message| report.error(&ops_place, message)).ok();
    let also = notation::also(&fields.str("also", report).unwrap_or_default())
        .map_err(|message| {
            let place = fields.owner("also").node("also").map_or(&row.place, |node| &node.place).clone();
            report.error(&place, message);
        })
        .unwrap_or_default();
    let flags = fields.str("flags", report).unwrap_or_else(|| {
        report.error(
            &row.place,
            format!("`{name}` does not say what it does to the flags; \"keep\" if nothing"),
        );
        "keep".into()
    });
    if !rules.flags.contains_key(&flags) {
        let place = fields.owner("flags").node("flags").map_or(&row.place, |node| &node.place).clone();
        report.error(&place, format!("no flag rule `{flags}` in rules.toml"));
    }
    let reads_text = fields.str("reads", report).unwrap_or_default();
    let conditional = reads_text == "{cc}";
    let reads = if conditional { Some(0) } else { rules::letters(&reads_text) };
    if reads.is_none() {
        report.error(&row.place, format!("`reads = \"{reads_text}\"`: letters of OSZAPCD, or {{cc}}"));
    }
    let exceptions = fields.strings("exc", report);
    let status = match fields.str("status", report) {
        None => Status::Implemented,
        Some(text) => match text.strip_prefix("todo: ") {
            Some(why) if !why.is_empty() => Status::Todo(why.to_owned()),
            _ => {
                report.error(&row.place, "`status` is \"todo: \" and the reason");
                Status::Implemented
            }
        },
    };
    let lock = match fields.owner("lock").node("lock").and_then(|node| node.str()) {
        Some("always") => Lock::Always,
        _ if fields.owner("lock").node("lock").is_none() => Lock::Never,
        _ if fields.bool("lock", report) => Lock::Legal,
        _ => Lock::Never,
    };
    let takes = fields.choice(
        "takes",
        &[
            ("cpu", Takes::Cpu),
            ("cpu eip", Takes::CpuEip),
            ("x87", Takes::X87),
            ("mxcsr", Takes::Mxcsr),
            ("host", Takes::Host),
        ],
        Takes::Values,
        report,
    );
    let flow = fields.choice(
        "flow",
        &[
            ("branch", Flow::Branch),
            ("jump", Flow::Jump),
            ("call", Flow::Call),
            ("ret", Flow::Ret),
            ("far", Flow::Far),
            ("sync", Flow::Sync),
            ("trap", Flow::Trap),
        ],
        Flow::Next,
        report,
    );
    let rep = fields.choice("rep", &[("rep", Rep::Rep), ("repe", Rep::Repe)], Rep::Ignored, report);
    let size = fields.choice(
        "size",
        &[
            ("b", Some(Size::B)),
            ("w", Some(Size::W)),
            ("d", Some(Size::D)),
            ("q", Some(Size::Q)),
            ("v", Some(Size::V)),
        ],
        None,
        report,
    );
    let privilege = match (fields.bool("cpl", report), fields.bool("iopl", report)) {
        (true, _) => Privilege::Cpl,
        (false, true) => Privilege::Iopl,
        _ => Privilege::User,
    };
    Some(Form {
        mnemonic: name.to_owned(),
        doc: doc.to_owned(),
        room: room.to_owned(),
        place: row.place.clone(),
        op_place,
        encoding: encoding?,
        operands: operands?,
        also,
        op,
        ops,
        flags,
        reads: reads.unwrap_or(0),
        condition: conditional.then_some(0),
        body: fields.str("body", report).unwrap_or_else(|| name.replace("{cc}", "cc")),
        takes,
        size,
        fallible: takes.cpu() || (matches!(takes, Takes::Values | Takes::Host) && !exceptions.is_empty()),
        exceptions,
        flow,
        lock,
        rep,
        privilege,
        cpuid: fields.strings("cpuid", report),
        after_pop: fields.bool("after_pop", report),
        unaligned: fields.bool("unaligned", report),
        host: fields.strings("host", report),
        note: fields.str("note", report).unwrap_or_default(),
        departures: Vec::new(),
        status,
    })
}

/// Replaces `{cc}` and `+cc` by each condition, and checks what a form says of itself.
fn expand(form: Form, each: bool, rules: &Rules, report: &mut Report, forms: &mut Vec<Form>) {
    check(&form, each, report);
    if !each || form.encoding.low != Low::Condition {
        forms.push(form);
        return;
    }
    for (code, condition) in rules.conditions.iter().enumerate() {
        let mut one = form.clone();
        one.mnemonic = form.mnemonic.replace("{cc}", &condition.name);
        one.doc = form.doc.replace("{cc}", &condition.doc);
        one.condition = form.condition.map(|_| code as u8);
        if form.condition.is_some() {
            one.reads = condition.reads;
        }
        one.encoding.opcode |= code as u8;
        one.encoding.low = Low::Nothing;
        forms.push(one);
    }
}

fn check(form: &Form, each: bool, report: &mut Report) {
    let encoding = &form.encoding;
    let place = &form.op_place;
    if each != (encoding.low == Low::Condition) {
        report.error(place, "`+cc` and `each = \"cc\"` go together");
    }
    if form.mnemonic.contains("{cc}") != each {
        report.error(place, "`{cc}` in the name and `each = \"cc\"` go together");
    }
    let uses = |codes: &[Code]| form.operands.iter().any(|operand| codes.contains(&operand.code));
    let modrm = encoding.modrm != notation::ModRm::Absent;
    if uses(&[Code::B]) && encoding.vex.is_none() {
        report.error(place, "an operand is in a VEX prefix, which the opcode string lacks");
    }
    const IN_MODRM: [Code; 13] = [
        Code::E,
        Code::G,
        Code::M,
        Code::R,
        Code::S,
        Code::C,
        Code::D,
        Code::P,
        Code::Q,
        Code::N,
        Code::V,
        Code::W,
        Code::U,
    ];
    if uses(&IN_MODRM) && !modrm {
        report.error(place, "an operand is in a ModRM byte, which the opcode string lacks");
    }
    if uses(&[Code::Z]) != (encoding.low == Low::Register) {
        report.error(place, "`+r` and an operand with code Z go together");
    }
    let wanted: Vec<notation::Imm> = form.operands.iter().filter_map(immediate_of).collect();
    let wildcard = |imm: &notation::Imm| if *imm == notation::Imm::Id { notation::Imm::Iz } else { *imm };
    let has: Vec<notation::Imm> = encoding.imms.iter().map(wildcard).collect();
    // An immediate that no operand shows (AAM's base is shown; a form may leave one out by purpose) is an error.
    if wanted.len() != has.len() || wanted.iter().zip(&has).any(|(wanted, has)| wildcard(wanted) != *has) {
        report.error(
            place,
            format!("the operands `{}` want other immediates than `{}` has", form.ops, form.op),
        );
    }
    if form.lock != Lock::Never {
        let first = form.operands.first();
        let memory = first.is_some_and(|operand| matches!(operand.code, Code::E | Code::M));
        let written = first.is_some_and(|operand| operand.writes() || operand.access == Access::LinearRw);
        if !(memory && written) {
            report.error(place, "LOCK needs a first operand that is memory and written");
        }
    }
    if form.flow == Flow::Branch && !uses(&[Code::J]) {
        report.error(place, "`flow = \"branch\"` needs an operand with code J");
    }
    if matches!(encoding.mandatory, Mandatory::F2 | Mandatory::F3) && form.rep != Rep::Ignored {
        report.error(place, "a mandatory prefix cannot also repeat");
    }
}

/// The immediate bytes that an operand takes.
fn immediate_of(operand: &Operand) -> Option<notation::Imm> {
    Some(match (operand.code, operand.size) {
        (Code::I, Size::B) | (Code::SignedI, _) => notation::Imm::Ib,
        (Code::I, Size::W) => notation::Imm::Iw,
        (Code::I, _) => notation::Imm::Iz,
        (Code::J, Size::B) => notation::Imm::Cb,
        (Code::J, _) => notation::Imm::Cz,
        (Code::A, _) => notation::Imm::Cp,
        (Code::O, _) => notation::Imm::Mo,
        _ => return None,
    })
}
