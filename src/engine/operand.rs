//! Operands as types: where a handler finds its values. Constant ones make constant offsets.

use crate::cpu::exec::attribute;
use crate::cpu::native;
use crate::cpu::vector::{V128, Vector};
use crate::cpu::{Exec, Fault, Word};
use crate::memory::access::{GuestAtomic, GuestValue};

/// Gives a value.
pub(crate) trait Source<T> {
    /// It needs the op's second slot.
    const EXT: bool;
    fn get(x: Exec) -> Result<T, Fault>;
}

/// A place that is read and written.
pub(crate) trait Place<T>: Source<T> {
    /// An MMX register, whose use changes the state of the x87.
    const MMX: bool = false;
    /// What is worked out once: a memory operand's address.
    type At: Copy;
    fn locate(x: Exec) -> Self::At;
    fn read(x: Exec, at: Self::At) -> Result<T, Fault>;
    fn write(x: Exec, at: Self::At, value: T) -> Result<(), Fault>;
    /// Writes a register once more, for operand 1 to win when another operand is the same register.
    #[inline(always)]
    fn prevail(_: Exec, _: Self::At, _: T) {}
    /// Replaces the value by what `change` makes of it; atomically if the place is locked.
    fn update<R>(x: Exec, at: Self::At, change: impl FnMut(T) -> Result<(T, R), Fault>) -> Result<R, Fault>;
}

/// An address, without an access.
pub(crate) trait Address {
    fn address(x: Exec) -> u32;
}

/// The number of a register that is none of the eight.
pub(crate) trait Number {
    fn number(x: Exec) -> u8;
}

/// The selector in a segment register.
pub(crate) trait Selector {
    fn selector(x: Exec) -> u16;
}

/// Reads the register at a byte offset.
#[inline(always)]
fn read_register<T: Word>(x: Exec, offset: usize) -> T {
    // SAFETY: offsets come from the translator or generator and lie in the register file (or the zero behind it),
    // which `repr(C)` puts first in `Cpu`; the file is aligned for any `T` at the offsets of that width.
    unsafe { x.cpu.cast::<u8>().add(offset).cast::<T>().read() }
}

/// Writes the register at a byte offset.
#[inline(always)]
fn write_register<T: Word>(x: Exec, offset: usize, value: T) {
    // SAFETY: as in `read_register`; the zero register is never an operand.
    unsafe { x.cpu.cast::<u8>().add(offset).cast::<T>().write(value) }
}

macro_rules! register {
    ($name:ident $(<const $offset_name:ident : u8>)?, $offset:expr) => {
        register!($name $(<const $offset_name : u8>)?, $offset, false);
    };
    ($name:ident $(<const $offset_name:ident : u8>)?, $offset:expr, $ext:literal) => {
        impl<T: Word $(, const $offset_name: u8)?> Source<T> for $name$(<$offset_name>)? {
            const EXT: bool = $ext;
            #[inline(always)]
            fn get(x: Exec) -> Result<T, Fault> {
                let offset: fn(Exec) -> usize = $offset;
                Ok(read_register(x, offset(x)))
            }
        }
        impl<T: Word $(, const $offset_name: u8)?> Place<T> for $name$(<$offset_name>)? {
            type At = ();
            #[inline(always)]
            fn locate(_: Exec) {}
            #[inline(always)]
            fn read(x: Exec, (): ()) -> Result<T, Fault> {
                <Self as Source<T>>::get(x)
            }
            #[inline(always)]
            fn write(x: Exec, (): (), value: T) -> Result<(), Fault> {
                let offset: fn(Exec) -> usize = $offset;
                write_register(x, offset(x), value);
                Ok(())
            }
            #[inline(always)]
            fn prevail(x: Exec, (): (), value: T) {
                let offset: fn(Exec) -> usize = $offset;
                write_register(x, offset(x), value);
            }
            #[inline(always)]
            fn update<R>(x: Exec, at: (), mut change: impl FnMut(T) -> Result<(T, R), Fault>) -> Result<R, Fault> {
                let (value, rest) = change(<Self as Source<T>>::get(x)?)?;
                Self::write(x, at, value)?;
                Ok(rest)
            }
        }
    };
}

/// The register at a constant byte offset.
pub(crate) struct Reg<const OFFSET: u8>;
/// The register in field `a`.
pub(crate) struct RegA;
/// The register in field `b`.
pub(crate) struct RegB;
/// The register in field `c`.
pub(crate) struct RegC;
/// The register in the second slot.
pub(crate) struct RegX;

