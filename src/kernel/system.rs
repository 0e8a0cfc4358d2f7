//! What the system calls itself, and how much of it is there.

use super::Process;
use super::abi::{OldOldUtsname, OldUtsname, Sysinfo, Utsname};
use super::args::GuestPtr;
use super::errno::Errno;
use super::host::{self, Arg};

/// The machine that is emulated, as Linux names it for 32-bit programs.
const MACHINE: &[u8] = b"i686";

/// A field of `struct utsname`, cut or padded to `N` bytes with a NUL at the end.
fn field<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let len = text.iter().position(|&b| b == 0).unwrap_or(text.len()).min(N - 1);
    bytes[..len].copy_from_slice(&text[..len]);
    bytes
}

fn names() -> Result<Utsname, Errno> {
    let mut names = Utsname::ZERO;
    host::call(libc::SYS_uname, [Arg::output(&mut names)])?;
    names.machine = field(MACHINE);
    Ok(names)
}

/// uname(2).
pub fn uname(p: &mut Process, buf: GuestPtr<Utsname>) -> Result<u32, Errno> {
    buf.write(&p.machine.memory, names()?)?;
    Ok(0)
}

/// uname(2) before there was a domain name.
pub fn olduname(p: &mut Process, buf: GuestPtr<OldUtsname>) -> Result<u32, Errno> {
    let Utsname { sysname, nodename, release, version, machine, .. } = names()?;
    buf.write(&p.machine.memory, OldUtsname { sysname, nodename, release, version, machine })?;
    Ok(0)
}

/// uname(2) with eight characters a name.
pub fn oldolduname(p: &mut Process, buf: GuestPtr<OldOldUtsname>) -> Result<u32, Errno> {
    let Utsname { sysname, nodename, release, version, machine, .. } = names()?;
    let names = OldOldUtsname {
        sysname: field(&sysname),
        nodename: field(&nodename),
        release: field(&release),
        version: field(&version),
        machine: field(&machine),
    };
    buf.write(&p.machine.memory, names)?;
    Ok(0)
}

impl Sysinfo {
    /// Sizes that need more than 32 bits are counted in units of a page instead of a byte, as Linux does it.
    fn from_host(info: &libc::sysinfo) -> Sysinfo {
        let mut unit = u64::from(info.mem_unit);
        let mut shift = 0;
        if info.totalram > u64::from(u32::MAX) || info.totalswap > u64::from(u32::MAX) {
            while unit < 4096 {
                unit <<= 1;
                shift += 1;
            }
        }
        let size = |bytes: u64| (bytes >> shift) as u32;
        Sysinfo {
            uptime: info.uptime as i32,
            loads: info.loads.map(|load| load as u32),
            totalram: size(info.totalram),
            freeram: size(info.freeram),
            sharedram: size(info.sharedram),
            bufferram: size(info.bufferram),
            totalswap: size(info.totalswap),
            freeswap: size(info.freeswap),
            procs: info.procs,
            pad: 0,
            totalhigh: size(info.totalhigh),
            freehigh: size(info.freehigh),
            mem_unit: unit as u32,
            spare: [0; 2],
        }
    }
}

/// sysinfo(2).
pub fn sysinfo(p: &mut Process, info: GuestPtr<Sysinfo>) -> Result<u32, Errno> {
    let mut host_info: libc::sysinfo = host::zeroed();
    host::call(libc::SYS_sysinfo, [Arg::output(&mut host_info)])?;
    info.write(&p.machine.memory, Sysinfo::from_host(&host_info))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_beyond_four_gigabytes_is_counted_in_pages() {
        let mut info: libc::sysinfo = host::zeroed();
        info.mem_unit = 1;
        info.totalram = 24 << 30;
        info.freeram = 1 << 30;
        let shown = Sysinfo::from_host(&info);
        assert_eq!({ shown.mem_unit }, 4096);
        assert_eq!({ shown.totalram }, (24_u64 << 30 >> 12) as u32);
        info.totalram = 2 << 30;
        info.freeram = 0;
        assert_eq!({ Sysinfo::from_host(&info).totalram }, 2 << 30);
    }

    #[test]
    fn names_are_cut_with_a_nul() {
        assert_eq!(&field::<5>(b"abcdefgh"), b"abcd\0");
        assert_eq!(&field::<5>(b"ab\0zz"), b"ab\0\0\0");
    }
}
