//! The processor's side: the program itself, run by this machine under ptrace(2), an instruction at a time.

use super::host::{self, Event, Pid, Tracee};
use super::lockstep::{End, Lockstep, Maker};
use super::mirror::{Mapping, Reference, Scope, pagemap, parse};
use super::report::Step;
use super::rules::{self, CHANGES_MAP, Class, call_name};
use super::state::{Image, Registers};
use super::{CheckError, Ended, Options, Outcome, Summary};
use crate::cpu::image::XCR0;
use crate::cpu::{eflags, reg};
use crate::isa::Insn;
use crate::kernel::segments;
use crate::loader::stack::at;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::process::Command;

/// A traced process as [`Reference`].
struct Native {
    tracee: Tracee,
    maps: File,
    pagemap: File,
}

impl Native {
    fn new(tracee: Tracee) -> io::Result<Native> {
        let open = |name| File::open(format!("/proc/{}/{name}", tracee.0));
        Ok(Native { tracee, maps: open("maps")?, pagemap: open("pagemap")? })
    }
}

impl Reference for Native {
    fn read(&self, addr: u32, out: &mut [u8]) -> usize {
        self.tracee.read(addr, out)
    }

    fn mappings(&self) -> io::Result<Vec<Mapping>> {
        let mut text = Vec::new();
        let mut piece = [0; 1 << 14];
        loop {
            match self.maps.read_at(&mut piece, text.len() as u64)? {
                0 => return Ok(parse(&String::from_utf8_lossy(&text))),
                count => text.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn image(&self) -> io::Result<Image> {
        self.tracee.image()
    }

    fn pages(&self, start: u32, count: u32) -> io::Result<Vec<u64>> {
        pagemap(&self.pagemap, start.into(), count)
    }
}

/// What a task is doing until it stops again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// An instruction.
    Step(Class),
    /// An instruction that is not compared, as it comes before what is to be.
    Uncompared,
    /// A signal; what it makes of the state is taken over.
    Signal,
    /// The rest of an `execve`.
    Exec,
}

struct Task {
    native: Native,
    lockstep: Lockstep,
    pending: Pending,
    /// Registers before what is pending.
    before: Registers,
    step: Step,
    insn: Option<Insn>,
    /// It has come to where comparing begins.
    comparing: bool,
    /// Instructions executed, and those before comparing began.
    executed: u64,
    began: u64,
}

/// All tasks of a program that are followed.
pub(super) struct Session<'a> {
    options: &'a Options,
    make: &'a Maker,
    tasks: HashMap<Pid, Task>,
    /// Children that have stopped before their parent said that it has them.
    live: HashSet<Pid>,
    main: Pid,
    summary: Summary,
}

/// What ends a session: `None` while it goes on.
type Flow = Result<Option<Outcome>, CheckError>;

impl<'a> Session<'a> {
    /// Starts a program, stopped at its first instruction.
    pub(super) fn start(
        command: &mut Command,
        options: &'a Options,
        make: &'a Maker,
    ) -> Result<Session<'a>, CheckError> {
        let main = host::start(command).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOEXEC | libc::ELIBBAD) => CheckError::HostCannot,
            Some(libc::EPERM | libc::ENOSYS) => CheckError::NoTracing(error),
            _ => CheckError::NotStarted(error),
        })?;
        let mut session = Session {
            options,
            make,
            tasks: HashMap::new(),
            live: HashSet::from([main]),
            main,
            summary: Summary::default(),
        };
        match host::wait()? {
            Some((pid, Event::Signal(libc::SIGTRAP))) if pid == main => {}
            _ => return Err(CheckError::HostCannot),
        }
        Tracee(main).set_up(options.follow)?;
        let Some(registers) = Tracee(main).registers()? else { return Err(CheckError::NotIa32) };
        session.begin(main, registers)?;
        Ok(session)
    }

    /// Runs it to the first divergence, or to the end of what is to be compared.
    pub(super) fn run(mut self) -> Result<Outcome, CheckError> {
        let registers = self.task(self.main)?.before;
        if let Some(outcome) = self.advance(self.main, registers)? {
            return Ok(outcome);
        }
        while let Some((pid, event)) = host::wait()? {
            let flow = match event {
                Event::Exited(status) => self.ended(pid, Ended::Exited(status)),
                Event::Killed(signal) => self.ended(pid, Ended::Killed(signal)),
                Event::Ptrace(event) => self.event(pid, event)?,
                Event::Signal(signal) => self.stopped(pid, signal)?,
            };
            if let Some(outcome) = flow {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Agreed(std::mem::take(&mut self.summary)))
    }

    fn task(&mut self, pid: Pid) -> Result<&mut Task, CheckError> {
        self.tasks.get_mut(&pid).ok_or(CheckError::Lost(pid))
    }

    fn ended(&mut self, pid: Pid, how: Ended) -> Option<Outcome> {
        self.live.remove(&pid);
        self.tasks.remove(&pid);
        if pid == self.main {
            self.summary.ended = Some(how);
        }
        let over = self.live.is_empty();
        over.then(|| Outcome::Agreed(std::mem::take(&mut self.summary)))
    }

    /// A task has just begun to run a program.
    fn begin(&mut self, pid: Pid, registers: Registers) -> Result<(), CheckError> {
        hide_vdso(Tracee(pid), registers.regs[reg::ESP], self.options.cpuid.answer(1, 0)[3])?;
        self.attach(pid, registers)
    }

    /// Makes a copy of a task.
    fn attach(&mut self, pid: Pid, registers: Registers) -> Result<(), CheckError> {
        let native = Native::new(Tracee(pid))?;
        let lockstep = Lockstep::new(pid, "processor", self.make, self.options.cpuid)?;
        let step = lockstep.fetch(&native, registers.eip);
        // A child goes on as its parent did.
        let comparing = pid != self.main || self.tasks.get(&pid).is_some_and(|task| task.comparing);
        let executed = self.tasks.get(&pid).map_or(0, |task| task.executed);
        let mut task = Task {
            native,
            lockstep,
            pending: Pending::Uncompared,
            before: registers,
            step,
            insn: None,
            comparing,
            executed,
            began: executed,
        };
        task.lockstep.agreed = executed;
        if comparing {
            task.take_all(registers)?;
        }
        self.live.insert(pid);
        self.summary.processes += u64::from(self.tasks.insert(pid, task).is_none());
        Ok(())
    }

    /// Lets a stopped task execute its next instruction. CPUID and what ends the session is dealt with here.
    fn advance(&mut self, pid: Pid, mut registers: Registers) -> Flow {
        loop {
            let options = self.options;
            let instructions = self.summary.instructions;
            let task = self.task(pid)?;
            if !task.comparing && options.begins_at(registers.eip, task.executed) {
                task.comparing = true;
                task.began = task.executed;
                task.lockstep.agreed = task.executed;
                task.take_all(registers)?;
            }
            let until = task.comparing && options.until == Some(registers.eip) && task.executed > task.began;
            if until || options.max_instructions.is_some_and(|max| instructions >= max) {
                return Ok(Some(match task.settle(registers, End::Complete)? {
                    None => Outcome::Agreed(std::mem::take(&mut self.summary)),
                    Some(outcome) => outcome,
                }));
            }
            task.before = registers;
            task.step = task.lockstep.fetch(&task.native, registers.eip);
            task.insn = task.step.insn().map(|insn| rules::resolved(insn, &options.cpuid));
            let class = task.insn.map_or(Class::Plain, |insn| task.lockstep.class(&insn, &registers));
            match (class, task.insn) {
                (Class::Cpuid, Some(insn)) => {
                    registers = task.answer_cpuid(&insn, registers, options)?;
                    self.count(pid)?;
                    if let Some(outcome) = self.settle_if_due(pid, Class::Plain, registers)? {
                        return Ok(Some(outcome));
                    }
                }
                (Class::Call, Some(insn)) if call_name(&registers) == UNSTEPPABLE => {
                    if let Some(outcome) = task.prepare(class, registers)? {
                        return Ok(Some(outcome));
                    }
                    registers = task.refuse(&insn, registers)?;
                    self.count(pid)?;
                }
                _ => {
                    task.pending = Pending::Uncompared;
                    if task.comparing {
                        if let Some(outcome) = task.prepare(class, registers)? {
                            return Ok(Some(outcome));
                        }
                        task.pending = Pending::Step(class);
                    }
                    task.native.tracee.step(0)?;
                    return Ok(None);
                }
            }
        }
    }

    fn count(&mut self, pid: Pid) -> Result<(), CheckError> {
        let task = self.task(pid)?;
        task.executed += 1;
        self.summary.instructions += u64::from(task.comparing);
        Ok(())
    }

    fn settle_if_due(&mut self, pid: Pid, class: Class, registers: Registers) -> Flow {
        let every = self.options.every;
        let task = self.task(pid)?;
        if !task.comparing || class != Class::Alone && task.lockstep.behind() < every {
            return Ok(None);
        }
        task.settle(registers, End::Complete)
    }

    /// A task has stopped at one of ptrace's events.
    fn event(&mut self, pid: Pid, event: i32) -> Flow {
        if event == libc::PTRACE_EVENT_EXEC
            && let Some(task) = self.tasks.get_mut(&pid)
        {
            task.pending = Pending::Exec;
        }
        // A child of its own stops by itself.
        Tracee(pid).step(0)?;
        Ok(None)
    }

    /// A task has stopped before a signal, which may be the trap behind its step.
    fn stopped(&mut self, pid: Pid, signal: i32) -> Flow {
        let tracee = Tracee(pid);
        if !self.tasks.contains_key(&pid) {
            // A new child, before its first instruction.
            self.live.insert(pid);
            return match tracee.registers()? {
                Some(registers) => {
                    self.attach(pid, registers)?;
                    self.advance(pid, registers)
                }
                None => self.let_go(pid),
            };
        }
        let Some((code, addr)) = tracee.signal()? else {
            // Stopped as a whole, by a signal that was handed on before.
            tracee.step(0)?;
            return Ok(None);
        };
        let Some(mut registers) = tracee.registers()? else { return self.let_go(pid) };
        // `int3` comes from the kernel, a sent signal from a user.
        if signal == libc::SIGTRAP && code > 0 && code != libc::SI_KERNEL {
            return self.stepped(pid, registers);
        }
        let task = self.task(pid)?;
        if task.has_idle_prefix() && registers.eip == task.before.eip + 1 {
            registers.eip = task.before.eip;
            task.set_eip(registers, registers.eip)?;
        }
        let raised = code > 0
            && matches!(signal, libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP);
        match task.pending {
            Pending::Step(Class::Plain | Class::Alone) if raised => {
                task.lockstep.note(task.step, task.insn.as_ref(), &task.before, &registers);
                if let Some(outcome) = task.settle(registers, End::Fault { signal, addr })? {
                    return Ok(Some(outcome));
                }
            }
            Pending::Step(Class::Plain | Class::Alone) => {
                // Not executed, or a repeated one in the middle, which is taken over from there.
                let before = task.before;
                if let Some(outcome) = task.settle(before, End::Complete)? {
                    return Ok(Some(outcome));
                }
            }
            _ => {}
        }
        if !raised && is_ignored(pid, signal)? {
            // Nothing changes; what was pending is done now.
            let task = self.task(pid)?;
            if task.comparing && RESTARTS.contains(&registers.regs[reg::EAX].cast_signed()) {
                // But for a system call that it has interrupted, to which the kernel goes back.
                task.pending = Pending::Signal;
            } else if task.has_idle_prefix() && registers.eip == task.before.eip {
                task.set_eip(registers, registers.eip + 1)?;
            }
            tracee.step(0)?;
            return Ok(None);
        }
        task.pending = if task.comparing { Pending::Signal } else { Pending::Uncompared };
        tracee.step(signal)?;
        Ok(None)
    }

    /// A task has done what was pending.
    fn stepped(&mut self, pid: Pid, mut registers: Registers) -> Flow {
        let task = self.task(pid)?;
        match task.pending {
            Pending::Uncompared => self.count(pid)?,
            Pending::Signal => task.take_over(registers, Scope::Writable)?,
            Pending::Exec => {
                self.count(pid)?;
                self.begin(pid, registers)?;
            }
            Pending::Step(Class::Call) => {
                task.lockstep.skip(task.step);
                let name = call_name(&task.before);
                let scope = if CHANGES_MAP.contains(&name) { Scope::Everything } else { Scope::Writable };
                if name == "set_thread_area" {
                    task.take_descriptors()?;
                }
                task.take_over(registers, scope)?;
                self.count(pid)?;
            }
            Pending::Step(Class::Once) => {
                task.lockstep.skip(task.step);
                task.take_over(registers, Scope::Writable)?;
                self.count(pid)?;
            }
            Pending::Step(class) => {
                if task.insn.as_ref().is_some_and(rules::repeats) && registers.eip == task.before.eip {
                    // Another round.
                    task.native.tracee.step(0)?;
                    return Ok(None);
                }
                task.hide_trap_flag(&mut registers)?;
                let shadow = task.note(registers);
                let traps = task.before.eflags & eflags::TF != 0;
                self.count(pid)?;
                if shadow {
                    self.count(pid)?;
                }
                if traps {
                    let task = self.task(pid)?;
                    if let Some(outcome) = task.settle(registers, End::Trap)? {
                        return Ok(Some(outcome));
                    }
                    task.pending = Pending::Signal;
                    task.native.tracee.step(libc::SIGTRAP)?;
                    return Ok(None);
                }
                if let Some(outcome) = self.settle_if_due(pid, class, registers)? {
                    return Ok(Some(outcome));
                }
            }
        }
        self.advance(pid, registers)
    }

    /// Leaves a task alone that executes a 64-bit program.
    fn let_go(&mut self, pid: Pid) -> Flow {
        self.summary.left.push(pid);
        self.tasks.remove(&pid);
        Tracee(pid).detach()?;
        if pid != self.main {
            self.live.remove(&pid);
        }
        Ok(None)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        for &pid in &self.live {
            Tracee(pid).kill();
            Tracee(pid).reap();
        }
    }
}

