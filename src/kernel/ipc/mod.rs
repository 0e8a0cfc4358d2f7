//! System V IPC (sysvipc(7)) and its old multiplexed call. The host's objects are the guest's.

pub mod msg;
pub mod sem;
pub mod shm;

use super::Process;
use super::abi::{IpcPerm, MsgrcvKludge, OldIpcPerm};
use super::args::GuestPtr;
use super::errno::Errno;
use super::identity::narrow_id;
use crate::memory::{Memory, Plain};
use std::collections::HashMap;

/// Set in a command when the program knows the structures of Linux 2.4 and later.
const IPC_64: i32 = 0x100;
/// Which structures the caller of a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// Those of Linux 2.2 and before, with ids of 16 bits; `ipc` alone has them.
    Old,
    /// Those of today.
    Ipc64,
}

impl Version {
    /// What an argument of `ipc` asks for, and how.
    fn of(command: i32) -> (Version, i32) {
        let version = if command & IPC_64 != 0 { Version::Ipc64 } else { Version::Old };
        (version, command & !IPC_64)
    }

    /// Writes what is known of an object as the structure of this version.
    fn write(self, memory: &Memory, addr: u32, object: &impl Described) -> Result<(), Errno> {
        match self {
            Version::Old => GuestPtr::new(addr).write(memory, object.old()),
            Version::Ipc64 => GuestPtr::new(addr).write(memory, object.now()),
        }
    }
}

/// What the host says of an object, for the guest.
trait Described {
    /// Its structure of today.
    type Now: Plain;
    /// That of [`Version::Old`], where most numbers have 16 bits.
    type Old: Plain;

    fn now(&self) -> Self::Now;
    fn old(&self) -> Self::Old;
}

/// Commands that all three kinds of objects have.
const IPC_RMID: i32 = 0;
const IPC_SET: i32 = 1;
const IPC_STAT: i32 = 2;
const IPC_INFO: i32 = 3;

/// What a process knows about System V objects.
#[derive(Default)]
pub struct Ipc {
    /// Attached segments by their first address.
    attached: HashMap<u32, shm::Attachment>,
}

/// The host's `struct ipc64_perm`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct HostPerm {
    key: i32,
    uid: u32,
    gid: u32,
    cuid: u32,
    cgid: u32,
    mode: u32,
    seq: u16,
    pad: u16,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<HostPerm>() == 48);

impl HostPerm {
    fn to_guest(self) -> IpcPerm {
        IpcPerm {
            key: self.key,
            uid: self.uid,
            gid: self.gid,
            cuid: self.cuid,
            cgid: self.cgid,
            mode: self.mode as u16,
            seq: self.seq,
            ..IpcPerm::ZERO
        }
    }

    fn to_old_guest(self) -> OldIpcPerm {
        OldIpcPerm {
            key: self.key,
            uid: narrow_id(self.uid),
            gid: narrow_id(self.gid),
            cuid: narrow_id(self.cuid),
            cgid: narrow_id(self.cgid),
            mode: self.mode as u16,
            seq: self.seq,
        }
    }

    /// What IPC_SET changes.
    fn to_be_set(perm: IpcPerm) -> HostPerm {
        HostPerm { uid: perm.uid, gid: perm.gid, mode: perm.mode.into(), ..HostPerm::default() }
    }

    /// What IPC_SET changes.
    fn old_to_be_set(perm: OldIpcPerm) -> HostPerm {
        HostPerm { uid: perm.uid.into(), gid: perm.gid.into(), mode: perm.mode.into(), ..HostPerm::default() }
    }
}

/// The halves of a 64-bit time.
fn halves(time: i64) -> (u32, u32) {
    (time as u32, (time >> 32) as u32)
}

/// The calls that `ipc` stands for.
mod call {
    pub const SEMOP: u32 = 1;
    pub const SEMGET: u32 = 2;
    pub const SEMCTL: u32 = 3;
    pub const SEMTIMEDOP: u32 = 4;
    pub const MSGSND: u32 = 11;
    pub const MSGRCV: u32 = 12;
    pub const MSGGET: u32 = 13;
    pub const MSGCTL: u32 = 14;
    pub const SHMAT: u32 = 21;
    pub const SHMDT: u32 = 22;
    pub const SHMGET: u32 = 23;
    pub const SHMCTL: u32 = 24;
}

/// ipc(2). The version is in the upper half of `call`.
pub fn ipc(
    p: &mut Process,
    call: u32,
    first: i32,
    second: i32,
    third: u32,
    ptr: u32,
    fifth: i32,
) -> Result<u32, Errno> {
    let version = call >> 16;
    match call & 0xffff {
        call::SEMOP => sem::semop(p, first, GuestPtr::new(ptr), second as u32),
        call::SEMTIMEDOP => {
            sem::semtimedop(p, first, GuestPtr::new(ptr), second as u32, GuestPtr::new(fifth as u32))
        }
        call::SEMGET => sem::semget(p, first, second, third as i32),
        call::SEMCTL if ptr == 0 => Err(Errno::EINVAL),
        call::SEMCTL => {
            let arg = GuestPtr::<u32>::new(ptr).read(&p.machine.memory)?;
            sem::control(p, (first, second), Version::of(third as i32), arg)
        }
        call::MSGSND => msg::msgsnd(p, first, ptr, second as u32, third as i32),
        call::MSGRCV if version == 0 && ptr == 0 => Err(Errno::EINVAL),
        call::MSGRCV if version == 0 => {
            let MsgrcvKludge { msgp, msgtyp } = GuestPtr::new(ptr).read(&p.machine.memory)?;
            msg::msgrcv(p, first, msgp, second as u32, msgtyp, third as i32)
        }
        call::MSGRCV => msg::msgrcv(p, first, ptr, second as u32, fifth, third as i32),
        call::MSGGET => msg::msgget(p, first, second),
        call::MSGCTL => msg::control(p, first, Version::of(second), ptr),
        call::SHMAT if version == 1 => Err(Errno::EINVAL),
        call::SHMAT => {
            let addr = shm::shmat(p, first, ptr, second)?;
            GuestPtr::<u32>::new(third).write(&p.machine.memory, addr)?;
            Ok(0)
        }
        call::SHMDT => shm::shmdt(p, ptr),
        call::SHMGET => shm::shmget(p, first, second as u32, third as i32),
        call::SHMCTL => shm::control(p, first, Version::of(second), ptr),
        _ => Err(Errno::ENOSYS),
    }
}
