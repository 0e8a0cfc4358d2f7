//! Handlers that refuse an instruction, or its operand. Unsafe: as other handlers.

use super::handlers::{ahead, dispatch, enter, raise};
use super::op::{Ext, Op};
use super::operand::{Address, MemSib};
use crate::cpu::Exec;
use crate::cpu::fault::page_fault;
use crate::cpu::{Cpu, Exit, Fault, Word, reg};
use crate::isa::decode::operand_bytes;
use crate::isa::{Code, Form, Insn, Operand, Size};
use crate::memory::access::GuestValue;

/// A privileged instruction.
pub(super) unsafe extern "C" fn privileged(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: as for every handler.
    unsafe { raise(enter(cpu, op, mem), Fault::gp(0)) }
}

/// An instruction that may not access its operand, but waits for the FPU first.
pub(super) unsafe extern "C" fn privileged_wait(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    // Also while the host has the state, for then nothing is.
    let fault = if x.cpu().fpu.pending() { Fault::MF } else { Fault::gp(0) };
    // SAFETY: as for every handler.
    unsafe { raise(x, fault) }
}

/// An instruction that pops what it may not store: the stack is read first.
pub(super) unsafe extern "C" fn privileged_pop<W: Word + GuestValue>(
    cpu: *mut Cpu,
    op: *const Op,
    mem: *mut u8,
) -> *const Op {
    let x = enter(cpu, op, mem);
    let fault = x.peek::<W>().err().unwrap_or(Fault::gp(0));
    // SAFETY: as for every handler.
    unsafe { raise(x, fault) }
}

/// A repeated string instruction that may not access its operands: which it only does while ECX (CX) is not 0.
pub(super) unsafe extern "C" fn privileged_repeat(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    let count = x.reg::<u32>(reg::ECX as u8);
    if count == 0 || (x.addr16() && count as u16 == 0) {
        // SAFETY: as for every handler.
        return unsafe { dispatch(x, ahead(op, 1)) };
    }
    // SAFETY: as for every handler.
    unsafe { raise(x, Fault::gp(0)) }
}

/// Refuses the memory operand of the next op, in a segment that may have a base, where it runs over the segment's last offset. With
/// no base, that is the end of memory, where accesses fault by themselves. `imm2` is the operand's length in bytes, `aux` a
/// [`Limit`].
pub(super) unsafe extern "C" fn limit(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    let offset = MemSib::address(x);
    if offset > x.ext().imm2.wrapping_neg()
        && let Err(fault) = within_limit(x, offset)
    {
        // SAFETY: as for every handler.
        return unsafe { raise(x, fault) };
    }
    // SAFETY: as for every handler.
    unsafe { dispatch(x, ahead(op, 2)) }
}

/// What `limit` has to know of an instruction besides its operand's length.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limit {
    /// It raises what is pending in the x87 first.
    waits: bool,
    /// It refuses addresses that are no multiple of 16 first.
    aligned: bool,
    /// It writes the operand.
    writes: bool,
    /// Bytes of the parts that it accesses the operand by, one after the other; the last one may be shorter.
    part: u8,
}

/// Parts of an x87 environment; what lies behind are registers, each a significand and an exponent.
const ENVIRONMENT_PARTS: u32 = 7;
const SIGNIFICAND_BYTES: u32 = 8;
const REGISTER_BYTES: u32 = 10;

