//! What the tables say about comparing an instruction: what is left undefined, what it may write, what cannot be repeated.

use super::mirror::Reference;
use super::state::{MXCSR_MASK, Registers};
use crate::cpu::image::{FXSAVE_BYTES, LEGACY_BYTES, XSAVE_BYTES};
use crate::cpu::{Fault, FaultKind, eflags, reg};
use crate::isa::decode::{NO_REG, operand_bytes};
use crate::isa::{Access, Code, CpuModel, Flow, Form, Insn, Operand, Rep, Size, Status, Vendor, flag};
use crate::kernel::table;
use std::ops::Range;

/// How an instruction is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Both sides execute it.
    Plain,
    /// As `Plain`, by itself, since something has to be done before or after it.
    Alone,
    /// A system call: made once, by the reference.
    Call,
    /// No two executions are alike: done once, by the reference.
    Once,
    /// CPUID and XGETBV, answered for both by our model.
    Cpuid,
}

/// Instructions whose result is that of a moment or of a machine.
const ONCE: [&str; 8] = ["rdtsc", "rdtscp", "rdpid", "sgdt", "sidt", "sldt", "str", "smsw"];
/// Bodies that store the FPU's pointers.
const STORES_POINTERS: [&str; 4] = ["fnstenv", "fnsave", "fxsave", "xsave"];
/// Bodies whose results differ between processors in the last bit.
const TRANSCENDENTAL: [&str; 8] = ["f2xm1", "fyl2x", "fyl2xp1", "fptan", "fpatan", "fsin", "fcos", "fsincos"];

/// How `insn` is compared on a processor that CPUID describes as `cpu`.
pub(super) fn class(insn: &Insn, cpu: &CpuModel) -> Class {
    let form = insn.form();
    // What Table86 lacks is a difference like any other.
    let here = form.status == Status::Implemented && cpu.has_all(form.cpuid);
    match form.mnemonic {
        "int" if insn.imm & 0xff == 0x80 => Class::Call,
        "sysenter" => Class::Call,
        "cpuid" => Class::Cpuid,
        "xgetbv" if here => Class::Cpuid,
        name if here && ONCE.contains(&name) => Class::Once,
        name if STORES_POINTERS.contains(&name) => Class::Alone,
        _ if is_transcendental(form) || shadows_next(insn) => Class::Alone,
        _ => Class::Plain,
    }
}

/// Whether a difference in the last bit is one between processors.
pub(super) fn is_transcendental(form: &Form) -> bool {
    TRANSCENDENTAL.contains(&form.body)
}

/// Whether the FPU's pointers, which processors and kernels keep differently, go to memory.
pub(super) fn stores_pointers(insn: &Insn) -> bool {
    STORES_POINTERS.contains(&insn.form().mnemonic)
}

/// Whether traps wait until the next instruction is complete: a load of SS (SDM Vol. 3A, 6.8.3).
pub(super) fn shadows_next(insn: &Insn) -> bool {
    const SS: u8 = 2;
    let form = insn.form();
    let loaded = form.operands.first().is_some_and(|operand| match operand.code {
        Code::S => insn.reg() == SS,
        Code::SegReg(number) => number == SS,
        _ => false,
    });
    loaded && matches!(form.mnemonic, "mov" | "pop")
}

/// What a processor that CPUID describes as `cpu` makes of an instruction: where it lacks the one that a prefix selects, the
/// prefix is ignored.
pub(super) fn resolved(insn: Insn, cpu: &CpuModel) -> Insn {
    if cpu.has_all(insn.form().cpuid) { insn } else { insn.without_prefix().unwrap_or(insn) }
}

/// Whether the first byte is a prefix that means nothing to our model, but something else to a newer processor: `rep bsf` is
/// TZCNT where that exists.
pub(super) fn has_idle_prefix(insn: &Insn, bytes: &[u8]) -> bool {
    const REPE: u8 = 0xf3;
    bytes.first() == Some(&REPE) && matches!(insn.form().mnemonic, "bsf" | "bsr")
}

