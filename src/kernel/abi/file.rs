//! What files look like: stat, statfs, locks, polling.

use super::guest_structs;

guest_structs! {
    /// `struct __old_kernel_stat`, of `oldstat`.
    struct OldStat: 32 {
        dev: u16,
        ino: u16,
        mode: u16,
        nlink: u16,
        uid: u16,
        gid: u16,
        rdev: u16,
        pad: u16,
        size: u32,
        atime: u32,
        mtime: u32,
        ctime: u32,
    }

    /// `struct compat_stat`, of `stat`.
    struct Stat: 64 {
        dev: u32,
        ino: u32,
        mode: u16,
        nlink: u16,
        uid: u16,
        gid: u16,
        rdev: u32,
        size: u32,
        blksize: u32,
        blocks: u32,
        atime: u32,
        atime_nsec: u32,
        mtime: u32,
        mtime_nsec: u32,
        ctime: u32,
        ctime_nsec: u32,
        unused: [u32; 2],
    }

    /// `struct stat64`.
    struct Stat64: 96 {
        dev: u64,
        pad0: u32,
        short_ino: u32,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u64,
        pad3: u32,
        size: u64,
        blksize: u32,
        blocks: u64,
        atime: u32,
        atime_nsec: u32,
        mtime: u32,
        mtime_nsec: u32,
        ctime: u32,
        ctime_nsec: u32,
        ino: u64,
    }

    /// `struct statx`, which all architectures share.
    struct Statx: 256 {
        bytes: [u32; 64],
    }

    /// `struct compat_statfs`.
    struct Statfs: 64 {
        kind: u32,
        bsize: u32,
        blocks: u32,
        bfree: u32,
        bavail: u32,
        files: u32,
        ffree: u32,
        fsid: [u32; 2],
        namelen: u32,
        frsize: u32,
        flags: u32,
        spare: [u32; 4],
    }

    /// `struct compat_statfs64`.
    struct Statfs64: 84 {
        kind: u32,
        bsize: u32,
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        fsid: [u32; 2],
        namelen: u32,
        frsize: u32,
        flags: u32,
        spare: [u32; 4],
    }

    /// `struct compat_flock`.
    struct Flock: 16 {
        kind: i16,
        whence: i16,
        start: i32,
        len: i32,
        pid: i32,
    }

    /// `struct compat_flock64`.
    struct Flock64: 24 {
        kind: i16,
        whence: i16,
        start: i64,
        len: i64,
        pid: i32,
    }

    /// `struct f_owner_ex`.
    struct OwnerEx: 8 {
        kind: i32,
        pid: i32,
    }

    /// `struct open_how`.
    struct OpenHow: 24 {
        flags: u64,
        mode: u64,
        resolve: u64,
    }

    /// `struct iovec`.
    struct Iovec: 8 {
        base: u32,
        len: u32,
    }

    /// `struct pollfd`.
    struct PollFd: 8 {
        fd: i32,
        events: i16,
        revents: i16,
    }

    /// `struct epoll_event`.
    struct EpollEvent: 12 {
        events: u32,
        data: u64,
    }

    /// The argument block of the old `select`.
    struct OldSelect: 20 {
        nfds: i32,
        readfds: u32,
        writefds: u32,
        exceptfds: u32,
        timeout: u32,
    }

    /// The sixth argument of `pselect6`.
    struct SigsetArg: 8 {
        set: u32,
        size: u32,
    }

    /// `struct old_linux_dirent`, less the name behind it, of `readdir`.
    struct OldDirent: 10 {
        ino: [u16; 2],
        offset: [u16; 2],
        namlen: u16,
    }
}
