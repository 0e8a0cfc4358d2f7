//! The tree of mappings: which ranges of the guest's address space are mapped, how, and to what.
//!
//! Pure book-keeping in guest addresses; it never touches memory. All addresses are page-aligned, all ends are
//! at most [`END`], so that `u32` never wraps here; [`super::Memory`] checks what comes from the guest.

use super::{END, Prot, page};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Gap kept below a mapping that grows down, in bytes: 256 pages, Linux's `stack_guard_gap`.
pub(crate) const STACK_GUARD_GAP: u32 = 256 * page::SIZE;

/// Name of the kernel's code in every program (vdso(7)).
pub const VDSO: &str = "[vdso]";

/// Lowest address that placement chooses by itself (Linux's default `mmap_min_addr`).
pub(crate) const LOWEST: u32 = 0x1_0000;

/// The file, or shared anonymous object, behind a mapping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub dev: u64,
    pub ino: u64,
    pub path: Option<PathBuf>,
}

/// What an area shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// Private zero pages, perhaps with a name for `/proc/self/maps`.
    Anonymous(Option<&'static str>),
    /// A file from byte `offset` on.
    File { file: Arc<FileId>, offset: u64 },
}

/// Which pages of a mapping stay in the host's memory once they are there (`mlock(2)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// None for sure.
    #[default]
    None,
    /// Those that are touched (`MLOCK_ONFAULT`).
    OnFault,
    /// All, brought in at once.
    All,
}

/// What was said of an area beside how it is mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// A child shall not have it (`MADV_DONTFORK`).
    pub dont_fork: bool,
    /// A child shall find zeros there (`MADV_WIPEONFORK`).
    pub wipe_on_fork: bool,
    /// What of it is locked.
    pub lock: Lock,
    /// Its name (`PR_SET_VMA_ANON_NAME`).
    pub name: Option<Arc<str>>,
}

/// One mapped range; its start is its key in the [`Tree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// First address behind the area.
    pub end: u32,
    /// What the guest asked for.
    pub prot: Prot,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// `MAP_GROWSDOWN`.
    pub grows_down: bool,
    /// Whether `PROT_EXEC` may be given (files on `noexec` file systems: no).
    pub may_exec: bool,
    /// What was said of it since.
    pub marks: Marks,
    /// What it shows.
    pub object: Object,
}

impl Area {
    /// Tells whether the kernel put it there for its own purposes: such memory is not locked, nor emptied.
    pub(crate) fn is_kernels(&self) -> bool {
        self.object == Object::Anonymous(Some(VDSO))
    }

    /// The part from `by` bytes behind the area's start on.
    fn advanced(&self, by: u32) -> Area {
        let mut area = self.clone();
        if let Object::File { offset, .. } = &mut area.object {
            *offset += u64::from(by);
        }
        area
    }

    /// Tells whether `next`, which begins where `self` (from `start`) ends, continues it.
    fn continues_into(&self, start: u32, next: &Area) -> bool {
        let same = self.prot == next.prot
            && self.shared == next.shared
            && self.grows_down == next.grows_down
            && self.may_exec == next.may_exec
            && self.marks == next.marks;
        same && match (&self.object, &next.object) {
            (Object::Anonymous(a), Object::Anonymous(b)) => a == b,
            (Object::File { file: a, offset: from }, Object::File { file: b, offset: to }) => {
                a == b && from.wrapping_add(u64::from(self.end - start)) == *to
            }
            _ => false,
        }
    }

    /// The lowest address that may lie behind another mapping's end: the area's start less its guard gap.
    fn start_with_gap(&self, start: u32) -> u32 {
        if self.grows_down { start.saturating_sub(STACK_GUARD_GAP) } else { start }
    }
}

/// All areas, by start.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    areas: BTreeMap<u32, Area>,
    mapped_bytes: u64,
}

impl Tree {
    /// Sum of the lengths of all areas.
    pub(crate) fn mapped_bytes(&self) -> u64 {
        self.mapped_bytes
    }

    /// Number of areas.
    pub(crate) fn len(&self) -> usize {
        self.areas.len()
    }

