//! The memory map's system calls (brk(2), mmap(2), mprotect(2), mremap(2), madvise(2), …).

use super::abi::MmapArguments;
use super::args::{Fd, GuestPtr};
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths;
use super::prctl::READ_IMPLIES_EXEC;
use super::process::Process;
use crate::memory::{Access, Backing, Lock, MapError, MapRequest, Place, Prot, page};

/// Flags of mmap, as i386 numbers them.
mod map {
    pub const SHARED: u32 = 1;
    pub const PRIVATE: u32 = 2;
    pub const SHARED_VALIDATE: u32 = 3;
    pub const TYPE: u32 = 15;
    pub const FIXED: u32 = 0x10;
    pub const ANONYMOUS: u32 = 0x20;
    pub const GROWSDOWN: u32 = 0x100;
    pub const LOCKED: u32 = 0x2000;
    pub const NORESERVE: u32 = 0x4000;
    pub const POPULATE: u32 = 0x8000;
    pub const NONBLOCK: u32 = 0x1_0000;
    pub const HUGETLB: u32 = 0x4_0000;
    pub const FIXED_NOREPLACE: u32 = 0x10_0000;
    /// What `MAP_SHARED_VALIDATE` lets through: flags that are older than itself.
    pub const KNOWN: u32 = 0x7_f9f3;
}

/// Protection bits that `mprotect` knows beside read, write and execute.
const PROT_SEM: u32 = 8;
const PROT_GROWSDOWN: u32 = 0x0100_0000;
const PROT_GROWSUP: u32 = 0x0200_0000;

/// Flags of mremap.
const MREMAP_MAYMOVE: u32 = 1;
const MREMAP_FIXED: u32 = 2;
const MREMAP_DONTUNMAP: u32 = 4;

/// Flags of mlockall.
mod mcl {
    pub const CURRENT: u32 = 1;
    pub const FUTURE: u32 = 2;
    pub const ONFAULT: u32 = 4;
}

/// Last advice that every kernel from 5.14 on knows (`MADV_POPULATE_WRITE`).
const MADV_LAST: i32 = 23;

/// The heap and what goes for the whole map.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpace {
    /// Where the heap starts, page-aligned.
    pub brk_start: u32,
    /// Where it ends.
    pub brk: u32,
}

impl AddressSpace {
    /// An empty heap at `brk_start`.
    pub fn new(brk_start: u32) -> AddressSpace {
        AddressSpace { brk_start, brk: brk_start }
    }
}

impl From<MapError> for Errno {
    fn from(error: MapError) -> Errno {
        Errno(error.errno())
    }
}

fn page_up(addr: u32) -> Option<u32> {
    addr.checked_next_multiple_of(page::SIZE)
}

/// What the guest gets for `prot`: with `READ_IMPLIES_EXEC`, readable memory can be executed.
fn protection(p: &Process, prot: u32) -> Prot {
    let asked = Prot::from_bits(prot);
    let implied = p.task.personality & READ_IMPLIES_EXEC != 0 && asked.contains(Prot::READ);
    if implied { asked | Prot::EXEC } else { asked }
}

/// brk(2) as the kernel has it: gives the break, whether it moved or not.
pub fn brk(p: &mut Process, addr: u32) -> Result<u32, Errno> {
    let mut space = p.common.space();
    let AddressSpace { brk_start, brk } = *space;
    let (Some(old_end), Some(new_end)) = (page_up(brk), page_up(addr)) else { return Ok(brk) };
    if addr < brk_start {
        return Ok(brk);
    }
    let memory = &p.machine.memory;
    let moved = if new_end < old_end {
        memory.unmap(new_end, old_end - new_end).is_ok()
    } else if new_end > old_end {
        let prot = protection(p, 3);
        let request = MapRequest {
            name: Some("[heap]"),
            ..MapRequest::anonymous(Place::FixedNoReplace(old_end), new_end - old_end, prot)
        };
        memory.map(&request).is_ok()
    } else {
        true
    };
    if moved {
        space.brk = addr;
    }
    Ok(space.brk)
}

/// A mapping as the guest asks for it; the offset in bytes.
struct Request {
    addr: u32,
    len: u32,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset: u64,
}

/// mmap(2) of old programs: six words in memory, the offset in bytes.
pub fn mmap(p: &mut Process, arguments: u32) -> Result<u32, Errno> {
    let a = GuestPtr::<MmapArguments>::new(arguments).read(&p.machine.memory)?;
    if !a.offset.is_multiple_of(page::SIZE) {
        return Err(Errno::EINVAL);
    }
    let (addr, len, prot, flags) = (a.addr, a.len, a.prot, a.flags);
    map(p, Request { addr, len, prot, flags, fd: Fd::new(a.fd), offset: a.offset.into() })
}

