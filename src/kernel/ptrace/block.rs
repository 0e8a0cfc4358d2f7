//! What a process shows its tracer: one header a process, at an address that another instance of this program can work
//! out, and one slot a thread.
//!
//! The tracer reads and writes both with `process_vm_readv` and `process_vm_writev`. They are made of atomic words, as they
//! change behind the back of the code that owns them.

use super::super::abi::{UserRegs, guest_structs};
use super::super::signal::host::{MARKS, Mark};
use super::super::signal::info;
use crate::fpu::SAVE_32;
use crate::memory::{Memory, bytes_of, bytes_of_mut, zeroed};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Threads of a process that can be traced.
const THREADS: usize = 1024;
/// Ranges that the tracer has written and the tracee not yet looked at.
pub(super) const WRITTEN: usize = 64;
/// First words of the header; the last number changes with the layout of what is here.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"t86ptrc\x01");

/// Where a thread stands.
pub(super) mod stop {
    /// It runs.
    pub const NONE: u32 = 0;
    /// A signal is about to be delivered.
    pub const SIGNAL: u32 = 1;
    /// Before a system call.
    pub const ENTRY: u32 = 2;
    /// Behind a system call.
    pub const EXIT: u32 = 3;
    /// One of `PTRACE_EVENT_*`.
    pub const EVENT: u32 = 4;
    /// The host stopped it with its whole process.
    pub const GROUP: u32 = 5;
}

/// Parts of [`State`] that the tracer has changed.
pub(super) mod changed {
    pub const REGS: u32 = 1;
    pub const FLOAT: u32 = 2;
    pub const TLS: u32 = 4;
    pub const INFO: u32 = 8;
    pub const MASK: u32 = 16;
    pub const DEBUG: u32 = 32;
}

/// Bits of [`Slot::attached`].
pub(super) mod attached {
    /// Somebody traces the thread.
    pub const TRACED: u32 = 1;
    /// By `PTRACE_SEIZE`.
    pub const SEIZED: u32 = 2;
}

guest_structs! {
    /// A thread at a stop.
    struct State: 932 {
        // One of `stop`.
        stop: u32,
        // What wait(2) gives, less its lowest byte: a signal, and above it an event.
        status: u32,
        // What `PTRACE_GETEVENTMSG` gives.
        message: u32,
        // The request by which the tracer lets the thread go on.
        resume: u32,
        // The signal that comes with it.
        inject: u32,
        // Bits of `changed`.
        changed: u32,
        mask: u64,
        // In the host's layout.
        info: [u8; info::SIZE],
        regs: UserRegs,
        tls: [u64; 3],
        debug: [u32; 8],
        fsave: [u8; SAVE_32],
        fxsave: [u8; 512],
        // Of the call at whose stop it stands, as the program made it: its number and arguments.
        call: [u32; 7],
    }
}

const WORDS: usize = size_of::<State>() / 4;

/// A thread, as its tracer finds it.
#[repr(C)]
pub(super) struct Slot {
    /// Itself, to tell a slot from what is there after its end.
    address: AtomicU64,
    pub tid: AtomicU32,
    /// Bits of [`attached`].
    pub attached: AtomicU32,
    /// `PTRACE_O_*`.
    pub options: AtomicU32,
    /// The tracer wants the thread to stop.
    pub interrupt: AtomicU32,
    /// The next signal of this number is the thread's own doing and for the host.
    pub passing: AtomicU32,
    state: [AtomicU32; WORDS],
}

/// What the tracer reads at once: a slot as plain words.
pub(super) type RawSlot = [u32; size_of::<Slot>() / 4];

/// Word of a field in [`RawSlot`].
pub(super) mod word {
    pub const TID: usize = 2;
    pub const ATTACHED: usize = 3;
    pub const OPTIONS: usize = 4;
    pub const INTERRUPT: usize = 5;
    pub const PASSING: usize = 6;
    pub const STATE: usize = 7;
}