    /// All areas with their starts, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Area)> {
        self.areas.iter().map(|(&start, area)| (start, area))
    }

    /// The area that holds `addr`.
    pub(crate) fn at(&self, addr: u32) -> Option<(u32, &Area)> {
        let (&start, area) = self.areas.range(..=addr).next_back()?;
        (addr < area.end).then_some((start, area))
    }

    /// The first area that ends above `addr`: the one that holds it or the next one.
    pub(crate) fn at_or_above(&self, addr: u32) -> Option<(u32, &Area)> {
        self.at(addr).or_else(|| self.areas.range(addr..).next().map(|(&start, area)| (start, area)))
    }

    /// The last area that ends at or below `addr`.
    pub(crate) fn below(&self, addr: u32) -> Option<(u32, &Area)> {
        let (&start, area) = self.areas.range(..addr).next_back()?;
        (area.end <= addr).then_some((start, area))
    }

    /// The areas that meet `start..end`, whole, ascending.
    pub(crate) fn meeting(&self, start: u32, end: u32) -> impl Iterator<Item = (u32, &Area)> {
        let first = self.at(start).map_or(start, |(first, _)| first);
        self.areas.range(first..end.max(first)).map(|(&start, area)| (start, area))
    }

    /// Bytes mapped within `start..end`.
    pub(crate) fn bytes_within(&self, start: u32, end: u32) -> u64 {
        self.meeting(start, end).map(|(from, area)| u64::from(area.end.min(end) - from.max(start))).sum()
    }

    /// Where the part of `start..end` that is mapped without a hole from `start` on ends.
    pub(crate) fn mapped_prefix(&self, start: u32, end: u32) -> u32 {
        let mut reached = start;
        for (from, area) in self.meeting(start, end) {
            if from > reached {
                break;
            }
            reached = area.end.min(end);
        }
        reached
    }

    /// Tells whether cutting at `addr` would split an area.
    pub(crate) fn splits(&self, addr: u32) -> bool {
        self.at(addr).is_some_and(|(start, _)| start < addr)
    }

    /// Puts an area where nothing is mapped, joined with its neighbours if it continues them.
    pub(crate) fn insert(&mut self, start: u32, area: Area) {
        debug_assert!(start < area.end && area.end <= END);
        debug_assert!(self.meeting(start, area.end).next().is_none());
        self.mapped_bytes += u64::from(area.end - start);
        let mut start = start;
        let mut area = area;
        if let Some((below, lower)) = self.below(start)
            && lower.end == start
            && lower.continues_into(below, &area)
        {
            let mut joined = lower.clone();
            joined.end = area.end;
            (start, area) = (below, joined);
        }
        if let Some(upper) = self.areas.get(&area.end)
            && area.continues_into(start, upper)
        {
            let behind = area.end;
            area.end = upper.end;
            self.areas.remove(&behind);
        }
        self.areas.insert(start, area);
    }

    /// Takes everything out of `start..end`; gives the pieces, ascending.
    pub(crate) fn remove(&mut self, start: u32, end: u32) -> Vec<(u32, Area)> {
        self.split(start);
        self.split(end);
        let starts: Vec<u32> = self.areas.range(start..end.max(start)).map(|(&from, _)| from).collect();
        let removed: Vec<(u32, Area)> =
            starts.iter().filter_map(|from| self.areas.remove(from).map(|area| (*from, area))).collect();
        self.mapped_bytes -= removed.iter().map(|(from, area)| u64::from(area.end - from)).sum::<u64>();
        removed
    }

    /// Gives everything in `start..end` the protection `prot`.
    pub(crate) fn protect(&mut self, start: u32, end: u32, prot: Prot) {
        self.change(start, end, |area| area.prot = prot);
    }

    /// Changes everything in `start..end`, but not where it ends. An empty range splits nothing.
    pub(crate) fn change(&mut self, start: u32, end: u32, change: impl Fn(&mut Area)) {
        if start >= end {
            return;
        }
        for (from, mut area) in self.remove(start, end) {
            change(&mut area);
            self.insert(from, area);
        }
    }

    /// Lets the area that begins at `start` begin at `lower` instead, where nothing is mapped.
    pub(crate) fn grow_down(&mut self, start: u32, lower: u32) {
        if let Some(area) = self.areas.remove(&start) {
            self.mapped_bytes -= u64::from(area.end - start);
            self.insert(lower, area);
        }
    }

    /// Tells whether a new mapping may be put to `start..start + len` without `MAP_FIXED`: nothing there, and
    /// not in the guard gap of a stack above.
    pub(crate) fn is_free(&self, start: u32, len: u32) -> bool {
        let Some(end) = start.checked_add(len).filter(|&end| end <= END) else { return false };
        self.at_or_above(start).is_none_or(|(from, area)| from > start && end <= area.start_with_gap(from))
    }

    /// The highest place for `len` bytes within `low..high`. A stack's guard gap counts only down to the next
    /// mapping.
    pub(crate) fn highest_gap(&self, len: u32, low: u32, high: u32) -> Option<u32> {
        let mut top = match self.at_or_above(high) {
            Some((from, area)) => high.min(area.start_with_gap(from)),
            None => high,
        };
        for (from, area) in self.areas.range(..high).rev() {
            let bottom = area.end.max(low);
            if top.checked_sub(bottom).is_some_and(|room| room >= len) {
                return Some(top - len);
            }
            if *from <= low {
                return None;
            }
            top = area.start_with_gap(*from);
        }
        top.checked_sub(low).filter(|&room| room >= len).map(|_| top - len)
    }

    fn split(&mut self, addr: u32) {
        let Some((start, area)) = self.at(addr).filter(|&(start, _)| start < addr) else { return };
        let upper = area.advanced(addr - start);
        if let Some(lower) = self.areas.get_mut(&start) {
            lower.end = addr;
        }
        self.areas.insert(addr, upper);
    }
}

#[cfg(test)]
mod tests;
