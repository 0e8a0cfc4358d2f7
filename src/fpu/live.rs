//! The host's FPU in the guest's place: while handlers run, it may have the guest's stack, control and status word. Unsafe: inline
//! assembly.
//!
//! A row with `takes = "x87"` is then done by its own opcode, whose bytes the generator has put into the handler. [`load`] gives
//! the guest's state to the host once such a row comes and all exceptions are masked, so that none can be pending, and
//! [`spill`] takes it back: on the way out of the handlers, and before anything else looks at [`Fpu`] (`Exec::fpu`). The
//! control word is always in [`Fpu`] as well. The pointers are not the host's: see
//! [`notes`](super::notes).
//!
//! Inline assembly must leave the stack of the x87 as it found it, for the compiler may use it. For x86-64 it does not:
//! `tests/release.rs` finds no x87 instruction in the program but those of handlers and of this module.
#![allow(unsafe_code)]

use super::notes::{note, note_memory};
use super::soft::flag;
use super::{Fpu, SAVE_32};
use crate::cpu::{Cpu, Exec, eflags};
use crate::engine::operand::FixedNumber;
use std::arch::asm;
use std::mem::offset_of;

/// What a CPU knows of the host's FPU.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// The host has the state.
    pub(crate) on: bool,
    /// It may have it.
    pub(crate) allowed: bool,
}

impl Live {
    /// Offset of what copies of handlers may leave out.
    pub(crate) const ON: usize = offset_of!(Live, on);

    /// Nothing loaded.
    pub(crate) const fn new(allowed: bool) -> Live {
        Live { on: false, allowed }
    }
}

/// Whether this host can do it: LAHF and SAHF are missing in 64-bit mode on the first x86-64 processors.
pub(crate) fn is_possible() -> bool {
    const LAHF: u32 = 1;
    std::arch::x86_64::__cpuid(0x8000_0001).ecx & LAHF != 0
}

/// Whether the host may have the guest's state, and no exception can occur.
#[inline(always)]
pub(crate) fn may_load(cpu: &Cpu) -> bool {
    cpu.live.allowed && cpu.fpu.masks_all()
}

/// Gives the guest's state to the host; [`may_load`] says so.
pub(crate) fn load(cpu: &mut Cpu) {
    let image = cpu.fpu.save32();
    // SAFETY: reads an image of that length; all exceptions are masked.
    unsafe { asm!("frstor [{}]", in(reg) &image, options(nostack, readonly, preserves_flags)) };
    cpu.live.on = true;
    cpu.fpu.short = false;
}

/// Takes the guest's state back, and leaves the host's FPU as compiled code expects it.
#[cold]
#[inline(never)]
pub(crate) fn spill(cpu: &mut Cpu) {
    let mut image = [0u8; SAVE_32];
    // SAFETY: writes an image of that length, and initializes.
    unsafe { asm!("fnsave [{}]", in(reg) &mut image, options(nostack, preserves_flags)) };
    let pointers = cpu.fpu.pointers;
    cpu.fpu.restore32(&image);
    cpu.fpu.pointers = pointers;
    cpu.live.on = false;
}

/// Loads the control word that [`Fpu`] has into the host, which has the state.
#[inline(always)]
pub(crate) fn load_control(fpu: &mut Fpu) {
    fpu.short = false;
    // SAFETY: reads a word; the caller has made sure that all exceptions are masked.
    unsafe { asm!("fldcw word ptr [{}]", in(reg) &fpu.control, options(nostack, readonly, preserves_flags)) };
}

/// The host's status word.
#[inline(always)]
pub(crate) fn status() -> u16 {
    let status: u16;
    // SAFETY: reads a register.
    unsafe { asm!("fnstsw ax", out("ax") status, options(nomem, nostack, preserves_flags)) };
    status
}

/// An instruction without operands. For this and the others, the host has the guest's state.
#[inline(always)]
pub(crate) fn plain<const OPCODE: u8, const MODRM: u8>(x: Exec) {
    // SAFETY: an instruction of the x87 without a memory operand, whose exceptions are all masked.
    unsafe {
        asm!(".byte {opcode}, {modrm}", opcode = const OPCODE, modrm = const MODRM,
            options(nomem, nostack, preserves_flags));
    }
    note(x);
}

/// An instruction with a register of the stack.
#[inline(always)]
pub(crate) fn with_register<const OPCODE: u8, const MODRM: u8, N: FixedNumber>(x: Exec) {
    // SAFETY: as for `plain`.
    unsafe {
        asm!(".byte {opcode}, {modrm}", opcode = const OPCODE, modrm = const MODRM | N::NUMBER,
            options(nomem, nostack, preserves_flags));
    }
    note(x);
}

/// As [`with_register`], and it writes EFLAGS.
#[inline(always)]
pub(crate) fn into_flags<const OPCODE: u8, const MODRM: u8, N: FixedNumber>(x: Exec) {
    let image: u32;
    // SAFETY: as for `plain`.
    unsafe {
        asm!(".byte {opcode}, {modrm}", "lahf", "movzx eax, ah", opcode = const OPCODE,
            modrm = const MODRM | N::NUMBER, out("eax") image, options(nomem, nostack));
    }
    let mut flags = x.flags();
    flags.set_eflags(image);
    x.set_flags(flags);
    note(x);
}

/// As [`with_register`], and it reads EFLAGS.
#[inline(always)]
pub(crate) fn by_flags<const OPCODE: u8, const MODRM: u8, N: FixedNumber>(x: Exec) {
    // FCMOVcc reads no others.
    let image = x.flags().eflags() & (eflags::CF | eflags::PF | eflags::ZF);
    // SAFETY: as for `plain`.
    unsafe {
        asm!("mov ah, al", "sahf", ".byte {opcode}, {modrm}", opcode = const OPCODE,
            modrm = const MODRM | N::NUMBER, inout("eax") image => _, options(nomem, nostack));
    }
    note(x);
}

/// An instruction with a memory operand at a linear address.
#[inline(always)]
pub(crate) fn with_memory<const OPCODE: u8, const MODRM: u8>(x: Exec, addr: u32) {
    /// ModRM's r/m that has a SIB byte follow.
    const WITH_SIB: u8 = 4;
    /// SIB of [RDX + RAX].
    const RDX_RAX: u8 = 2;
    // SAFETY: the address lies in the reservation or its guard space; a fault there is recovered by the op in RSI, with the FPU as
    // it was.
    unsafe {
        asm!(".byte {opcode}, {modrm}, {sib}", opcode = const OPCODE, modrm = const MODRM | WITH_SIB, sib = const RDX_RAX,
            in("rdx") x.mem, in("rax") u64::from(addr), in("rsi") x.op, options(nostack, preserves_flags));
    }
    note_memory(x, addr);
}

/// As [`with_memory`], for one that stores 80 bits: all of them or, if that faults, none, which a processor does not promise.
#[inline(always)]
pub(crate) fn store_80<const OPCODE: u8, const MODRM: u8>(x: Exec, addr: u32) {
    /// Where in a page the longest store starts that does not go beyond it.
    const LAST: u32 = 4096 - 10;
    // A fault does not come back from there.
    if addr & 0xfff <= LAST || x.probe_write(addr, 10).is_ok() {
        with_memory::<OPCODE, MODRM>(x, addr);
    }
}

impl Fpu {
    /// Whether no exception can become pending.
    #[inline(always)]
    const fn masks_all(&self) -> bool {
        self.control & flag::EXCEPTIONS == flag::EXCEPTIONS
    }
}
