//! Placement, limits, stacks and files, by behaviour.

use crate::support::*;
use std::os::fd::AsRawFd;
use table86::memory::{
    Access, BadAddress, CodePage, END, MapError, MapRequest, Memory, Place, Prot, mmap_base,
};

fn anonymous(place: Place, len: u32) -> MapRequest {
    MapRequest::anonymous(place, len, rw())
}

/// The page-aligned ends of all mappings.
fn extents(memory: &Memory) -> Vec<(u32, u32)> {
    memory.regions().iter().map(|region| (region.start, region.end)).collect()
}

#[test]
fn mappings_stack_downwards_from_the_base_and_join() {
    let memory = memory();
    memory.set_mmap_base(0x8000_0123);
    assert_eq!(memory.map(&anonymous(Place::Anywhere, 1)), Ok(0x7fff_f000));
    assert_eq!(memory.map(&anonymous(Place::Anywhere, 0x2001)), Ok(0x7fff_c000));
    assert_eq!(extents(&memory), [(0x7fff_c000, 0x8000_0000)]);
    memory.unmap(0x7fff_e000, PAGE).expect("mapped");
    assert_eq!(memory.map(&anonymous(Place::Anywhere, 2 * PAGE)), Ok(0x7fff_a000));
    assert_eq!(memory.map(&anonymous(Place::Anywhere, PAGE)), Ok(0x7fff_e000), "the gap is filled");
}

/// Values of a native program without randomisation, on Linux 6.18.
#[test]
fn the_base_of_mappings_leaves_room_for_the_stack() {
    let cases = [
        (8 << 20, 0xf7ff_e000),
        (256 << 20, 0xefef_e000),
        (1 << 30, 0xbfef_e000),
        (3500 << 20, 0x2aaa_b000),
        (u64::MAX, 0x2aaa_b000),
    ];
    for (limit, base) in cases {
        assert_eq!(mmap_base(limit), base, "{limit:x}");
    }
}

#[test]
fn room_above_the_base_is_used_last() {
    let memory = memory();
    memory.set_mmap_base(0x1_2000);
    assert_eq!(memory.map(&anonymous(Place::Anywhere, 2 * PAGE)), Ok(0x1_0000));
    assert_eq!(memory.map(&anonymous(Place::Anywhere, PAGE)), Ok(END - PAGE));
}

#[test]
fn lengths_and_addresses_that_make_no_sense_are_refused() {
    let top = !(PAGE - 1);
    let cases: &[(Place, u32, Result<u32, MapError>)] = &[
        (Place::Anywhere, 0, Err(MapError::Invalid)),
        (Place::Fixed(0x10_0000), 0, Err(MapError::Invalid)),
        (Place::Anywhere, u32::MAX, Err(MapError::NoMemory)),
        (Place::Anywhere, u32::MAX - PAGE + 2, Err(MapError::NoMemory)),
        (Place::Anywhere, END, Err(MapError::NoMemory)),
        (Place::Fixed(0x10_0001), PAGE, Err(MapError::Invalid)),
        (Place::FixedNoReplace(0x10_0fff), PAGE, Err(MapError::Invalid)),
        (Place::Fixed(END), PAGE, Err(MapError::NoMemory)),
        (Place::Fixed(top), PAGE, Err(MapError::NoMemory)),
        (Place::Fixed(top), 2 * PAGE, Err(MapError::NoMemory)),
        (Place::Fixed(END - PAGE), PAGE + 1, Err(MapError::NoMemory)),
        (Place::Fixed(END - PAGE), PAGE, Ok(END - PAGE)),
        (Place::Fixed(0), PAGE, Ok(0)),
        (Place::Fixed(0), END, Ok(0)),
        (Place::Hint(0x10_0fff), PAGE, Ok(0x10_0000)),
        (Place::Hint(1), PAGE, Ok(0xf7ff_d000)),
        (Place::Hint(PAGE), PAGE, Ok(0x1_0000)),
        (Place::Hint(END), PAGE, Ok(0xf7ff_d000)),
        (Place::Hint(END - PAGE), 2 * PAGE, Ok(0xf7ff_c000)),
    ];
    for (place, len, expected) in cases {
        let memory = memory();
        let request = MapRequest::anonymous(*place, *len, Prot::NONE);
        assert_eq!(memory.map(&request), *expected, "{place:x?}, {len:#x}");
    }
}

