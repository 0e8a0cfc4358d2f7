//! Changes of the map: `mmap`, `munmap`, `mprotect`, and stacks that grow. [`super::remap`] has `mremap`.
//!
//! Each asks the host first and writes down the outcome then, all under the lock.

use super::map::{Area, FileId, LOWEST, Lock, Marks, Object, STACK_GUARD_GAP};
use super::reservation::{HostMapping, Reservation};
use super::{Backing, END, MapError, MapRequest, Memory, Place, Prot, State, page};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A length rounded up to whole pages.
pub(super) fn whole_pages(len: u32) -> Result<u32, MapError> {
    match len.checked_next_multiple_of(page::SIZE) {
        Some(0) => Err(MapError::Invalid),
        Some(len) if len <= END => Ok(len),
        _ => Err(MapError::NoMemory),
    }
}

pub(super) fn is_aligned(addr: u32) -> bool {
    addr.is_multiple_of(page::SIZE)
}

/// The end of `len` bytes from `start` on, if it is in the guest's space.
pub(super) fn end_of(start: u32, len: u32) -> Option<u32> {
    start.checked_add(len).filter(|&end| end <= END)
}

impl Memory {
    /// Maps memory; gives its address (`mmap(2)`). Addresses below `mmap_min_addr` are not refused here.
    ///
    /// # Errors
    /// As `mmap(2)`; the host's error numbers where the host refuses to map the file. If replacing a mapping fails
    /// on the host, the old one may be gone, as on Linux.
    pub fn map(&self, request: &MapRequest) -> Result<u32, MapError> {
        let len = whole_pages(request.len)?;
        let bytes: &[u8] = match &request.backing {
            Backing::Bytes(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > len as usize {
            return Err(MapError::Invalid);
        }
        let file = match &request.backing {
            Backing::File { fd, offset, path } => Some(file_of(*fd, *offset, len, path)?),
            _ => None,
        };
        let may_exec = file.as_ref().is_none_or(|file| file.may_exec);
        if request.prot.contains(Prot::EXEC) && !may_exec {
            return Err(MapError::Host(libc::EPERM));
        }

        let mut state = self.lock();
        let start = state.place(request.place, len)?;
        let end = start + len;
        let replaced = state.tree.bytes_within(start, end);
        let lock = match state.future_lock {
            Lock::None if request.locked => Lock::All,
            lock => lock,
        };
        if request.locked && Reservation::try_lock(0) == Err(libc::EPERM) {
            return Err(MapError::Host(libc::EPERM));
        }
        self.check_lock(lock, len)?;
        state.check_limit(replaced, len)?;
        state.check_host_mappings()?;
        let mapping = HostMapping {
            grows_down: request.grows_down && (request.shared || file.is_some()),
            prot: if bytes.is_empty() { request.prot } else { Prot::READ | Prot::WRITE },
            shared: request.shared,
            noreserve: request.noreserve,
            file: file.as_ref().map(|file| (file.fd, file.offset)),
        };
        if mapping.grows_down || replaced > 0 && file.is_some() {
            Reservation::try_map(len, mapping).map_err(MapError::from_host)?;
        }
        let mapped = self.space.map(start, end, mapping).and_then(|()| {
            if bytes.is_empty() {
                return Ok(());
            }
            if self.space.copy_in(start, bytes) != 0 {
                return Err(libc::ENOMEM);
            }
            self.space.protect(start, end, request.prot)
        });
        self.forget(&mut state, start, end);
        if let Err(errno) = mapped {
            let _ = self.space.release(start, end);
            return Err(MapError::from_host(errno));
        }

        let object = match file {
            Some(file) => Object::File { file: file.id, offset: file.offset },
            None if request.shared => state.shared_object(),
            None => Object::Anonymous(request.name),
        };
        let area = Area {
            end,
            prot: request.prot,
            shared: request.shared,
            grows_down: request.grows_down,
            may_exec,
            marks: Marks { lock, ..Marks::default() },
            object,
        };
        self.follow_marks(start, end, &area.marks);
        self.record(&mut state, start, area);
        Ok(start)
    }

    /// Unmaps whatever is in the range (`munmap(2)`).
    ///
    /// # Errors
    /// [`MapError::Invalid`] for addresses that are not a page's, empty ranges and such beyond [`END`];
    /// [`MapError::NoMemory`] if cutting a mapping in two exceeds what the host can hold.
    pub fn unmap(&self, addr: u32, len: u32) -> Result<(), MapError> {
        let end = whole_pages(len).ok().and_then(|len| end_of(addr, len)).ok_or(MapError::Invalid)?;
        if !is_aligned(addr) {
            return Err(MapError::Invalid);
        }
        let mut state = self.lock();
        self.unmap_locked(&mut state, addr, end)
    }

    pub(super) fn unmap_locked(&self, state: &mut State, start: u32, end: u32) -> Result<(), MapError> {
        if state.tree.bytes_within(start, end) == 0 {
            return Ok(());
        }
        if state.tree.splits(start) || state.tree.splits(end) {
            state.check_host_mappings()?;
        }
        self.space.release(start, end).map_err(MapError::from_host)?;
        self.forget(state, start, end);
        Ok(())
    }

    /// Changes protections (`mprotect(2)`).
    ///
    /// # Errors
    /// [`MapError::Invalid`] for an address that is not a page's; [`MapError::NoMemory`] where a part is not mapped:
    /// the part before it has been changed; [`MapError::Access`] if the file does not allow it.
    pub fn protect(&self, addr: u32, len: u32, prot: Prot) -> Result<(), MapError> {
        if !is_aligned(addr) {
            return Err(MapError::Invalid);
        }
        if len == 0 {
            return Ok(());
        }
        let end = whole_pages(len).ok().and_then(|len| addr.checked_add(len)).ok_or(MapError::NoMemory)?;
        let mut state = self.lock();
        state.check_host_mappings()?;
        let mapped_end = state.tree.mapped_prefix(addr, end);
        let areas: Vec<(u32, Area)> =
            state.tree.meeting(addr, mapped_end).map(|(start, area)| (start, area.clone())).collect();
        for (start, area) in areas {
            if prot.contains(Prot::EXEC) && !area.may_exec {
                return Err(MapError::Access);
            }
            let (from, to) = (start.max(addr), area.end.min(mapped_end));
            let (reached, result) = self.protect_pages(&mut state, from, to, prot);
            state.tree.protect(from, reached, prot);
            self.note_alias(&mut state, &Area { prot, ..area });
            result?;
        }
        if mapped_end < end { Err(MapError::NoMemory) } else { Ok(()) }
    }

    /// Extends the mapping above `addr` down to it if it may grow so far (`MAP_GROWSDOWN`): within the limit on
    /// stacks, and leaving a gap of 256 pages to what lies below. `true` if it was extended. To be called for a
    /// page fault at an unmapped address.
    pub fn grow_stack(&self, addr: u32) -> bool {
        let mut state = self.lock();
        let lower = addr / page::SIZE * page::SIZE;
        let Some((start, area)) = state.tree.at_or_above(lower) else { return false };
        if start <= lower || !area.grows_down || lower < LOWEST || area.end - lower > state.stack_limit {
            return false;
        }
        let Area { prot, shared, marks, .. } = area.clone();
        if let Some((_, below)) = state.tree.below(lower) {
            let blocks = !below.grows_down && below.prot != Prot::NONE;
            if blocks && lower - below.end < STACK_GUARD_GAP {
                return false;
            }
        }
        let mapping = HostMapping { prot, shared, ..HostMapping::default() };
        let fits =
            state.check_limit(0, start - lower).and_then(|()| self.check_lock(marks.lock, start - lower));
        if fits.is_err() || self.space.map(lower, start, mapping).is_err() {
            return false;
        }
        self.follow_marks(lower, start, &marks);
        state.tree.grow_down(start, lower);
        self.set_pages(lower, start, prot.page_byte(shared));
        true
    }

    /// Writes down a mapping that the host has made where nothing was recorded.
    pub(super) fn record(&self, state: &mut State, start: u32, area: Area) {
        self.set_pages(start, area.end, area.prot.page_byte(area.shared));
        let noted = area.clone();
        state.tree.insert(start, area);
        self.note_alias(state, &noted);
    }

    /// Writes down that nothing is mapped in a range any more.
    pub(super) fn forget(&self, state: &mut State, start: u32, end: u32) {
        for (from, area) in state.tree.remove(start, end) {
            for number in from / page::SIZE..area.end / page::SIZE {
                let byte = self.space.page(number).swap(0, Ordering::AcqRel);
                self.forget_code(state, number, byte);
            }
        }
    }

    fn note_alias(&self, state: &mut State, area: &Area) {
        if let Object::File { file, .. } = &area.object
            && area.shared
            && area.prot.contains(Prot::WRITE)
        {
            self.give_up_aliases(state, file.dev, file.ino);
        }
    }

    fn set_pages(&self, start: u32, end: u32, byte: u8) {
        for number in start / page::SIZE..end / page::SIZE {
            self.space.page(number).store(byte, Ordering::Release);
        }
    }
}

/// A file to be mapped.
struct MappedFile {
    fd: RawFd,
    offset: u64,
    id: Arc<FileId>,
    may_exec: bool,
}

fn file_of(fd: RawFd, offset: u64, len: u32, path: &Option<PathBuf>) -> Result<MappedFile, MapError> {
    if !offset.is_multiple_of(u64::from(page::SIZE)) {
        return Err(MapError::Invalid);
    }
    if offset.checked_add(u64::from(len)).is_none_or(|end| i64::try_from(end).is_err()) {
        return Err(MapError::Overflow);
    }
    let facts = super::reservation::file_facts(fd).map_err(MapError::Host)?;
    let id = Arc::new(FileId { dev: facts.dev, ino: facts.ino, path: path.clone() });
    Ok(MappedFile { fd, offset, id, may_exec: facts.may_exec })
}

impl State {
    /// Finds an address for `len` bytes.
    pub(super) fn place(&self, place: Place, len: u32) -> Result<u32, MapError> {
        let fixed = |addr| {
            if !is_aligned(addr) {
                return Err(MapError::Invalid);
            }
            end_of(addr, len).map(|_| addr).ok_or(MapError::NoMemory)
        };
        match place {
            Place::Fixed(addr) => fixed(addr),
            Place::FixedNoReplace(addr) => {
                let start = fixed(addr)?;
                if self.tree.bytes_within(start, start + len) > 0 { Err(MapError::Exists) } else { Ok(start) }
            }
            Place::Hint(addr) => {
                let addr = addr / page::SIZE * page::SIZE;
                if addr != 0 && self.tree.is_free(addr.max(LOWEST), len) {
                    return Ok(addr.max(LOWEST));
                }
                self.place(Place::Anywhere, len)
            }
            Place::Anywhere => self
                .tree
                .highest_gap(len, LOWEST, self.mmap_base)
                .or_else(|| self.tree.highest_gap(len, LOWEST, END))
                .ok_or(MapError::NoMemory),
        }
    }

    /// Checks that `len` bytes may be mapped after `freed` bytes are unmapped.
    pub(super) fn check_limit(&self, freed: u64, len: u32) -> Result<(), MapError> {
        let after = self.tree.mapped_bytes() - freed.min(self.tree.mapped_bytes()) + u64::from(len);
        if after > self.limit_bytes { Err(MapError::NoMemory) } else { Ok(()) }
    }

    /// Checks that the host can hold a few mappings more.
    pub(super) fn check_host_mappings(&self) -> Result<(), MapError> {
        /// What one operation adds at most.
        const MARGIN: usize = 8;
        let most = 2 * (self.tree.len() + self.code.protected()) + MARGIN;
        if most <= self.host_mappings {
            return Ok(());
        }
        let mut end = 0;
        let mut gaps = 0;
        for (start, area) in self.tree.iter() {
            gaps += usize::from(start != end);
            end = area.end;
        }
        let now = self.tree.len() + gaps + 2 * self.code.protected() + MARGIN;
        if now <= self.host_mappings { Ok(()) } else { Err(MapError::NoMemory) }
    }

    /// A new object for shared memory without a file. Linux keeps such memory in a nameless file, too.
    fn shared_object(&mut self) -> Object {
        self.last_shared += 1;
        let path = Some(PathBuf::from("/dev/zero (deleted)"));
        let dev = libc::makedev(0, 1);
        Object::File { file: Arc::new(FileId { dev, ino: self.last_shared, path }), offset: 0 }
    }
}
