//! sendmsg(2), recvmsg(2) and their plural forms.

use super::ADDRESS_MAX;
use super::control;
use crate::kernel::Process;
use crate::kernel::abi::{GuestTimespec, Mmsghdr, Msghdr, Timespec, Timespec64};
use crate::kernel::args::{Fd, GuestPtr, In, Iov, Out, UIO_MAXIOV};
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::memory::Access;
use std::time::{Duration, Instant};

/// Longest list of control messages in bytes; the kernel's own limit (`optmem_max`) is lower.
const CONTROL_MAX: u32 = 1 << 20;
/// Byte offset of `msg_flags` and its neighbours in the guest's header.
const OFFSET_NAMELEN: u32 = 4;
const OFFSET_CONTROLLEN: u32 = 20;
const OFFSET_FLAGS: u32 = 24;

/// The host's header. Pointers are addresses here; [`host::call`] is given what they point to for as long as the call
/// lasts.
fn host_header(name: &mut [u8], iov: &mut [libc::iovec], control: &mut [u8]) -> libc::msghdr {
    let null_if_empty = |start: *mut u8, len: usize| if len == 0 { std::ptr::null_mut() } else { start };
    let mut header: libc::msghdr = host::zeroed();
    header.msg_name = null_if_empty(name.as_mut_ptr(), name.len()).cast();
    header.msg_namelen = name.len() as u32;
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len() as _;
    header.msg_control = null_if_empty(control.as_mut_ptr(), control.len()).cast();
    header.msg_controllen = control.len() as _;
    header
}

/// The buffers of a header.
fn buffers(p: &Process, header: &Msghdr, access: Access) -> Result<Vec<libc::iovec>, Errno> {
    if header.iovlen > UIO_MAXIOV {
        return Err(Errno::EMSGSIZE);
    }
    Iov::new(header.iov, header.iovlen).host(&p.machine.memory, access)
}

fn send(p: &Process, fd: Fd, header: &Msghdr, flags: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let namelen = usize::try_from(header.namelen).map_err(|_| Errno::EINVAL)?;
    let mut name = match header.name {
        0 => Vec::new(),
        at => In::new(at, namelen.min(ADDRESS_MAX) as u32).read(memory)?,
    };
    let mut iov = buffers(p, header, Access::Read)?;
    if header.controllen > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut control = match header.control {
        0 => Vec::new(),
        at => control::to_host(&In::new(at, header.controllen).read(memory)?)?,
    };
    let message = host_header(&mut name, &mut iov, &mut control);
    host::pass_blocking(libc::SYS_sendmsg, [fd.into(), Arg::input(&message), flags.into()])
}

/// sendmsg(2).
pub fn sendmsg(p: &mut Process, fd: Fd, msg: GuestPtr<Msghdr>, flags: u32) -> Result<u32, Errno> {
    let header = msg.read(&p.machine.memory)?;
    send(p, fd, &header, flags)
}

fn receive(p: &Process, fd: Fd, msg: GuestPtr<Msghdr>, flags: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let header = msg.read(memory)?;
    if header.name != 0 && header.namelen < 0 {
        return Err(Errno::EINVAL);
    }
    let mut name = if header.name == 0 { Vec::new() } else { vec![0; ADDRESS_MAX] };
    let mut iov = buffers(p, &header, Access::Write)?;
    let room = if header.control == 0 { 0 } else { header.controllen.min(CONTROL_MAX) as usize };
    let mut control = vec![0; if room == 0 { 0 } else { control::host_room(room) }];
    let mut message = host_header(&mut name, &mut iov, &mut control);
    let received =
        host::pass_blocking(libc::SYS_recvmsg, [fd.into(), Arg::output(&mut message), flags.into()])?;
    let (controllen, namelen) = (message.msg_controllen as usize, message.msg_namelen);
    let mut out_flags = message.msg_flags as u32;
    let (control, lost) = control::to_guest(&control[..controllen.min(control.len())], room);
    if lost {
        out_flags |= libc::MSG_CTRUNC as u32;
    }
    memory.write_bytes(header.control, &control)?;
    if header.name != 0 {
        let len = (namelen as usize).min(ADDRESS_MAX);
        Out::new(header.name, header.namelen as u32).write_truncated(memory, &name[..len])?;
        memory.write(msg.addr.wrapping_add(OFFSET_NAMELEN), namelen)?;
    }
    memory.write(msg.addr.wrapping_add(OFFSET_CONTROLLEN), control.len() as u32)?;
    memory.write(msg.addr.wrapping_add(OFFSET_FLAGS), out_flags)?;
    Ok(received)
}

