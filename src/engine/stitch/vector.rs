//! Instructions of handlers that access one of the guest's XMM registers, and how a copy may have it in one of the host's.
//!
//! The guest's XMM0 to XMM7 are kept in XMM8 to XMM15, which handlers rarely use.

use super::access::{Access, operand};
use super::kept::Kept;
use crate::cpu::Cpu;
use iced_x86::{Code, EncodingKind, Instruction, Mnemonic, OpKind};
use std::mem::offset_of;
use std::ops::Range;

/// Bytes of a register.
const BYTES: u32 = 16;
/// Where the CPU has them.
pub(super) const FILE: Range<u32> = offset_of!(Cpu, xmm) as u32..offset_of!(Cpu, xmm) as u32 + 8 * BYTES;
/// The host's register for the guest's first.
const FIRST: u32 = 8;

/// Those whose host register is among these, a bit each.
pub(super) fn of_hosts(hosts: u16) -> u8 {
    (hosts >> FIRST) as u8
}

/// The number of the host's register for one of the guest's.
pub(super) fn host(number: usize) -> usize {
    FIRST as usize + number
}

/// Writes a store of one's host register into the CPU.
pub(super) fn store(code: &mut Vec<u8>, number: u32) {
    whole(code, MOVAPS_STORE, (FIRST + number) as u8, FILE.start + number * BYTES);
}

/// Writes a load of one's host register from the CPU.
pub(super) fn load(code: &mut Vec<u8>, number: u32) {
    whole(code, MOVAPS, (FIRST + number) as u8, FILE.start + number * BYTES);
}

/// Those that lie in a range of the CPU, at least in part.
pub(super) fn overlapping(offset: u32, bytes: u32) -> u8 {
    let (start, end) = (offset.max(FILE.start), offset.saturating_add(bytes).min(FILE.end));
    let numbers = (start..end).map(|at| (at - FILE.start) / BYTES);
    numbers.fold(0, |all, number| all | 1 << number)
}

/// What an instruction does with its operand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vector {
    /// Loads so many bytes into an XMM register, zeros above.
    Load(u8),
    /// Stores so many low bytes of an XMM register.
    Store(u8),
    /// Reads all of it, and would do the same with a register.
    Operand,
    Other,
}

impl Vector {
    /// Of this instruction, which `reads` the operand and does not write it.
    pub(super) fn of(insn: &Instruction, reads: bool) -> Vector {
        match insn.code() {
            Code::Movaps_xmm_xmmm128
            | Code::Movups_xmm_xmmm128
            | Code::Movapd_xmm_xmmm128
            | Code::Movupd_xmm_xmmm128
            | Code::Movdqa_xmm_xmmm128
            | Code::Movdqu_xmm_xmmm128 => Vector::Load(16),
            Code::Movsd_xmm_xmmm64 | Code::Movq_xmm_xmmm64 => Vector::Load(8),
            Code::Movss_xmm_xmmm32 | Code::Movd_xmm_rm32 => Vector::Load(4),
            Code::Movaps_xmmm128_xmm
            | Code::Movups_xmmm128_xmm
            | Code::Movapd_xmmm128_xmm
            | Code::Movupd_xmmm128_xmm
            | Code::Movdqa_xmmm128_xmm
            | Code::Movdqu_xmmm128_xmm => Vector::Store(16),
            Code::Movsd_xmmm64_xmm | Code::Movq_xmmm64_xmm | Code::Movlps_m64_xmm | Code::Movlpd_m64_xmm => {
                Vector::Store(8)
            }
            Code::Movss_xmmm32_xmm | Code::Movd_rm32_xmm => Vector::Store(4),
            _ => {
                let registers = insn.op0_kind() == OpKind::Register && insn.op0_register().is_xmm();
                let only_memory = matches!(insn.mnemonic(), Mnemonic::Lddqu | Mnemonic::Movntdqa)
                    || insn.encoding() != EncodingKind::Legacy;
                let whole = insn.memory_size().size() as u32 == BYTES;
                if registers && reads && whole && !only_memory { Vector::Operand } else { Vector::Other }
            }
        }
    }
}

/// `prefix 0F opcode` from a register to another.
fn between(code: &mut Vec<u8>, prefix: &[u8], opcode: u8, to: u8, from: u8) {
    code.extend(prefix);
    code.extend([0x40 | (to >> 3) << 2 | from >> 3, 0x0f, opcode, 0xc0 | (to & 7) << 3 | from & 7]);
}

/// MOVAPS from the CPU (28) or to it (29).
fn whole(code: &mut Vec<u8>, opcode: u8, host: u8, offset: u32) {
    code.extend([0x40 | (host >> 3) << 2, 0x0f, opcode]);
    operand(code, host & 7, offset);
}

const MOVAPS: u8 = 0x28;
const MOVAPS_STORE: u8 = 0x29;
const MOV_SCALAR: u8 = 0x10;
const MOVQ: u8 = 0x7e;
const XORPS: u8 = 0x57;
const DOUBLE: &[u8] = &[0xf2];
const SINGLE: &[u8] = &[0xf3];

/// Writes an access to an XMM register, in its host register where that is possible. Tells whether it did; else nothing is
/// written. `uses` are the XMM registers that the handler uses itself.
pub(super) fn write(
    access: &Access,
    code: &mut Vec<u8>,
    kept: &mut Kept,
    uses: u16,
    offset: u32,
    field: impl Fn(u32, u8) -> u32,
) -> bool {
    let number = (offset - FILE.start) / BYTES;
    let host = (FIRST + number) as u8;
    if !(offset - FILE.start).is_multiple_of(BYTES) || uses >> host & 1 != 0 {
        return false;
    }
    let register = access.register();
    let is_kept = kept.has_vector(number);
    let load = |code: &mut Vec<u8>, kept: &mut Kept| {
        if !is_kept {
            whole(code, MOVAPS, host, offset);
            kept.add_vector(number);
        }
    };
    match access.vector() {
        Vector::Load(bytes) => {
            load(code, kept);
            match bytes {
                16 => between(code, &[], MOVAPS, register, host),
                8 => between(code, SINGLE, MOVQ, register, host),
                _ => {
                    between(code, &[], XORPS, register, register);
                    between(code, SINGLE, MOV_SCALAR, register, host);
                }
            }
        }
        Vector::Store(16) => {
            between(code, &[], MOVAPS, host, register);
            kept.add_vector(number);
            kept.owe_vector(number);
        }
        Vector::Store(bytes) => {
            load(code, kept);
            between(code, if bytes == 8 { DOUBLE } else { SINGLE }, MOV_SCALAR, host, register);
            kept.owe_vector(number);
        }
        Vector::Operand => {
            load(code, kept);
            access.register_form(code, host, field);
        }
        Vector::Other => return false,
    }
    true
}
