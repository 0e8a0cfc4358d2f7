//! The alternate signal stack (sigaltstack(2)).

use crate::cpu::reg;
use crate::kernel::errno::Errno;
use crate::kernel::process::Process;

/// The thread runs on the alternate stack.
pub const SS_ONSTACK: u32 = 1;
/// There is no alternate stack.
pub const SS_DISABLE: u32 = 2;
/// Disarmed while a handler runs on it.
pub const SS_AUTODISARM: u32 = 1 << 31;
/// Smallest stack that Linux takes for 32-bit programs, in bytes (`MINSIGSTKSZ`).
pub const MIN_SIZE: u32 = 2048;

/// `stack_t`: where handlers with `SA_ONSTACK` run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AltStack {
    /// Lowest address.
    pub base: u32,
    /// Bytes; 0 means that there is none.
    pub size: u32,
    /// [`SS_AUTODISARM`] or nothing.
    pub flags: u32,
}

impl Default for AltStack {
    fn default() -> AltStack {
        AltStack { base: 0, size: 0, flags: SS_DISABLE }
    }
}

impl AltStack {
    /// Tells whether `esp` is inside, by addresses alone.
    pub fn contains(&self, esp: u32) -> bool {
        esp > self.base && esp - self.base <= self.size
    }

    /// Tells whether a thread with this `esp` counts as running on it.
    pub fn is_active(&self, esp: u32) -> bool {
        self.flags & SS_AUTODISARM == 0 && self.contains(esp)
    }

    /// What `ss_flags` shows: [`SS_DISABLE`], [`SS_ONSTACK`] or 0, and [`SS_AUTODISARM`].
    pub fn shown_flags(&self, esp: u32) -> u32 {
        let state = match (self.size, self.is_active(esp)) {
            (0, _) => SS_DISABLE,
            (_, true) => SS_ONSTACK,
            (_, false) => 0,
        };
        state | self.flags & SS_AUTODISARM
    }

    /// The three words of `stack_t`.
    pub fn words(&self, esp: u32) -> [u32; 3] {
        [self.base, self.shown_flags(esp), self.size]
    }

    /// The stack that `stack_t`'s words ask for, in place of this one. `EPERM` while it is in use, `EINVAL` for
    /// unknown flags, `ENOMEM` if it is too small.
    pub fn replaced(&self, [base, flags, size]: [u32; 3], esp: u32) -> Result<AltStack, Errno> {
        if self.is_active(esp) {
            return Err(Errno::EPERM);
        }
        let mode = flags & !SS_AUTODISARM;
        if !matches!(mode, 0 | SS_ONSTACK | SS_DISABLE) {
            return Err(Errno::EINVAL);
        }
        if mode == SS_DISABLE {
            return Ok(AltStack { base: 0, size: 0, flags });
        }
        if size < MIN_SIZE {
            return Err(Errno::ENOMEM);
        }
        Ok(AltStack { base, size, flags })
    }
}

/// sigaltstack(2).
pub fn sigaltstack(p: &mut Process, new: u32, old: u32) -> Result<u32, Errno> {
    let esp = p.machine.cpu.regs[reg::ESP];
    let before = p.signals.alt_stack;
    if new != 0 {
        p.signals.alt_stack = before.replaced(p.machine.memory.read(new)?, esp)?;
    }
    if old != 0 {
        p.machine.memory.write(old, before.words(esp))?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: AltStack = AltStack { base: 0x1000, size: 0x2000, flags: 0 };

    #[test]
    fn a_stack_ends_at_its_top_inclusive() {
        assert!(!STACK.contains(0x1000) && STACK.contains(0x1001) && STACK.contains(0x3000));
        assert!(!STACK.contains(0x3001));
    }

    #[test]
    fn a_stack_in_use_stays() {
        assert_eq!(STACK.replaced([0, SS_DISABLE, 0], 0x2000), Err(Errno::EPERM));
        assert_eq!(STACK.replaced([0, SS_DISABLE, 0], 0x9000).map(|s| s.size), Ok(0));
    }

    #[test]
    fn bad_stacks_are_refused() {
        let none = AltStack::default();
        assert_eq!(none.replaced([0x1000, 4, 0x4000], 0), Err(Errno::EINVAL));
        assert_eq!(none.replaced([0x1000, 0, MIN_SIZE - 1], 0), Err(Errno::ENOMEM));
        assert_eq!(none.shown_flags(0), SS_DISABLE);
    }

    #[test]
    fn a_disarming_stack_never_counts_as_in_use() {
        let stack = AltStack { flags: SS_AUTODISARM, ..STACK };
        assert!(!stack.is_active(0x2000));
        assert_eq!(stack.shown_flags(0x2000), SS_AUTODISARM);
    }
}
