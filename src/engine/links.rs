//! How blocks find one another: the cache of indirect jumps and the shadow stack of returns.

use super::op::Op;

/// Entries of the jump cache; a power of two.
pub(crate) const JUMPS: usize = 4096;
/// Depth of the shadow stack; a power of two.
pub(crate) const DEPTH: usize = 64;

/// A guest address and the op that it starts with.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Target {
    pub(crate) eip: u32,
    pub(crate) op: *const Op,
}

/// Targets of indirect jumps by the low bits of their address.
#[repr(C)]
pub(crate) struct JumpCache {
    pub(crate) entries: [Target; JUMPS],
}

impl JumpCache {
    /// Where `eip` belongs.
    #[inline(always)]
    pub(crate) fn slot(eip: u32) -> usize {
        eip as usize & (JUMPS - 1)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(Target { eip: 0, op: std::ptr::null() });
        // Address 0 belongs into slot 0: an address that does not makes it no hit.
        self.entries[0].eip = 1;
    }
}

impl Default for JumpCache {
    fn default() -> Self {
        let mut cache = JumpCache { entries: [Target { eip: 0, op: std::ptr::null() }; JUMPS] };
        cache.clear();
        cache
    }
}

/// Return addresses of the last calls with the ops behind them, as a ring.
#[repr(C)]
pub(crate) struct Shadow {
    pub(crate) entries: [Target; DEPTH],
}

impl Shadow {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(Target { eip: 0, op: std::ptr::null() });
    }
}

impl Default for Shadow {
    fn default() -> Self {
        Shadow { entries: [Target { eip: 0, op: std::ptr::null() }; DEPTH] }
    }
}
