//! Users, groups and capabilities.
//!
//! The calls without a `32` in their names carry 16-bit ids: 65535 is "leave it", and what does not fit is shown as
//! the overflow id.

use super::Process;
use super::abi::{CapData, CapHeader};
use super::args::{Fd, GuestPtr};
use super::errno::Errno;
use super::host::{self, Arg};

/// Shown for ids beyond 16 bits (the default of `/proc/sys/kernel/overflowuid`).
const OVERFLOW_ID: u16 = 65534;
/// Most supplementary groups (`NGROUPS_MAX`).
const NGROUPS_MAX: i32 = 65536;

/// A 16-bit id for calls that know 32 bits.
pub fn wide_id(id: u16) -> u32 {
    if id == u16::MAX { u32::MAX } else { id.into() }
}

/// A 32-bit id for structures that have 16 bits.
pub fn narrow_id(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(OVERFLOW_ID)
}

fn id_of(nr: libc::c_long) -> Result<u32, Errno> {
    host::pass(nr, []).map(|id| narrow_id(id).into())
}

/// getuid(2), 16 bits.
pub fn getuid(_p: &mut Process) -> Result<u32, Errno> {
    id_of(libc::SYS_getuid)
}

/// geteuid(2), 16 bits.
pub fn geteuid(_p: &mut Process) -> Result<u32, Errno> {
    id_of(libc::SYS_geteuid)
}

/// getgid(2), 16 bits.
pub fn getgid(_p: &mut Process) -> Result<u32, Errno> {
    id_of(libc::SYS_getgid)
}

/// getegid(2), 16 bits.
pub fn getegid(_p: &mut Process) -> Result<u32, Errno> {
    id_of(libc::SYS_getegid)
}

fn set_ids<const N: usize>(nr: libc::c_long, ids: [u16; N]) -> Result<u32, Errno> {
    host::pass(nr, ids.map(|id| wide_id(id).into()))
}

/// setuid(2), 16 bits.
pub fn setuid(_p: &mut Process, uid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setuid, [uid])
}

/// setgid(2), 16 bits.
pub fn setgid(_p: &mut Process, gid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setgid, [gid])
}

/// setreuid(2), 16 bits.
pub fn setreuid(_p: &mut Process, ruid: u16, euid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setreuid, [ruid, euid])
}

/// setregid(2), 16 bits.
pub fn setregid(_p: &mut Process, rgid: u16, egid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setregid, [rgid, egid])
}

/// setresuid(2), 16 bits.
pub fn setresuid(_p: &mut Process, ruid: u16, euid: u16, suid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setresuid, [ruid, euid, suid])
}

/// setresgid(2), 16 bits.
pub fn setresgid(_p: &mut Process, rgid: u16, egid: u16, sgid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setresgid, [rgid, egid, sgid])
}

/// setfsuid(2), 16 bits: the previous id.
pub fn setfsuid(_p: &mut Process, uid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setfsuid, [uid]).map(|old| narrow_id(old).into())
}

/// setfsgid(2), 16 bits: the previous id.
pub fn setfsgid(_p: &mut Process, gid: u16) -> Result<u32, Errno> {
    set_ids(libc::SYS_setfsgid, [gid]).map(|old| narrow_id(old).into())
}

/// fchown(2), 16-bit ids.
pub fn fchown(_p: &mut Process, fd: Fd, uid: u16, gid: u16) -> Result<u32, Errno> {
    host::pass(libc::SYS_fchown, [fd.into(), wide_id(uid).into(), wide_id(gid).into()])
}

fn three_ids(nr: libc::c_long) -> Result<[u32; 3], Errno> {
    let [mut real, mut effective, mut saved] = [0u32; 3];
    host::call(nr, [Arg::output(&mut real), Arg::output(&mut effective), Arg::output(&mut saved)])?;
    Ok([real, effective, saved])
}

fn write_wide(p: &Process, ids: [u32; 3], to: [GuestPtr<u32>; 3]) -> Result<u32, Errno> {
    for (id, to) in ids.into_iter().zip(to) {
        to.write(&p.machine.memory, id)?;
    }
    Ok(0)
}

fn write_narrow(p: &Process, ids: [u32; 3], to: [GuestPtr<u16>; 3]) -> Result<u32, Errno> {
    for (id, to) in ids.into_iter().zip(to) {
        to.write(&p.machine.memory, narrow_id(id))?;
    }
    Ok(0)
}

/// getresuid(2), 16 bits.
pub fn getresuid(
    p: &mut Process,
    ruid: GuestPtr<u16>,
    euid: GuestPtr<u16>,
    suid: GuestPtr<u16>,
) -> Result<u32, Errno> {
    write_narrow(p, three_ids(libc::SYS_getresuid)?, [ruid, euid, suid])
}

