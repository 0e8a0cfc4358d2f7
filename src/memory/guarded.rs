//! Copies that survive a fault: the way of Rust code to guest memory, which another guest thread may unmap at
//! any moment and whose file may end early.
//!
//! On x86-64 the copy is one `rep movsb`, or one load and store for 4 and 8 bytes, which other threads
//! therefore see whole if they are aligned. The handler of SIGSEGV and SIGBUS asks [`fixup`] where to go on:
//! from the load or store at the `rep movsb`, which finds out how far it can get, from that one behind it,
//! with the bytes left in RCX. Elsewhere, and with the feature `portable`, the host kernel copies within our
//! own address space and reports what it cannot reach.

#![allow(unsafe_code)]

/// Copies `len` bytes from `src` to `dst`, ascending; gives the number of bytes not copied because of a fault.
///
/// # Safety
/// One side is guest memory, accessible or not; the other one is valid for `len` bytes, or guest memory too. On x86-64
/// a fault is survived only if the process's handler of SIGSEGV and SIGBUS honours [`fixup`].
pub unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise is passed on.
    unsafe { imp::copy(dst, src, len) }
}

/// Where to continue if `rip` lies in [`copy`] at an instruction that may fault, else `None`. Async-signal-safe.
pub fn fixup(rip: usize) -> Option<usize> {
    imp::fixup(rip)
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod imp {
    use std::arch::naked_asm;

    /// `copy` of the module. Direction flag clear, as the ABI has it.
    #[unsafe(naked)]
    pub(super) unsafe extern "sysv64" fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
        naked_asm!(
            ".globl table86_guarded_copy_whole, table86_guarded_copy_bytes, table86_guarded_copy_end",
            ".hidden table86_guarded_copy_whole, table86_guarded_copy_bytes, table86_guarded_copy_end",
            "mov rcx, rdx",
            "cmp rdx, 4",
            "je 4f",
            "cmp rdx, 8",
            "jne table86_guarded_copy_bytes",
            // Faults from here to the next label leave RCX, RSI and RDI as the bytewise copy needs them.
            "table86_guarded_copy_whole:",
            "mov rax, [rsi]",
            "mov [rdi], rax",
            "xor eax, eax",
            "ret",
            "4:",
            "mov eax, [rsi]",
            "mov [rdi], eax",
            "xor eax, eax",
            "ret",
            "table86_guarded_copy_bytes:",
            "rep movsb",
            "table86_guarded_copy_end:",
            "mov rax, rcx",
            "ret",
        )
    }

    unsafe extern "C" {
        static table86_guarded_copy_whole: u8;
        static table86_guarded_copy_bytes: u8;
        static table86_guarded_copy_end: u8;
    }

    pub(super) fn fixup(rip: usize) -> Option<usize> {
        let whole = &raw const table86_guarded_copy_whole as usize;
        let bytes = &raw const table86_guarded_copy_bytes as usize;
        let end = &raw const table86_guarded_copy_end as usize;
        if (whole..bytes).contains(&rip) { Some(bytes) } else { (bytes..end).contains(&rip).then_some(end) }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
mod imp {
    use std::io;

    /// Steps no larger than what lies in one page on both sides, as the host reports by whole pieces.
    pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
        const PAGE: usize = crate::memory::page::SIZE as usize;
        let mut done = 0;
        while done < len {
            let (to, from) = (dst.wrapping_add(done), src.wrapping_add(done));
            let step = (len - done).min(PAGE - to as usize % PAGE).min(PAGE - from as usize % PAGE);
            // SAFETY: the caller's promise; the host checks both sides.
            if !unsafe { copy_step(to, from, step) } {
                break;
            }
            done += step;
        }
        len - done
    }

    /// Tells whether all of it was copied.
    unsafe fn copy_step(dst: *mut u8, src: *const u8, len: usize) -> bool {
        let local = libc::iovec { iov_base: dst.cast(), iov_len: len };
        let remote = libc::iovec { iov_base: src.cast_mut().cast(), iov_len: len };
        loop {
            // SAFETY: one element each; the host copies what it can reach and reports the rest.
            let copied = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
            if copied == len as isize {
                return true;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) if copied < 0 => {}
                Some(libc::ENOSYS | libc::EPERM) if copied < 0 => break,
                _ => return false,
            }
        }
        // The host forbids the call (seccomp). Page bytes have been checked by the callers.
        for at in 0..len {
            // SAFETY: the caller's promise, and nothing better on such a host.
            unsafe { dst.add(at).write_volatile(src.add(at).read_volatile()) };
        }
        true
    }

    pub(super) fn fixup(_rip: usize) -> Option<usize> {
        None
    }
}
