//! Message queues (msgget(2), msgop(2), msgctl(2)). A message begins with its type, a `long`.

use super::{Described, HostPerm, IPC_INFO, IPC_RMID, IPC_SET, IPC_STAT, Version, halves};
use crate::kernel::Process;
use crate::kernel::abi::{Msginfo, Msqid, OldMsqid};
use crate::kernel::args::{GuestPtr, In};
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};

const MSG_STAT: i32 = 11;
const MSG_INFO: i32 = 12;
const MSG_STAT_ANY: i32 = 13;
/// Longest message in bytes that anybody is asked for; the host's own limit (`msgmax`) is 8,192 unless changed.
const TEXT_MAX: u32 = 64 << 20;
/// Bytes of the type, for the guest and for the host.
const GUEST_TYPE: u32 = 4;
const HOST_TYPE: usize = 8;

/// The host's `struct msqid64_ds`.
#[repr(C)]
#[derive(Default)]
struct HostMsqid {
    perm: HostPerm,
    stime: i64,
    rtime: i64,
    ctime: i64,
    cbytes: u64,
    qnum: u64,
    qbytes: u64,
    lspid: i32,
    lrpid: i32,
    unused: [u64; 2],
}

const _: () = assert!(size_of::<HostMsqid>() == 120);

/// msgget(2).
pub fn msgget(_p: &mut Process, key: i32, flags: i32) -> Result<u32, Errno> {
    host::pass(libc::SYS_msgget, [key.into(), flags.into()])
}

/// msgsnd, see msgop(2).
pub fn msgsnd(p: &mut Process, id: i32, message: u32, size: u32, flags: i32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    if size > TEXT_MAX {
        return Err(Errno::EINVAL);
    }
    let kind = memory.read::<i32>(message)?;
    let text = In::new(message.wrapping_add(GUEST_TYPE), size).read(memory)?;
    let mut bytes = i64::from(kind).to_le_bytes().to_vec();
    bytes.extend_from_slice(&text);
    host::pass_blocking(libc::SYS_msgsnd, [id.into(), Arg::slice(&bytes), size.into(), flags.into()])
}

/// msgrcv, see msgop(2).
pub fn msgrcv(
    p: &mut Process,
    id: i32,
    message: u32,
    size: u32,
    kind: i32,
    flags: i32,
) -> Result<u32, Errno> {
    if size > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    let room = size.min(TEXT_MAX);
    let mut bytes = vec![0u8; HOST_TYPE + room as usize];
    let received = host::pass_blocking(
        libc::SYS_msgrcv,
        [id.into(), Arg::slice_mut(&mut bytes), room.into(), kind.into(), flags.into()],
    )?;
    let memory = &p.machine.memory;
    memory.write_bytes(message, &bytes[..GUEST_TYPE as usize])?;
    let text = &bytes[HOST_TYPE..HOST_TYPE + received as usize];
    memory.write_bytes(message.wrapping_add(GUEST_TYPE), text)?;
    Ok(received)
}

impl Described for HostMsqid {
    type Now = Msqid;
    type Old = OldMsqid;

    fn now(&self) -> Msqid {
        let (stime, stime_high) = halves(self.stime);
        let (rtime, rtime_high) = halves(self.rtime);
        let (ctime, ctime_high) = halves(self.ctime);
        Msqid {
            perm: self.perm.to_guest(),
            stime,
            stime_high,
            rtime,
            rtime_high,
            ctime,
            ctime_high,
            cbytes: self.cbytes as u32,
            qnum: self.qnum as u32,
            qbytes: self.qbytes as u32,
            lspid: self.lspid,
            lrpid: self.lrpid,
            unused: [0; 2],
        }
    }

    fn old(&self) -> OldMsqid {
        OldMsqid {
            perm: self.perm.to_old_guest(),
            stime: self.stime as i32,
            rtime: self.rtime as i32,
            ctime: self.ctime as i32,
            cbytes: self.cbytes as u16,
            qnum: self.qnum as u16,
            qbytes: self.qbytes as u16,
            lspid: self.lspid as u16,
            lrpid: self.lrpid as u16,
            ..OldMsqid::ZERO
        }
    }
}

/// msgctl(2).
pub fn msgctl(p: &mut Process, id: i32, command: i32, buf: u32) -> Result<u32, Errno> {
    control(p, id, (Version::Ipc64, command), buf)
}

/// msgctl(2) with structures of either version.
pub(super) fn control(
    p: &mut Process,
    id: i32,
    (version, command): (Version, i32),
    buf: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let host = |arg: Arg<'_>| host::pass(libc::SYS_msgctl, [id.into(), command.into(), arg]);
    match command {
        IPC_RMID => host(Arg::NULL),
        IPC_STAT | MSG_STAT | MSG_STAT_ANY => {
            let mut queue = HostMsqid::default();
            let result = host(Arg::output(&mut queue))?;
            version.write(memory, buf, &queue)?;
            Ok(result)
        }
        IPC_SET => {
            let (perm, qbytes) = match version {
                Version::Ipc64 => {
                    let queue = GuestPtr::<Msqid>::new(buf).read(memory)?;
                    (HostPerm::to_be_set(queue.perm), queue.qbytes)
                }
                Version::Old => {
                    let queue = GuestPtr::<OldMsqid>::new(buf).read(memory)?;
                    (HostPerm::old_to_be_set(queue.perm), queue.qbytes.into())
                }
            };
            host(Arg::input(&HostMsqid { perm, qbytes: qbytes.into(), ..HostMsqid::default() }))
        }
        IPC_INFO | MSG_INFO => {
            let mut info = Msginfo::ZERO;
            let result = host(Arg::output(&mut info))?;
            GuestPtr::new(buf).write(memory, info)?;
            Ok(result)
        }
        _ => Err(Errno::EINVAL),
    }
}
