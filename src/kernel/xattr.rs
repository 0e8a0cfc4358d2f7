//! Extended attributes (xattr(7)).

use super::Process;
use super::args::{Fd, In, Out, Path, Str};
use super::errno::Errno;
use super::host::{self, Arg};
use super::paths::{self, Follow};
use std::ffi::CString;

/// Longest name without its NUL (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;

fn attribute(p: &Process, name: Str) -> Result<CString, Errno> {
    let bytes = name.read(&p.machine.memory, NAME_MAX + 1, Errno::ERANGE)?;
    Ok(paths::c_string(&bytes))
}

fn file(p: &Process, path: Path, follow: Follow) -> Result<CString, Errno> {
    paths::resolve(p, Fd::CWD, path, follow)
}

/// setxattr(2).
pub fn setxattr(p: &mut Process, path: Path, name: Str, value: In, flags: u32) -> Result<u32, Errno> {
    let path = file(p, path, Follow::Yes)?;
    set(p, libc::SYS_setxattr, Arg::text(&path), name, value, flags)
}

/// lsetxattr(2).
pub fn lsetxattr(p: &mut Process, path: Path, name: Str, value: In, flags: u32) -> Result<u32, Errno> {
    let path = file(p, path, Follow::No)?;
    set(p, libc::SYS_lsetxattr, Arg::text(&path), name, value, flags)
}

/// fsetxattr(2).
pub fn fsetxattr(p: &mut Process, fd: Fd, name: Str, value: In, flags: u32) -> Result<u32, Errno> {
    set(p, libc::SYS_fsetxattr, fd.into(), name, value, flags)
}

fn set(
    p: &Process,
    nr: libc::c_long,
    object: Arg<'_>,
    name: Str,
    value: In,
    flags: u32,
) -> Result<u32, Errno> {
    let name = attribute(p, name)?;
    let value = value.host(&p.machine.memory);
    host::pass(nr, [object, Arg::text(&name), value.arg(), value.len.into(), flags.into()])
}

/// getxattr(2).
pub fn getxattr(p: &mut Process, path: Path, name: Str, value: Out) -> Result<u32, Errno> {
    let path = file(p, path, Follow::Yes)?;
    get(p, libc::SYS_getxattr, Arg::text(&path), name, value)
}

/// lgetxattr(2).
pub fn lgetxattr(p: &mut Process, path: Path, name: Str, value: Out) -> Result<u32, Errno> {
    let path = file(p, path, Follow::No)?;
    get(p, libc::SYS_lgetxattr, Arg::text(&path), name, value)
}

/// fgetxattr(2).
pub fn fgetxattr(p: &mut Process, fd: Fd, name: Str, value: Out) -> Result<u32, Errno> {
    get(p, libc::SYS_fgetxattr, fd.into(), name, value)
}

fn get(p: &Process, nr: libc::c_long, object: Arg<'_>, name: Str, value: Out) -> Result<u32, Errno> {
    let name = attribute(p, name)?;
    let value = value.host(&p.machine.memory);
    host::pass(nr, [object, Arg::text(&name), value.arg(), value.len.into()])
}

/// listxattr(2).
pub fn listxattr(p: &mut Process, path: Path, list: Out) -> Result<u32, Errno> {
    let path = file(p, path, Follow::Yes)?;
    let list = list.host(&p.machine.memory);
    host::pass(libc::SYS_listxattr, [Arg::text(&path), list.arg(), list.len.into()])
}

/// llistxattr(2).
pub fn llistxattr(p: &mut Process, path: Path, list: Out) -> Result<u32, Errno> {
    let path = file(p, path, Follow::No)?;
    let list = list.host(&p.machine.memory);
    host::pass(libc::SYS_llistxattr, [Arg::text(&path), list.arg(), list.len.into()])
}

/// flistxattr(2).
pub fn flistxattr(p: &mut Process, fd: Fd, list: Out) -> Result<u32, Errno> {
    let list = list.host(&p.machine.memory);
    host::pass(libc::SYS_flistxattr, [fd.into(), list.arg(), list.len.into()])
}

/// removexattr(2).
pub fn removexattr(p: &mut Process, path: Path, name: Str) -> Result<u32, Errno> {
    let (path, name) = (file(p, path, Follow::Yes)?, attribute(p, name)?);
    host::pass(libc::SYS_removexattr, [Arg::text(&path), Arg::text(&name)])
}

/// lremovexattr(2).
pub fn lremovexattr(p: &mut Process, path: Path, name: Str) -> Result<u32, Errno> {
    let (path, name) = (file(p, path, Follow::No)?, attribute(p, name)?);
    host::pass(libc::SYS_lremovexattr, [Arg::text(&path), Arg::text(&name)])
}

/// fremovexattr(2).
pub fn fremovexattr(p: &mut Process, fd: Fd, name: Str) -> Result<u32, Errno> {
    let name = attribute(p, name)?;
    host::pass(libc::SYS_fremovexattr, [fd.into(), Arg::text(&name)])
}
