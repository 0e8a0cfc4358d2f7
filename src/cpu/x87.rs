//! What the bodies of x87 instructions have in common: #MF first, memory formats, the last instruction's pointers.
//!
//! A body of a row with `takes = "x87"` is generic over the [`Way`], as it is done by two handlers.

use super::{Exec, Fault};
use crate::fpu::notes::{note, note_memory};
use crate::fpu::soft::F80;
use crate::fpu::soft::quick::Quick;
use crate::fpu::way::{Way, Whole};
use crate::fpu::{Fpu, Operand, Store};
use crate::memory::access::GuestValue;

/// A floating-point format in memory, by its bits.
pub trait Real: GuestValue {
    /// The bits as an operand.
    fn operand(self) -> Operand;
    /// ST(0) rounded to the format.
    fn rounded(fpu: &Fpu) -> Store<Self>;
    /// The same on the short way, if it is one.
    fn rounded_quick(fpu: &Fpu) -> Option<Quick<Self>>;
}

impl Real for u32 {
    #[inline(always)]
    fn operand(self) -> Operand {
        Operand::F32(self)
    }
    #[inline(always)]
    fn rounded(fpu: &Fpu) -> Store<Self> {
        fpu.fst_f32()
    }
    #[inline(always)]
    fn rounded_quick(fpu: &Fpu) -> Option<Quick<Self>> {
        fpu.fst_f32_quick()
    }
}

impl Real for u64 {
    #[inline(always)]
    fn operand(self) -> Operand {
        Operand::F64(self)
    }
    #[inline(always)]
    fn rounded(fpu: &Fpu) -> Store<Self> {
        fpu.fst_f64()
    }
    #[inline(always)]
    fn rounded_quick(fpu: &Fpu) -> Option<Quick<Self>> {
        fpu.fst_f64_quick()
    }
}

/// A signed integer in memory, by its bits.
pub trait Integer: GuestValue {
    /// The integer.
    type Signed: Copy;
    /// The bits as an operand.
    fn operand(self) -> Operand;
    /// ST(0) rounded by the rounding control.
    fn rounded(fpu: &Fpu) -> Store<Self::Signed>;
    /// ST(0) truncated.
    fn truncated(fpu: &Fpu) -> Store<Self::Signed>;
    /// The bits of an integer.
    fn bits(value: Self::Signed) -> Self;
}

macro_rules! integer {
    ($bits:ty, $signed:ty, $operand:ident, $rounded:ident, $truncated:ident) => {
        impl Integer for $bits {
            type Signed = $signed;
            #[inline(always)]
            fn operand(self) -> Operand {
                Operand::$operand(self.cast_signed())
            }
            #[inline(always)]
            fn rounded(fpu: &Fpu) -> Store<$signed> {
                fpu.$rounded()
            }
            #[inline(always)]
            fn truncated(fpu: &Fpu) -> Store<$signed> {
                fpu.$truncated()
            }
            #[inline(always)]
            fn bits(value: $signed) -> $bits {
                value.cast_unsigned()
            }
        }
    };
}

integer!(u16, i16, I16, fist_i16, fisttp_i16);
integer!(u32, i32, I32, fist_i32, fisttp_i32);
integer!(u64, i64, I64, fist_i64, fisttp_i64);

/// Raises #MF if an exception is pending: what each waiting instruction does first (SDM Vol. 1, 8.7). Then the state is in
/// [`Cpu::fpu`](super::Cpu::fpu).
#[inline(always)]
pub(super) fn wait(x: Exec) -> Result<(), Fault> {
    x.wait_for_fpu()
}

/// As [`wait`], but leaves the state to the host's FPU if that has it: nothing is pending then.
#[inline(always)]
pub(super) fn wait_in_place(x: Exec) -> Result<(), Fault> {
    if x.cpu().fpu.pending() { Err(Fault::MF) } else { Ok(()) }
}

/// As [`wait`], on either way: where the short one is taken, nothing is pending.
#[inline(always)]
fn wait_on<W: Way>(x: Exec) -> Result<(), W::Else> {
    if !W::SHORT {
        wait(x)?;
    }
    Ok(())
}

/// Begins an instruction on registers that has a short way.
#[inline(always)]
pub(super) fn begin<'a, W: Way>(x: Exec) -> Result<&'a mut Fpu, W::Else> {
    wait_on::<W>(x)?;
    note(x);
    Ok(&mut x.cpu().fpu)
}

/// As [`begin`], for one that reads a memory operand.
#[inline(always)]
pub(super) fn begin_with<'a, W: Way, T: GuestValue>(x: Exec, addr: u32) -> Result<(&'a mut Fpu, T), W::Else> {
    wait_on::<W>(x)?;
    let value = x.load(addr)?;
    note_memory(x, addr);
    Ok((&mut x.cpu().fpu, value))
}

/// An instruction on registers that has no short way.
#[inline(always)]
pub(super) fn on_registers<W: Way>(x: Exec, change: impl FnOnce(&mut Fpu)) -> Result<(), W::Else> {
    W::general(|| {
        change(begin::<Whole>(x)?);
        Ok(())
    })
}

