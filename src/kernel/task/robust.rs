//! Robust futexes (get_robust_list(2)): those that a task holds at its end are marked and a waiter is woken. The
//! host cannot walk the list, since its links are 32 bits wide.

use super::super::abi::RobustListHead;
use super::super::args::GuestPtr;
use super::super::errno::Errno;
use super::super::host::{self as calls, Arg};
use super::super::process::Process;
use super::host;

/// Entries that are walked at most (`ROBUST_LIST_LIMIT`), so that a circle ends.
const LIMIT: u32 = 2048;
/// Bit 0 of a link: the futex is a priority-inheriting one.
const PI: u32 = 1;
/// Bits of a futex word (futex(2), "Robust futexes").
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;
const TID_MASK: u32 = 0x3fff_ffff;
const FUTEX_WAKE: i32 = 1;

/// set_robust_list(2).
pub fn set_robust_list(p: &mut Process, head: u32, len: u32) -> Result<u32, Errno> {
    if len != size_of::<RobustListHead>() as u32 {
        return Err(Errno::EINVAL);
    }
    p.task.robust_list = head;
    Ok(0)
}

/// get_robust_list(2), of this task only.
pub fn get_robust_list(p: &mut Process, pid: i32, head: u32, len: u32) -> Result<u32, Errno> {
    if pid != 0 && pid as u32 != host::gettid() {
        // Whether there is such a task is the host's to say; its list would be of 64-bit links.
        let (mut list, mut size) = (0u64, 0u64);
        calls::call(libc::SYS_get_robust_list, [pid.into(), Arg::output(&mut list), Arg::output(&mut size)])?;
        return Err(Errno::EPERM);
    }
    let memory = &p.machine.memory;
    memory.write(len, size_of::<RobustListHead>() as u32)?;
    memory.write(head, p.task.robust_list)?;
    Ok(0)
}

/// Walks this task's list and gives up what it holds.
pub(super) fn release(p: &mut Process) {
    let list = std::mem::take(&mut p.task.robust_list);
    if list == 0 {
        return;
    }
    let memory = &p.machine.memory;
    let Ok(head) = GuestPtr::<RobustListHead>::new(list).read(memory) else { return };
    let (offset, pending) = (head.futex_offset, head.pending);
    let tid = host::gettid();
    let mut entry = head.next;
    for _ in 0..LIMIT {
        if entry & !PI == list {
            break;
        }
        // The link is read first: whoever is woken may reuse the entry.
        let next = memory.read::<u32>(entry & !PI);
        if entry & !PI != pending & !PI {
            give_up(p, entry, offset, tid, false);
        }
        let Ok(next) = next else { break };
        entry = next;
    }
    if pending & !PI != 0 {
        give_up(p, pending, offset, tid, true);
    }
}

/// Marks one futex if this task holds it. The pending one may have been let go of without its waiter being woken.
fn give_up(p: &Process, entry: u32, offset: i32, tid: u32, is_pending: bool) {
    let memory = &p.machine.memory;
    let address = (entry & !PI).wrapping_add_signed(offset);
    if !address.is_multiple_of(4) {
        return;
    }
    let Ok(word) = memory.read::<u32>(address) else { return };
    let is_pi = entry & PI != 0;
    let wakes = if word & TID_MASK == tid {
        let marked = word & WAITERS | OWNER_DIED;
        if !host::exchange(memory, address, word, marked) {
            return;
        }
        !is_pi && word & WAITERS != 0
    } else {
        is_pending && !is_pi && word == 0
    };
    if wakes {
        let host_address = memory.base().expose_provenance() + address as usize;
        // Nobody may be waiting; that is no error.
        let _ = calls::call(libc::SYS_futex, [host_address.into(), FUTEX_WAKE.into(), 1.into(), Arg::NULL]);
    }
}
