//! The guest's memory: 4 GiB of address space, what is mapped in it, and ways to reach it.
//!
//! Guest address `a` is host address [`Memory::base`]` + a`, and the host's page protections are the guest's (except
//! that nothing is ever executable for the host). Handlers load and store directly and let the host fault.
//! The rest of the program comes through the functions here, which check before they touch:
//!
//! - a tree of mappings (`map`) is the authority on what is mapped to what;
//! - one *page byte* a page ([`page`], [`Memory::pages`]) tells in one load what a page allows;
//! - copies by Rust code are guarded: a page that another thread unmaps, or a file that is shorter than
//!   its mapping, ends them with [`BadAddress`] instead of a crash ([`guarded`]);
//! - pages from which code was translated are write-protected on the host or marked for verification, so that no
//!   change to code goes unnoticed ([`Memory::protect_code`]).
//!
//! One lock guards the tree; page bytes are atomics and are read without it. No function here is
//! async-signal-safe except [`Memory::contains_host`] and [`guarded::fixup`].

pub mod access;
mod code;
pub mod guarded;
mod guest;
mod map;
mod marks;
mod operations;
mod plain;
mod region;
mod remap;
mod reservation;

pub use code::CodePage;
pub use guest::{Access, StringError};
pub use map::{Lock, VDSO};
pub use plain::{Plain, bytes_of, bytes_of_mut, zeroed};
pub use region::Region;

use code::CodeState;
use map::Tree;
use reservation::Reservation;
use std::io;
use std::ops::BitOr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// End of the address space of a 32-bit program under a 64-bit kernel; nothing is mapped from here on.
pub const END: u32 = 0xffff_e000;

/// Linux's default `RLIMIT_STACK`.
const STACK_LIMIT: u32 = 8 << 20;

/// Where Linux starts to place mappings, downwards, for a stack limit in bytes: room for the stack and its guard
/// gap under [`END`], but at least 128 MiB and at most five sixths of the space.
pub const fn mmap_base(stack_limit_bytes: u64) -> u32 {
    let least = 128 << 20;
    let most = END / 6 * 5;
    let room = stack_limit_bytes.saturating_add(map::STACK_GUARD_GAP as u64);
    let room = if room < least as u64 {
        least
    } else if room > most as u64 {
        most
    } else {
        room as u32
    };
    (END - room).next_multiple_of(page::SIZE)
}

/// Host mappings left for the host's own use out of `vm.max_map_count`.
const HOST_MAPPINGS_RESERVED: usize = 4096;

/// Pages and the bits of a page byte.
pub mod page {
    /// Bytes in a page.
    pub const SIZE: u32 = 4096;
    /// Can be read. Set on every page that can be accessed at all, as on IA-32 whatever can be written or
    /// executed can be read.
    pub const READ: u8 = 1;
    /// Can be written by the guest, even while the host's protection says otherwise (`CODE`).
    pub const WRITE: u8 = 2;
    /// Can be executed.
    pub const EXEC: u8 = 4;
    /// Translated; the host's protection forbids writing.
    pub const CODE: u8 = 8;
    /// Translated; never protected, so translations have to be compared with memory at each entry.
    pub const VERIFY: u8 = 16;
    /// Belongs to a shared mapping.
    pub const SHARED: u8 = 32;
    /// Mapped, even if it allows nothing.
    pub const MAPPED: u8 = 64;
}

/// A guest's protection: a set of READ, WRITE and EXEC, as it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Prot(u8);

impl Prot {
    /// No access.
    pub const NONE: Prot = Prot(0);
    /// `PROT_READ`.
    pub const READ: Prot = Prot(1);
    /// `PROT_WRITE`; implies that the memory can be read.
    pub const WRITE: Prot = Prot(2);
    /// `PROT_EXEC`; implies that the memory can be read.
    pub const EXEC: Prot = Prot(4);

    /// The set of the low three bits of a `prot` argument of `mmap(2)`; other bits are ignored.
    pub const fn from_bits(bits: u32) -> Prot {
        Prot((bits & 7) as u8)
    }

    /// The bits of a `prot` argument.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Tells whether all of `other` is in the set.
    pub const fn contains(self, other: Prot) -> bool {
        self.0 & other.0 == other.0
    }

    /// The set without `other`.
    pub const fn without(self, other: Prot) -> Prot {
        Prot(self.0 & !other.0)
    }

