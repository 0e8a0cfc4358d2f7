//! What instructions leave for the pointers to the last one: not the pointers, which are seldom looked at, but their ops. Unsafe:
//! ops, and stores of more than a field.
//!
//! [`settle`] makes pointers of them: on the way out of the handlers, and before an instruction looks at pointers
//! ([`Exec::fpu_with_pointers`]).
#![allow(unsafe_code)]

use crate::cpu::{Cpu, Exec, Seg};
use crate::engine::op::Op;
#[cfg(trap_memory)]
use crate::engine::operand::{Address, MemAny};
use std::mem::offset_of;

/// The ops that came last.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notes {
    /// The linear address that the op at `memory` accessed. Stored with 32 bits of zeros behind it, which say that nothing came
    /// after.
    addr: u32,
    /// The op without a memory operand that left its note last, if it came after the one at `memory`: its address and 1, which no
    /// lower half of is 0.
    last: [u32; 2],
    /// The op with a memory operand that left its notes last.
    memory: *const Op,
}

impl Notes {
    /// Offsets of what copies of handlers may leave out.
    #[cfg_attr(not(trap_memory), allow(dead_code))] // nothing is copied then
    pub(crate) const LAST: usize = offset_of!(Notes, last);
    /// See [`Notes::LAST`].
    pub(crate) const ADDR: usize = offset_of!(Notes, addr);
    /// See [`Notes::LAST`].
    #[cfg_attr(not(trap_memory), allow(dead_code))] // nothing is copied then
    pub(crate) const MEMORY: usize = offset_of!(Notes, memory);

    /// None.
    pub(crate) const NONE: Notes = Notes { addr: 0, last: [0; 2], memory: std::ptr::null() };
}

/// Remembers an op without a memory operand.
#[inline(always)]
pub(crate) fn note(x: Exec) {
    // SAFETY: as many bytes as `last` has.
    unsafe { (&raw mut (*x.cpu).notes.last).cast::<u64>().write_unaligned(x.op as u64 + 1) };
}

/// Remembers an op with a memory operand.
#[inline(always)]
pub(crate) fn note_memory(x: Exec, addr: u32) {
    x.cpu().notes.memory = x.op;
    // SAFETY: `addr` and the lower half of `last`, which is behind it.
    unsafe { (&raw mut (*x.cpu).notes).byte_add(Notes::ADDR).cast::<u64>().write_unaligned(u64::from(addr)) };
}

/// Makes pointers of the notes. The ops are still there.
#[inline(always)]
pub(crate) fn settle(cpu: &mut Cpu) {
    if !cpu.notes.memory.is_null() || cpu.notes.last[0] != 0 {
        make_pointers(cpu);
    }
}

#[cold]
#[inline(never)]
fn make_pointers(cpu: &mut Cpu) {
    let Notes { addr, last, memory } = cpu.notes;
    cpu.notes = Notes::NONE;
    let cpu = &raw mut *cpu;
    let x = |op: *const Op| Exec { cpu, op, mem: std::ptr::null_mut() };
    if !memory.is_null() {
        point_with_memory(x(memory), addr);
    }
    if last[0] != 0 {
        let last = u64::from(last[1]) << 32 | u64::from(last[0]);
        point(x((last - 1) as *const Op));
    }
}

/// Makes pointers of as many ops directly before `op`, which were executed one after the other; all are the x87's, and leave
/// notes. Those of others are settled.
///
/// # Safety
/// So many are there, each with two slots.
#[cfg(trap_memory)]
pub(crate) unsafe fn settle_run(cpu: &mut Cpu, op: *const Op, run: u8) {
    /// ModRM bytes from here on have no memory operand.
    const REGISTERS: u16 = 0xc0;
    let cpu = &raw mut *cpu;
    for back in (1..=usize::from(run)).rev() {
        // SAFETY: the caller's promise.
        let x = Exec { cpu, op: unsafe { op.sub(2 * back) }, mem: std::ptr::null_mut() };
        if x.fop() & 0xff < REGISTERS {
            point_with_memory(x, MemAny::address(x));
        } else {
            point(x);
        }
    }
}

/// The address and opcode of a non-control instruction (SDM Vol. 1, 8.1.8 and 8.1.9).
fn point(x: Exec) {
    let cpu = x.cpu();
    let pointers = &mut cpu.fpu.pointers;
    pointers.fip = x.eip();
    pointers.fcs = cpu.selectors[Seg::Cs as usize];
    pointers.fop = x.fop();
}

/// As [`point`], with the offset of a memory operand in its segment.
fn point_with_memory(x: Exec, addr: u32) {
    point(x);
    let cpu = x.cpu();
    let segment = x.memory_segment();
    let pointers = &mut cpu.fpu.pointers;
    pointers.fdp = addr.wrapping_sub(cpu.segment_bases[segment]);
    pointers.fds = cpu.selectors.get(segment).copied().unwrap_or_default();
}
