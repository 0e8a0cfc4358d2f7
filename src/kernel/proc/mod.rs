//! The guest's view of its processes' entries in `/proc`: what the host shows there is the emulator's.

mod cpuinfo;
pub mod memory;
mod other;

use super::Process;
use super::args::Fd;
use super::errno::Errno;
use super::files;
use super::host::{self, Arg};
use super::paths;
use super::ptrace::remote::{Remote, RemoteImage};
use crate::memory::{Memory, Prot};
use std::ffi::{CString, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Type of the proc file system in `statfs` (`PROC_SUPER_MAGIC`).
const PROC_MAGIC: i64 = 0x9fa0;
/// Entries with a view of their own.
const VIEWS: [&[u8]; 8] = [b"exe", b"maps", b"auxv", b"cmdline", b"environ", b"stat", b"cwd", b"mem"];
/// The entry of the processors, which is not the process's own.
const CPUINFO: &[u8] = b"/proc/cpuinfo";
/// Longest argument or environment area that is believed, in bytes; Linux has less.
const MAX_AREA: u32 = 64 << 20;

/// Where the arguments and the environment lay when the program started; programs overwrite them to change what `ps`
/// shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    arg_start: u32,
    arg_end: u32,
    env_start: u32,
    env_end: u32,
}

impl Arguments {
    /// Walks the stack of a program that has not run yet; `esp` points to its `argc`.
    pub fn locate(memory: &Memory, esp: u32) -> Arguments {
        Self::walk(memory, esp).unwrap_or_default()
    }

    fn walk(memory: &Memory, esp: u32) -> Option<Arguments> {
        let count = memory.read::<u32>(esp).ok()?;
        let word = |index: u32| memory.read::<u32>(esp.wrapping_add(index.wrapping_mul(4))).ok();
        let behind = |at: u32| {
            let text = memory.read_cstr(at, MAX_AREA as usize).ok()?;
            Some(at.wrapping_add(text.len() as u32 + 1))
        };
        let mut found = Arguments::default();
        if count > 0 {
            found.arg_start = word(1)?;
            found.arg_end = behind(word(count)?)?;
        }
        let first = count.checked_add(2)?;
        let last = (first..).take_while(|&index| word(index).is_some_and(|at| at != 0)).last();
        found.env_start = found.arg_end;
        found.env_end = found.arg_end;
        if let Some(last) = last {
            found.env_start = word(first)?;
            found.env_end = behind(word(last)?)?;
        }
        let sane = |start: u32, end: u32| end.checked_sub(start).is_some_and(|len| len <= MAX_AREA);
        (sane(found.arg_start, found.arg_end) && sane(found.env_start, found.env_end)).then_some(found)
    }
}

/// An entry of a process in `/proc` that has a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The process or the thread whose entry it is.
    tid: u32,
    /// It is this process's.
    own: bool,
    /// What is behind the process's or the thread's directory.
    name: Vec<u8>,
    /// Its path on the host.
    path: Vec<u8>,
}

/// A number in a path.
fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

impl Entry {
    /// The entry that a path leads to; `None` for other paths.
    fn find(at: Fd, path: &[u8]) -> Option<Entry> {
        let last = path.rsplit(|&b| b == b'/').next()?;
        if !VIEWS.contains(&last) {
            return None;
        }
        let absolute = paths::absolute(at, path)?;
        let mut names = absolute.split(|&b| b == b'/').filter(|name| !name.is_empty() && *name != b".");
        if names.next()? != b"proc" {
            return None;
        }
        let mut tid = match names.next()? {
            b"self" => std::process::id(),
            b"thread-self" => super::task::id(),
            process => number(process)?,
        };
        let is_thread = |tid: u32| std::fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(false);
        let own = tid == std::process::id() || is_thread(tid);
        let mut path = format!("/proc/{tid}/").into_bytes();
        let mut rest: Vec<&[u8]> = names.collect();
        if let [b"task", thread, ..] = rest[..] {
            let thread = number(thread)?;
            path = format!("/proc/{tid}/task/{thread}/").into_bytes();
            if own && !is_thread(thread) {
                return None;
            }
            tid = thread;
            rest.drain(..2);
        }
        if rest.contains(&b"..".as_slice()) {
            return None;
        }
        let name = rest.join(&b'/');
        path.extend_from_slice(&name);
        Some(Entry { tid, own, name, path })
    }

