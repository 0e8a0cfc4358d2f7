//! Stack: PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE. Rows: `opcodes/stack.toml`.

use super::segment::load_segment;
use crate::cpu::{Exec, Fault, Seg, Word, eflags, reg};
use crate::memory::access::GuestValue;

const EBP: u8 = reg::EBP as u8;
const ESP: u8 = reg::ESP as u8;

/// Pushes `value`. SDM Vol. 2B, "PUSH".
#[inline(always)]
pub fn push<W: Word + GuestValue>(x: Exec, value: W) -> Result<(), Fault> {
    x.push(value)
}

/// Pushes a selector, zero-extended to the operand size. SDM Vol. 2B, "PUSH".
#[inline(always)]
pub fn push_segment<W: Word + GuestValue>(x: Exec, selector: u16) -> Result<(), Fault> {
    x.push(W::low(u64::from(selector)))
}

/// Pops into a register, which is written after ESP: POP ESP gives the popped value. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop<W: Word + GuestValue>(x: Exec) -> Result<W, Fault> {
    x.pop()
}

/// Pops into memory at the linear address `destination`. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_memory<W: Word + GuestValue>(x: Exec, destination: u32) -> Result<(), Fault> {
    let value: W = x.peek()?;
    x.store(x.in_segment::<W>(destination)?, value)?;
    x.set_reg(ESP, x.reg::<u32>(ESP).wrapping_add(W::BYTES));
    Ok(())
}

/// Pops into a segment register: the low 16 bits are the selector, the rest of the slot is skipped.
fn pop_segment<W: Word + GuestValue>(x: Exec, seg: Seg) -> Result<(), Fault> {
    let selector: W = x.peek()?;
    load_segment(x, seg, selector.u32() as u16)?;
    x.set_reg(ESP, x.reg::<u32>(ESP).wrapping_add(W::BYTES));
    Ok(())
}

/// POP ES. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_es<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    pop_segment::<W>(x, Seg::Es)
}

/// POP SS. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_ss<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    pop_segment::<W>(x, Seg::Ss)
}

/// POP DS. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_ds<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    pop_segment::<W>(x, Seg::Ds)
}

/// POP FS. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_fs<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    pop_segment::<W>(x, Seg::Fs)
}

/// POP GS. SDM Vol. 2B, "POP".
#[inline(always)]
pub fn pop_gs<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    pop_segment::<W>(x, Seg::Gs)
}

/// Pushes the eight general registers, ESP as it was before. SDM Vol. 2B, "PUSHA/PUSHAD".
#[inline(always)]
pub fn pusha<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let esp: u32 = x.reg(ESP);
    let mut top = esp;
    for number in 0..8 {
        top = top.wrapping_sub(W::BYTES);
        x.store(x.stack_slot::<W>(top)?, x.reg::<W>(number))?;
    }
    x.set_reg(ESP, top);
    Ok(())
}

/// Pops the eight general registers; what is in ESP's slot is read and dropped. SDM Vol. 2B, "POPA/POPAD".
#[inline(always)]
pub fn popa<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let esp: u32 = x.reg(ESP);
    let mut values = [W::default(); 8];
    for number in (0..8).rev() {
        values[number] = x.load(x.stack_slot::<W>(esp.wrapping_add((7 - number as u32) * W::BYTES))?)?;
    }
    for number in (0..8).filter(|number| *number != ESP) {
        x.set_reg(number, values[usize::from(number)]);
    }
    x.set_reg(ESP, esp.wrapping_add(8 * W::BYTES));
    Ok(())
}

/// Pushes EFLAGS without VM and RF. SDM Vol. 2B, "PUSHF/PUSHFD".
#[inline(always)]
pub fn pushf<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let image = x.cpu().eflags() & !(eflags::VM | eflags::RF);
    x.push(W::low(u64::from(image)))
}

/// EFLAGS that POPF and IRET can change at CPL 3 with IOPL 0 (SDM Vol. 2B, "POPF", table 4-18).
const WRITABLE: u32 = eflags::STATUS | eflags::TF | eflags::DF | eflags::NT | eflags::AC | eflags::ID;

/// Replaces what user mode may change of EFLAGS by a popped image as wide as `W`; clears RF.
///
/// IRET could set RF, which holds off instruction breakpoints for one instruction; there are none here.
pub(super) fn load_eflags<W: Word>(x: Exec, image: W) {
    let writable = WRITABLE & W::ONES.u32();
    let kept = x.cpu().eflags() & !(writable | eflags::RF);
    x.cpu().set_eflags(kept | image.u32() & writable);
}

/// Pops EFLAGS. SDM Vol. 2B, "POPF/POPFD".
#[inline(always)]
pub fn popf<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let image: W = x.pop()?;
    load_eflags(x, image);
    Ok(())
}

/// Makes a stack frame with `size_bytes` of local variables at nesting level `level` (modulo 32).
///
/// What the pushes stored stays when a later access faults, ESP and EBP do not move. SDM Vol. 2A, "ENTER".
#[inline(always)]
pub fn enter<W: Word + GuestValue>(x: Exec, size_bytes: u16, level: u8) -> Result<(), Fault> {
    let level = u32::from(level) % 32;
    let mut frame: u32 = x.reg(EBP);
    let mut top = x.reg::<u32>(ESP).wrapping_sub(W::BYTES);
    x.store(x.stack_slot::<W>(top)?, x.reg::<W>(EBP))?;
    let new_frame = top;
    for _ in 1..level {
        frame = frame.wrapping_sub(W::BYTES);
        let outer: W = x.load(x.stack_slot::<W>(frame)?)?;
        top = top.wrapping_sub(W::BYTES);
        x.store(x.stack_slot::<W>(top)?, outer)?;
    }
    if level > 0 {
        top = top.wrapping_sub(W::BYTES);
        x.store(x.stack_slot::<W>(top)?, W::low(u64::from(new_frame)))?;
    }
    top = top.wrapping_sub(u32::from(size_bytes));
    x.probe_write(x.stack_slot::<W>(top)?, W::BYTES)?;
    x.set_reg(EBP, W::low(u64::from(new_frame)));
    x.set_reg(ESP, top);
    Ok(())
}

/// Leaves a stack frame. SDM Vol. 2A, "LEAVE".
#[inline(always)]
pub fn leave<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let frame: u32 = x.reg(EBP);
    let outer: W = x.load(x.stack_slot::<W>(frame)?)?;
    x.set_reg(EBP, outer);
    x.set_reg(ESP, frame.wrapping_add(W::BYTES));
    Ok(())
}