/// mmap2(2): the offset in pages.
pub fn mmap2(
    p: &mut Process,
    addr: u32,
    len: u32,
    prot: u32,
    flags: u32,
    fd: Fd,
    offset_pages: u32,
) -> Result<u32, Errno> {
    let offset = u64::from(offset_pages) * u64::from(page::SIZE);
    map(p, Request { addr, len, prot, flags, fd, offset })
}

fn map(p: &mut Process, request: Request) -> Result<u32, Errno> {
    let Request { addr, len, prot, flags, fd, offset } = request;
    let shared = match flags & map::TYPE {
        map::SHARED => true,
        map::SHARED_VALIDATE if flags & map::ANONYMOUS != 0 => return Err(Errno::EINVAL),
        map::SHARED_VALIDATE if flags & !map::KNOWN != 0 => return Err(Errno::EOPNOTSUPP),
        map::SHARED_VALIDATE => true,
        map::PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if flags & map::HUGETLB != 0 {
        // As with an empty pool of huge pages.
        return Err(Errno::ENOMEM);
    }
    let place = if flags & map::FIXED_NOREPLACE != 0 {
        Place::FixedNoReplace(addr)
    } else if flags & map::FIXED != 0 {
        Place::Fixed(addr)
    } else if addr < p.task.lowest_mapping {
        Place::Anywhere
    } else {
        Place::Hint(addr)
    };
    if let Place::Fixed(addr) | Place::FixedNoReplace(addr) = place
        && addr < p.task.lowest_mapping
    {
        return Err(if addr.is_multiple_of(page::SIZE) { Errno::EPERM } else { Errno::EINVAL });
    }
    let backing = if flags & map::ANONYMOUS != 0 {
        Backing::Anonymous
    } else {
        if fd.0 < 0 {
            return Err(Errno::EBADF);
        }
        Backing::File { fd: fd.0, offset, path: host::path_of_fd(fd.0).map(|path| paths::to_guest(p, path)) }
    };
    let prot = protection(p, prot);
    let memory = &p.machine.memory;
    let start = memory.map(&MapRequest {
        place,
        len,
        prot,
        shared,
        backing,
        grows_down: flags & map::GROWSDOWN != 0,
        noreserve: flags & map::NORESERVE != 0,
        locked: flags & map::LOCKED != 0,
        name: None,
    })?;
    if flags & (map::LOCKED | map::POPULATE | map::NONBLOCK) == map::POPULATE {
        // Best effort, as on Linux: what cannot be filled is mapped all the same.
        let advice = if prot.contains(Prot::WRITE) && !shared {
            libc::MADV_POPULATE_WRITE
        } else {
            libc::MADV_POPULATE_READ
        };
        let _ = p.machine.memory.advise(start, len, advice);
    }
    Ok(start)
}

/// munmap(2).
pub fn munmap(p: &mut Process, addr: u32, len: u32) -> Result<u32, Errno> {
    p.machine.memory.unmap(addr, len)?;
    Ok(0)
}

/// mprotect(2), `PROT_GROWSDOWN` included.
pub fn mprotect(p: &mut Process, addr: u32, len: u32, prot: u32) -> Result<u32, Errno> {
    let grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
    if grows == PROT_GROWSDOWN | PROT_GROWSUP || !addr.is_multiple_of(page::SIZE) {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(0);
    }
    if prot & !(7 | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP) != 0 || grows == PROT_GROWSUP {
        return Err(Errno::EINVAL);
    }
    let (mut start, mut len) = (addr, len);
    if grows == PROT_GROWSDOWN {
        let region = p.machine.memory.region_at(addr).ok_or(Errno::ENOMEM)?;
        if !region.grows_down {
            return Err(Errno::EINVAL);
        }
        let end = page_up(addr.checked_add(len).ok_or(Errno::ENOMEM)?).ok_or(Errno::ENOMEM)?;
        (start, len) = (region.start, end - region.start);
    }
    let prot = protection(p, prot);
    p.machine.memory.protect(start, len, prot)?;
    Ok(0)
}

/// pkey_mprotect(2). There are no keys, so only -1 is good.
pub fn pkey_mprotect(p: &mut Process, addr: u32, len: u32, prot: u32, pkey: i32) -> Result<u32, Errno> {
    if pkey != -1 {
        return Err(Errno::EINVAL);
    }
    mprotect(p, addr, len, prot)
}

/// mremap(2).
pub fn mremap(
    p: &mut Process,
    addr: u32,
    old_len: u32,
    new_len: u32,
    flags: u32,
    new_addr: u32,
) -> Result<u32, Errno> {
    if flags & !(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) != 0 {
        return Err(Errno::EINVAL);
    }
    let fixed = (flags & MREMAP_FIXED != 0).then_some(new_addr);
    if fixed.is_some_and(|addr| addr < p.task.lowest_mapping) {
        return Err(if new_addr.is_multiple_of(page::SIZE) { Errno::EPERM } else { Errno::EINVAL });
    }
    let memory = &p.machine.memory;
    if flags & MREMAP_DONTUNMAP == 0 {
        return Ok(memory.remap(addr, old_len, new_len, flags & MREMAP_MAYMOVE != 0, fixed)?);
    }
    if flags & MREMAP_MAYMOVE == 0 || page_up(old_len) != page_up(new_len) {
        return Err(Errno::EINVAL);
    }
    // Without MREMAP_FIXED, the address is a hint, which is looked at as strictly.
    let place = fixed.map_or(Place::Hint(new_addr), Place::Fixed);
    Ok(memory.move_pages(addr, old_len, place)?)
}

/// madvise(2).
pub fn madvise(p: &mut Process, addr: u32, len: u32, advice: i32) -> Result<u32, Errno> {
    match advice {
        0..=MADV_LAST => p.machine.memory.advise(addr, len, advice)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

/// The host's view of a page-aligned range that is mapped throughout: `EINVAL`, `ENOMEM`.
fn mapped(p: &Process, addr: u32, len: u32) -> Result<(usize, usize), Errno> {
    if !addr.is_multiple_of(page::SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_up(len).ok_or(Errno::ENOMEM)?;
    let start = p.machine.memory.host_range(addr, len, Access::Mapped).map_err(|_| Errno::ENOMEM)?;
    Ok((start.expose_provenance(), len as usize))
}

/// msync(2).
pub fn msync(p: &mut Process, addr: u32, len: u32, flags: u32) -> Result<u32, Errno> {
    let known = (libc::MS_ASYNC | libc::MS_INVALIDATE | libc::MS_SYNC) as u32;
    let both = (libc::MS_ASYNC | libc::MS_SYNC) as u32;
    // Flags are looked at before the range.
    if flags & !known != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let (start, len) = mapped(p, addr, len)?;
    host::pass(libc::SYS_msync, [start.into(), len.into(), flags.into()])
}

/// mincore(2).
pub fn mincore(p: &mut Process, addr: u32, len: u32, vec: u32) -> Result<u32, Errno> {
    let (start, len) = mapped(p, addr, len)?;
    let mut residency = vec![0u8; len / page::SIZE as usize];
    host::call(libc::SYS_mincore, [start.into(), len.into(), Arg::slice_mut(&mut residency)])?;
    p.machine.memory.write_bytes(vec, &residency)?;
    Ok(0)
}

/// mlock(2).
pub fn mlock(p: &mut Process, addr: u32, len: u32) -> Result<u32, Errno> {
    p.machine.memory.lock_range(addr, len, Lock::All)?;
    Ok(0)
}

/// mlock2(2).
pub fn mlock2(p: &mut Process, addr: u32, len: u32, flags: u32) -> Result<u32, Errno> {
    const ONFAULT: u32 = 1;
    let lock = match flags {
        0 => Lock::All,
        ONFAULT => Lock::OnFault,
        _ => return Err(Errno::EINVAL),
    };
    p.machine.memory.lock_range(addr, len, lock)?;
    Ok(0)
}

/// munlock(2).
pub fn munlock(p: &mut Process, addr: u32, len: u32) -> Result<u32, Errno> {
    p.machine.memory.lock_range(addr, len, Lock::None)?;
    Ok(0)
}

/// mlockall(2): the guest's memory, and nothing of the emulator's.
pub fn mlockall(p: &mut Process, flags: u32) -> Result<u32, Errno> {
    if flags & !(mcl::CURRENT | mcl::FUTURE | mcl::ONFAULT) != 0 || flags & !mcl::ONFAULT == 0 {
        return Err(Errno::EINVAL);
    }
    let lock = if flags & mcl::ONFAULT != 0 { Lock::OnFault } else { Lock::All };
    let now = (flags & mcl::CURRENT != 0).then_some(lock);
    let future = if flags & mcl::FUTURE != 0 { lock } else { Lock::None };
    p.machine.memory.lock_all(now, future)?;
    Ok(0)
}

/// munlockall(2).
pub fn munlockall(p: &mut Process) -> Result<u32, Errno> {
    p.machine.memory.lock_all(Some(Lock::None), Lock::None)?;
    Ok(0)
}