/// getresgid(2), 16 bits.
pub fn getresgid(
    p: &mut Process,
    rgid: GuestPtr<u16>,
    egid: GuestPtr<u16>,
    sgid: GuestPtr<u16>,
) -> Result<u32, Errno> {
    write_narrow(p, three_ids(libc::SYS_getresgid)?, [rgid, egid, sgid])
}

/// getresuid(2).
pub fn getresuid32(
    p: &mut Process,
    ruid: GuestPtr<u32>,
    euid: GuestPtr<u32>,
    suid: GuestPtr<u32>,
) -> Result<u32, Errno> {
    write_wide(p, three_ids(libc::SYS_getresuid)?, [ruid, euid, suid])
}

/// getresgid(2).
pub fn getresgid32(
    p: &mut Process,
    rgid: GuestPtr<u32>,
    egid: GuestPtr<u32>,
    sgid: GuestPtr<u32>,
) -> Result<u32, Errno> {
    write_wide(p, three_ids(libc::SYS_getresgid)?, [rgid, egid, sgid])
}

/// The supplementary groups, or only their number when `size` is 0.
fn groups(size: i32) -> Result<(u32, Vec<u32>), Errno> {
    if size < 0 {
        return Err(Errno::EINVAL);
    }
    let mut list = vec![0u32; size.min(NGROUPS_MAX) as usize];
    let count = host::pass(libc::SYS_getgroups, [list.len().into(), Arg::slice_mut(&mut list)])?;
    list.truncate(count as usize);
    Ok((count, list))
}

/// getgroups(2), 16 bits.
pub fn getgroups(p: &mut Process, size: i32, list: GuestPtr<u16>) -> Result<u32, Errno> {
    let (count, groups) = groups(size)?;
    let narrow: Vec<u16> = groups.into_iter().map(narrow_id).collect();
    list.write_array(&p.machine.memory, &narrow)?;
    Ok(count)
}

/// getgroups(2).
pub fn getgroups32(p: &mut Process, size: i32, list: GuestPtr<u32>) -> Result<u32, Errno> {
    let (count, groups) = groups(size)?;
    list.write_array(&p.machine.memory, &groups)?;
    Ok(count)
}

fn set_groups(groups: &[u32]) -> Result<u32, Errno> {
    host::pass(libc::SYS_setgroups, [groups.len().into(), Arg::slice(groups)])
}

/// The number of groups, if it is one.
fn group_count(size: i32) -> Result<u32, Errno> {
    if (0..=NGROUPS_MAX).contains(&size) { Ok(size as u32) } else { Err(Errno::EINVAL) }
}

/// setgroups(2), 16 bits.
pub fn setgroups(p: &mut Process, size: i32, list: GuestPtr<u16>) -> Result<u32, Errno> {
    let groups = list.read_array(&p.machine.memory, group_count(size)?)?;
    let wide: Vec<u32> = groups.into_iter().map(u32::from).collect();
    set_groups(&wide)
}

/// setgroups(2).
pub fn setgroups32(p: &mut Process, size: i32, list: GuestPtr<u32>) -> Result<u32, Errno> {
    let groups = list.read_array(&p.machine.memory, group_count(size)?)?;
    set_groups(&groups)
}

/// The first version of the capability calls: 32 capabilities; later ones have 64 in two structures.
const CAPABILITY_VERSION_1: u32 = 0x1998_0330;

/// How many data structures a version has.
fn capability_words(version: u32) -> u32 {
    if version == CAPABILITY_VERSION_1 { 1 } else { 2 }
}

/// capget(2). The structures are the same on all architectures.
pub fn capget(p: &mut Process, header: GuestPtr<CapHeader>, data: GuestPtr<CapData>) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let mut head = header.read(memory)?;
    let words = capability_words(head.version);
    let mut sets = [CapData::ZERO; 2];
    let to = if data.is_null() { Arg::NULL } else { Arg::output(&mut sets) };
    let result = host::pass(libc::SYS_capget, [Arg::output(&mut head), to]);
    // With an unknown version the kernel tells the one that it likes.
    header.write(memory, head)?;
    if result.is_ok() && !data.is_null() {
        data.write_array(memory, &sets[..words as usize])?;
    }
    result
}

/// capset(2).
pub fn capset(p: &mut Process, header: GuestPtr<CapHeader>, data: GuestPtr<CapData>) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let mut head = header.read(memory)?;
    let given = data.read_array(memory, capability_words(head.version))?;
    let mut sets = [CapData::ZERO; 2];
    sets[..given.len()].copy_from_slice(&given);
    let result = host::pass(libc::SYS_capset, [Arg::output(&mut head), Arg::input(&sets)]);
    header.write(memory, head)?;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_do_not_fit_become_the_overflow_id() {
        assert_eq!(narrow_id(1000), 1000);
        assert_eq!(narrow_id(70000), OVERFLOW_ID);
        assert_eq!(wide_id(65535), u32::MAX);
        assert_eq!(wide_id(65534), 65534);
    }
}
