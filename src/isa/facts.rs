//! What only readers of the tables want to know: flag rules in words, and where bodies are.

use super::Form;

include!(concat!(env!("OUT_DIR"), "/facts.rs"));

/// A flag rule of `rules.toml`. Masks are for counts 0, 1 and larger, equal where no count matters; what is in none of them is
/// kept.
#[derive(Clone, Copy, Debug)]
pub struct FlagRule {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Flags that depend on the operands.
    pub written: [u8; 3],
    /// Flags that become 1.
    pub set: [u8; 3],
    /// Flags that become 0.
    pub cleared: [u8; 3],
}

/// A function that carries out rows.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// The table's file stem; the file is `src/cpu/insn/<room>.rs`.
    pub room: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// Its line.
    pub line: u32,
}

impl Form {
    /// The rule of its flags.
    pub fn flag_rule(&self) -> Option<&'static FlagRule> {
        FLAG_RULES.iter().find(|rule| rule.name == self.flags.rule)
    }

    /// Where its body is: `src/cpu/insn/shift.rs:45`. `None` for what the engine does itself, and for rows without a body.
    pub fn body_place(&self) -> Option<String> {
        let runs = self.status == super::Status::Implemented && self.privilege != super::Privilege::Cpl;
        let body =
            BODIES.iter().find(|body| (body.room, body.name) == (self.room, self.body)).filter(|_| runs)?;
        Some(format!("src/cpu/insn/{}.rs:{}", body.room, body.line))
    }

    /// Where the row is: `opcodes/shift.toml:123`.
    pub fn row_place(&self) -> String {
        format!("opcodes/{}.toml:{}", self.room, self.line)
    }
}
