//! `table86 run`: runs a program.

use super::values;
use super::{Failure, NOT_FOUND, NOT_RUNNABLE};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use table86::debug::gdb::Address;
use table86::fpu::Backend;
use table86::isa::{Insn, Status, decode};
use table86::kernel::exec::{Launch, Resumed};
use table86::kernel::host::DescriptorRoom;
use table86::kernel::{self, ExitReason, Process};
use table86::loader::{self, Format, LoadError, Loaded, Program};
use table86::{Machine, Memory};

/// Runs a program: an ELF file, a script, a hex listing or a flat image.
///
/// The program's exit status becomes ours. A PROG without a slash that is not in the working directory is looked for in
/// PATH; with -L, under DIR first. Programs that it executes run under Table86 too.
#[derive(Args)]
#[command(after_help = "Examples:\n  table86 run ./prog arg1 arg2\n  \
                        table86 run -L /usr/i686-linux-gnu ./dynamic   libraries from a sysroot\n  \
                        table86 run -E LANG=C -U DISPLAY ./prog        with another environment\n  \
                        table86 run --timeout 10 --memory 256M ./prog  with limits\n  \
                        table86 run --as flat --org 0x1000 image.bin   bytes without headers\n  \
                        table86 run prog.hex                           bytes written as text")]
pub(super) struct Run {
    /// What PROG is; found out if not said
    #[arg(long = "as", value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Where a flat image or listing goes [default: 0]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    org: Option<u32>,
    /// Address of a flat image's or listing's first instruction [default: its first byte]
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    entry: Option<u32>,
    /// Look up absolute paths under DIR first
    #[arg(short = 'L', value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// Run in a root of its own: paths are looked up below DIR and nowhere else
    ///
    /// That goes for the program itself, its dynamic linker and libraries, scripts' interpreters and everything that is
    /// executed later; links and `..` stay inside, and the program starts in DIR if it would start outside. /proc, /dev
    /// and /sys are the host's, and so are the addresses of Unix sockets. It takes no privileges, and keeps nobody in
    /// who wants out: for that, use chroot(8) or a container.
    #[arg(long, value_name = "DIR", conflicts_with = "sysroot")]
    root: Option<PathBuf>,
    /// Set an environment variable for the program
    #[arg(short = 'E', value_name = "NAME=VALUE", value_parser = OsStringValueParser::new().try_map(values::assignment))]
    set: Vec<(OsString, OsString)>,
    /// Leave an environment variable away
    #[arg(short = 'U', value_name = "NAME")]
    unset: Vec<OsString>,
    /// The program's argv[0]
    #[arg(short = '0', value_name = "ARGV0")]
    argv0: Option<OsString>,
    /// The processor that CPUID describes
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// What computes for the x87 FPU [default: live where the host can do it]
    #[arg(long, value_name = "BACKEND")]
    fpu: Option<FpuName>,
    /// Stop after N instructions
    #[arg(long, value_name = "N", value_parser = values::count)]
    max_insns: Option<u64>,
    /// Stop after S seconds
    #[arg(long, value_name = "S", value_parser = values::seconds)]
    timeout: Option<Duration>,
    /// Most memory that the program may map, such as 64M or 1G
    #[arg(long, value_name = "SIZE", value_parser = values::memory_size)]
    memory: Option<u64>,
    /// Wait for gdb on this port or socket before the program's first instruction
    #[arg(short = 'g', value_name = "PORT|SOCKET")]
    gdb: Option<Address>,
    /// The program and its arguments
    #[arg(value_name = "PROG", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// Names for `--as`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FormatName {
    /// An ELF file
    Elf,
    /// A script with #!
    Script,
    /// A hex listing: [OFFSET:] BYTES… [; comment]
    Hex,
    /// Bytes without headers
    Flat,
}

/// Names for `--fpu`.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FpuName {
    /// Software, exact on any host
    Soft,
    /// The host's FPU, with the same results
    Live,
}

impl From<FpuName> for Backend {
    fn from(name: FpuName) -> Backend {
        match name {
            FpuName::Soft => Backend::Soft,
            FpuName::Live => Backend::Live,
        }
    }
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Elf => Format::Elf,
            FormatName::Script => Format::Script,
            FormatName::Hex => Format::Hex,
            FormatName::Flat => Format::Flat,
        }
    }
}

