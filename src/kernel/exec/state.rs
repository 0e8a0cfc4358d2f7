//! What one image of the emulator hands to the next at `execve`: a memory file, found by the name under which the
//! host executed the new image.
//!
//! The name is `/dev/fd/N` for the descriptor N of this program. The state is in one of the descriptors near it, or in
//! any if the guest has changed its limit on them since N was opened; it says for which process and which N it was
//! written, so nothing else is taken for it.

use super::{Launch, descriptor};
use crate::fpu::Backend;
use crate::kernel::errno::Errno;
use crate::kernel::host::{self, Arg, PrivateFd};
use crate::kernel::process::{Options, Process};
use crate::kernel::ptrace::Inherited;
use crate::kernel::signal::SigSet;
use crate::kernel::strace;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// First bytes of a state; the number changes with the format.
const MAGIC: &[u8; 12] = b"table86exec\x04";
/// The state's descriptor is as a rule at most this far from the program's.
const NEIGHBOURS: RawFd = 64;

/// What an `execve` of the guest left for this image.
pub struct Resumed {
    /// As they were, with what is left of the limits.
    pub options: Options,
    /// The guest's program, open for reading.
    pub program: OwnedFd,
    /// The name that the guest executed (`AT_EXECFN`).
    pub exec_name: OsString,
    /// For the next `execve`. Arguments and environment are this process's.
    pub launch: Launch,
}

/// Appends fields to a state.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        self.u64(value.is_some().into());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Takes fields out of a state; `None` at anything unexpected.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.take(len)
    }

    fn text(&mut self) -> Option<OsString> {
        self.bytes().map(|bytes| OsString::from_vec(bytes.to_vec()))
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u64()? {
            0 => Some(None),
            1 => read(self).map(Some),
            _ => None,
        }
    }
}

/// The fields of a state.
#[derive(Debug, PartialEq)]
struct State {
    pid: u32,
    /// Descriptor of the emulator.
    itself: RawFd,
    /// Descriptor of the guest's program.
    program: RawFd,
    mask: SigSet,
    /// The time stamp counter is forbidden (`PR_SET_TSC`).
    tsd: bool,
    exec_name: OsString,
    options: Options,
    /// How the program is traced.
    traced: Option<Inherited>,
    /// Descriptors of the trace: where it goes, and what the traced processes have in common.
    trace: Option<(RawFd, RawFd)>,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let Options { sysroot, rooted, cpu, fpu, max_instructions, timeout, memory_bytes, strace, tool } =
            &self.options;
        let mut w = Writer(MAGIC.to_vec());
        w.u64(self.pid.into());
        w.u64(self.itself as u64);
        w.u64(self.program as u64);
        w.u64(self.mask.0);
        w.u64(self.tsd.into());
        w.bytes(self.exec_name.as_bytes());
        w.option(sysroot.as_ref(), |w, path| w.bytes(path.as_os_str().as_bytes()));
        w.u64((*rooted).into());
        w.option(cpu.as_ref(), |w, name| w.bytes(name.as_bytes()));
        w.u64((*fpu == Backend::Live).into());
        w.option(*max_instructions, Writer::u64);
        w.option(*timeout, |w, time| w.u64(time.as_nanos().try_into().unwrap_or(u64::MAX)));
        w.option(*memory_bytes, Writer::u64);
        w.option(strace.as_ref(), |w, settings| {
            let strace::Settings { follow, summary, times, to_file, filter } = settings;
            [follow, summary, times, to_file].iter().for_each(|&&flag| w.u64(flag.into()));
            w.bytes(filter.text().as_bytes());
        });
        w.option(tool.as_ref(), |w, tool| w.bytes(tool.as_bytes()));
        w.option(self.traced, |w, traced| {
            let Inherited { attached, options, resume, call, old_tid } = traced;
            [attached, options, resume, call, old_tid].iter().for_each(|&word| w.u64(word.into()));
        });
        w.option(self.trace, |w, (output, shared)| {
            w.u64(output as u64);
            w.u64(shared as u64);
        });
        w.0
    }

    fn decode(bytes: &[u8]) -> Option<State> {
        let mut r = Reader(bytes.strip_prefix(MAGIC)?);
        Some(State {
            pid: r.u64()?.try_into().ok()?,
            itself: r.u64()?.try_into().ok()?,
            program: r.u64()?.try_into().ok()?,
            mask: SigSet(r.u64()?),
            tsd: r.u64()? != 0,
            exec_name: r.text()?,
            options: Options {
                sysroot: r.option(Reader::text)?.map(PathBuf::from),
                rooted: r.u64()? != 0,
                cpu: r.option(|r| String::from_utf8(r.bytes()?.to_vec()).ok())?,
                fpu: if r.u64()? != 0 { Backend::Live } else { Backend::Soft },
                max_instructions: r.option(Reader::u64)?,
                timeout: r.option(Reader::u64)?.map(Duration::from_nanos),
                memory_bytes: r.option(Reader::u64)?,
                strace: r.option(|r| {
                    Some(strace::Settings {
                        follow: r.u64()? != 0,
                        summary: r.u64()? != 0,
                        times: r.u64()? != 0,
                        to_file: r.u64()? != 0,
                        filter: strace::Filter::parse(std::str::from_utf8(r.bytes()?).ok()?).ok()?,
                    })
                })?,
                tool: r.option(|r| String::from_utf8(r.bytes()?.to_vec()).ok())?,
            },
            traced: r.option(|r| {
                let mut word = || r.u64()?.try_into().ok();
                Some(Inherited {
                    attached: word()?,
                    options: word()?,
                    resume: word()?,
                    call: word()?,
                    old_tid: word()?,
                })
            })?,
            trace: r.option(|r| Some((r.u64()?.try_into().ok()?, r.u64()?.try_into().ok()?)))?,
        })
    }
}

