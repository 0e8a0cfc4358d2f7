//! `execve(2)` inside the emulator: the process runs this program again, through a descriptor of itself that was
//! opened at its start, and that one loads the guest's new program.
//!
//! Arguments and environment are handed to the host unchanged, so that others see the guest's command line. What
//! the new image has to know beside them is in a memory file ([`state`]). Files of other machines, and what the
//! host has a handler for, go to the host as they are.

mod descriptor;
mod program;
pub mod script;
pub mod state;

pub use state::Resumed;

use super::args::{Fd, Path, Str};
use super::errno::Errno;
use super::host::{self, Arg, DescriptorRoom, PrivateFd, Spares};
use super::process::{Image, Process};
use super::signal;
use program::{Kind, Program, Target};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Longest argument or environment string, in bytes with its NUL (`MAX_ARG_STRLEN`).
const STRING_MAX: usize = 131_072;
/// Most bytes of arguments and environment together: three quarters of the default stack, as Linux has it.
const STRINGS_MAX: usize = 6 << 20;
/// Interpreters that a script may go through.
const SCRIPT_DEPTH: usize = 5;

/// How to run this program again, and what the last `execve` left for it.
#[derive(Debug)]
pub struct Launch {
    /// This program.
    program: Option<PrivateFd>,
    /// The guest's mask, if an `execve` handed it on.
    pub(super) mask: Option<signal::SigSet>,
    /// Whether an `execve` handed on that the time stamp counter is forbidden.
    pub(super) tsd: bool,
    /// How the program that was executed is traced.
    pub(super) traced: Option<super::ptrace::Inherited>,
    /// Where system calls are shown.
    pub(super) trace: Option<Arc<super::strace::Handles>>,
}

impl Launch {
    /// Opens this program by the host's `/proc`. Where that fails, the guest cannot execute i386 programs.
    pub fn new() -> Launch {
        let program = host::open(c"/proc/self/exe", libc::O_PATH).and_then(PrivateFd::new).ok();
        Launch { program, mask: None, tsd: false, traced: None, trace: None }
    }

    /// As it is, with a place where system calls are shown: the file of this name, or stderr. `Options::strace` says what is.
    ///
    /// # Errors
    /// The host's when the file cannot be made.
    pub fn traced_to(mut self, output: Option<&std::path::Path>) -> std::io::Result<Launch> {
        self.trace = Some(Arc::new(super::strace::Handles::new(output)?));
        Ok(self)
    }
}

impl Launch {
    /// Where it is shown what the program does, if [`Launch::traced_to`] was called or an `execve` handed it on.
    pub fn output(&self) -> Option<super::strace::Output> {
        self.trace.clone().map(super::strace::Output)
    }
}

impl Default for Launch {
    fn default() -> Launch {
        Launch::new()
    }
}

/// Names this process after its program (`comm` in proc(5)), as the host would have done: by the path that was executed,
/// or by the file itself if that was a descriptor.
pub(super) fn set_name(image: &Image) {
    let by_descriptor = image.exec_name.as_bytes().starts_with(b"/dev/fd/");
    let name = if by_descriptor { image.exe_path.as_os_str() } else { &image.exec_name };
    let bytes = name.as_bytes();
    let base = bytes.rsplit(|&byte| byte == b'/').next().unwrap_or(bytes);
    let name = super::paths::c_string(&base[..base.len().min(15)]);
    // Only the look of it is lost if this fails.
    let _ = host::call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), Arg::text(&name)]);
}

/// execve(2).
pub fn execve(p: &mut Process, path: Path, argv: u32, envp: u32) -> Result<u32, Errno> {
    execveat(p, Fd::CWD, path, argv, envp, 0)
}

/// execveat(2).
pub fn execveat(
    p: &mut Process,
    dirfd: Fd,
    path: Path,
    argv: u32,
    envp: u32,
    flags: u32,
) -> Result<u32, Errno> {
    let known = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) as u32;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let name = path.read(&p.machine.memory)?;
    let mut argv = strings(p, argv)?;
    let envp = strings(p, envp)?;
    if argv.is_empty() {
        argv.push(CString::default());
    }
    let exec_name = shown_name(dirfd, &name);
    let _spares = Spares::release();
    let room = DescriptorRoom::make();
    let mut program = Program::open(p, dirfd, &name, flags)?;
    let mut program_name = exec_name.clone();
    for _ in 0..=SCRIPT_DEPTH {
        match program.kind(p)? {
            Kind::Guest => return run(p, program.file.into(), &exec_name, &argv, &envp, room),
            Kind::Foreign => {
                drop(room);
                return run_on_host(p, &program, &argv, &envp);
            }
            Kind::Script(script) => {
                // The interpreter opens the script by its name, which has to be good then.
                if name.is_empty() && descriptor::is_close_on_exec(dirfd) {
                    return Err(Errno::ENOENT);
                }
                argv = script.arguments(program_name, argv);
                program = Program::open(p, Fd::CWD, script.interpreter.as_bytes(), 0)?;
                program_name = script.interpreter;
            }
        }
    }
    Err(Errno::ELOOP)
}