impl Limit {
    /// The same, and the operand's length in bytes, of an instruction. `None` if no part can run over the end of a segment.
    pub(super) fn of_operand(insn: &Insn, operand: &Operand) -> Option<(Limit, u32)> {
        let form = insn.form();
        // What consists of parts is accessed so; see `Machine::beyond_limit`. Of the images that are aligned, whose parts are within
        // a segment if the image begins there, those that are loaded begin with a dword.
        let (v, bytes) = (insn.operand_bytes(), operand_bytes(operand.size, insn.opsize16));
        let (part, bytes) = match operand.size {
            Size::P | Size::A | Size::E => (v, bytes),
            Size::M => (v, ENVIRONMENT_PARTS * v + 8 * REGISTER_BYTES),
            Size::T => (SIGNIFICAND_BYTES, bytes),
            Size::Fs | Size::Xs if operand.access.writes() => return None,
            Size::Fs | Size::Xs => (4, 4),
            _ => (bytes, bytes),
        };
        let limit = Limit {
            waits: waits_for_fpu(form),
            aligned: bytes == 16 && !form.unaligned,
            writes: operand.access.writes(),
            part: part as u8,
        };
        Some((limit, bytes))
    }

    /// For the op.
    pub(super) fn bits(self) -> u32 {
        u32::from_ne_bytes([u8::from(self.waits), u8::from(self.aligned), u8::from(self.writes), self.part])
    }

    /// Bytes of the part `at` so many of `bytes`.
    fn len(self, at: u32, bytes: u32) -> u32 {
        let part = u32::from(self.part);
        match at.checked_sub(ENVIRONMENT_PARTS * part) {
            Some(behind) if behind % REGISTER_BYTES == 0 => SIGNIFICAND_BYTES,
            Some(_) => REGISTER_BYTES - SIGNIFICAND_BYTES,
            None => part.min(bytes - at),
        }
    }

    fn of(bits: u32) -> Limit {
        let [waits, aligned, writes, part] = bits.to_ne_bytes();
        Limit { waits: waits != 0, aligned: aligned != 0, writes: writes != 0, part }
    }
}

/// Accesses the parts of an operand at this offset one by one, as long as they are within its segment.
#[cold]
#[inline(never)]
fn within_limit(x: Exec, offset: u32) -> Result<(), Fault> {
    let Ext { imm2: bytes, aux, .. } = *x.ext();
    let limit = Limit::of(aux);
    let base = x.segment_base();
    let is_refused = limit.waits && x.cpu().fpu.pending()
        || limit.aligned && !offset.wrapping_add(base).is_multiple_of(16);
    if base == 0 || is_refused {
        return Ok(());
    }
    let mut at = 0;
    while at < bytes {
        let len = limit.len(at, bytes);
        let addr = x.within(x.segment(), offset.wrapping_add(at), len)?;
        if limit.writes {
            x.probe_write(addr, len)?;
        }
        for byte in [0, len - 1] {
            x.load::<u8>(addr.wrapping_add(byte))?;
        }
        at += len;
    }
    Ok(())
}

/// No instruction, or one that this CPU model lacks.
pub(super) unsafe extern "C" fn undefined(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: as for every handler.
    unsafe { raise(enter(cpu, op, mem), Fault::UD) }
}

/// Somebody wants to stop before the instruction.
pub(super) unsafe extern "C" fn breakpoint(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    x.cpu().exit = Exit::Breakpoint;
    x.cpu().exit_op = op;
    std::ptr::null()
}

/// Longer than 15 bytes.
pub(super) use privileged as too_long;

/// A row without a body yet.
pub(super) unsafe extern "C" fn todo_row(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    // SAFETY: as for every handler.
    unsafe { raise(enter(cpu, op, mem), Fault::TODO) }
}

/// Code that cannot be fetched: `imm` is the address of the first missing byte.
pub(super) unsafe extern "C" fn unfetchable(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op {
    let x = enter(cpu, op, mem);
    x.cpu().cr2 = x.op().imm;
    let code = page_fault::USER | page_fault::FETCH | u16::from(x.op().a);
    // SAFETY: as for every handler.
    unsafe { raise(x, Fault::pf(code)) }
}

/// Whether an instruction raises what is pending in the x87 before it accesses memory.
pub(super) fn waits_for_fpu(form: &Form) -> bool {
    form.exceptions.contains(&"#MF")
        || form.operands.iter().any(|operand| matches!(operand.code, Code::P | Code::N))
}
