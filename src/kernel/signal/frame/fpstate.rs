//! The floating-point part of a frame: `struct _fpstate_32` and XSAVE's extension of it (`asm/sigcontext.h`), as far as
//! the processor has the instructions.

use super::NoRoom;
use crate::cpu::image::{FXSAVE_BYTES, LEGACY_BYTES, MXCSR_MASK, XCR0, XSAVE_BYTES, component, mxcsr};
use crate::fpu::SAVE_32;
use crate::isa::CpuModel;
use crate::kernel::process::Process;

/// Bytes of FSAVE's part: its image, the status word again, and a magic number.
const FSAVE: usize = SAVE_32 + 4;
/// The magic number: the FXSAVE image follows, or FSAVE's is all.
const FOLLOWS: [u8; 2] = [0; 2];
const ALONE: [u8; 2] = [0xff; 2];
/// Bytes from the FXSAVE image to the end, the second magic number included.
const SIZE: usize = XSAVE_BYTES + 4;
/// Bytes of all.
pub(super) const MOST: usize = FSAVE + SIZE;

/// Where FXSAVE leaves room for software (`struct _fpx_sw_bytes`): magic, size of all, features, size of XSAVE's part.
const SOFTWARE: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;

/// What a processor can store of its state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// By FSAVE only.
    Fsave,
    /// By FXSAVE.
    Fxsave,
    /// By XSAVE, its header behind the image.
    Xsave,
}

impl Format {
    pub(super) fn of(cpu: &CpuModel) -> Format {
        match () {
            () if cpu.shows_named("XSAVE") => Format::Xsave,
            () if cpu.shows_named("FXSR") => Format::Fxsave,
            () => Format::Fsave,
        }
    }

    /// Where the state goes that lies below `top`: the FXSAVE image is aligned, FSAVE's in front of it is not.
    pub(super) fn place(self, top: u32) -> u32 {
        let aligned = |size: usize| top.wrapping_sub(size as u32) & !63;
        match self {
            Format::Fsave => aligned(FSAVE),
            Format::Fxsave => aligned(LEGACY_BYTES).wrapping_sub(FSAVE as u32),
            Format::Xsave => aligned(SIZE).wrapping_sub(FSAVE as u32),
        }
    }

    fn size(self) -> usize {
        match self {
            Format::Fsave => FSAVE,
            Format::Fxsave => FSAVE + LEGACY_BYTES,
            Format::Xsave => MOST,
        }
    }
}

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Stores the state at `fp`.
pub(super) fn store(p: &Process, fp: u32, format: Format) -> Result<(), NoRoom> {
    let cpu = &p.machine.cpu;
    let mut image = [0u8; MOST];
    image[..SAVE_32].copy_from_slice(&cpu.fpu.save32());
    image[SAVE_32..SAVE_32 + 2].copy_from_slice(&cpu.fpu.status().to_le_bytes());
    image[SAVE_32 + 2..FSAVE].copy_from_slice(if format == Format::Fsave { &ALONE } else { &FOLLOWS });
    let fx = &mut image[FSAVE..];
    fx[..FXSAVE_BYTES].copy_from_slice(&cpu.fxsave());
    if format == Format::Xsave {
        put(fx, SOFTWARE, MAGIC1);
        put(fx, SOFTWARE + 4, MOST as u32);
        put(fx, SOFTWARE + 8, XCR0);
        put(fx, SOFTWARE + 16, XSAVE_BYTES as u32);
        put(fx, LEGACY_BYTES, XCR0);
        put(fx, XSAVE_BYTES, MAGIC2);
    }
    Ok(p.machine.memory.write_bytes(fp, &image[..format.size()])?)
}

/// Loads the state from `fp`; 0 is the initial state. The x87 part comes from FSAVE's image, as Linux takes it, the
/// rest from FXSAVE's.
pub(super) fn load(p: &mut Process, fp: u32, format: Format) -> Result<(), NoRoom> {
    initialize(p);
    if fp == 0 {
        return Ok(());
    }
    let fsave = p.machine.memory.read::<[u8; FSAVE]>(fp)?;
    let components = match format {
        Format::Fsave => XCR0,
        Format::Fxsave | Format::Xsave => load_extended(p, fp.wrapping_add(FSAVE as u32), format)?,
    };
    if let Some(x87) = fsave.first_chunk()
        && components & component::X87 != 0
    {
        p.machine.cpu.fpu.restore32(x87);
    }
    Ok(())
}

/// Loads what is in the FXSAVE image or the XSAVE area at `fx`; gives the components that it has.
fn load_extended(p: &mut Process, fx: u32, format: Format) -> Result<u32, NoRoom> {
    let area = p.machine.memory.read::<[u8; LEGACY_BYTES]>(fx)?;
    let has_header = format == Format::Xsave && is_xsave(p, fx, &area)?;
    let [named, wanted] = if has_header { [header(p, fx)?, word(&area, SOFTWARE + 8)] } else { [XCR0; 2] };
    let Some(image) = area.first_chunk() else { return Ok(0) };
    if named != 0 && mxcsr(image) & !MXCSR_MASK != 0 {
        return Err(NoRoom);
    }
    let components = named & wanted;
    p.machine.cpu.xrstor(image, components, components);
    Ok(components)
}

fn word(image: &[u8], at: usize) -> u32 {
    image.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

/// Whether the magic numbers and sizes say that XSAVE's header is there; if not, the FXSAVE image is all.
fn is_xsave(p: &Process, fx: u32, image: &[u8; LEGACY_BYTES]) -> Result<bool, NoRoom> {
    let size = word(image, SOFTWARE + 16);
    if word(image, SOFTWARE) != MAGIC1 || size != XSAVE_BYTES as u32 || size > word(image, SOFTWARE + 4) {
        return Ok(false);
    }
    Ok(p.machine.memory.read::<u32>(fx.wrapping_add(size))? == MAGIC2)
}

/// The components that the header names, if nothing else is in it.
fn header(p: &Process, fx: u32) -> Result<u32, NoRoom> {
    let [components, rest @ ..] = p.machine.memory.read::<[u64; 8]>(fx.wrapping_add(LEGACY_BYTES as u32))?;
    if components & !u64::from(XCR0) != 0 || rest != [0; 7] {
        return Err(NoRoom);
    }
    Ok(components as u32)
}

/// What a handler starts with.
pub(super) fn initialize(p: &mut Process) {
    p.machine.cpu.reset_fpu();
}
