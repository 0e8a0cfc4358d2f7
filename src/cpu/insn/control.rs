//! Control: conditions, counts, far transfers, software interrupts. Rows: `opcodes/control.toml`.
//!
//! Near jumps, calls and returns have no bodies; the engine does them.

use super::stack::load_eflags;
use crate::cpu::segment::{IDT_DESCRIPTOR, OPEN_GATES};
use crate::cpu::{Exec, Fault, Seg, Word, eflags, reg};
use crate::memory::access::GuestValue;

const ECX: u8 = reg::ECX as u8;
const ESP: u8 = reg::ESP as u8;

/// Jumps when the condition holds. SDM Vol. 2A, "Jcc".
#[inline(always)]
pub fn jcc(cond: bool) -> bool {
    cond
}

/// CX or ECX, by address size.
#[inline(always)]
fn count(x: Exec) -> u32 {
    if x.addr16() { u32::from(x.reg::<u16>(ECX)) } else { x.reg(ECX) }
}

/// Decrements CX or ECX; gives what is left.
#[inline(always)]
fn count_down(x: Exec) -> u32 {
    let left = count(x).wrapping_sub(1);
    if x.addr16() {
        x.set_reg(ECX, left as u16);
        left & 0xffff
    } else {
        x.set_reg(ECX, left);
        left
    }
}

/// Jumps when CX or ECX is zero. SDM Vol. 2A, "Jcc".
#[inline(always)]
pub fn jecxz(x: Exec) -> Result<bool, Fault> {
    Ok(count(x) == 0)
}

/// Counts down; jumps unless zero is reached. SDM Vol. 2A, "LOOP/LOOPcc".
#[inline(always)]
pub fn loop_count(x: Exec) -> Result<bool, Fault> {
    Ok(count_down(x) != 0)
}

/// Counts down; jumps unless zero is reached or ZF is clear. SDM Vol. 2A, "LOOP/LOOPcc".
#[inline(always)]
pub fn loope(x: Exec) -> Result<bool, Fault> {
    Ok((count_down(x) != 0) & x.flags().zero())
}

/// Counts down; jumps unless zero is reached or ZF is set. SDM Vol. 2A, "LOOP/LOOPcc".
#[inline(always)]
pub fn loopne(x: Exec) -> Result<bool, Fault> {
    Ok((count_down(x) != 0) & !x.flags().zero())
}

/// Goes to `offset` in the code segment that [`load_code`](crate::cpu::Descriptors::load_code) gave.
fn enter_code(x: Exec, code: u16, offset: u32) {
    x.cpu().selectors[Seg::Cs as usize] = code;
    x.jump(offset);
}

/// Reads a far pointer: offset, selector.
fn far_pointer<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<(u32, u16), Fault> {
    let offset: W = x.load(pointer)?;
    let selector: u16 = x.load(x.behind(pointer, W::BYTES))?;
    Ok((offset.u32(), selector))
}

/// JMP ptr16:16, ptr16:32. SDM Vol. 2A, "JMP".
#[inline(always)]
pub fn jmp_far(x: Exec, offset: u32, selector: u16) -> Result<(), Fault> {
    let code = x.cpu().descriptors.load_code(selector)?;
    enter_code(x, code, offset);
    Ok(())
}

/// JMP m16:16, m16:32. SDM Vol. 2A, "JMP".
#[inline(always)]
pub fn jmp_far_memory<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<(), Fault> {
    let (offset, selector) = far_pointer::<W>(x, pointer)?;
    jmp_far(x, offset, selector)
}

/// CALL ptr16:16, ptr16:32: pushes CS, zero-extended, and the return address. SDM Vol. 2A, "CALL".
///
/// The selector is checked before anything is pushed.
#[inline(always)]
pub fn call_far<W: Word + GuestValue>(x: Exec, offset: u32, selector: u16) -> Result<(), Fault> {
    let code = x.cpu().descriptors.load_code(selector)?;
    let top = x.reg::<u32>(ESP).wrapping_sub(2 * W::BYTES);
    let old_code = x.cpu().selectors[Seg::Cs as usize];
    x.store(x.stack_slot::<W>(top.wrapping_add(W::BYTES))?, W::low(u64::from(old_code)))?;
    x.store(x.stack_slot::<W>(top)?, W::low(u64::from(x.next_eip())))?;
    x.set_reg(ESP, top);
    enter_code(x, code, offset);
    Ok(())
}

