//! FST, FIST, FISTTP and FBSTP into memory, FST into a register.
//!
//! A store computes first and commits later, so that a page fault in between leaves the FPU as it was:
//!
//! ```text
//! let store = fpu.fst_f32();
//! if let Some(bits) = store.value() { write(address, bits)?; }
//! fpu.commit(&store, pops);
//! ```

use super::Fpu;
use super::soft::quick::{self, Quick};
use super::soft::{Env, F80, bcd, convert, flag};
use crate::fpu::way::Way;
use std::hint::cold_path;

/// What a store to memory is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a store takes effect with Fpu::commit"]
pub struct Store<T> {
    value: T,
    env: Env,
}

impl<T: Copy> Store<T> {
    /// The value to write, or `None` when an unmasked exception keeps memory as it is.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> Option<T> {
        if self.env.stops_store() { None } else { Some(self.value) }
    }
}

impl Fpu {
    /// Converts ST(0) by `convert`; an empty register converts as the indefinite.
    #[inline(always)]
    fn store<T>(&self, convert: impl FnOnce(F80, &mut Env) -> T) -> Store<T> {
        let mut env = self.env();
        let value = if self.is_empty(0) {
            let value = convert(F80::INDEFINITE, &mut Env::new(self.control));
            env.stack_underflow();
            value
        } else {
            convert(self.st(0), &mut env)
        };
        Store { value, env }
    }

    /// Completes a store once memory is written: enters its exceptions and, unless one of them forbids it, pops
    /// `pops` times.
    #[inline]
    pub const fn commit<T: Copy>(&mut self, store: &Store<T>, pops: u8) {
        self.settle(&store.env);
        if !store.env.stops_store() {
            self.pop(pops);
        }
    }

    /// What [`Fpu::fst_f32`] is going to do, if the short way knows it.
    #[inline(always)]
    pub(crate) fn fst_f32_quick(&self) -> Option<Quick<u32>> {
        if self.short { self.narrow(quick::to_f32, |a| u32::from(a.se) << 16) } else { None }
    }

    /// What [`Fpu::fst_f64`] is going to do, if the short way knows it.
    #[inline(always)]
    pub(crate) fn fst_f64_quick(&self) -> Option<Quick<u64>> {
        if self.short { self.narrow(quick::to_f64, |a| u64::from(a.se) << 48) } else { None }
    }

    /// Converts ST(0) by `quick` if it is normal, and by `zero` if it is one.
    #[inline(always)]
    fn narrow<T>(
        &self,
        quick: impl FnOnce(F80) -> Option<Quick<T>>,
        zero: impl FnOnce(F80) -> T,
    ) -> Option<Quick<T>> {
        let register = self.register(self.top);
        let value = register.value();
        if register.word.is_normal() {
            return quick(value);
        }
        cold_path();
        let is_zero = !register.word.is_empty() && value.is_zero();
        is_zero.then(|| Quick { value: zero(value), lost: 0, away: false })
    }

    /// As [`Fpu::commit`], of such a store.
    #[inline(always)]
    pub(crate) const fn commit_quick<T: Copy>(&mut self, store: &Quick<T>, pops: u8) {
        self.settle_quick(store.lost, store.away);
        self.pop(pops);
    }

    /// Converts ST(0) to the bits of an `m32fp`. SDM Vol. 2A, "FST/FSTP".
    #[inline]
    pub fn fst_f32(&self) -> Store<u32> {
        self.store(convert::to_f32)
    }

    /// Converts ST(0) to the bits of an `m64fp`. SDM Vol. 2A, "FST/FSTP".
    #[inline]
    pub fn fst_f64(&self) -> Store<u64> {
        self.store(convert::to_f64)
    }

    /// Takes ST(0) as it is. SDM Vol. 2A, "FST/FSTP".
    #[inline]
    pub fn fst_f80(&self) -> Store<F80> {
        self.store(|a, _| a)
    }

    /// Rounds ST(0) to an `m16int`. SDM Vol. 2A, "FIST/FISTP".
    #[inline]
    pub fn fist_i16(&self) -> Store<i16> {
        self.store(convert::to_i16)
    }

    /// Rounds ST(0) to an `m32int`. SDM Vol. 2A, "FIST/FISTP".
    #[inline]
    pub fn fist_i32(&self) -> Store<i32> {
        self.store(convert::to_i32)
    }

    /// Rounds ST(0) to an `m64int`. SDM Vol. 2A, "FIST/FISTP".
    #[inline]
    pub fn fist_i64(&self) -> Store<i64> {
        self.store(convert::to_i64)
    }

    /// Truncates ST(0) to an `m16int`. SDM Vol. 2A, "FISTTP".
    #[inline]
    pub fn fisttp_i16(&self) -> Store<i16> {
        self.store(convert::truncate_i16)
    }

    /// Truncates ST(0) to an `m32int`. SDM Vol. 2A, "FISTTP".
    #[inline]
    pub fn fisttp_i32(&self) -> Store<i32> {
        self.store(convert::truncate_i32)
    }

    /// Truncates ST(0) to an `m64int`. SDM Vol. 2A, "FISTTP".
    #[inline]
    pub fn fisttp_i64(&self) -> Store<i64> {
        self.store(convert::truncate_i64)
    }

    /// Rounds ST(0) to packed decimal. SDM Vol. 2A, "FBSTP".
    pub fn fbstp(&self) -> Store<[u8; 10]> {
        self.store(bcd::to_bcd)
    }

    /// Copies ST(0) to ST(`i`) and pops `pops` times. SDM Vol. 2A, "FST/FSTP".
    #[inline(always)]
    pub fn fst_st<W: Way>(&mut self, i: u8, pops: u8) -> Result<(), W::Else> {
        let from = self.register(self.top);
        if !from.word.is_empty() {
            self.settle_quick(0, false);
            self.set_register(self.number(i), from);
            self.pop(pops);
            return Ok(());
        }
        W::general(|| {
            let mut env = self.env();
            env.stack_underflow();
            self.settle(&env);
            if !env.stops() {
                self.set_st(i, F80::INDEFINITE);
                self.pop(pops);
            }
            Ok(())
        })
    }

    /// Copies ST(0) to ST(`i`) unless it is empty, and pops, never with a fault: the undocumented FSTPNCE, `D9 D8+i`.
    #[inline]
    pub const fn fstpnce(&mut self, i: u8) {
        self.set_codes(flag::C1, 0);
        if !self.is_empty(0) {
            self.set_st(i, self.st(0));
        }
        self.pop(1);
    }
}
