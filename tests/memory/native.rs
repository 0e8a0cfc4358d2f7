//! The same operations on guest memory and, at the same addresses, on this process by the host's kernel: results,
//! error numbers, maps and contents must agree page by page.

use crate::support::{PAGE, TempFile, memory, own_process_maps};
use proptest::prelude::*;
use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use table86::memory::{Backing, MapRequest, Memory, Place, Prot, guarded};

/// The window of addresses used on both sides; nothing of this process lies within a guard gap of it.
const WINDOW: u32 = 0x2000_0000;
const PAGES: u32 = 40;
const MARGIN: usize = 4 << 20;
const FILE_PAGES: u32 = 6;

#[derive(Clone, Copy, Debug)]
enum Source {
    Anonymous,
    /// Page offset; the descriptor may write.
    File(u32),
    /// The descriptor may only read.
    ReadOnlyFile(u32),
}

#[derive(Clone, Copy, Debug)]
enum How {
    Fixed,
    NoReplace,
    Hint,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Map {
        at: u32,
        len: u32,
        prot: u32,
        shared: bool,
        grows_down: bool,
        source: Source,
        how: How,
    },
    Unmap {
        at: u32,
        len: u32,
    },
    Protect {
        at: u32,
        len: u32,
        prot: u32,
    },
    Remap {
        at: u32,
        len: u32,
        new_len: u32,
        may_move: bool,
        to: Option<u32>,
    },
    Write {
        at: u32,
        value: u64,
    },
    /// Guest only: code is translated from the page. Must never show.
    Translate {
        at: u32,
    },
    /// `MADV_DONTNEED`.
    Forget {
        at: u32,
        len: u32,
    },
}

/// Addresses in the window, rarely not a page's.
fn address() -> impl Strategy<Value = u32> {
    prop_oneof![
        30 => (0..PAGES).prop_map(|page| WINDOW + page * PAGE),
        1 => (0..PAGES * PAGE).prop_map(|offset| WINDOW + offset),
    ]
}

/// Lengths in bytes, rarely 0 or not whole pages.
fn len() -> impl Strategy<Value = u32> {
    prop_oneof![30 => (1u32..10).prop_map(|pages| pages * PAGE), 2 => 0..10 * PAGE, 1 => Just(0)]
}

fn op() -> impl Strategy<Value = Op> {
    let source = prop_oneof![
        3 => Just(Source::Anonymous),
        2 => (0u32..8).prop_map(Source::File),
        1 => (0u32..8).prop_map(Source::ReadOnlyFile),
    ];
    let how = prop_oneof![4 => Just(How::Fixed), 1 => Just(How::NoReplace), 2 => Just(How::Hint)];
    let map = (address(), len(), 0u32..8, prop::bool::weighted(0.3), prop::bool::weighted(0.2), source, how);
    prop_oneof![
        8 => map.prop_map(|(at, len, prot, shared, grows_down, source, how)| {
            Op::Map { at, len, prot, shared, grows_down, source, how }
        }),
        3 => (address(), len()).prop_map(|(at, len)| Op::Unmap { at, len }),
        5 => (address(), len(), 0u32..8).prop_map(|(at, len, prot)| Op::Protect { at, len, prot }),
        5 => (address(), len(), len(), any::<bool>(), prop::option::of(address()))
            .prop_map(|(at, len, new_len, may_move, to)| Op::Remap { at, len, new_len, may_move, to }),
        8 => (0..PAGES, 0u32..4, any::<u64>())
            .prop_map(|(page, slot, value)| Op::Write { at: WINDOW + page * PAGE + slot * 1000, value }),
        4 => (0..PAGES).prop_map(|page| Op::Translate { at: WINDOW + page * PAGE }),
        1 => (address(), len()).prop_map(|(at, len)| Op::Forget { at, len }),
    ]
}

/// A file and two descriptors of it.
struct Files {
    temp: TempFile,
    read_only: File,
}

impl Files {
    fn new() -> Files {
        let temp = TempFile::with_pattern((FILE_PAGES * PAGE) as usize + 100);
        let read_only = File::open(&temp.path).expect("the file just made");
        Files { temp, read_only }
    }

