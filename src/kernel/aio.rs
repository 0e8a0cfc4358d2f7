//! Kernel asynchronous I/O (io_submit(2), io_getevents(2)).
//!
//! A context is an address to the guest: libaio looks at the ring that Linux maps there and makes the system call when
//! it does not know what it sees, so a page of zeros will do. Control blocks go to the host as copies with host
//! addresses, which live until their operation is over.

use super::Process;
use super::abi::{GuestTimespec, IoEvent, Iocb, SigsetArg, Timespec, Timespec64};
use super::args::{Fd, GuestPtr, In, Iov, Out};
use super::errno::Errno;
use super::host::{self, Arg};
use super::poll::optional_mask;
use super::signal::SigSet;
use super::signal::mask::with_temporary;
use crate::memory::{Access, MapRequest, Place, Prot, page};
use std::collections::HashMap;

/// Operations of a control block.
mod op {
    pub const PREAD: u16 = 0;
    pub const PWRITE: u16 = 1;
    pub const PREADV: u16 = 7;
    pub const PWRITEV: u16 = 8;
}

/// `IOCB_FLAG_RESFD`: completion is told to an eventfd.
const FLAG_RESFD: u32 = 1;
/// Most control blocks of one submission and events of one look; more come with the next call.
const AT_ONCE: i32 = 1024;

/// The host's `struct iovec`: address and length.
type HostIovec = [usize; 2];

/// What the host works on: the copy of a control block and the buffers it may point to.
struct Operation {
    guest: u32,
    block: Box<Iocb>,
    _iov: Vec<HostIovec>,
}

#[derive(Default)]
struct Context {
    host: u64,
    /// By the address of the host's copy.
    running: HashMap<u64, Operation>,
}

/// A process's contexts, by the addresses that the guest knows.
#[derive(Default)]
pub struct Aio {
    contexts: HashMap<u32, Context>,
}

impl Aio {
    fn context(&mut self, id: u32) -> Result<&mut Context, Errno> {
        self.contexts.get_mut(&id).ok_or(Errno::EINVAL)
    }
}

/// io_setup(2).
pub fn io_setup(p: &mut Process, events: u32, id: GuestPtr<u32>) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    if id.read(memory)? != 0 {
        return Err(Errno::EINVAL);
    }
    let mut host_id = 0u64;
    host::call(libc::SYS_io_setup, [events.into(), Arg::output(&mut host_id)])?;
    let request = MapRequest {
        name: Some("/[aio] (deleted)"),
        ..MapRequest::anonymous(Place::Anywhere, page::SIZE, Prot::READ | Prot::WRITE)
    };
    let mapped = memory.map(&request).map_err(Errno::from);
    match mapped.and_then(|addr| id.write(memory, addr).map(|()| addr)) {
        Ok(addr) => {
            p.common.aio().contexts.insert(addr, Context { host: host_id, running: HashMap::new() });
            Ok(0)
        }
        Err(error) => {
            if let Ok(addr) = mapped {
                memory.unmap(addr, page::SIZE).map_err(Errno::from)?;
            }
            host::call(libc::SYS_io_destroy, [host_id.into()])?;
            Err(error)
        }
    }
}

/// io_destroy(2). The host waits for what is under way.
pub fn io_destroy(p: &mut Process, id: u32) -> Result<u32, Errno> {
    let host_id = p.common.aio().context(id)?.host;
    host::call(libc::SYS_io_destroy, [host_id.into()])?;
    p.common.aio().contexts.remove(&id);
    p.machine.memory.unmap(id, page::SIZE).map_err(Errno::from)?;
    Ok(0)
}

/// The host's copy of a control block.
fn prepare(p: &Process, guest: u32) -> Result<Operation, Errno> {
    let memory = &p.machine.memory;
    let mut block = Box::new(GuestPtr::<Iocb>::new(guest).read(memory)?);
    let (addr, len) = (block.buf as u32, u32::try_from(block.nbytes).map_err(|_| Errno::EINVAL)?);
    let mut iov = Vec::new();
    match block.opcode {
        op::PREAD => block.buf = Out::new(addr, len).host(memory).address(),
        op::PWRITE => block.buf = In::new(addr, len).host(memory).address(),
        op::PREADV | op::PWRITEV => {
            let access = if block.opcode == op::PREADV { Access::Write } else { Access::Read };
            let parts = Iov::new(addr, len).host(memory, access)?;
            iov = parts.iter().map(|part| [part.iov_base.expose_provenance(), part.iov_len]).collect();
            block.buf = iov.as_ptr() as u64;
        }
        // No buffer: what is there is a number or has to be zero.
        _ => {}
    }
    block.fildes = Fd::new(block.fildes).0 as u32;
    if block.flags & FLAG_RESFD != 0 {
        block.resfd = Fd::new(block.resfd).0 as u32;
    }
    Ok(Operation { guest, block, _iov: iov })
}

