//! Futexes (futex(2)): the host's, at the host's addresses of guest words.

use super::abi::{FutexWaitv, GuestTimespec, Timespec, Timespec64};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::{self, Arg};
use super::process::Process;
use super::table::Restart;

/// Operations of futex(2).
mod op {
    pub const WAIT: u32 = 0;
    pub const REQUEUE: u32 = 3;
    pub const CMP_REQUEUE: u32 = 4;
    pub const WAKE_OP: u32 = 5;
    pub const LOCK_PI: u32 = 6;
    pub const WAIT_BITSET: u32 = 9;
    pub const WAIT_REQUEUE_PI: u32 = 11;
    pub const CMP_REQUEUE_PI: u32 = 12;
    pub const LOCK_PI2: u32 = 13;
    /// `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
    pub const FLAGS: u32 = 128 | 256;
}

/// Most futexes of one `futex_waitv`.
const WAITV_MAX: u32 = 128;
/// The only size that futex_waitv(2) knows: 32 bits.
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_SIZE_MASK: u32 = 3;

/// The host address of a futex word. Alignment and access are the host's to check.
fn word(p: &Process, addr: u32) -> usize {
    p.machine.memory.base().expose_provenance() + addr as usize
}

/// Six arguments as the guest gave them.
struct Call {
    uaddr: u32,
    op: u32,
    val: u32,
    timeout: u32,
    uaddr2: u32,
    val3: u32,
}

fn any_width<T: GuestTimespec>(p: &mut Process, call: Call) -> Result<u32, Errno> {
    let command = call.op & !op::FLAGS;
    let first = word(p, call.uaddr);
    match command {
        op::WAIT | op::WAIT_BITSET | op::LOCK_PI | op::LOCK_PI2 | op::WAIT_REQUEUE_PI => {
            let timeout = GuestPtr::<T>::new(call.timeout).read_opt(&p.machine.memory)?.map(T::to_host);
            let second = if command == op::WAIT_REQUEUE_PI { word(p, call.uaddr2) } else { 0 };
            let args = [
                first.into(),
                call.op.into(),
                call.val.into(),
                Arg::input_opt(timeout.as_ref()),
                second.into(),
                call.val3.into(),
            ];
            let result = host::pass_blocking(libc::SYS_futex, args);
            if timeout.is_some() && matches!(command, op::WAIT | op::WAIT_BITSET) {
                // Made again with the rest of the time, but never behind a handler's back.
                p.signals.restart_class = Some(Restart::Block);
            }
            result
        }
        op::REQUEUE | op::CMP_REQUEUE | op::CMP_REQUEUE_PI | op::WAKE_OP => {
            // The fourth argument is a number here.
            let args = [
                first.into(),
                call.op.into(),
                call.val.into(),
                call.timeout.into(),
                word(p, call.uaddr2).into(),
                call.val3.into(),
            ];
            host::pass(libc::SYS_futex, args)
        }
        _ => {
            let args =
                [first.into(), call.op.into(), call.val.into(), Arg::NULL, Arg::NULL, call.val3.into()];
            host::pass(libc::SYS_futex, args)
        }
    }
}

/// futex(2) with 32-bit seconds.
pub fn futex(
    p: &mut Process,
    uaddr: u32,
    op: u32,
    val: u32,
    timeout: u32,
    uaddr2: u32,
    val3: u32,
) -> Result<u32, Errno> {
    any_width::<Timespec>(p, Call { uaddr, op, val, timeout, uaddr2, val3 })
}

/// futex(2) with 64-bit seconds.
pub fn futex_time64(
    p: &mut Process,
    uaddr: u32,
    op: u32,
    val: u32,
    timeout: u32,
    uaddr2: u32,
    val3: u32,
) -> Result<u32, Errno> {
    any_width::<Timespec64>(p, Call { uaddr, op, val, timeout, uaddr2, val3 })
}

/// futex_waitv(2).
pub fn futex_waitv(
    p: &mut Process,
    waiters: u32,
    count: u32,
    flags: u32,
    timeout: u32,
    clock: i32,
) -> Result<u32, Errno> {
    if flags != 0 || count == 0 || count > WAITV_MAX {
        return Err(Errno::EINVAL);
    }
    let timeout = GuestPtr::<Timespec64>::new(timeout).read_opt(&p.machine.memory)?.map(|t| t.to_host());
    let mut list = GuestPtr::<FutexWaitv>::new(waiters).read_array(&p.machine.memory, count)?;
    for waiter in &mut list {
        if waiter.flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32 {
            return Err(Errno::EINVAL);
        }
        let addr = u32::try_from(waiter.uaddr).map_err(|_| Errno::EFAULT)?;
        waiter.uaddr = word(p, addr) as u64;
    }
    let args =
        [Arg::slice(&list), count.into(), flags.into(), Arg::input_opt(timeout.as_ref()), clock.into()];
    host::pass_blocking(libc::SYS_futex_waitv, args)
}
