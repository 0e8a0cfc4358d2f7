//! ioctl(2): a table of requests with what their argument is.
//!
//! Only requests in the table reach the host, since a structure may contain pointers or have another layout. What is
//! not there is `ENOTTY`, said once.

use super::Process;
use super::args::{Fd, GuestPtr, Out};
use super::errno::Errno;
use super::host::{self, Arg};

/// What a request's argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing or a number.
    Value,
    /// A descriptor.
    Descriptor,
    /// A pointer to this many bytes, the same on the host; read, written or both.
    Bytes(u32),
    /// A pointer to four bytes for a request that the host numbers as one with a `long`, though it too transfers
    /// four bytes.
    LongInName,
    /// A pointer to a `long` that the host writes.
    LongOut,
    /// `struct ifreq`, 32 bytes; 40 on the host.
    Ifreq,
    /// `struct ifconf`, which has a pointer to an array of `struct ifreq`.
    Ifconf,
    /// A time of the last packet: a `timeval` or a `timespec` of `long`s that the host writes.
    Stamp,
}
use Kind::{Bytes, Descriptor, Ifconf, Ifreq, LongInName, LongOut, Stamp, Value};

/// Requests by number, with their names in the kernel's headers.
const REQUESTS: &[(u32, &str, Kind)] = &[
    (0x0000_0001, "FIBMAP", Bytes(4)),
    (0x0000_0002, "FIGETBSZ", Bytes(4)),
    (0x0000_125d, "BLKROSET", Bytes(4)),
    (0x0000_125e, "BLKROGET", Bytes(4)),
    (0x0000_125f, "BLKRRPART", Value),
    (0x0000_1260, "BLKGETSIZE", LongOut),
    (0x0000_1261, "BLKFLSBUF", Value),
    (0x0000_1263, "BLKRAGET", LongOut),
    (0x0000_1268, "BLKSSZGET", Bytes(4)),
    (0x0000_1277, "BLKDISCARD", Bytes(16)),
    (0x0000_1278, "BLKIOMIN", Bytes(4)),
    (0x0000_1279, "BLKIOOPT", Bytes(4)),
    (0x0000_127a, "BLKALIGNOFF", Bytes(4)),
    (0x0000_127b, "BLKPBSZGET", Bytes(4)),
    (0x0000_127c, "BLKDISCARDZEROES", Bytes(4)),
    (0x0000_127e, "BLKROTATIONAL", Bytes(2)),
    (0x0000_127f, "BLKZEROOUT", Bytes(16)),
    (0x0000_4b31, "KDGETLED", Bytes(1)),
    (0x0000_4b32, "KDSETLED", Value),
    (0x0000_4b33, "KDGKBTYPE", Bytes(1)),
    (0x0000_4b3a, "KDSETMODE", Value),
    (0x0000_4b3b, "KDGETMODE", Bytes(4)),
    (0x0000_4b44, "KDGKBMODE", Bytes(4)),
    (0x0000_4b45, "KDSKBMODE", Value),
    (0x0000_4b62, "KDGKBMETA", Bytes(4)),
    (0x0000_4b63, "KDSKBMETA", Value),
    (0x0000_4c00, "LOOP_SET_FD", Descriptor),
    (0x0000_4c01, "LOOP_CLR_FD", Value),
    (0x0000_4c04, "LOOP_SET_STATUS64", Bytes(232)),
    (0x0000_4c05, "LOOP_GET_STATUS64", Bytes(232)),
    (0x0000_4c82, "LOOP_CTL_GET_FREE", Value),
    (0x0000_5401, "TCGETS", Bytes(36)),
    (0x0000_5402, "TCSETS", Bytes(36)),
    (0x0000_5403, "TCSETSW", Bytes(36)),
    (0x0000_5404, "TCSETSF", Bytes(36)),
    (0x0000_5405, "TCGETA", Bytes(18)),
    (0x0000_5406, "TCSETA", Bytes(18)),
    (0x0000_5407, "TCSETAW", Bytes(18)),
    (0x0000_5408, "TCSETAF", Bytes(18)),
    (0x0000_5409, "TCSBRK", Value),
    (0x0000_540a, "TCXONC", Value),
    (0x0000_540b, "TCFLSH", Value),
    (0x0000_540c, "TIOCEXCL", Value),
    (0x0000_540d, "TIOCNXCL", Value),
    (0x0000_540e, "TIOCSCTTY", Value),
    (0x0000_540f, "TIOCGPGRP", Bytes(4)),
    (0x0000_5410, "TIOCSPGRP", Bytes(4)),
    (0x0000_5411, "TIOCOUTQ", Bytes(4)),
    (0x0000_5412, "TIOCSTI", Bytes(1)),
    (0x0000_5413, "TIOCGWINSZ", Bytes(8)),
    (0x0000_5414, "TIOCSWINSZ", Bytes(8)),
    (0x0000_5415, "TIOCMGET", Bytes(4)),
    (0x0000_5416, "TIOCMBIS", Bytes(4)),
    (0x0000_5417, "TIOCMBIC", Bytes(4)),
    (0x0000_5418, "TIOCMSET", Bytes(4)),
    (0x0000_5419, "TIOCGSOFTCAR", Bytes(4)),
    (0x0000_541a, "TIOCSSOFTCAR", Bytes(4)),
    (0x0000_541b, "FIONREAD", Bytes(4)),
    (0x0000_541d, "TIOCCONS", Value),
    (0x0000_5420, "TIOCPKT", Bytes(4)),
    (0x0000_5421, "FIONBIO", Bytes(4)),
    (0x0000_5422, "TIOCNOTTY", Value),
    (0x0000_5423, "TIOCSETD", Bytes(4)),
    (0x0000_5424, "TIOCGETD", Bytes(4)),
    (0x0000_5425, "TCSBRKP", Value),
    (0x0000_5427, "TIOCSBRK", Value),
    (0x0000_5428, "TIOCCBRK", Value),
    (0x0000_5429, "TIOCGSID", Bytes(4)),
    (0x0000_5437, "TIOCVHANGUP", Value),
    (0x0000_5441, "TIOCGPTPEER", Value),
    (0x0000_5450, "FIONCLEX", Value),
    (0x0000_5451, "FIOCLEX", Value),
    (0x0000_5452, "FIOASYNC", Bytes(4)),
    (0x0000_5456, "TIOCGLCKTRMIOS", Bytes(36)),
    (0x0000_5457, "TIOCSLCKTRMIOS", Bytes(36)),
    (0x0000_545c, "TIOCMIWAIT", Value),
    (0x0000_545d, "TIOCGICOUNT", Bytes(80)),
    (0x0000_5460, "FIOQSIZE", Bytes(8)),
    (0x0000_5600, "VT_OPENQRY", Bytes(4)),
    (0x0000_5601, "VT_GETMODE", Bytes(8)),
    (0x0000_5602, "VT_SETMODE", Bytes(8)),
    (0x0000_5603, "VT_GETSTATE", Bytes(6)),
    (0x0000_5605, "VT_RELDISP", Value),
    (0x0000_5606, "VT_ACTIVATE", Value),
    (0x0000_5607, "VT_WAITACTIVE", Value),
    (0x0000_5608, "VT_DISALLOCATE", Value),
    (0x0000_8901, "FIOSETOWN", Bytes(4)),
    (0x0000_8902, "SIOCSPGRP", Bytes(4)),
    (0x0000_8903, "FIOGETOWN", Bytes(4)),
    (0x0000_8904, "SIOCGPGRP", Bytes(4)),
    (0x0000_8905, "SIOCATMARK", Bytes(4)),
    (0x0000_8906, "SIOCGSTAMP", Stamp),
    (0x0000_8907, "SIOCGSTAMPNS", Stamp),
    (0x0000_8910, "SIOCGIFNAME", Ifreq),
    (0x0000_8912, "SIOCGIFCONF", Ifconf),
    (0x0000_8913, "SIOCGIFFLAGS", Ifreq),
    (0x0000_8914, "SIOCSIFFLAGS", Ifreq),
    (0x0000_8915, "SIOCGIFADDR", Ifreq),
    (0x0000_8916, "SIOCSIFADDR", Ifreq),
    (0x0000_8917, "SIOCGIFDSTADDR", Ifreq),
    (0x0000_8918, "SIOCSIFDSTADDR", Ifreq),
    (0x0000_8919, "SIOCGIFBRDADDR", Ifreq),
    (0x0000_891a, "SIOCSIFBRDADDR", Ifreq),
    (0x0000_891b, "SIOCGIFNETMASK", Ifreq),
    (0x0000_891c, "SIOCSIFNETMASK", Ifreq),
    (0x0000_891d, "SIOCGIFMETRIC", Ifreq),
    (0x0000_891e, "SIOCSIFMETRIC", Ifreq),
    (0x0000_8921, "SIOCGIFMTU", Ifreq),
    (0x0000_8922, "SIOCSIFMTU", Ifreq),
    (0x0000_8923, "SIOCSIFNAME", Ifreq),
    (0x0000_8924, "SIOCSIFHWADDR", Ifreq),
    (0x0000_8927, "SIOCGIFHWADDR", Ifreq),
    (0x0000_8929, "SIOCGIFSLAVE", Ifreq),
    (0x0000_8931, "SIOCADDMULTI", Ifreq),
    (0x0000_8932, "SIOCDELMULTI", Ifreq),
    (0x0000_8933, "SIOCGIFINDEX", Ifreq),
    (0x0000_8934, "SIOCSIFPFLAGS", Ifreq),
    (0x0000_8935, "SIOCGIFPFLAGS", Ifreq),
    (0x0000_8942, "SIOCGIFTXQLEN", Ifreq),
    (0x0000_8943, "SIOCSIFTXQLEN", Ifreq),
    (0x0000_894b, "SIOCOUTQNSD", Bytes(4)),
    (0x0000_894c, "SIOCGSKNS", Value),
    (0x0000_8953, "SIOCDARP", Bytes(68)),
    (0x0000_8954, "SIOCGARP", Bytes(68)),
    (0x0000_8955, "SIOCSARP", Bytes(68)),
    (0x0000_b701, "NS_GET_USERNS", Value),
    (0x0000_b702, "NS_GET_PARENT", Value),
    (0x0000_b703, "NS_GET_NSTYPE", Value),
    (0x0000_b704, "NS_GET_OWNER_UID", Bytes(4)),
    (0x4004_5431, "TIOCSPTLCK", Bytes(4)),
    (0x4004_5436, "TIOCSIG", Value),
    (0x4004_54ca, "TUNSETIFF", Ifreq),
    (0x4004_54cb, "TUNSETPERSIST", Value),
    (0x4004_54cc, "TUNSETOWNER", Value),
    (0x4004_54ce, "TUNSETGROUP", Value),
    (0x4004_6602, "FS_IOC_SETFLAGS", LongInName),
    (0x4004_7602, "FS_IOC_SETVERSION", LongInName),
    (0x4004_9409, "FICLONE", Descriptor),
    (0x401c_5820, "FS_IOC_FSSETXATTR", Bytes(28)),
    (0x4020_940d, "FICLONERANGE", Bytes(32)),
    (0x402c_542b, "TCSETS2", Bytes(44)),
    (0x402c_542c, "TCSETSW2", Bytes(44)),
    (0x402c_542d, "TCSETSF2", Bytes(44)),
    (0x4100_9432, "FS_IOC_SETFSLABEL", Bytes(256)),
    (0x8004_1270, "BLKBSZGET", LongInName),
    (0x8004_1272, "BLKGETSIZE64", LongInName),
    (0x8004_5200, "RNDGETENTCNT", Bytes(4)),
    (0x8004_5430, "TIOCGPTN", Bytes(4)),
    (0x8004_5432, "TIOCGDEV", Bytes(4)),
    (0x8004_5438, "TIOCGPKT", Bytes(4)),
    (0x8004_5439, "TIOCGPTLCK", Bytes(4)),
    (0x8004_5440, "TIOCGEXCL", Bytes(4)),
    (0x8004_54cf, "TUNGETFEATURES", Bytes(4)),
    (0x8004_54d2, "TUNGETIFF", Ifreq),
    (0x8004_6601, "FS_IOC_GETFLAGS", LongInName),
    (0x8004_7601, "FS_IOC_GETVERSION", LongInName),
    (0x801c_581f, "FS_IOC_FSGETXATTR", Bytes(28)),
    (0x802c_542a, "TCGETS2", Bytes(44)),
    (0x8100_9431, "FS_IOC_GETFSLABEL", Bytes(256)),
    (0xc004_5877, "FIFREEZE", Value),
    (0xc004_5878, "FITHAW", Value),
    (0xc018_5879, "FITRIM", Bytes(24)),
    (0xc018_9436, "FIDEDUPERANGE", Bytes(24)),
    (0xc020_660b, "FS_IOC_FIEMAP", Bytes(32)),
];

