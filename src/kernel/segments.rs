//! Segment descriptors that programs make: thread-local storage in the GDT, and the LDT (set_thread_area(2),
//! modify_ldt(2)).

use super::abi::UserDesc;
use super::args::GuestPtr;
use super::errno::Errno;
use super::process::Process;
use crate::cpu::segment::Descriptors;
use crate::cpu::{Cpu, Seg};

/// First GDT entry for thread-local storage.
pub(crate) const TLS_FIRST: u32 = 12;
/// Number of such entries.
pub(crate) const TLS_COUNT: u32 = 3;
/// Entries that an LDT can have.
const LDT_ENTRIES: u32 = 8192;
/// Bytes of the default LDT that `modify_ldt` shows; there is none, so they are zero.
const DEFAULT_LDT_SIZE: u32 = 128;

/// Bits of `user_desc`.
mod flag {
    pub const SEG_32BIT: u32 = 1;
    pub const CONTENTS: u32 = 6;
    pub const READ_EXEC_ONLY: u32 = 8;
    pub const LIMIT_IN_PAGES: u32 = 16;
    pub const NOT_PRESENT: u32 = 32;
    pub const USEABLE: u32 = 64;
    /// All that 32-bit programs have.
    pub const ALL: u32 = 127;
}

fn contents(flags: u32) -> u32 {
    (flags & flag::CONTENTS) >> 1
}

/// Tells whether the description clears an entry: what `get` gives for an empty one, or all zeros.
fn is_empty(desc: &UserDesc) -> bool {
    let flags = desc.flags & flag::ALL;
    desc.base_addr == 0 && desc.limit == 0 && flags == flag::READ_EXEC_ONLY | flag::NOT_PRESENT
}

fn is_zero(desc: &UserDesc) -> bool {
    desc.base_addr == 0 && desc.limit == 0 && desc.flags & flag::ALL == 0
}

/// The descriptor of a description (SDM Vol. 3A, 3.4.5): user level, accessed.
fn descriptor(desc: &UserDesc) -> u64 {
    let (base, limit) = (u64::from(desc.base_addr), u64::from(desc.limit));
    let bit = |mask: u32| u64::from(desc.flags & mask != 0);
    let kind = 1 | (1 - bit(flag::READ_EXEC_ONLY)) << 1 | u64::from(contents(desc.flags)) << 2;
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (kind | 0x70) << 40
        | (1 - bit(flag::NOT_PRESENT)) << 47
        | (limit >> 16 & 0xf) << 48
        | bit(flag::USEABLE) << 52
        | bit(flag::SEG_32BIT) << 54
        | bit(flag::LIMIT_IN_PAGES) << 55
        | (base >> 24) << 56
}

/// The description of a descriptor.
pub(super) fn description(entry_number: u32, descriptor: u64) -> UserDesc {
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    let bit = |at: u32, mask: u32| if descriptor >> at & 1 != 0 { mask } else { 0 };
    let flags = bit(54, flag::SEG_32BIT)
        | ((descriptor >> 42 & 3) as u32 * 2)
        | (flag::READ_EXEC_ONLY - bit(41, flag::READ_EXEC_ONLY))
        | bit(55, flag::LIMIT_IN_PAGES)
        | (flag::NOT_PRESENT - bit(47, flag::NOT_PRESENT))
        | bit(52, flag::USEABLE);
    UserDesc { entry_number, base_addr: Descriptors::base(descriptor), limit, flags }
}

/// Gives loaded segment registers the new base of a descriptor they name; those whose descriptor is gone become null.
pub(super) fn refresh(cpu: &mut Cpu, selector: u16) {
    for seg in [Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs] {
        if cpu.selectors[seg as usize] & !3 == selector & !3 {
            let loaded = cpu.selectors[seg as usize];
            let (selector, base) = match cpu.descriptors.load_data(seg, loaded) {
                Ok(base) => (loaded, base),
                Err(_) => (0, 0),
            };
            cpu.selectors[seg as usize] = selector;
            cpu.segment_bases[seg as usize] = base;
        }
    }
}

/// The descriptor of a thread-local storage entry; `EINVAL` for a description that Linux refuses.
pub(crate) fn tls_descriptor(desc: &UserDesc) -> Result<u64, Errno> {
    // No 16-bit stacks, no code, nothing absent: what else could be loaded would be a way around checks.
    let sound =
        desc.flags & flag::SEG_32BIT != 0 && contents(desc.flags) <= 1 && desc.flags & flag::NOT_PRESENT == 0;
    match is_empty(desc) || is_zero(desc) {
        true => Ok(0),
        false if sound => Ok(descriptor(desc)),
        false => Err(Errno::EINVAL),
    }
}

/// Sets a thread-local storage entry; `allocate`: entry -1 takes a free one. Gives the entry.
/// `EINVAL` for an entry or description that Linux refuses, `ESRCH` if none is free.
pub(super) fn set_tls(cpu: &mut Cpu, desc: &UserDesc, allocate: bool) -> Result<u32, Errno> {
    let new = tls_descriptor(desc)?;
    let entries = TLS_FIRST..TLS_FIRST + TLS_COUNT;
    let entry = if desc.entry_number == u32::MAX && allocate {
        entries.clone().find(|&e| cpu.descriptors.gdt[e as usize] == 0).ok_or(Errno::ESRCH)?
    } else {
        desc.entry_number
    };
    if !entries.contains(&entry) {
        return Err(Errno::EINVAL);
    }
    cpu.descriptors.gdt[entry as usize] = new;
    refresh(cpu, (entry << 3) as u16);
    Ok(entry)
}

