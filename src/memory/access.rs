//! Guest memory as handlers access it. Unsafe: everything here turns a guest address into a host pointer.
//!
//! A guest address is a `u32` added to the base of the 4 GiB reservation, so no access can leave it but by running over its
//! end into the guard space. On x86-64 Linux the host's page protection is the check: each access is one instruction of
//! inline assembly with the op in RSI, from which the signal handler finds the exact guest state (`engine::recover`). Elsewhere,
//! and with the feature `portable`, each access consults the table of page bytes first.

use crate::cpu::vector::V128;
use crate::cpu::{Exec, Fault};

/// What handlers load and store: plain integers and vectors.
pub trait GuestValue: Copy + Sized + 'static {
    /// Reads from `mem + addr`.
    ///
    /// # Safety
    /// `x` is that of a running handler.
    #[doc(hidden)]
    unsafe fn load(x: Exec, addr: u32) -> Self;
    /// Writes to `mem + addr`.
    ///
    /// # Safety
    /// `x` is that of a running handler.
    #[doc(hidden)]
    unsafe fn store(x: Exec, addr: u32, value: Self);
}

/// What LOCK can be used with.
pub trait GuestAtomic: GuestValue {
    /// Stores `new` if `old` is there; gives what was there. A full barrier.
    ///
    /// # Safety
    /// `x` is that of a running handler.
    #[doc(hidden)]
    unsafe fn compare_exchange(x: Exec, addr: u32, old: Self, new: Self) -> Self;
    /// Bitwise equality.
    #[doc(hidden)]
    fn same(self, other: Self) -> bool;
}

#[cfg(trap_memory)]
macro_rules! guest_value {
    ($type:ty, $register:ty, $class:ident, $load:literal, $store:literal, $cmpxchg:literal) => {
        impl GuestValue for $type {
            #[inline(always)]
            unsafe fn load(x: Exec, addr: u32) -> Self {
                let value: $register;
                // SAFETY: the address lies in the reservation or its guard space; a fault there is recovered by the op in RSI.
                unsafe {
                    std::arch::asm!($load, v = lateout(reg) value, m = in(reg) x.mem, a = in(reg) u64::from(addr),
                        in("rsi") x.op, options(nostack, preserves_flags, readonly));
                }
                value as $type
            }
            #[inline(always)]
            unsafe fn store(x: Exec, addr: u32, value: Self) {
                // SAFETY: as for `load`.
                unsafe {
                    std::arch::asm!($store, v = in($class) value, m = in(reg) x.mem, a = in(reg) u64::from(addr),
                        in("rsi") x.op, options(nostack, preserves_flags));
                }
            }
        }
        impl GuestAtomic for $type {
            #[inline(always)]
            unsafe fn compare_exchange(x: Exec, addr: u32, old: Self, new: Self) -> Self {
                let seen: $register;
                // SAFETY: as for `load`; LOCK makes it atomic whatever its alignment.
                unsafe {
                    std::arch::asm!($cmpxchg, v = in($class) new, m = in(reg) x.mem, a = in(reg) u64::from(addr),
                        inlateout("rax") old as $register => seen, in("rsi") x.op, options(nostack));
                }
                seen as $type
            }
            #[inline(always)]
            fn same(self, other: Self) -> bool {
                self == other
            }
        }
    };
}

#[cfg(trap_memory)]
guest_value!(
    u8,
    u32,
    reg_byte,
    "movzx {v:e}, byte ptr [{m} + {a}]",
    "mov byte ptr [{m} + {a}], {v}",
    "lock cmpxchg byte ptr [{m} + {a}], {v}"
);
#[cfg(trap_memory)]
guest_value!(
    u16,
    u32,
    reg,
    "movzx {v:e}, word ptr [{m} + {a}]",
    "mov word ptr [{m} + {a}], {v:x}",
    "lock cmpxchg word ptr [{m} + {a}], {v:x}"
);
#[cfg(trap_memory)]
guest_value!(
    u32,
    u32,
    reg,
    "mov {v:e}, dword ptr [{m} + {a}]",
    "mov dword ptr [{m} + {a}], {v:e}",
    "lock cmpxchg dword ptr [{m} + {a}], {v:e}"
);
#[cfg(trap_memory)]
guest_value!(
    u64,
    u64,
    reg,
    "mov {v:r}, qword ptr [{m} + {a}]",
    "mov qword ptr [{m} + {a}], {v:r}",
    "lock cmpxchg qword ptr [{m} + {a}], {v:r}"
);

