//! What a guest says of its mappings: advice (`madvise(2)`), pages to be kept in the host's memory (`mlock(2)`), names
//! (`prctl(2)`, `PR_SET_VMA`); and what of it a child sees.
//!
//! The host locks nothing but guest memory, so its count of locked pages is the guest's, as `/proc/self/status` shows
//! it, and its limit on them is the one that counts.

use super::map::{Lock, Marks};
use super::operations::{is_aligned, whole_pages};
use super::reservation::Reservation;
use super::{END, MapError, Memory, State, page};
use std::ffi::CStr;
use std::sync::Arc;

/// Advice that only matters when the process is copied: what it changes.
fn about_fork(advice: i32) -> Option<fn(&mut Marks)> {
    Some(match advice {
        libc::MADV_DONTFORK => |marks| marks.dont_fork = true,
        libc::MADV_DOFORK => |marks| marks.dont_fork = false,
        libc::MADV_WIPEONFORK => |marks| marks.wipe_on_fork = true,
        libc::MADV_KEEPONFORK => |marks| marks.wipe_on_fork = false,
        _ => return None,
    })
}

impl Memory {
    /// Passes advice on what is mapped in a range to the host (`madvise(2)`), by the host's constants. Translations
    /// from the range are given up. What `MADV_DONTFORK` says is followed by [`Memory::forked`], as a child's reservation
    /// must not have holes.
    ///
    /// # Errors
    /// [`MapError::Invalid`] for an address that is not a page's; [`MapError::NoMemory`] where a part is not mapped,
    /// after the rest has been advised; `EPERM` for advice that takes away the host's memory; else the host's.
    pub fn advise(&self, addr: u32, len: u32, advice: i32) -> Result<(), MapError> {
        if !is_aligned(addr) {
            return Err(MapError::Invalid);
        }
        let change = about_fork(advice);
        match advice {
            libc::MADV_HWPOISON | libc::MADV_SOFT_OFFLINE => return Err(MapError::Host(libc::EPERM)),
            _ if len == 0 => return self.space.advise(addr, addr, advice).map_err(MapError::Host),
            _ => {}
        }
        let end = whole_pages(len).ok().and_then(|len| addr.checked_add(len)).ok_or(MapError::Invalid)?;
        let mut state = self.lock();
        if change.is_some() {
            state.check_host_mappings()?;
        }
        let pieces = state.pieces(addr, end);
        let mut advised = 0;
        for &(start, end) in &pieces {
            if change.is_none() {
                for number in start / page::SIZE..end / page::SIZE {
                    self.give_up_code(&mut state, number);
                }
            }
            if !matches!(advice, libc::MADV_DONTFORK | libc::MADV_DOFORK) {
                self.space.advise(start, end, advice).map_err(MapError::Host)?;
            }
            if let Some(change) = change {
                state.tree.change(start, end, |area| change(&mut area.marks));
            }
            advised += end - start;
        }
        if advised < end - addr { Err(MapError::NoMemory) } else { Ok(()) }
    }

    /// Makes of a copy of a process's memory what its child gets: without what was not to be copied, and with nothing locked.
    /// The host has emptied what was to be empty. To be called in the child before anything of the guest runs.
    ///
    /// # Errors
    /// [`MapError::NoMemory`] if the host has no memory left for that.
    pub fn forked(&self) -> Result<(), MapError> {
        let mut state = self.lock();
        state.future_lock = Lock::None;
        let marked: Vec<(u32, u32, Marks)> = state
            .tree
            .iter()
            .filter(|(_, area)| area.marks != Marks::default())
            .map(|(start, area)| (start, area.end, area.marks.clone()))
            .collect();
        for (start, end, marks) in marked {
            if marks.dont_fork {
                self.unmap_locked(&mut state, start, end)?;
                continue;
            }
            if marks.wipe_on_fork {
                for number in start / page::SIZE..end / page::SIZE {
                    self.give_up_code(&mut state, number);
                }
            }
            state.tree.change(start, end, |area| area.marks.lock = Lock::None);
        }
        Ok(())
    }

    /// Locks the pages of a range, or no longer (`mlock(2)`, `munlock(2)`).
    ///
    /// # Errors
    /// [`MapError::NoMemory`] where a part is not mapped, after the part before it was locked, or beyond the limit; the
    /// host's: `EPERM` if nothing may be locked, and others if pages are locked but cannot be brought in.
    pub fn lock_range(&self, addr: u32, len: u32, lock: Lock) -> Result<(), MapError> {
        let size = u64::from(page::SIZE);
        let start = addr / page::SIZE * page::SIZE;
        let end = (u64::from(addr) + u64::from(len)).next_multiple_of(size);
        let within = u32::try_from(end).unwrap_or(END).min(END).max(start);
        let mut state = self.lock();
        let reached = state.tree.mapped_prefix(start, within);
        if lock != Lock::None {
            let locked = state.pieces(start, within).into_iter().filter(|&(at, _)| state.is_locked(at));
            let locked: u64 = locked.map(|(start, end)| u64::from(end - start)).sum();
            Reservation::try_lock(end - u64::from(start) - locked).map_err(MapError::from_host)?;
        }
        state.check_host_mappings()?;
        let result = self.lock_pieces(&mut state, (start, reached), lock);
        if u64::from(reached) < end { Err(MapError::NoMemory) } else { result }
    }