/// recvmsg(2).
pub fn recvmsg(p: &mut Process, fd: Fd, msg: GuestPtr<Msghdr>, flags: u32) -> Result<u32, Errno> {
    receive(p, fd, msg, flags)
}

/// The position of `msg_len` behind a header.
fn length_of(messages: GuestPtr<Mmsghdr>, index: u32) -> GuestPtr<u32> {
    GuestPtr::new(messages.at(index).addr.wrapping_add(size_of::<Msghdr>() as u32))
}

/// What a plural call gives: the number of messages, or the error if there was none.
fn outcome(done: u32, error: Errno) -> Result<u32, Errno> {
    if done == 0 { Err(error) } else { Ok(done) }
}

/// sendmmsg(2).
pub fn sendmmsg(
    p: &mut Process,
    fd: Fd,
    messages: GuestPtr<Mmsghdr>,
    count: u32,
    flags: u32,
) -> Result<u32, Errno> {
    for index in 0..count.min(UIO_MAXIOV) {
        let sent = messages
            .at(index)
            .read(&p.machine.memory)
            .and_then(|message| send(p, fd, &{ message.hdr }, flags))
            .and_then(|sent| length_of(messages, index).write(&p.machine.memory, sent));
        if let Err(error) = sent {
            return outcome(index, error);
        }
    }
    Ok(count.min(UIO_MAXIOV))
}

fn receive_many<T: GuestTimespec>(
    p: &Process,
    fd: Fd,
    messages: GuestPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: GuestPtr<T>,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let end = match timeout.read_opt(memory)?.map(T::to_host) {
        Some(time) if time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) => {
            return Err(Errno::EINVAL);
        }
        Some(time) => Instant::now().checked_add(Duration::new(time.tv_sec as u64, time.tv_nsec as u32)),
        None => None,
    };
    let mut done = 0;
    let mut result = Ok(());
    let mut flags_now = flags & !(libc::MSG_WAITFORONE as u32);
    while done < count.min(UIO_MAXIOV) {
        result = receive(p, fd, messages.at(done).cast(), flags_now)
            .and_then(|received| length_of(messages, done).write(memory, received));
        if result.is_err() {
            break;
        }
        done += 1;
        if flags & libc::MSG_WAITFORONE as u32 != 0 {
            flags_now |= libc::MSG_DONTWAIT as u32;
        }
        // The time is looked at after each message only; a call that waits for one waits on.
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
    }
    if let Some(end) = end {
        let left = end.saturating_duration_since(Instant::now());
        let left = libc::timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        timeout.write(memory, T::from_host(left))?;
    }
    match result {
        Err(error) => outcome(done, error),
        Ok(()) => Ok(done),
    }
}

/// recvmmsg(2) with 32-bit seconds.
pub fn recvmmsg(
    p: &mut Process,
    fd: Fd,
    messages: GuestPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    receive_many(p, fd, messages, count, flags, timeout)
}

/// recvmmsg(2).
pub fn recvmmsg_time64(
    p: &mut Process,
    fd: Fd,
    messages: GuestPtr<Mmsghdr>,
    count: u32,
    flags: u32,
    timeout: GuestPtr<Timespec64>,
) -> Result<u32, Errno> {
    receive_many(p, fd, messages, count, flags, timeout)
}