impl Task {
    /// Copies everything.
    fn take_all(&mut self, registers: Registers) -> io::Result<()> {
        self.take_descriptors()?;
        self.take_over(registers, Scope::Writable)
    }

    fn take_over(&mut self, registers: Registers, scope: Scope) -> io::Result<()> {
        self.lockstep.adopt(&self.native, registers, Some(scope))
    }

    fn take_descriptors(&mut self) -> io::Result<()> {
        let entries = segments::TLS_FIRST..segments::TLS_FIRST + segments::TLS_COUNT;
        let places = &mut self.lockstep.descriptors().gdt[segments::TLS_FIRST as usize..];
        for (place, entry) in places.iter_mut().zip(entries) {
            *place = segments::tls_descriptor(&self.native.tracee.thread_area(entry)?).unwrap_or(0);
        }
        Ok(())
    }

    fn settle(&mut self, registers: Registers, end: End) -> Flow {
        let found = self.lockstep.settle(&self.native, &registers, end)?;
        Ok(found.map(Outcome::Diverged))
    }

    /// Before an instruction that is compared.
    fn prepare(&mut self, class: Class, registers: Registers) -> Flow {
        let found = self.lockstep.prepare(&self.native, class, self.insn.as_ref(), &registers)?;
        if found.is_none() && self.has_idle_prefix() {
            self.set_eip(registers, registers.eip + 1)?;
        }
        Ok(found.map(Outcome::Diverged))
    }

