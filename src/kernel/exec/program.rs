//! The file that is to be executed: permissions, and what kind of program it is.

use super::descriptor;
use super::script::Script;
use crate::kernel::args::Fd;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg};
use crate::kernel::paths::{self, Follow};
use crate::kernel::process::Process;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// Bytes of a file that decide what it is (`BINPRM_BUF_SIZE`).
pub(super) const HEAD: usize = 256;

/// Permission to execute, for `faccessat`.
const X_OK: i32 = 1;

/// How the host finds a file to execute: the arguments of `execveat`.
pub(super) struct Target {
    pub(super) dirfd: RawFd,
    pub(super) path: CString,
    pub(super) flags: i32,
}

impl Target {
    /// A file that is open already.
    pub(super) fn open(fd: RawFd) -> Target {
        Target { dirfd: fd, path: CString::default(), flags: libc::AT_EMPTY_PATH }
    }
}

/// An open file that may be executed.
pub(super) struct Program {
    pub(super) file: File,
    pub(super) target: Target,
}

/// Who runs a program.
pub(super) enum Kind {
    /// The emulator.
    Guest,
    /// An interpreter.
    Script(Script),
    /// The host, if anybody.
    Foreign,
}

impl Program {
    /// Opens a file of the guest for execution. `EACCES` unless it is a regular file with permission, and one that can
    /// be read.
    pub(super) fn open(p: &Process, dirfd: Fd, name: &[u8], flags: u32) -> Result<Program, Errno> {
        let follow = Follow::unless_nofollow(flags);
        let path = if name.is_empty() {
            if flags & libc::AT_EMPTY_PATH as u32 == 0 {
                return Err(Errno::ENOENT);
            }
            c"".to_owned()
        } else {
            paths::resolve_bytes(p, dirfd, name, follow)
        };
        let at_flags = match follow {
            Follow::Yes => 0,
            Follow::No => libc::AT_SYMLINK_NOFOLLOW,
        } | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        let mut stat: libc::stat = host::zeroed();
        host::call(
            libc::SYS_newfstatat,
            [dirfd.into(), Arg::text(&path), Arg::output(&mut stat), at_flags.into()],
        )?;
        match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFLNK => return Err(Errno::ELOOP),
            _ => return Err(Errno::EACCES),
        }
        let access_flags = libc::AT_EACCESS | at_flags;
        host::call(libc::SYS_faccessat2, [dirfd.into(), Arg::text(&path), X_OK.into(), access_flags.into()])?;
        let file = if name.is_empty() {
            // A descriptor may be open in any way; what its name in /proc leads to can be opened for reading.
            let name = paths::c_string(format!("/proc/self/fd/{}", dirfd.0).as_bytes());
            host::open(&name, libc::O_RDONLY).or_else(|_| descriptor::duplicate(dirfd.0))?
        } else {
            let flags = libc::O_RDONLY | libc::O_NOCTTY | libc::O_NONBLOCK;
            open_at(dirfd, &path, flags).inspect_err(|error| {
                if *error == Errno::EACCES {
                    let name = String::from_utf8_lossy(name);
                    p.say_once(&format!("exec {name}"), || {
                        format!(
                            "{name}: may be executed, but not be read, and what is not read cannot run here"
                        )
                    });
                }
            })?
        };
        let target = Target { dirfd: dirfd.0, path, flags: at_flags };
        Ok(Program { file: file.into(), target })
    }

    /// Looks at the file's beginning. `ENOENT`, `ELIBBAD` and others if it is a guest's program whose dynamic linker
    /// is not there.
    pub(super) fn kind(&self, p: &Process) -> Result<Kind, Errno> {
        let head = self.head()?;
        if head.starts_with(b"#!") {
            return Ok(Kind::Script(Script::parse(&head).ok_or(Errno::ENOEXEC)?));
        }
        if !is_guest_elf(&head) {
            return Ok(Kind::Foreign);
        }
        if let Some(interpreter) = self.elf_interpreter(&head)? {
            let linker = Program::open(p, Fd::CWD, &interpreter, 0)?;
            if !is_guest_elf(&linker.head()?) {
                return Err(Errno::ELIBBAD);
            }
        }
        Ok(Kind::Guest)
    }

    /// The file's first bytes, followed by zeros.
    fn head(&self) -> Result<[u8; HEAD], Errno> {
        let mut head = [0; HEAD];
        let mut filled = 0;
        while filled < HEAD {
            match self.file.read_at(&mut head[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(head)
    }

    /// The path in an ELF file's `PT_INTERP`. `ENOEXEC` for headers that Linux refuses.
    fn elf_interpreter(&self, head: &[u8; HEAD]) -> Result<Option<Vec<u8>>, Errno> {
        const PHDR: usize = 32;
        const PT_INTERP: u32 = 3;
        const PATH_MAX: usize = 4096;
        let (offset, size, count) = (u32_at(head, 28), u16_at(head, 42), u16_at(head, 44));
        let bytes = usize::from(count) * PHDR;
        if usize::from(size) != PHDR || bytes == 0 || bytes > 65_536 {
            return Err(Errno::ENOEXEC);
        }
        let mut table = vec![0; bytes];
        self.file.read_exact_at(&mut table, offset.into()).map_err(|_| Errno::ENOEXEC)?;
        let Some(header) = table.chunks_exact(PHDR).find(|header| u32_at(header, 0) == PT_INTERP) else {
            return Ok(None);
        };
        let (offset, len) = (u32_at(header, 4), u32_at(header, 16) as usize);
        if !(2..=PATH_MAX).contains(&len) {
            return Err(Errno::ENOEXEC);
        }
        let mut path = vec![0; len];
        self.file.read_exact_at(&mut path, offset.into()).map_err(|_| Errno::EIO)?;
        if path.pop() != Some(0) {
            return Err(Errno::ENOEXEC);
        }
        path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
        Ok(Some(path))
    }
}

fn open_at(dirfd: Fd, path: &std::ffi::CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let flags = flags | libc::O_CLOEXEC;
    host::call(libc::SYS_openat, [dirfd.into(), Arg::text(path), flags.into()]).map(host::owned)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Tells whether a file with this beginning is an i386 program or library: ELF, 32-bit, executable or shared, for
/// the 386 or 486.
fn is_guest_elf(head: &[u8; HEAD]) -> bool {
    const CLASS_32: u8 = 1;
    let (kind, machine) = (u16_at(head, 16), u16_at(head, 18));
    head.starts_with(b"\x7fELF") && head[4] == CLASS_32 && matches!(kind, 2 | 3) && matches!(machine, 3 | 6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(class: u8, kind: u8, machine: u8) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(b"\x7fELF");
        (head[4], head[16], head[18]) = (class, kind, machine);
        head
    }

    #[test]
    fn only_32_bit_x86_programs_are_the_guests() {
        assert!(is_guest_elf(&elf(1, 2, 3)) && is_guest_elf(&elf(1, 3, 3)) && is_guest_elf(&elf(1, 2, 6)));
        for (class, kind, machine) in [(2, 2, 62), (1, 2, 40), (1, 1, 3), (1, 4, 3), (2, 2, 3)] {
            assert!(!is_guest_elf(&elf(class, kind, machine)), "{class} {kind} {machine}");
        }
        assert!(!is_guest_elf(&[0; HEAD]));
    }
}