/// Writes the state for a program that is open as `program`.
pub(super) fn write(p: &Process, program: RawFd, exec_name: &CStr) -> Result<OwnedFd, Errno> {
    let mut options = Options::clone(&p.options);
    options.max_instructions = options.max_instructions.map(|max| max.saturating_sub(p.group.instructions()));
    options.timeout = p.deadline.map(|at| at.saturating_duration_since(Instant::now()));
    let state = State {
        pid: std::process::id(),
        itself: p.launch.program.as_ref().map_or(-1, PrivateFd::get),
        program,
        mask: p.signals.mask,
        tsd: p.machine.cpu.tsd,
        exec_name: OsString::from_vec(exec_name.to_bytes().to_vec()),
        traced: p.trace.handed_on(),
        trace: p
            .launch
            .trace
            .as_ref()
            .filter(|_| options.is_watched())
            .map(|t| (t.output.get(), t.shared().get())),
        options,
    };
    let flags = libc::MFD_CLOEXEC;
    let fd =
        host::call(libc::SYS_memfd_create, [Arg::text(c"table86-exec"), flags.into()]).map(host::owned)?;
    let mut file = File::from(fd);
    file.write_all(&state.encode())?;
    Ok(file.into())
}

/// Finds out whether this image was started by an `execve` of the guest, and takes what it was given.
pub fn resumed() -> Option<Resumed> {
    let name = crate::kernel::task::executed_name()?;
    let itself: RawFd = name.to_str().ok()?.strip_prefix("/dev/fd/")?.parse().ok()?;
    let nearby = (itself - NEIGHBOURS).max(3)..itself.checked_add(NEIGHBOURS)?;
    let state_in = |fd: RawFd| {
        let state = State::decode(&descriptor::read_all(fd)?)?;
        (state.pid == std::process::id() && state.itself == itself).then_some((fd, state))
    };
    let (fd, state) = nearby
        .filter(|&fd| fd != itself)
        .find_map(state_in)
        .or_else(|| descriptor::all()?.into_iter().find_map(state_in))?;
    drop(host::owned(fd as usize));
    let private = |fd: RawFd| PrivateFd::new(host::owned(fd as usize)).ok();
    let trace = state.trace.and_then(|(output, shared)| {
        Some(Arc::new(strace::Handles::inherited(private(output)?, private(shared)?)))
    });
    let launch = Launch {
        program: private(itself),
        mask: Some(state.mask),
        tsd: state.tsd,
        traced: state.traced,
        trace,
    };
    Some(Resumed {
        options: state.options,
        program: host::owned(state.program as usize),
        exec_name: state.exec_name,
        launch,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> State {
        State {
            pid: 7,
            itself: 1000,
            program: 1001,
            mask: SigSet(0x8000_0000_0000_0001),
            tsd: true,
            exec_name: OsString::from_vec(b"./prog\xff".to_vec()),
            options: Options {
                sysroot: Some("/srv/i386".into()),
                rooted: true,
                cpu: Some("pentium".into()),
                fpu: Backend::Soft,
                max_instructions: Some(u64::MAX),
                timeout: Some(Duration::from_millis(1500)),
                memory_bytes: None,
                strace: Some(strace::Settings { times: true, ..strace::Settings::default() }),
                tool: Some("trace".into()),
            },
            traced: Some(Inherited { attached: 3, options: 1, resume: 7, call: 11, old_tid: 9 }),
            trace: Some((5, 6)),
        }
    }

    #[test]
    fn a_state_survives_its_file() {
        assert_eq!(State::decode(&sample().encode()), Some(sample()));
    }

    #[test]
    fn a_broken_state_is_none() {
        let bytes = sample().encode();
        for len in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..len]), None, "{len}");
        }
        let mut wrong = bytes;
        wrong[11] += 1;
        assert_eq!(State::decode(&wrong), None);
    }
}
