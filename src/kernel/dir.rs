//! Directories: reading them, and the working directory.
//!
//! A 64-bit host hands out 64-bit positions (`d_off`), which 32-bit programs cannot keep. Positions that do not fit
//! are numbered, by directory.

use super::Process;
use super::abi::OldDirent;
use super::args::{Fd, GuestPtr, Out, PATH_MAX, Path};
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths::{self, Follow};
use super::proc;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Bytes in front of the name in the host's `struct linux_dirent64`.
const HEADER: usize = 19;
/// Bytes in front of the name in i386's `struct linux_dirent`.
const SHORT_HEADER: usize = 10;
/// Most bytes read at once; what is beyond comes with the next call.
const MAX_READ: usize = 1 << 20;
/// Room for any one entry of the host: the header, 255 bytes of a name, and its NUL, aligned.
const ONE_ENTRY: usize = 280;

/// The positions of a directory that do not fit into 30 bits. The guest sees bit 30 and their number.
#[derive(Default)]
pub struct Cookies {
    hosts: Vec<i64>,
    numbers: HashMap<i64, usize>,
}

impl Cookies {
    const NUMBERED: i64 = 1 << 30;

    /// What the guest sees of a host position.
    pub fn to_guest(&mut self, host: i64) -> i64 {
        if (0..Self::NUMBERED).contains(&host) {
            return host;
        }
        let number = *self.numbers.entry(host).or_insert_with(|| {
            self.hosts.push(host);
            self.hosts.len() - 1
        });
        Self::NUMBERED | number as i64
    }

    /// The host position that the guest means; `None` if it was never given out.
    pub fn to_host(&self, guest: i64) -> Option<i64> {
        if guest & !(2 * Self::NUMBERED - 1) == 0 && guest & Self::NUMBERED != 0 {
            return self.hosts.get((guest & !Self::NUMBERED) as usize).copied();
        }
        Some(guest)
    }
}

/// One entry as the host gives it.
struct Entry<'a> {
    ino: u64,
    /// The position behind it.
    next: i64,
    kind: u8,
    name: &'a [u8],
}

/// Walks over the entries of a host buffer.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let ino = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let next = i64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
        let length = usize::from(u16::from_le_bytes(bytes.get(16..18)?.try_into().ok()?));
        let entry = bytes.get(..length)?;
        let name = entry.get(HEADER..)?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        bytes = &bytes[length..];
        Some(Entry { ino, next, kind: entry[18], name: &name[..end] })
    })
}

