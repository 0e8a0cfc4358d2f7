//! What the system says about itself: names, limits, usage.

use super::{Timeval, guest_structs};

guest_structs! {
    /// `struct new_utsname`.
    struct Utsname: 390 {
        sysname: [u8; 65],
        nodename: [u8; 65],
        release: [u8; 65],
        version: [u8; 65],
        machine: [u8; 65],
        domainname: [u8; 65],
    }

    /// `struct old_utsname`.
    struct OldUtsname: 325 {
        sysname: [u8; 65],
        nodename: [u8; 65],
        release: [u8; 65],
        version: [u8; 65],
        machine: [u8; 65],
    }

    /// `struct oldold_utsname`.
    struct OldOldUtsname: 45 {
        sysname: [u8; 9],
        nodename: [u8; 9],
        release: [u8; 9],
        version: [u8; 9],
        machine: [u8; 9],
    }

    /// `struct compat_sysinfo`.
    struct Sysinfo: 64 {
        uptime: i32,
        loads: [u32; 3],
        totalram: u32,
        freeram: u32,
        sharedram: u32,
        bufferram: u32,
        totalswap: u32,
        freeswap: u32,
        procs: u16,
        pad: u16,
        totalhigh: u32,
        freehigh: u32,
        mem_unit: u32,
        spare: [u32; 2],
    }

    /// `struct compat_rlimit`.
    struct Rlimit: 8 {
        cur: u32,
        max: u32,
    }

    /// `struct rlimit64`.
    struct Rlimit64: 16 {
        cur: u64,
        max: u64,
    }

    /// `struct compat_rusage`.
    struct Rusage: 72 {
        utime: Timeval,
        stime: Timeval,
        counts: [i32; 14],
    }

    /// `struct __user_cap_header_struct`.
    struct CapHeader: 8 {
        version: u32,
        pid: i32,
    }

    /// `struct __user_cap_data_struct`.
    struct CapData: 12 {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
}

impl Rusage {
    /// From the host's form; counters are cut to 32 bits.
    pub fn from_host(usage: &libc::rusage) -> Rusage {
        Rusage {
            utime: Timeval::from_host(usage.ru_utime),
            stime: Timeval::from_host(usage.ru_stime),
            counts: [
                usage.ru_maxrss,
                usage.ru_ixrss,
                usage.ru_idrss,
                usage.ru_isrss,
                usage.ru_minflt,
                usage.ru_majflt,
                usage.ru_nswap,
                usage.ru_inblock,
                usage.ru_oublock,
                usage.ru_msgsnd,
                usage.ru_msgrcv,
                usage.ru_nsignals,
                usage.ru_nvcsw,
                usage.ru_nivcsw,
            ]
            .map(|count| count as i32),
        }
    }
}
