//! Reading and writing guest memory from Rust.

use crate::support::*;
use table86::memory::{Access, BadAddress, MapRequest, Place, Prot, StringError, guarded, page};

const AT: u32 = 0x10_0000;

#[test]
fn values_are_little_endian_and_need_no_alignment() {
    let memory = memory_with(AT, 2, rw());
    memory.write(AT + 0xffe, 0x1122_3344u32).expect("mapped");
    assert_eq!(memory.read(AT + 0xffe), Ok([0x44u8, 0x33, 0x22, 0x11]));
    assert_eq!(memory.read(AT + 0xfff), Ok(0x2233u16.to_le()));
    memory.write(AT + 1, [1u16, 2, 3]).expect("mapped");
    assert_eq!(memory.read(AT + 1), Ok(0x0003_0002_0001u64));
}

#[test]
fn every_bad_address_is_reported_by_its_first_byte() {
    let memory = memory_with(AT, 1, rw());
    memory.map(&MapRequest::anonymous(Place::Fixed(AT + PAGE), PAGE, R)).expect("free");
    memory.map(&MapRequest::anonymous(Place::Fixed(AT + 2 * PAGE), PAGE, Prot::NONE)).expect("free");
    let end = AT + 2 * PAGE;
    // Address, length, first address that cannot be read, first that cannot be written.
    let cases: &[(u32, u32, Option<u32>, Option<u32>)] = &[
        (AT, 2 * PAGE, None, Some(AT + PAGE)),
        (AT + PAGE - 1, 2, None, Some(AT + PAGE)),
        (AT - 1, 2, Some(AT - 1), Some(AT - 1)),
        (AT, 2 * PAGE + 1, Some(end), Some(AT + PAGE)),
        (end - 1, 2, Some(end), Some(end - 1)),
        (end + 5, 1, Some(end + 5), Some(end + 5)),
        (0, 1, Some(0), Some(0)),
        (0xffff_ffff, 1, Some(0xffff_ffff), Some(0xffff_ffff)),
        (0xffff_ffff, 2, Some(0xffff_ffff), Some(0xffff_ffff)),
        (0xffff_f000, 0x2000, Some(0xffff_f000), Some(0xffff_f000)),
        (0, 0, None, None),
        (0xffff_ffff, 0, None, None),
        (end, 0, None, None),
    ];
    for &(addr, len, unreadable, unwritable) in cases {
        let case = format!("{addr:x} {len:x}");
        let expected = |bad: Option<u32>| bad.map_or(Ok(()), |bad| Err(BadAddress(bad)));
        let mut buffer = vec![0; len as usize];
        assert_eq!(memory.read_bytes(addr, &mut buffer), expected(unreadable), "{case}");
        assert_eq!(memory.write_bytes(addr, &buffer), expected(unwritable), "{case}");
        assert_eq!(memory.fill(addr, 0, len), expected(unwritable), "{case}");
        let host = |access| memory.host_range(addr, len, access).map(|_| ());
        assert_eq!(host(Access::Read), expected(unreadable), "{case}");
        assert_eq!(host(Access::Write), expected(unwritable), "{case}");
    }
    let mapped = memory.host_range(AT, 3 * PAGE, Access::Mapped).expect("no access needed");
    assert_eq!(memory.contains_host(mapped), Some(AT));
    assert_eq!(memory.host_range(AT, 3 * PAGE + 1, Access::Mapped), Err(BadAddress(end + PAGE)));
}

#[test]
fn a_write_that_fails_changes_nothing() {
    let memory = memory_with(AT, 1, rw());
    assert_eq!(memory.write_bytes(AT + 0xff0, &[7; 32]), Err(BadAddress(AT + PAGE)));
    assert_eq!(memory.read(AT + 0xff0), Ok([0u8; 16]));
}

#[test]
fn buffers_may_cover_the_whole_space() {
    let memory = memory();
    let request =
        MapRequest { noreserve: true, ..MapRequest::anonymous(Place::Fixed(0), table86::memory::END, R) };
    memory.map(&request).expect("free");
    assert!(memory.host_range(0, table86::memory::END, Access::Read).is_ok());
    assert_eq!(memory.host_range(1, u32::MAX, Access::Read), Err(BadAddress(table86::memory::END)));
}

#[test]
fn strings_end_at_their_nul_or_fail() {
    let memory = memory_with(AT, 1, rw());
    memory.fill(AT, b'a', PAGE).expect("mapped");
    memory.write(AT + 0x900, 0u8).expect("mapped");
    let bad = StringError::BadAddress;
    // Address, longest, length or error.
    let cases = [
        (AT + 0x900, 1, Ok(0)),
        (AT + 0x8ff, 2, Ok(1)),
        (AT, 0x901, Ok(0x900)),
        (AT, usize::MAX, Ok(0x900)),
        (AT, 0x900, Err(StringError::TooLong(0x900))),
        (AT, 0, Err(StringError::TooLong(0))),
        (AT + 0x901, 0x1000, Err(bad(BadAddress(AT + PAGE)))),
        (AT + 0x901, 0x6ff, Err(StringError::TooLong(0x6ff))),
        (0, 10, Err(bad(BadAddress(0)))),
        (0xffff_ffff, 10, Err(bad(BadAddress(0xffff_ffff)))),
    ];
    for (addr, max_len, expected) in cases {
        let string = memory.read_cstr(addr, max_len);
        assert_eq!(string.map(|string| string.len()), expected, "{addr:x} {max_len}");
    }
    memory.write(AT + PAGE - 1, 0u8).expect("mapped");
    assert_eq!(memory.read_cstr(AT + PAGE - 3, 10), Ok(b"aa".to_vec()), "the next page is not needed");
}

