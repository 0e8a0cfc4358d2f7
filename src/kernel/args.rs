//! Types of system call arguments: what the six registers mean.
//!
//! `build/syscalls.rs` wraps registers in these types as a row of `syscalls.toml` says, so a function never
//! sees a bare register. Memory is touched only when the function asks for it.

use super::abi::Iovec;
use super::errno::Errno;
use super::host::{self, HostBuf};
use crate::memory::{Access, Memory, Plain};
use std::marker::PhantomData;
use std::mem::size_of;

/// Longest path with its NUL, in bytes (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;
/// Longest transfer of one call in bytes: what Linux clips counts to (`MAX_RW_COUNT`).
pub const MAX_RW_COUNT: u32 = 0x7fff_f000;
/// Most elements of an iovec array (`UIO_MAXIOV`).
pub const UIO_MAXIOV: u32 = 1024;

/// A file descriptor of the guest, which is one of the host's too. Descriptors that the emulator keeps for
/// itself read as -1, so that every use of them is `EBADF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fd(pub i32);

impl Fd {
    /// `AT_FDCWD`: relative paths start at the working directory.
    pub const CWD: Fd = Fd(libc::AT_FDCWD);

    /// Takes a descriptor from a register or from a guest structure.
    pub fn new(raw: u32) -> Fd {
        let fd = raw as i32;
        if host::is_private(fd) { Fd(-1) } else { Fd(fd) }
    }
}

/// A pointer to a guest structure.
pub struct GuestPtr<T> {
    /// The guest address.
    pub addr: u32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Clone for GuestPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestPtr<T> {}

impl<T> std::fmt::Debug for GuestPtr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.addr)
    }
}

impl<T> GuestPtr<T> {
    /// A pointer to `addr`.
    pub fn new(addr: u32) -> Self {
        GuestPtr { addr, kind: PhantomData }
    }

    /// Tells whether this is NULL.
    pub fn is_null(self) -> bool {
        self.addr == 0
    }

    /// The pointer to element `index` of an array that starts here. Wraps around as the guest's arithmetic does.
    pub fn at(self, index: u32) -> Self {
        GuestPtr::new(self.addr.wrapping_add(index.wrapping_mul(size_of::<T>() as u32)))
    }

    /// The same address with another type.
    pub fn cast<U>(self) -> GuestPtr<U> {
        GuestPtr::new(self.addr)
    }
}

impl<T: Plain> GuestPtr<T> {
    /// Reads the structure; `EFAULT` where it is not readable.
    pub fn read(self, memory: &Memory) -> Result<T, Errno> {
        Ok(memory.read(self.addr)?)
    }

    /// Reads the structure unless the pointer is NULL.
    pub fn read_opt(self, memory: &Memory) -> Result<Option<T>, Errno> {
        if self.is_null() { Ok(None) } else { self.read(memory).map(Some) }
    }

    /// Writes the structure; `EFAULT` where it is not writable.
    pub fn write(self, memory: &Memory, value: T) -> Result<(), Errno> {
        Ok(memory.write(self.addr, value)?)
    }

    /// Writes the structure unless the pointer is NULL.
    pub fn write_opt(self, memory: &Memory, value: T) -> Result<(), Errno> {
        if self.is_null() { Ok(()) } else { self.write(memory, value) }
    }

    /// Reads `count` elements.
    pub fn read_array(self, memory: &Memory, count: u32) -> Result<Vec<T>, Errno> {
        (0..count).map(|i| self.at(i).read(memory)).collect()
    }

    /// Writes all of `values`.
    pub fn write_array(self, memory: &Memory, values: &[T]) -> Result<(), Errno>
    where
        T: Copy,
    {
        values.iter().zip(0..).try_for_each(|(&value, i)| self.at(i).write(memory, value))
    }
}

/// A NUL-terminated path; read when it is needed. See [`super::paths`].
#[derive(Clone, Copy, Debug)]
pub struct Path(pub u32);

impl Path {
    /// The bytes without the NUL: `EFAULT`, or `ENAMETOOLONG` beyond `PATH_MAX`.
    pub fn read(self, memory: &Memory) -> Result<Vec<u8>, Errno> {
        Str(self.0).read(memory, PATH_MAX, Errno::ENAMETOOLONG)
    }
}

/// A NUL-terminated string that is not a path.
#[derive(Clone, Copy, Debug)]
pub struct Str(pub u32);

impl Str {
    /// The bytes without the NUL; `too_long` when there is no NUL within `limit` bytes.
    pub fn read(self, memory: &Memory, limit: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
        let mut bytes = Vec::new();
        let mut addr = self.0;
        let mut chunk = [0u8; 256];
        while bytes.len() < limit {
            // A chunk never crosses a page, so a string that ends before an unmapped page is read whole.
            let in_page = 4096 - (addr as usize & 4095);
            let part = &mut chunk[..in_page.min(256).min(limit - bytes.len())];
            memory.read_bytes(addr, part)?;
            if let Some(end) = part.iter().position(|&b| b == 0) {
                bytes.extend_from_slice(&part[..end]);
                return Ok(bytes);
            }
            bytes.extend_from_slice(part);
            addr = addr.wrapping_add(part.len() as u32);
        }
        Err(too_long)
    }
}

