//! How blocks find one another: the cache of indirect jumps and the shadow stack of returns. Unsafe: zeroed memory as a cache.

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
pub(crate) struct JumpCache {
    /// Apart, as the host gives out zeroed memory without touching it: a short program fills few of its pages.
    entries: Box<[Target; JUMPS]>,
    is_empty: bool,
}

impl JumpCache {
    /// Where `eip` belongs.
    #[inline(always)]
    fn slot(eip: u32) -> usize {
        eip as usize & (JUMPS - 1)
    }

    /// What is known where `eip` belongs; it is this address's only if it says so.
    #[inline(always)]
    pub(crate) fn at(&self, eip: u32) -> Target {
        self.entries[JumpCache::slot(eip)]
    }

    /// Enters a target.
    pub(crate) fn put(&mut self, target: Target) {
        self.entries[JumpCache::slot(target.eip)] = target;
        self.is_empty = false;
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        if !self.is_empty {
            self.entries.fill(Target { eip: 0, op: std::ptr::null() });
        }
        // Address 0 belongs into slot 0: an address that does not makes it no hit.
        self.entries[0].eip = 1;
        self.is_empty = true;
    }
}

impl Default for JumpCache {
    fn default() -> Self {
        // SAFETY: numbers and null pointers, for which zeros stand.
        let entries = unsafe { Box::new_zeroed().assume_init() };
        let mut cache = JumpCache { entries, is_empty: true };
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
