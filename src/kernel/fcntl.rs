//! fcntl(2): duplicating, flags, locks, owners, leases, seals.

use super::Process;
use super::abi::{Flock, Flock64, OwnerEx};
use super::args::{Fd, GuestPtr};
use super::errno::Errno;
use super::files::{self, open_flags::O_LARGEFILE};
use super::host::{self, Arg};
use crate::memory::Plain;

/// Commands as i386 numbers them; they are the same on 64-bit hosts but for the locks.
mod cmd {
    pub const F_DUPFD: u32 = 0;
    pub const F_GETFD: u32 = 1;
    pub const F_SETFD: u32 = 2;
    pub const F_GETFL: u32 = 3;
    pub const F_SETFL: u32 = 4;
    pub const F_GETLK: u32 = 5;
    pub const F_SETLK: u32 = 6;
    pub const F_SETLKW: u32 = 7;
    pub const F_SETOWN: u32 = 8;
    pub const F_GETOWN: u32 = 9;
    pub const F_SETSIG: u32 = 10;
    pub const F_GETSIG: u32 = 11;
    pub const F_GETLK64: u32 = 12;
    pub const F_SETLK64: u32 = 13;
    pub const F_SETLKW64: u32 = 14;
    pub const F_SETOWN_EX: u32 = 15;
    pub const F_GETOWN_EX: u32 = 16;
    pub const F_GETOWNER_UIDS: u32 = 17;
    pub const F_OFD_GETLK: u32 = 36;
    pub const F_OFD_SETLK: u32 = 37;
    pub const F_OFD_SETLKW: u32 = 38;
    pub const F_SETLEASE: u32 = 1024;
    pub const F_GETLEASE: u32 = 1025;
    pub const F_NOTIFY: u32 = 1026;
    pub const F_DUPFD_QUERY: u32 = 1027;
    pub const F_CREATED_QUERY: u32 = 1028;
    pub const F_CANCELLK: u32 = 1029;
    pub const F_DUPFD_CLOEXEC: u32 = 1030;
    pub const F_SETPIPE_SZ: u32 = 1031;
    pub const F_GETPIPE_SZ: u32 = 1032;
    pub const F_ADD_SEALS: u32 = 1033;
    pub const F_GET_SEALS: u32 = 1034;
    pub const F_GET_RW_HINT: u32 = 1035;
    pub const F_SET_RW_HINT: u32 = 1036;
    pub const F_GET_FILE_RW_HINT: u32 = 1037;
    pub const F_SET_FILE_RW_HINT: u32 = 1038;
}
use cmd::*;

/// A guest's lock structure of either width.
trait GuestFlock: Plain {
    fn to_host(self) -> libc::flock;
    /// `EOVERFLOW` when the start does not fit.
    fn from_host(lock: &libc::flock) -> Result<Self, Errno>;
}

impl GuestFlock for Flock {
    fn to_host(self) -> libc::flock {
        libc::flock {
            l_type: self.kind,
            l_whence: self.whence,
            l_start: self.start.into(),
            l_len: self.len.into(),
            l_pid: self.pid,
        }
    }

    fn from_host(lock: &libc::flock) -> Result<Self, Errno> {
        Ok(Flock {
            kind: lock.l_type,
            whence: lock.l_whence,
            start: i32::try_from(lock.l_start).map_err(|_| Errno::EOVERFLOW)?,
            // A lock that ends beyond 2 GiB is shown to end there, as the kernel does it.
            len: lock.l_len.min(i32::MAX.into()) as i32,
            pid: lock.l_pid,
        })
    }
}

impl GuestFlock for Flock64 {
    fn to_host(self) -> libc::flock {
        libc::flock {
            l_type: self.kind,
            l_whence: self.whence,
            l_start: self.start,
            l_len: self.len,
            l_pid: self.pid,
        }
    }

    fn from_host(lock: &libc::flock) -> Result<Self, Errno> {
        Ok(Flock64 {
            kind: lock.l_type,
            whence: lock.l_whence,
            start: lock.l_start,
            len: lock.l_len,
            pid: lock.l_pid,
        })
    }
}

fn get_lock<T: GuestFlock>(p: &Process, fd: Fd, cmd: i32, at: GuestPtr<T>) -> Result<u32, Errno> {
    let mut lock = at.read(&p.machine.memory)?.to_host();
    host::call(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::output(&mut lock)])?;
    at.write(&p.machine.memory, T::from_host(&lock)?)?;
    Ok(0)
}

fn set_lock<T: GuestFlock>(p: &Process, fd: Fd, cmd: i32, at: GuestPtr<T>) -> Result<u32, Errno> {
    let lock = at.read(&p.machine.memory)?.to_host();
    host::pass_blocking(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::input(&lock)])
}

