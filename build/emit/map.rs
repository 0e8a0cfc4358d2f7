//! `opcodes/MAP.txt`: every row, expanded, in opcode order, to be searched and compared.

use crate::build::notation::{Low, Mandatory, ModRm};
use crate::build::schema::{Form, Privilege, Status};
use std::fmt::Write as _;

/// Makes the text.
pub fn emit(forms: &[Form]) -> String {
    let mut order: Vec<&Form> = forms.iter().collect();
    order.sort_by_key(|form| {
        let encoding = &form.encoding;
        let modrm = match encoding.modrm {
            ModRm::Absent => 0,
            ModRm::Any => 1,
            ModRm::Digit(digit) => 0x100 | u16::from(digit) << 4,
            ModRm::Fixed { byte, .. } => 0x1000 | u16::from(byte),
        };
        (encoding.map, encoding.opcode, encoding.mandatory, modrm, form.ops.clone())
    });
    let mut out = String::from(
        "# Made from opcodes/*.toml; a test compares. Columns: encoding, instruction, flags rule, what else, row.\n",
    );
    for form in order {
        let mut notes = Vec::new();
        if let Status::Todo(_) = form.status {
            notes.push("todo".to_owned());
        }
        if form.privilege != Privilege::User {
            notes.push("#GP in user mode".to_owned());
        }
        if !form.cpuid.is_empty() {
            notes.push(form.cpuid.join(" "));
        }
        let _ = writeln!(
            out,
            "{:<20} {:<40} {:<10} {:<24} {}",
            encoding_text(form),
            format!("{} {}", form.mnemonic, form.ops).trim_end(),
            form.flags,
            notes.join(", "),
            form.place.short(),
        );
    }
    out.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

fn encoding_text(form: &Form) -> String {
    let encoding = &form.encoding;
    if encoding.vex.is_some() {
        return form.op.clone();
    }
    let prefix = match encoding.mandatory {
        Mandatory::Any => "",
        Mandatory::Np => "NP ",
        Mandatory::P66 => "66 ",
        Mandatory::F3 => "F3 ",
        Mandatory::F2 => "F2 ",
    };
    let escape = ["", "0F ", "0F 38 ", "0F 3A "][usize::from(encoding.map)];
    let low = if encoding.low == Low::Register { "+r" } else { "" };
    let modrm = match encoding.modrm {
        ModRm::Absent => String::new(),
        ModRm::Any => " /r".into(),
        ModRm::Digit(digit) => format!(" /{digit}"),
        ModRm::Fixed { byte, any_rm } => format!(" {byte:02X}{}", if any_rm { "+i" } else { "" }),
    };
    let imms: String =
        encoding.imms.iter().map(|imm| format!(" {}", format!("{imm:?}").to_lowercase())).collect();
    format!("{prefix}{escape}{:02X}{low}{modrm}{imms}", encoding.opcode)
}
