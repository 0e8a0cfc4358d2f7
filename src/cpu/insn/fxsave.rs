//! FXSAVE and FXRSTOR. Rows: `opcodes/fxsave.toml`; the x87 part: [`crate::fpu`].

use crate::cpu::x87::{read_image, write_image};
use crate::cpu::{Exec, Fault, MXCSR_MASK};
use crate::fpu::FXSAVE_X87;

/// Bytes of the image that are stored and loaded: up to XMM7.
const IMAGE: usize = FXSAVE_X87 + 8 * XMM_BYTES;
const XMM_BYTES: usize = 16;
/// Where MXCSR stands, and behind it the mask of the bits that it has.
const MXCSR: usize = 24;

/// Raises #GP(0) unless the address is a multiple of 16.
fn aligned(addr: u32) -> Result<(), Fault> {
    if addr.is_multiple_of(16) { Ok(()) } else { Err(Fault::gp(0)) }
}

/// Stores x87, MXCSR and XMM state. SDM Vol. 2A, "FXSAVE".
#[inline(always)]
pub fn fxsave(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr)?;
        let mut image = [0; IMAGE];
        let cpu = x.cpu();
        if let Some(x87) = image.first_chunk_mut() {
            cpu.fpu.fxsave(x87);
        }
        image[MXCSR..MXCSR + 4].copy_from_slice(&cpu.mxcsr.to_le_bytes());
        image[MXCSR + 4..MXCSR + 8].copy_from_slice(&MXCSR_MASK.to_le_bytes());
        for (slot, xmm) in image[FXSAVE_X87..].chunks_exact_mut(XMM_BYTES).zip(cpu.xmm) {
            slot.copy_from_slice(&xmm.to_le_bytes());
        }
        write_image(x, addr, &image)
    })
}

/// Loads x87, MXCSR and XMM state; #GP(0) for a reserved bit in MXCSR. SDM Vol. 2A, "FXRSTOR".
#[inline(always)]
pub fn fxrstor(x: Exec, addr: u32) -> Result<(), Fault> {
    x.apart(move |x| {
        aligned(addr)?;
        let image: [u8; IMAGE] = read_image(x, addr)?;
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| image[MXCSR + at]);
        let mxcsr = u32::from_le_bytes([a, b, c, d]);
        if mxcsr & !MXCSR_MASK != 0 {
            return Err(Fault::gp(0));
        }
        let cpu = x.cpu();
        if let Some(x87) = image.first_chunk() {
            cpu.fpu.fxrstor(x87);
        }
        cpu.mxcsr = mxcsr;
        for (slot, xmm) in image[FXSAVE_X87..].chunks_exact(XMM_BYTES).zip(&mut cpu.xmm) {
            *xmm = slot.iter().rev().fold(0, |value, byte| value << 8 | u128::from(*byte));
        }
        Ok(())
    })
}
