//! Segment registers and questions about descriptors. Rows: `opcodes/segment.toml`.

use crate::cpu::{Descriptors, Exec, Fault, Pending, Seg, Word};
use crate::fpu::notes;
use crate::memory::access::GuestValue;

/// Loads a segment register after the checks of user mode; on a fault nothing has changed.
///
/// # Errors
/// #GP, #NP or #SS with the selector, see [`Descriptors::load_data`].
pub(super) fn load_segment(x: Exec, seg: Seg, selector: u16) -> Result<(), Fault> {
    let base = x.cpu().descriptors.load_data(seg, selector)?;
    // Those of the x87 are in segments as they were.
    notes::settle(x.cpu());
    x.cpu().selectors[seg as usize] = selector;
    x.cpu().segment_bases[seg as usize] = base;
    Ok(())
}

/// MOV r16/r32, Sreg: a 32-bit register is zero-extended. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_from_segment<W: Word>(selector: u16) -> W {
    W::low(u64::from(selector))
}

/// MOV m16, Sreg: always 16 bits. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_memory_from_segment(selector: u16) -> u16 {
    selector
}

/// MOV ES, r/m16. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_es(x: Exec, selector: u16) -> Result<(), Fault> {
    load_segment(x, Seg::Es, selector)
}

/// MOV SS, r/m16. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_ss(x: Exec, selector: u16) -> Result<(), Fault> {
    load_segment(x, Seg::Ss, selector)
}

/// MOV DS, r/m16. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_ds(x: Exec, selector: u16) -> Result<(), Fault> {
    load_segment(x, Seg::Ds, selector)
}

/// MOV FS, r/m16. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_fs(x: Exec, selector: u16) -> Result<(), Fault> {
    load_segment(x, Seg::Fs, selector)
}

/// MOV GS, r/m16. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov_gs(x: Exec, selector: u16) -> Result<(), Fault> {
    load_segment(x, Seg::Gs, selector)
}

/// Loads a far pointer: the offset is the value, the selector behind it goes into `seg`.
fn load_far_pointer<W: Word + GuestValue>(x: Exec, seg: Seg, pointer: u32) -> Result<W, Fault> {
    let offset: W = x.load(pointer)?;
    let selector: u16 = x.load(x.behind(pointer, W::BYTES))?;
    load_segment(x, seg, selector)?;
    Ok(offset)
}

/// LES. SDM Vol. 2A, "LDS/LES/LFS/LGS/LSS".
#[inline(always)]
pub fn les<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<W, Fault> {
    load_far_pointer(x, Seg::Es, pointer)
}

/// LSS. SDM Vol. 2A, "LDS/LES/LFS/LGS/LSS".
#[inline(always)]
pub fn lss<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<W, Fault> {
    load_far_pointer(x, Seg::Ss, pointer)
}

/// LDS. SDM Vol. 2A, "LDS/LES/LFS/LGS/LSS".
#[inline(always)]
pub fn lds<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<W, Fault> {
    load_far_pointer(x, Seg::Ds, pointer)
}

/// LFS. SDM Vol. 2A, "LDS/LES/LFS/LGS/LSS".
#[inline(always)]
pub fn lfs<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<W, Fault> {
    load_far_pointer(x, Seg::Fs, pointer)
}

/// LGS. SDM Vol. 2A, "LDS/LES/LFS/LGS/LSS".
#[inline(always)]
pub fn lgs<W: Word + GuestValue>(x: Exec, pointer: u32) -> Result<W, Fault> {
    load_far_pointer(x, Seg::Gs, pointer)
}

/// What ARPL makes of a selector: the new value, if its RPL had to be raised.
#[inline(always)]
fn raised_rpl(selector: u16, caller: u16) -> Option<u16> {
    (selector & 3 < caller & 3).then_some(selector & !3 | caller & 3)
}

/// Raises a selector's RPL in a register to the caller's; ZF tells whether it did. SDM Vol. 2A, "ARPL".
#[inline(always)]
pub fn arpl(selector: u16, caller: u16, f: &mut Pending) -> u16 {
    let raised = raised_rpl(selector, caller);
    f.set_zero(raised.is_some());
    raised.unwrap_or(selector)
}

/// ARPL on memory, which is written only when the RPL changes. SDM Vol. 2A, "ARPL".
#[inline(always)]
pub fn arpl_memory(x: Exec, addr: u32, caller: u16) -> Result<(), Fault> {
    let raised = raised_rpl(x.load(addr)?, caller);
    if let Some(selector) = raised {
        x.store(addr, selector)?;
    }
    set_zero(x, raised.is_some());
    Ok(())
}

fn set_zero(x: Exec, zero: bool) {
    let mut flags = x.flags();
    flags.set_zero(zero);
    x.set_flags(flags);
}