/// Bytes of i386's `struct ifreq`; the host's has eight more at its end.
const IFREQ: usize = 32;
const HOST_IFREQ: usize = 40;
/// A request's size field counts in units of this, when the request says how long its structure is.
const SIZE_UNIT: u32 = 1 << 16;

/// The name of a request, for strace.
pub fn name(request: u32) -> Option<&'static str> {
    find(request).map(|(_, name, _)| *name)
}

fn find(request: u32) -> Option<&'static (u32, &'static str, Kind)> {
    REQUESTS.binary_search_by_key(&request, |row| row.0).ok().map(|index| &REQUESTS[index])
}

/// ioctl(2).
pub fn ioctl(p: &mut Process, fd: Fd, request: u32, arg: u32) -> Result<u32, Errno> {
    let Some(&(_, _, kind)) = find(request) else {
        // A bad descriptor is its own error.
        host::call(libc::SYS_fcntl, [fd.into(), libc::F_GETFD.into()])?;
        p.say_once(&format!("ioctl {request:#x}"), || {
            format!("ioctl request {request:#010x} is not known; -ENOTTY")
        });
        return Err(Errno::ENOTTY);
    };
    let memory = &p.machine.memory;
    let ioctl =
        |request: u32, arg: Arg<'_>| host::pass_blocking(libc::SYS_ioctl, [fd.into(), request.into(), arg]);
    match kind {
        Value => ioctl(request, arg.into()),
        Descriptor => ioctl(request, Fd::new(arg).into()),
        Bytes(len) => ioctl(request, Out::new(arg, len).host(memory).arg()),
        LongInName => {
            let len = if request == 0x8004_1272 { 8 } else { 4 };
            ioctl(request + 4 * SIZE_UNIT, Out::new(arg, len).host(memory).arg())
        }
        LongOut => {
            let mut value = 0u64;
            let result = ioctl(request, Arg::output(&mut value))?;
            let value = u32::try_from(value).map_err(|_| Errno::EFBIG)?;
            GuestPtr::new(arg).write(memory, value)?;
            Ok(result)
        }
        Ifreq => {
            let mut bytes = [0u8; HOST_IFREQ];
            memory.read_bytes(arg, &mut bytes[..IFREQ])?;
            let result = ioctl(request, Arg::slice_mut(&mut bytes))?;
            memory.write_bytes(arg, &bytes[..IFREQ])?;
            Ok(result)
        }
        Ifconf => interfaces(p, fd, request, arg),
        Stamp => {
            let mut time = [0i64; 2];
            let result = ioctl(request, Arg::output(&mut time))?;
            GuestPtr::new(arg).write(memory, time.map(|part| part as u32))?;
            Ok(result)
        }
    }
}

