//! What the tests share: a memory to work on, files to map, probes of the host's side.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use table86::memory::{MapRequest, Memory, Place, Prot, guarded};

pub const PAGE: u32 = 4096;
pub const R: Prot = Prot::READ;
pub const W: Prot = Prot::WRITE;
pub const X: Prot = Prot::EXEC;

pub fn rw() -> Prot {
    R | W
}

pub fn rwx() -> Prot {
    R | W | X
}

/// For the tests that read this process's maps again and again, and the one that makes them long.
pub fn own_process_maps() -> MutexGuard<'static, ()> {
    static MAPS: Mutex<()> = Mutex::new(());
    MAPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An empty memory, in a process that survives faults in guarded copies.
pub fn memory() -> Memory {
    catch_faults();
    Memory::new().expect("4 GiB of address space")
}

/// A memory with `pages` pages at `addr`.
pub fn memory_with(addr: u32, pages: u32, prot: Prot) -> Memory {
    let memory = memory();
    let request = MapRequest::anonymous(Place::Fixed(addr), pages * PAGE, prot);
    assert_eq!(memory.map(&request), Ok(addr));
    memory
}

/// Tells whether the host lets a byte be read at a guest address, whatever the page bytes say.
pub fn host_reads(memory: &Memory, addr: u32) -> bool {
    let mut byte = 0u8;
    // SAFETY: the address is the guest's; faults end the copy.
    unsafe { guarded::copy(&raw mut byte, memory.base().wrapping_add(addr as usize), 1) == 0 }
}

/// As [`host_reads`] for writing; changes nothing.
pub fn host_writes(memory: &Memory, addr: u32) -> bool {
    let host = memory.base().wrapping_add(addr as usize);
    // SAFETY: as in `host_reads`; the byte is copied to itself.
    unsafe { guarded::copy(host, host, 1) == 0 }
}

/// A file that is removed when dropped.
pub struct TempFile {
    pub file: File,
    pub path: PathBuf,
}

impl TempFile {
    /// A file in which byte `i` is `i / 512 + i`, wrapped.
    pub fn with_pattern(len: usize) -> TempFile {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("table86-memory-{}-{number}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create_new(true).open(&path).expect("a temporary file");
        let bytes: Vec<u8> = (0..len).map(|at| (at / 512 + at) as u8).collect();
        file.write_all(&bytes).expect("room for a few pages");
        TempFile { file, path }
    }

    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// A request to map all `pages` pages privately.
    pub fn request(&self, place: Place, pages: u32, prot: Prot) -> MapRequest {
        MapRequest::file(place, pages * PAGE, prot, self.fd(), 0, Some(self.path.clone()))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
fn catch_faults() {
    use std::sync::Once;
    static ONCE: Once = Once::new();

    extern "C" fn on_fault(signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a context with SA_SIGINFO.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let rip = &mut registers[libc::REG_RIP as usize];
        match guarded::fixup(*rip as usize) {
            Some(target) => *rip = target as i64,
            // SAFETY: the default action ends the process when the instruction faults again.
            None => unsafe {
                libc::signal(signal, libc::SIG_DFL);
            },
        }
    }

    ONCE.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: the handler is async-signal-safe.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_fault as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
            }
        }
    });
}

#[cfg(not(all(target_arch = "x86_64", not(feature = "portable"))))]
fn catch_faults() {}
