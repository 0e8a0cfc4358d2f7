//! Lockstep: a program runs on a reference and on Table86 side by side, and is stopped where the two first differ.
//!
//! The reference is the processor, by ptrace(2), or a machine of ours with other settings. Both sides execute the same
//! instructions; then registers, EFLAGS, FPU and vector registers and the memory that was written are compared.
//! What cannot be the same is done once, by the reference, and taken over with all its effects:
//!
//! - system calls: registers, mappings and memory are copied afterwards, having been compared before. So both sides have the
//!   same addresses, arguments, random bytes and clock readings, and only the processor is under test;
//! - signals and the frames that the kernel makes for them. An exception has to be raised by both sides, at the same
//!   instruction, in the same state, as the same signal with the same address;
//! - RDTSC, RDPID and other instructions that read the moment or the machine;
//! - flags that the row leaves undefined; FOP, FIP, FCS, FDP, FDS and MXCSR's mask, which processors and kernels
//!   keep differently; the last bit of transcendental functions.
//!
//! CPUID is answered for both sides by our model, rseq(2) with `ENOSYS`. The vDSO is hidden from the program, since it reads pages that the kernel
//! shows nobody else, and addresses are not randomised. Threads are not followed.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod host;
mod lockstep;
mod mirror;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod native;
mod own;
mod report;
mod rules;
mod state;

pub use lockstep::{Maker, Subject};
pub use mirror::Bytes;
pub use report::{Difference, Divergence, Step};
pub use state::{Image, Registers, State};

use crate::isa::CpuModel;
use crate::kernel::Process;
use std::io;
use std::process::Command;

/// What is to be compared, and how often.
#[derive(Clone, Debug)]
pub struct Options {
    /// Compare each time that so many instructions have been executed; 1 finds the very instruction, more let Table86 run its
    /// translations as it does without.
    pub every: u64,
    /// Stop after so many instructions that were compared.
    pub max_instructions: Option<u64>,
    /// Begin after so many instructions.
    pub skip: u64,
    /// Begin at this address.
    pub from: Option<u32>,
    /// Stop at this address.
    pub until: Option<u32>,
    /// Compare child processes, too.
    pub follow: bool,
    /// What CPUID answers on both sides.
    pub cpuid: CpuModel,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            every: 1,
            max_instructions: None,
            skip: 0,
            from: None,
            until: None,
            follow: false,
            cpuid: CpuModel::default(),
        }
    }
}

impl Options {
    /// Whether comparing begins at `eip`, after so many instructions.
    fn begins_at(&self, eip: u32, executed: u64) -> bool {
        executed >= self.skip && self.from.is_none_or(|from| from == eip)
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Instructions, of all processes.
    pub instructions: u64,
    /// Programs and children that were followed.
    pub processes: u64,
    /// How the program ended; `None` if comparing ended before.
    pub ended: Option<Ended>,
    /// Processes that executed a program which is not an IA-32 one, and were not followed into it.
    pub left: Vec<i32>,
}

/// What comparing has shown.
#[derive(Clone)]
pub enum Outcome {
    /// No difference.
    Agreed(Summary),
    /// A difference.
    Diverged(Box<Divergence>),
}

/// Why a program cannot be compared, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The host's kernel has no support for such programs.
    #[error(
        "this host cannot run IA-32 programs: its kernel lacks 32-bit emulation, or the program's dynamic linker; \
         `--against generic` needs neither"
    )]
    HostCannot,
    /// A 64-bit program.
    #[error("a 64-bit program; only IA-32 programs can be compared")]
    NotIa32,
    /// ptrace(2) is not allowed.
    #[error("this host does not let programs be traced: {0}; `--against generic` needs no tracing")]
    NoTracing(io::Error),
    /// The program cannot be started.
    #[error("cannot be started: {0}")]
    NotStarted(io::Error),
    /// A thread, whose stores into common memory would come at other moments.
    #[error(
        "process {pid} starts a thread after {agreed} instructions, all of which agreed; programs with threads cannot be \
         compared any further"
    )]
    Thread {
        /// The process.
        pid: i32,
        /// Instructions before.
        agreed: u64,
    },
    /// A local descriptor table, which cannot be read.
    #[error(
        "process {pid} uses modify_ldt after {agreed} instructions, all of which agreed; local descriptors cannot be read \
         from outside, so it cannot be compared any further"
    )]
    Ldt {
        /// The process.
        pid: i32,
        /// Instructions before.
        agreed: u64,
    },
    /// A task stopped that should not be there.
    #[error("process {0} is not one that is being compared")]
    Lost(i32),
    /// The host refused something.
    #[error(transparent)]
    Host(#[from] io::Error),
}

/// Compares the program that `command` starts with the processor. `make` gives the machines that are tested. The calling
/// thread must have no other children that it traces.
///
/// # Errors
/// See [`CheckError`].
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn against_processor(
    command: &mut Command,
    options: &Options,
    make: &Maker,
) -> Result<Outcome, CheckError> {
    native::Session::start(command, options, make)?.run()
}

/// Other hosts have no such processor.
///
/// # Errors
/// [`CheckError::HostCannot`].
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn against_processor(_: &mut Command, _: &Options, _: &Maker) -> Result<Outcome, CheckError> {
    Err(CheckError::HostCannot)
}

/// Compares a process, made with [`Machine::generic`](crate::Machine::generic), with the machine that `make` gives. The process's children go on
/// comparing by themselves, each with an outcome of its own; what the process executes in its place is not compared.
///
/// # Errors
/// See [`CheckError`].
pub fn against_own(process: &mut Process, options: &Options, make: &Maker) -> Result<Outcome, CheckError> {
    own::run(process, options, make)
}
