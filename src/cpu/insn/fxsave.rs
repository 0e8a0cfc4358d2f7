//! FXSAVE and FXRSTOR. Rows: `opcodes/fxsave.toml`; the image: [`crate::cpu::image`].

use crate::cpu::image::{FXSAVE_BYTES, MXCSR_MASK, mxcsr};
use crate::cpu::x87::{read_image, write_image};
use crate::cpu::{Exec, Fault};

/// Offset of the operand's last byte, which is touched first.
const LAST: u32 = 511;

/// Raises #GP(0) unless the address is a multiple of 16.
fn aligned(addr: u32) -> Result<(), Fault> {
    if addr.is_multiple_of(16) { Ok(()) } else { Err(Fault::gp(0)) }
}

/// Stores x87, MXCSR and XMM state. SDM Vol. 2A, "FXSAVE".
#[inline(always)]
pub fn fxsave(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr)?;
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
        aligned(addr)?;
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