/// An instruction on registers that is done in software alone. Its handler is to end in a tail call, and must keep nothing on the
/// host's stack.
#[inline(always)]
pub(super) fn on_registers_apart(x: Exec, change: impl FnOnce(&mut Fpu)) -> Result<(), Fault> {
    x.apart(|x| on_registers::<Whole>(x, change))
}

/// As [`on_registers`], for one that reads a memory operand.
#[inline(always)]
pub(super) fn with_memory<W: Way, T: GuestValue>(
    x: Exec,
    addr: u32,
    change: impl FnOnce(&mut Fpu, T),
) -> Result<(), W::Else> {
    W::general(|| {
        let (fpu, value) = begin_with::<Whole, T>(x, addr)?;
        change(fpu, value);
        Ok(())
    })
}

/// As [`begin_with`], for a memory operand of 80 bits: its low 64 and its high 16.
#[inline(always)]
pub(super) fn begin_with_80<'a, W: Way>(x: Exec, addr: u32) -> Result<(&'a mut Fpu, F80), W::Else> {
    wait_on::<W>(x)?;
    let low = x.load(addr)?;
    let high = x.load(addr.wrapping_add(8))?;
    note_memory(x, addr);
    Ok((&mut x.cpu().fpu, F80::new(high, low)))
}

/// An instruction that stores what `convert` makes of ST(0), as `bits`, and pops `pops` times.
#[inline(always)]
pub(super) fn store<W: Way, T: Copy, V: GuestValue>(
    x: Exec,
    addr: u32,
    pops: u8,
    convert: impl FnOnce(&Fpu) -> Store<T>,
    bits: impl FnOnce(T) -> V,
) -> Result<(), W::Else> {
    W::general(|| {
        wait(x)?;
        let store = convert(&x.cpu().fpu);
        match store.value() {
            Some(value) => x.store(addr, bits(value))?,
            None => x.probe_write(addr, size_of::<V>() as u32)?,
        }
        note_memory(x, addr);
        x.cpu().fpu.commit(&store, pops);
        Ok(())
    })
}

/// As [`store`] of a floating-point format.
#[inline(always)]
pub(super) fn store_real<W: Way, T: Real>(x: Exec, addr: u32, pops: u8) -> Result<(), W::Else> {
    wait_on::<W>(x)?;
    if let Some(store) = T::rounded_quick(&x.cpu().fpu) {
        x.store(addr, store.value)?;
        note_memory(x, addr);
        x.cpu().fpu.commit_quick(&store, pops);
        return Ok(());
    }
    store::<W, _, _>(x, addr, pops, T::rounded, |bits| bits)
}

/// As [`store`], of 80 bits.
#[inline(always)]
pub(super) fn store_80<W: Way, T: Copy>(
    x: Exec,
    addr: u32,
    pops: u8,
    convert: impl FnOnce(&Fpu) -> Store<T>,
    bytes: impl FnOnce(T) -> [u8; 10],
) -> Result<(), W::Else> {
    W::general(|| {
        wait(x)?;
        let store = convert(&x.cpu().fpu);
        let high = addr.wrapping_add(8);
        // Two stores: the second must not fault behind the first.
        if store.value().is_none() || addr >> 12 != high.wrapping_add(1) >> 12 {
            x.probe_write(addr, 10)?;
        }
        if let Some(value) = store.value() {
            let F80 { sig, se } = F80::from_bytes(bytes(value));
            x.store(addr, sig)?;
            x.store(high, se)?;
        }
        note_memory(x, addr);
        x.cpu().fpu.commit(&store, pops);
        Ok(())
    })
}

/// Reads an even number of bytes.
#[inline(always)]
pub(super) fn read_image<const N: usize>(x: Exec, addr: u32) -> Result<[u8; N], Fault> {
    let mut image = [0; N];
    for (at, part) in (0u32..).step_by(4).zip(image.chunks_mut(4)) {
        let from = addr.wrapping_add(at);
        match part.len() {
            4 => part.copy_from_slice(&x.load::<u32>(from)?.to_le_bytes()),
            _ => part.copy_from_slice(&x.load::<u16>(from)?.to_le_bytes()),
        }
    }
    Ok(image)
}

/// Writes an even number of bytes, a page's worth at most: all or, if that faults, none.
#[inline(always)]
pub(super) fn write_image(x: Exec, addr: u32, image: &[u8]) -> Result<(), Fault> {
    x.probe_write(addr, image.len() as u32)?;
    for (at, part) in (0u32..).step_by(4).zip(image.chunks(4)) {
        let to = addr.wrapping_add(at);
        match *part {
            [a, b, c, d] => x.store(to, u32::from_le_bytes([a, b, c, d]))?,
            [a, b] => x.store(to, u16::from_le_bytes([a, b]))?,
            _ => {}
        }
    }
    Ok(())
}