/// A buffer that the call reads.
#[derive(Clone, Copy, Debug)]
pub struct In {
    /// The guest address.
    pub addr: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl In {
    /// A buffer at `addr`.
    pub fn new(addr: u32, len: u32) -> In {
        In { addr, len }
    }

    /// The host's view of the buffer. What is not readable for the guest is not readable for the host, so the
    /// host's own `EFAULT` and partial transfers are right.
    pub fn host(self, memory: &Memory) -> HostBuf {
        host_buf(memory, self.addr, self.len, Access::Read)
    }

    /// Copies the whole buffer.
    pub fn read(self, memory: &Memory) -> Result<Vec<u8>, Errno> {
        // Checked before allocating, so that a wild length costs nothing.
        memory.host_range(self.addr, self.len, Access::Read)?;
        let mut bytes = vec![0; self.len as usize];
        memory.read_bytes(self.addr, &mut bytes)?;
        Ok(bytes)
    }
}

/// A buffer that the call writes.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    /// The guest address.
    pub addr: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Out {
    /// A buffer at `addr`.
    pub fn new(addr: u32, len: u32) -> Out {
        Out { addr, len }
    }

    /// As [`In::host`], for writing.
    pub fn host(self, memory: &Memory) -> HostBuf {
        host_buf(memory, self.addr, self.len, Access::Write)
    }

    /// The length of the buffer's beginning that is writable; `EFAULT` if it has a length and nothing of it is.
    pub fn writable(self, memory: &Memory) -> Result<u32, Errno> {
        match memory.host_range(self.addr, self.len, Access::Write) {
            Ok(_) => Ok(self.len),
            Err(bad) if bad.0 > self.addr => Ok(bad.0 - self.addr),
            Err(_) => Err(Errno::EFAULT),
        }
    }

    /// Writes `bytes` to the beginning of the buffer; `ERANGE` when they do not fit.
    pub fn write(self, memory: &Memory, bytes: &[u8]) -> Result<u32, Errno> {
        if bytes.len() > self.len as usize {
            return Err(Errno::ERANGE);
        }
        memory.write_bytes(self.addr, bytes)?;
        Ok(bytes.len() as u32)
    }

    /// Writes as much of `bytes` as fits and gives that length, as readlink(2) does.
    pub fn write_truncated(self, memory: &Memory, bytes: &[u8]) -> Result<u32, Errno> {
        let len = bytes.len().min(self.len as usize);
        memory.write_bytes(self.addr, &bytes[..len])?;
        Ok(len as u32)
    }
}

/// A range as the host sees it, cut at the end of the address space and at [`MAX_RW_COUNT`] bytes.
fn host_buf(memory: &Memory, addr: u32, len: u32, access: Access) -> HostBuf {
    let to_end = (1u64 << 32) - u64::from(addr);
    let len = u64::from(len.min(MAX_RW_COUNT)).min(to_end) as u32;
    // Pages that were translated are protected from the host too; the check undoes that. It stops at the first bad
    // page, and so will the host.
    if access == Access::Write
        && let Err(bad) = memory.host_range(addr, len, access)
        && bad.0 > addr
    {
        memory.code_written(addr, bad.0 - addr);
    }
    // Nothing is ever mapped at 0, and many calls take a null pointer for "none".
    let start = if addr == 0 { std::ptr::null_mut() } else { memory.base().wrapping_add(addr as usize) };
    HostBuf { start, len: len as usize }
}

/// An array of `struct iovec` as i386 lays it out.
#[derive(Clone, Copy, Debug)]
pub struct Iov {
    /// The guest address of the array.
    pub addr: u32,
    /// Number of elements.
    pub count: u32,
}

impl Iov {
    /// An array at `addr`.
    pub fn new(addr: u32, count: u32) -> Iov {
        Iov { addr, count }
    }

    /// The host's array for the same buffers: `EINVAL` for more than 1,024 elements or a length that is negative
    /// as a 32-bit number; `EFAULT` if the array is not readable. What the buffers are worth is for the host to
    /// say.
    pub fn host(self, memory: &Memory, access: Access) -> Result<Vec<libc::iovec>, Errno> {
        if self.count > UIO_MAXIOV {
            return Err(Errno::EINVAL);
        }
        let elements = GuestPtr::<Iovec>::new(self.addr).read_array(memory, self.count)?;
        if elements.iter().any(|element| element.len > i32::MAX as u32) {
            return Err(Errno::EINVAL);
        }
        Ok(elements
            .into_iter()
            .map(|Iovec { base, len }| {
                let buf = host_buf(memory, base, len, access);
                libc::iovec { iov_base: buf.start.cast(), iov_len: buf.len }
            })
            .collect())
    }
}

/// Folds two registers into one 64-bit argument, low word first.
pub fn lohi(lo: u32, hi: u32) -> u64 {
    u64::from(lo) | u64::from(hi) << 32
}
