//! Sockets: making, binding, connecting, naming. Messages are in [`message`], options in [`option`].
//!
//! Addresses (`struct sockaddr_*`) are the same for 32-bit and 64-bit programs.

pub mod control;
pub mod message;
pub mod option;

use super::Process;
use super::args::{Fd, GuestPtr, Out};
use super::errno::Errno;
use super::files;
use super::host::{self, Arg};
use super::table;

/// Room for any address (`struct sockaddr_storage`).
pub const ADDRESS_MAX: usize = 128;

/// An address that the host writes.
pub struct Address {
    bytes: [u8; ADDRESS_MAX],
    len: i32,
}

impl Address {
    /// Room for an address.
    pub fn new() -> Address {
        Address { bytes: [0; ADDRESS_MAX], len: ADDRESS_MAX as i32 }
    }

    /// Pointer and length, both to be written.
    pub fn args(&mut self) -> [Arg<'_>; 2] {
        [Arg::slice_mut(&mut self.bytes), Arg::output(&mut self.len)]
    }

    /// Writes as much as the guest has room for, and the length that the address has.
    fn write(&self, p: &Process, addr: u32, addrlen: GuestPtr<i32>) -> Result<(), Errno> {
        let memory = &p.machine.memory;
        let room = u32::try_from(addrlen.read(memory)?).map_err(|_| Errno::EINVAL)?;
        let len = (self.len as usize).min(ADDRESS_MAX);
        Out::new(addr, room).write_truncated(memory, &self.bytes[..len])?;
        addrlen.write(memory, self.len)
    }
}

impl Default for Address {
    fn default() -> Self {
        Self::new()
    }
}

/// Calls of the form `(fd, &mut address, &mut length, flags)` that give an address back; a null address is not asked
/// for.
fn with_address(
    p: &mut Process,
    addr: u32,
    addrlen: GuestPtr<i32>,
    call: impl FnOnce([Arg<'_>; 2]) -> Result<u32, Errno>,
) -> Result<u32, Errno> {
    if addr == 0 {
        return call([Arg::NULL, Arg::NULL]);
    }
    // Bad lengths are found before anything is taken off a queue.
    if addrlen.read(&p.machine.memory)? < 0 {
        return Err(Errno::EINVAL);
    }
    let mut address = Address::new();
    let result = call(address.args())?;
    address.write(p, addr, addrlen)?;
    Ok(result)
}

/// socketpair(2).
pub fn socketpair(
    p: &mut Process,
    domain: i32,
    kind: u32,
    protocol: i32,
    fds: GuestPtr<i32>,
) -> Result<u32, Errno> {
    let mut pair = [0i32; 2];
    host::call(libc::SYS_socketpair, [domain.into(), kind.into(), protocol.into(), Arg::output(&mut pair)])?;
    files::give_pair(p, fds, pair)
}

/// accept4, see accept(2).
pub fn accept4(p: &mut Process, fd: Fd, addr: u32, addrlen: GuestPtr<i32>, flags: u32) -> Result<u32, Errno> {
    with_address(p, addr, addrlen, |[addr, len]| {
        host::pass_blocking(libc::SYS_accept4, [fd.into(), addr, len, flags.into()])
    })
}

/// getsockname(2).
pub fn getsockname(p: &mut Process, fd: Fd, addr: u32, addrlen: GuestPtr<i32>) -> Result<u32, Errno> {
    name(p, libc::SYS_getsockname, fd, addr, addrlen)
}

/// getpeername(2).
pub fn getpeername(p: &mut Process, fd: Fd, addr: u32, addrlen: GuestPtr<i32>) -> Result<u32, Errno> {
    name(p, libc::SYS_getpeername, fd, addr, addrlen)
}

fn name(p: &mut Process, nr: libc::c_long, fd: Fd, addr: u32, addrlen: GuestPtr<i32>) -> Result<u32, Errno> {
    // These want to know the length even for a null address.
    if addrlen.read(&p.machine.memory)? < 0 {
        return Err(Errno::EINVAL);
    }
    let mut address = Address::new();
    let [to, len] = address.args();
    let result = host::pass(nr, [fd.into(), to, len])?;
    address.write(p, addr, addrlen)?;
    Ok(result)
}

/// recvfrom(2).
pub fn recvfrom(
    p: &mut Process,
    fd: Fd,
    buf: Out,
    flags: u32,
    addr: u32,
    addrlen: GuestPtr<i32>,
) -> Result<u32, Errno> {
    let buf = buf.host(&p.machine.memory);
    with_address(p, addr, addrlen, |[addr, len]| {
        host::pass_blocking(
            libc::SYS_recvfrom,
            [fd.into(), buf.arg(), buf.len.into(), flags.into(), addr, len],
        )
    })
}

/// The calls that `socketcall` stands for, from 1: the number of the call of its own that each has become, and how
/// many arguments are read.
const CALLS: [(&str, usize); 20] = [
    ("socket", 3),
    ("bind", 3),
    ("connect", 3),
    ("listen", 2),
    ("accept4", 3),
    ("getsockname", 3),
    ("getpeername", 3),
    ("socketpair", 4),
    ("sendto", 4),
    ("recvfrom", 4),
    ("sendto", 6),
    ("recvfrom", 6),
    ("shutdown", 2),
    ("setsockopt", 5),
    ("getsockopt", 5),
    ("sendmsg", 3),
    ("recvmsg", 3),
    ("accept4", 4),
    ("recvmmsg", 5),
    ("sendmmsg", 4),
];

/// socketcall(2). Arguments that a call of old did not have (`accept`, `send`, `recv`) are zero.
pub fn socketcall(p: &mut Process, call: i32, args: GuestPtr<u32>) -> Result<u32, Errno> {
    let index = usize::try_from(call).ok().and_then(|call| call.checked_sub(1)).ok_or(Errno::EINVAL)?;
    let (name, count) = *CALLS.get(index).ok_or(Errno::EINVAL)?;
    let given = args.read_array(&p.machine.memory, count as u32)?;
    let mut registers = [0; 6];
    registers[..count].copy_from_slice(&given);
    let row = table::SYSCALLS.iter().find(|row| row.name == name).ok_or(Errno::EINVAL)?;
    table::dispatch(p, row.nr, registers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socketcall_knows_its_calls() {
        for (name, count) in CALLS {
            let row = table::SYSCALLS.iter().find(|row| row.name == name).unwrap();
            assert!(count <= row.args.len(), "{name}");
        }
    }
}
