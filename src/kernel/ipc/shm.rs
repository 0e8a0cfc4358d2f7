//! Shared memory (shmget(2), shmop(2), shmctl(2)).

use super::{HostPerm, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, halves};
use crate::kernel::Process;
use crate::kernel::abi::{ShmUsage, Shmid, Shminfo};
use crate::kernel::args::GuestPtr;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::memory::{MapRequest, Place, Prot, page};

pub(super) const SHM_LOCK: i32 = 11;
pub(super) const SHM_UNLOCK: i32 = 12;
const SHM_STAT: i32 = 13;
const SHM_INFO: i32 = 14;
const SHM_STAT_ANY: i32 = 15;
/// Flags of shmat.
const SHM_RDONLY: i32 = 0o10000;
const SHM_RND: i32 = 0o20000;
const SHM_REMAP: i32 = 0o40000;
const SHM_EXEC: i32 = 0o100000;
/// An attached segment.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// Length in bytes, rounded up to pages.
    len: u32,
    /// The number of the shared object that the map has for it.
    object: u64,
}

/// The host's `struct shmid64_ds`.
#[repr(C)]
#[derive(Default)]
struct HostShmid {
    perm: HostPerm,
    segsz: u64,
    atime: i64,
    dtime: i64,
    ctime: i64,
    cpid: i32,
    lpid: i32,
    nattch: u64,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<HostShmid>() == 112);

/// shmget(2).
pub fn shmget(_p: &mut Process, key: i32, size: u32, flags: i32) -> Result<u32, Errno> {
    host::pass(libc::SYS_shmget, [key.into(), size.into(), flags.into()])
}

fn stat(id: i32, command: i32) -> Result<(u32, HostShmid), Errno> {
    let mut segment = HostShmid::default();
    let result = host::pass(libc::SYS_shmctl, [id.into(), command.into(), Arg::output(&mut segment)])?;
    Ok((result, segment))
}

/// shmat, see shmop(2).
///
/// The map first gets shared memory of that size, which the host's segment then covers; unmapping detaches it.
pub fn shmat(p: &mut Process, id: i32, addr: u32, flags: i32) -> Result<u32, Errno> {
    let (_, segment) = stat(id, IPC_STAT)?;
    let len = u32::try_from(segment.segsz).map_err(|_| Errno::ENOMEM)?;
    let rounded = if flags & SHM_RND != 0 { addr & !(page::SIZE - 1) } else { addr };
    let place = match rounded {
        0 if flags & SHM_REMAP != 0 => return Err(Errno::EINVAL),
        0 => Place::Anywhere,
        _ if rounded % page::SIZE != 0 => return Err(Errno::EINVAL),
        _ if flags & SHM_REMAP != 0 => Place::Fixed(rounded),
        _ => Place::FixedNoReplace(rounded),
    };
    let mut prot = Prot::READ;
    if flags & SHM_RDONLY == 0 {
        prot = prot | Prot::WRITE;
    }
    if flags & SHM_EXEC != 0 {
        prot = prot | Prot::EXEC;
    }
    let memory = &p.machine.memory;
    let request = MapRequest { shared: true, ..MapRequest::anonymous(place, len, prot) };
    let at = memory.map(&request).map_err(|error| match Errno::from(error) {
        // What is in the way is a bad argument here.
        Errno::EEXIST => Errno::EINVAL,
        error => error,
    })?;
    if let Err(error) = host::attach(memory, id, at, flags & SHM_RDONLY | SHM_REMAP) {
        memory.unmap(at, len).map_err(Errno::from)?;
        return Err(error);
    }
    let object = memory.region_at(at).map_or(0, |region| region.ino);
    p.common.ipc().attached.insert(at, Attachment { len: len.next_multiple_of(page::SIZE), object });
    Ok(at)
}

/// shmdt, see shmop(2): `EINVAL` if no segment was attached at that address.
pub fn shmdt(p: &mut Process, addr: u32) -> Result<u32, Errno> {
    let Attachment { len, object } = p.common.ipc().attached.remove(&addr).ok_or(Errno::EINVAL)?;
    let end = addr.saturating_add(len);
    let memory = &p.machine.memory;
    let mut found = false;
    for region in memory.regions() {
        if region.shared && region.ino == object && region.start < end && region.end > addr {
            let (start, end) = (region.start.max(addr), region.end.min(end));
            memory.unmap(start, end - start).map_err(Errno::from)?;
            found = true;
        }
    }
    if found { Ok(0) } else { Err(Errno::EINVAL) }
}

/// shmctl(2).
pub fn shmctl(p: &mut Process, id: i32, command: i32, buf: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    match command {
        IPC_RMID | SHM_LOCK | SHM_UNLOCK => {
            host::pass(libc::SYS_shmctl, [id.into(), command.into(), Arg::NULL])
        }
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let (result, segment) = stat(id, command)?;
            let (atime, atime_high) = halves(segment.atime);
            let (dtime, dtime_high) = halves(segment.dtime);
            let (ctime, ctime_high) = halves(segment.ctime);
            let value = Shmid {
                perm: segment.perm.to_guest(),
                segsz: u32::try_from(segment.segsz).unwrap_or(u32::MAX),
                atime,
                atime_high,
                dtime,
                dtime_high,
                ctime,
                ctime_high,
                cpid: segment.cpid,
                lpid: segment.lpid,
                nattch: segment.nattch as u32,
                unused: [0; 2],
            };
            GuestPtr::new(buf).write(memory, value)?;
            Ok(result)
        }
        IPC_SET => {
            let segment = GuestPtr::<Shmid>::new(buf).read(memory)?;
            let segment = HostShmid { perm: HostPerm::to_be_set(segment.perm), ..HostShmid::default() };
            host::pass(libc::SYS_shmctl, [id.into(), command.into(), Arg::input(&segment)])
        }
        IPC_INFO => {
            let mut info = [0u64; 9];
            let result = host::pass(libc::SYS_shmctl, [id.into(), command.into(), Arg::output(&mut info)])?;
            let [_, shmmin, shmmni, shmseg, shmall, ..] = info.map(|word| word as u32);
            // Only this one is made to fit.
            let shmmax = info[0].min(i32::MAX as u64) as u32;
            let value = Shminfo { shmmax, shmmin, shmmni, shmseg, shmall, unused: [0; 4] };
            GuestPtr::new(buf).write(memory, value)?;
            Ok(result)
        }
        SHM_INFO => {
            let mut usage = [0u64; 6];
            let result = host::pass(libc::SYS_shmctl, [id.into(), command.into(), Arg::output(&mut usage)])?;
            let [_, shm_tot, shm_rss, shm_swp, swap_attempts, swap_successes] = usage.map(|word| word as u32);
            let value = ShmUsage {
                used_ids: usage[0] as i32,
                shm_tot,
                shm_rss,
                shm_swp,
                swap_attempts,
                swap_successes,
            };
            GuestPtr::new(buf).write(memory, value)?;
            Ok(result)
        }
        _ => Err(Errno::EINVAL),
    }
}
