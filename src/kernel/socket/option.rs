//! getsockopt(2) and setsockopt(2). Most values are integers and structures that are the same everywhere; those that
//! are not are converted here.

use crate::kernel::Process;
use crate::kernel::abi::{SockFprog, Timeval};
use crate::kernel::args::{Fd, GuestPtr, In, Out};
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};

/// `SOL_SOCKET` options that the C library's headers do not all have.
const SO_RCVTIMEO_OLD: i32 = 20;
const SO_SNDTIMEO_OLD: i32 = 21;
const SO_ATTACH_FILTER: i32 = 26;
const SO_ATTACH_REUSEPORT_CBPF: i32 = 51;
/// `IPPROTO_IP` and `IPPROTO_IPV6` options whose structures begin with an index and a `sockaddr_storage`, which is
/// aligned to eight bytes on the host.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_LEAVE_SOURCE_GROUP: i32 = 47;
const MCAST_MSFILTER: i32 = 48;
/// Longest filter program (`BPF_MAXINSNS`).
const FILTER_MAX: u16 = 4096;
/// Longest value that is handed over; the kernel's options are shorter but for iptables'.
const VALUE_MAX: u32 = 1 << 20;

/// The host's `struct sock_fprog`.
#[repr(C)]
struct HostFprog {
    len: usize,
    filter: usize,
}

/// What an option's value is.
#[derive(PartialEq, Eq)]
enum Kind {
    /// The same bytes.
    Plain,
    /// A timeval of two 32-bit words.
    Timeval,
    /// A filter program.
    Filter,
    /// `struct group_req` or `group_source_req`.
    Group,
    /// A structure with another layout that is not supported.
    Unknown,
}

fn kind(level: i32, name: i32) -> Kind {
    match (level, name) {
        (libc::SOL_SOCKET, SO_RCVTIMEO_OLD | SO_SNDTIMEO_OLD) => Kind::Timeval,
        (libc::SOL_SOCKET, SO_ATTACH_FILTER | SO_ATTACH_REUSEPORT_CBPF) => Kind::Filter,
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_JOIN_GROUP..=MCAST_LEAVE_SOURCE_GROUP) => Kind::Group,
        (libc::IPPROTO_IP | libc::IPPROTO_IPV6, MCAST_MSFILTER) => Kind::Unknown,
        _ => Kind::Plain,
    }
}

fn unknown(p: &mut Process, level: i32, name: i32) -> Errno {
    p.say_once(&format!("sockopt {level} {name}"), || {
        format!("socket option {name} of level {level} is not known; -ENOPROTOOPT")
    });
    Errno::ENOPROTOOPT
}

/// setsockopt(2).
pub fn setsockopt(p: &mut Process, fd: Fd, level: i32, name: i32, value: In) -> Result<u32, Errno> {
    let set = |value: Arg<'_>, len: usize| {
        host::pass(libc::SYS_setsockopt, [fd.into(), level.into(), name.into(), value, len.into()])
    };
    let memory = &p.machine.memory;
    // Lengths are signed.
    if value.len > i32::MAX as u32 {
        return Err(Errno::EINVAL);
    }
    match kind(level, name) {
        Kind::Plain => {
            let buf = value.host(memory);
            set(buf.arg(), buf.len)
        }
        Kind::Timeval => {
            if (value.len as usize) < size_of::<Timeval>() {
                return Err(Errno::EINVAL);
            }
            let time = memory.read::<Timeval>(value.addr)?.to_host();
            set(Arg::input(&time), size_of_val(&time))
        }
        Kind::Filter => {
            if value.len as usize != size_of::<SockFprog>() {
                return Err(Errno::EINVAL);
            }
            let program = memory.read::<SockFprog>(value.addr)?;
            if program.len > FILTER_MAX {
                return Err(Errno::EINVAL);
            }
            // An instruction is eight bytes without pointers.
            let filter = In::new(program.filter, u32::from(program.len) * 8).read(memory)?;
            let program = HostFprog { len: program.len.into(), filter: filter.as_ptr() as usize };
            set(Arg::input(&program), size_of_val(&program))
        }
        Kind::Group => {
            let bytes = In::new(value.addr, value.len.min(VALUE_MAX)).read(memory)?;
            if bytes.len() < 4 {
                return Err(Errno::EINVAL);
            }
            let mut wide = bytes[..4].to_vec();
            wide.resize(8, 0);
            wide.extend_from_slice(&bytes[4..]);
            set(Arg::slice(&wide), wide.len())
        }
        Kind::Unknown => Err(unknown(p, level, name)),
    }
}

/// getsockopt(2).
pub fn getsockopt(
    p: &mut Process,
    fd: Fd,
    level: i32,
    name: i32,
    value: u32,
    len: GuestPtr<i32>,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let room = u32::try_from(len.read(memory)?).map_err(|_| Errno::EINVAL)?;
    let get = |value: Arg<'_>, len: &mut i32| {
        host::pass(libc::SYS_getsockopt, [fd.into(), level.into(), name.into(), value, Arg::output(len)])
    };
    match kind(level, name) {
        Kind::Timeval => {
            let mut time: libc::timeval = host::zeroed();
            let mut host_len = size_of_val(&time) as i32;
            let result = get(Arg::output(&mut time), &mut host_len)?;
            let narrow = Timeval::from_host(time);
            let bytes = crate::memory::bytes_of(&narrow);
            let written = Out::new(value, room).write_truncated(memory, bytes)?;
            len.write(memory, written as i32)?;
            Ok(result)
        }
        Kind::Unknown => Err(unknown(p, level, name)),
        Kind::Plain | Kind::Filter | Kind::Group => {
            let buf = Out::new(value, room.min(VALUE_MAX)).host(memory);
            let mut host_len = buf.len as i32;
            let result = get(buf.arg(), &mut host_len)?;
            len.write(memory, host_len)?;
            Ok(result)
        }
    }
}