/// set_thread_area(2).
pub fn set_thread_area(p: &mut Process, desc: u32) -> Result<u32, Errno> {
    let pointer = GuestPtr::<UserDesc>::new(desc);
    let desc = pointer.read(&p.machine.memory)?;
    let entry = set_tls(&mut p.machine.cpu, &desc, true)?;
    if desc.entry_number == u32::MAX {
        pointer.cast::<u32>().write(&p.machine.memory, entry)?;
    }
    Ok(0)
}

/// get_thread_area(2).
pub fn get_thread_area(p: &mut Process, desc: u32) -> Result<u32, Errno> {
    let pointer = GuestPtr::<UserDesc>::new(desc);
    let entry = pointer.cast::<u32>().read(&p.machine.memory)?;
    if !(TLS_FIRST..TLS_FIRST + TLS_COUNT).contains(&entry) {
        return Err(Errno::EINVAL);
    }
    let description = description(entry, p.machine.cpu.descriptors.gdt[entry as usize]);
    pointer.write(&p.machine.memory, description)?;
    Ok(0)
}

/// modify_ldt(2): 0 reads the table, 2 the default one, 1 and 0x11 write an entry.
pub fn modify_ldt(p: &mut Process, function: i32, pointer: u32, bytes: u32) -> Result<u32, Errno> {
    match function {
        0 => read_ldt(p, pointer, bytes),
        1 => write_ldt(p, pointer, bytes, true),
        2 => {
            let size = bytes.min(DEFAULT_LDT_SIZE);
            p.machine.memory.fill(pointer, 0, size)?;
            Ok(size)
        }
        0x11 => write_ldt(p, pointer, bytes, false),
        _ => Err(Errno::ENOSYS),
    }
}

fn read_ldt(p: &mut Process, pointer: u32, bytes: u32) -> Result<u32, Errno> {
    let mut image: Vec<u8> =
        p.machine.cpu.descriptors.ldt.read().iter().flat_map(|entry| entry.to_le_bytes()).collect();
    if image.is_empty() {
        return Ok(0);
    }
    let size = bytes.min(LDT_ENTRIES * 8) as usize;
    image.resize(size, 0);
    p.machine.memory.write_bytes(pointer, &image)?;
    Ok(size as u32)
}

fn write_ldt(p: &mut Process, pointer: u32, bytes: u32, old: bool) -> Result<u32, Errno> {
    if bytes != size_of::<UserDesc>() as u32 {
        return Err(Errno::EINVAL);
    }
    let mut desc = GuestPtr::<UserDesc>::new(pointer).read(&p.machine.memory)?;
    let not_present = desc.flags & flag::NOT_PRESENT != 0;
    if desc.entry_number >= LDT_ENTRIES || contents(desc.flags) == 3 && (old || !not_present) {
        return Err(Errno::EINVAL);
    }
    let clears = is_empty(&desc) || old && desc.base_addr == 0 && desc.limit == 0;
    if old {
        desc.flags &= !flag::USEABLE;
    }
    let index = desc.entry_number as usize;
    p.machine.cpu.descriptors.ldt.set(index, if clears { 0 } else { descriptor(&desc) });
    refresh(&mut p.machine.cpu, (index << 3 | 4) as u16);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: UserDesc = UserDesc {
        entry_number: u32::MAX,
        base_addr: 0x1234_5678,
        limit: 0xf_ffff,
        flags: flag::SEG_32BIT | flag::LIMIT_IN_PAGES | flag::USEABLE,
    };

    #[test]
    fn a_description_survives_its_descriptor() {
        for flags in 0..=flag::ALL {
            let desc = UserDesc { entry_number: 12, limit: 0x8_7654, flags, ..TLS };
            assert_eq!(description(12, descriptor(&desc)), desc);
        }
    }

    #[test]
    fn a_descriptor_has_the_processors_layout() {
        // Present, level 3, data, writable, accessed; granular, 32-bit, available.
        assert_eq!(descriptor(&TLS), 0x12df_f334_5678_ffff);
    }

    #[test]
    fn three_entries_are_handed_out() {
        let mut cpu = Cpu::new();
        let entries: Vec<_> = (0..4).map(|_| set_tls(&mut cpu, &TLS, true)).collect();
        assert_eq!(entries, [Ok(12), Ok(13), Ok(14), Err(Errno::ESRCH)]);
        let clear = UserDesc { entry_number: 13, ..UserDesc::ZERO };
        assert_eq!(set_tls(&mut cpu, &clear, false), Ok(13));
        assert_eq!(set_tls(&mut cpu, &TLS, true), Ok(13));
    }

    #[test]
    fn code_and_16_bit_segments_are_refused() {
        let mut cpu = Cpu::new();
        for flags in [0x40, TLS.flags | 4, TLS.flags | flag::NOT_PRESENT] {
            assert_eq!(set_tls(&mut cpu, &UserDesc { flags, ..TLS }, true), Err(Errno::EINVAL));
        }
        assert_eq!(set_tls(&mut cpu, &UserDesc { entry_number: 11, ..TLS }, true), Err(Errno::EINVAL));
        assert_eq!(set_tls(&mut cpu, &TLS, false), Err(Errno::EINVAL));
    }

    #[test]
    fn a_loaded_selector_gets_the_new_base() {
        let mut cpu = Cpu::new();
        let entry = set_tls(&mut cpu, &TLS, true).unwrap();
        cpu.selectors[Seg::Gs as usize] = (entry << 3 | 3) as u16;
        let moved = UserDesc { entry_number: entry, base_addr: 0x1000, ..TLS };
        set_tls(&mut cpu, &moved, false).unwrap();
        assert_eq!(cpu.segment_bases[Seg::Gs as usize], 0x1000);
    }
}
