//! Other processes of this program: where their state and their guest's memory are, and access to both.

use super::super::errno::Errno;
use super::super::host::{self, Arg};
use super::block::{
    ENTRIES, ENTRIES_AT, HEADER_WORDS, Header, MAGIC, RawHeader, RawSlot, State, WRITTEN, WRITTEN_AT, word,
};
use crate::memory::{Plain, bytes_of, bytes_of_mut, page, zeroed};

/// `AT_PHDR` of the host's auxiliary vector: an address that moves with the program.
const AT_PHDR: u64 = 3;

/// A task of a process that runs this program.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernel) struct Remote {
    pub(super) tid: u32,
    /// What an address of this program here has to be moved by to be the same one there.
    pub(super) delta: u64,
    header: u64,
}

/// One element of the host's `struct iovec`.
type HostIovec = [u64; 2];

fn transfer(nr: libc::c_long, tid: u32, local: HostIovec, remote: u64) -> Result<usize, Errno> {
    let there: HostIovec = [remote, local[1]];
    host::call(nr, [tid.into(), Arg::input(&local), 1.into(), Arg::input(&there), 1.into(), 0.into()])
}

/// Reads host memory of another process as far as it can be read.
fn read_bytes(tid: u32, address: u64, out: &mut [u8]) -> Result<usize, Errno> {
    let local = [out.as_mut_ptr().expose_provenance() as u64, out.len() as u64];
    transfer(libc::SYS_process_vm_readv, tid, local, address)
}

fn read<T: Plain>(tid: u32, address: u64) -> Result<T, Errno> {
    let mut value = zeroed::<T>();
    let bytes = bytes_of_mut(&mut value);
    let len = bytes.len();
    if read_bytes(tid, address, bytes)? == len { Ok(value) } else { Err(Errno::EFAULT) }
}

/// Replaces host memory of another process.
fn write<T: Plain>(tid: u32, address: u64, value: &T) -> Result<(), Errno> {
    let bytes = bytes_of(value);
    let local = [bytes.as_ptr().expose_provenance() as u64, bytes.len() as u64];
    let written = transfer(libc::SYS_process_vm_writev, tid, local, address)?;
    if written == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
}

/// The host's auxiliary vector's entry for the program headers.
fn program_headers(auxv: &[u8]) -> Option<u64> {
    let (entries, _) = auxv.as_chunks::<16>();
    entries.iter().find_map(|entry| {
        let (kind, value) = entry.split_at(8);
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        (word(kind) == AT_PHDR).then(|| word(value))
    })
}

impl Remote {
    /// The task, if its process runs this very program. `EIO` if not, or if this process may not look at it.
    pub(in crate::kernel) fn find(tid: u32) -> Result<Remote, Errno> {
        let own = std::fs::read("/proc/self/auxv")?;
        let other = std::fs::read(format!("/proc/{tid}/auxv"))?;
        let (own, other) =
            (program_headers(&own).ok_or(Errno::EIO)?, program_headers(&other).ok_or(Errno::EIO)?);
        let delta = other.wrapping_sub(own);
        let remote = Remote { tid, delta, header: Header::own_address().wrapping_add(delta) };
        // Another program has something else there, or nothing.
        remote.header().map_err(|_| Errno::EIO)?;
        Ok(remote)
    }

    /// What the process shows.
    pub(super) fn header(&self) -> Result<RawHeader, Errno> {
        let header = RawHeader::from_words(&read::<[u64; HEADER_WORDS]>(self.tid, self.header)?);
        if header.magic == MAGIC && header.address == self.header { Ok(header) } else { Err(Errno::EIO) }
    }

    /// Where the task's slot is.
    pub(super) fn slot(&self) -> Result<u64, Errno> {
        let at = self.header + ENTRIES_AT as u64;
        let entries = read::<[[u64; 2]; ENTRIES]>(self.tid, at)?;
        let found = entries.iter().find(|[tid, slot]| *tid == u64::from(self.tid) && *slot != 0);
        found.map(|[_, slot]| *slot).ok_or(Errno::ESRCH)
    }

    /// The slot at an address, if it is still the task's.
    pub(super) fn read_slot(&self, slot: u64) -> Result<RawSlot, Errno> {
        let raw = read::<RawSlot>(self.tid, slot)?;
        let address = u64::from(raw[0]) | u64::from(raw[1]) << 32;
        if address == slot && raw[word::TID] == self.tid { Ok(raw) } else { Err(Errno::ESRCH) }
    }

    /// Replaces one word of the slot.
    pub(super) fn set_word(&self, slot: u64, word: usize, value: u32) -> Result<(), Errno> {
        write(self.tid, slot + 4 * word as u64, &value)
    }

    /// Replaces the state in the slot.
    pub(super) fn set_state(&self, slot: u64, state: &State) -> Result<(), Errno> {
        write(self.tid, slot + 4 * word::STATE as u64, state)
    }

    /// Host address of the process's guest memory.
    pub(in crate::kernel) fn base(&self) -> Result<u64, Errno> {
        self.header().map(|header| header.base)
    }

    /// Where the process's program lies, and its files: auxiliary vector, path, first ESP, and start of the heap.
    pub(in crate::kernel) fn image(&self) -> Result<RemoteImage, Errno> {
        const LONGEST: u64 = 1 << 16;
        let header = self.header()?;
        let bytes = |[address, len]: [u64; 2]| {
            let mut bytes = vec![0; len.min(LONGEST) as usize];
            let read = read_bytes(self.tid, address, &mut bytes)?;
            bytes.truncate(read);
            Ok::<_, Errno>(bytes)
        };
        Ok(RemoteImage {
            auxv: bytes(header.auxv)?,
            exe: bytes(header.exe)?,
            stack: header.stack as u32,
            brk: header.brk as u32,
        })
    }

    /// The page bytes of a range of guest pages.
    pub(in crate::kernel) fn page_bytes(&self, first: u32, count: u32) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; count as usize];
        let read = read_bytes(self.tid, self.header()?.pages + u64::from(first), &mut bytes)?;
        if read == bytes.len() { Ok(bytes) } else { Err(Errno::EIO) }
    }

    /// How much of a range of guest memory is mapped, from its beginning.
    pub(in crate::kernel) fn mapped(&self, addr: u32, len: u32) -> Result<u32, Errno> {
        let Some(last) = len.checked_sub(1) else { return Ok(0) };
        let (first, last) = (addr / page::SIZE, addr.saturating_add(last) / page::SIZE);
        let pages = self.page_bytes(first, last - first + 1)?;
        let good = pages.iter().take_while(|&&byte| byte & page::MAPPED != 0).count() as u64;
        let end = (u64::from(first) + good) * u64::from(page::SIZE);
        Ok(end.saturating_sub(addr.into()).min(len.into()) as u32)
    }

    /// Tells the process that its guest's memory was written, so that it gives up translations of it.
    pub(in crate::kernel) fn note_written(&self, addr: u32, len: u32) -> Result<(), Errno> {
        let count = self.header()?.count;
        let at = self.header + (WRITTEN_AT + (count as usize % WRITTEN) * 16) as u64;
        write(self.tid, at, &[u64::from(addr), u64::from(len)])?;
        // Behind the range itself. Two tracers of a process that write at the same time are not told apart.
        write(self.tid, self.header + (size_of::<RawHeader>() - 8) as u64, &(count + 1))
    }
}

/// A program as another process has it.
pub(in crate::kernel) struct RemoteImage {
    pub auxv: Vec<u8>,
    pub exe: Vec<u8>,
    pub stack: u32,
    pub brk: u32,
}