    /// The page byte of a page mapped so.
    const fn page_byte(self, shared: bool) -> u8 {
        let read = if self.0 == 0 { 0 } else { page::READ };
        let sharing = if shared { page::SHARED } else { 0 };
        self.0 | read | sharing | page::MAPPED
    }
}

impl BitOr for Prot {
    type Output = Prot;
    fn bitor(self, other: Prot) -> Prot {
        Prot(self.0 | other.0)
    }
}

/// Where a mapping shall go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Wherever there is room: the highest gap below the base of mappings.
    #[default]
    Anywhere,
    /// There (rounded down to a page) if nothing is in the way, else anywhere. 0 is no hint.
    Hint(u32),
    /// There, replacing what is there (`MAP_FIXED`).
    Fixed(u32),
    /// There or nowhere (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u32),
}

/// What a mapping shows.
#[derive(Clone, Debug, Default)]
pub enum Backing {
    /// Zeros.
    #[default]
    Anonymous,
    /// A file of the host.
    File {
        /// An open descriptor; it may be closed after the call.
        fd: RawFd,
        /// Where in the file, in bytes; a multiple of the page size.
        offset: u64,
        /// The path to show in `/proc/self/maps`, as the guest knows it.
        path: Option<PathBuf>,
    },
    /// A private copy of these bytes, followed by zeros. Not longer than the mapping.
    Bytes(Vec<u8>),
}

/// A mapping to be made; see `mmap(2)`.
#[derive(Clone, Debug, Default)]
pub struct MapRequest {
    /// Where.
    pub place: Place,
    /// Bytes, rounded up to whole pages; not 0.
    pub len: u32,
    /// Protection.
    pub prot: Prot,
    /// `MAP_SHARED` rather than `MAP_PRIVATE`.
    pub shared: bool,
    /// Contents.
    pub backing: Backing,
    /// `MAP_GROWSDOWN`: a fault below extends it, see [`Memory::grow_stack`]. Private memory
    /// without a file only.
    pub grows_down: bool,
    /// `MAP_NORESERVE`, passed on to the host.
    pub noreserve: bool,
    /// `MAP_LOCKED`: to be kept in the host's memory, as far as the host allows.
    pub locked: bool,
    /// A name for `/proc/self/maps` such as `[heap]`, for private memory without a file.
    pub name: Option<&'static str>,
}

impl MapRequest {
    /// Private zero pages.
    pub fn anonymous(place: Place, len: u32, prot: Prot) -> MapRequest {
        MapRequest { place, len, prot, ..MapRequest::default() }
    }

    /// A private copy of `bytes`, named `name`.
    pub fn bytes(place: Place, bytes: Vec<u8>, prot: Prot, name: Option<&'static str>) -> MapRequest {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        MapRequest { place, len, prot, backing: Backing::Bytes(bytes), name, ..MapRequest::default() }
    }

    /// A private mapping of a file.
    pub fn file(
        place: Place,
        len: u32,
        prot: Prot,
        fd: RawFd,
        offset: u64,
        path: Option<PathBuf>,
    ) -> MapRequest {
        let backing = Backing::File { fd, offset, path };
        MapRequest { place, len, prot, backing, ..MapRequest::default() }
    }
}

/// Why a change of the map was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// No room, or a range that is not all mapped, or the limit on mapped memory (`ENOMEM`).
    #[error("no room in the guest's address space, or its limit is reached")]
    NoMemory,
    /// An argument that makes no sense (`EINVAL`).
    #[error("bad address, length or combination of arguments")]
    Invalid,
    /// Something is mapped where nothing may be replaced (`EEXIST`).
    #[error("something is already mapped there")]
    Exists,
    /// The mapping's file does not allow that protection (`EACCES`).
    #[error("the mapping does not allow this protection")]
    Access,
    /// The range leaves what a file can have (`EOVERFLOW`).
    #[error("offset and length exceed the largest file")]
    Overflow,
    /// Nothing, or not one mapping, at the range to be moved or prolonged (`EFAULT`).
    #[error("not one mapping")]
    NotMapped,
    /// The host refused, with this error number.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Host(i32),
}

impl MapError {
    /// The error number that `mmap(2)` and its relatives give in this case.
    pub fn errno(self) -> i32 {
        match self {
            MapError::NoMemory => libc::ENOMEM,
            MapError::Invalid => libc::EINVAL,
            MapError::Exists => libc::EEXIST,
            MapError::Access => libc::EACCES,
            MapError::Overflow => libc::EOVERFLOW,
            MapError::NotMapped => libc::EFAULT,
            MapError::Host(errno) => errno,
        }
    }