    /// Locks all that is mapped, if `now` says how, and lets what is mapped from now on be locked as `future` says (`mlockall(2)`,
    /// `munlockall(2)`).
    ///
    /// # Errors
    /// The host's `EPERM` if nothing may be locked, [`MapError::NoMemory`] if more is mapped than may be locked.
    pub fn lock_all(&self, now: Option<Lock>, future: Lock) -> Result<(), MapError> {
        let mut state = self.lock();
        match now {
            Some(Lock::None) => {}
            Some(_) => {
                let unlocked = state.tree.mapped_bytes() - state.locked_bytes();
                Reservation::try_lock(unlocked).map_err(MapError::from_host)?;
            }
            None if Reservation::try_lock(0) == Err(libc::EPERM) => return Err(MapError::Host(libc::EPERM)),
            None => {}
        }
        state.future_lock = future;
        if let Some(lock) = now {
            // What cannot be brought in is locked all the same.
            let _ = self.lock_pieces(&mut state, (0, END), lock);
        }
        Ok(())
    }

    /// Locks what is mapped in a range, all of it whatever happens; gives the first error.
    fn lock_pieces(&self, state: &mut State, (start, end): (u32, u32), lock: Lock) -> Result<(), MapError> {
        let mut result = Ok(());
        for (start, end) in state.pieces(start, end) {
            if state.tree.at(start).is_some_and(|(_, area)| area.is_kernels()) {
                continue;
            }
            let done = self.space.lock(start, end, lock).map_err(MapError::from_host);
            state.tree.change(start, end, |area| area.marks.lock = lock);
            result = result.and(done);
        }
        result
    }

    /// Checks that so many bytes more may be locked, if they are to be: `EAGAIN`.
    pub(super) fn check_lock(&self, lock: Lock, bytes: u32) -> Result<(), MapError> {
        if lock != Lock::None && Reservation::try_lock(bytes.into()).is_err() {
            return Err(MapError::Host(libc::EAGAIN));
        }
        Ok(())
    }

    /// Has the host treat a range, freshly mapped, as what was said of its area demands.
    pub(super) fn follow_marks(&self, start: u32, end: u32, marks: &Marks) {
        if start == end {
            return;
        }
        if marks.wipe_on_fork {
            let _ = self.space.advise(start, end, libc::MADV_WIPEONFORK);
        }
        if marks.lock != Lock::None {
            // As on Linux, what cannot be brought in is mapped all the same.
            let _ = self.space.lock(start, end, marks.lock);
        }
    }

    /// Has the host treat a range as before that the caller has had it map anew (`shmat(2)`).
    pub fn mapped_anew(&self, addr: u32, len: u32) {
        let state = self.lock();
        for (start, end) in state.pieces(addr, addr.saturating_add(len)) {
            if let Some((_, area)) = state.tree.at(start) {
                self.follow_marks(start, end, &area.marks);
            }
        }
    }

    /// Names memory without a file, or takes its name away (`prctl(2)`, `PR_SET_VMA_ANON_NAME`). The host decides whether
    /// there are such names, and which are good.
    ///
    /// # Errors
    /// [`MapError::Invalid`] for an address that is not a page's, and where the host has no names; `EBADF` for a
    /// file; [`MapError::NoMemory`] where a part is not mapped, after the rest was named.
    pub fn name_range(&self, addr: u32, len: u32, name: Option<&CStr>) -> Result<(), MapError> {
        let end = (u64::from(addr) + u64::from(len)).next_multiple_of(page::SIZE.into());
        self.space.name(0, 0, name).map_err(MapError::Host)?;
        if !is_aligned(addr) {
            return Err(MapError::Invalid);
        }
        let shown = name.map(|name| Arc::<str>::from(name.to_string_lossy()));
        let mut state = self.lock();
        state.check_host_mappings()?;
        let mut named = 0;
        for (start, end) in state.pieces(addr, u32::try_from(end).unwrap_or(END).min(END).max(addr)) {
            self.space.name(start, end, name).map_err(MapError::Host)?;
            state.tree.change(start, end, |area| area.marks.name = shown.clone());
            named += u64::from(end - start);
        }
        if named < end - u64::from(addr) { Err(MapError::NoMemory) } else { Ok(()) }
    }
}

impl State {
    /// The parts of areas that are in `start..end`, ascending.
    fn pieces(&self, start: u32, end: u32) -> Vec<(u32, u32)> {
        self.tree.meeting(start, end).map(|(from, area)| (from.max(start), area.end.min(end))).collect()
    }

    fn is_locked(&self, addr: u32) -> bool {
        self.tree.at(addr).is_some_and(|(_, area)| area.marks.lock != Lock::None)
    }

    fn locked_bytes(&self) -> u64 {
        let locked = self.tree.iter().filter(|(_, area)| area.marks.lock != Lock::None);
        locked.map(|(start, area)| u64::from(area.end - start)).sum()
    }
}