    fn descriptor(&self, source: Source) -> Option<(RawFd, u64)> {
        let offset = |pages: u32| u64::from(pages * PAGE);
        match source {
            Source::Anonymous => None,
            Source::File(pages) => Some((self.temp.fd(), offset(pages))),
            Source::ReadOnlyFile(pages) => Some((self.read_only.as_raw_fd(), offset(pages))),
        }
    }
}

/// Where something ended up: in the window at an address, or somewhere else.
type Outcome = Result<Option<u32>, i32>;

/// This process's side.
struct Native {
    files: Files,
}

fn last_error() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn host(at: u32) -> *mut libc::c_void {
    ptr::without_provenance_mut(at as usize)
}

fn status(result: i32) -> Result<(), i32> {
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

impl Native {
    fn new() -> Native {
        let start = WINDOW as usize - MARGIN;
        let len = 2 * MARGIN + (PAGES * PAGE) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: replaces nothing.
        unsafe {
            let at = libc::mmap(ptr::without_provenance_mut(start), len, libc::PROT_NONE, flags, -1, 0);
            assert_eq!(at as usize, start, "the window is free in this process");
            libc::munmap(at, len);
        }
        Native { files: Files::new() }
    }

    /// Where a result lies; what lies outside of the window is unmapped.
    fn settle(&self, at: *mut libc::c_void, wanted: u32, len: u32) -> Outcome {
        if at == libc::MAP_FAILED {
            return Err(last_error());
        }
        if at as usize == wanted as usize {
            return Ok(Some(wanted));
        }
        // SAFETY: just mapped by the operation under test.
        unsafe { libc::munmap(at, len as usize) };
        Ok(None)
    }

    fn apply(&self, op: Op) -> Outcome {
        // SAFETY: only addresses in the window are changed, which is this test's own.
        unsafe {
            match op {
                Op::Map { at, len, prot, shared, grows_down, source, how } => {
                    let file = self.files.descriptor(source);
                    let mut flags = if shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
                    flags |= match how {
                        How::Fixed => libc::MAP_FIXED,
                        How::NoReplace => libc::MAP_FIXED_NOREPLACE,
                        How::Hint => 0,
                    };
                    flags |= if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
                    flags |= if grows_down { libc::MAP_GROWSDOWN } else { 0 };
                    let (fd, offset) = file.unwrap_or((-1, 0));
                    let mapped = libc::mmap(host(at), len as usize, prot as i32, flags, fd, offset as i64);
                    self.settle(mapped, at, len)
                }
                Op::Unmap { at, len } => status(libc::munmap(host(at), len as usize)).map(|()| Some(at)),
                Op::Protect { at, len, prot } => {
                    status(libc::mprotect(host(at), len as usize, prot as i32)).map(|()| Some(at))
                }
                Op::Remap { at, len, new_len, may_move, to } => {
                    let flags = if may_move { libc::MREMAP_MAYMOVE } else { 0 }
                        | if to.is_some() { libc::MREMAP_FIXED } else { 0 };
                    let new = host(to.unwrap_or(0));
                    let moved = libc::mremap(host(at), len as usize, new_len as usize, flags, new);
                    self.settle(moved, to.unwrap_or(at), new_len)
                }
                Op::Write { at, value } => {
                    let bytes = value.to_le_bytes();
                    match guarded::copy(host(at).cast(), bytes.as_ptr(), bytes.len()) {
                        0 => Ok(Some(at)),
                        _ => Err(libc::EFAULT),
                    }
                }
                Op::Translate { .. } => Ok(None),
                Op::Forget { at, len } => {
                    status(libc::madvise(host(at), len as usize, libc::MADV_DONTNEED)).map(|()| Some(at))
                }
            }
        }
    }

    /// The first bytes of a page.
    fn peek(&self, at: u32) -> Option<u64> {
        let mut bytes = [0; 8];
        // SAFETY: an address in the window; faults end the copy.
        let missing = unsafe { guarded::copy(bytes.as_mut_ptr(), host(at).cast::<u8>(), 8) };
        (missing == 0).then_some(u64::from_le_bytes(bytes))
    }

    /// The lines of `/proc/self/maps` in the window.
    fn maps(&self) -> Vec<Line> {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc");
        maps.lines().filter_map(Line::parse).filter(Line::is_in_window).collect()
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: the window is this test's own.
        unsafe { libc::munmap(host(WINDOW - MARGIN as u32), 2 * MARGIN + (PAGES * PAGE) as usize) };
    }
}

fn guest_apply(memory: &Memory, files: &Files, op: Op) -> Outcome {
    let settle = |at: u32, wanted: u32, len: u32| {
        if at == wanted {
            return Some(at);
        }
        memory.unmap(at, len).expect("what was just mapped");
        None
    };
    let result = match op {
        Op::Map { at, len, prot, shared, grows_down, source, how } => {
            let backing = match files.descriptor(source) {
                Some((fd, offset)) => Backing::File { fd, offset, path: Some(files.temp.path.clone()) },
                None => Backing::Anonymous,
            };
            let place = match how {
                How::Fixed => Place::Fixed(at),
                How::NoReplace => Place::FixedNoReplace(at),
                How::Hint => Place::Hint(at),
            };
            let prot = Prot::from_bits(prot);
            let request = MapRequest { place, len, prot, shared, backing, grows_down, ..Default::default() };
            memory.map(&request).map(|mapped| settle(mapped, at, len))
        }
        Op::Unmap { at, len } => memory.unmap(at, len).map(|()| Some(at)),
        Op::Protect { at, len, prot } => memory.protect(at, len, Prot::from_bits(prot)).map(|()| Some(at)),
        Op::Remap { at, len, new_len, may_move, to } => {
            let moved = memory.remap(at, len, new_len, may_move, to);
            moved.map(|moved| settle(moved, to.unwrap_or(at), new_len))
        }
        Op::Write { at, value } => {
            return memory.write(at, value).map(|()| Some(at)).map_err(|_| libc::EFAULT);
        }
        Op::Translate { at } => {
            memory.protect_code(at / PAGE);
            Ok(None)
        }
        Op::Forget { at, len } => memory.advise(at, len, libc::MADV_DONTNEED).map(|()| Some(at)),
    };
    result.map_err(|error| error.errno())
}

/// A line of maps, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    start: u64,
    end: u64,
    perms: String,
    offset: u64,
    has_file: bool,
}

