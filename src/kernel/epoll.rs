//! epoll(7).

use super::Process;
use super::abi::{EpollEvent, GuestTimespec, Timespec64};
use super::args::{Fd, GuestPtr};
use super::errno::Errno;
use super::host::{self, Arg};
use super::poll::optional_mask;
use super::signal::SigSet;
use super::signal::mask::with_temporary;

/// Most events of one call: what fits into 2 GiB of the guest's structures (`EP_MAX_EVENTS`).
const MAX_EVENTS: i32 = i32::MAX / size_of::<EpollEvent>() as i32;
/// Most events asked of the host at once; the others come with the next call. No process has as many descriptors.
const AT_ONCE: usize = 1 << 20;
/// The host's `struct epoll_event` in words: padded between its parts on some hosts, not on x86-64. As words, a long list
/// of zeros takes no memory before the host writes to it.
type HostEvent = [u32; size_of::<libc::epoll_event>() / size_of::<u32>()];

/// epoll_create(2): the size only has to be positive.
pub fn epoll_create(_p: &mut Process, size: i32) -> Result<u32, Errno> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    host::pass(libc::SYS_epoll_create1, [0.into()])
}

/// epoll_ctl(2).
pub fn epoll_ctl(
    p: &mut Process,
    epfd: Fd,
    op: i32,
    fd: Fd,
    event: GuestPtr<EpollEvent>,
) -> Result<u32, Errno> {
    let event = if op == libc::EPOLL_CTL_DEL {
        None
    } else {
        let EpollEvent { events, data } = event.read(&p.machine.memory)?;
        Some(libc::epoll_event { events, u64: data })
    };
    host::pass(libc::SYS_epoll_ctl, [epfd.into(), op.into(), fd.into(), Arg::input_opt(event.as_ref())])
}

fn wait_with(
    p: &mut Process,
    events: GuestPtr<EpollEvent>,
    maxevents: i32,
    mask: Option<SigSet>,
    wait: impl FnOnce(&mut [HostEvent]) -> Result<u32, Errno>,
) -> Result<u32, Errno> {
    if !(1..=MAX_EVENTS).contains(&maxevents) {
        return Err(Errno::EINVAL);
    }
    let mut list: Vec<HostEvent> = vec![[0; _]; AT_ONCE.min(maxevents as usize)];
    let found = with_temporary(p, mask, |_| wait(&mut list))?;
    let list: Vec<EpollEvent> = list[..found as usize]
        .iter()
        .map(|&[events, .., low, high]| EpollEvent { events, data: u64::from(high) << 32 | u64::from(low) })
        .collect();
    events.write_array(&p.machine.memory, &list)?;
    Ok(found)
}

/// epoll_wait(2).
pub fn epoll_wait(
    p: &mut Process,
    epfd: Fd,
    events: GuestPtr<EpollEvent>,
    maxevents: i32,
    timeout: i32,
) -> Result<u32, Errno> {
    epoll_pwait(p, epfd, events, maxevents, timeout, GuestPtr::new(0), 0)
}

/// epoll_pwait(2).
pub fn epoll_pwait(
    p: &mut Process,
    epfd: Fd,
    events: GuestPtr<EpollEvent>,
    maxevents: i32,
    timeout: i32,
    sigmask: GuestPtr<u64>,
    size: u32,
) -> Result<u32, Errno> {
    let mask = optional_mask(p, sigmask, size)?;
    wait_with(p, events, maxevents, mask, |list| {
        let len = list.len();
        host::pass_blocking(
            libc::SYS_epoll_pwait,
            [epfd.into(), Arg::slice_mut(list), len.into(), timeout.into(), Arg::NULL, 8.into()],
        )
    })
}

/// epoll_pwait2, see epoll_wait(2).
pub fn epoll_pwait2(
    p: &mut Process,
    epfd: Fd,
    events: GuestPtr<EpollEvent>,
    maxevents: i32,
    timeout: GuestPtr<Timespec64>,
    sigmask: GuestPtr<u64>,
    size: u32,
) -> Result<u32, Errno> {
    let timeout = timeout.read_opt(&p.machine.memory)?.map(Timespec64::to_host);
    let mask = optional_mask(p, sigmask, size)?;
    wait_with(p, events, maxevents, mask, |list| {
        let len = list.len();
        host::pass_blocking(
            libc::SYS_epoll_pwait2,
            [
                epfd.into(),
                Arg::slice_mut(list),
                len.into(),
                Arg::input_opt(timeout.as_ref()),
                Arg::NULL,
                8.into(),
            ],
        )
    })
}
