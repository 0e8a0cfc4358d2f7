//! A second memory that holds what the reference's does: made once, brought up to date after system calls and signals,
//! compared in between.

use super::state::Image;
use crate::memory::{Backing, END, MapRequest, Memory, Place, Prot, page};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A mapping of the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub start: u32,
    pub end: u32,
    pub prot: Prot,
    /// It grows at a fault below it.
    pub grows: bool,
    /// Neither file nor shared object: what was never written is zero.
    pub anonymous: bool,
    /// Device, inode and offset, to tell two files at one place.
    pub file: String,
    /// The file, or a name such as `[heap]`.
    pub name: PathBuf,
}

/// The side that is believed: what can be seen of it between two instructions.
pub(super) trait Reference {
    /// Reads memory up to the first page that is not there; gives how many bytes that are.
    fn read(&self, addr: u32, out: &mut [u8]) -> usize;
    /// What is mapped, ascending.
    fn mappings(&self) -> io::Result<Vec<Mapping>>;
    /// FPU and vector registers.
    fn image(&self) -> io::Result<Image>;
    /// The pages' entries in the host's pagemap.
    fn pages(&self, start: u32, count: u32) -> io::Result<Vec<u64>>;
}

/// Reads pagemap (proc_pid_pagemap(5)) from the page at host address `addr` on.
pub(super) fn pagemap(file: &File, addr: u64, count: u32) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count as usize * 8];
    file.read_exact_at(&mut bytes, addr / u64::from(page::SIZE) * 8)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default())).collect())
}

/// Bits of a pagemap entry: in memory, swapped out.
const PRESENT: u64 = 3 << 62;
/// Mappings up to this size are read whole, without asking which of their pages are there.
const SMALL: u32 = 1 << 20;
/// Bytes that are read at once.
const CHUNK: u32 = 1 << 16;

/// What is to be gone over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// What the program may write.
    Writable,
    /// All of it: mappings may have been replaced by others of the same look.
    Everything,
}

/// Memory that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Where it starts to differ.
    pub addr: u32,
    /// What the reference has there.
    pub reference: Vec<u8>,
    /// What Table86 has there.
    pub ours: Vec<u8>,
}

/// Bytes of a difference that are shown.
const SHOWN: usize = 16;

impl Bytes {
    fn first(addr: u32, reference: &[u8], ours: &[u8]) -> Option<Bytes> {
        let at = reference.iter().zip(ours).position(|(reference, ours)| reference != ours)?;
        let end = (at + SHOWN).min(ours.len());
        Some(Bytes {
            addr: addr + at as u32,
            reference: reference[at..end].to_vec(),
            ours: ours[at..end].to_vec(),
        })
    }
}

/// The mappings that the mirror has.
#[derive(Default)]
pub(super) struct Mirror {
    pub(super) mappings: Vec<Mapping>,
}

impl Mirror {
    /// Maps what the reference has mapped meanwhile, with its contents, and unmaps what it has no longer.
    ///
    /// # Errors
    /// The host's; where the guest's memory cannot hold what the reference has.
    pub(super) fn follow(&mut self, memory: &Memory, reference: &dyn Reference) -> io::Result<()> {
        let mappings = reference.mappings()?;
        let old = std::mem::take(&mut self.mappings);
        let refused = |error| io::Error::other(format!("the mirror of the program's memory: {error}"));
        for gone in old.iter().filter(|mapping| !mappings.contains(mapping)) {
            memory.unmap(gone.start, gone.end - gone.start).map_err(refused)?;
        }
        for new in mappings.iter().filter(|mapping| !old.contains(mapping)) {
            let request = MapRequest {
                place: Place::Fixed(new.start),
                len: new.end - new.start,
                prot: new.prot,
                backing: Backing::Anonymous,
                grows_down: new.grows,
                noreserve: true,
                ..MapRequest::default()
            };
            memory.map(&request).map_err(refused)?;
            copy(memory, reference, new)?;
        }
        self.mappings = mappings;
        Ok(())
    }

