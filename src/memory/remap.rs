//! Moving mappings and changing their length (`mremap(2)`).

use super::map::{Area, Lock, Object};
use super::operations::{end_of, is_aligned, whole_pages};
use super::reservation::HostMapping;
use super::{MapError, Memory, Place, State, page};

/// Checks where `len` bytes of a mapping at `old..old_end` are to go.
fn check_target(old: u32, old_end: u32, new: u32, len: u32) -> Result<(), MapError> {
    let new_end = end_of(new, len).ok_or(MapError::Invalid)?;
    if is_aligned(new) && (new >= old_end || old >= new_end) { Ok(()) } else { Err(MapError::Invalid) }
}

/// What becomes of the range that pages are moved away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Old {
    /// It is unmapped.
    Unmapped,
    /// It stays mapped, and is empty.
    Emptied,
}

impl Memory {
    /// Prolongs, shortens or moves a mapping; gives its address (`mremap(2)`). With `fixed` it moves there, replacing
    /// what is there; an `old_len` of 0 maps shared memory a second time.
    ///
    /// # Errors
    /// As `mremap(2)`: [`MapError::NotMapped`] if the old range is not one mapping, [`MapError::NoMemory`] if there is
    /// no room where it is and it may not move.
    pub fn remap(
        &self,
        old: u32,
        old_len: u32,
        new_len: u32,
        may_move: bool,
        fixed: Option<u32>,
    ) -> Result<u32, MapError> {
        if !is_aligned(old) || fixed.is_some() && !may_move {
            return Err(MapError::Invalid);
        }
        let new_len =
            whole_pages(new_len).map_err(|error| if fixed.is_some() { MapError::Invalid } else { error })?;
        let old_len = if old_len == 0 { 0 } else { whole_pages(old_len).map_err(|_| MapError::NotMapped)? };
        let old_end = end_of(old, old_len).ok_or(MapError::NotMapped)?;
        if let Some(new) = fixed {
            check_target(old, old_end, new, new_len)?;
        }
        let mut state = self.lock();
        let (start, area) = state.tree.at(old).ok_or(MapError::NotMapped)?;
        let area = area.clone();

        if fixed.is_none() && old_len >= new_len {
            if old_len > new_len {
                self.unmap_locked(&mut state, old + new_len, old_end)?;
            }
            return Ok(old);
        }
        if old_len == 0 && !area.shared {
            return Err(MapError::Invalid);
        }
        let kept = old_len.min(new_len);
        if kept > area.end - old {
            return Err(MapError::NotMapped);
        }
        if new_len > old_len {
            self.check_lock(area.marks.lock, new_len - old_len)?;
        }
        state.check_host_mappings()?;
        let replaced = fixed.map_or(0, |new| state.tree.bytes_within(new, new + new_len));
        state.check_limit(replaced + u64::from(old_len), new_len)?;

        // A stack's guard gap does not count here, as on Linux.
        let has_room = |end| state.tree.bytes_within(old_end, end) == 0;
        if fixed.is_none() && old_len > 0 && old_end == area.end && end_of(old, new_len).is_some_and(has_room)
        {
            self.grow_in_place(&mut state, old, old_end, old + new_len, &area)?;
            return Ok(old);
        }
        if !may_move {
            return Err(MapError::NoMemory);
        }
        let new = match fixed {
            Some(new) => {
                self.unmap_locked(&mut state, new, new + new_len)?;
                if kept < old_len {
                    self.unmap_locked(&mut state, old + kept, old_end)?;
                }
                if state.tree.at(old).is_none() {
                    return Err(MapError::NotMapped);
                }
                new
            }
            None => state.place(Place::Anywhere, new_len)?,
        };
        self.move_to(&mut state, (old, kept, Old::Unmapped), (new, new_len), (start, area))?;
        Ok(new)
    }