/// What is to be run, however it was said.
#[derive(Default)]
pub(super) struct Request {
    /// As given: a path, or a name to be looked for in PATH.
    pub program: OsString,
    /// The program is a path on the host, whatever the sysroot.
    pub host_path: bool,
    /// With `argv[0]`.
    pub argv: Vec<OsString>,
    pub set: Vec<(OsString, OsString)>,
    pub unset: Vec<OsString>,
    pub loader: loader::Options,
    pub kernel: kernel::Options,
    /// File that system calls are shown in; stderr if `None`.
    pub trace_to: Option<PathBuf>,
    /// Where to wait for gdb.
    pub gdb: Option<Address>,
}

impl Run {
    pub(super) fn execute(self) -> Result<(), Failure> {
        self.request().execute()
    }

    /// How many words the program and its arguments are.
    pub(super) fn program_words(&self) -> usize {
        self.program.len()
    }

    /// What the options ask for.
    pub(super) fn request(self) -> Request {
        let mut argv = self.program;
        let program = argv[0].clone();
        if let Some(argv0) = self.argv0 {
            argv[0] = argv0;
        }
        Request {
            program,
            host_path: false,
            argv,
            set: self.set,
            unset: self.unset,
            loader: loader::Options {
                format: self.format.map(Format::from),
                org: self.org,
                entry: self.entry,
                ..loader::Options::default()
            },
            kernel: kernel::Options {
                rooted: self.root.is_some(),
                sysroot: self.root.or(self.sysroot),
                cpu: self.cpu,
                fpu: self.fpu.map_or_else(Backend::default, Backend::from),
                max_instructions: self.max_insns,
                timeout: self.timeout,
                memory_bytes: self.memory,
                ..kernel::Options::default()
            },
            trace_to: None,
            gdb: self.gdb,
        }
    }
}

impl Request {
    /// Runs the program; comes back only if it could not be started.
    pub(super) fn execute(self) -> Result<(), Failure> {
        let listener = self.gdb.as_ref().map(super::gdb::listen).transpose()?;
        let mut process = self.process(tiered)?;
        if let Some(listener) = listener {
            super::gdb::accept(&mut process, listener)?;
        }
        finish(process)
    }

    /// The program, loaded into a machine that `make` gives.
    pub(super) fn process(self, make: Make) -> Result<Process, Failure> {
        let mut kernel = self.kernel;
        kernel.sysroot = kernel.sysroot.map(|root| sysroot(&root)).transpose()?;
        if kernel.rooted {
            enter_root(kernel.sysroot.as_deref())?;
        }
        let environment = changed(environment(), &self.set, &self.unset);
        let launch = launch(kernel.strace.is_some() || kernel.tool.is_some(), self.trace_to.as_deref())?;
        if !self.host_path && self.program.as_bytes() == b"-" {
            let program = standard_input()
                .map_err(LoadError::Unreadable)
                .and_then(|file| Program::from_file(file, self.program.clone(), self.argv, environment))
                .map_err(|error| failure("standard input".as_ref(), &error))?;
            return load(program, self.loader, kernel, launch, make);
        }
        let path = if self.host_path {
            PathBuf::from(&self.program)
        } else {
            let directories = std::env::var_os("PATH");
            let mut options = self.loader.clone();
            root_of(&mut options, &kernel);
            loader::search_path(&self.program, directories.as_deref(), &options)
        };
        let searched = !self.host_path && !self.program.as_bytes().contains(&b'/');
        let program = Program::open(&path, self.argv, environment).map_err(|error| match error {
            LoadError::NotFound if searched => {
                let text = format!("{}: not found, neither here nor in PATH", self.program.display());
                Failure::new(NOT_FOUND, text)
            }
            error => failure(self.program.as_ref(), &error),
        })?;
        load(program, self.loader, kernel, launch, make)
    }
}

/// Makes a machine.
pub(super) type Make = fn(Arc<Memory>) -> io::Result<Machine>;

/// The machine that runs programs.
fn tiered(memory: Arc<Memory>) -> io::Result<Machine> {
    Machine::tiered(memory, Machine::WARM)
}

/// The machine that counts what it executes.
fn counting(memory: Arc<Memory>) -> io::Result<Machine> {
    Machine::counting(memory, Machine::WARM)
}

/// How to run this program again; with a place for the trace if there is one.
fn launch(traced: bool, output: Option<&Path>) -> Result<Launch, Failure> {
    if !traced {
        return Ok(Launch::new());
    }
    Launch::new().traced_to(output).map_err(|error| {
        let name = output.unwrap_or(Path::new("standard error"));
        Failure::own(format!("{}: {error}", name.display()))
    })
}

