//! Times: 32-bit ones, and those of the `time64` calls.

use super::guest_structs;
use crate::memory::Plain;

guest_structs! {
    /// `struct old_timespec32`.
    struct Timespec: 8 {
        sec: i32,
        nsec: i32,
    }

    /// `struct __kernel_timespec`.
    struct Timespec64: 16 {
        sec: i64,
        nsec: i64,
    }

    /// `struct old_timeval32`.
    struct Timeval: 8 {
        sec: i32,
        usec: i32,
    }

    /// `struct timezone`.
    struct Timezone: 8 {
        minuteswest: i32,
        dsttime: i32,
    }

    /// `struct old_itimerspec32`.
    struct Itimerspec: 16 {
        interval: Timespec,
        value: Timespec,
    }

    /// `struct __kernel_itimerspec`.
    struct Itimerspec64: 32 {
        interval: Timespec64,
        value: Timespec64,
    }

    /// `struct old_utimbuf32`.
    struct Utimbuf: 8 {
        actime: i32,
        modtime: i32,
    }

    /// `struct compat_tms`, in clock ticks.
    struct Tms: 16 {
        utime: i32,
        stime: i32,
        cutime: i32,
        cstime: i32,
    }

    /// `struct old_timex32`.
    struct Timex: 128 {
        modes: u32,
        offset: i32,
        freq: i32,
        maxerror: i32,
        esterror: i32,
        status: i32,
        constant: i32,
        precision: i32,
        tolerance: i32,
        time: Timeval,
        tick: i32,
        ppsfreq: i32,
        jitter: i32,
        shift: i32,
        stabil: i32,
        jitcnt: i32,
        calcnt: i32,
        errcnt: i32,
        stbcnt: i32,
        tai: i32,
        unused: [i32; 11],
    }

    /// `struct __kernel_timex`.
    struct Timex64: 208 {
        bytes: [u32; 52],
    }
}

/// A guest's timespec of either width.
pub trait GuestTimespec: Plain {
    /// The host's form.
    fn to_host(self) -> libc::timespec;
    /// From the host's form; 32-bit seconds wrap in 2038 as the kernel's do.
    fn from_host(time: libc::timespec) -> Self;
}

impl GuestTimespec for Timespec {
    fn to_host(self) -> libc::timespec {
        libc::timespec { tv_sec: self.sec.into(), tv_nsec: self.nsec.into() }
    }

    fn from_host(time: libc::timespec) -> Self {
        Timespec { sec: time.tv_sec as i32, nsec: time.tv_nsec as i32 }
    }
}

impl GuestTimespec for Timespec64 {
    /// The upper half of the nanoseconds is padding for 32-bit programs.
    fn to_host(self) -> libc::timespec {
        libc::timespec { tv_sec: self.sec, tv_nsec: self.nsec & 0xffff_ffff }
    }

    fn from_host(time: libc::timespec) -> Self {
        Timespec64 { sec: time.tv_sec, nsec: time.tv_nsec }
    }
}

/// A guest's itimerspec of either width.
pub trait GuestItimerspec: Plain {
    /// The host's form.
    fn to_host(self) -> libc::itimerspec;
    /// From the host's form.
    fn from_host(time: libc::itimerspec) -> Self;
}

macro_rules! itimerspec {
    ($($name:ident $time:ident)*) => { $(
        impl GuestItimerspec for $name {
            fn to_host(self) -> libc::itimerspec {
                let (interval, value) = (self.interval, self.value);
                libc::itimerspec { it_interval: interval.to_host(), it_value: value.to_host() }
            }

            fn from_host(time: libc::itimerspec) -> Self {
                $name { interval: $time::from_host(time.it_interval), value: $time::from_host(time.it_value) }
            }
        }
    )* };
}
itimerspec!(Itimerspec Timespec Itimerspec64 Timespec64);

impl Timeval {
    /// The host's form.
    pub fn to_host(self) -> libc::timeval {
        libc::timeval { tv_sec: self.sec.into(), tv_usec: self.usec.into() }
    }

    /// From the host's form; seconds wrap in 2038.
    pub fn from_host(time: libc::timeval) -> Self {
        Timeval { sec: time.tv_sec as i32, usec: time.tv_usec as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_a_time64_is_ignored() {
        let time = Timespec64 { sec: 1, nsec: 0x7777_7777_0000_0005 };
        assert_eq!(time.to_host().tv_nsec, 5);
        let negative = Timespec { sec: -1, nsec: -1 };
        assert_eq!((negative.to_host().tv_sec, negative.to_host().tv_nsec), (-1, -1));
    }
}