impl Slot {
    pub(super) fn new(tid: u32) -> Box<Slot> {
        let slot = Box::new(Slot {
            address: AtomicU64::new(0),
            tid: AtomicU32::new(tid),
            attached: AtomicU32::new(0),
            options: AtomicU32::new(0),
            interrupt: AtomicU32::new(0),
            passing: AtomicU32::new(0),
            state: [const { AtomicU32::new(0) }; WORDS],
        });
        let address = (&raw const *slot).expose_provenance() as u64;
        slot.address.store(address, Ordering::Relaxed);
        HEADER.register(tid, address);
        slot
    }

    pub(super) fn load(&self) -> State {
        let mut state = zeroed::<State>();
        let words = bytes_of_mut(&mut state).chunks_exact_mut(4);
        for (word, shared) in words.zip(&self.state) {
            word.copy_from_slice(&shared.load(Ordering::Acquire).to_le_bytes());
        }
        state
    }

    pub(super) fn store(&self, state: &State) {
        let words = bytes_of(state).as_chunks::<4>().0;
        for (word, shared) in words.iter().zip(&self.state) {
            shared.store(u32::from_le_bytes(*word), Ordering::Release);
        }
    }

    /// Forgets a stop that nobody let the thread go on from.
    pub(super) fn forget_stop(&self) {
        self.state[0].store(stop::NONE, Ordering::Release);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        HEADER.unregister(self.address.load(Ordering::Relaxed));
    }
}

/// The state in a slot that was read as words.
pub(super) fn state_of(raw: &RawSlot) -> State {
    let mut state = zeroed::<State>();
    for (bytes, word) in bytes_of_mut(&mut state).chunks_exact_mut(4).zip(&raw[word::STATE..]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    state
}

/// A thread's id and its slot's address; 0 and 0 if free.
#[repr(C)]
struct Entry {
    tid: AtomicU64,
    slot: AtomicU64,
}

/// What a process shows.
#[repr(C)]
pub(super) struct Header {
    magic: AtomicU64,
    /// Its own address.
    address: AtomicU64,
    /// Host address of the guest's memory, and of its page bytes.
    base: AtomicU64,
    pages: AtomicU64,
    /// The program's auxiliary vector and path, each with its length in bytes.
    auxv: [AtomicU64; 2],
    exe: [AtomicU64; 2],
    stack: AtomicU64,
    brk: AtomicU64,
    /// The signal by which the process is ending itself.
    pub dying: AtomicU64,
    /// How many ranges were ever written.
    pub count: AtomicU64,
    written: [[AtomicU64; 2]; WRITTEN],
    entries: [Entry; THREADS],
}

/// The header as a tracer reads it, without the list of threads.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct RawHeader {
    pub magic: u64,
    pub address: u64,
    pub base: u64,
    pub pages: u64,
    pub auxv: [u64; 2],
    pub exe: [u64; 2],
    pub stack: u64,
    pub brk: u64,
    pub dying: u64,
    pub count: u64,
}

/// Words of [`RawHeader`].
pub(super) const HEADER_WORDS: usize = size_of::<RawHeader>() / 8;

impl RawHeader {
    pub(super) fn from_words(words: &[u64; HEADER_WORDS]) -> RawHeader {
        let [magic, address, base, pages, auxv, auxv_len, exe, exe_len, stack, brk, dying, count] = *words;
        let (auxv, exe) = ([auxv, auxv_len], [exe, exe_len]);
        RawHeader { magic, address, base, pages, auxv, exe, stack, brk, dying, count }
    }
}

/// Byte offsets in the header, for a tracer.
pub(super) const WRITTEN_AT: usize = size_of::<RawHeader>();
pub(super) const ENTRIES_AT: usize = WRITTEN_AT + WRITTEN * 16;
pub(super) const ENTRIES: usize = THREADS;

