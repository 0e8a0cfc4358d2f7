//! `siginfo_t`, between the host's 64-bit layout and the guest's 32-bit one (sigaction(2), "The siginfo_t argument").

/// Size of `siginfo_t` on either side, in bytes.
pub const SIZE: usize = 128;

/// Sent by `kill`.
pub const SI_USER: i32 = 0;
/// Sent by the kernel.
pub const SI_KERNEL: i32 = 0x80;
/// A POSIX timer.
pub const SI_TIMER: i32 = -2;
/// Queued `SIGIO`.
pub const SI_SIGIO: i32 = -5;
/// Sent by `tkill` or `tgkill`.
pub const SI_TKILL: i32 = -6;

/// What happened, in neither layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The signal, 1 to 64.
    pub signal: i32,
    /// `si_errno`.
    pub errno: i32,
    /// `si_code`.
    pub code: i32,
    /// What the code says there is.
    pub fields: Fields,
}

/// The part of `siginfo_t` that depends on signal and code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fields {
    Kill { pid: i32, uid: u32 },
    Timer { id: i32, overrun: i32, value: u64 },
    Queued { pid: i32, uid: u32, value: u64 },
    Child { pid: i32, uid: u32, status: i32, utime: i64, stime: i64 },
    Fault { addr: u64, lsb: u16 },
    Poll { band: i64, fd: i32 },
    Syscall { addr: u64, nr: i32, arch: u32 },
}

/// Which variant of [`Fields`] a signal with a code has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Kill,
    Timer,
    Queued,
    Child,
    Fault,
    Poll,
    Syscall,
}

fn layout(signal: i32, code: i32) -> Layout {
    if code > SI_USER && code < SI_KERNEL {
        return match signal {
            libc::SIGILL | libc::SIGFPE | libc::SIGSEGV | libc::SIGBUS | libc::SIGTRAP => Layout::Fault,
            libc::SIGCHLD => Layout::Child,
            libc::SIGIO => Layout::Poll,
            libc::SIGSYS => Layout::Syscall,
            _ if (1..=6).contains(&code) => Layout::Poll,
            _ => Layout::Kill,
        };
    }
    match code {
        SI_TIMER => Layout::Timer,
        SI_SIGIO => Layout::Poll,
        _ if code < 0 => Layout::Queued,
        _ => Layout::Kill,
    }
}

/// Reads numbers at byte offsets.
struct Raw<'a>(&'a [u8; SIZE]);

impl Raw<'_> {
    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
    fn i32(&self, at: usize) -> i32 {
        self.u32(at) as i32
    }
    fn u64(&self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }
}

/// Writes numbers at byte offsets.
struct Image([u8; SIZE]);

impl Image {
    fn u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    fn i32(&mut self, at: usize, value: i32) {
        self.u32(at, value as u32);
    }
    fn u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
}

impl Info {
    /// A signal that the kernel raised by itself, without an address: `SI_KERNEL`.
    pub fn kernel(signal: i32) -> Info {
        Info { signal, errno: 0, code: SI_KERNEL, fields: Fields::Kill { pid: 0, uid: 0 } }
    }

    /// An exception's signal.
    pub fn fault(signal: i32, code: i32, addr: u32) -> Info {
        Info { signal, errno: 0, code, fields: Fields::Fault { addr: addr.into(), lsb: 0 } }
    }

    /// Reads the layout of 64-bit hosts.
    pub fn from_host(bytes: &[u8; SIZE]) -> Info {
        let raw = Raw(bytes);
        let (signal, errno, code) = (raw.i32(0), raw.i32(4), raw.i32(8));
        let fields = match layout(signal, code) {
            Layout::Kill => Fields::Kill { pid: raw.i32(16), uid: raw.u32(20) },
            Layout::Timer => Fields::Timer { id: raw.i32(16), overrun: raw.i32(20), value: raw.u64(24) },
            Layout::Queued => Fields::Queued { pid: raw.i32(16), uid: raw.u32(20), value: raw.u64(24) },
            Layout::Child => Fields::Child {
                pid: raw.i32(16),
                uid: raw.u32(20),
                status: raw.i32(24),
                utime: raw.u64(32) as i64,
                stime: raw.u64(40) as i64,
            },
            Layout::Fault => Fields::Fault { addr: raw.u64(16), lsb: raw.u32(24) as u16 },
            Layout::Poll => Fields::Poll { band: raw.u64(16) as i64, fd: raw.i32(24) },
            Layout::Syscall => Fields::Syscall { addr: raw.u64(16), nr: raw.i32(24), arch: raw.u32(28) },
        };
        Info { signal, errno, code, fields }
    }

    /// Writes the layout of 64-bit hosts.
    pub fn to_host(&self) -> [u8; SIZE] {
        let mut image = Image([0; SIZE]);
        self.head(&mut image);
        match self.fields {
            Fields::Kill { pid, uid } => {
                image.i32(16, pid);
                image.u32(20, uid);
            }
            Fields::Timer { id, overrun, value } => {
                image.i32(16, id);
                image.i32(20, overrun);
                image.u64(24, value);
            }
            Fields::Queued { pid, uid, value } => {
                image.i32(16, pid);
                image.u32(20, uid);
                image.u64(24, value);
            }
            Fields::Child { pid, uid, status, utime, stime } => {
                image.i32(16, pid);
                image.u32(20, uid);
                image.i32(24, status);
                image.u64(32, utime as u64);
                image.u64(40, stime as u64);
            }
            Fields::Fault { addr, lsb } => {
                image.u64(16, addr);
                image.u32(24, lsb.into());
            }
            Fields::Poll { band, fd } => {
                image.u64(16, band as u64);
                image.i32(24, fd);
            }
            Fields::Syscall { addr, nr, arch } => {
                image.u64(16, addr);
                image.i32(24, nr);
                image.u32(28, arch);
            }
        }
        image.0
    }

