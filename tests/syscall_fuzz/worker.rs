//! The process that makes the calls: shut off first, then a guest program in a machine.

use super::calls;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use table86::cpu::reg;
use table86::kernel::errno::Errno;
use table86::kernel::exec::Launch;
use table86::kernel::signal::Info;
use table86::kernel::{ExitReason, Image, Observer, Options, Process};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory};

/// Tells a worker from a test.
pub const ARGUMENT: &str = "--worker";
/// Exit statuses: all calls are made; the guest ended before; namespaces are not to be had.
pub const DONE: i32 = 0;
pub const GUEST_ENDED: i32 = 100;
pub const NO_NAMESPACES: i32 = 77;

/// Where the guest's program, the list of calls and the place in it are.
const CODE: u32 = 0x1_0000;
const PLACE: u32 = 0x2_0000;
const LIST: u32 = 0x4_0000;
const STACK: u32 = 0x3_f000;
/// Most memory that the guest may map, in bytes.
const MEMORY: u64 = 256 << 20;

/// How far a worker is; a file that it maps and its parent reads.
pub struct Progress {
    /// The worker's process id.
    pub pid: i32,
    /// Calls begun.
    pub calls: u64,
    /// The last of them.
    pub call: [u32; 7],
}

/// The file's bytes: words of the process id and the call, then the number of calls.
#[repr(C)]
struct Shared {
    pid: AtomicU32,
    call: [AtomicU32; 7],
    calls: AtomicU64,
}

const FILE: &str = "progress";

impl Progress {
    /// Makes the file.
    pub fn create(dir: &Path) -> io::Result<()> {
        std::fs::write(dir.join(FILE), [0; size_of::<Shared>()])?;
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(dir.join(FILE), all)
    }

    /// Reads it.
    pub fn read(dir: &Path) -> Progress {
        let mut bytes = [0; size_of::<Shared>()];
        if let Ok(file) = File::open(dir.join(FILE)) {
            // A short file is a worker that has not begun.
            let _ = file.read_at(&mut bytes, 0);
        }
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| bytes[4 * at + index]));
        Progress {
            pid: word(0) as i32,
            call: std::array::from_fn(|index| word(1 + index)),
            // All bits before the setup call, which is not counted.
            calls: (u64::from(word(9)) << 32 | u64::from(word(8))).wrapping_add(1).saturating_sub(1),
        }
    }
}