#[cfg(not(trap_memory))]
macro_rules! guest_value {
    ($type:ty, $atomic:ty) => {
        impl GuestValue for $type {
            #[inline(always)]
            unsafe fn load(x: Exec, addr: u32) -> Self {
                // SAFETY: `check` has found the bytes readable; the host pages are at least as accessible.
                <$type>::from_le(unsafe { x.mem.add(addr as usize).cast::<$type>().read_unaligned() })
            }
            #[inline(always)]
            unsafe fn store(x: Exec, addr: u32, value: Self) {
                // SAFETY: `check` has found the bytes writable.
                unsafe { x.mem.add(addr as usize).cast::<$type>().write_unaligned(value.to_le()) }
            }
        }
        impl GuestAtomic for $type {
            #[inline(always)]
            unsafe fn compare_exchange(x: Exec, addr: u32, old: Self, new: Self) -> Self {
                use std::sync::atomic::Ordering::SeqCst;
                // SAFETY: `check` has found the bytes writable.
                let host = unsafe { x.mem.add(addr as usize) };
                if host.cast::<$type>().is_aligned() {
                    // SAFETY: aligned, and shared only with other atomic or guest accesses.
                    let atomic = unsafe { <$atomic>::from_ptr(host.cast()) };
                    let result = atomic.compare_exchange(old.to_le(), new.to_le(), SeqCst, SeqCst);
                    return <$type>::from_le(result.unwrap_or_else(|seen| seen));
                }
                // A split lock: hosts without one can only be atomic among themselves.
                static SPLIT: std::sync::Mutex<()> = std::sync::Mutex::new(());
                let _guard = SPLIT.lock();
                // SAFETY: as for `load` and `store`.
                unsafe {
                    let seen = <$type as GuestValue>::load(x, addr);
                    if seen == old {
                        <$type as GuestValue>::store(x, addr, new);
                    }
                    seen
                }
            }
            #[inline(always)]
            fn same(self, other: Self) -> bool {
                self == other
            }
        }
    };
}

#[cfg(not(trap_memory))]
guest_value!(u8, std::sync::atomic::AtomicU8);
#[cfg(not(trap_memory))]
guest_value!(u16, std::sync::atomic::AtomicU16);
#[cfg(not(trap_memory))]
guest_value!(u32, std::sync::atomic::AtomicU32);
#[cfg(not(trap_memory))]
guest_value!(u64, std::sync::atomic::AtomicU64);

impl GuestValue for V128 {
    #[cfg(trap_memory)]
    #[inline(always)]
    unsafe fn load(x: Exec, addr: u32) -> V128 {
        let value: std::arch::x86_64::__m128i;
        // SAFETY: as for integers; SSE2 is part of x86-64.
        unsafe {
            std::arch::asm!("movups {v}, xmmword ptr [{m} + {a}]", v = lateout(xmm_reg) value, m = in(reg) x.mem,
                a = in(reg) u64::from(addr), in("rsi") x.op, options(nostack, preserves_flags, readonly));
        }
        value.into()
    }
    #[cfg(trap_memory)]
    #[inline(always)]
    unsafe fn store(x: Exec, addr: u32, value: V128) {
        let value: std::arch::x86_64::__m128i = value.into();
        // SAFETY: as for `load`.
        unsafe {
            std::arch::asm!("movups xmmword ptr [{m} + {a}], {v}", v = in(xmm_reg) value, m = in(reg) x.mem,
                a = in(reg) u64::from(addr), in("rsi") x.op, options(nostack, preserves_flags));
        }
    }
    #[cfg(not(trap_memory))]
    #[inline(always)]
    unsafe fn load(x: Exec, addr: u32) -> V128 {
        // SAFETY: `check` has found the bytes readable.
        V128::from(unsafe { x.mem.add(addr as usize).cast::<[u8; 16]>().read() })
    }
    #[cfg(not(trap_memory))]
    #[inline(always)]
    unsafe fn store(x: Exec, addr: u32, value: V128) {
        // SAFETY: `check` has found the bytes writable.
        unsafe { x.mem.add(addr as usize).cast::<[u8; 16]>().write(value.into()) }
    }
}

/// The check that stands in for the host's page protection.
#[cfg(not(trap_memory))]
#[inline(always)]
fn check(x: Exec, addr: u32, len: u32, write: bool) -> Result<(), Fault> {
    let last = addr.wrapping_add(len.wrapping_sub(1));
    let readable = |page: u32| {
        // SAFETY: the table has a byte for each of the 2^20 pages.
        let byte = unsafe { *x.cpu().pages.add((page >> 12) as usize) };
        if write {
            byte & (super::page::WRITE | super::page::CODE) == super::page::WRITE
        } else {
            byte & (super::page::READ | super::page::WRITE | super::page::EXEC) != 0
        }
    };
    // Behind a page's end the fault is at the start of the next one.
    let second = if (addr ^ last) & !0xfff == 0 { last } else { last & !0xfff };
    let wraps = last < addr;
    for addr in [addr, second] {
        if !readable(addr) || wraps {
            return Err(page_fault(x, addr, write));
        }
    }
    Ok(())
}