/// io_submit(2): how many were taken, or the error of the first one.
pub fn io_submit(p: &mut Process, id: u32, count: i32, blocks: GuestPtr<u32>) -> Result<u32, Errno> {
    let host_id = p.common.aio().context(id)?.host;
    if count < 0 {
        return Err(Errno::EINVAL);
    }
    let mut taken = 0;
    for index in 0..count.min(AT_ONCE) as u32 {
        let submitted = blocks.at(index).read(&p.machine.memory).and_then(|guest| {
            let operation = prepare(p, guest)?;
            let address = (&raw const *operation.block) as u64;
            // Locked until the operation is noted, as another thread may ask for its event at once.
            let mut aio = p.common.aio();
            host::call(libc::SYS_io_submit, [host_id.into(), 1.into(), Arg::input(&address)])?;
            aio.context(id)?.running.insert(address, operation);
            Ok(())
        });
        match submitted {
            Ok(()) => taken += 1,
            Err(error) if taken == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(taken)
}

fn get_events(
    p: &mut Process,
    id: u32,
    min: i32,
    max: i32,
    events: GuestPtr<IoEvent>,
    timeout: Option<libc::timespec>,
    mask: Option<SigSet>,
) -> Result<u32, Errno> {
    let host_id = p.common.aio().context(id)?.host;
    if min < 0 || max < 0 || min > max {
        return Err(Errno::EINVAL);
    }
    let max = max.min(AT_ONCE);
    let mut list = vec![IoEvent::ZERO; max as usize];
    let mut timeout = timeout;
    let found = with_temporary(p, mask, |_| {
        host::pass_blocking(
            libc::SYS_io_getevents,
            [
                host_id.into(),
                min.min(max).into(),
                max.into(),
                Arg::slice_mut(&mut list),
                Arg::output_opt(timeout.as_mut()),
            ],
        )
    })?;
    list.truncate(found as usize);
    let mut aio = p.common.aio();
    let running = &mut aio.context(id)?.running;
    for event in &mut list {
        if let Some(operation) = running.remove(&{ event.obj }) {
            event.obj = operation.guest.into();
        }
    }
    drop(aio);
    events.write_array(&p.machine.memory, &list)?;
    Ok(found)
}

/// io_getevents(2).
pub fn io_getevents(
    p: &mut Process,
    id: u32,
    min: i32,
    max: i32,
    events: GuestPtr<IoEvent>,
    timeout: GuestPtr<Timespec>,
) -> Result<u32, Errno> {
    let timeout = timeout.read_opt(&p.machine.memory)?.map(Timespec::to_host);
    get_events(p, id, min, max, events, timeout, None)
}

fn pgetevents<T: GuestTimespec>(
    p: &mut Process,
    id: u32,
    (min, max): (i32, i32),
    events: GuestPtr<IoEvent>,
    timeout: GuestPtr<T>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    let timeout = timeout.read_opt(&p.machine.memory)?.map(T::to_host);
    let mask = match sigmask.read_opt(&p.machine.memory)? {
        Some(arg) => optional_mask(p, GuestPtr::new(arg.set), arg.size)?,
        None => None,
    };
    get_events(p, id, min, max, events, timeout, mask)
}

/// io_pgetevents, see io_getevents(2), with 32-bit seconds.
pub fn io_pgetevents(
    p: &mut Process,
    id: u32,
    min: i32,
    max: i32,
    events: GuestPtr<IoEvent>,
    timeout: GuestPtr<Timespec>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    pgetevents(p, id, (min, max), events, timeout, sigmask)
}

/// io_pgetevents, see io_getevents(2).
pub fn io_pgetevents_time64(
    p: &mut Process,
    id: u32,
    min: i32,
    max: i32,
    events: GuestPtr<IoEvent>,
    timeout: GuestPtr<Timespec64>,
    sigmask: GuestPtr<SigsetArg>,
) -> Result<u32, Errno> {
    pgetevents(p, id, (min, max), events, timeout, sigmask)
}

/// io_cancel(2).
pub fn io_cancel(
    p: &mut Process,
    id: u32,
    block: GuestPtr<Iocb>,
    result: GuestPtr<IoEvent>,
) -> Result<u32, Errno> {
    let mut aio = p.common.aio();
    let context = aio.context(id)?;
    let found = context.running.iter().find(|(_, operation)| operation.guest == block.addr);
    let address = *found.ok_or(Errno::EINVAL)?.0;
    let mut event = IoEvent::ZERO;
    host::call(libc::SYS_io_cancel, [context.host.into(), address.into(), Arg::output(&mut event)])?;
    context.running.remove(&address);
    event.obj = block.addr.into();
    result.write(&p.machine.memory, event)?;
    Ok(0)
}
