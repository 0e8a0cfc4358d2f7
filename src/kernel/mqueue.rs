//! POSIX message queues (mq_overview(7)).

use super::Process;
use super::abi::{GuestTimespec, MqAttr, Sigevent, Timespec, Timespec64};
use super::args::{Fd, GuestPtr, In, Out, PATH_MAX, Str};
use super::errno::Errno;
use super::files;
use super::host::{self, Arg};
use super::paths;
use std::ffi::CString;

/// `SIGEV_THREAD`: the notice comes through a netlink socket and carries a cookie.
const SIGEV_THREAD: i32 = 2;
/// Bytes of that cookie (`NOTIFY_COOKIE_LEN`).
const COOKIE_LEN: u32 = 32;

/// The host's `struct mq_attr`.
#[repr(C)]
#[derive(Default)]
struct HostAttr {
    flags: i64,
    maxmsg: i64,
    msgsize: i64,
    curmsgs: i64,
    reserved: [i64; 4],
}

impl HostAttr {
    fn from_guest(attr: MqAttr) -> HostAttr {
        HostAttr {
            flags: attr.flags.into(),
            maxmsg: attr.maxmsg.into(),
            msgsize: attr.msgsize.into(),
            curmsgs: attr.curmsgs.into(),
            reserved: [0; 4],
        }
    }

    fn to_guest(&self) -> MqAttr {
        MqAttr {
            flags: self.flags as i32,
            maxmsg: self.maxmsg as i32,
            msgsize: self.msgsize as i32,
            curmsgs: self.curmsgs as i32,
            reserved: [0; 4],
        }
    }
}

fn name_of(p: &Process, name: Str) -> Result<CString, Errno> {
    Ok(paths::c_string(&name.read(&p.machine.memory, PATH_MAX, Errno::ENAMETOOLONG)?))
}

/// mq_open(3); the name comes without its slash.
pub fn mq_open(
    p: &mut Process,
    name: Str,
    flags: u32,
    mode: u32,
    attr: GuestPtr<MqAttr>,
) -> Result<u32, Errno> {
    let name = name_of(p, name)?;
    let attr = match flags & libc::O_CREAT as u32 {
        0 => None,
        _ => attr.read_opt(&p.machine.memory)?.map(HostAttr::from_guest),
    };
    let host_flags = files::flags_to_host(flags) & !files::HOST_LARGEFILE;
    host::pass(
        libc::SYS_mq_open,
        [Arg::text(&name), host_flags.into(), mode.into(), Arg::input_opt(attr.as_ref())],
    )
}

/// mq_unlink(3).
pub fn mq_unlink(p: &mut Process, name: Str) -> Result<u32, Errno> {
    let name = name_of(p, name)?;
    host::pass(libc::SYS_mq_unlink, [Arg::text(&name)])
}

fn send<T: GuestTimespec>(
    p: &Process,
    queue: Fd,
    message: In,
    priority: u32,
    timeout: GuestPtr<T>,
) -> Result<u32, Errno> {
    let end = timeout.read_opt(&p.machine.memory)?.map(T::to_host);
    let message = message.host(&p.machine.memory);
    host::pass_blocking(
        libc::SYS_mq_timedsend,
        [queue.into(), message.arg(), message.len.into(), priority.into(), Arg::input_opt(end.as_ref())],
    )
}

/// mq_timedsend, see mq_send(3), with 32-bit seconds.
pub fn mq_timedsend(
    p: &mut Process,
    queue: Fd,
    message: In,
    priority: u32,
    timeout: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    send(p, queue, message, priority, timeout)
}

/// mq_timedsend, see mq_send(3).
pub fn mq_timedsend_time64(
    p: &mut Process,
    queue: Fd,
    message: In,
    priority: u32,
    timeout: GuestPtr<Timespec64>,
) -> Result<u32, Errno> {
    send(p, queue, message, priority, timeout)
}

fn receive<T: GuestTimespec>(
    p: &Process,
    queue: Fd,
    message: Out,
    priority: GuestPtr<u32>,
    timeout: GuestPtr<T>,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let end = timeout.read_opt(memory)?.map(T::to_host);
    let message = message.host(memory);
    let mut received_priority = 0u32;
    let received = host::pass_blocking(
        libc::SYS_mq_timedreceive,
        [
            queue.into(),
            message.arg(),
            message.len.into(),
            Arg::output(&mut received_priority),
            Arg::input_opt(end.as_ref()),
        ],
    )?;
    priority.write_opt(memory, received_priority)?;
    Ok(received)
}

/// mq_timedreceive, see mq_receive(3), with 32-bit seconds.
pub fn mq_timedreceive(
    p: &mut Process,
    queue: Fd,
    message: Out,
    priority: GuestPtr<u32>,
    timeout: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    receive(p, queue, message, priority, timeout)
}

/// mq_timedreceive, see mq_receive(3).
pub fn mq_timedreceive_time64(
    p: &mut Process,
    queue: Fd,
    message: Out,
    priority: GuestPtr<u32>,
    timeout: GuestPtr<Timespec64>,
) -> Result<u32, Errno> {
    receive(p, queue, message, priority, timeout)
}

/// The host's `struct sigevent`.
#[repr(C)]
struct HostSigevent {
    value: u64,
    signo: i32,
    notify: i32,
    pad: [u32; 12],
}

/// mq_notify(3).
pub fn mq_notify(p: &mut Process, queue: Fd, event: GuestPtr<Sigevent>) -> Result<u32, Errno> {
    let event = event.read_opt(&p.machine.memory)?;
    let cookie = match event {
        Some(event) if event.notify == SIGEV_THREAD => {
            Some(In::new(event.value, COOKIE_LEN).read(&p.machine.memory)?)
        }
        _ => None,
    };
    let event = event.map(|event| HostSigevent {
        value: cookie.as_ref().map_or(event.value.into(), |cookie| cookie.as_ptr() as u64),
        signo: event.signo,
        notify: event.notify,
        pad: [0; 12],
    });
    host::pass(libc::SYS_mq_notify, [queue.into(), Arg::input_opt(event.as_ref())])
}

/// mq_getattr(3) and mq_setattr(3).
pub fn mq_getsetattr(
    p: &mut Process,
    queue: Fd,
    new: GuestPtr<MqAttr>,
    old: GuestPtr<MqAttr>,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let new = new.read_opt(memory)?.map(HostAttr::from_guest);
    let mut before = HostAttr::default();
    host::call(
        libc::SYS_mq_getsetattr,
        [queue.into(), Arg::input_opt(new.as_ref()), Arg::output(&mut before)],
    )?;
    old.write_opt(memory, before.to_guest())?;
    Ok(0)
}