/// The program that standard input holds, as a file without a name.
fn standard_input() -> std::io::Result<std::fs::File> {
    let path = std::env::temp_dir().join(format!("table86-{}-stdin", std::process::id()));
    let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Goes on with what an `execve` of the guest left.
pub(super) fn resume(resumed: Resumed) -> Result<(), Failure> {
    let file = std::fs::File::from(resumed.program);
    let program = Program::from_file(file, resumed.exec_name, std::env::args_os().collect(), environment())
        .map_err(|error| Failure::new(NOT_RUNNABLE, error.to_string()))?;
    let room = DescriptorRoom::make();
    let process = load(program, loader::Options::default(), resumed.options, resumed.launch, tiered)?;
    drop(room);
    finish(process)
}

/// Loads a program.
fn load(
    program: Program,
    mut options: loader::Options,
    kernel: kernel::Options,
    launch: Launch,
    make: Make,
) -> Result<Process, Failure> {
    root_of(&mut options, &kernel);
    options.memory_bytes = kernel.memory_bytes;
    let cpuid = values::cpu_model(kernel.cpu.as_deref())?;
    options.hwcap = cpuid.answer(1, 0)[3];
    let name = PathBuf::from(&program.exec_name);
    let memory = Memory::new()
        .map_err(|error| Failure::own(format!("no 4 GiB of addresses for the guest: {error}")))?;
    let memory = Arc::new(memory);
    let make = if super::tool::counts(kernel.tool.as_deref()) { counting } else { make };
    let mut machine = make(Arc::clone(&memory))
        .map_err(|error| Failure::own(format!("no addresses for translated code: {error}")))?;
    machine.cpu.cpuid = cpuid;
    if !kernel.fpu.is_available() {
        return Err(Failure::own("--fpu live: this host or build has no FPU for it; use --fpu soft"));
    }
    machine.set_fpu(kernel.fpu);
    let loaded =
        loader::load(&memory, &mut machine.cpu, program, &options).map_err(|error| failure(&name, &error))?;
    let mut process = Process::new(machine, image(&loaded), kernel, launch);
    process.at_end = explain;
    super::tool::install(&mut process)?;
    Ok(process)
}

/// Runs a program. Does not come back: the host process ends as the guest did.
fn finish(mut process: Process) -> Result<(), Failure> {
    let reason = process.run();
    explain(&process, reason);
    drop(process);
    reason.finish()
}

/// What the kernel has to know of a program.
fn image(loaded: &Loaded) -> kernel::Image {
    kernel::Image {
        exe_path: loaded.exe_path.clone(),
        exec_name: loaded.exec_name.clone(),
        argv: loaded.argv.clone(),
        brk_start: loaded.brk_start,
        auxv: loaded.auxv.clone(),
        start_stack: loaded.stack,
        exec_stack: loaded.read_implies_exec,
        sigreturn: loaded.vdso.sigreturn,
        rt_sigreturn: loaded.vdso.rt_sigreturn,
        landing_pad: loaded.vdso.landing_pad,
    }
}

/// Says on stderr what the exit status cannot: which limit was reached, which instruction was none.
fn explain(process: &Process, reason: ExitReason) {
    let options = &process.options;
    let text = match reason {
        ExitReason::Exited(_) => return,
        ExitReason::LimitReached => match options.max_instructions {
            Some(max) if process.group.instructions() >= max => {
                format!("stopped after {} instructions (--max-insns)", process.group.instructions())
            }
            _ => {
                let seconds = options.timeout.unwrap_or_default().as_secs_f64();
                format!("stopped after {seconds} seconds (--timeout)")
            }
        },
        ExitReason::Killed(libc::SIGILL) => {
            let eip = process.group.end_of_process().map_or(process.machine.cpu.eip, |end| end.eip);
            let mut bytes = [0; decode::MAX_LEN];
            let len = process.machine.memory.fetch(eip, &mut bytes);
            let (len, what) = match decode(&bytes[..len], eip) {
                Ok(insn) => (usize::from(insn.len), table86::disasm::text(&insn) + &lacking(process, &insn)),
                Err(error) => (len.min(8), format!("({error})")),
            };
            let hex: Vec<String> = bytes[..len].iter().map(|byte| format!("{byte:02x}")).collect();
            let place = place(process, eip);
            format!("SIGILL at {:#x}{place}: {} {what}", eip, hex.join(" "))
        }
        ExitReason::Killed(_) => return,
    };
    let _ = writeln!(io::stderr(), "table86: {text}");
}

/// Why a declared instruction was none, if the processor that was chosen or the tables are the reason.
fn lacking(process: &Process, insn: &Insn) -> String {
    let cpu = &process.machine.cpu.cpuid;
    let lacks = cpu.lacks(insn.form().cpuid);
    match insn.form().status {
        _ if !lacks.is_empty() => format!(": --cpu {} has no {}", cpu.model().name, lacks.join(" ")),
        Status::Todo(why) => format!(": {why}"),
        Status::Implemented => String::new(),
    }
}

/// The file that `addr` belongs to and the offset from its first mapping: ` (app+0x286bf)`.
fn place(process: &Process, addr: u32) -> String {
    let memory = &process.machine.memory;
    let Some(region) = memory.region_at(addr) else { return String::new() };
    let Some(path) = region.path() else { return String::new() };
    let start =
        memory.regions().iter().find(|other| other.path() == Some(path)).map_or(0, |first| first.start);
    let name = path.file_name().unwrap_or(path.as_os_str()).display();
    format!(" ({name}+{:#x})", addr.wrapping_sub(start))
}

/// The error for a program that cannot be loaded.
pub(super) fn failure(program: &Path, error: &LoadError) -> Failure {
    let status = if error.is_not_found() { NOT_FOUND } else { NOT_RUNNABLE };
    Failure::new(status, format!("{}: {error}", program.display()))
}

/// Gives the loader the kernel's root.
fn root_of(loader: &mut loader::Options, kernel: &kernel::Options) {
    loader.sysroot.clone_from(&kernel.sysroot);
    loader.rooted = kernel.rooted;
}

/// Goes to the root unless the working directory lies in it.
fn enter_root(root: Option<&Path>) -> Result<(), Failure> {
    let Some(root) = root else { return Ok(()) };
    if std::env::current_dir().is_ok_and(|directory| directory.starts_with(root)) {
        return Ok(());
    }
    std::env::set_current_dir(root).map_err(|error| Failure::own(format!("root {}: {error}", root.display())))
}

/// The sysroot with links resolved, so that paths under it are known as such.
pub(super) fn sysroot(root: &Path) -> Result<PathBuf, Failure> {
    let bad = |why: &dyn std::fmt::Display| Failure::own(format!("sysroot {}: {why}", root.display()));
    let found = std::fs::canonicalize(root).map_err(|error| bad(&error))?;
    if found.is_dir() { Ok(found) } else { Err(bad(&"not a directory")) }
}

/// This process's environment as it is, entries without `=` included.
pub(super) fn environment() -> Vec<OsString> {
    match std::fs::read("/proc/self/environ") {
        Ok(bytes) => {
            let mut entries: Vec<&[u8]> = bytes.split(|&byte| byte == 0).collect();
            // The last entry ends in a NUL, too.
            entries.pop();
            entries.into_iter().map(|entry| OsString::from_vec(entry.to_vec())).collect()
        }
        Err(_) => std::env::vars_os().map(|(name, value)| assigned(&name, &value)).collect(),
    }
}

fn assigned(name: &OsStr, value: &OsStr) -> OsString {
    let mut entry = name.to_owned();
    entry.push("=");
    entry.push(value);
    entry
}

/// An environment with variables left away and set, in this order.
pub(super) fn changed(
    mut environment: Vec<OsString>,
    set: &[(OsString, OsString)],
    unset: &[OsString],
) -> Vec<OsString> {
    let is = |entry: &OsString, name: &OsStr| {
        entry.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'='))
    };
    environment.retain(|entry| !unset.iter().any(|name| is(entry, name)));
    for (name, value) in set {
        let entry = assigned(name, value);
        match environment.iter_mut().find(|old| is(old, name)) {
            Some(old) => *old = entry,
            None => environment.push(entry),
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_changed_by_name() {
        let strings = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
        let before = strings(&["A=1", "AB=2", "odd", "C=3"]);
        let set = [("A".into(), "x".into()), ("D".into(), "=".into())];
        let after = changed(before, &set, &strings(&["C", "odd", "Z"]));
        assert_eq!(after, strings(&["A=x", "AB=2", "odd", "D=="]));
    }
}
