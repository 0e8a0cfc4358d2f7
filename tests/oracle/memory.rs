//! Guest memory at fixed addresses below 4 GiB, so that it can have the same addresses elsewhere.

use super::enter::{self, CONTEXT, TRAMPOLINE};
use super::{PAGE, Unavailable};
use std::ffi::c_int;
use std::io;

/// What a page of guest memory permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every access faults.
    None,
    /// Reading; without execution.
    Read,
    /// Reading and writing; without execution.
    ReadWrite,
    /// Reading and executing.
    ReadExecute,
    /// Everything.
    ReadWriteExecute,
}

impl Access {
    fn prot(self) -> c_int {
        match self {
            Access::None => libc::PROT_NONE,
            Access::Read => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Access::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
            Access::ReadWriteExecute => libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
        }
    }
}

/// Pages mapped by one call.
struct Region {
    start: u32,
    /// In bytes.
    len: u32,
    /// What each page permits.
    pages: Vec<Access>,
}

impl Region {
    /// How many bytes there are from `address` on, if it lies in the region.
    fn rest(&self, address: u32) -> Option<usize> {
        let offset = address.wrapping_sub(self.start);
        (offset < self.len).then(|| (self.len - offset) as usize)
    }

    fn page(&self, address: u32) -> usize {
        ((address - self.start) / PAGE) as usize
    }
}

/// The mapped pages and what they permit, unmapped on drop.
#[derive(Default)]
pub struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// Maps the trampoline and its context.
    pub fn with_trampoline() -> Result<Memory, Unavailable> {
        let mut memory = Memory::default();
        memory.map(TRAMPOLINE, PAGE, Access::ReadWrite)?;
        memory.map(CONTEXT, PAGE, Access::ReadWrite)?;
        let code = enter::trampoline_code();
        memory.bytes_mut(TRAMPOLINE, code.len())[..].copy_from_slice(code);
        let refused = |error| Unavailable::Os("mprotect of the trampoline", error);
        memory.protect(TRAMPOLINE, PAGE, Access::ReadExecute).map_err(refused)?;
        Ok(memory)
    }

    /// Maps zeroed pages; fails where something is mapped already.
    pub fn map(&mut self, start: u32, len: u32, access: Access) -> Result<(), Unavailable> {
        check_pages(start, len);
        let wanted = std::ptr::without_provenance_mut(start as usize);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE replaces nothing that exists.
        let got = unsafe { libc::mmap(wanted, len as usize, access.prot(), flags, -1, 0) };
        if got == libc::MAP_FAILED {
            return Err(Unavailable::Mapping(start, io::Error::last_os_error()));
        }
        if got.addr() != start as usize {
            // Kernels before 4.17 take the flag for a hint.
            // SAFETY: the mapping was made by the call above.
            unsafe { libc::munmap(got, len as usize) };
            return Err(Unavailable::Mapping(start, io::Error::from_raw_os_error(libc::EEXIST)));
        }
        got.expose_provenance();
        self.regions.push(Region { start, len, pages: vec![access; (len / PAGE) as usize] });
        Ok(())
    }

    /// Changes what mapped pages permit.
    ///
    /// # Panics
    /// Where the pages are not mapped by one call of [`Memory::map`].
    pub fn protect(&mut self, start: u32, len: u32, access: Access) -> io::Result<()> {
        check_pages(start, len);
        let region = self.regions.iter_mut().find(|region| region.rest(start) >= Some(len as usize));
        let region = region.unwrap_or_else(|| panic!("{start:#x}+{len:#x} is not mapped"));
        let first = region.page(start);
        region.pages[first..first + (len / PAGE) as usize].fill(access);
        let address = std::ptr::with_exposed_provenance_mut(start as usize);
        // SAFETY: all the pages are this object's, and no slice of them lives: `self` is borrowed.
        match unsafe { libc::mprotect(address, len as usize, access.prot()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The mapped bytes at `start`.
    ///
    /// # Panics
    /// Where one of them cannot be read.
    pub fn bytes(&self, start: u32, len: usize) -> &[u8] {
        self.check(start, len, |access| access != Access::None);
        // SAFETY: the pages are mapped and readable, and only `&mut self` changes or writes them.
        unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(start as usize), len) }
    }

    /// The mapped bytes at `start`, to be changed.
    ///
    /// # Panics
    /// Where one of them cannot be written.
    pub fn bytes_mut(&mut self, start: u32, len: usize) -> &mut [u8] {
        self.check(start, len, |access| matches!(access, Access::ReadWrite | Access::ReadWriteExecute));
        // SAFETY: the pages are mapped and writable, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(start as usize), len) }
    }

    /// Whether `len` bytes at `start` are mapped by one call of [`Memory::map`].
    pub fn is_mapped(&self, start: u32, len: usize) -> bool {
        self.regions.iter().any(|region| region.rest(start) >= Some(len))
    }

    fn check(&self, start: u32, len: usize, allowed: impl Fn(Access) -> bool) {
        let region = self.regions.iter().find(|region| region.rest(start) >= Some(len));
        let region = region.unwrap_or_else(|| panic!("{start:#x}+{len:#x} is not mapped"));
        let last = start + (len.max(1) - 1) as u32;
        for access in &region.pages[region.page(start)..=region.page(last)] {
            assert!(allowed(*access), "{start:#x}+{len:#x} permits {access:?}");
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for region in &self.regions {
            let start = std::ptr::with_exposed_provenance_mut(region.start as usize);
            // SAFETY: the region is this object's, and nothing borrows it any more.
            unsafe { libc::munmap(start, region.len as usize) };
        }
    }
}

fn check_pages(start: u32, len: u32) {
    assert!(start.is_multiple_of(PAGE) && len.is_multiple_of(PAGE), "{start:#x}+{len:#x} is not whole pages");
    assert!(u64::from(start) + u64::from(len) <= 1 << 32, "{start:#x}+{len:#x} leaves the address space");
}
