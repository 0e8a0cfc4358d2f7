//! The FXSAVE image of the FPU and the vector registers (SDM Vol. 1, table 10-2), as FXSAVE, signal frames and
//! debuggers see it.

use super::mxcsr::ALL_MASKED;
use super::{Cpu, V128};
use crate::fpu::{FXSAVE_X87, Fpu};

/// Bytes of an FXSAVE image up to XMM7; the rest of its 512 is reserved or the program's.
pub const FXSAVE_BYTES: usize = FXSAVE_X87 + 8 * XMM_BYTES;
const XMM_BYTES: usize = 16;
/// Where MXCSR stands, and behind it the mask of the bits that it has.
const MXCSR: usize = 24;
/// The bits of MXCSR that exist; the others are reserved.
pub const MXCSR_MASK: u32 = 0xffff;

fn word(image: &[u8; FXSAVE_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|byte| image[at + byte]))
}

/// MXCSR in an image, reserved bits included.
pub fn mxcsr(image: &[u8; FXSAVE_BYTES]) -> u32 {
    word(image, MXCSR)
}

impl Cpu {
    /// The image that FXSAVE stores. SDM Vol. 2A, "FXSAVE".
    pub fn fxsave(&self) -> [u8; FXSAVE_BYTES] {
        let mut image = [0; FXSAVE_BYTES];
        if let Some(x87) = image.first_chunk_mut() {
            self.fpu.fxsave(x87);
        }
        image[MXCSR..MXCSR + 4].copy_from_slice(&self.mxcsr.to_le_bytes());
        image[MXCSR + 4..MXCSR + 8].copy_from_slice(&MXCSR_MASK.to_le_bytes());
        for (slot, xmm) in image[FXSAVE_X87..].chunks_exact_mut(XMM_BYTES).zip(self.xmm) {
            slot.copy_from_slice(&<[u8; XMM_BYTES]>::from(xmm));
        }
        image
    }

    /// Loads an image; reserved bits of MXCSR, which FXRSTOR refuses, are dropped. SDM Vol. 2A, "FXRSTOR".
    pub fn fxrstor(&mut self, image: &[u8; FXSAVE_BYTES]) {
        if let Some(x87) = image.first_chunk() {
            self.fpu.fxrstor(x87);
        }
        self.mxcsr = mxcsr(image) & MXCSR_MASK;
        for (slot, xmm) in image[FXSAVE_X87..].chunks_exact(XMM_BYTES).zip(&mut self.xmm) {
            if let Some(bytes) = slot.first_chunk::<XMM_BYTES>() {
                *xmm = V128::from(*bytes);
            }
        }
    }

    /// Makes FPU and vector registers what they are when Linux starts a program or a signal handler.
    pub fn reset_fpu(&mut self) {
        self.fpu = Fpu::default();
        self.xmm = [V128::ZERO; 8];
        self.mxcsr = ALL_MASKED;
    }
}
