//! The FXSAVE image of the FPU and the vector registers (SDM Vol. 1, table 10-2), and the XSAVE area that begins with it
//! (SDM Vol. 1, 13.4), as instructions, signal frames and debuggers see them.

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

/// State components of XSAVE, by their bits in XCR0 and in the header of an area. SDM Vol. 1, 13.1.
pub mod component {
    /// The x87.
    pub const X87: u32 = 1;
    /// MXCSR and the XMM registers.
    pub const SSE: u32 = 2;
}

/// XCR0, as a kernel sets it that enables all components there are.
pub const XCR0: u32 = component::X87 | component::SSE;
/// Bytes in front of an XSAVE area's header: the FXSAVE image, with what is reserved in it.
pub const LEGACY_BYTES: usize = 512;
/// Bytes of an XSAVE area: behind the header there would be components that do not exist here.
pub const XSAVE_BYTES: usize = LEGACY_BYTES + 64;

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
        self.xrstor(image, XCR0, XCR0);
    }

    /// Loads the components that are `wanted`: from the image those it `has`, as at reset the others. MXCSR comes from the
    /// image in any case. SDM Vol. 1, 13.8.1.
    pub fn xrstor(&mut self, image: &[u8; FXSAVE_BYTES], wanted: u32, has: u32) {
        if wanted & component::X87 != 0 {
            match image.first_chunk() {
                Some(x87) if has & component::X87 != 0 => self.fpu.fxrstor(x87),
                _ => self.fpu = Fpu::default(),
            }
        }
        if wanted & component::SSE == 0 {
            return;
        }
        self.mxcsr = mxcsr(image) & MXCSR_MASK;
        for (slot, xmm) in image[FXSAVE_X87..].chunks_exact(XMM_BYTES).zip(&mut self.xmm) {
            *xmm = match slot.first_chunk::<XMM_BYTES>() {
                Some(bytes) if has & component::SSE != 0 => V128::from(*bytes),
                _ => V128::ZERO,
            };
        }
    }

    /// Makes FPU and vector registers what they are when Linux starts a program or a signal handler.
    pub fn reset_fpu(&mut self) {
        self.fpu = Fpu::default();
        self.xmm = [V128::ZERO; 8];
        self.mxcsr = ALL_MASKED;
    }
}
