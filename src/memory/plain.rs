//! Values that are nothing but their bytes, so that they can be read from and written to guest memory.

#![allow(unsafe_code)]

use std::mem::{self, MaybeUninit};
use std::slice;

/// A type without padding, pointers or invalid bit patterns, in the guest's layout.
///
/// # Safety
/// The type is `repr(C)` or primitive, has no padding, and every bit pattern is a value of it.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty)*) => { $(
        // SAFETY: a primitive integer.
        unsafe impl Plain for $type {}
    )* };
}
plain!(u8 i8 u16 i16 u32 i32 u64 i64 u128 i128);

// SAFETY: arrays have no padding between elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The value whose bytes are all zero.
pub fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern is a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The bytes of a value.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: no padding, so each byte is initialised.
    unsafe { slice::from_raw_parts((&raw const *value).cast(), mem::size_of::<T>()) }
}

/// The bytes of a value, to be overwritten.
pub fn bytes_of_mut<T: Plain>(value: &mut T) -> &mut [u8] {
    // SAFETY: no padding, and every bit pattern is a value.
    unsafe { slice::from_raw_parts_mut((&raw mut *value).cast(), mem::size_of::<T>()) }
}