/// Whether a trap comes after each round.
pub(super) fn repeats(insn: &Insn) -> bool {
    insn.form().rep != Rep::Ignored && insn.rep != 0
}

/// Whether FPU or vector registers take part.
pub(super) fn touches_floats(form: &Form) -> bool {
    let vector = |operand: &Operand| {
        use Code::{N, P, Q, St, StI, U, V, W};
        matches!(operand.code, P | Q | N | V | W | U | St | StI)
    };
    ["x87", "mmx", "sse", "fxsave"].iter().any(|room| form.room.starts_with(room))
        || form.operands.iter().any(vector)
}

/// Bits of EFLAGS that `insn` leaves undefined, and those that no longer depend on what they were.
pub(super) fn undefined_and_new(insn: &Insn, before: &Registers) -> (u32, u32) {
    let flags = &insn.form().flags;
    let case = match count(insn, before) {
        _ if !flags.by_count => 0,
        Some(0) => 0,
        Some(1) => 1,
        _ => 2,
    };
    (image(flags.undefined[case]), image(flags.kills[case]))
}

/// Bits of EFLAGS that `insn` may read.
pub(super) fn read_flags(insn: &Insn) -> u32 {
    let form = insn.form();
    if form.takes_cpu { eflags::STATUS } else { image(form.flags.reads) }
}

/// The masked count of a shift or rotation.
fn count(insn: &Insn, before: &Registers) -> Option<u32> {
    let count = insn.form().operands.iter().rev().find(|operand| operand.size == Size::B)?;
    match count.code {
        Code::I => Some(insn.imm & 31),
        Code::One => Some(1),
        Code::Reg(1) => Some(before.regs[reg::ECX] & 31),
        _ => None,
    }
}

/// A flag mask of the tables as bits of EFLAGS.
fn image(mask: u8) -> u32 {
    let bits = [
        (flag::C, eflags::CF),
        (flag::P, eflags::PF),
        (flag::A, eflags::AF),
        (flag::Z, eflags::ZF),
        (flag::S, eflags::SF),
        (flag::O, eflags::OF),
        (flag::D, eflags::DF),
    ];
    bits.into_iter().filter(|(bit, _)| mask & bit != 0).map(|(_, bit)| bit).sum()
}

/// Most bytes of one instruction that are compared at once; the rest waits for the next look at all memory.
const MOST_BYTES: u32 = 1 << 16;
/// Room for an operand whose size is its body's to know: an FSAVE image.
const IMAGE_BYTES: u32 = 108;

/// Where an instruction may have written, seen from its registers before and after it. Too much does no harm.
pub(super) fn written(insn: &Insn, before: &Registers, after: &Registers) -> Vec<Range<u32>> {
    let form = insn.form();
    let mut ranges = Vec::new();
    let mut note = |start: u32, len: u32| ranges.push(start..start.saturating_add(len.min(MOST_BYTES)));
    for operand in form.operands.iter().filter(|operand| operand.access.writes()) {
        match operand.code {
            Code::Y | Code::XEdi => {
                let (from, to) = (before.regs[reg::EDI], after.regs[reg::EDI]);
                let len = from.abs_diff(to).saturating_add(16);
                note(from.min(to), len);
            }
            code if code.may_be_memory() => {
                let Some(addr) = address(insn, operand, before, after) else { continue };
                match (form.mnemonic, operand_bytes(operand.size, insn.opsize16)) {
                    ("fxsave" | "xsave", _) => note(addr, FXSAVE_BYTES as u32),
                    (_, 0) => note(addr, IMAGE_BYTES),
                    (_, bytes) => note(addr, bytes),
                }
            }
            _ => {}
        }
    }
    let (old, new) = (before.regs[reg::ESP], after.regs[reg::ESP]);
    if new < old && (form.room == "stack" || form.flow != Flow::Next) {
        note(new, old - new);
    }
    unspecified(insn, before)
        .iter()
        .fold(ranges, |ranges, hole| ranges.into_iter().flat_map(|range| without(range, hole)).collect())
}