#[test]
fn ranges_that_make_no_sense_are_not_unmapped_protected_or_moved() {
    let memory = memory_with(0x10_0000, 4, rw());
    let bad_unmaps =
        [(0x10_0001, PAGE), (0x10_0000, 0), (END, PAGE), (END - PAGE, 2 * PAGE), (PAGE, u32::MAX)];
    for (addr, len) in bad_unmaps {
        assert_eq!(memory.unmap(addr, len), Err(MapError::Invalid), "{addr:x} {len:x}");
    }
    let bad_protects = [
        (0x10_0001, 0, MapError::Invalid),
        (0xf_f000, PAGE, MapError::NoMemory),
        (0x10_3000, 2 * PAGE, MapError::NoMemory),
        (0x10_0000, u32::MAX, MapError::NoMemory),
        (0xffff_f000, PAGE, MapError::NoMemory),
    ];
    for (addr, len, error) in bad_protects {
        assert_eq!(memory.protect(addr, len, rw()), Err(error), "{addr:x} {len:x}");
    }
    let bad_moves = [
        (0x10_0001, PAGE, PAGE, MapError::Invalid),
        (0x10_0000, PAGE, 0, MapError::Invalid),
        (0x10_0000, 5 * PAGE, 6 * PAGE, MapError::NotMapped),
        (0x10_0000, u32::MAX, 6 * PAGE, MapError::NotMapped),
        (0x20_0000, PAGE, PAGE, MapError::NotMapped),
        (0x10_0000, PAGE, u32::MAX, MapError::NoMemory),
        (0x10_0000, 0, PAGE, MapError::Invalid),
    ];
    for (addr, old_len, new_len, error) in bad_moves {
        let result = memory.remap(addr, old_len, new_len, true, None);
        assert_eq!(result, Err(error), "{addr:x} {old_len:x} {new_len:x}");
    }
    assert_eq!(extents(&memory), [(0x10_0000, 0x10_4000)]);
}

#[test]
fn nothing_is_mapped_beyond_the_limit() {
    let memory = memory_with(0x10_0000, 4, rw());
    memory.set_limit(u64::from(6 * PAGE));
    assert_eq!(memory.map(&anonymous(Place::Anywhere, 3 * PAGE)), Err(MapError::NoMemory));
    assert_eq!(memory.map(&anonymous(Place::Fixed(0x10_2000), 4 * PAGE)), Ok(0x10_2000), "two replaced");
    assert_eq!(memory.remap(0x10_0000, 6 * PAGE, 7 * PAGE, true, None), Err(MapError::NoMemory));
    memory.unmap(0x10_0000, PAGE).expect("mapped");
    assert_eq!(memory.remap(0x10_1000, 5 * PAGE, 6 * PAGE, false, None), Ok(0x10_1000));
    assert_eq!(memory.mapped_bytes(), u64::from(6 * PAGE));
}