    /// What the process whose entry it is shows of its program, if it is another one of this emulator's.
    fn image(&self) -> Option<RemoteImage> {
        Remote::find(self.tid).and_then(|remote| remote.image()).ok()
    }
}

/// The program that a path through `exe` in `/proc` leads to, on the host.
pub fn program(p: &Process, at: Fd, path: &[u8]) -> Option<PathBuf> {
    let entry = Entry::find(at, path).filter(|entry| entry.name == b"exe")?;
    if entry.own {
        return Some(p.image.exe_path.clone());
    }
    entry.image().map(|image| OsString::from_vec(image.exe).into())
}

/// What a link among the entries shows the guest.
pub fn link_view(p: &Process, at: Fd, path: &[u8]) -> Option<PathBuf> {
    let entry = Entry::find(at, path)?;
    match entry.name.as_slice() {
        b"exe" => program(p, at, path).map(|path| paths::to_guest(p, path)),
        b"cwd" if entry.own && p.options.sysroot.is_some() => {
            Some(paths::to_guest(p, std::env::current_dir().ok()?))
        }
        _ => None,
    }
}

/// What an entry of a process shows; `None` for one without a view.
fn content(p: &Process, entry: &Entry) -> Result<Option<Vec<u8>>, Errno> {
    if !entry.own {
        return Ok(match entry.name.as_slice() {
            b"auxv" => entry.image().map(|image| image.auxv),
            b"maps" => other::maps(entry.tid),
            _ => None,
        });
    }
    Ok(Some(match entry.name.as_slice() {
        b"maps" => maps(p).into_bytes(),
        b"auxv" => p.image.auxv.clone(),
        b"cmdline" => area(p, p.common.arguments.arg_start, p.common.arguments.arg_end),
        b"environ" => area(p, p.common.arguments.env_start, p.common.arguments.env_end),
        b"stat" => stat(p, paths::c_string(&entry.path).to_string_lossy().as_ref())?,
        _ => return Ok(None),
    }))
}

/// What is to be seen in an entry, and whose it is.
pub struct View {
    /// Its bytes at this moment.
    pub content: Vec<u8>,
    name: Vec<u8>,
    path: Vec<u8>,
}

/// The view of what `path` leads to; `None` for other paths, and for memory, which is no bytes.
///
/// # Errors
/// The host's.
pub fn view(p: &Process, at: Fd, path: &[u8]) -> Result<Option<View>, Errno> {
    if let Some(entry) = Entry::find(at, path) {
        let content = content(p, &entry)?;
        return Ok(content.map(|content| View { content, name: entry.name, path: entry.path }));
    }
    if path != CPUINFO {
        return Ok(None);
    }
    let host_text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let text = cpuinfo::text(&p.machine.cpu.cpuid, cpuinfo::processors(&host_text));
    Ok(Some(View { content: text.into_bytes(), name: b"cpuinfo".to_vec(), path: CPUINFO.to_vec() }))
}

/// Opens an entry that has a view: a file with what the guest is to see at this moment. `None` for other paths.
///
/// # Errors
/// The host's.
pub fn open_view(p: &Process, at: Fd, path: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    if flags & libc::O_PATH as u32 != 0 {
        return Ok(None);
    }
    if let Some(entry) = Entry::find(at, path).filter(|entry| entry.name == b"mem") {
        return memory::open(p, entry.tid, &entry.path, flags);
    }
    let Some(View { content, name: entry, path: entry_path }) = view(p, at, path)? else { return Ok(None) };
    // The host's entry says whether it may be opened so.
    drop(host::open(&paths::c_string(&entry_path), files::flags_to_host(flags))?);
    let name = CString::new(entry).unwrap_or_default();
    let file = host::call(libc::SYS_memfd_create, [Arg::text(&name), libc::MFD_CLOEXEC.into()])?;
    let file = host::owned(file);
    write_all(&file, &content)?;
    // A second opening has a position of its own, at the beginning, and only writes where the host lets it.
    let again = paths::c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes());
    let kept = libc::O_ACCMODE | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let fd = host::call(
        libc::SYS_openat,
        [libc::AT_FDCWD.into(), Arg::text(&again), (flags as i32 & kept).into()],
    )?;
    let again = host::owned(fd);
    // The guest gets the lowest free number, which the first opening took.
    let cloexec = flags as i32 & libc::O_CLOEXEC;
    host::call(libc::SYS_dup3, [again.as_raw_fd().into(), file.as_raw_fd().into(), cloexec.into()])?;
    Ok(Some(file))
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written =
            host::call(libc::SYS_write, [file.as_raw_fd().into(), Arg::slice(bytes), bytes.len().into()])?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// The bytes of guest memory that the program may have changed since.
