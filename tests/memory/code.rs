//! Pages of code: how changes to them are noticed.

use crate::support::*;
use table86::memory::{Access, CodePage, MapRequest, Memory, Place, Prot, page};

const AT: u32 = 0x10_0000;
const NUMBER: u32 = AT / PAGE;

/// A name and something to do.
type Act<'a> = (&'a str, &'a dyn Fn(&Memory));

fn is_code(memory: &Memory, addr: u32) -> bool {
    memory.page_byte(addr) & page::CODE != 0
}

/// Everything that makes translations bad, done to a page of code at [`AT`].
#[test]
fn whatever_changes_code_makes_its_page_dirty() {
    let cases: &[Act] = &[
        ("write", &|memory| memory.write(AT + 5, 1u8).expect("writable")),
        ("write from the page before", &|memory| memory.write(AT - 2, 1u32).expect("writable")),
        ("fill", &|memory| memory.fill(AT - PAGE, 1, 3 * PAGE).expect("writable")),
        ("host buffer", &|memory| {
            memory.host_range(AT, 1, Access::Write).expect("writable");
        }),
        ("fault", &|memory| memory.code_written(AT + 0xfff, 1)),
        ("unmap", &|memory| memory.unmap(AT, PAGE).expect("mapped")),
        ("replace", &|memory| {
            memory.map(&MapRequest::anonymous(Place::Fixed(AT), PAGE, rwx())).expect("replaced");
        }),
        ("no longer executable", &|memory| memory.protect(AT, PAGE, rw()).expect("mapped")),
        ("move", &|memory| {
            memory.remap(AT, PAGE, PAGE, true, Some(0x80_0000)).expect("free");
        }),
        ("moved over", &|memory| {
            memory.remap(AT + PAGE, PAGE, PAGE, true, Some(AT)).expect("mapped");
        }),
        ("advice", &|memory| memory.advise(AT, PAGE, libc::MADV_DONTNEED).expect("mapped")),
    ];
    for (name, change) in cases {
        let memory = memory_with(AT - PAGE, 3, rwx());
        assert_eq!(memory.protect_code(NUMBER), CodePage::Protected);
        assert!(!memory.has_dirty_code());
        assert!(is_code(&memory, AT) && !host_writes(&memory, AT) && host_reads(&memory, AT));
        assert!(host_writes(&memory, AT - 1) && host_writes(&memory, AT + PAGE), "{name}: neighbours");
        change(&memory);
        assert!(memory.has_dirty_code(), "{name}");
        assert_eq!(memory.take_dirty_code(), [NUMBER], "{name}");
        assert!(!memory.has_dirty_code() && memory.take_dirty_code().is_empty(), "{name}");
        assert!(!is_code(&memory, AT), "{name}");
        let writable = memory.page_byte(AT) & page::WRITE != 0;
        assert_eq!(host_writes(&memory, AT), writable, "{name}");
    }
}

#[test]
fn what_does_not_change_code_keeps_its_translations() {
    let cases: &[Act] = &[
        ("read", &|memory| assert_eq!(memory.read(AT), Ok(0u32))),
        ("write next to it", &|memory| memory.write(AT - 4, 1u32).expect("writable")),
        ("empty write", &|memory| memory.write_bytes(AT, &[]).expect("nothing to write")),
        ("write that fails", &|memory| {
            memory.write_bytes(AT, &vec![0; 3 * PAGE as usize]).expect_err("too long");
        }),
        ("host buffer to read", &|memory| {
            memory.host_range(AT, PAGE, Access::Read).expect("readable");
        }),
        ("no longer writable", &|memory| memory.protect(AT, PAGE, R | X).expect("mapped")),
        ("writable again", &|memory| {
            memory.protect(AT, PAGE, X).expect("mapped");
            memory.protect(AT - PAGE, 3 * PAGE, rwx()).expect("mapped");
        }),
        ("neighbour unmapped", &|memory| memory.unmap(AT - PAGE, PAGE).expect("mapped")),
        ("grown", &|memory| assert_eq!(memory.remap(AT, PAGE, PAGE, false, None), Ok(AT))),
        ("translated again", &|memory| assert_eq!(memory.protect_code(NUMBER), CodePage::Protected)),
    ];
    for (name, act) in cases {
        let memory = memory_with(AT - PAGE, 3, rwx());
        assert_eq!(memory.protect_code(NUMBER), CodePage::Protected);
        act(&memory);
        assert!(!memory.has_dirty_code(), "{name}");
        assert!(is_code(&memory, AT) && !host_writes(&memory, AT), "{name}");
        memory.code_written(AT, 1);
        let writable = memory.page_byte(AT) & page::WRITE != 0;
        assert_eq!(host_writes(&memory, AT), writable, "{name}: writable when given up");
    }
}

#[test]
fn code_that_cannot_be_written_is_protected_at_no_cost() {
    let memory = memory_with(AT, 2, R | X);
    assert_eq!(memory.protect_code(NUMBER), CodePage::Protected);
    assert_eq!(memory.protect_code(NUMBER + 1), CodePage::Protected);
    assert!(memory.write(AT, 1u8).is_err());
    assert!(!memory.has_dirty_code());
    memory.protect(AT, PAGE, rwx()).expect("mapped");
    assert!(!host_writes(&memory, AT), "protected from the first moment it is writable");
    memory.write(AT, 1u8).expect("writable");
    assert_eq!(memory.take_dirty_code(), [NUMBER]);
}