/// fcntl(2), whose number under a 64-bit kernel does all that `fcntl64` does.
pub fn fcntl64(p: &mut Process, fd: Fd, cmd: u32, arg: u32) -> Result<u32, Errno> {
    let plain = |arg: u32| host::pass(libc::SYS_fcntl, [fd.into(), cmd.into(), arg.into()]);
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let new = plain(arg)?;
            p.files.duplicated(fd, new);
            Ok(new)
        }
        F_GETFL => {
            let flags = files::flags_to_guest(plain(0)? as i32);
            Ok(if p.files.is_small(fd) { flags & !O_LARGEFILE } else { flags })
        }
        F_SETFL => plain(files::flags_to_host(arg) as u32),
        F_GETLK => get_lock(p, fd, libc::F_GETLK, GuestPtr::<Flock>::new(arg)),
        F_SETLK => set_lock(p, fd, libc::F_SETLK, GuestPtr::<Flock>::new(arg)),
        F_SETLKW => set_lock(p, fd, libc::F_SETLKW, GuestPtr::<Flock>::new(arg)),
        F_GETLK64 => get_lock(p, fd, libc::F_GETLK, GuestPtr::<Flock64>::new(arg)),
        F_SETLK64 => set_lock(p, fd, libc::F_SETLK, GuestPtr::<Flock64>::new(arg)),
        F_SETLKW64 => set_lock(p, fd, libc::F_SETLKW, GuestPtr::<Flock64>::new(arg)),
        F_OFD_GETLK => get_lock(p, fd, libc::F_OFD_GETLK, GuestPtr::<Flock64>::new(arg)),
        F_OFD_SETLK => set_lock(p, fd, libc::F_OFD_SETLK, GuestPtr::<Flock64>::new(arg)),
        F_OFD_SETLKW => set_lock(p, fd, libc::F_OFD_SETLKW, GuestPtr::<Flock64>::new(arg)),
        F_SETOWN_EX => {
            let owner = GuestPtr::<OwnerEx>::new(arg).read(&p.machine.memory)?;
            host::pass(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::input(&owner)])
        }
        F_GETOWN_EX => {
            let mut owner = OwnerEx::ZERO;
            host::call(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::output(&mut owner)])?;
            GuestPtr::new(arg).write(&p.machine.memory, owner)?;
            Ok(0)
        }
        F_GETOWNER_UIDS => {
            let mut uids = [0u32; 2];
            host::call(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::output(&mut uids)])?;
            GuestPtr::new(arg).write(&p.machine.memory, uids)?;
            Ok(0)
        }
        F_GET_RW_HINT | F_GET_FILE_RW_HINT => {
            let mut hint = 0u64;
            host::call(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::output(&mut hint)])?;
            GuestPtr::new(arg).write(&p.machine.memory, hint)?;
            Ok(0)
        }
        F_SET_RW_HINT | F_SET_FILE_RW_HINT => {
            let hint = GuestPtr::<u64>::new(arg).read(&p.machine.memory)?;
            host::pass(libc::SYS_fcntl, [fd.into(), cmd.into(), Arg::input(&hint)])
        }
        F_SETOWN => {
            // Negative: a process group.
            host::pass(libc::SYS_fcntl, [fd.into(), cmd.into(), (arg as i32).into()])
        }
        F_DUPFD_QUERY => host::pass(libc::SYS_fcntl, [fd.into(), cmd.into(), Fd::new(arg).into()]),
        F_GETFD | F_SETFD | F_GETOWN | F_SETSIG | F_GETSIG | F_SETLEASE | F_GETLEASE | F_NOTIFY
        | F_CREATED_QUERY | F_CANCELLK | F_SETPIPE_SZ | F_GETPIPE_SZ | F_ADD_SEALS | F_GET_SEALS => {
            plain(arg)
        }
        _ => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_beyond_two_gigabytes_overflows() {
        let lock = |l_start, l_len| libc::flock { l_type: 1, l_whence: 0, l_start, l_len, l_pid: 5 };
        assert_eq!(Flock::from_host(&lock(1 << 31, 1)), Err(Errno::EOVERFLOW));
        let shown = Flock::from_host(&lock(10, 1 << 40)).unwrap();
        assert_eq!({ shown.len }, i32::MAX);
        let back = Flock { kind: 0, whence: 1, start: -5, len: -1, pid: 0 }.to_host();
        assert_eq!((back.l_start, back.l_len, back.l_whence), (-5, -1, 1));
    }
}
