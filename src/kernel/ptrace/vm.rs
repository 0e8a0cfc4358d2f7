//! Guest memory of other processes (ptrace(2), process_vm_readv(2), `/proc/PID/mem`).

use super::super::abi::Iovec;
use super::super::args::{GuestPtr, Iov};
use super::super::errno::Errno;
use super::super::host::{self, Arg};
use super::super::process::Process;
use super::remote::Remote;
use super::request;
use super::tracer::host_request;
use crate::memory::Access;

/// Most elements of an array of buffers (`UIO_MAXIOV`).
const UIO_MAXIOV: u32 = 1024;

/// The host's word at a multiple of 8 in the tracee's guest memory, whatever its protection.
fn host_word(remote: &Remote, at: u64) -> Result<[u8; 8], Errno> {
    let mut word = 0u64;
    host_request(request::PEEKDATA, remote.tid, remote.base()? + at, Arg::output(&mut word))?;
    Ok(word.to_le_bytes())
}

/// Tells whether four bytes are mapped: `EIO` if not.
fn check(remote: &Remote, addr: u32) -> Result<(), Errno> {
    if addr <= u32::MAX - 3 && remote.mapped(addr, 4)? == 4 { Ok(()) } else { Err(Errno::EIO) }
}

/// The host words that a guest word lies in, by the first one's address and the guest word's place in them.
fn cover(addr: u32) -> (u64, usize, bool) {
    let inside = (addr % 8) as usize;
    (u64::from(addr & !7), inside, inside > 4)
}

/// Reads a word for `PTRACE_PEEKDATA`.
pub(super) fn peek(remote: &Remote, addr: u32) -> Result<u32, Errno> {
    check(remote, addr)?;
    let (at, inside, crosses) = cover(addr);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&host_word(remote, at)?);
    if crosses {
        bytes[8..].copy_from_slice(&host_word(remote, at + 8)?);
    }
    let word = [bytes[inside], bytes[inside + 1], bytes[inside + 2], bytes[inside + 3]];
    Ok(u32::from_le_bytes(word))
}

/// Replaces a word for `PTRACE_POKEDATA`.
pub(super) fn poke(remote: &Remote, addr: u32, data: u32) -> Result<(), Errno> {
    check(remote, addr)?;
    let (at, inside, crosses) = cover(addr);
    let count = if crosses { 2 } else { 1 };
    let mut bytes = [0; 16];
    for index in 0..count {
        bytes[8 * index..][..8].copy_from_slice(&host_word(remote, at + 8 * index as u64)?);
    }
    bytes[inside..inside + 4].copy_from_slice(&data.to_le_bytes());
    for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate().take(count) {
        let to = remote.base()? + at + 8 * index as u64;
        host_request(request::POKEDATA, remote.tid, to, u64::from_le_bytes(*word).into())?;
    }
    remote.note_written(addr, 4)
}

/// process_vm_readv(2).
pub fn process_vm_readv(
    p: &mut Process,
    pid: i32,
    local: u32,
    local_count: u32,
    other: u32,
    other_count: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let call = Call { pid, other, other_count, flags, access: Access::Write };
    call.make(p, Iov::new(local, local_count), libc::SYS_process_vm_readv)
}

/// process_vm_writev(2).
pub fn process_vm_writev(
    p: &mut Process,
    pid: i32,
    local: u32,
    local_count: u32,
    other: u32,
    other_count: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let call = Call { pid, other, other_count, flags, access: Access::Read };
    call.make(p, Iov::new(local, local_count), libc::SYS_process_vm_writev)
}

/// Bytes from an address to the end of the guest's space, beyond which nothing of its is.
fn to_end(addr: u32) -> u64 {
    (1 << 32) - u64::from(addr)
}

/// The part of the arguments about the other process.
struct Call {
    pid: i32,
    other: u32,
    other_count: u32,
    flags: u32,
    /// What happens to this process's buffers.
    access: Access,
}

impl Call {
    fn make(&self, p: &Process, local: Iov, nr: libc::c_long) -> Result<u32, Errno> {
        if self.flags != 0 || self.other_count > UIO_MAXIOV {
            return Err(Errno::EINVAL);
        }
        let memory = &p.machine.memory;
        let here = local.host(memory, self.access)?;
        let there = GuestPtr::<Iovec>::new(self.other).read_array(memory, self.other_count)?;
        if there.iter().any(|element| element.len > i32::MAX as u32) {
            return Err(Errno::EINVAL);
        }
        // Whether there is such a process, and whether this one may look at it, the host says.
        let nothing: [u64; 2] = [0, 0];
        let probe = [self.pid.into(), Arg::input(&nothing), 0.into(), Arg::NULL, 0.into(), 0.into()];
        host::call(nr, probe)?;
        let remote = Remote::find(self.pid as u32).map_err(|_| Errno::EPERM)?;
        let base = remote.base()?;
        let shifted: Vec<[u64; 2]> = there
            .iter()
            .map(|element| [base + u64::from(element.base), u64::from(element.len).min(to_end(element.base))])
            .collect();
        let args = [
            self.pid.into(),
            Arg::slice(&here),
            here.len().into(),
            Arg::slice(&shifted),
            shifted.len().into(),
            0.into(),
        ];
        let done = host::call(nr, args)? as u32;
        if self.access == Access::Read {
            self.note_written(p, &remote, &there, done)?;
        }
        Ok(done)
    }

    fn note_written(&self, p: &Process, remote: &Remote, there: &[Iovec], done: u32) -> Result<(), Errno> {
        let mut left = done;
        for element in there.iter().take_while(|_| done > 0) {
            let len = element.len.min(left);
            left -= len;
            if len > 0 {
                remote.note_written(element.base, len)?;
            }
        }
        // Where the other process is this one, it is to know at once.
        super::tracee::see_written(p);
        Ok(())
    }
}