    /// Moves the pages of a mapping, or of a part of it, and leaves it empty: zeros, or what its file holds (`mremap(2)`
    /// with `MREMAP_DONTUNMAP`). They go to [`Place::Fixed`], or to where a [`Place::Hint`] says if that is free. Gives
    /// their address.
    ///
    /// # Errors
    /// As [`Memory::remap`]; [`MapError::Invalid`] also for a hint that would not do as a fixed address.
    pub fn move_pages(&self, old: u32, len: u32, place: Place) -> Result<u32, MapError> {
        let len = whole_pages(len).map_err(|_| MapError::Invalid)?;
        let old_end = end_of(old, len).filter(|_| is_aligned(old)).ok_or(MapError::Invalid)?;
        let (Place::Fixed(to) | Place::FixedNoReplace(to) | Place::Hint(to)) = place else {
            return Err(MapError::Invalid);
        };
        check_target(old, old_end, to, len)?;
        let mut state = self.lock();
        let (start, area) = state.tree.at(old).ok_or(MapError::NotMapped)?;
        let area = area.clone();
        if area.is_kernels() {
            return Err(MapError::Invalid);
        }
        if old_end > area.end {
            return Err(MapError::NotMapped);
        }
        state.check_host_mappings()?;
        let new = state.place(place, len)?;
        state.check_limit(state.tree.bytes_within(new, new + len), len)?;
        self.unmap_locked(&mut state, new, new + len)?;
        self.move_to(&mut state, (old, len, Old::Emptied), (new, len), (start, area))?;
        Ok(new)
    }

    /// Moves pages of an area that may be locked. Hosts count moved pages that are locked twice as long as the old range stays
    /// mapped, so they are not meanwhile. If all goes well they have to be locked where they are then.
    fn unlocked<E>(
        &self,
        (start, end): (u32, u32),
        area: &Area,
        change: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let locked = area.marks.lock != Lock::None;
        if locked {
            let _ = self.space.lock(start, end, Lock::None);
        }
        let result = change();
        if locked && result.is_err() {
            let _ = self.space.lock(start, end, area.marks.lock);
        }
        result
    }

    fn grow_in_place(
        &self,
        state: &mut State,
        old: u32,
        old_end: u32,
        new_end: u32,
        area: &Area,
    ) -> Result<(), MapError> {
        let last = old_end - page::SIZE;
        self.give_up_code(state, last / page::SIZE);
        let prolonged = self.unlocked((last, old_end), area, || self.prolong(old_end, new_end, area));
        prolonged.map_err(MapError::from_host)?;
        let offset = u64::from(old_end - old);
        let (start, _) = state.tree.at(old).ok_or(MapError::NotMapped)?;
        let mut tail = Area { end: new_end, ..area.clone() };
        if let Object::File { offset: from, .. } = &mut tail.object {
            *from += u64::from(old - start) + offset;
        }
        self.follow_marks(last, new_end, &tail.marks);
        self.record(state, old_end, tail);
        Ok(())
    }

    /// Has the host prolong the mapping that ends at `end`, whose last page is not protected code.
    fn prolong(&self, end: u32, new_end: u32, area: &Area) -> Result<(), i32> {
        match &area.object {
            Object::Anonymous(_) => {
                let mapping = HostMapping { prot: area.prot, ..HostMapping::default() };
                self.space.map(end, new_end, mapping)
            }
            Object::File { .. } => self.space.prolong(end - page::SIZE, new_end - end, area.shared),
        }
    }

    /// Moves `kept` bytes at `old`, part of `area`, to the free range of `new_len` bytes at `new`; without any, maps them
    /// a second time.
    fn move_to(
        &self,
        state: &mut State,
        (old, kept, left): (u32, u32, Old),
        (new, new_len): (u32, u32),
        (start, area): (u32, Area),
    ) -> Result<(), MapError> {
        let mut moved = Area { end: new + new_len, ..area };
        if let Object::File { offset, .. } = &mut moved.object {
            *offset += u64::from(old - start);
        }
        if kept == 0 {
            self.space.duplicate(old, new, new_len).map_err(MapError::from_host)?;
            self.record(state, new, moved);
            return Ok(());
        }
        for number in old / page::SIZE..(old + kept) / page::SIZE {
            self.give_up_code(state, number);
        }
        let host = match left {
            Old::Unmapped => {
                self.unlocked((old, old + kept), &moved, || self.space.relocate(old, new, kept, moved.shared))
            }
            Old::Emptied => self.space.move_pages(old, new, kept, moved.shared),
        };
        host.map_err(MapError::from_host)?;
        if kept < new_len
            && let Err(errno) = self.prolong(new + kept, new + new_len, &moved)
        {
            if self.space.relocate(new, old, kept, moved.shared).is_err() {
                self.forget(state, old, old + kept);
            }
            let _ = self.space.release(new, new + new_len);
            return Err(MapError::from_host(errno));
        }
        match left {
            Old::Unmapped => self.forget(state, old, old + kept),
            // What was locked is where the pages are.
            Old::Emptied => state.tree.change(old, old + kept, |area| area.marks.lock = Lock::None),
        }
        self.follow_marks(new, new + new_len, &moved.marks);
        self.record(state, new, moved);
        Ok(())
    }
}