#[test]
fn unmapped_pages_are_never_trusted() {
    let memory = memory();
    for number in [0, NUMBER, 0xf_ffff] {
        assert_eq!(memory.protect_code(number), CodePage::Verify);
        assert_eq!(memory.page_byte(number << 12), 0);
    }
}

#[test]
fn shared_memory_is_verified_and_never_protected() {
    let memory = memory();
    let request = MapRequest { shared: true, ..MapRequest::anonymous(Place::Fixed(AT), PAGE, rwx()) };
    memory.map(&request).expect("free");
    assert_eq!(memory.protect_code(NUMBER), CodePage::Verify);
    assert!(host_writes(&memory, AT));
    assert_eq!(memory.page_byte(AT) & (page::CODE | page::VERIFY), page::VERIFY);
    memory.write(AT, 1u8).expect("writable");
    assert!(!memory.has_dirty_code(), "comparing at entry is enough");
    memory.protect(AT, PAGE, rw()).expect("mapped");
    assert_eq!(memory.take_dirty_code(), [NUMBER]);
}

#[test]
fn pages_written_often_are_verified_until_they_are_mapped_anew() {
    let memory = memory_with(AT, 1, rwx());
    let mut rounds = 0;
    while memory.protect_code(NUMBER) == CodePage::Protected {
        memory.write(AT, 1u8).expect("writable");
        assert_eq!(memory.take_dirty_code(), [NUMBER]);
        rounds += 1;
        assert!(rounds < 1000);
    }
    assert_eq!(rounds, 33);
    assert!(host_writes(&memory, AT));
    memory.map(&MapRequest::anonymous(Place::Fixed(AT), PAGE, rwx())).expect("replaced");
    assert_eq!(memory.take_dirty_code(), [NUMBER]);
    assert_eq!(memory.protect_code(NUMBER), CodePage::Protected);
}

#[test]
fn private_pages_of_a_file_that_is_written_through_another_mapping_are_verified() {
    let temp = TempFile::with_pattern(2 * PAGE as usize);
    let other = TempFile::with_pattern(PAGE as usize);
    let writer = MapRequest { shared: true, ..temp.request(Place::Fixed(0x80_0000), 2, rw()) };

    let memory = memory();
    memory.map(&temp.request(Place::Fixed(AT), 2, R | X)).expect("a plain file");
    memory.map(&other.request(Place::Fixed(AT + 2 * PAGE), 1, R | X)).expect("a plain file");
    assert_eq!(memory.protect_code(NUMBER + 1), CodePage::Protected);
    assert_eq!(memory.protect_code(NUMBER + 2), CodePage::Protected);
    memory.map(&MapRequest { prot: R, ..writer.clone() }).expect("a plain file");
    assert!(!memory.has_dirty_code(), "a reader does no harm");
    memory.protect(0x80_0000, 2 * PAGE, rw()).expect("the descriptor allows it");
    assert_eq!(memory.take_dirty_code(), [NUMBER + 1]);
    assert_eq!(memory.protect_code(NUMBER + 1), CodePage::Verify);

    memory.write(0x80_1000, 0x77u8).expect("writable");
    assert_eq!(memory.read(AT + PAGE), Ok(0x77u8), "why it has to be verified");
}

#[test]
fn large_moves_take_pages_of_code_along() {
    let memory = memory_with(AT, 64, rwx());
    for page in 0..64 {
        memory.write(AT + page * PAGE, page).expect("writable");
        if page % 3 == 0 {
            memory.protect_code(NUMBER + page);
        }
    }
    let new = memory.remap(AT, 64 * PAGE, 65 * PAGE, true, Some(0x80_0000)).expect("free");
    let dirty: Vec<u32> = (0..64).step_by(3).map(|page| NUMBER + page).collect();
    assert_eq!(memory.take_dirty_code(), dirty);
    for page in 0..64 {
        assert_eq!(memory.read(new + page * PAGE), Ok(page));
        assert!(host_writes(&memory, new + page * PAGE));
        assert!(!host_reads(&memory, AT + page * PAGE));
    }
}

#[test]
fn writers_and_translators_in_two_threads_lose_no_write() {
    let memory = memory_with(AT, 1, rwx());
    std::thread::scope(|scope| {
        let translator = scope.spawn(|| {
            for _ in 0..3000 {
                memory.protect_code(NUMBER);
                memory.take_dirty_code();
            }
        });
        let mut value = 0u32;
        while !translator.is_finished() {
            value += 1;
            memory.write(AT, value).expect("the guest may write");
            assert_eq!(memory.read(AT), Ok(value));
        }
    });
    assert_eq!(memory.region_at(AT).map(|region| region.prot), Some(rwx()));
    assert_eq!(Prot::from_bits(u32::from(memory.page_byte(AT))), rwx());
}