    fn has_idle_prefix(&self) -> bool {
        self.insn.as_ref().is_some_and(|insn| rules::has_idle_prefix(insn, &self.step.bytes))
    }

    fn set_eip(&self, registers: Registers, eip: u32) -> io::Result<()> {
        let some = [reg::EAX, reg::ECX, reg::EDX, reg::EBX].map(|at| registers.regs[at]);
        self.native.tracee.set_some_registers(some, eip)
    }

    /// Lets the processor find what our CPUID says. Gives the registers behind it.
    fn answer_cpuid(&mut self, insn: &Insn, before: Registers, options: &Options) -> io::Result<Registers> {
        let [leaf, ecx, ebx] = [reg::EAX, reg::ECX, reg::EBX].map(|at| before.regs[at]);
        let [eax, ebx, ecx, edx] = match insn.form().mnemonic {
            "xgetbv" => [XCR0, ebx, ecx, 0],
            _ => options.cpuid.answer(leaf, ecx),
        };
        let mut after = before;
        after.regs[reg::EAX..=reg::EBX].copy_from_slice(&[eax, ecx, edx, ebx]);
        after.eip = insn.next_eip();
        self.native.tracee.set_some_registers([eax, ecx, edx, ebx], after.eip)?;
        if self.comparing {
            self.lockstep.note(self.step, Some(insn), &before, &after);
        }
        Ok(after)
    }