/// What is left of a range.
fn without(range: Range<u32>, hole: &Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let before = range.start..range.end.min(hole.start);
    let behind = range.start.max(hole.end)..range.end;
    [before, behind].into_iter().filter(|part| part.start < part.end)
}

/// Where an instruction's operands in memory begin.
pub(super) fn operand_places(insn: &Insn, before: &Registers) -> impl Iterator<Item = u32> {
    insn.form().operands.iter().filter_map(move |operand| match operand.code {
        _ if matches!(operand.access, Access::Address | Access::Shown) => None,
        Code::X => Some(before.regs[reg::ESI]),
        Code::Y | Code::XEdi => Some(before.regs[reg::EDI]),
        _ => address(insn, operand, before, before),
    })
}

/// Where an instruction has written what is not promised, and is taken from the reference.
pub(super) fn unspecified(insn: &Insn, before: &Registers) -> Vec<Range<u32>> {
    /// Where XSTATE_BV is, or reserved for software.
    const fn behind(bytes: usize) -> Range<u32> {
        FXSAVE_BYTES as u32..bytes as u32
    }
    let parts = match insn.form().mnemonic {
        "fxsave" => vec![MXCSR_MASK, behind(LEGACY_BYTES)],
        "xsave" => vec![MXCSR_MASK, behind(XSAVE_BYTES)],
        "fnstenv" | "fnsave" if hides_pointers() && insn.opsize16 => std::iter::once(6..14).collect(),
        "fnstenv" | "fnsave" if hides_pointers() => std::iter::once(12..28).collect(),
        _ => return Vec::new(),
    };
    let operand = insn.form().operands.iter().find(|operand| operand.code == Code::M);
    let Some(addr) = operand.and_then(|operand| address(insn, operand, before, before)) else {
        return Vec::new();
    };
    let at = |offset: u32| addr.wrapping_add(offset);
    parts.into_iter().map(|part| at(part.start)..at(part.end)).collect()
}

/// Whether the host's kernel cannot say what the FPU's pointers are, which FNSTENV stores: it asks by FXSAVE or XSAVE, and AMD's
/// processors have them there only while an exception is pending (APM Vol. 5, "FXSAVE").
fn hides_pointers() -> bool {
    Vendor::of_host().is_some_and(|vendor| Vendor::Amd.covers(vendor))
}

/// Linear address of a memory operand, of what part of a bit string is touched; `None` for a register.
fn address(insn: &Insn, operand: &Operand, before: &Registers, after: &Registers) -> Option<u32> {
    let mem = insn.mem?;
    let form = insn.form();
    let registers = if form.after_pop { after } else { before };
    let register = |number: u8| match number {
        NO_REG => 0,
        number => registers.regs[usize::from(number)],
    };
    let mut offset = register(mem.base).wrapping_add(register(mem.index) << mem.scale).wrapping_add(mem.disp);
    let by_register = form.operands.iter().any(|operand| operand.code == Code::G);
    if form.room == "bit" && by_register && matches!(operand.access, Access::LinearW | Access::LinearRw) {
        let bit = before.regs[usize::from(insn.reg())];
        let word = if insn.opsize16 { i32::from(bit as i16) >> 4 << 1 } else { bit.cast_signed() >> 5 << 2 };
        offset = offset.wrapping_add(word.cast_unsigned());
    }
    if insn.addr16 {
        offset &= 0xffff;
    }
    let base = match mem.seg {
        crate::cpu::Seg::Fs => before.bases[0],
        crate::cpu::Seg::Gs => before.bases[1],
        _ => 0,
    };
    Some(base.wrapping_add(offset))
}

/// Calls after which mappings may be others that look the same.
pub(super) const CHANGES_MAP: [&str; 9] =
    ["mmap", "mmap2", "munmap", "mremap", "mprotect", "remap_file_pages", "shmat", "shmdt", "ipc"];

/// The system call that is about to be made.
pub(super) fn call_name(before: &Registers) -> &'static str {
    table::info(before.regs[reg::EAX]).map_or("", |row| row.name)
}

