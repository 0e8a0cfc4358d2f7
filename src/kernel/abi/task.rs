//! Structures of signal frames, tasks and timers.

use super::{Timeval, guest_structs};

guest_structs! {
    /// `struct sigcontext_32`: the registers in a signal frame.
    struct Sigcontext: 88 {
        gs: u16,
        gs_high: u16,
        fs: u16,
        fs_high: u16,
        es: u16,
        es_high: u16,
        ds: u16,
        ds_high: u16,
        di: u32,
        si: u32,
        bp: u32,
        sp: u32,
        bx: u32,
        dx: u32,
        cx: u32,
        ax: u32,
        trapno: u32,
        err: u32,
        ip: u32,
        cs: u16,
        cs_high: u16,
        flags: u32,
        sp_at_signal: u32,
        ss: u16,
        ss_high: u16,
        fpstate: u32,
        oldmask: u32,
        cr2: u32,
    }

    /// `struct ucontext_ia32`.
    struct Ucontext: 116 {
        flags: u32,
        link: u32,
        stack: [u32; 3],
        mcontext: Sigcontext,
        sigmask: [u32; 2],
    }

    /// `struct sigframe_ia32`: the frame of a handler without `SA_SIGINFO`.
    struct Sigframe: 732 {
        pretcode: u32,
        sig: u32,
        sc: Sigcontext,
        fpstate_unused: [u32; 156],
        extramask: u32,
        retcode: [u8; 8],
    }

    /// `struct rt_sigframe_ia32`: the frame of a handler with `SA_SIGINFO`.
    struct RtSigframe: 268 {
        pretcode: u32,
        sig: u32,
        pinfo: u32,
        puc: u32,
        info: [u8; 128],
        uc: Ucontext,
        retcode: [u8; 8],
    }

    /// `struct user_desc`: a segment as programs describe it.
    struct UserDesc: 16 {
        entry_number: u32,
        base_addr: u32,
        limit: u32,
        flags: u32,
    }

    /// `struct mmap_arg_struct32`.
    struct MmapArguments: 24 {
        addr: u32,
        len: u32,
        prot: u32,
        flags: u32,
        fd: u32,
        offset: u32,
    }

    /// `struct compat_itimerval`.
    struct Itimerval: 16 {
        interval: Timeval,
        value: Timeval,
    }

    /// `struct compat_sigevent`.
    struct Sigevent: 64 {
        value: u32,
        signo: i32,
        notify: i32,
        tid: i32,
        pad: [u32; 12],
    }

    /// `struct compat_robust_list_head`.
    struct RobustListHead: 12 {
        next: u32,
        futex_offset: i32,
        pending: u32,
    }

    /// `struct futex_waitv`.
    struct FutexWaitv: 24 {
        val: u64,
        uaddr: u64,
        flags: u32,
        reserved: u32,
    }

    /// `struct clone_args`, all of its versions.
    struct CloneArgs: 88 {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn frames_lie_as_unwinders_expect() {
        assert_eq!(offset_of!(Sigframe, sc), 8);
        assert_eq!(offset_of!(Sigframe, extramask), 720);
        assert_eq!(offset_of!(RtSigframe, info), 16);
        assert_eq!(offset_of!(RtSigframe, uc), 144);
        assert_eq!(offset_of!(Ucontext, mcontext), 20);
        assert_eq!(offset_of!(Ucontext, sigmask), 108);
        assert_eq!(offset_of!(Sigcontext, trapno), 48);
        assert_eq!(offset_of!(Sigcontext, ip), 56);
        assert_eq!(offset_of!(Sigcontext, fpstate), 76);
    }
}