#[cfg(not(trap_memory))]
#[cold]
fn page_fault(x: Exec, addr: u32, write: bool) -> Fault {
    let cpu = x.cpu();
    // SAFETY: as in `check`.
    let byte = unsafe { *cpu.pages.add((addr >> 12) as usize) };
    cpu.cr2 = addr;
    Fault::pf(crate::engine::recover::error_code(byte, write))
}

#[cfg(trap_memory)]
#[inline(always)]
fn check(_: Exec, _: u32, _: u32, _: bool) -> Result<(), Fault> {
    Ok(())
}

#[inline(always)]
pub(crate) fn load<T: GuestValue>(x: Exec, addr: u32) -> Result<T, Fault> {
    check(x, addr, size_of::<T>() as u32, false)?;
    // SAFETY: checked, or trapped.
    Ok(unsafe { T::load(x, addr) })
}

#[inline(always)]
pub(crate) fn store<T: GuestValue>(x: Exec, addr: u32, value: T) -> Result<(), Fault> {
    check(x, addr, size_of::<T>() as u32, true)?;
    // SAFETY: checked, or trapped.
    unsafe { T::store(x, addr, value) };
    Ok(())
}

/// Leaves the instruction unless a store to `len` bytes, a page at most, would succeed; faults where that would: at the
/// first byte, or at the start of the second page.
#[inline(always)]
pub(crate) fn probe_write(x: Exec, addr: u32, len: u32) -> Result<(), Fault> {
    let last = addr.wrapping_add(len.wrapping_sub(1));
    let second = if (addr ^ last) & !0xfff == 0 { last } else { last & !0xfff };
    for addr in [addr, second] {
        check(x, addr, 1, true)?;
        // SAFETY: checked, or trapped. An exchange of a byte with itself is atomic and changes nothing.
        unsafe { u8::compare_exchange(x, addr, 0, 0) };
    }
    Ok(())
}

#[inline(always)]
pub(crate) fn update_locked<T: GuestAtomic, R>(
    x: Exec,
    addr: u32,
    mut update: impl FnMut(T) -> Result<(T, R), Fault>,
) -> Result<R, Fault> {
    let mut old: T = load(x, addr)?;
    check(x, addr, size_of::<T>() as u32, true)?;
    loop {
        let (new, rest) = update(old)?;
        // SAFETY: checked, or trapped.
        let seen = unsafe { T::compare_exchange(x, addr, old, new) };
        if seen.same(old) {
            return Ok(rest);
        }
        old = seen;
    }
}

/// Does what accesses memory by code that has the op in no register; a fault finds it in the CPU meanwhile.
#[inline(always)]
fn at_work<R>(x: Exec, work: impl FnOnce() -> R) -> R {
    x.cpu().current_op = x.op;
    let result = work();
    x.cpu().current_op = std::ptr::null();
    result
}

pub(crate) fn copy_within_pages(x: Exec, destination: u32, source: u32, len: u32) {
    let distance = destination.wrapping_sub(source);
    // SAFETY: both ranges lie in one page each, which an access of the same instruction has found accessible; if another thread
    // has unmapped it since, the fault is recovered by `current_op`.
    at_work(x, || unsafe {
        let (to, from) = (x.mem.add(destination as usize), x.mem.add(source as usize));
        if distance >= len {
            std::ptr::copy(from, to, len as usize);
        } else {
            // A forward copy onto itself repeats the pattern, which a memmove does not.
            for at in 0..len as usize {
                to.add(at).write_volatile(from.add(at).read_volatile());
            }
        }
    });
}

pub(crate) fn fill_within_page<T: GuestValue>(x: Exec, destination: u32, value: T, count: u32) {
    // SAFETY: as in `copy_within_pages`.
    at_work(x, || unsafe {
        let to = x.mem.add(destination as usize).cast::<T>();
        for at in 0..count as usize {
            to.add(at).write_unaligned(value);
        }
    });
}

#[inline(always)]
pub(crate) fn look_within_page<R>(x: Exec, addr: u32, len: u32, look: impl FnOnce(&[u8]) -> R) -> R {
    at_work(x, || {
        // SAFETY: as in `copy_within_pages`.
        let bytes = unsafe { std::slice::from_raw_parts(x.mem.add(addr as usize), len as usize) };
        look(bytes)
    })
}
