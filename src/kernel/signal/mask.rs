//! Signal sets, and the calls that change or ask for the mask (sigprocmask(2), sigpending(2)).

use super::host;
use crate::kernel::blocking;
use crate::kernel::errno::Errno;
use crate::kernel::process::Process;

/// Bytes of a `sigset_t` in the kernel's interface.
pub const SET_SIZE: u32 = 8;

/// A set of signals; bit n-1 is signal n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);
    /// Every signal.
    pub const ALL: SigSet = SigSet(u64::MAX);
    /// `SIGSEGV` and `SIGBUS`, which are never blocked on the host.
    pub const FAULTS: SigSet = SigSet::of(libc::SIGSEGV).union(SigSet::of(libc::SIGBUS));

    /// One signal, 1 to 64.
    pub const fn of(signal: i32) -> SigSet {
        SigSet(1 << (signal - 1))
    }

    /// Both sets.
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// This set less the other.
    pub const fn minus(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }

    /// Tells whether the signal, 1 to 64, is in the set.
    pub const fn contains(self, signal: i32) -> bool {
        self.0 & SigSet::of(signal).0 != 0
    }

    /// Less `SIGKILL` and `SIGSTOP`.
    pub const fn without_unblockable(self) -> SigSet {
        self.minus(SigSet::of(libc::SIGKILL).union(SigSet::of(libc::SIGSTOP)))
    }
}

/// Reads a `sigset_t`, whose size the guest says: `EINVAL` unless it is 8.
pub fn read_set(p: &Process, addr: u32, size: u32) -> Result<SigSet, Errno> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    Ok(SigSet(p.machine.memory.read::<u64>(addr)?))
}

/// The mask after `how` (`SIG_BLOCK` 0, `SIG_UNBLOCK` 1, `SIG_SETMASK` 2) with `set`.
fn changed(old: SigSet, how: u32, set: SigSet) -> Result<SigSet, Errno> {
    match how {
        0 => Ok(old.union(set)),
        1 => Ok(old.minus(set)),
        2 => Ok(set),
        _ => Err(Errno::EINVAL),
    }
}

/// rt_sigprocmask(2).
pub fn rt_sigprocmask(p: &mut Process, how: u32, set: u32, old_set: u32, size: u32) -> Result<u32, Errno> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let old = p.signals.mask;
    if set != 0 {
        let new = changed(old, how, read_set(p, set, size)?)?;
        p.signals.set_mask(new);
    }
    if old_set != 0 {
        p.machine.memory.write(old_set, old.0)?;
    }
    Ok(0)
}

/// sigprocmask(2) with the old 32-bit set; signals above 32 keep their state.
pub fn sigprocmask(p: &mut Process, how: u32, set: u32, old_set: u32) -> Result<u32, Errno> {
    let old = p.signals.mask;
    if set != 0 {
        let low = SigSet(p.machine.memory.read::<u32>(set)?.into());
        let new = match how {
            2 => SigSet(old.0 & !0xffff_ffff | low.0),
            _ => changed(old, how, low)?,
        };
        p.signals.set_mask(new);
    }
    if old_set != 0 {
        p.machine.memory.write(old_set, old.0 as u32)?;
    }
    Ok(0)
}

/// sgetmask(2).
pub fn sgetmask(p: &mut Process) -> Result<u32, Errno> {
    Ok(p.signals.mask.0 as u32)
}

/// ssetmask(2): replaces the mask, signals above 32 unblocked; gives the old one.
pub fn ssetmask(p: &mut Process, mask: u32) -> Result<u32, Errno> {
    let old = p.signals.mask.0 as u32;
    p.signals.set_mask(SigSet(mask.into()));
    Ok(old)
}

/// Blocked signals that wait.
fn pending(p: &mut Process) -> SigSet {
    host::collect_held(&mut p.signals);
    let held = p.signals.held.iter().fold(SigSet::EMPTY, |set, info| set.union(SigSet::of(info.signal)));
    SigSet(host::pending().union(held).0 & p.signals.mask.0)
}

/// rt_sigpending(2). Sizes up to 8 give as many bytes.
pub fn rt_sigpending(p: &mut Process, set: u32, size: u32) -> Result<u32, Errno> {
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let bytes = pending(p).0.to_le_bytes();
    p.machine.memory.write_bytes(set, &bytes[..size as usize])?;
    Ok(0)
}

/// sigpending(2) with the old 32-bit set.
pub fn sigpending(p: &mut Process, set: u32) -> Result<u32, Errno> {
    let low = pending(p).0 as u32;
    p.machine.memory.write(set, low)?;
    Ok(0)
}

/// Makes a call with another mask in force, as `ppoll`, `pselect6`, `epoll_pwait` and `sigsuspend` do. When a signal
/// ends the call, it is delivered under that mask and the old one comes back afterwards.
pub fn with_temporary<T>(
    p: &mut Process,
    mask: Option<SigSet>,
    call: impl FnOnce(&mut Process) -> Result<T, Errno>,
) -> Result<T, Errno> {
    let Some(mask) = mask else { return call(p) };
    let old = p.signals.mask;
    p.signals.set_mask(mask);
    match call(p) {
        // A signal that the new mask let through interrupts the call even if it had not begun on the host.
        Err(Errno::EINTR | blocking::NOT_STARTED) => {
            p.signals.saved_mask = Some(old);
            Err(Errno::EINTR)
        }
        result => {
            p.signals.set_mask(old);
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_number_signals_from_one() {
        assert_eq!(SigSet::of(1).0, 1);
        assert_eq!(SigSet::of(64).0, 1 << 63);
        assert!(SigSet::FAULTS.contains(libc::SIGBUS) && SigSet::FAULTS.contains(libc::SIGSEGV));
        let all = SigSet::ALL.without_unblockable();
        assert!(!all.contains(libc::SIGKILL) && !all.contains(libc::SIGSTOP) && all.contains(libc::SIGTERM));
    }

    #[test]
    fn masks_change_as_asked() {
        let (old, set) = (SigSet(0b0110), SigSet(0b0011));
        assert_eq!(changed(old, 0, set), Ok(SigSet(0b0111)));
        assert_eq!(changed(old, 1, set), Ok(SigSet(0b0100)));
        assert_eq!(changed(old, 2, set), Ok(set));
        assert_eq!(changed(old, 3, set), Err(Errno::EINVAL));
    }
}
