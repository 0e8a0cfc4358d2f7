//! A machine of ours with other settings as the reference: it needs no processor that runs IA-32 programs, and no tracing.

use super::lockstep::{End, Lockstep, Maker, signal_and_address};
use super::mirror::{Mapping, Reference, Scope, pagemap};
use super::rules::{self, CHANGES_MAP, Class, call_name};
use super::state::{Image, Registers};
use super::{CheckError, Ended, Options, Outcome, Summary};
use crate::cpu::{FaultKind, eflags};
use crate::kernel::process::TurnEvent;
use crate::kernel::{ExitReason, Process};
use crate::memory::{Region, page};
use crate::{Machine, Stop};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

impl Reference for Machine {
    fn read(&self, addr: u32, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(at) = addr.checked_add(done as u32) else { break };
            let len = ((page::SIZE - at % page::SIZE) as usize).min(out.len() - done);
            if self.memory.read_bytes(at, &mut out[done..done + len]).is_err() {
                break;
            }
            done += len;
        }
        done
    }

    fn mappings(&self) -> io::Result<Vec<Mapping>> {
        Ok(self.memory.regions().iter().map(mapping).collect())
    }

    fn image(&self) -> io::Result<Image> {
        Ok(Image::of(&self.cpu))
    }

    fn pages(&self, start: u32, count: u32) -> io::Result<Vec<u64>> {
        pagemap(
            &File::open("/proc/self/pagemap")?,
            self.memory.base().addr() as u64 + u64::from(start),
            count,
        )
    }
}

fn mapping(region: &Region) -> Mapping {
    Mapping {
        start: region.start,
        end: region.end,
        prot: region.prot,
        shared: region.shared,
        grows: region.grows_down,
        anonymous: !region.has_file() && !region.shared,
        file: format!("{} {} {}", region.dev, region.ino, region.offset),
        name: region
            .path()
            .map(Path::to_path_buf)
            .or_else(|| region.name.map(PathBuf::from))
            .unwrap_or_default(),
    }
}

/// Drives a process turn by turn, and Table86's other side behind it.
struct Session<'a> {
    options: &'a Options,
    lockstep: Lockstep,
    comparing: bool,
    executed: u64,
    began: u64,
    summary: Summary,
}

/// What ends a session: `None` while it goes on.
type Flow = Result<Option<Outcome>, CheckError>;

/// Runs `process` to the first divergence, or to the end of what is to be compared.
pub(super) fn run(process: &mut Process, options: &Options, make: &Maker) -> Result<Outcome, CheckError> {
    let pid = std::process::id().cast_signed();
    let lockstep = Lockstep::new(pid, "generic", make, process.machine.cpu.cpuid)?;
    let summary = Summary { processes: 1, ..Summary::default() };
    let mut session = Session { options, lockstep, comparing: false, executed: 0, began: 0, summary };
    let mut result = Ok(Outcome::Agreed(Summary::default()));
    process.run_by(|process| {
        let (reason, outcome) = session.drive(process);
        result = outcome;
        reason
    });
    result
}

impl Session<'_> {
    /// Drives the process to its end, or to that of the comparison, which ends it, too.
    fn drive(&mut self, process: &mut Process) -> (ExitReason, Result<Outcome, CheckError>) {
        loop {
            match self.turn(process) {
                Ok(None) => {}
                Ok(Some(Outcome::Agreed(summary))) => {
                    let reason = match summary.ended {
                        Some(Ended::Exited(status)) => ExitReason::Exited(status as u8),
                        Some(Ended::Killed(signal)) => ExitReason::Killed(signal),
                        None => ExitReason::LimitReached,
                    };
                    return (reason, Ok(Outcome::Agreed(summary)));
                }
                Ok(Some(outcome)) => return (ExitReason::Exited(1), Ok(outcome)),
                Err(error) => return (ExitReason::Exited(125), Err(error)),
            }
        }
    }

    /// An instruction, a call, or signals.
    fn turn(&mut self, process: &mut Process) -> Flow {
        let machine = &process.machine;
        let before = Registers::of(&machine.cpu);
        if !self.comparing && self.options.begins_at(before.eip, self.executed) {
            self.comparing = true;
            self.began = self.executed;
            self.lockstep.agreed = self.executed;
            self.take_over(machine, Scope::Writable)?;
        }
        let until = self.comparing && self.options.until == Some(before.eip) && self.executed > self.began;
        if until || self.options.max_instructions.is_some_and(|max| self.summary.instructions >= max) {
            let found = self.settle(machine, &before, End::Complete)?;
            return Ok(Some(found.unwrap_or_else(|| Outcome::Agreed(std::mem::take(&mut self.summary)))));
        }
        let step = self.lockstep.fetch(machine, before.eip);
        let insn = step.insn().map(|insn| rules::resolved(insn, &machine.cpu.cpuid));
        let class = match insn.map_or(Class::Plain, |insn| self.lockstep.class(&insn, &before)) {
            Class::Cpuid => Class::Plain,
            class => class,
        };
        let traps = before.eflags & eflags::TF != 0;
        if self.comparing {
            let found = self.lockstep.prepare(machine, class, insn.as_ref(), &before)?;
            if let Some(divergence) = found {
                return Ok(Some(Outcome::Diverged(divergence)));
            }
        }

        let count = machine.cpu.instructions();
        let turn = process.turn(1);
        let machine = &process.machine;
        let done = machine.cpu.instructions() - count;
        self.executed += done;
        self.summary.instructions += if self.comparing { done } else { 0 };
        if let TurnEvent::Ended(reason) = turn.event {
            self.summary.ended = match reason {
                ExitReason::Exited(status) => Some(Ended::Exited(status.into())),
                ExitReason::Killed(signal) => Some(Ended::Killed(signal)),
                ExitReason::LimitReached => None,
            };
            return Ok(Some(Outcome::Agreed(std::mem::take(&mut self.summary))));
        }
        if !self.comparing {
            return Ok(None);
        }
        let after = Registers::of(&machine.cpu);
        if turn.delivered || matches!(class, Class::Call | Class::Once) {
            if !turn.delivered {
                self.lockstep.skip(step);
            }
            let changes = class == Class::Call && CHANGES_MAP.contains(&call_name(&before));
            self.take_over(machine, if changes { Scope::Everything } else { Scope::Writable })?;
            return Ok(None);
        }
        match turn.event {
            TurnEvent::Raised(stop) => {
                self.lockstep.note(step, insn.as_ref(), &before, &after);
                let trap = traps && matches!(stop, Stop::Exception(fault) if fault.kind == FaultKind::Db);
                let (signal, addr) = signal_and_address(stop, machine.cpu.cr2);
                let end = if trap { End::Trap } else { End::Fault { signal, addr } };
                self.settle(machine, &after, end)
            }
            // Somebody wanted to look at signals first.
            _ if done == 0 => Ok(None),
            _ => {
                self.lockstep.note(step, insn.as_ref(), &before, &after);
                if class != Class::Alone && self.lockstep.behind() < self.options.every {
                    return Ok(None);
                }
                self.settle(machine, &after, End::Complete)
            }
        }
    }

    fn take_over(&mut self, machine: &Machine, scope: Scope) -> io::Result<()> {
        *self.lockstep.descriptors() = machine.cpu.descriptors.clone();
        self.lockstep.adopt(machine, Registers::of(&machine.cpu), Some(scope))
    }

    fn settle(&mut self, machine: &Machine, registers: &Registers, end: End) -> Flow {
        Ok(self.lockstep.settle(machine, registers, end)?.map(Outcome::Diverged))
    }
}