    /// Answers a system call for the kernel, as Table86's answers it: with `ENOSYS`. Gives the registers behind it.
    fn refuse(&mut self, insn: &Insn, before: Registers) -> io::Result<Registers> {
        let mut after = before;
        after.regs[reg::EAX] = libc::ENOSYS.wrapping_neg().cast_unsigned();
        after.eip = insn.next_eip();
        self.set_eip(after, after.eip)?;
        if self.comparing {
            self.lockstep.skip(self.step);
            self.lockstep.adopt(&self.native, after, None)?;
        }
        Ok(after)
    }

    /// Takes the flag that tracing sets out of what PUSHF has stored.
    fn hide_trap_flag(&mut self, registers: &mut Registers) -> io::Result<()> {
        let pushes = self.insn.is_some_and(|insn| insn.form().mnemonic.starts_with("pushf"));
        if pushes && self.before.eflags & eflags::TF == 0 {
            let addr = registers.regs[reg::ESP].wrapping_add(1);
            let mut byte = [0];
            self.native.tracee.read(addr, &mut byte);
            self.native.tracee.write(addr, &[byte[0] & !((eflags::TF >> 8) as u8)])?;
        }
        Ok(())
    }

    /// Notes what was pending; `true` if the instruction behind it is complete as well.
    fn note(&mut self, after: Registers) -> bool {
        let Some(insn) = self.insn.filter(rules::shadows_next) else {
            self.lockstep.note(self.step, self.insn.as_ref(), &self.before, &after);
            return false;
        };
        self.lockstep.note(self.step, Some(&insn), &self.before, &after);
        let next = self.lockstep.fetch(&self.native, insn.next_eip());
        self.lockstep.note(next, next.insn().as_ref(), &self.before, &after);
        true
    }
}