/// Appends an entry in the guest's layout; tells whether it fitted into `room` bytes.
type Emit = fn(&mut Vec<u8>, &Entry<'_>, offset: i64, room: usize) -> Result<bool, Errno>;

/// `struct linux_dirent64`.
fn emit64(out: &mut Vec<u8>, entry: &Entry<'_>, offset: i64, room: usize) -> Result<bool, Errno> {
    let length = (HEADER + entry.name.len() + 1).next_multiple_of(8);
    if out.len() + length > room {
        return Ok(false);
    }
    let end = out.len() + length;
    out.extend_from_slice(&entry.ino.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.push(entry.kind);
    out.extend_from_slice(entry.name);
    out.resize(end, 0);
    Ok(true)
}

/// `struct linux_dirent`, with the type in the last byte.
fn emit32(out: &mut Vec<u8>, entry: &Entry<'_>, offset: i64, room: usize) -> Result<bool, Errno> {
    let length = (SHORT_HEADER + entry.name.len() + 2).next_multiple_of(4);
    let ino = u32::try_from(entry.ino).map_err(|_| Errno::EOVERFLOW)?;
    if out.len() + length > room {
        return Ok(false);
    }
    let end = out.len() + length;
    out.extend_from_slice(&ino.to_le_bytes());
    out.extend_from_slice(&(offset as u32).to_le_bytes());
    out.extend_from_slice(&(length as u16).to_le_bytes());
    out.extend_from_slice(entry.name);
    out.resize(end - 1, 0);
    out.push(entry.kind);
    Ok(true)
}

/// `struct old_linux_dirent`; never more than one.
fn emit_old(out: &mut Vec<u8>, entry: &Entry<'_>, offset: i64, _room: usize) -> Result<bool, Errno> {
    if !out.is_empty() {
        return Ok(false);
    }
    let ino = u32::try_from(entry.ino).map_err(|_| Errno::EOVERFLOW)?;
    out.extend_from_slice(&ino.to_le_bytes());
    out.extend_from_slice(&(offset as u32).to_le_bytes());
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(entry.name);
    out.push(0);
    Ok(true)
}

/// Reads entries into `out` and leaves the directory's position behind the last one that fitted.
fn read_entries(p: &mut Process, fd: Fd, out: &mut Vec<u8>, room: usize, emit: Emit) -> Result<(), Errno> {
    let mut buffer = vec![0u8; room.clamp(ONE_ENTRY, MAX_READ)];
    let hide = proc::is_fd_directory(fd);
    let cookies = p.files.cookies(fd);
    let mut cookies = cookies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let size = buffer.len();
    loop {
        let start = host::call(libc::SYS_lseek, [fd.into(), 0.into(), libc::SEEK_CUR.into()]);
        let len = host::call(libc::SYS_getdents64, [fd.into(), Arg::slice_mut(&mut buffer), size.into()])?;
        if len == 0 {
            return Ok(());
        }
        let mut position = start.map(|at| at as i64);
        for entry in entries(&buffer[..len]) {
            let hidden = hide && proc::names_private_fd(entry.name);
            let fitted = hidden || {
                let offset = cookies.to_guest(entry.next);
                match emit(out, &entry, offset, room) {
                    Ok(fitted) => fitted,
                    Err(_) if !out.is_empty() => false,
                    Err(error) => return Err(error),
                }
            };
            if !fitted {
                let back = position?;
                host::call(libc::SYS_lseek, [fd.into(), back.into(), libc::SEEK_SET.into()])?;
                return if out.is_empty() { Err(Errno::EINVAL) } else { Ok(()) };
            }
            position = Ok(entry.next);
        }
        // All that were read may have been hidden; an empty result would mean the end.
        if !out.is_empty() {
            return Ok(());
        }
    }
}

fn getdents_with(p: &mut Process, fd: Fd, dirent: Out, emit: Emit) -> Result<u32, Errno> {
    let room = dirent.writable(&p.machine.memory)? as usize;
    let mut out = Vec::with_capacity(room.min(MAX_READ));
    read_entries(p, fd, &mut out, room, emit)?;
    dirent.write(&p.machine.memory, &out)
}

/// getdents(2).
pub fn getdents(p: &mut Process, fd: Fd, dirent: Out) -> Result<u32, Errno> {
    getdents_with(p, fd, dirent, emit32)
}

/// getdents64(2).
pub fn getdents64(p: &mut Process, fd: Fd, dirent: Out) -> Result<u32, Errno> {
    getdents_with(p, fd, dirent, emit64)
}

/// readdir(2): one entry at a time; 1 for an entry, 0 at the end.
pub fn readdir(p: &mut Process, fd: Fd, dirent: GuestPtr<OldDirent>, _count: u32) -> Result<u32, Errno> {
    let mut out = Vec::new();
    read_entries(p, fd, &mut out, ONE_ENTRY, emit_old)?;
    p.machine.memory.write_bytes(dirent.addr, &out)?;
    Ok((!out.is_empty()).into())
}

/// Moves a position in a directory (lseek(2)); `None` if `fd` is no directory that has been read.
pub fn seek(p: &Process, fd: Fd, offset: i64, whence: i32) -> Option<Result<i64, Errno>> {
    let cookies = p.files.known_cookies(fd)?;
    let mut cookies = cookies.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let host = if whence == libc::SEEK_SET { cookies.to_host(offset) } else { Some(offset) };
    let Some(host) = host else { return Some(Err(Errno::EINVAL)) };
    let result = host::call(libc::SYS_lseek, [fd.into(), host.into(), whence.into()]);
    Some(result.map(|position| cookies.to_guest(position as i64)))
}

/// getcwd(2): the length with the NUL.
pub fn getcwd(p: &mut Process, buf: Out) -> Result<u32, Errno> {
    let mut buffer = [0u8; PATH_MAX];
    let len = host::call(libc::SYS_getcwd, [Arg::slice_mut(&mut buffer), PATH_MAX.into()])?;
    let path = PathBuf::from(OsString::from_vec(buffer[..len.saturating_sub(1)].to_vec()));
    let mut bytes = paths::to_guest(p, path).as_os_str().as_bytes().to_vec();
    bytes.push(0);
    buf.write(&p.machine.memory, &bytes)
}

/// chdir(2).
pub fn chdir(p: &mut Process, path: Path) -> Result<u32, Errno> {
    let path = paths::resolve(p, Fd::CWD, path, Follow::Yes)?;
    host::pass(libc::SYS_chdir, [Arg::text(&path)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_do_not_fit_are_numbered() {
        let mut cookies = Cookies::default();
        let wide = [0x7fff_ffff_ffff_ffff, 0x1234_5678_9abc, 1 << 30];
        let seen = wide.map(|host| cookies.to_guest(host));
        assert!(seen.iter().all(|&guest| (0..=i64::from(i32::MAX)).contains(&guest)));
        assert_eq!(seen.map(|guest| cookies.to_host(guest)), wide.map(Some));
        assert_eq!(cookies.to_guest(wide[1]), seen[1]);
        assert_eq!(cookies.to_guest(17), 17);
        assert_eq!(cookies.to_host(17), Some(17));
        assert_eq!(cookies.to_host(seen[2] + 1), None);
    }

    #[test]
    fn entries_keep_the_guests_layout() {
        let entry = Entry { ino: 7, next: 9, kind: 8, name: b"abc" };
        let mut out = Vec::new();
        assert_eq!(emit32(&mut out, &entry, 9, 100), Ok(true));
        assert_eq!(out, [7, 0, 0, 0, 9, 0, 0, 0, 16, 0, b'a', b'b', b'c', 0, 0, 8]);
        assert_eq!(emit32(&mut out, &entry, 9, 31), Ok(false));
        let mut out = Vec::new();
        assert_eq!(emit64(&mut out, &entry, 9, 100), Ok(true));
        assert_eq!(out.len(), 24);
        let wide = Entry { ino: 1 << 32, ..entry };
        assert_eq!(emit32(&mut Vec::new(), &wide, 9, 100), Err(Errno::EOVERFLOW));
        assert_eq!(
            entries(&out).map(|e| (e.ino, e.next, e.kind, e.name.len())).collect::<Vec<_>>(),
            [(7, 9, 8, 3)]
        );
    }
}