register!(Reg<const OFFSET: u8>, |_| usize::from(OFFSET));
register!(RegA, |x| usize::from(x.op().a));
register!(RegB, |x| usize::from(x.op().b));
register!(RegC, |x| usize::from(x.op().c));
register!(RegX, |x| usize::from(x.ext().aux as u8), true);

/// The immediate, without a memory operand.
pub(crate) struct Imm;
/// The immediate beside a memory operand.
pub(crate) struct SecondImm;

impl<T: Word> Source<T> for Imm {
    const EXT: bool = false;
    #[inline(always)]
    fn get(x: Exec) -> Result<T, Fault> {
        Ok(T::low(u64::from(x.op().imm)))
    }
}

impl<T: Word> Source<T> for SecondImm {
    const EXT: bool = true;
    #[inline(always)]
    fn get(x: Exec) -> Result<T, Fault> {
        Ok(T::low(u64::from(x.ext().imm2)))
    }
}

/// Any address: base, index, displacement, segment, 16 bits.
pub(crate) struct MemAny;
/// Flat: base, index, displacement.
pub(crate) struct MemSib;
/// Flat: base, index with a certain scale, displacement.
#[allow(dead_code)] // which scales are needed is up to `hot.txt`
pub(crate) struct MemScaled<const SCALE: u8>;
/// Flat: displacement.
pub(crate) struct MemAbs;
/// Flat: base and displacement.
pub(crate) struct MemBase;
/// Flat: the base register at a constant byte offset, and displacement.
pub(crate) struct MemFixed<const OFFSET: u8>;
/// Flat: a certain base, index and scale, and displacement. From the low bits: base, index, scale; index 4 stands for no base,
/// and then the base's bits are the index.
pub(crate) struct MemIndexed<const WHICH: u8>;
/// A memory operand that is updated atomically.
pub(crate) struct Locked<M>(std::marker::PhantomData<M>);

impl Address for MemAny {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        let op = x.op();
        let mut offset = MemSib::address(x);
        if op.d & attribute::ADDR16 != 0 {
            offset &= 0xffff;
        }
        offset.wrapping_add(x.segment_base())
    }
}

impl Address for MemSib {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        let op = x.op();
        let base: u32 = read_register(x, usize::from(op.b));
        let index: u32 = read_register(x, usize::from(op.c));
        base.wrapping_add(index << (op.d & 3)).wrapping_add(op.imm)
    }
}

impl<const SCALE: u8> Address for MemScaled<SCALE> {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        let op = x.op();
        let base: u32 = read_register(x, usize::from(op.b));
        let index: u32 = read_register(x, usize::from(op.c));
        base.wrapping_add(index << SCALE).wrapping_add(op.imm)
    }
}

impl Address for MemAbs {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        x.op().imm
    }
}

impl Address for MemBase {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        let op = x.op();
        read_register::<u32>(x, usize::from(op.b)).wrapping_add(op.imm)
    }
}

impl<const OFFSET: u8> Address for MemFixed<OFFSET> {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        read_register::<u32>(x, usize::from(OFFSET)).wrapping_add(x.op().imm)
    }
}

impl<const WHICH: u8> Address for MemIndexed<WHICH> {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        let (low, middle, scale) = (WHICH & 7, WHICH >> 3 & 7, WHICH >> 6);
        let register = |number: u8| read_register::<u32>(x, usize::from(number * 4));
        if middle == 4 {
            return (register(low) << scale).wrapping_add(x.op().imm);
        }
        register(low).wrapping_add(register(middle) << scale).wrapping_add(x.op().imm)
    }
}

impl<M: Address> Address for Locked<M> {
    #[inline(always)]
    fn address(x: Exec) -> u32 {
        M::address(x)
    }
}

macro_rules! memory {
    ($name:ty $(, const $offset:ident)?) => {
        impl<T: GuestValue $(, const $offset: u8)?> Source<T> for $name {
            const EXT: bool = false;
            #[inline(always)]
            fn get(x: Exec) -> Result<T, Fault> {
                x.load(<$name as Address>::address(x))
            }
        }
        impl<T: GuestValue $(, const $offset: u8)?> Place<T> for $name {
            type At = u32;
            #[inline(always)]
            fn locate(x: Exec) -> u32 {
                <$name as Address>::address(x)
            }
            #[inline(always)]
            fn read(x: Exec, at: u32) -> Result<T, Fault> {
                x.load(at)
            }
            #[inline(always)]
            fn write(x: Exec, at: u32, value: T) -> Result<(), Fault> {
                x.store(at, value)
            }
            #[inline(always)]
            fn update<R>(x: Exec, at: u32, mut change: impl FnMut(T) -> Result<(T, R), Fault>) -> Result<R, Fault> {
                let (value, rest) = change(x.load(at)?)?;
                x.store(at, value)?;
                Ok(rest)
            }
        }
    };
}

