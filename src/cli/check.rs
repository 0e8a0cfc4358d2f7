//! `table86 check`: runs a program in lockstep with the processor.

use super::run::{Request, changed, environment, failure, sysroot};
use super::{Failure, NOT_RUNNABLE, values};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use table86::debug::check::{self, CheckError, Ended, Outcome, Subject, Summary};
use table86::kernel::{self, ExitReason};
use table86::loader::{self, elf::Elf};
use table86::memory::{MapRequest, Place, Prot};
use table86::{Machine, Memory};

/// Exit status for a divergence.
const DIVERGED: u8 = 1;

/// Runs a program in lockstep with the processor and stops at the first difference.
///
/// The program runs on this machine's processor, and Table86 repeats each instruction and compares registers, EFLAGS, FPU and
/// vector registers and what was written to memory. System calls are made once, by the program itself; their results
/// and all that they change are taken over, and so are signals, RDTSC and the like, and what is done to memory shared with other processes. CPUID is answered by Table86's
/// model; the vDSO is hidden from the program, and addresses are not randomised. Flags that the manual leaves undefined,
/// the FPU's pointers and the last bit of transcendental functions are not compared. Threads cannot be followed.
#[derive(Args)]
#[command(
    about = "Runs a program in lockstep with the processor, to the first difference",
    after_help = "Examples:\n  \
                  table86 check ./prog arg1                  compare each instruction\n  \
                  table86 check -f sh -c 'echo hi | sort'    in child processes, too\n  \
                  table86 check -L /srv/i386 ./dynamic       dynamic linker and libraries from a sysroot\n  \
                  table86 check --every 10000 ./prog         compare now and then: translated code as `run` has it\n  \
                  table86 check --skip 5000000 --max-insns 10000 ./prog\n  \
                  table86 check --from 0x8049d10 --until 0x8049d80 ./prog\n  \
                  table86 check --against generic ./prog     without a processor: two settings of Table86\n\n\
                  Against generic, children are always compared, each reports by itself, and what a process executes in \
                  its place is not compared: the exit status is then that program's.\n\n\
                  Exit status: 0 no difference, 1 a difference, 125 an error of Table86, or the program cannot be compared to \
                  its end (threads), 126 the file cannot be run, 127 it is not found. How the program ended, and how many \
                  instructions were compared, is said with -v."
)]
pub(super) struct Check {
    /// What Table86 is compared with
    #[arg(long, value_name = "WHAT", default_value = "processor")]
    against: Against,
    /// Compare each N instructions; 1 finds the very instruction
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::count)]
    every: u64,
    /// Stop after N instructions that were compared
    #[arg(long, value_name = "N", value_parser = values::count)]
    max_insns: Option<u64>,
    /// Begin after N instructions
    #[arg(long, value_name = "N", default_value = "0")]
    skip: u64,
    /// Begin at this address
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    from: Option<u32>,
    /// Stop at this address
    #[arg(long, value_name = "ADDR", value_parser = values::address)]
    until: Option<u32>,
    /// Compare child processes, too
    #[arg(short = 'f')]
    follow: bool,
    /// Say what was compared, and how the program ended
    #[arg(short = 'v')]
    verbose: bool,
    /// Take the dynamic linker, libraries and programs named by absolute paths from DIR
    #[arg(short = 'L', value_name = "DIR")]
    sysroot: Option<PathBuf>,
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
    /// The program and its arguments
    #[arg(value_name = "PROG", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
}

/// Names for `--against`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// This machine's processor
    Processor,
    /// Table86 with generic handlers, and floats in software
    Generic,
}

impl Check {
    pub(super) fn execute(mut self) -> Result<(), Failure> {
        self.sysroot = self.sysroot.map(|root| sysroot(&root)).transpose()?;
        let options = check::Options {
            every: self.every,
            max_instructions: self.max_insns,
            skip: self.skip,
            from: self.from,
            until: self.until,
            follow: self.follow,
            cpuid: values::cpu_model(self.cpu.as_deref())?,
        };
        let outcome = match self.against {
            Against::Processor => check::against_processor(&mut self.command()?, &options, &machine),
            Against::Generic => self.against_generic(&options)?,
        };
        self.conclude(outcome)
    }

    fn against_generic(&self, options: &check::Options) -> Result<Result<Outcome, CheckError>, Failure> {
        let pid = std::process::id();
        let mut process = self.request().process(Machine::generic)?;
        let divergences = Divergences::new()?;
        let outcome = check::against_own(&mut process, options, &machine);
        let agreed = matches!(outcome, Ok(Outcome::Agreed(_)));
        if std::process::id() != pid {
            // A child of the program: whoever waits for it is to see how it ended.
            if !agreed {
                divergences.note();
                let _ = self.conclude(outcome);
                ExitReason::Exited(DIVERGED).finish();
            }
            match outcome {
                Ok(Outcome::Agreed(Summary { ended: Some(Ended::Killed(signal)), .. })) => {
                    ExitReason::Killed(signal).finish()
                }
                Ok(Outcome::Agreed(Summary { ended: Some(Ended::Exited(status)), .. })) => {
                    ExitReason::Exited(status as u8).finish()
                }
                _ => ExitReason::LimitReached.finish(),
            }
        }
        if agreed && divergences.any() {
            return Err(Failure::new(DIVERGED, "a child process differed, see above"));
        }
        Ok(outcome)
    }

