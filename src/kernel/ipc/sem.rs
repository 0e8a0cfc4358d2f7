//! Semaphores (semget(2), semop(2), semctl(2)).

use super::{Described, HostPerm, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Version, halves};
use crate::kernel::Process;
use crate::kernel::abi::{GuestTimespec, OldSemid, Sembuf, Semid, Seminfo, Timespec, Timespec64};
use crate::kernel::args::GuestPtr;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};

const GETPID: i32 = 11;
const GETVAL: i32 = 12;
const GETALL: i32 = 13;
const GETNCNT: i32 = 14;
const GETZCNT: i32 = 15;
const SETVAL: i32 = 16;
const SETALL: i32 = 17;
const SEM_STAT: i32 = 18;
const SEM_INFO: i32 = 19;
const SEM_STAT_ANY: i32 = 20;
/// Most operations of one call that the host is asked for; its own limit (`semopm`) is 500 unless changed.
const OPS_MAX: u32 = 1 << 16;

/// The host's `struct semid64_ds`.
#[repr(C)]
#[derive(Default)]
struct HostSemid {
    perm: HostPerm,
    otime: i64,
    #[cfg(target_arch = "x86_64")]
    unused1: u64,
    ctime: i64,
    #[cfg(target_arch = "x86_64")]
    unused2: u64,
    nsems: u64,
    unused: [u64; 2],
}

/// semget(2).
pub fn semget(_p: &mut Process, key: i32, count: i32, flags: i32) -> Result<u32, Errno> {
    host::pass(libc::SYS_semget, [key.into(), count.into(), flags.into()])
}

/// semop(2).
pub fn semop(p: &mut Process, id: i32, ops: GuestPtr<Sembuf>, count: u32) -> Result<u32, Errno> {
    operate(p, id, ops, count, None)
}

/// semtimedop, see semop(2), with 32-bit seconds; only `ipc` reaches it.
pub fn semtimedop(
    p: &mut Process,
    id: i32,
    ops: GuestPtr<Sembuf>,
    count: u32,
    timeout: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    let timeout = timeout.read_opt(&p.machine.memory)?.map(Timespec::to_host);
    operate(p, id, ops, count, timeout)
}

/// semtimedop, see semop(2).
pub fn semtimedop_time64(
    p: &mut Process,
    id: i32,
    ops: GuestPtr<Sembuf>,
    count: u32,
    timeout: GuestPtr<Timespec64>,
) -> Result<u32, Errno> {
    let timeout = timeout.read_opt(&p.machine.memory)?.map(Timespec64::to_host);
    operate(p, id, ops, count, timeout)
}

fn operate(
    p: &Process,
    id: i32,
    ops: GuestPtr<Sembuf>,
    count: u32,
    timeout: Option<libc::timespec>,
) -> Result<u32, Errno> {
    if count > OPS_MAX {
        return Err(Errno::E2BIG);
    }
    let list = ops.read_array(&p.machine.memory, count)?;
    host::pass_blocking(
        libc::SYS_semtimedop,
        [id.into(), Arg::slice(&list), list.len().into(), Arg::input_opt(timeout.as_ref())],
    )
}

impl Described for HostSemid {
    type Now = Semid;
    type Old = OldSemid;

    fn now(&self) -> Semid {
        let (otime, otime_high) = halves(self.otime);
        let (ctime, ctime_high) = halves(self.ctime);
        Semid {
            perm: self.perm.to_guest(),
            otime,
            otime_high,
            ctime,
            ctime_high,
            nsems: self.nsems as u32,
            unused: [0; 2],
        }
    }

    fn old(&self) -> OldSemid {
        OldSemid {
            perm: self.perm.to_old_guest(),
            otime: self.otime as i32,
            ctime: self.ctime as i32,
            nsems: self.nsems as u16,
            ..OldSemid::ZERO
        }
    }
}

fn stat(id: i32, command: i32) -> Result<(u32, HostSemid), Errno> {
    let mut semid = HostSemid::default();
    let result = host_control(id, 0, command, Arg::output(&mut semid))?;
    Ok((result, semid))
}

fn host_control(id: i32, number: i32, command: i32, arg: Arg<'_>) -> Result<u32, Errno> {
    host::pass(libc::SYS_semctl, [id.into(), number.into(), command.into(), arg])
}

/// semctl(2). `arg` is a value or a pointer, as the command has it.
pub fn semctl(p: &mut Process, id: i32, number: i32, command: i32, arg: u32) -> Result<u32, Errno> {
    control(p, (id, number), (Version::Ipc64, command), arg)
}

/// semctl(2) with structures of either version.
pub(super) fn control(
    p: &mut Process,
    (id, number): (i32, i32),
    (version, command): (Version, i32),
    arg: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let host = |arg: Arg<'_>| host_control(id, number, command, arg);
    match command {
        IPC_RMID | GETPID | GETVAL | GETNCNT | GETZCNT => host(Arg::NULL),
        SETVAL => host((arg as i32).into()),
        GETALL => {
            let (_, semid) = stat(id, IPC_STAT)?;
            let mut values = vec![0u16; semid.nsems as usize];
            let result = host(Arg::slice_mut(&mut values))?;
            GuestPtr::new(arg).write_array(memory, &values)?;
            Ok(result)
        }
        SETALL => {
            let (_, semid) = stat(id, IPC_STAT)?;
            let values = GuestPtr::<u16>::new(arg).read_array(memory, semid.nsems as u32)?;
            host(Arg::slice(&values))
        }
        IPC_STAT | SEM_STAT | SEM_STAT_ANY => {
            let (result, semid) = stat(id, command)?;
            version.write(memory, arg, &semid)?;
            Ok(result)
        }
        IPC_SET => {
            let perm = match version {
                Version::Ipc64 => HostPerm::to_be_set(GuestPtr::<Semid>::new(arg).read(memory)?.perm),
                Version::Old => HostPerm::old_to_be_set(GuestPtr::<OldSemid>::new(arg).read(memory)?.perm),
            };
            host(Arg::input(&HostSemid { perm, ..HostSemid::default() }))
        }
        IPC_INFO | SEM_INFO => {
            let mut info = Seminfo::ZERO;
            let result = host_control(id, 0, command, Arg::output(&mut info))?;
            GuestPtr::new(arg).write(memory, info)?;
            Ok(result)
        }
        _ => Err(Errno::EINVAL),
    }
}
