//! The ops that translations consist of.

use crate::cpu::Cpu;
use std::sync::atomic::AtomicPtr;

/// Runs an op and, by a tail call, all that follow. Returns (null) when the run loop is wanted, and in builds
/// without tail calls the next op.
pub(crate) type Handler = unsafe extern "C" fn(cpu: *mut Cpu, op: *const Op, mem: *mut u8) -> *const Op;

/// An instruction, ready to run: its handler and where its operands are.
///
/// `a` and `b` are byte offsets of registers in [`Cpu::regs`] (for system registers their number); for string
/// instructions `a` is the repeat prefix. A memory operand is at `regs[b] + (regs[c] << (d & 3)) + imm`, plus the
/// base of segment `d >> 2 & 7`, with bit 5 of `d` cut to 16 bits; it leaves no room for a second register in `b`, which is
/// in the second slot then. A third register is in `c`.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Op {
    pub(crate) handler: Handler,
    pub(crate) a: u8,
    pub(crate) b: u8,
    pub(crate) c: u8,
    pub(crate) d: u8,
    /// Displacement, or the immediate if there is no memory operand.
    pub(crate) imm: u32,
}

/// A second slot.
///
/// Branches: `link` is the op to go on with when taken, `imm2` its address, `aux` how many instructions of the
/// block are done by then. Ops with `needs_eip`: `link` is their address and (upper half) the next one. `imm2` is the
/// immediate beside a memory operand; in ops with `needs_eip` and no immediate, the x87 opcode and (upper half) the
/// number of the memory operand's segment. `aux` is the second register beside a memory operand.
#[repr(C)]
pub(crate) struct Ext {
    pub(crate) link: AtomicPtr<Op>,
    pub(crate) imm2: u32,
    pub(crate) aux: u32,
}

const _: () = assert!(size_of::<Op>() == 16 && size_of::<Ext>() == 16);