#[test]
fn a_guest_cannot_use_up_the_mappings_of_the_host() {
    let _maps = own_process_maps();
    let memory = memory();
    let mut refused = None;
    for number in 0..0x2_0000 {
        let addr = 0x10_0000 + number * 2 * PAGE;
        let prot = if number % 2 == 0 { Prot::READ } else { rw() };
        match memory.map(&MapRequest::anonymous(Place::Fixed(addr), PAGE, prot)) {
            Ok(_) => {}
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert_eq!(refused, Some(MapError::NoMemory));
    let host_mappings = std::fs::read_to_string("/proc/self/maps").expect("/proc").lines().count();
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("/proc");
    assert!(host_mappings + 1000 < most.trim().parse().expect("a number"), "{host_mappings}");
    memory.unmap(0, END).expect("everything can be given back");
    assert_eq!(memory.mapped_bytes(), 0);
}

#[test]
fn unmapped_memory_is_gone_on_the_host_too() {
    let memory = memory_with(0x10_0000, 3, rw());
    memory.write(0x10_1000, 1u32).expect("mapped");
    memory.unmap(0x10_1000, PAGE).expect("mapped");
    for (addr, there) in
        [(0xf_ffff, false), (0x10_0fff, true), (0x10_1000, false), (0x10_2000, true), (0x10_3000, false)]
    {
        assert_eq!(host_reads(&memory, addr), there, "{addr:x}");
        assert_eq!(memory.read::<u8>(addr).is_ok(), there, "{addr:x}");
    }
    memory.map(&anonymous(Place::Fixed(0x10_1000), PAGE)).expect("free");
    assert_eq!(memory.read(0x10_1000), Ok(0u32));
}

#[test]
fn the_space_is_guarded_on_both_sides_and_never_executable() {
    let memory = memory_with(0, 1, rwx());
    memory.map(&anonymous(Place::Fixed(END - PAGE), PAGE)).expect("free");
    assert_eq!(memory.contains_host(memory.base()), Some(0));
    let cases: &[(i64, Option<u32>)] = &[
        (0, Some(0)),
        (0xffff_ffff, Some(0xffff_ffff)),
        (1 << 32, Some(0)),
        ((1 << 32) + 0xf_ffff, Some(0xf_ffff)),
        ((1 << 32) + 0x10_0000, None),
        (-1, Some(0xffff_ffff)),
        (-0x1_0000, Some(0xffff_0000)),
        (-0x1_0001, None),
    ];
    for &(offset, guest) in cases {
        let host = memory.base().wrapping_offset(offset as isize);
        assert_eq!(memory.contains_host(host), guest, "{offset:x}");
    }
    let base = memory.base() as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    for line in maps.lines() {
        let (start, rest) = line.split_once('-').expect("a range");
        let start = u64::from_str_radix(start, 16).expect("an address");
        if (base..base + (1 << 32)).contains(&start) {
            let perms = rest.split(' ').nth(1).expect("permissions");
            assert!(!perms.contains('x'), "{line}");
        }
    }
    for offset in [-1, -0x1_0000, 1 << 32, (1 << 32) + 0xf_ffff, 0xffff_e000, 0xffff_ffff] {
        let mut byte = 0u8;
        let host = memory.base().wrapping_offset(offset);
        // SAFETY: addresses of the reservation and its guards; faults end the copy.
        let missing = unsafe { table86::memory::guarded::copy(&raw mut byte, host, 1) };
        assert_eq!(missing, 1, "{offset:x}");
    }
}

#[test]
fn whatever_can_be_accessed_can_be_read() {
    let cases = [
        (Prot::NONE, false, false),
        (R, true, false),
        (W, true, true),
        (X, true, false),
        (R | W, true, true),
        (R | X, true, false),
        (W | X, true, true),
        (rwx(), true, true),
    ];
    for (prot, reads, writes) in cases {
        let memory = memory_with(0x10_0000, 1, prot);
        assert_eq!(memory.read::<u8>(0x10_0000).is_ok(), reads, "{prot:?}");
        assert_eq!(host_reads(&memory, 0x10_0000), reads, "{prot:?}");
        assert_eq!(memory.write(0x10_0000, 0u8).is_ok(), writes, "{prot:?}");
        assert_eq!(host_writes(&memory, 0x10_0000), writes, "{prot:?}");
        assert_eq!(memory.fetch(0x10_0000, &mut [0]) == 1, prot.contains(X), "{prot:?}");
        assert_eq!(memory.region_at(0x10_0fff).map(|region| region.prot), Some(prot));
    }
}

#[test]
fn moved_memory_keeps_its_bytes_and_leaves_nothing_behind() {
    for shared in [false, true] {
        let memory = memory();
        let request = MapRequest { shared, ..anonymous(Place::Fixed(0x10_0000), 4 * PAGE) };
        memory.map(&request).expect("free");
        memory.protect(0x10_2000, PAGE, Prot::READ).expect("mapped");
        memory.protect(0x10_2000, PAGE, rw()).expect("mapped");
        for page in 0..4 {
            memory.write(0x10_0000 + page * PAGE, page + 1).expect("mapped");
        }
        memory.map(&anonymous(Place::Fixed(0x10_4000), PAGE)).expect("free");
        let refused = memory.remap(0x10_0000, 4 * PAGE, 6 * PAGE, false, None);
        assert_eq!(refused, Err(MapError::NoMemory), "something is in the way");
        let new = memory.remap(0x10_0000, 4 * PAGE, 6 * PAGE, true, None).expect("there is room");
        assert_ne!(new, 0x10_0000);
        for page in 0..4 {
            assert_eq!(memory.read(new + page * PAGE), Ok(page + 1));
            assert!(!host_reads(&memory, 0x10_0000 + page * PAGE));
        }
        // Memory of a shared object ends with the object, as on Linux; a SIGBUS.
        assert_eq!(memory.read::<u32>(new + 4 * PAGE).is_ok(), !shared);
        assert_eq!(memory.region_at(0x10_0000), None);
    }
}

#[test]
fn an_old_length_of_zero_maps_shared_memory_twice() {
    let memory = memory();
    let request = MapRequest { shared: true, ..anonymous(Place::Fixed(0x10_0000), 2 * PAGE) };
    memory.map(&request).expect("free");
    let twin = memory.remap(0x10_1000, 0, PAGE, true, None).expect("there is room");
    memory.write(twin, 0xabcd_u16).expect("mapped");
    assert_eq!(memory.read(0x10_1000), Ok(0xabcd_u16));
    assert_eq!(memory.region_at(twin).map(|region| region.offset), Some(u64::from(PAGE)));
}

#[test]
fn bytes_are_copied_whatever_the_protection_and_padded_with_zeros() {
    let memory = memory();
    let request = MapRequest::bytes(Place::Fixed(0x10_0000), vec![0x5a; 5000], Prot::READ, Some("[vdso]"));
    assert_eq!(memory.map(&request), Ok(0x10_0000));
    assert_eq!(memory.read(0x10_0000 + 4996), Ok([0x5a, 0x5a, 0x5a, 0x5a, 0u8, 0]));
    assert!(!host_writes(&memory, 0x10_0000));
    let too_long = MapRequest { len: PAGE, ..request };
    assert_eq!(memory.map(&too_long), Err(MapError::Invalid));
}

#[test]
fn stacks_grow_to_a_fault_within_their_limit_and_keep_their_distance() {
    let top = 0xb000_0000;
    let stack = MapRequest {
        grows_down: true,
        name: Some("[stack]"),
        ..anonymous(Place::Fixed(top - 2 * PAGE), 2 * PAGE)
    };
    let memory = memory();
    memory.set_stack_limit(1 << 20);
    memory.map(&stack).expect("free");
    let limit = top - (1 << 20);
    assert!(!memory.grow_stack(top - PAGE), "mapped already");
    assert!(!memory.grow_stack(limit - 1), "beyond the limit");
    assert!(memory.grow_stack(top - 5 * PAGE + 123));
    assert_eq!(extents(&memory), [(top - 5 * PAGE, top)]);
    assert_eq!(memory.write(limit + 4, 7u32), Ok(()), "the kernel's accesses let it grow, too");
    assert_eq!(memory.write(limit - 4, 7u32), Err(BadAddress(limit - 4)));
    assert_eq!(extents(&memory), [(limit, top)]);
    assert_eq!(memory.regions()[0].name, Some("[stack]"));

    let gap = 256 * PAGE;
    for (prot, distance, grows) in
        [(rw(), gap, true), (rw(), gap - PAGE, false), (Prot::NONE, 0, true), (R, 0, false)]
    {
        let memory = memory_with(0xa000_0000, 1, prot);
        memory.map(&stack).expect("free");
        memory.set_stack_limit(u32::MAX);
        let addr = 0xa000_1000 + distance;
        assert_eq!(memory.grow_stack(addr), grows, "{prot:?} {distance:x}");
    }
}

#[test]
fn the_memory_limit_holds_for_stacks() {
    let memory = memory();
    let stack = MapRequest { grows_down: true, ..anonymous(Place::Fixed(0xb000_0000), PAGE) };
    memory.map(&stack).expect("free");
    memory.set_limit(u64::from(2 * PAGE));
    assert!(!memory.grow_stack(0xb000_0000 - 2 * PAGE));
    assert!(memory.grow_stack(0xb000_0000 - PAGE));
}

#[test]
fn nothing_is_placed_into_the_gap_below_a_stack() {
    let memory = memory();
    let stack = MapRequest { grows_down: true, ..anonymous(Place::Fixed(0x8000_0000 - PAGE), PAGE) };
    memory.map(&stack).expect("free");
    memory.set_mmap_base(0x8000_0000);
    let highest = 0x8000_0000 - PAGE - 256 * PAGE;
    assert_eq!(memory.map(&anonymous(Place::Hint(highest), PAGE)), Ok(highest - PAGE));
    assert_eq!(memory.map(&anonymous(Place::Fixed(highest), PAGE)), Ok(highest), "unless it is said");
}

#[test]
fn files_show_their_bytes_and_end_with_a_fault() {
    let temp = TempFile::with_pattern(PAGE as usize + 10);
    let memory = memory();
    memory.map(&temp.request(Place::Fixed(0x10_0000), 3, rw())).expect("a plain file");
    let expected: Vec<u8> = std::fs::read(&temp.path).expect("the file");
    let mut bytes = vec![1; 2 * PAGE as usize];
    memory.read_bytes(0x10_0000, &mut bytes).expect("mapped");
    assert_eq!(bytes[..expected.len()], expected);
    assert!(bytes[expected.len()..].iter().all(|&byte| byte == 0));
    assert_eq!(memory.read::<u32>(0x10_2000), Err(BadAddress(0x10_2000)), "behind the end of the file");
    assert_eq!(memory.read::<u32>(0x10_1ffe), Err(BadAddress(0x10_2000)));
    assert_eq!(memory.write(0x10_2000, 1u32), Err(BadAddress(0x10_2000)));
    memory.write(0x10_0000, 0x1234_5678u32).expect("private");
    assert_eq!(std::fs::read(&temp.path).expect("the file"), expected);
}

#[test]
fn files_may_be_mapped_beyond_4_gib() {
    use std::os::unix::fs::FileExt;
    let temp = TempFile::with_pattern(0);
    let offset = (5 << 30) + u64::from(PAGE);
    if temp.file.write_all_at(b"far away", offset).is_err() {
        eprintln!("skipped: the temporary directory takes no files over 4 GiB");
        return;
    }
    let memory = memory();
    let request = MapRequest::file(Place::Fixed(0x10_0000), PAGE, Prot::READ, temp.fd(), offset, None);
    memory.map(&request).expect("a sparse file");
    assert_eq!(memory.read(0x10_0000), Ok(*b"far away"));
    assert_eq!(memory.regions()[0].offset, offset);
}

#[test]
fn files_that_the_host_does_not_map_give_its_error_and_keep_what_was_there() {
    let temp = TempFile::with_pattern(PAGE as usize);
    let read_only = std::fs::File::open(&temp.path).expect("the file");
    let write_only = std::fs::File::options().write(true).open(&temp.path).expect("the file");
    let directory = std::fs::File::open("/").expect("the root");
    let shared_write = (true, rw());
    let private_read = (false, Prot::READ);
    let cases = [
        (read_only.as_raw_fd(), 0, shared_write, MapError::Host(libc::EACCES)),
        (write_only.as_raw_fd(), 0, private_read, MapError::Host(libc::EACCES)),
        (directory.as_raw_fd(), 0, private_read, MapError::Host(libc::ENODEV)),
        (-1, 0, private_read, MapError::Host(libc::EBADF)),
        (read_only.as_raw_fd(), 1, private_read, MapError::Invalid),
        (read_only.as_raw_fd(), !0xfff, private_read, MapError::Overflow),
        (read_only.as_raw_fd(), (1 << 63) - 4096, private_read, MapError::Overflow),
    ];
    let memory = memory_with(0x10_0000, 1, rw());
    memory.write(0x10_0000, 42u32).expect("mapped");
    for place in [Place::Fixed(0x10_0000), Place::Anywhere] {
        for (fd, offset, (shared, prot), error) in cases {
            let request = MapRequest { shared, ..MapRequest::file(place, PAGE, prot, fd, offset, None) };
            assert_eq!(memory.map(&request), Err(error), "{fd} {offset:x}");
            assert_eq!(memory.read(0x10_0000), Ok(42u32));
            assert_eq!(extents(&memory), [(0x10_0000, 0x10_1000)]);
        }
    }
    let shared = MapRequest {
        shared: true,
        ..MapRequest::file(Place::Fixed(0x20_0000), 3 * PAGE, Prot::READ, read_only.as_raw_fd(), 0, None)
    };
    memory.map(&shared).expect("reading is allowed");
    assert_eq!(memory.protect(0x20_1000, PAGE, rw()), Err(MapError::Access));
    assert_eq!(memory.region_at(0x20_1000).map(|region| region.prot), Some(Prot::READ));
    let prolonged = memory.remap(0x20_0000, 3 * PAGE, 4 * PAGE, false, None);
    assert_eq!(prolonged, Ok(0x20_0000), "it is still one mapping");
}

#[test]
fn maps_shows_the_lines_of_the_host() {
    let temp = TempFile::with_pattern(3 * PAGE as usize);
    let memory = memory();
    memory.map(&temp.request(Place::Fixed(0x10_0000), 3, R | X)).expect("a plain file");
    memory.protect(0x10_1000, PAGE, rw()).expect("mapped");
    let heap = MapRequest { name: Some("[heap]"), ..anonymous(Place::Fixed(0x20_0000), PAGE) };
    memory.map(&heap).expect("free");
    let shared = MapRequest { shared: true, ..anonymous(Place::Fixed(0x30_0000), PAGE) };
    memory.map(&shared).expect("free");

    // The same mapped natively, at addresses of as many digits.
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE;
    let at = std::ptr::without_provenance_mut(0x3210_0000);
    // SAFETY: replaces nothing.
    let host =
        unsafe { libc::mmap(at, 3 * PAGE as usize, libc::PROT_READ | libc::PROT_EXEC, flags, temp.fd(), 0) };
    assert_eq!(host, at, "the address is free in this process");
    // SAFETY: just mapped.
    unsafe {
        libc::mprotect(at.wrapping_byte_add(PAGE as usize), PAGE as usize, libc::PROT_READ | libc::PROT_WRITE)
    };
    let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
    // SAFETY: as above.
    unsafe { libc::munmap(at, 3 * PAGE as usize) };
    let theirs: Vec<String> = maps
        .lines()
        .filter(|line| line.starts_with("321"))
        .map(|line| line.replace("3210", "0010"))
        .collect();

    let lines: Vec<String> = memory.regions().iter().map(|region| region.to_string()).collect();
    assert_eq!(lines[..3], theirs);
    assert_eq!(lines[3], format!("{:<73}[heap]", "00200000-00201000 rw-p 00000000 00:00 0 "));
    assert!(lines[4].starts_with("00300000-00301000 rw-s 00000000 00:01 "), "{}", lines[4]);
    assert!(lines[4].ends_with("/dev/zero (deleted)"), "{}", lines[4]);
}

#[test]
fn the_map_survives_a_fork_amid_other_threads_changes() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let memory = memory_with(0x10_0000, 1, rw());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let at = memory.map(&anonymous(Place::Anywhere, PAGE)).expect("room");
                memory.unmap(at, PAGE).expect("mapped");
            }
        });
        for _ in 0..20 {
            let guard = memory.lock_for_fork();
            // SAFETY: the child only uses this memory and leaves by `_exit`.
            let child = unsafe { libc::fork() };
            drop(guard);
            if child == 0 {
                let alright = memory.unmap(0x10_0000, PAGE).is_ok() && !host_reads(&memory, 0x10_0000);
                // SAFETY: ends the child without running the parent's destructors.
                unsafe { libc::_exit(if alright { 0 } else { 1 }) };
            }
            let mut status = -1;
            // SAFETY: the child just made.
            assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
            assert_eq!(status, 0);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(host_reads(&memory, 0x10_0000), "the child's changes are its own");
}

