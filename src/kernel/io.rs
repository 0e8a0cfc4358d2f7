//! Reading, writing, and what else is done to the contents of a file by its descriptor.

use super::Process;
use super::args::{Fd, GuestPtr, In, Iov, Out};
use super::dir;
use super::errno::Errno;
use super::host::{self, Arg};
use crate::memory::Access;

/// read(2).
pub fn read(p: &mut Process, fd: Fd, buf: Out) -> Result<u32, Errno> {
    if let Some(memory) = p.files.guest_memory(fd) {
        return memory.read(p, fd, buf, None);
    }
    let buf = buf.host(&p.machine.memory);
    host::pass_blocking(libc::SYS_read, [fd.into(), buf.arg(), buf.len.into()])
}

/// Cuts a write at 2 GiB where the file's opener does not know large files; `EFBIG` when nothing is left of it.
/// `offset` is that of the call, or `None` for the file's own position.
fn clip(p: &Process, fd: Fd, len: u32, offset: Option<u64>) -> Result<u32, Errno> {
    let Some(limit) = p.files.size_limit(fd) else { return Ok(len) };
    let position = match offset {
        Some(offset) => offset,
        None => match host::call(libc::SYS_lseek, [fd.into(), 0.into(), libc::SEEK_CUR.into()]) {
            Ok(position) => position as u64,
            // The write itself will tell what is wrong.
            Err(_) => return Ok(len),
        },
    };
    if len > 0 && (limit..1 << 63).contains(&position) {
        return Err(Errno::EFBIG);
    }
    Ok(u64::from(len).min(limit.saturating_sub(position)) as u32)
}

/// write(2).
pub fn write(p: &mut Process, fd: Fd, buf: In) -> Result<u32, Errno> {
    if let Some(memory) = p.files.guest_memory(fd) {
        return memory.write(p, fd, buf, None);
    }
    let buf = In { len: clip(p, fd, buf.len, None)?, ..buf }.host(&p.machine.memory);
    host::pass_blocking(libc::SYS_write, [fd.into(), buf.arg(), buf.len.into()])
}

/// pread(2).
pub fn pread64(p: &mut Process, fd: Fd, buf: Out, offset: u64) -> Result<u32, Errno> {
    if let Some(memory) = p.files.guest_memory(fd) {
        return memory.read(p, fd, buf, Some(offset));
    }
    let buf = buf.host(&p.machine.memory);
    host::pass_blocking(libc::SYS_pread64, [fd.into(), buf.arg(), buf.len.into(), offset.into()])
}

/// pwrite(2).
pub fn pwrite64(p: &mut Process, fd: Fd, buf: In, offset: u64) -> Result<u32, Errno> {
    if let Some(memory) = p.files.guest_memory(fd) {
        return memory.write(p, fd, buf, Some(offset));
    }
    let buf = In { len: clip(p, fd, buf.len, Some(offset))?, ..buf }.host(&p.machine.memory);
    host::pass_blocking(libc::SYS_pwrite64, [fd.into(), buf.arg(), buf.len.into(), offset.into()])
}

/// Vectored transfers: the host's array, its length, and the offset in two words as the call has it.
fn vectored(
    p: &Process,
    nr: libc::c_long,
    fd: Fd,
    iov: Iov,
    access: Access,
    offset: u64,
    flags: u32,
) -> Result<u32, Errno> {
    let vec = iov.host(&p.machine.memory, access)?;
    // On 64-bit hosts the lower word is the whole offset.
    host::pass_blocking(
        nr,
        [fd.into(), Arg::slice(&vec), vec.len().into(), offset.into(), 0.into(), flags.into()],
    )
}

/// readv(2).
pub fn readv(p: &mut Process, fd: Fd, iov: Iov) -> Result<u32, Errno> {
    vectored(p, libc::SYS_readv, fd, iov, Access::Write, 0, 0)
}

/// writev(2).
pub fn writev(p: &mut Process, fd: Fd, iov: Iov) -> Result<u32, Errno> {
    vectored(p, libc::SYS_writev, fd, iov, Access::Read, 0, 0)
}

/// preadv(2).
pub fn preadv(p: &mut Process, fd: Fd, iov: Iov, offset: u64) -> Result<u32, Errno> {
    vectored(p, libc::SYS_preadv, fd, iov, Access::Write, offset, 0)
}

/// pwritev(2).
pub fn pwritev(p: &mut Process, fd: Fd, iov: Iov, offset: u64) -> Result<u32, Errno> {
    vectored(p, libc::SYS_pwritev, fd, iov, Access::Read, offset, 0)
}

/// preadv2(2); offset -1 is the file's own position.
pub fn preadv2(p: &mut Process, fd: Fd, iov: Iov, offset: u64, flags: u32) -> Result<u32, Errno> {
    vectored(p, libc::SYS_preadv2, fd, iov, Access::Write, offset, flags)
}

/// pwritev2(2); offset -1 is the file's own position.
pub fn pwritev2(p: &mut Process, fd: Fd, iov: Iov, offset: u64, flags: u32) -> Result<u32, Errno> {
    vectored(p, libc::SYS_pwritev2, fd, iov, Access::Read, offset, flags)
}

/// vmsplice(2).
pub fn vmsplice(p: &mut Process, fd: Fd, iov: Iov, flags: u32) -> Result<u32, Errno> {
    // The direction is the pipe end's: a read end fills the buffers.
    let mode = host::call(libc::SYS_fcntl, [fd.into(), libc::F_GETFL.into()])? as i32;
    let access = if mode & libc::O_ACCMODE == libc::O_RDONLY { Access::Write } else { Access::Read };
    let vec = iov.host(&p.machine.memory, access)?;
    host::pass_blocking(libc::SYS_vmsplice, [fd.into(), Arg::slice(&vec), vec.len().into(), flags.into()])
}