/// This process's.
pub(super) static HEADER: Header = Header {
    magic: AtomicU64::new(MAGIC),
    address: AtomicU64::new(0),
    base: AtomicU64::new(0),
    pages: AtomicU64::new(0),
    auxv: [const { AtomicU64::new(0) }; 2],
    exe: [const { AtomicU64::new(0) }; 2],
    stack: AtomicU64::new(0),
    brk: AtomicU64::new(0),
    dying: AtomicU64::new(0),
    count: AtomicU64::new(0),
    written: [const { [const { AtomicU64::new(0) }; 2] }; WRITTEN],
    entries: [const { Entry { tid: AtomicU64::new(0), slot: AtomicU64::new(0) } }; THREADS],
};

/// How far this process has read `HEADER.written`.
static SEEN: AtomicU64 = AtomicU64::new(0);

impl Header {
    /// Its address in this process.
    pub(super) fn own_address() -> u64 {
        (&raw const HEADER).addr() as u64
    }

    /// Shows the program that has been loaded.
    pub(super) fn show(&self, memory: &Memory, image: &super::super::Image) {
        let set = |word: &AtomicU64, value: usize| word.store(value as u64, Ordering::Relaxed);
        set(&self.base, memory.base().addr());
        set(&self.pages, memory.pages().addr());
        let exe = image.exe_path.as_os_str().as_encoded_bytes();
        for (words, bytes) in [(&self.auxv, image.auxv.as_slice()), (&self.exe, exe)] {
            set(&words[0], bytes.as_ptr().expose_provenance());
            set(&words[1], bytes.len());
        }
        set(&self.stack, image.start_stack as usize);
        set(&self.brk, image.brk_start as usize);
        self.address.store(Header::own_address(), Ordering::Release);
    }

    fn register(&self, tid: u32, slot: u64) {
        for entry in &self.entries {
            let free = entry.slot.compare_exchange(0, slot, Ordering::AcqRel, Ordering::Relaxed);
            if free.is_ok() {
                entry.tid.store(tid.into(), Ordering::Release);
                return;
            }
        }
    }

    fn unregister(&self, slot: u64) {
        if let Some(entry) = self.entries.iter().find(|entry| entry.slot.load(Ordering::Acquire) == slot) {
            entry.tid.store(0, Ordering::Release);
            entry.slot.store(0, Ordering::Release);
        }
    }

    /// Forgets the threads of the parent in a child that has a copy of everything.
    pub(super) fn forget_threads(&self) {
        // What is not written stays shared with the parent.
        for entry in self.entries.iter().filter(|entry| entry.slot.load(Ordering::Acquire) != 0) {
            entry.tid.store(0, Ordering::Release);
            entry.slot.store(0, Ordering::Release);
        }
    }

    /// Ranges of guest memory that tracers have written since the last look, as address and length.
    pub(super) fn take_written(&self) -> Vec<(u32, u32)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let count = self.count.load(Ordering::Acquire);
        let new = count.saturating_sub(SEEN.fetch_max(count, Ordering::AcqRel));
        if new > WRITTEN as u64 {
            return vec![(0, u32::MAX)];
        }
        let range = |number: u64| {
            let [addr, len] = &self.written[number as usize % WRITTEN];
            (addr.load(Ordering::Acquire) as u32, len.load(Ordering::Acquire) as u32)
        };
        (count - new..count).map(range).collect()
    }
}

/// What queued signals of another instance of this program carry, whose addresses are `delta` from ours.
pub(super) fn mark_in(delta: u64, mark: Mark) -> u64 {
    ((&raw const MARKS[mark as usize]).addr() as u64).wrapping_add(delta)
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Slot, tid) == 4 * word::TID && offset_of!(Slot, attached) == 4 * word::ATTACHED);
    assert!(offset_of!(Slot, options) == 4 * word::OPTIONS);
    assert!(offset_of!(Slot, interrupt) == 4 * word::INTERRUPT);
    assert!(offset_of!(Slot, passing) == 4 * word::PASSING && offset_of!(Slot, state) == 4 * word::STATE);
    assert!(offset_of!(Header, written) == WRITTEN_AT && offset_of!(Header, entries) == ENTRIES_AT);
};