fn area(p: &Process, start: u32, end: u32) -> Vec<u8> {
    let mut bytes = vec![0; end.saturating_sub(start) as usize];
    match p.machine.memory.read_bytes(start, &mut bytes) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

/// `/proc/self/maps` (proc_pid_maps(5)).
fn maps(p: &Process) -> String {
    p.machine.memory.regions().iter().map(|region| format!("{region}\n")).collect()
}

/// The host's `stat` at `path` (proc_pid_stat(5)) with the addresses of the guest.
fn stat(p: &Process, path: &str) -> Result<Vec<u8>, Errno> {
    let host_text = std::fs::read_to_string(path)?;
    // The name may contain anything; the other fields follow its closing parenthesis.
    let (name, rest) = host_text.rsplit_once(") ").ok_or(Errno::EIO)?;
    let mut fields: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
    let regions = p.machine.memory.regions();
    let code = |region: &&crate::memory::Region| {
        region.prot.contains(Prot::EXEC) && region.path() == Some(p.image.exe_path.as_path())
    };
    let start_code = regions.iter().find(code).map_or(0, |region| region.start);
    let end_code = regions.iter().rfind(code).map_or(0, |region| region.end);
    let arguments = &p.common.arguments;
    // Numbered as in the manual, from 1; the first one here is the third.
    for (number, value) in [
        (23, p.machine.memory.mapped_bytes()),
        (26, start_code.into()),
        (27, end_code.into()),
        (28, p.image.start_stack.into()),
        (29, 0),
        (30, 0),
        (47, p.image.brk_start.into()),
        (48, arguments.arg_start.into()),
        (49, arguments.arg_end.into()),
        (50, arguments.env_start.into()),
        (51, arguments.env_end.into()),
    ] {
        if let Some(field) = fields.get_mut(number - 3) {
            *field = value.to_string();
        }
    }
    Ok(format!("{name}) {}\n", fields.join(" ")).into_bytes())
}

/// Tells whether `fd` is this process's `/proc/PID/fd` or `fdinfo`, where the emulator's descriptors are not shown.
pub fn is_fd_directory(fd: Fd) -> bool {
    if host::private_fds().is_empty() {
        return false;
    }
    let mut fs: libc::statfs = host::zeroed();
    if host::call(libc::SYS_fstatfs, [fd.into(), Arg::output(&mut fs)]).is_err() || fs.f_type != PROC_MAGIC {
        return false;
    }
    let Some(path) = host::path_of_fd(fd.0) else { return false };
    let own = std::process::id().to_string();
    path.as_os_str()
        .as_bytes()
        .strip_prefix(b"/proc/")
        .and_then(|rest| rest.strip_prefix(own.as_bytes()))
        .is_some_and(|rest| rest.ends_with(b"/fd") || rest.ends_with(b"/fdinfo"))
}

/// Tells whether the name of a directory entry is the number of an emulator's descriptor.
pub fn names_private_fd(name: &[u8]) -> bool {
    std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).is_some_and(host::is_private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_entries_are_known_by_all_their_names() {
        let pid = std::process::id();
        let entry = |path: &str| Entry::find(Fd::CWD, path.as_bytes());
        let own = |path: &str| entry(path).filter(|entry| entry.own).map(|entry| entry.name);
        assert_eq!(own("/proc/self/exe"), Some(b"exe".to_vec()));
        assert_eq!(own("//proc/./self//maps"), Some(b"maps".to_vec()));
        assert_eq!(own(&format!("/proc/{pid}/task/{pid}/maps")), Some(b"maps".to_vec()));
        assert_eq!(own("/proc/1/exe"), None);
        assert_eq!(own("/proc/self/status"), None);
        assert_eq!(own("/proc/self/../1/exe"), None);
        assert_eq!(own("/tmp/exe"), None);
        let directory = host::open(c"/proc/self", libc::O_RDONLY | libc::O_DIRECTORY).unwrap();
        let below = Entry::find(Fd(directory.as_raw_fd()), b"maps").unwrap();
        assert_eq!((below.own, below.name), (true, b"maps".to_vec()));
        let other = entry("/proc/1/task/1/auxv").unwrap();
        assert_eq!((other.own, other.tid), (false, 1));
        let path = String::from_utf8(other.path).unwrap();
        assert_eq!(path, "/proc/1/task/1/auxv");
    }
}
