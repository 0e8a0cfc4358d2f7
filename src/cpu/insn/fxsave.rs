//! FXSAVE and FXRSTOR. Rows: `opcodes/fxsave.toml`; the image: [`crate::cpu::image`].

use crate::cpu::image::{FXSAVE_BYTES, MXCSR_MASK, mxcsr};
use crate::cpu::x87::{read_image, write_image};
use crate::cpu::{Exec, Fault};

/// Bytes of the operand that must be accessible.
const OPERAND_BYTES: u32 = 512;

/// Raises #GP(0) unless the address is a multiple of 16.
fn aligned(addr: u32) -> Result<(), Fault> {
    if addr.is_multiple_of(16) { Ok(()) } else { Err(Fault::gp(0)) }
}

/// Stores x87, MXCSR and XMM state. SDM Vol. 2A, "FXSAVE".
#[inline(always)]
pub fn fxsave(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr)?;
        // Silicon finds out about the end first.
        x.probe_write(addr.wrapping_add(FXSAVE_BYTES as u32 - 1), 1)?;
        let image = x.cpu().fxsave();
        write_image(x, addr, &image, OPERAND_BYTES)
    })
}

/// Loads x87, MXCSR and XMM state; #GP(0) for a reserved bit in MXCSR. SDM Vol. 2A, "FXRSTOR".
#[inline(always)]
pub fn fxrstor(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr)?;
        let image = read_image::<FXSAVE_BYTES>(x, addr, OPERAND_BYTES)?;
        if mxcsr(&image) & !MXCSR_MASK != 0 {
            return Err(Fault::gp(0));
        }
        x.cpu().fxrstor(&image);
        Ok(())
    })
}