memory!(MemAny);
memory!(MemSib);
memory!(MemScaled<SCALE>, const SCALE);
memory!(MemAbs);
memory!(MemBase);
memory!(MemFixed<OFFSET>, const OFFSET);
memory!(MemIndexed<WHICH>, const WHICH);

impl<T: GuestAtomic, M: Address> Source<T> for Locked<M> {
    const EXT: bool = false;
    #[inline(always)]
    fn get(x: Exec) -> Result<T, Fault> {
        x.load(M::address(x))
    }
}

impl<T: GuestAtomic, M: Address> Place<T> for Locked<M> {
    type At = u32;
    #[inline(always)]
    fn locate(x: Exec) -> u32 {
        M::address(x)
    }
    #[inline(always)]
    fn read(x: Exec, at: u32) -> Result<T, Fault> {
        x.load(at)
    }
    #[inline(always)]
    fn write(x: Exec, at: u32, value: T) -> Result<(), Fault> {
        x.update_locked(at, |_| Ok((value, ())))
    }
    #[inline(always)]
    fn update<R>(x: Exec, at: u32, change: impl FnMut(T) -> Result<(T, R), Fault>) -> Result<R, Fault> {
        x.update_locked(at, change)
    }
}

/// A memory operand of 128 bits that has to be aligned to 16 bytes.
pub(crate) struct Aligned<M>(std::marker::PhantomData<M>);

/// Raises #GP(0) unless the address is a multiple of 16.
#[inline(always)]
fn aligned(at: u32) -> Result<(), Fault> {
    if at.is_multiple_of(16) { Ok(()) } else { Err(Fault::gp(0)) }
}

impl<M: Address> Source<V128> for Aligned<M> {
    const EXT: bool = false;
    #[inline(always)]
    fn get(x: Exec) -> Result<V128, Fault> {
        Self::read(x, M::address(x))
    }
}

impl<M: Address> Place<V128> for Aligned<M> {
    type At = u32;
    #[inline(always)]
    fn locate(x: Exec) -> u32 {
        M::address(x)
    }
    #[inline(always)]
    fn read(x: Exec, at: u32) -> Result<V128, Fault> {
        aligned(at)?;
        x.load(at)
    }
    #[inline(always)]
    fn write(x: Exec, at: u32, value: V128) -> Result<(), Fault> {
        aligned(at)?;
        x.store(at, value)
    }
    #[inline(always)]
    fn update<R>(
        x: Exec,
        at: u32,
        mut change: impl FnMut(V128) -> Result<(V128, R), Fault>,
    ) -> Result<R, Fault> {
        let (value, rest) = change(Self::read(x, at)?)?;
        Self::write(x, at, value)?;
        Ok(rest)
    }
}

/// The XMM register in field `a`, or its low part.
pub(crate) struct XmmA;
/// The XMM register in field `b`, or its low part.
pub(crate) struct XmmB;
/// The MMX register in field `a`, or its low part.
pub(crate) struct MmA;
/// The MMX register in field `b`, or its low part.
pub(crate) struct MmB;

/// Reads the XMM register at a byte offset in the file, or its low part.
#[inline(always)]
fn read_xmm<T: Vector>(x: Exec, offset: u8) -> T {
    // SAFETY: offsets come from the translator and are those of one of the eight registers, which are as large as `T` or
    // larger, and aligned; vectors are plain values.
    unsafe { (&raw const (*x.cpu).xmm).cast::<u8>().add(usize::from(offset)).cast::<T>().read() }
}

/// Writes the XMM register at a byte offset in the file, or its low part. The whole is written at once, from a vector register:
/// a load of all 16 bytes that follows two stores of 8 would wait for both.
#[inline(always)]
fn write_xmm<T: Vector>(x: Exec, offset: u8, value: T) {
    let value = if T::BYTES == 16 { native::in_register(value.resize()).resize() } else { value };
    // SAFETY: as in `read_xmm`.
    unsafe { (&raw mut (*x.cpu).xmm).cast::<u8>().add(usize::from(offset)).cast::<T>().write(value) }
}

/// Reads an MMX register, or its low part.
#[inline(always)]
fn read_mm<T: Vector>(x: Exec, number: u8) -> T {
    x.cpu().fpu.mm(number).resize()
}

/// Writes an MMX register.
#[inline(always)]
fn write_mm<T: Vector>(x: Exec, number: u8, value: T) {
    x.cpu().fpu.set_mm(number, value.resize());
}