/// Whether clone(2) or clone3(2) makes a task that shares memory with one that runs on.
pub(super) fn makes_thread(reference: &dyn Reference, name: &str, registers: &Registers) -> bool {
    let flags = if name == "clone" {
        registers.regs[reg::EBX]
    } else {
        let mut bytes = [0; 4];
        reference.read(registers.regs[reg::EBX], &mut bytes);
        u32::from_le_bytes(bytes)
    };
    flags & libc::CLONE_VM as u32 != 0 && flags & libc::CLONE_VFORK as u32 == 0
}

/// The signal that Linux makes of an exception.
pub(super) fn signal_of(fault: Fault) -> i32 {
    match fault.kind {
        FaultKind::De | FaultKind::Mf | FaultKind::Xm => libc::SIGFPE,
        FaultKind::Db | FaultKind::Bp => libc::SIGTRAP,
        FaultKind::Int if fault.code == 3 => libc::SIGTRAP,
        FaultKind::Ud | FaultKind::Todo | FaultKind::Sysenter => libc::SIGILL,
        FaultKind::Np | FaultKind::Ss | FaultKind::Ac => libc::SIGBUS,
        FaultKind::Of | FaultKind::Br | FaultKind::Nm | FaultKind::Gp | FaultKind::Pf | FaultKind::Int => {
            libc::SIGSEGV
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::decode;

    fn insn(bytes: &[u8]) -> Insn {
        decode(bytes, 0x1000).expect("an instruction")
    }

    fn registers(changes: &[(usize, u32)]) -> Registers {
        let mut registers = Registers::default();
        changes.iter().for_each(|&(at, value)| registers.regs[at] = value);
        registers
    }

    #[test]
    fn what_cannot_be_repeated_is_taken_over() {
        let cpu = CpuModel::default();
        for (bytes, expected) in [
            (&[0xcd, 0x80][..], Class::Call),
            (&[0xcd, 0x03], Class::Plain),
            (&[0x0f, 0xa2], Class::Cpuid),
            (&[0x0f, 0x01, 0xd0], Class::Cpuid),
            (&[0x0f, 0x31], Class::Once),
            (&[0xd9, 0xfe], Class::Alone),
            (&[0x8e, 0xd0], Class::Alone),
            (&[0x8e, 0xd8], Class::Plain),
            (&[0x01, 0xd8], Class::Plain),
        ] {
            assert_eq!(class(&insn(bytes), &cpu), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn undefined_flags_follow_the_count() {
        let shl_cl = insn(&[0xd3, 0xe0]);
        let by = |count| undefined_and_new(&shl_cl, &registers(&[(reg::ECX, count)]));
        assert_eq!(by(32), (0, 0));
        assert_eq!(by(1).0, eflags::AF);
        assert_eq!(by(2).0, eflags::AF | eflags::OF);
    }

    #[test]
    fn written_memory_is_found() {
        let before = registers(&[(reg::ESP, 0x100), (reg::EBX, 0x2000), (reg::EDI, 0x40), (reg::EAX, 65)]);
        let with = |register, value| registers(&[(register, value)]);
        for (bytes, after, expected) in [
            // push eax
            (&[0x50][..], with(reg::ESP, 0xfc), Some((0xfc, 0x100))),
            // mov word ptr [ebx+4], ax
            (&[0x66, 0x89, 0x43, 4], before, Some((0x2004, 0x2006))),
            // sub esp, 8
            (&[0x83, 0xec, 8], with(reg::ESP, 0xf8), None),
            // bts dword ptr [ebx], eax
            (&[0x0f, 0xab, 0x03], before, Some((0x2008, 0x200c))),
            // rep stosd
            (&[0xf3, 0xab], with(reg::EDI, 0x80), Some((0x40, 0x90))),
        ] {
            let found = written(&insn(bytes), &before, &after);
            assert_eq!(found.first().map(|range| (range.start, range.end)), expected, "{bytes:x?}");
        }
    }
}