    /// The first difference in memory.
    ///
    /// # Errors
    /// The host's.
    pub(super) fn compare(&self, memory: &Memory, reference: &dyn Reference) -> io::Result<Option<Bytes>> {
        for mapping in self.mappings.iter().filter(|mapping| mapping.prot.contains(Prot::WRITE)) {
            let mut found = None;
            differing(memory, reference, mapping, |addr, theirs, ours| {
                found = found.take().or_else(|| Bytes::first(addr, theirs, ours));
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Makes the contents those of the reference.
    ///
    /// # Errors
    /// As [`Mirror::follow`].
    pub(super) fn copy(&self, memory: &Memory, reference: &dyn Reference, scope: Scope) -> io::Result<()> {
        let wanted = |mapping: &&Mapping| scope == Scope::Everything || mapping.prot.contains(Prot::WRITE);
        self.mappings.iter().filter(wanted).try_for_each(|mapping| copy(memory, reference, mapping))
    }
}

/// Makes the contents of a mapping those of the reference.
fn copy(memory: &Memory, reference: &dyn Reference, mapping: &Mapping) -> io::Result<()> {
    let mut patches = Vec::new();
    differing(memory, reference, mapping, |addr, theirs, _| patches.push((addr, theirs.to_vec())))?;
    for (addr, bytes) in patches {
        put(memory, mapping.prot, addr, &bytes)?;
    }
    Ok(())
}

/// Writes into memory that allows `prot`, whatever that is.
fn put(memory: &Memory, prot: Prot, addr: u32, bytes: &[u8]) -> io::Result<()> {
    let refused = |error: &dyn std::fmt::Display| io::Error::other(format!("writing the mirror: {error}"));
    if prot.contains(Prot::WRITE) {
        return memory.write_bytes(addr, bytes).map_err(|error| refused(&error));
    }
    let start = addr / page::SIZE * page::SIZE;
    let len = addr + bytes.len() as u32 - start;
    memory.protect(start, len, Prot::READ | Prot::WRITE).map_err(|error| refused(&error))?;
    memory.write_bytes(addr, bytes).map_err(|error| refused(&error))?;
    memory.protect(start, len, prot).map_err(|error| refused(&error))
}

/// The first difference in some ranges. What cannot be read on either side is left out.
pub(super) fn compare_ranges(
    memory: &Memory,
    reference: &dyn Reference,
    ranges: &[Range<u32>],
) -> Option<Bytes> {
    ranges.iter().find_map(|range| {
        let (theirs, ours) = both(memory, reference, range)?;
        Bytes::first(range.start, &theirs, &ours)
    })
}

/// Copies ranges that can be written.
pub(super) fn copy_range(memory: &Memory, reference: &dyn Reference, range: &Range<u32>) {
    if let Some((theirs, _)) = both(memory, reference, range) {
        // Were it not writable, the instruction would not have written it.
        let _ = memory.write_bytes(range.start, &theirs);
    }
}

fn both(memory: &Memory, reference: &dyn Reference, range: &Range<u32>) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut theirs = vec![0; range.len()];
    let count = reference.read(range.start, &mut theirs);
    theirs.truncate(count);
    let mut ours = vec![0; count];
    memory.read_bytes(range.start, &mut ours).ok()?;
    Some((theirs, ours))
}

/// Goes over the pages of a mapping that differ.
fn differing(
    memory: &Memory,
    reference: &dyn Reference,
    mapping: &Mapping,
    mut found: impl FnMut(u32, &[u8], &[u8]),
) -> io::Result<()> {
    if mapping.prot == Prot::NONE {
        return Ok(());
    }
    let mut theirs = vec![0; CHUNK as usize];
    let mut ours = vec![0; CHUNK as usize];
    for run in runs(reference, mapping)? {
        let mut at = run.start;
        while at < run.end {
            let len = (run.end - at).min(CHUNK) as usize;
            let count = reference.read(at, &mut theirs[..len]);
            // A page that is not there, such as one beyond the end of a file, ends what can be read.
            if count == 0 {
                at += page::SIZE;
                continue;
            }
            if memory.read_bytes(at, &mut ours[..count]).is_ok() && theirs[..count] != ours[..count] {
                let pages = theirs[..count].chunks(page::SIZE as usize);
                for (number, theirs) in (0u32..).zip(pages) {
                    let from = (number * page::SIZE) as usize;
                    let ours = &ours[from..from + theirs.len()];
                    if theirs != ours {
                        found(at + number * page::SIZE, theirs, ours);
                    }
                }
            }
            at += count as u32;
        }
    }
    Ok(())
}

/// The parts of a mapping that may hold something else than when it was made.
fn runs(reference: &dyn Reference, mapping: &Mapping) -> io::Result<Vec<Range<u32>>> {
    let len = mapping.end - mapping.start;
    if len <= SMALL || !mapping.anonymous {
        return Ok(vec![mapping.start..mapping.end]);
    }
    let mut runs: Vec<Range<u32>> = Vec::new();
    let entries = reference.pages(mapping.start, len / page::SIZE)?;
    let pages = (0u32..).zip(entries).filter(|(_, entry)| entry & PRESENT != 0);
    for start in pages.map(|(number, _)| mapping.start + number * page::SIZE) {
        match runs.last_mut() {
            Some(run) if run.end == start => run.end += page::SIZE,
            _ => runs.push(start..start + page::SIZE),
        }
    }
    Ok(runs)
}

/// The mappings in `/proc/PID/maps` (proc_pid_maps(5)) below the end of a 32-bit program's addresses.
pub(super) fn parse(maps: &str) -> Vec<Mapping> {
    maps.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let start = u32::from_str_radix(start, 16).ok()?;
    let end = u32::from_str_radix(end, 16).ok().filter(|&end| end <= END)?;
    let permissions = fields.next()?;
    let bits = (0..).zip(permissions.bytes().take(3)).filter(|(_, letter)| *letter != b'-');
    let prot = Prot::from_bits(bits.map(|(bit, _)| 1 << bit).sum());
    let (offset, device, inode) = (fields.next()?, fields.next()?, fields.next()?);
    let name = PathBuf::from(fields.next().unwrap_or_default().trim_start());
    // The kernel's own data, which nobody else can read.
    if name.to_str().is_some_and(|name| name.starts_with("[vvar")) {
        return None;
    }
    Some(Mapping {
        start,
        end,
        prot,
        grows: name.as_os_str() == "[stack]",
        anonymous: inode == "0" && permissions.ends_with('p'),
        file: format!("{device} {inode} {offset}"),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        let maps = "08048000-0804a000 r-xp 00001000 fe:00 42                 /bin/a b\n\
                    0804a000-0804b000 rw-p 00000000 00:00 0                  [heap]\n\
                    f7ff8000-f7ffc000 r--p 00000000 00:00 0                  [vvar]\n\
                    fffdd000-ffffe000 rw-p 00000000 00:00 0                  [stack]\n\
                    ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
        let mappings = parse(maps);
        let names: Vec<_> = mappings.iter().map(|mapping| mapping.name.to_str().unwrap()).collect();
        assert_eq!(names, ["/bin/a b", "[heap]", "[stack]"]);
        assert_eq!(mappings[0].prot, Prot::READ | Prot::EXEC);
        assert!(!mappings[0].anonymous && mappings[1].anonymous && mappings[2].grows);
        assert_eq!((mappings[0].start, mappings[0].end), (0x0804_8000, 0x0804_a000));
    }
}
