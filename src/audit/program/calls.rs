//! System calls that a program's code makes, as far as their numbers stand before them.

use super::{How, Tally};
use crate::isa::decode::NO_REG;
use crate::isa::{Code, Flow, Insn, Operand};
use crate::loader::code::Image;
use std::collections::BTreeMap;

/// The vector of Linux's system calls.
const VECTOR: u32 = 0x80;
/// Where in the thread's block glibc keeps the address of the vDSO's entry.
const SYSINFO: u32 = 0x10;

/// System calls of a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// By number.
    pub by_number: BTreeMap<u32, Tally>,
    /// Made with a number that is not to be seen.
    pub unseen: Tally,
}

/// What EAX is known to hold.
#[derive(Default)]
pub(super) struct Tracker {
    eax: Option<u32>,
    /// A constant that was pushed just before.
    pushed: Option<u32>,
}

impl Tracker {
    /// After an instruction of which nothing is known.
    pub(super) fn forget(&mut self) {
        *self = Tracker::default();
    }

    /// Follows one instruction.
    fn step(&mut self, insn: &Insn) {
        let form = insn.form();
        let pushed = self.pushed.take();
        match form.mnemonic {
            "push" => {
                let is_constant =
                    form.operands.iter().any(|operand| matches!(operand.code, Code::I | Code::SignedI));
                self.pushed = is_constant.then_some(insn.imm);
                return;
            }
            "pop"
                if insn.mem.is_none()
                    && form.operands.first().is_some_and(|operand| is_eax(insn, operand)) =>
            {
                return self.eax = pushed;
            }
            _ => {}
        }
        let Some(first) = form.operands.first().filter(|operand| is_eax(insn, operand)) else {
            if writes_eax(insn) {
                self.eax = None;
            }
            return;
        };
        let is_whole = matches!(crate::isa::decode::operand_bytes(first.size, insn.opsize16), 4);
        self.eax = match form.mnemonic {
            "mov" if is_whole && form.imms.len() == 1 && insn.mem.is_none() => Some(insn.imm),
            // `mov al, N` behind `xor eax, eax`, of programs that want to be short.
            "mov" if form.imms.len() == 1 && insn.mem.is_none() && self.eax.is_some_and(|eax| eax < 256) => {
                Some(insn.imm & 255)
            }
            "xor" | "sub"
                if is_whole && insn.mem.is_none() && insn.modrm >= 0xc0 && insn.reg() == insn.rm() =>
            {
                Some(0)
            }
            _ if writes_eax(insn) => None,
            _ => self.eax,
        };
    }
}

/// Tells whether an operand is EAX or its low part.
fn is_eax(insn: &Insn, operand: &Operand) -> bool {
    match operand.code {
        Code::Reg(0) => true,
        Code::Z => insn.low == 0,
        Code::G => insn.reg() == 0,
        Code::E | Code::R => insn.mem.is_none() && insn.rm() == 0,
        _ => false,
    }
}

/// Tells whether EAX may be another afterwards. Of bodies that work on the whole machine, only those that say so leave it.
fn writes_eax(insn: &Insn) -> bool {
    let form = insn.form();
    let written = form.operands.iter().any(|operand| operand.access.writes() && is_eax(insn, operand));
    let is_high = form.operands.iter().any(|operand| operand.code == Code::Reg(4) && operand.access.writes());
    let hidden = form.takes_cpu && form.operands.is_empty();
    written || is_high || hidden || matches!(form.flow, Flow::Call | Flow::Far)
}

impl Calls {
    /// Looks whether an instruction makes a system call, and what is known of EAX behind it.
    pub(super) fn note(&mut self, tracker: &mut Tracker, insn: &Insn, how: How, image: &Image) {
        if is_call(insn, image) {
            match tracker.eax {
                Some(number) => self.by_number.entry(number).or_default().add(how, insn.eip),
                None => self.unseen.add(how, insn.eip),
            }
            tracker.forget();
        } else {
            tracker.step(insn);
        }
    }

    pub(super) fn merge(&mut self, other: &Calls, file: u32) {
        for (number, tally) in &other.by_number {
            self.by_number.entry(*number).or_default().merge(tally, file);
        }
        self.unseen.merge(&other.unseen, file);
    }
}

/// `int 0x80`, SYSENTER, and calls through `gs:[0x10]` or through a word that points to `int 0x80; ret`, as glibc makes them.
fn is_call(insn: &Insn, image: &Image) -> bool {
    const TRAP_AND_RETURN: [u8; 3] = [0xcd, 0x80, 0xc3];
    let form = insn.form();
    match form.mnemonic {
        "int" => insn.imm == VECTOR,
        "sysenter" => true,
        "call" if form.flow == Flow::Call => {
            let Some(mem) = insn.mem.filter(|mem| mem.base == NO_REG && mem.index == NO_REG) else {
                return false;
            };
            let through = || image.word_at(mem.disp).and_then(|target| image.bytes_at(target));
            match insn.segment {
                Some(crate::cpu::Seg::Gs) => mem.disp == SYSINFO,
                None => through().is_some_and(|bytes| bytes.starts_with(&TRAP_AND_RETURN)),
                Some(_) => false,
            }
        }
        _ => false,
    }
}
