//! NUMA memory policy (numa(7)). Node masks are arrays of `long`s; on little-endian hosts only their ends differ.

use super::Process;
use super::args::{GuestPtr, In};
use super::errno::Errno;
use super::host::{self, Arg};
use crate::memory::Access;

/// Most nodes of a mask in bits (a page).
const NODES_MAX: u32 = 4096 * 8;
/// `MPOL_F_ADDR` of get_mempolicy: the policy is that of an address.
const F_ADDR: u32 = 2;

/// Words of a mask: one bit less than `nodes`, as the kernel counts.
fn words(nodes: u32) -> Result<u32, Errno> {
    let bits = nodes.saturating_sub(1);
    if bits > NODES_MAX { Err(Errno::EINVAL) } else { Ok(bits.div_ceil(32)) }
}

/// The guest's mask for the host; `None` for NULL.
fn read_mask(p: &Process, mask: GuestPtr<u32>, nodes: u32) -> Result<Option<Vec<u64>>, Errno> {
    if mask.is_null() {
        return Ok(None);
    }
    let guest = mask.read_array(&p.machine.memory, words(nodes)?)?;
    let pair = |pair: &[u32]| u64::from(pair[0]) | u64::from(pair.get(1).copied().unwrap_or(0)) << 32;
    let mut wide: Vec<u64> = guest.chunks(2).map(pair).collect();
    if wide.is_empty() {
        wide.push(0);
    }
    Ok(Some(wide))
}

fn mask_arg(mask: &Option<Vec<u64>>) -> Arg<'_> {
    mask.as_ref().map_or(Arg::NULL, |mask| Arg::slice(mask))
}

/// mbind(2).
pub fn mbind(
    p: &mut Process,
    addr: u32,
    len: u32,
    mode: u32,
    mask: GuestPtr<u32>,
    nodes: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let mask = read_mask(p, mask, nodes)?;
    let memory = &p.machine.memory;
    if !addr.is_multiple_of(4096) {
        return Err(Errno::EINVAL);
    }
    // All of it has to be mapped, in a range that does not wrap around.
    memory.host_range(addr, len, Access::Read)?;
    let area = In::new(addr, len).host(memory);
    host::pass(
        libc::SYS_mbind,
        [area.arg(), area.len.into(), mode.into(), mask_arg(&mask), nodes.into(), flags.into()],
    )
}

/// set_mempolicy(2).
pub fn set_mempolicy(p: &mut Process, mode: i32, mask: GuestPtr<u32>, nodes: u32) -> Result<u32, Errno> {
    let mask = read_mask(p, mask, nodes)?;
    host::pass(libc::SYS_set_mempolicy, [mode.into(), mask_arg(&mask), nodes.into()])
}

/// get_mempolicy(2).
pub fn get_mempolicy(
    p: &mut Process,
    mode: GuestPtr<i32>,
    mask: GuestPtr<u32>,
    nodes: u32,
    addr: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let memory = &p.machine.memory;
    let mut found = 0i32;
    // What is shown is counted without the bit less.
    let shown = nodes.saturating_add(1);
    let mut wide = if mask.is_null() { Vec::new() } else { vec![0u64; words(shown)?.div_ceil(2) as usize] };
    let at = if flags & F_ADDR != 0 { In::new(addr, 1).host(memory).arg() } else { addr.into() };
    let room = wide.len() * 64;
    let to = if mask.is_null() { Arg::NULL } else { Arg::slice_mut(&mut wide) };
    host::call(libc::SYS_get_mempolicy, [Arg::output(&mut found), to, room.into(), at, flags.into()])?;
    mode.write_opt(memory, found)?;
    if !mask.is_null() {
        let narrow: Vec<u32> = wide.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]).collect();
        mask.write_array(memory, &narrow[..words(shown)? as usize])?;
    }
    Ok(0)
}
