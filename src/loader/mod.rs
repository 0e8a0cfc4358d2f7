//! Starts programs: finds out what a file is, maps it, and lays out the stack, the auxiliary vector and the vDSO as Linux
//! does for a 32-bit program on a 64-bit kernel.
//!
//! Everything is checked before it is mapped; what cannot run is a [`LoadError`]. Addresses are not randomised: the same
//! program with the same arguments gets the same addresses each time.

pub mod code;
mod detect;
pub mod elf;
mod error;
pub mod flat;
pub mod hex;
mod host;
mod program;
pub mod stack;
pub mod vdso;

pub use detect::Format;
pub use error::LoadError;
pub use host::keeps_argv0;
pub use program::{Program, search_path};

use crate::cpu::{Cpu, reg};
use crate::memory::Memory;
use std::ffi::OsString;
use std::path::PathBuf;

/// Most scripts in a row before one that is no script, as Linux counts them.
const SCRIPTS_MAX: usize = 5;

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Absolute paths (of interpreters) are looked up under this directory first.
    pub sysroot: Option<PathBuf>,
    /// They are looked up nowhere else.
    pub rooted: bool,
    /// What the file is; found out if `None`.
    pub format: Option<Format>,
    /// Where flat images and hex listings go; [`flat::DEFAULT_ORG`] if `None`.
    pub org: Option<u32>,
    /// Address of the first instruction of flat images and hex listings; their first byte's if `None`.
    pub entry: Option<u32>,
    /// Most bytes that the program may map, the stack and itself included; the whole address space if `None`.
    pub memory_bytes: Option<u64>,
    /// Most bytes of the stack; `RLIMIT_STACK` if `None`.
    pub stack_bytes: Option<u32>,
    /// `AT_HWCAP`: EDX of CPUID leaf 1.
    pub hwcap: u32,
}

/// A program in memory, ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Address of the first instruction that runs: the dynamic linker's, if there is one.
    pub entry: u32,
    /// ESP there.
    pub stack: u32,
    /// First address behind the program, page-aligned: where the heap starts.
    pub brk_start: u32,
    /// Where a position-independent program was put; 0 for others.
    pub base: u32,
    /// Where the dynamic linker was put; 0 without.
    pub interpreter_base: u32,
    /// The dynamic linker, as the program names it.
    pub interpreter: Option<OsString>,
    /// The file that runs, on the host and absolute; of a script, its interpreter.
    pub exe_path: PathBuf,
    /// The name that was executed (`AT_EXECFN`); of a script, the script's.
    pub exec_name: OsString,
    /// The arguments, with what `#!` lines put before them.
    pub argv: Vec<OsString>,
    /// The auxiliary vector as it lies on the stack.
    pub auxv: Vec<u8>,
    /// The program asks for `READ_IMPLIES_EXEC` (personality(2)): it does not say what its stack needs.
    pub read_implies_exec: bool,
    /// Entry points of the vDSO.
    pub vdso: vdso::Addresses,
}

/// Loads `program` into fresh `memory` and sets the CPU's registers as execve(2) leaves them.
///
/// # Errors
/// See [`LoadError`]. Memory may hold parts of the program then.
pub fn load(
    memory: &Memory,
    cpu: &mut Cpu,
    program: Program,
    options: &Options,
) -> Result<Loaded, LoadError> {
    if let Some(limit) = options.memory_bytes {
        memory.set_limit(limit);
    }
    let program = program.behind_scripts(options)?;
    let stack_limit = options.stack_bytes.unwrap_or_else(host::stack_limit);
    memory.set_stack_limit(stack_limit);
    memory.set_mmap_base(stack::mmap_base(stack_limit));

    let mut image = match program.format(options)? {
        Format::Elf => load_elf(memory, &program, options, stack_limit)?,
        Format::Hex => {
            let text = program.read_all(hex::MAX_TEXT)?;
            load_flat(memory, hex::parse(&text)?, &program, options, stack_limit)?
        }
        Format::Flat => {
            let room = options.memory_bytes.unwrap_or(flat::MAX_IMAGE).min(flat::MAX_IMAGE);
            load_flat(memory, program.read_all(room)?, &program, options, stack_limit)?
        }
        Format::Script => return Err(LoadError::TooManyScripts),
    };
    image.exe_path = program.path;
    image.exec_name = program.exec_name;
    image.argv = program.argv;

    cpu.regs = [0; 8];
    cpu.regs[reg::ESP] = image.stack;
    cpu.eip = image.entry;
    Ok(image)
}

fn load_elf(
    memory: &Memory,
    program: &Program,
    options: &Options,
    stack_limit: u32,
) -> Result<Loaded, LoadError> {
    let file = elf::Elf::read(&program.file)?;
    let interpreter = match &file.interpreter {
        Some(name) => Some(program::Interpreter::open(name, options)?),
        None => None,
    };
    let personality = file.stack;
    let strings = stack::Strings::new(program, stack_limit)?;
    let exec_stack = personality != elf::StackProtection::NoExec;
    strings.map(memory, exec_stack, stack_limit)?;

    let read_implies_exec = personality == elf::StackProtection::Unsaid;
    let shown = program::guest_path(&program.path, options);
    let place = if interpreter.is_some() { elf::Base::Pie } else { elf::Base::Anywhere };
    let main = file.map(memory, &program.file, shown, place, read_implies_exec)?;
    let mut entry = main.entry;
    let mut interpreter_base = 0;
    if let Some(linker) = &interpreter {
        let shown = program::guest_path(&linker.path, options);
        let mapped = linker.elf.map(memory, &linker.file, shown, elf::Base::Anywhere, read_implies_exec);
        let mapped = mapped.map_err(|error| linker.error(error.into()))?;
        entry = mapped.entry;
        interpreter_base = mapped.bias;
    }
    let vdso = vdso::map(memory)?;
    let facts = stack::Facts {
        headers: main.headers,
        header_count: file.header_count,
        base: interpreter_base,
        entry: main.entry,
        vdso,
        hwcap: options.hwcap,
    };
    let (stack, auxv) = strings.finish(memory, &facts)?;
    Ok(Loaded {
        entry,
        stack,
        brk_start: main.brk_start,
        base: main.bias,
        interpreter_base,
        interpreter: file.interpreter,
        auxv,
        read_implies_exec,
        vdso,
        ..Loaded::default()
    })
}

fn load_flat(
    memory: &Memory,
    image: Vec<u8>,
    program: &Program,
    options: &Options,
    stack_limit: u32,
) -> Result<Loaded, LoadError> {
    let strings = stack::Strings::new(program, stack_limit)?;
    strings.map(memory, true, stack_limit)?;
    let org = options.org.unwrap_or(flat::DEFAULT_ORG);
    let limit = options.memory_bytes.unwrap_or(u64::MAX);
    let brk_start = flat::map(memory, image, org, limit)?;
    let entry = options.entry.unwrap_or(org);
    let vdso = vdso::map(memory)?;
    let facts = stack::Facts { headers: 0, header_count: 0, base: 0, entry, vdso, hwcap: options.hwcap };
    let (stack, auxv) = strings.finish(memory, &facts)?;
    Ok(Loaded { entry, stack, brk_start, auxv, vdso, ..Loaded::default() })
}

#[cfg(test)]
mod tests;
