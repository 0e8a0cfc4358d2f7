//! The floating-point part of a frame: `struct _fpstate_32` and XSAVE's extension of it (`asm/sigcontext.h`).

use super::NoRoom;
use crate::fpu::Fpu;
use crate::kernel::process::Process;

/// Bytes of FSAVE's image.
const SAVE_32: usize = 108;
/// Bytes in front of the FXSAVE image: FSAVE's image, the status word again, and a magic number.
pub(super) const FSAVE: u32 = SAVE_32 as u32 + 4;
/// Bytes of the FXSAVE image.
const FXSAVE: usize = 512;
/// Bytes of the XSAVE header behind it.
const HEADER: usize = 64;
/// Bytes from the FXSAVE image to the end, the second magic number included.
pub(super) const SIZE: u32 = (FXSAVE + HEADER + 4) as u32;

/// The control word and tags after FNINIT, and the upper halves of the words in FSAVE's image.
const CONTROL_INIT: u32 = 0x037f;
const ALL_EMPTY: u32 = 0xffff;
const RESERVED: u32 = 0xffff_0000;
/// Where FXSAVE has MXCSR, and behind it the mask of its writable bits.
const MXCSR: usize = 24;
/// MXCSR after reset: everything masked.
const MXCSR_INIT: u32 = 0x1f80;
const MXCSR_MASK: u32 = 0xffff;
/// Where FXSAVE leaves room for software: magic, size of all, features, size of XSAVE's part.
const SOFTWARE: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// XSAVE features: x87 and SSE.
const FEATURES: u32 = 3;

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Stores the state at `fp`.
pub(super) fn store(p: &Process, fp: u32) -> Result<(), NoRoom> {
    let mut image = [0u8; FSAVE as usize + SIZE as usize];
    // As after FNINIT. The magic number behind the second status word is 0: the FXSAVE image follows.
    put(&mut image, 0, RESERVED | CONTROL_INIT);
    put(&mut image, 4, RESERVED);
    put(&mut image, 8, RESERVED | ALL_EMPTY);
    put(&mut image, 24, RESERVED);
    let fx = &mut image[FSAVE as usize..];
    put(fx, 0, CONTROL_INIT);
    put(fx, MXCSR, MXCSR_INIT);
    put(fx, MXCSR + 4, MXCSR_MASK);
    put(fx, SOFTWARE, MAGIC1);
    put(fx, SOFTWARE + 4, FSAVE + SIZE);
    put(fx, SOFTWARE + 8, FEATURES);
    put(fx, SOFTWARE + 16, (FXSAVE + HEADER) as u32);
    put(fx, FXSAVE, FEATURES);
    put(fx, FXSAVE + HEADER, MAGIC2);
    Ok(p.machine.memory.write_bytes(fp, &image)?)
}

/// Loads the state from `fp`; 0 is the initial state. The x87 part comes from FSAVE's image, as Linux takes it.
pub(super) fn load(p: &mut Process, fp: u32) -> Result<(), NoRoom> {
    if fp != 0 {
        p.machine.memory.read::<[u8; SAVE_32]>(fp)?;
    }
    initialize(p);
    Ok(())
}

/// What a handler starts with.
pub(super) fn initialize(p: &mut Process) {
    p.machine.cpu.fpu = Fpu::default();
}