impl Line {
    fn parse(line: &str) -> Option<Line> {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let perms = fields.next()?.to_string();
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let has_file = fields.nth(1)? != "0";
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        Some(Line { start, end, perms, offset, has_file })
    }

    fn is_in_window(&self) -> bool {
        self.end > u64::from(WINDOW) - MARGIN as u64 && self.start < u64::from(WINDOW) + MARGIN as u64
    }
}

/// Permissions and file offset of each page that lies in the lines.
fn pages(lines: &[Line]) -> Vec<(u64, String, Option<u64>)> {
    let of_line = |line: &Line| {
        let line = line.clone();
        (line.start..line.end).step_by(PAGE as usize).map(move |at| {
            let offset = line.has_file.then(|| line.offset + (at - line.start));
            (at, line.perms.clone(), offset)
        })
    };
    lines.iter().flat_map(of_line).collect()
}

fn guest_lines(memory: &Memory) -> Vec<Line> {
    memory.regions().iter().filter_map(|region| Line::parse(&region.to_string())).collect()
}

/// Whether the host's answer to a move depends on how it has joined its mappings, which is not the guest's affair.
fn crosses_native_mappings(native: &Native, op: Op) -> bool {
    let Op::Remap { at, len, .. } = op else { return false };
    let lines = native.maps();
    let Some(line) = lines.iter().find(|line| (line.start..line.end).contains(&u64::from(at))) else {
        return false;
    };
    line.end - u64::from(at) < u64::from(len)
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]
    #[test]
    fn memory_behaves_as_the_host_kernel_does(ops in prop::collection::vec(op(), 1..40)) {
        let _maps = own_process_maps();
        let memory = memory();
        let files = Files::new();
        let native = Native::new();
        for op in ops {
            if crosses_native_mappings(&native, op) {
                continue;
            }
            let theirs = native.apply(op);
            let ours = guest_apply(&memory, &files, op);
            prop_assert_eq!(ours, theirs, "{:x?}", op);
            prop_assert_eq!(pages(&guest_lines(&memory)), pages(&native.maps()), "{:x?}", op);
            for line in guest_lines(&memory) {
                for at in (line.start..line.end).step_by(PAGE as usize) {
                    let at = at as u32;
                    prop_assert_eq!(memory.read::<u64>(at).ok(), native.peek(at), "{:x} after {:x?}", at, op);
                }
            }
        }
    }
}