/// The call that registers restartable sequences, which start anew at each stop, and memory that the kernel changes at any
/// moment.
const UNSTEPPABLE: &str = "rseq";

/// What EAX is behind a system call that a signal has interrupted, until the kernel has dealt with the signal: `ERESTARTSYS`
/// to `ERESTART_RESTARTBLOCK` of include/linux/errno.h.
const RESTARTS: RangeInclusive<i32> = -516..=-512;

/// Whether a signal does nothing: ignored, or without a handler and of those that Linux ignores by default.
fn is_ignored(pid: Pid, signal: i32) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let has = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        mask >> (signal - 1) & 1 != 0
    };
    let by_default = matches!(signal, libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT);
    Ok(has("SigIgn:") || by_default && !has("SigCgt:"))
}

/// Hides the vDSO from a new program, as what it does depends on data that only the kernel can read; the program makes
/// system calls then. The capabilities are those that CPUID shows.
fn hide_vdso(tracee: Tracee, esp: u32, hwcap: u32) -> io::Result<()> {
    const AT_IGNORE: u32 = 1;
    let word = |addr: u32| {
        let mut bytes = [0; 4];
        match tracee.read(addr, &mut bytes) {
            4 => Ok(u32::from_le_bytes(bytes)),
            _ => Err(io::Error::from_raw_os_error(libc::EFAULT)),
        }
    };
    let mut place = esp + 4 * (word(esp)? + 2);
    while word(place)? != 0 {
        place += 4;
    }
    place += 4;
    loop {
        match word(place)? {
            at::NULL => return Ok(()),
            at::SYSINFO | at::SYSINFO_EHDR => tracee.write(place, &AT_IGNORE.to_le_bytes())?,
            at::HWCAP => tracee.write(place + 4, &hwcap.to_le_bytes())?,
            at::HWCAP2 => tracee.write(place + 4, &[0; 4])?,
            _ => {}
        }
        place += 8;
    }
}