fn seek(p: &Process, fd: Fd, offset: i64, whence: i32) -> Result<i64, Errno> {
    if let Some(memory) = p.files.guest_memory(fd) {
        return memory.seek(offset, whence);
    }
    match dir::seek(p, fd, offset, whence) {
        Some(result) => result,
        None => host::call(libc::SYS_lseek, [fd.into(), offset.into(), whence.into()]).map(|at| at as i64),
    }
}

/// lseek(2). A position beyond 4 GiB loses its upper half, as 64-bit kernels have it.
pub fn lseek(p: &mut Process, fd: Fd, offset: i32, whence: i32) -> Result<u32, Errno> {
    seek(p, fd, offset.into(), whence).map(|position| position as u32)
}

/// _llseek(2).
pub fn _llseek(
    p: &mut Process,
    fd: Fd,
    offset: u64,
    result: GuestPtr<u64>,
    whence: i32,
) -> Result<u32, Errno> {
    let position = seek(p, fd, offset as i64, whence)?;
    result.write(&p.machine.memory, position as u64)?;
    Ok(0)
}

/// ftruncate(2).
pub fn ftruncate(p: &mut Process, fd: Fd, length: i32) -> Result<u32, Errno> {
    // Sign-extended: a negative length is EINVAL.
    ftruncate64(p, fd, i64::from(length) as u64)
}

/// ftruncate64, see ftruncate(2).
pub fn ftruncate64(p: &mut Process, fd: Fd, length: u64) -> Result<u32, Errno> {
    if p.files.size_limit(fd).is_some_and(|limit| length > limit) {
        return Err(Errno::EINVAL);
    }
    host::pass(libc::SYS_ftruncate, [fd.into(), length.into()])
}

/// sendfile(2) with a 32-bit offset.
pub fn sendfile(p: &mut Process, out: Fd, from: Fd, offset: GuestPtr<i32>, count: u32) -> Result<u32, Errno> {
    let mut at = offset.read_opt(&p.machine.memory)?.map(i64::from);
    let moved = host::pass_blocking(
        libc::SYS_sendfile,
        [out.into(), from.into(), Arg::output_opt(at.as_mut()), count.into()],
    )?;
    offset.write_opt(&p.machine.memory, at.unwrap_or(0) as i32)?;
    Ok(moved)
}

/// sendfile(2) with a 64-bit offset.
pub fn sendfile64(
    p: &mut Process,
    out: Fd,
    from: Fd,
    offset: GuestPtr<u64>,
    count: u32,
) -> Result<u32, Errno> {
    let mut at = offset.read_opt(&p.machine.memory)?;
    let moved = host::pass_blocking(
        libc::SYS_sendfile,
        [out.into(), from.into(), Arg::output_opt(at.as_mut()), count.into()],
    )?;
    offset.write_opt(&p.machine.memory, at.unwrap_or(0))?;
    Ok(moved)
}

/// splice(2).
pub fn splice(
    p: &mut Process,
    from: Fd,
    from_offset: GuestPtr<u64>,
    to: Fd,
    to_offset: GuestPtr<u64>,
    len: u32,
    flags: u32,
) -> Result<u32, Errno> {
    two_offsets(p, libc::SYS_splice, (from, from_offset), (to, to_offset), len, flags)
}

/// copy_file_range(2).
pub fn copy_file_range(
    p: &mut Process,
    from: Fd,
    from_offset: GuestPtr<u64>,
    to: Fd,
    to_offset: GuestPtr<u64>,
    len: u32,
    flags: u32,
) -> Result<u32, Errno> {
    two_offsets(p, libc::SYS_copy_file_range, (from, from_offset), (to, to_offset), len, flags)
}

fn two_offsets(
    p: &Process,
    nr: libc::c_long,
    from: (Fd, GuestPtr<u64>),
    to: (Fd, GuestPtr<u64>),
    len: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let mut from_at = from.1.read_opt(memory)?;
    let mut to_at = to.1.read_opt(memory)?;
    let moved = host::pass_blocking(
        nr,
        [
            from.0.into(),
            Arg::output_opt(from_at.as_mut()),
            to.0.into(),
            Arg::output_opt(to_at.as_mut()),
            len.into(),
            flags.into(),
        ],
    )?;
    from.1.write_opt(memory, from_at.unwrap_or(0))?;
    to.1.write_opt(memory, to_at.unwrap_or(0))?;
    Ok(moved)
}

/// fallocate(2).
pub fn fallocate(_p: &mut Process, fd: Fd, mode: u32, offset: u64, len: u64) -> Result<u32, Errno> {
    host::pass_blocking(libc::SYS_fallocate, [fd.into(), mode.into(), offset.into(), len.into()])
}

/// fadvise64, see posix_fadvise(2).
pub fn fadvise64(p: &mut Process, fd: Fd, offset: u64, len: u32, advice: i32) -> Result<u32, Errno> {
    fadvise64_64(p, fd, offset, len.into(), advice)
}

/// fadvise64_64, see posix_fadvise(2).
pub fn fadvise64_64(_p: &mut Process, fd: Fd, offset: u64, len: u64, advice: i32) -> Result<u32, Errno> {
    host::pass(libc::SYS_fadvise64, [fd.into(), offset.into(), len.into(), advice.into()])
}

/// sync_file_range(2).
pub fn sync_file_range(_p: &mut Process, fd: Fd, offset: u64, len: u64, flags: u32) -> Result<u32, Errno> {
    host::pass(libc::SYS_sync_file_range, [fd.into(), offset.into(), len.into(), flags.into()])
}