/// The descriptor that user mode may ask about with LAR and LSL, if it is visible at CPL 3 with the selector's
/// RPL and is of a kind in `system_kinds` (a bit for each type) or a segment.
fn visible(x: Exec, selector: u16, system_kinds: u16) -> Option<u64> {
    let descriptor = x.cpu().descriptors.get(selector)?;
    let kind = descriptor >> 40 & 0x1f;
    let is_segment = kind & 0x10 != 0;
    let is_conforming = kind & 0x1c == 0x1c;
    let dpl = descriptor >> 45 & 3;
    let kind_fits = is_segment || system_kinds >> kind & 1 != 0;
    (kind_fits && (is_conforming || dpl == 3)).then_some(descriptor)
}

/// Types of system descriptors that LSL knows under a 64-bit kernel: LDT and the two TSS.
const WITH_LIMIT: u16 = 1 << 2 | 1 << 9 | 1 << 11;
/// Those that LAR knows: call gates too.
const WITH_RIGHTS: u16 = WITH_LIMIT | 1 << 12;

/// Loads access rights; the destination stays and ZF is cleared where there is nothing to see.
/// SDM Vol. 2A, "LAR".
#[inline(always)]
pub fn lar<W: Word>(x: Exec, destination: W, selector: u16) -> Result<W, Fault> {
    let descriptor = visible(x, selector, WITH_RIGHTS);
    set_zero(x, descriptor.is_some());
    Ok(descriptor.map_or(destination, |descriptor| W::low(descriptor >> 32 & 0x00ff_ff00)))
}

/// Loads a segment limit in bytes; the destination stays and ZF is cleared where there is nothing to see.
/// SDM Vol. 2A, "LSL".
#[inline(always)]
pub fn lsl<W: Word>(x: Exec, destination: W, selector: u16) -> Result<W, Fault> {
    let descriptor = visible(x, selector, WITH_LIMIT);
    set_zero(x, descriptor.is_some());
    Ok(descriptor.map_or(destination, |descriptor| W::low(u64::from(Descriptors::limit(descriptor)))))
}

/// Sets ZF if the segment can be read: data, or readable code. SDM Vol. 2B, "VERR/VERW".
#[inline(always)]
pub fn verr(x: Exec, selector: u16) -> Result<(), Fault> {
    let readable = visible(x, selector, 0).is_some_and(|descriptor| descriptor >> 41 & 0b101 != 0b100);
    set_zero(x, readable);
    Ok(())
}

/// Sets ZF if the segment can be written: writable data. SDM Vol. 2B, "VERR/VERW".
#[inline(always)]
pub fn verw(x: Exec, selector: u16) -> Result<(), Fault> {
    let writable = visible(x, selector, 0).is_some_and(|descriptor| descriptor >> 41 & 0b101 == 0b001);
    set_zero(x, writable);
    Ok(())
}

/// What Linux answers where UMIP makes these instructions fault: the selector of the LDT, if there is one.
fn ldt_selector(x: Exec) -> u16 {
    if x.cpu().descriptors.ldt.is_empty() { 0 } else { 0x50 }
}

/// SLDT to a register, zero-extended. SDM Vol. 2B, "SLDT".
#[inline(always)]
pub fn sldt<W: Word>(x: Exec) -> Result<W, Fault> {
    Ok(W::low(u64::from(ldt_selector(x))))
}

/// SLDT to memory: 16 bits. SDM Vol. 2B, "SLDT".
#[inline(always)]
pub fn sldt_memory(x: Exec) -> Result<u16, Fault> {
    Ok(ldt_selector(x))
}

/// Linux's TSS selector.
const TASK_REGISTER: u16 = 0x40;

/// STR to a register, zero-extended. SDM Vol. 2B, "STR".
#[inline(always)]
pub fn str<W: Word>() -> W {
    W::low(u64::from(TASK_REGISTER))
}

/// STR to memory: 16 bits. SDM Vol. 2B, "STR".
#[inline(always)]
pub fn str_memory() -> u16 {
    TASK_REGISTER
}

/// CR0 as Linux shows it to user mode: PG, AM, WP, NE, ET, MP, PE.
const CR0: u32 = 0x8005_0033;

/// SMSW to a register: as much of CR0 as fits. SDM Vol. 2B, "SMSW".
#[inline(always)]
pub fn smsw<W: Word>() -> W {
    W::low(u64::from(CR0))
}

/// SMSW to memory: 16 bits. SDM Vol. 2B, "SMSW".
#[inline(always)]
pub fn smsw_memory() -> u16 {
    CR0 as u16
}

/// Stores a limit of zero and a base, as Linux emulates SGDT and SIDT under UMIP.
fn store_table(x: Exec, addr: u32, base: u32) -> Result<(), Fault> {
    x.probe_write(addr, 6)?;
    x.store(addr, 0u16)?;
    x.store(addr.wrapping_add(2), base)
}

/// SGDT. SDM Vol. 2B, "SGDT".
#[inline(always)]
pub fn sgdt(x: Exec, addr: u32) -> Result<(), Fault> {
    store_table(x, addr, 0xfffe_0000)
}

/// SIDT. SDM Vol. 2B, "SIDT".
#[inline(always)]
pub fn sidt(x: Exec, addr: u32) -> Result<(), Fault> {
    store_table(x, addr, 0xffff_0000)
}