    /// The program as Table86 is to start it.
    fn request(&self) -> Request {
        let mut argv = self.program.clone();
        if let Some(argv0) = &self.argv0 {
            argv[0].clone_from(argv0);
        }
        Request {
            program: self.program[0].clone(),
            argv,
            set: self.set.clone(),
            unset: self.unset.clone(),
            kernel: kernel::Options {
                sysroot: self.sysroot.clone(),
                cpu: self.cpu.clone(),
                ..kernel::Options::default()
            },
            ..Request::default()
        }
    }

    fn conclude(&self, outcome: Result<Outcome, CheckError>) -> Result<(), Failure> {
        let name = self.program[0].display();
        match outcome {
            Ok(Outcome::Agreed(summary)) => {
                self.say(&summary);
                Ok(())
            }
            Ok(Outcome::Diverged(divergence)) => {
                let _ = write!(io::stderr(), "table86: {divergence}");
                Err(Failure::new(DIVERGED, ""))
            }
            Err(error @ CheckError::NotIa32) => Err(Failure::new(NOT_RUNNABLE, format!("{name}: {error}"))),
            Err(error) => Err(Failure::own(format!("{name}: {error}"))),
        }
    }

    /// The program as the host is to start it.
    fn command(&self) -> Result<Command, Failure> {
        let name = &self.program[0];
        let directories = std::env::var_os("PATH");
        let options = loader::Options { sysroot: self.sysroot.clone(), ..loader::Options::default() };
        let path = loader::search_path(name, directories.as_deref(), &options);
        let program = loader::Program::open(&path, Vec::new(), Vec::new())
            .map_err(|error| failure(name.as_ref(), &error))?;
        let argv0 = self.argv0.as_ref().unwrap_or(name);
        let interpreter = match Elf::read(&program.file) {
            Ok(elf) => elf.interpreter,
            // The host looks for a script's interpreter.
            Err(_) if is_script(&program.file) => None,
            Err(error) => return Err(failure(name.as_ref(), &error.into())),
        };
        let root = self.sysroot.as_deref();
        let linker =
            interpreter.filter(|_| root.is_some()).map(|name| loader::search_path(&name, None, &options));
        let mut command = match (&linker, root) {
            (Some(linker), Some(root)) => {
                let mut command = Command::new(linker);
                command.arg("--library-path").arg(libraries(root)).arg("--argv0").arg(argv0).arg(&path);
                command
            }
            _ => {
                let mut command = Command::new(&program.path);
                command.arg0(argv0);
                command
            }
        };
        command.args(&self.program[1..]).env_clear();
        for entry in changed(environment(), &self.set, &self.unset) {
            let bytes = entry.as_bytes();
            if let Some(at) = bytes.iter().skip(1).position(|&byte| byte == b'=') {
                command.env(OsStr::from_bytes(&bytes[..=at]), OsStr::from_bytes(&bytes[at + 2..]));
            }
        }
        Ok(command)
    }

    fn say(&self, summary: &Summary) {
        let left = summary.left.len();
        if left > 0 {
            let text = format!(
                "{left} processes executed a program that is no IA-32 one, and were not compared from there on"
            );
            let _ = writeln!(io::stderr(), "table86: {text}");
        }
        if !self.verbose {
            return;
        }
        let end = match summary.ended {
            Some(Ended::Exited(status)) => format!("the program exited with status {status}"),
            Some(Ended::Killed(signal)) => format!("signal {signal} ended the program"),
            None => "comparing ended before the program did".to_owned(),
        };
        let (instructions, processes) = (summary.instructions, summary.processes);
        let text = format!("no difference in {instructions} instructions of {processes} processes; {end}");
        let _ = writeln!(io::stderr(), "table86: {text}");
    }
}

/// Whether any process of the program has differed; children write it down here.
struct Divergences(Memory);

impl Divergences {
    const PLACE: u32 = 0x1_0000;

    fn new() -> Result<Divergences, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::own(format!("no memory to share with children: {error}"))
        };
        let memory = Memory::new().map_err(|error| failed(&error))?;
        let page = MapRequest::anonymous(Place::Fixed(Self::PLACE), 1, Prot::READ | Prot::WRITE);
        memory.map(&MapRequest { shared: true, ..page }).map_err(|error| failed(&error))?;
        Ok(Divergences(memory))
    }

    fn note(&self) {
        // The page stays mapped for as long as this lives.
        let _ = self.0.write(Self::PLACE, 1u8);
    }

    fn any(&self) -> bool {
        self.0.read(Self::PLACE) == Ok(1u8)
    }
}

/// The machine that is tested: it translates well at once, so that what is compared is what runs most.
fn machine(memory: Arc<Memory>) -> io::Result<Box<dyn Subject>> {
    Ok(Box::new(Machine::new(memory)?))
}

fn is_script(file: &File) -> bool {
    let mut head = [0; 2];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut head, 0).is_ok() && head == *b"#!"
}

/// Where the libraries of a sysroot are, for the dynamic linker.
fn libraries(root: &Path) -> OsString {
    const PLACES: [&str; 7] = [
        "lib/i386-linux-gnu",
        "usr/lib/i386-linux-gnu",
        "usr/local/lib",
        "lib32",
        "usr/lib32",
        "lib",
        "usr/lib",
    ];
    let places = PLACES.iter().map(|place| root.join(place)).filter(|place| place.is_dir());
    places.map(PathBuf::into_os_string).collect::<Vec<_>>().join(OsStr::new(":"))
}