#[test]
fn advice_reaches_the_host_and_its_errors_the_guest() {
    let memory = memory_with(0x10_0000, 2, rwx());
    memory.write(0x10_0000, 9u32).expect("mapped");
    assert_eq!(memory.protect_code(0x100), CodePage::Protected);
    assert_eq!(memory.advise(0x10_0000, PAGE, libc::MADV_DONTNEED), Ok(()));
    assert_eq!(memory.read(0x10_0000), Ok(0u32));
    assert_eq!(memory.take_dirty_code(), [0x100]);
    let cases = [
        (0x10_0001, PAGE, libc::MADV_DONTNEED, MapError::Invalid),
        (0x10_0000, PAGE, 12345, MapError::Host(libc::EINVAL)),
        (0x10_0000, 0, 12345, MapError::Host(libc::EINVAL)),
        (0x10_1000, 2 * PAGE, libc::MADV_DONTNEED, MapError::NoMemory),
        (0x10_0000, PAGE, libc::MADV_HWPOISON, MapError::Host(libc::EPERM)),
    ];
    for (addr, len, advice, error) in cases {
        assert_eq!(memory.advise(addr, len, advice), Err(error), "{addr:x} {len:x} {advice}");
    }
    assert!(memory.host_range(0x10_0000, 2 * PAGE, Access::Write).is_ok());
}