macro_rules! vector_register {
    ($name:ident, $mmx:literal, |$x:ident| $read:expr, |$y:ident, $value:ident| $write:expr) => {
        impl<T: Vector> Source<T> for $name {
            const EXT: bool = false;
            #[inline(always)]
            fn get($x: Exec) -> Result<T, Fault> {
                Ok($read)
            }
        }
        impl<T: Vector> Place<T> for $name {
            const MMX: bool = $mmx;
            type At = ();
            #[inline(always)]
            fn locate(_: Exec) {}
            #[inline(always)]
            fn read(x: Exec, (): ()) -> Result<T, Fault> {
                <Self as Source<T>>::get(x)
            }
            #[inline(always)]
            fn write($y: Exec, (): (), $value: T) -> Result<(), Fault> {
                $write;
                Ok(())
            }
            #[inline(always)]
            fn update<R>(
                x: Exec,
                at: (),
                mut change: impl FnMut(T) -> Result<(T, R), Fault>,
            ) -> Result<R, Fault> {
                let (value, rest) = change(<Self as Source<T>>::get(x)?)?;
                Self::write(x, at, value)?;
                Ok(rest)
            }
        }
    };
}

/// The XMM register of this number.
pub(crate) struct Xmm<const NUMBER: u8>;

impl<const NUMBER: u8> Source<V128> for Xmm<NUMBER> {
    const EXT: bool = false;
    #[inline(always)]
    fn get(x: Exec) -> Result<V128, Fault> {
        Ok(x.cpu().xmm[usize::from(NUMBER & 7)])
    }
}

impl<const NUMBER: u8> Place<V128> for Xmm<NUMBER> {
    type At = ();
    #[inline(always)]
    fn locate(_: Exec) {}
    #[inline(always)]
    fn read(x: Exec, (): ()) -> Result<V128, Fault> {
        Self::get(x)
    }
    #[inline(always)]
    fn write(x: Exec, (): (), value: V128) -> Result<(), Fault> {
        x.cpu().xmm[usize::from(NUMBER & 7)] = value;
        Ok(())
    }
    #[inline(always)]
    fn update<R>(
        x: Exec,
        at: (),
        mut change: impl FnMut(V128) -> Result<(V128, R), Fault>,
    ) -> Result<R, Fault> {
        let (value, rest) = change(Self::get(x)?)?;
        Self::write(x, at, value)?;
        Ok(rest)
    }
}

vector_register!(XmmA, false, |x| read_xmm(x, x.op().a), |y, value| write_xmm(y, y.op().a, value));
vector_register!(XmmB, false, |x| read_xmm(x, x.op().b), |y, value| write_xmm(y, y.op().b, value));
vector_register!(MmA, true, |x| read_mm(x, x.op().a), |y, value| write_mm(y, y.op().a, value));
vector_register!(MmB, true, |x| read_mm(x, x.op().b), |y, value| write_mm(y, y.op().b, value));

/// The number itself: of a stack register, which is part of the host's instruction.
pub(crate) struct NumberIs<const NUMBER: u8>;
/// A number in field `a`.
#[allow(dead_code)] // which of the two are needed is up to the tables
pub(crate) struct NumberA;
/// A number in field `b`.
#[allow(dead_code)] // which of the two are needed is up to the tables
pub(crate) struct NumberB;
/// The selector of the segment register in field `a`.
pub(crate) struct SelectorA;
/// The selector of the segment register in field `b`.
pub(crate) struct SelectorB;

/// A number that a handler is made for.
#[cfg(trap_memory)]
pub(crate) trait FixedNumber: Number {
    const NUMBER: u8;
}

#[cfg(trap_memory)]
impl<const N: u8> FixedNumber for NumberIs<N> {
    const NUMBER: u8 = N;
}

impl<const N: u8> Number for NumberIs<N> {
    #[inline(always)]
    fn number(_: Exec) -> u8 {
        N
    }
}

impl Number for NumberA {
    #[inline(always)]
    fn number(x: Exec) -> u8 {
        x.op().a
    }
}

impl Number for NumberB {
    #[inline(always)]
    fn number(x: Exec) -> u8 {
        x.op().b
    }
}

impl Selector for SelectorA {
    #[inline(always)]
    fn selector(x: Exec) -> u16 {
        x.cpu().selectors[usize::from(x.op().a)]
    }
}

impl Selector for SelectorB {
    #[inline(always)]
    fn selector(x: Exec) -> u16 {
        x.cpu().selectors[usize::from(x.op().b)]
    }
}
