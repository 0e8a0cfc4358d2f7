//! The floating-point part of a frame: `struct _fpstate_32` and XSAVE's extension of it (`asm/sigcontext.h`).

use super::NoRoom;
use crate::cpu::MXCSR_INIT;
use crate::fpu::{FXSAVE_X87, Fpu, SAVE_32};
use crate::kernel::process::Process;

/// Bytes in front of the FXSAVE image: FSAVE's image, the status word again, and a magic number.
pub(super) const FSAVE: u32 = SAVE_32 as u32 + 4;
/// Bytes of the FXSAVE image.
const FXSAVE: usize = 512;
/// Bytes of the XSAVE header behind it.
const HEADER: usize = 64;
/// Bytes from the FXSAVE image to the end, the second magic number included.
pub(super) const SIZE: u32 = (FXSAVE + HEADER + 4) as u32;

/// Where FXSAVE has MXCSR, and behind it the mask of its writable bits.
const MXCSR: usize = 24;
const MXCSR_MASK: u32 = 0xffff;
/// Where FXSAVE has XMM0.
const XMM: usize = 160;
/// Where FXSAVE leaves room for software: magic, size of all, features, size of XSAVE's part.
const SOFTWARE: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// XSAVE features: x87 and SSE.
const FEATURES: u32 = 3;

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get(image: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([image[at], image[at + 1], image[at + 2], image[at + 3]])
}

/// Stores the state at `fp`.
pub(super) fn store(p: &Process, fp: u32) -> Result<(), NoRoom> {
    let cpu = &p.machine.cpu;
    let mut image = [0u8; FSAVE as usize + SIZE as usize];
    image[..SAVE_32].copy_from_slice(&cpu.fpu.save32());
    // The status word again, and a magic number: 0 says that the FXSAVE image follows.
    image[SAVE_32..SAVE_32 + 2].copy_from_slice(&cpu.fpu.status().to_le_bytes());
    let fx = &mut image[FSAVE as usize..];
    if let Some(x87) = fx.first_chunk_mut::<FXSAVE_X87>() {
        cpu.fpu.fxsave(x87);
    }
    for (slot, value) in fx[XMM..].chunks_exact_mut(size_of::<u128>()).zip(cpu.xmm) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    put(fx, MXCSR, cpu.mxcsr);
    put(fx, MXCSR + 4, MXCSR_MASK);
    put(fx, SOFTWARE, MAGIC1);
    put(fx, SOFTWARE + 4, FSAVE + SIZE);
    put(fx, SOFTWARE + 8, FEATURES);
    put(fx, SOFTWARE + 16, (FXSAVE + HEADER) as u32);
    put(fx, FXSAVE, FEATURES);
    put(fx, FXSAVE + HEADER, MAGIC2);
    Ok(p.machine.memory.write_bytes(fp, &image)?)
}

/// Loads the state from `fp`; 0 is the initial state. The x87 part comes from FSAVE's image, as Linux takes it, the
/// rest from FXSAVE's.
pub(super) fn load(p: &mut Process, fp: u32) -> Result<(), NoRoom> {
    initialize(p);
    if fp == 0 {
        return Ok(());
    }
    let image = p.machine.memory.read::<[u8; FSAVE as usize]>(fp)?;
    let cpu = &mut p.machine.cpu;
    if let Some(x87) = image.first_chunk() {
        cpu.fpu.restore32(x87);
    }
    if image[SAVE_32 + 2..] != [0, 0] {
        // A program that knows FSAVE's image only.
        return Ok(());
    }
    let fx = p.machine.memory.read::<[u8; FXSAVE]>(fp.wrapping_add(FSAVE))?;
    cpu.mxcsr = get(&fx, MXCSR) & MXCSR_MASK;
    for (value, slot) in cpu.xmm.iter_mut().zip(fx[XMM..].chunks_exact(size_of::<u128>())) {
        if let Ok(bytes) = slot.try_into() {
            *value = u128::from_le_bytes(bytes);
        }
    }
    Ok(())
}

/// What a handler starts with.
pub(super) fn initialize(p: &mut Process) {
    let cpu = &mut p.machine.cpu;
    cpu.fpu = Fpu::default();
    cpu.xmm = [0; 8];
    cpu.mxcsr = MXCSR_INIT;
}
