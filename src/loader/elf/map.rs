//! Maps the segments of an ELF program.

use super::{Elf, ElfError, Segment};
use crate::memory::{END, MapError, MapRequest, Memory, Place, Prot, page};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// Where position-independent programs with a dynamic linker go: two thirds of the way up, as Linux puts them when it does
/// not randomise.
const PIE_BASE: u32 = 0x5655_5000;

/// Where a position-independent file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// At [`PIE_BASE`].
    Pie,
    /// Among the other mappings: dynamic linkers, also those that are run as programs, and static programs, which leave
    /// [`PIE_BASE`] and the heap behind it to others.
    Anywhere,
}

/// A program that is mapped.
pub(in crate::loader) struct Mapped {
    /// What was added to its addresses.
    pub bias: u32,
    pub entry: u32,
    /// Address of its program headers, 0 if no segment has them.
    pub headers: u32,
    /// Where its heap starts.
    pub brk_start: u32,
}

impl Elf {
    /// Maps all segments; `path` is shown for them. With `read_implies_exec`, what can be read can be executed.
    pub(in crate::loader) fn map(
        &self,
        memory: &Memory,
        file: &File,
        path: PathBuf,
        base: Base,
        read_implies_exec: bool,
    ) -> Result<Mapped, ElfError> {
        let bias = if self.relocatable { self.place(memory, base)? } else { 0 };
        let occupied = memory.regions();
        for segment in &self.segments {
            let (start, end) =
                (bias.wrapping_add(segment.page_start()), bias.wrapping_add(segment.page_end()));
            if occupied.iter().any(|region| region.start < end && start < region.end) {
                return Err(ElfError::Occupied { start, end });
            }
        }
        for segment in &self.segments {
            let mut segment = Segment { addr: segment.addr.wrapping_add(bias), ..*segment };
            if read_implies_exec && segment.prot.contains(Prot::READ) {
                segment.prot = segment.prot | Prot::EXEC;
            }
            map_segment(memory, file, &path, &segment)?;
        }
        let end = self.segments.iter().map(Segment::page_end).max().unwrap_or_default();
        let moves_heap = self.relocatable && base == Base::Anywhere;
        Ok(Mapped {
            bias,
            entry: self.entry.wrapping_add(bias),
            headers: self.headers_addr().map_or(0, |addr| addr.wrapping_add(bias)),
            brk_start: if moves_heap { PIE_BASE } else { bias.wrapping_add(end) },
        })
    }

    /// Address of the program headers before relocation: in the segment that shows their place in the file.
    fn headers_addr(&self) -> Option<u32> {
        let offset = self.headers_offset;
        let shows =
            |segment: &&Segment| offset >= segment.offset && offset - segment.offset < segment.file_len;
        self.segments.iter().find(shows).map(|segment| offset - segment.offset + segment.addr)
    }

    /// Finds room for a file whose addresses are relative; gives what to add to them.
    fn place(&self, memory: &Memory, base: Base) -> Result<u32, ElfError> {
        let start = self.segments.iter().map(Segment::page_start).min().unwrap_or_default();
        let end = self.segments.iter().map(Segment::page_end).max().unwrap_or_default();
        let len = end - start;
        let align =
            self.segments.iter().map(|segment| segment.align).filter(|align| align.is_power_of_two()).max();
        let align = align.unwrap_or_default().max(page::SIZE);
        let no_room = |error| ElfError::Map { addr: start, bytes: len, error };
        if base == Base::Pie {
            // An alignment beyond the base itself would bring it down to address 0.
            let at = if align <= PIE_BASE { PIE_BASE & !(align - 1) } else { align };
            if u64::from(at) + u64::from(len) > u64::from(END) {
                return Err(no_room(MapError::NoMemory));
            }
            return Ok(at.wrapping_sub(start));
        }
        let room = len.checked_add(align - page::SIZE).ok_or_else(|| no_room(MapError::NoMemory))?;
        let request =
            MapRequest { noreserve: true, ..MapRequest::anonymous(Place::Anywhere, room, Prot::NONE) };
        let found = memory.map(&request).map_err(no_room)?;
        memory.unmap(found, room).map_err(no_room)?;
        // Highest place in the gap that was found.
        let at = (found + (room - len)) & !(align - 1);
        Ok(at.wrapping_sub(start))
    }
}

/// Maps one segment, relocated; its pages may be shared with the end of the one before.
fn map_segment(
    memory: &Memory,
    file: &File,
    path: &std::path::Path,
    segment: &Segment,
) -> Result<(), ElfError> {
    let start = segment.page_start();
    let failed = |error| ElfError::Map { addr: segment.addr, bytes: segment.memory_len, error };
    let mut zeros_from = start;
    if segment.file_len > 0 {
        let skipped = segment.addr - start;
        let file_end = segment.addr + segment.file_len;
        let request = MapRequest::file(
            Place::Fixed(start),
            file_end - start,
            segment.prot,
            file.as_raw_fd(),
            u64::from(segment.offset - skipped),
            Some(path.to_owned()),
        );
        memory.map(&request).map_err(failed)?;
        zeros_from = file_end.next_multiple_of(page::SIZE);
        let has_zeros = segment.memory_len > segment.file_len;
        // Linux, too, leaves the file's bytes where it cannot write zeros.
        if has_zeros && segment.prot.contains(Prot::WRITE) && zeros_from > file_end {
            memory.fill(file_end, 0, zeros_from - file_end).map_err(|_| failed(MapError::NoMemory))?;
        }
    }
    let end = segment.page_end();
    if end > zeros_from {
        let request = MapRequest::anonymous(Place::Fixed(zeros_from), end - zeros_from, segment.prot);
        memory.map(&request).map_err(failed)?;
    }
    Ok(())
}
