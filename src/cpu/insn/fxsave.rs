//! FXSAVE, XSAVE and their ways back. Rows: `opcodes/fxsave.toml`; the image: [`crate::cpu::image`].

use crate::cpu::image::{FXSAVE_BYTES, LEGACY_BYTES, MXCSR_MASK, XCR0, XSAVE_BYTES, component, mxcsr};
use crate::cpu::x87::{read_image, write_image};
use crate::cpu::{Exec, Fault};
use crate::fpu::FXSAVE_X87;

/// Offset of the operand's last byte, which is touched first.
const LAST: u32 = 511;
/// The same of an XSAVE area.
const LAST_OF_AREA: u32 = XSAVE_BYTES as u32 - 1;
/// Where an area's header has XSTATE_BV, XCOMP_BV behind it, and then 8 bytes that must be 0.
const XSTATE_BV: u32 = LEGACY_BYTES as u32;
const XCOMP_BV: u32 = XSTATE_BV + 8;
const RESERVED: u32 = XSTATE_BV + 16;

/// Where the parts of an area are that belong to a component: first bytes and ends.
const PARTS: [(u32, [usize; 2]); 4] = [
    (component::X87, [0, MXCSR]),
    (component::SSE, [MXCSR, REGISTERS]),
    (component::X87, [REGISTERS, FXSAVE_X87]),
    (component::SSE, [FXSAVE_X87, FXSAVE_BYTES]),
];
/// Where MXCSR stands, with its mask, and behind it the x87's registers.
const MXCSR: usize = 24;
const REGISTERS: usize = 32;

/// Raises #GP(0) unless the address is a multiple of `unit`.
fn aligned(addr: u32, unit: u32) -> Result<(), Fault> {
    if addr.is_multiple_of(unit) { Ok(()) } else { Err(Fault::gp(0)) }
}

/// Offset of the first byte of an area that belongs to one of these components.
fn first_byte(components: u32) -> Option<u32> {
    PARTS.iter().find(|(component, _)| components & component != 0).map(|(_, [start, _])| *start as u32)
}

/// Stores x87, MXCSR and XMM state. SDM Vol. 2A, "FXSAVE".
#[inline(always)]
pub fn fxsave(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr, 16)?;
        x.probe_write(addr.wrapping_add(LAST), 1)?;
        x.collect_mxcsr_flags();
        x.fpu_with_pointers();
        let image = x.cpu().fxsave();
        write_image(x, addr, &image)
    })
}

/// Loads x87, MXCSR and XMM state; #GP(0) for a reserved bit in MXCSR. SDM Vol. 2A, "FXRSTOR".
#[inline(always)]
pub fn fxrstor(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr, 16)?;
        x.load::<u8>(addr.wrapping_add(LAST))?;
        let image = read_image::<FXSAVE_BYTES>(x, addr)?;
        if mxcsr(&image) & !MXCSR_MASK != 0 {
            return Err(Fault::gp(0));
        }
        x.fpu_with_pointers();
        x.cpu().fxrstor(&image);
        x.mxcsr_replaced();
        Ok(())
    })
}

/// Stores the components that EDX:EAX names, and says so in the header. SDM Vol. 2D, "XSAVE".
#[inline(always)]
pub fn xsave(x: Exec, addr: u32, _high: u32, low: u32) -> Result<(), Fault> {
    let wanted = low & XCR0;
    x.apart(move |x| {
        aligned(addr, 64)?;
        x.probe_write(addr.wrapping_add(LAST_OF_AREA), 1)?;
        if let Some(first) = first_byte(wanted) {
            x.probe_write(addr.wrapping_add(first), 1)?;
        }
        if wanted & component::X87 != 0 {
            x.fpu_with_pointers();
        }
        if wanted & component::SSE != 0 {
            x.collect_mxcsr_flags();
        }
        let image = x.cpu().fxsave();
        for (_, [start, end]) in PARTS.into_iter().filter(|(component, _)| wanted & component != 0) {
            write_image(x, addr.wrapping_add(start as u32), &image[start..end])?;
        }
        // All components count as in use.
        let header = addr.wrapping_add(XSTATE_BV);
        let before = x.load::<u32>(header)?;
        x.store(header, before | wanted)
    })
}

/// Loads the components that EDX:EAX names; #GP(0) for a header that is not the standard format's, or a reserved bit in MXCSR.
/// SDM Vol. 2D, "XRSTOR".
#[inline(always)]
pub fn xrstor(x: Exec, addr: u32, _high: u32, low: u32) -> Result<(), Fault> {
    let wanted = low & XCR0;
    x.apart(move |x| {
        aligned(addr, 64)?;
        let compaction = x.load::<u64>(addr.wrapping_add(XCOMP_BV))?;
        let has = x.load::<u64>(addr.wrapping_add(XSTATE_BV))?;
        let reserved = x.load::<u64>(addr.wrapping_add(RESERVED))?;
        if let Some(first) = first_byte(wanted) {
            x.load::<u8>(addr.wrapping_add(first))?;
        }
        if has & !u64::from(XCR0) != 0 || compaction != 0 || reserved != 0 {
            return Err(Fault::gp(0));
        }
        if wanted == 0 {
            return Ok(());
        }
        let image = read_image::<FXSAVE_BYTES>(x, addr)?;
        if wanted & component::SSE != 0 && mxcsr(&image) & !MXCSR_MASK != 0 {
            return Err(Fault::gp(0));
        }
        if wanted & component::X87 != 0 {
            x.fpu_with_pointers();
        }
        x.cpu().xrstor(&image, wanted, has as u32);
        if wanted & component::SSE != 0 {
            x.mxcsr_replaced();
        }
        Ok(())
    })
}
