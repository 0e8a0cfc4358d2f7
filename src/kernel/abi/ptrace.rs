//! Structures of ptrace(2).

use super::guest_structs;

guest_structs! {
    /// `struct user_regs_struct` of i386, which is also the regset `NT_PRSTATUS`.
    struct UserRegs: 68 {
        bx: u32,
        cx: u32,
        dx: u32,
        si: u32,
        di: u32,
        bp: u32,
        ax: u32,
        ds: u32,
        es: u32,
        fs: u32,
        gs: u32,
        orig_ax: u32,
        ip: u32,
        cs: u32,
        flags: u32,
        sp: u32,
        ss: u32,
    }

    /// `struct compat_iovec` of the requests for regsets.
    struct Regset: 8 {
        base: u32,
        len: u32,
    }

    /// `struct ptrace_peeksiginfo_args`.
    struct PeekSiginfo: 16 {
        off: u64,
        flags: u32,
        nr: i32,
    }

    /// `struct ptrace_syscall_info` at a system call's entry; what other stops fill in is its beginning.
    struct SyscallInfo: 80 {
        op: u32,
        arch: u32,
        instruction_pointer: u64,
        stack_pointer: u64,
        nr: u64,
        args: [u64; 6],
    }
}