#[test]
fn page_bytes_tell_what_each_page_allows() {
    let memory = memory_with(AT, 1, rwx());
    memory.map(&MapRequest::anonymous(Place::Fixed(AT + PAGE), PAGE, Prot::NONE)).expect("free");
    let shared = MapRequest { shared: true, ..MapRequest::anonymous(Place::Fixed(AT + 2 * PAGE), PAGE, W) };
    memory.map(&shared).expect("free");
    let cases = [
        (AT - 1, 0),
        (AT, page::READ | page::WRITE | page::EXEC | page::MAPPED),
        (AT + PAGE, page::MAPPED),
        (AT + 2 * PAGE, page::READ | page::WRITE | page::SHARED | page::MAPPED),
        (AT + 3 * PAGE, 0),
        (u32::MAX, 0),
    ];
    for (addr, byte) in cases {
        assert_eq!(memory.page_byte(addr), byte, "{addr:x}");
        // SAFETY: the table has a byte for each page; nobody writes it now.
        let raw = unsafe { *memory.pages().add((addr / PAGE) as usize) };
        assert_eq!(raw, byte, "{addr:x}");
    }
}

#[test]
fn fetches_end_where_execution_would() {
    let memory = memory_with(AT, 1, R | X);
    memory.map(&MapRequest::anonymous(Place::Fixed(AT + PAGE), PAGE, rw())).expect("free");
    let top = table86::memory::END - PAGE;
    memory.map(&MapRequest::anonymous(Place::Fixed(top), PAGE, R | X)).expect("free");
    let cases = [
        (AT, 15),
        (AT + PAGE - 15, 15),
        (AT + PAGE - 4, 4),
        (AT + PAGE, 0),
        (0, 0),
        (top + PAGE - 3, 3),
        (u32::MAX, 0),
    ];
    for (addr, len) in cases {
        assert_eq!(memory.fetch(addr, &mut [0; 15]), len, "{addr:x}");
    }
    let temp = TempFile::with_pattern(10);
    memory.map(&temp.request(Place::Fixed(AT + PAGE), 2, R | X)).expect("a plain file");
    let mut bytes = [0; 3];
    assert_eq!(memory.fetch(AT + PAGE + 1, &mut bytes), 3);
    assert_eq!(bytes, [1, 2, 3]);
    assert_eq!(memory.fetch(AT + 3 * PAGE - 4, &mut [0; 15]), 0, "behind the end of the file");
}

#[test]
fn memory_that_another_thread_unmaps_fails_and_does_no_harm() {
    let memory = memory_with(AT, 16, rw());
    std::thread::scope(|scope| {
        let flips = scope.spawn(|| {
            for _ in 0..2000 {
                memory.unmap(AT + 8 * PAGE, PAGE).expect("mapped");
                let again = MapRequest::anonymous(Place::Fixed(AT + 8 * PAGE), PAGE, rw());
                memory.map(&again).expect("free");
            }
        });
        let mut buffer = vec![0; 16 * PAGE as usize];
        while !flips.is_finished() {
            for result in [memory.read_bytes(AT, &mut buffer), memory.write_bytes(AT, &buffer)] {
                if let Err(BadAddress(bad)) = result {
                    assert_eq!(bad & !0xfff, AT + 8 * PAGE);
                }
            }
        }
    });
}

/// All small lengths, at all distances from a page that cannot be accessed, in both directions.
#[test]
fn guarded_copies_tell_exactly_how_far_they_got() {
    let memory = memory_with(AT, 1, rw());
    let edge = memory.base().wrapping_add((AT + PAGE) as usize);
    for len in 0..20usize {
        for there in 0..=len {
            let guest = edge.wrapping_sub(there);
            let source: Vec<u8> = (1..=len as u8).collect();
            let mut back = vec![0; len];
            // SAFETY: one side is the guest's, the other a buffer of that length; faults end the copy.
            let missing = unsafe {
                let missing = guarded::copy(guest, source.as_ptr(), len);
                assert_eq!(guarded::copy(back.as_mut_ptr(), guest, len), missing);
                missing
            };
            assert_eq!(missing, len - there, "{there} of {len}");
            assert_eq!(back[..there], source[..there], "{there} of {len}");
            assert!(back[there..].iter().all(|&byte| byte == 0), "{there} of {len}");
        }
    }
    assert_eq!(guarded::fixup(0), None);
    assert_eq!(guarded::fixup(memory.base() as usize), None);
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
#[test]
fn aligned_words_are_never_torn() {
    let memory = memory_with(AT, 1, rw());
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..200_000u64 {
                let byte = round & 0xff;
                memory.write(AT, byte * 0x0101_0101_0101_0101).expect("mapped");
                memory.write(AT + 8, byte as u32 * 0x0101_0101).expect("mapped");
            }
        });
        while !writer.is_finished() {
            let quad: u64 = memory.read(AT).expect("mapped");
            assert_eq!(quad, (quad & 0xff) * 0x0101_0101_0101_0101);
            let word: u32 = memory.read(AT + 8).expect("mapped");
            assert_eq!(word, (word & 0xff) * 0x0101_0101);
        }
    });
}