/// The host's `struct ifconf`.
#[repr(C)]
struct HostIfconf {
    len: i32,
    pad: i32,
    list: usize,
}

/// SIOCGIFCONF: the addresses of all interfaces, or, for a null array, how many bytes they need.
fn interfaces(p: &Process, fd: Fd, request: u32, arg: u32) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let [len, list] = GuestPtr::<[u32; 2]>::new(arg).read(memory)?;
    let count = if list == 0 { 0 } else { len as usize / IFREQ };
    // More interfaces than this nobody has; the host allocates nothing by the length.
    let mut entries = vec![0u8; count.min(1 << 16) * HOST_IFREQ];
    let list_start = if list == 0 { 0 } else { entries.as_mut_ptr() as usize };
    let mut conf = HostIfconf { len: entries.len() as i32, pad: 0, list: list_start };
    let result = host::pass(libc::SYS_ioctl, [fd.into(), request.into(), Arg::output(&mut conf)])?;
    let found = conf.len as usize / HOST_IFREQ;
    if list != 0 {
        for (entry, index) in entries.chunks_exact(HOST_IFREQ).take(found).zip(0u32..) {
            memory.write_bytes(list.wrapping_add(index * IFREQ as u32), &entry[..IFREQ])?;
        }
    }
    GuestPtr::new(arg).write(memory, (found * IFREQ) as u32)?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_order_and_sizes_agree_with_their_numbers() {
        assert!(REQUESTS.is_sorted_by(|a, b| a.0 < b.0));
        for &(request, name, kind) in REQUESTS {
            let encoded = (request / SIZE_UNIT) & 0x3fff;
            if let Bytes(len) = kind
                && encoded != 0
            {
                assert_eq!(len, encoded, "{name}");
            }
        }
    }

    #[test]
    fn requests_are_numbered_as_on_the_host() {
        assert_eq!(name(libc::TCGETS as u32), Some("TCGETS"));
        assert_eq!(name(libc::TIOCGWINSZ as u32), Some("TIOCGWINSZ"));
        assert_eq!(name(libc::FIONREAD as u32), Some("FIONREAD"));
        assert_eq!(name(libc::TIOCSPTLCK as u32), Some("TIOCSPTLCK"));
        assert_eq!(name(libc::FS_IOC32_GETFLAGS as u32), Some("FS_IOC_GETFLAGS"));
        assert_eq!(name(0xdead_beef), None);
    }
}