/// What `AT_EXECFN` and a script's interpreter see: the path, or the descriptor's name in `/dev/fd`.
fn shown_name(dirfd: Fd, name: &[u8]) -> CString {
    let shown = match name {
        [] => format!("/dev/fd/{}", dirfd.0).into_bytes(),
        [b'/', ..] => name.to_vec(),
        _ if dirfd == Fd::CWD => name.to_vec(),
        _ => [format!("/dev/fd/{}/", dirfd.0).as_bytes(), name].concat(),
    };
    super::paths::c_string(&shown)
}

/// Reads a NULL-terminated array of strings; NULL is an empty one. `E2BIG` for what Linux would not take.
fn strings(p: &Process, array: u32) -> Result<Vec<CString>, Errno> {
    let memory = &p.machine.memory;
    let mut list = Vec::new();
    let mut total = 0;
    if array == 0 {
        return Ok(list);
    }
    for index in 0u32.. {
        let pointer = memory.read::<u32>(array.wrapping_add(index.wrapping_mul(4)))?;
        if pointer == 0 {
            break;
        }
        let text = Str(pointer).read(memory, STRING_MAX, Errno::E2BIG)?;
        total += text.len() + 1 + size_of::<u32>();
        if total > STRINGS_MAX {
            return Err(Errno::E2BIG);
        }
        list.push(super::paths::c_string(&text));
    }
    Ok(list)
}

/// Runs this program again for the guest's new one.
fn run(
    p: &mut Process,
    file: OwnedFd,
    exec_name: &CString,
    argv: &[CString],
    envp: &[CString],
    room: DescriptorRoom,
) -> Result<u32, Errno> {
    let Some(itself) = p.launch.program.as_ref().map(PrivateFd::get) else {
        p.say_once("exec", || "cannot open /proc/self/exe, so execve of i386 programs fails".to_owned());
        return Err(Errno::EACCES);
    };
    let file = PrivateFd::new(file)?;
    let state = PrivateFd::new(state::write(p, file.get(), exec_name)?)?;
    let trace = p.launch.trace.as_ref().filter(|_| p.options.is_watched());
    let trace = trace.iter().flat_map(|trace| [trace.output.get(), trace.shared().get()]);
    let kept_open: Vec<_> = trace.chain([itself, file.get(), state.get()]).collect();
    for &fd in &kept_open {
        descriptor::set_close_on_exec(fd, false)?;
    }
    drop(room);
    // Everything stays blocked until the new image can take signals.
    let error = replace(p, &Target::open(itself), argv, envp, signal::host::BLOCKED);
    for fd in kept_open {
        descriptor::set_close_on_exec(fd, true)?;
    }
    Err(error)
}

/// Leaves a program that is not the emulator's business to the host.
fn run_on_host(p: &mut Process, program: &Program, argv: &[CString], envp: &[CString]) -> Result<u32, Errno> {
    let mask = p.signals.mask;
    Err(replace(p, &program.target, argv, envp, mask))
}

/// The host's `execveat`. Gives the error if it comes back.
fn replace(
    p: &mut Process,
    target: &Target,
    argv: &[CString],
    envp: &[CString],
    mask: signal::SigSet,
) -> Errno {
    let pointers = |list: &[CString]| -> Vec<usize> {
        list.iter().map(|text| text.as_ptr().expose_provenance()).chain([0]).collect()
    };
    let (argv, envp) = (pointers(argv), pointers(envp));
    super::task::before_exec(p);
    let saved = signal::host::before_exec(&mut p.signals, mask);
    let args = [
        target.dirfd.into(),
        Arg::text(&target.path),
        Arg::slice(&argv),
        Arg::slice(&envp),
        target.flags.into(),
    ];
    let result = host::call(libc::SYS_execveat, args);
    signal::host::exec_failed(&p.signals, &saved);
    result.err().unwrap_or(Errno::ENOEXEC)
}
