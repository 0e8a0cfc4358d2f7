//! Where translations live: one reserved range, filled from the bottom, emptied as a whole. Unsafe: hands out raw slots.

use super::op::{Ext, Op};

/// Slots of 16 bytes.
pub(crate) struct Arena {
    base: *mut Op,
    slots: usize,
    used: usize,
}

// SAFETY: the arena owns its range; the pointers in it are only followed under the translations' lock or by running
// handlers, which `SharedCode` keeps apart.
unsafe impl Send for Arena {}

/// Lets the host take large pages for a range that is filled from the bottom, but for its begin: translations of a large program
/// are all over it, those of a small one need only a few pages.
///
/// # Safety
/// The range is the caller's own mapping.
pub(super) unsafe fn use_large_pages(base: *mut u8, len: usize) {
    /// Of an x86 host.
    const LARGE: usize = 2 << 20;
    let skipped = base.align_offset(LARGE) + LARGE;
    if skipped < len {
        // SAFETY: the caller's promise. A host that has none of them says so, and nothing is lost.
        unsafe { libc::madvise(base.add(skipped).cast(), len - skipped, libc::MADV_HUGEPAGE) };
    }
}

impl Arena {
    /// Reserves room for so many slots; pages are used only when written.
    pub(crate) fn new(slots: usize) -> std::io::Result<Arena> {
        // SAFETY: a fresh anonymous mapping.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slots * size_of::<Op>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the range that was just mapped.
        unsafe { use_large_pages(base.cast(), slots * size_of::<Op>()) };
        Ok(Arena { base: base.cast(), slots, used: 0 })
    }

    /// Slots in use; also where the next one will be.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether `slots` more fit.
    pub(crate) fn fits(&self, slots: usize) -> bool {
        self.used + slots <= self.slots
    }

    /// The op at a slot.
    pub(crate) fn at(&self, slot: usize) -> *mut Op {
        debug_assert!(slot < self.slots);
        self.base.wrapping_add(slot)
    }

    /// The slot that an op is in.
    pub(crate) fn slot_of(&self, op: *const Op) -> Option<usize> {
        let offset = (op as usize).checked_sub(self.base as usize)?;
        (offset < self.used * size_of::<Op>()).then_some(offset / size_of::<Op>())
    }

    /// Appends an op.
    pub(crate) fn push_op(&mut self, op: Op) -> usize {
        assert!(self.fits(1), "the caller has made room");
        // SAFETY: the slot is in the range and nobody uses it yet.
        unsafe { self.at(self.used).write(op) };
        self.used += 1;
        self.used - 1
    }

    /// Appends a second slot.
    pub(crate) fn push_ext(&mut self, ext: Ext) -> usize {
        assert!(self.fits(1), "the caller has made room");
        // SAFETY: as in `push_op`; both kinds are 16 bytes.
        unsafe { self.at(self.used).cast::<Ext>().write(ext) };
        self.used += 1;
        self.used - 1
    }

    /// Gives up everything from `slot` on. No op there may be reachable any more.
    pub(crate) fn truncate(&mut self, slot: usize) {
        self.used = slot;
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the range that `new` mapped.
        unsafe { libc::munmap(self.base.cast(), self.slots * size_of::<Op>()) };
    }
}