    /// Reads the guest's layout.
    pub fn from_guest(bytes: &[u8; SIZE]) -> Info {
        let raw = Raw(bytes);
        let (signal, errno, code) = (raw.i32(0), raw.i32(4), raw.i32(8));
        let fields = match layout(signal, code) {
            Layout::Kill => Fields::Kill { pid: raw.i32(12), uid: raw.u32(16) },
            Layout::Timer => {
                Fields::Timer { id: raw.i32(12), overrun: raw.i32(16), value: raw.u32(20).into() }
            }
            Layout::Queued => {
                Fields::Queued { pid: raw.i32(12), uid: raw.u32(16), value: raw.u32(20).into() }
            }
            Layout::Child => Fields::Child {
                pid: raw.i32(12),
                uid: raw.u32(16),
                status: raw.i32(20),
                utime: raw.i32(24).into(),
                stime: raw.i32(28).into(),
            },
            Layout::Fault => Fields::Fault { addr: raw.u32(12).into(), lsb: raw.u32(16) as u16 },
            Layout::Poll => Fields::Poll { band: raw.i32(12).into(), fd: raw.i32(16) },
            Layout::Syscall => {
                Fields::Syscall { addr: raw.u32(12).into(), nr: raw.i32(16), arch: raw.u32(20) }
            }
        };
        Info { signal, errno, code, fields }
    }

    /// Writes the guest's layout. Addresses, values and times keep their low 32 bits.
    pub fn to_guest(&self) -> [u8; SIZE] {
        let mut image = Image([0; SIZE]);
        self.head(&mut image);
        match self.fields {
            Fields::Kill { pid, uid } => {
                image.i32(12, pid);
                image.u32(16, uid);
            }
            Fields::Timer { id, overrun, value } => {
                image.i32(12, id);
                image.i32(16, overrun);
                image.u32(20, value as u32);
            }
            Fields::Queued { pid, uid, value } => {
                image.i32(12, pid);
                image.u32(16, uid);
                image.u32(20, value as u32);
            }
            Fields::Child { pid, uid, status, utime, stime } => {
                image.i32(12, pid);
                image.u32(16, uid);
                image.i32(20, status);
                image.i32(24, utime as i32);
                image.i32(28, stime as i32);
            }
            Fields::Fault { addr, lsb } => {
                image.u32(12, addr as u32);
                image.u32(16, lsb.into());
            }
            Fields::Poll { band, fd } => {
                image.i32(12, band as i32);
                image.i32(16, fd);
            }
            Fields::Syscall { addr, nr, arch } => {
                image.u32(12, addr as u32);
                image.i32(16, nr);
                image.u32(20, arch);
            }
        }
        image.0
    }

    fn head(&self, image: &mut Image) {
        image.i32(0, self.signal);
        image.i32(4, self.errno);
        image.i32(8, self.code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    const SAMPLES: &[Info] = &[
        Info { signal: libc::SIGUSR1, errno: 0, code: SI_USER, fields: Fields::Kill { pid: 7, uid: 1000 } },
        Info {
            signal: 34,
            errno: 0,
            code: -1,
            fields: Fields::Queued { pid: 7, uid: 1000, value: 0x89ab_cdef },
        },
        Info {
            signal: libc::SIGALRM,
            errno: 0,
            code: SI_TIMER,
            fields: Fields::Timer { id: 3, overrun: 2, value: 77 },
        },
        Info {
            signal: libc::SIGCHLD,
            errno: 0,
            code: libc::CLD_EXITED,
            fields: Fields::Child { pid: 9, uid: 0, status: 3, utime: 11, stime: 12 },
        },
        Info {
            signal: libc::SIGSEGV,
            errno: 0,
            code: 2,
            fields: Fields::Fault { addr: 0xffff_f000, lsb: 0 },
        },
        Info { signal: libc::SIGIO, errno: 0, code: 1, fields: Fields::Poll { band: 0x41, fd: 5 } },
        Info {
            signal: libc::SIGSYS,
            errno: 38,
            code: 1,
            fields: Fields::Syscall { addr: 0x1000, nr: 4, arch: 0x4000_0003 },
        },
        Info { signal: libc::SIGSEGV, errno: 0, code: SI_KERNEL, fields: Fields::Kill { pid: 0, uid: 0 } },
    ];

    #[test]
    fn each_kind_survives_both_layouts() {
        for info in SAMPLES {
            assert_eq!(Info::from_host(&info.to_host()), *info);
            assert_eq!(Info::from_guest(&info.to_guest()), *info);
        }
    }

    #[test]
    fn the_hosts_head_is_libcs() {
        assert_eq!(size_of::<libc::siginfo_t>(), SIZE);
        assert_eq!(offset_of!(libc::siginfo_t, si_signo), 0);
        assert_eq!(offset_of!(libc::siginfo_t, si_errno), 4);
        assert_eq!(offset_of!(libc::siginfo_t, si_code), 8);
    }
}
