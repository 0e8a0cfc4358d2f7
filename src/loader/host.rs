//! What the loader asks of the host.

#![allow(unsafe_code)]

use crate::memory::END;

/// Bit of `AT_FLAGS`: binfmt_misc kept argv[0] (flag `P`).
const AT_FLAGS_PRESERVE_ARGV0: u32 = 1;

/// Most bytes of stack where there is no limit.
const UNLIMITED_STACK: u32 = 128 << 20;

/// The kernel's `AT_` values for who runs a program; read from this process's own vector.
pub(super) struct Identity {
    pub uid: u32,
    pub euid: u32,
    pub gid: u32,
    pub egid: u32,
    pub secure: u32,
}

fn auxval(tag: libc::c_ulong) -> u32 {
    // SAFETY: reads the vector that the kernel gave this process.
    unsafe { libc::getauxval(tag) as u32 }
}

/// Who this process is.
pub(super) fn identity() -> Identity {
    Identity {
        uid: auxval(libc::AT_UID),
        euid: auxval(libc::AT_EUID),
        gid: auxval(libc::AT_GID),
        egid: auxval(libc::AT_EGID),
        secure: auxval(libc::AT_SECURE),
    }
}

/// Tells whether binfmt_misc started this process with flag `P`: the arguments are the program's full path and then all that
/// the program is to get, `argv[0]` included.
pub fn keeps_argv0() -> bool {
    auxval(libc::AT_FLAGS) & AT_FLAGS_PRESERVE_ARGV0 != 0
}

/// Clock ticks a second (`AT_CLKTCK`).
pub(super) fn clock_ticks() -> u32 {
    auxval(libc::AT_CLKTCK)
}

/// `RLIMIT_STACK` in bytes, as far as a 32-bit program has use for it.
pub(super) fn stack_limit() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is valid for the call to write.
    unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    if limit.rlim_cur == libc::RLIM_INFINITY {
        return UNLIMITED_STACK;
    }
    u32::try_from(limit.rlim_cur).unwrap_or(u32::MAX).min(END / 6 * 5)
}

/// Sixteen random bytes (`AT_RANDOM`).
pub(super) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    // SAFETY: the buffer has the length said. The kernel fills requests of up to 256 bytes whole.
    unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    bytes
}