/// CALL m16:16, m16:32. SDM Vol. 2A, "CALL".
#[inline(always)]
pub fn call_far_memory<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<(), Fault> {
    let (offset, selector) = far_pointer::<W>(x, pointer)?;
    call_far::<W>(x, offset, selector)
}

/// Reads the stack slot `number` slots above the top. Far returns read CS first: silicon does, which shows when
/// both slots fault.
fn slot<W: Word + GuestValue>(x: Exec, number: u32) -> Result<W, Fault> {
    let address = x.reg::<u32>(ESP).wrapping_add(number * W::BYTES);
    x.load(x.stack_slot::<W>(address)?)
}

/// Far return. SDM Vol. 2B, "RET".
#[inline(always)]
pub fn retf<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    retf_release::<W>(x, 0)
}

/// Far return that also takes `size_bytes` of arguments off the stack. SDM Vol. 2B, "RET".
#[inline(always)]
pub fn retf_release<W: Word + GuestValue>(x: Exec, size_bytes: u16) -> Result<(), Fault> {
    // In the order in which AMD's processors fault.
    let selector: W = slot(x, 1)?;
    let offset: W = slot(x, 0)?;
    let code = x.cpu().descriptors.return_code(selector.u32() as u16)?;
    let top = x.reg::<u32>(ESP).wrapping_add(2 * W::BYTES).wrapping_add(u32::from(size_bytes));
    x.set_reg(ESP, top);
    enter_code(x, code, offset.u32());
    Ok(())
}

/// Returns from an interrupt at the same privilege. SDM Vol. 2A, "IRET/IRETD/IRETQ".
///
/// # Errors
/// #GP(0) with NT set: a 64-bit kernel has no nested tasks. Otherwise as RETF.
#[inline(always)]
pub fn iret<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    if x.cpu().system_flags & eflags::NT != 0 {
        return Err(Fault::gp(0));
    }
    // In the order in which AMD's processors fault.
    let image: W = slot(x, 2)?;
    let selector: W = slot(x, 1)?;
    let offset: W = slot(x, 0)?;
    let code = x.cpu().descriptors.return_code(selector.u32() as u16)?;
    x.set_reg(ESP, x.reg::<u32>(ESP).wrapping_add(3 * W::BYTES));
    load_eflags(x, image);
    enter_code(x, code, offset.u32());
    Ok(())
}

/// Software interrupt: a trap through a gate that user mode may use, else #GP at the instruction.
/// SDM Vol. 2A, "INT n/INTO/INT3/INT1".
#[inline(always)]
pub fn int(_x: Exec, vector: u8) -> Result<(), Fault> {
    Err(if OPEN_GATES.contains(&vector) {
        Fault::int(vector)
    } else {
        Fault::gp(u16::from(vector) << 3 | IDT_DESCRIPTOR)
    })
}

/// Breakpoint. SDM Vol. 2A, "INT n/INTO/INT3/INT1".
#[inline(always)]
pub fn int3(_x: Exec) -> Result<(), Fault> {
    Err(Fault::BP)
}

/// Debug trap. SDM Vol. 2A, "INT n/INTO/INT3/INT1".
#[inline(always)]
pub fn int1(_x: Exec) -> Result<(), Fault> {
    Err(Fault::DB)
}

/// Overflow trap, when OF is set. SDM Vol. 2A, "INT n/INTO/INT3/INT1".
#[inline(always)]
pub fn into(x: Exec) -> Result<(), Fault> {
    if x.flags().overflow() { Err(Fault::OF) } else { Ok(()) }
}

/// Checks a signed index against the two bounds at linear address `bounds`. SDM Vol. 2A, "BOUND".
///
/// # Errors
/// #BR when it is below the first or above the second.
#[inline(always)]
pub fn bound<W: Word + GuestValue>(x: Exec, index: W, bounds: u32) -> Result<(), Fault> {
    let lower: W = x.load(bounds)?;
    let upper: W = x.load(x.behind(bounds, W::BYTES))?;
    if (lower.sext()..=upper.sext()).contains(&index.sext()) { Ok(()) } else { Err(Fault::BR) }
}
