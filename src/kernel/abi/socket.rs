//! Messages of sockets.

use super::guest_structs;

guest_structs! {
    /// `struct compat_msghdr`.
    struct Msghdr: 28 {
        name: u32,
        namelen: i32,
        iov: u32,
        iovlen: u32,
        control: u32,
        controllen: u32,
        flags: u32,
    }

    /// `struct compat_mmsghdr`.
    struct Mmsghdr: 32 {
        hdr: Msghdr,
        len: u32,
    }

    /// `struct compat_cmsghdr`; the data follow it.
    struct Cmsghdr: 12 {
        len: u32,
        level: i32,
        kind: i32,
    }

    /// `struct compat_sock_fprog`.
    struct SockFprog: 8 {
        len: u16,
        pad: u16,
        filter: u32,
    }
}