/// Sends a signal to a worker that has said who it is.
pub fn signal(pid: i32, signal: i32) {
    if pid > 0 {
        // SAFETY: a call without pointers.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Counts calls where the parent sees it.
struct Counter(&'static Shared);

impl Observer for Counter {
    fn enter(&mut self, process: &Process, nr: u32, args: [u32; 6]) {
        // Returns from handlers are not in the list.
        if process.machine.cpu.regs[reg::ESP] != STACK {
            return;
        }
        for (word, value) in self.0.call.iter().zip([nr].into_iter().chain(args)) {
            word.store(value, Ordering::Relaxed);
        }
        self.0.calls.fetch_add(1, Ordering::Release);
    }

    fn leave(&mut self, _: &Process, _: u32, _: [u32; 6], _: Result<u32, Errno>) {}

    fn signal(&mut self, _: &Process, _: &Info) {}

    fn exit(&mut self, _: &Process, _: ExitReason) {}
}

/// Runs a worker.
pub fn main(dir: &Path, seed: u64, first: u64, count: u64) -> ExitCode {
    let shared = match share(dir) {
        Ok(shared) => shared,
        Err(error) => {
            eprintln!("{}: {error}", dir.display());
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = shut_off(&dir.join("root"), shared) {
        eprintln!("no namespaces: {error}");
        return ExitCode::from(NO_NAMESPACES as u8);
    }
    let reason = run(seed, first, count, shared);
    ExitCode::from(if reason == ExitReason::Exited(0) { DONE } else { GUEST_ENDED } as u8)
}

/// Maps the progress file; no descriptor stays behind that a call could get at.
fn share(dir: &Path) -> io::Result<&'static Shared> {
    let file = File::options().read(true).write(true).open(dir.join(FILE))?;
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping of a file that is long enough.
    let at =
        unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), prot, flags, file.as_raw_fd(), 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: mapped for good, aligned to a page; all bytes are atomics.
    Ok(unsafe { &*at.cast::<Shared>() })
}

/// Turns -1 into the error.
fn check(result: i32) -> io::Result<i32> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Goes where no call can reach anything: nobody, in namespaces of its own, in an empty folder, with limits. Comes back in a
/// child, the first process of its namespace; its parent waits and ends like it.
fn shut_off(root: &Path, shared: &Shared) -> io::Result<()> {
    const NOBODY: u32 = 65_534;
    let apart = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    let root = std::ffi::CString::new(root.as_os_str().as_encoded_bytes())?;
    // SAFETY: calls with strings and structures that live as long as they do; this process has one thread.
    unsafe {
        if libc::geteuid() == 0 {
            check(libc::setgroups(0, std::ptr::null()))?;
            check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
            check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        }
        check(libc::unshare(apart))?;
        check(libc::chroot(root.as_ptr()))?;
        check(libc::chdir(c"/".as_ptr()))?;
        let child = check(libc::fork())?;
        if child != 0 {
            shared.pid.store(child as u32, Ordering::Relaxed);
            let mut status = 0;
            while libc::waitpid(child, &raw mut status, 0) == -1 {}
            if libc::WIFSIGNALED(status) {
                // As it died; a core file would be of the wrong process.
                libc::signal(libc::WTERMSIG(status), libc::SIG_DFL);
                libc::raise(libc::WTERMSIG(status));
            }
            libc::_exit(libc::WEXITSTATUS(status));
        }
        // A signal to the process group stays inside.
        check(libc::setsid())?;
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
        drop_capabilities()?;
        for (resource, limit) in
            [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, 1 << 20), (libc::RLIMIT_NOFILE, 256)]
        {
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            check(libc::setrlimit(resource, &raw const limit))?;
        }
        // A file that has grown too large is an error, no end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    Ok(())
}

/// Gives up what the owner of a user namespace may do in it.
fn drop_capabilities() -> io::Result<()> {
    const VERSION: u32 = 0x2008_0522;
    let header = [VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: the structures of capset(2): version and process; three words for each half of the set.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    check(result as i32).map(drop)
}

/// The guest's program: takes seven words from the list into the registers and calls, again and again.
fn program(end: u32) -> Vec<u8> {
    let mut code = Vec::new();
    let mut put = |bytes: &[u8], word: Option<u32>| {
        code.extend_from_slice(bytes);
        code.extend_from_slice(&word.map_or(Vec::new(), |word| word.to_le_bytes().to_vec()));
    };
    put(&[0xa1], Some(PLACE)); // mov eax, [PLACE]
    put(&[0x83, 0x05], Some(PLACE)); // add dword [PLACE], 28
    put(&[28], None);
    put(&[0x3d], Some(end)); // cmp eax, end
    put(&[0x73, 29], None); // jae done
    put(&[0x8b, 0x58, 4, 0x8b, 0x48, 8, 0x8b, 0x50, 12], None); // mov ebx, [eax+4]; ecx, edx
    put(&[0x8b, 0x70, 16, 0x8b, 0x78, 20, 0x8b, 0x68, 24], None); // mov esi, [eax+16]; edi, ebp
    put(&[0xbc], Some(STACK)); // mov esp, STACK
    put(&[0x8b, 0x00, 0xcd, 0x80, 0xeb], None); // mov eax, [eax]; int 0x80; jmp to the beginning
    put(&[(-(CODE_LOOP as i32)) as i8 as u8], None);
    put(&[0xbb, 0, 0, 0, 0, 0xb8, 252, 0, 0, 0, 0xcd, 0x80], None); // done: exit_group(0)
    put(&[0xc3], None); // handler: ret
    put(&[0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80], None); // restorer: pop eax; mov eax, 119; int 0x80
    code
}

/// Length of the loop, and places behind it.
const CODE_LOOP: u32 = 48;
const HANDLER: u32 = CODE + CODE_LOOP + 12;
const RESTORER: u32 = HANDLER + 1;

fn run(seed: u64, first: u64, count: u64, shared: &'static Shared) -> ExitReason {
    const SIGACTION: u32 = 67;
    const SA_RESTORER: u32 = 0x0400_0000;
    // The first call, which is not counted: SIGALRM interrupts what waits.
    let action = calls::READ_ONLY;
    let setup = [SIGACTION, libc::SIGALRM as u32, action, 0, 0, 0, 0];
    let list: Vec<[u32; 7]> = [setup].into_iter().chain(calls::list(seed, first, count)).collect();
    let bytes: Vec<u8> = list.as_flattened().iter().flat_map(|word| word.to_le_bytes()).collect();
    let end = LIST + bytes.len() as u32;
    let memory = Arc::new(Memory::new().expect("addresses for the guest"));
    memory.set_limit(MEMORY);
    let (read, write) = (Prot::READ, Prot::READ | Prot::WRITE);
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    for (at, bytes, prot) in [
        (CODE, program(end), Prot::READ | Prot::EXEC),
        (PLACE, words(&[LIST]), write),
        (LIST, bytes, read),
        (calls::READ_ONLY, words(&[HANDLER, 0, SA_RESTORER, RESTORER]), read),
        (calls::ARENA.0, calls::arena(seed), write),
    ] {
        memory.map(&MapRequest::bytes(Place::Fixed(at), bytes, prot, None)).expect("room");
    }
    memory.map(&MapRequest::anonymous(Place::Fixed(STACK - 0x1_0000), 0x1_1000, write)).expect("room");
    let mut machine = Machine::new(memory).expect("room for translations");
    machine.cpu.eip = CODE;
    machine.cpu.regs[reg::ESP] = STACK;
    let mut process = Process::new(machine, Image::default(), Options::default(), Launch::new());
    let counter = Counter(shared);
    process.observer = Some(Arc::new(Mutex::new(counter)));
    // The setup is no call of the list.
    shared.calls.store(u64::MAX, Ordering::Relaxed);
    process.run()
}