    fn from_host(errno: i32) -> MapError {
        if errno == libc::ENOMEM { MapError::NoMemory } else { MapError::Host(errno) }
    }
}

/// An access to memory that is not mapped or does not allow it; the first address at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad guest address {0:#010x}")]
pub struct BadAddress(pub u32);

/// The guest's memory. Shared by its threads.
pub struct Memory {
    space: Reservation,
    state: Mutex<State>,
    /// Whether `State::code` has dirty pages.
    dirty: AtomicBool,
}

/// What the lock guards.
struct State {
    tree: Tree,
    code: CodeState,
    /// Upper end of placement.
    mmap_base: u32,
    /// Most bytes a mapping may reach by growing down.
    stack_limit: u32,
    /// Most bytes mapped at a time.
    limit_bytes: u64,
    /// Most mappings the host may be asked to hold.
    host_mappings: usize,
    /// Inode number of the last shared anonymous object.
    last_shared: u64,
    /// How new mappings are locked (`MCL_FUTURE`).
    future_lock: Lock,
}

/// Keeps the map as it is; see [`Memory::lock_for_fork`].
pub struct ForkGuard<'a> {
    _state: MutexGuard<'a, State>,
}

impl Memory {
    /// Reserves an address space in which nothing is mapped.
    ///
    /// # Errors
    /// The host's, if it has no 4 GiB of addresses to give or other pages than IA-32.
    pub fn new() -> io::Result<Memory> {
        let host_mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|count| count.trim().parse::<usize>().ok())
            .unwrap_or(65530);
        Ok(Memory {
            space: Reservation::new()?,
            state: Mutex::new(State {
                tree: Tree::default(),
                code: CodeState::default(),
                mmap_base: mmap_base(STACK_LIMIT as u64),
                stack_limit: STACK_LIMIT,
                limit_bytes: u64::from(END),
                host_mappings: host_mappings.saturating_sub(HOST_MAPPINGS_RESERVED),
                last_shared: 0,
                future_lock: Lock::None,
            }),
            dirty: AtomicBool::new(false),
        })
    }

    /// Host address of guest address 0.
    pub fn base(&self) -> *mut u8 {
        self.space.base()
    }

    /// The page bytes, one for each of the 1,048,576 pages; to be read as atomics.
    pub fn pages(&self) -> *const u8 {
        self.space.pages()
    }

    /// The byte of the page that holds `addr`, see [`page`].
    pub fn page_byte(&self, addr: u32) -> u8 {
        self.space.page_at(addr)
    }

    /// As [`Memory::page_byte`], when no change of the map is under way.
    pub(crate) fn settled_page_byte(&self, addr: u32) -> u8 {
        let _unchanged = self.lock();
        self.page_byte(addr)
    }

    /// Guest address of a host address, if it lies in the guest's space or in the guards around it, which count as
    /// wrapped around. Async-signal-safe.
    pub fn contains_host(&self, host: *const u8) -> Option<u32> {
        self.space.guest(host)
    }

    /// Sets the most bytes that may be mapped at a time, accessible or not (as `RLIMIT_AS`).
    pub fn set_limit(&self, bytes: u64) {
        self.lock().limit_bytes = bytes;
    }

    /// Sets where placement starts downwards (see [`mmap_base`]), rounded down to a page and to at most [`END`].
    pub fn set_mmap_base(&self, addr: u32) {
        self.lock().mmap_base = addr.min(END) / page::SIZE * page::SIZE;
    }

    /// Sets the most bytes that a mapping which grows down may reach (`RLIMIT_STACK`).
    pub fn set_stack_limit(&self, bytes: u32) {
        self.lock().stack_limit = bytes;
    }

    /// Sum of the lengths of all mappings, in bytes.
    pub fn mapped_bytes(&self) -> u64 {
        self.lock().tree.mapped_bytes()
    }

    /// All mappings, ascending.
    pub fn regions(&self) -> Vec<Region> {
        self.lock().tree.iter().map(|(start, area)| Region::new(start, area)).collect()
    }

    /// The mapping that holds `addr`.
    pub fn region_at(&self, addr: u32) -> Option<Region> {
        self.lock().tree.at(addr).map(|(start, area)| Region::new(start, area))
    }

    /// Waits until no thread changes the map and keeps it so: held across `fork(2)`, it lets the child find
    /// the map whole and its lock free.
    pub fn lock_for_fork(&self) -> ForkGuard<'_> {
        ForkGuard { _state: self.lock() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
