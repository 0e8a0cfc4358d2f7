//! Shared memory (shmget(2), shmop(2), shmctl(2)).

use super::{Described, HostPerm, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Version, halves};
use crate::kernel::Process;
use crate::kernel::abi::{OldShmid, OldShminfo, ShmUsage, Shmid, Shminfo};
use crate::kernel::args::GuestPtr;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::memory::{MapRequest, Place, Prot, page};

const SHM_LOCK: i32 = 11;
const SHM_UNLOCK: i32 = 12;
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
    memory.mapped_anew(at, len);
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

impl Described for HostShmid {
    type Now = Shmid;
    type Old = OldShmid;

    fn now(&self) -> Shmid {
        let (atime, atime_high) = halves(self.atime);
        let (dtime, dtime_high) = halves(self.dtime);
        let (ctime, ctime_high) = halves(self.ctime);
        Shmid {
            perm: self.perm.to_guest(),
            segsz: u32::try_from(self.segsz).unwrap_or(u32::MAX),
            atime,
            atime_high,
            dtime,
            dtime_high,
            ctime,
            ctime_high,
            cpid: self.cpid,
            lpid: self.lpid,
            nattch: self.nattch as u32,
            unused: [0; 2],
        }
    }

    fn old(&self) -> OldShmid {
        OldShmid {
            perm: self.perm.to_old_guest(),
            segsz: self.segsz as i32,
            atime: self.atime as i32,
            dtime: self.dtime as i32,
            ctime: self.ctime as i32,
            cpid: self.cpid as u16,
            lpid: self.lpid as u16,
            nattch: self.nattch as u16,
            ..OldShmid::ZERO
        }
    }
}

/// shmctl(2).
pub fn shmctl(p: &mut Process, id: i32, command: i32, buf: u32) -> Result<u32, Errno> {
    control(p, id, (Version::Ipc64, command), buf)
}

/// shmctl(2) with structures of either version.
pub(super) fn control(
    p: &mut Process,
    id: i32,
    (version, command): (Version, i32),
    buf: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let host = |arg: Arg<'_>| host::pass(libc::SYS_shmctl, [id.into(), command.into(), arg]);
    match command {
        IPC_RMID | SHM_LOCK | SHM_UNLOCK => host(Arg::NULL),
        IPC_STAT | SHM_STAT | SHM_STAT_ANY => {
            let (result, segment) = stat(id, command)?;
            version.write(memory, buf, &segment)?;
            Ok(result)
        }
        IPC_SET => {
            let perm = match version {
                Version::Ipc64 => HostPerm::to_be_set(GuestPtr::<Shmid>::new(buf).read(memory)?.perm),
                Version::Old => HostPerm::old_to_be_set(GuestPtr::<OldShmid>::new(buf).read(memory)?.perm),
            };
            host(Arg::input(&HostShmid { perm, ..HostShmid::default() }))
        }
        IPC_INFO => {
            let mut info = [0u64; 9];
            let result = host(Arg::output(&mut info))?;
            let [_, shmmin, shmmni, shmseg, shmall, ..] = info.map(|word| word as u32);
            // Only this one is made to fit.
            let shmmax = info[0].min(i32::MAX as u64) as u32;
            match version {
                Version::Ipc64 => {
                    let value = Shminfo { shmmax, shmmin, shmmni, shmseg, shmall, unused: [0; 4] };
                    GuestPtr::new(buf).write(memory, value)?;
                }
                Version::Old => {
                    let value = OldShminfo { shmmax, shmmin, shmmni, shmseg, shmall };
                    GuestPtr::new(buf).write(memory, value)?;
                }
            }
            Ok(result)
        }
        SHM_INFO => {
            let mut usage = [0u64; 6];
            let result = host(Arg::output(&mut usage))?;
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
