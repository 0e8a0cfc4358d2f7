//! What gdb can do with the process, as `gdbstub` wants it said.

use super::files::OpenFiles;
use super::registers::{I386Linux, Registers};
use super::{Action, Hub, Watch, answers, registers};
use crate::memory::{BadAddress, Memory, Prot};
use gdbstub::common::{Signal, Tid};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::{auxv, catch_syscalls, exec_file, host_io, libraries, memory_map, monitor_cmd};
use gdbstub::target::ext::{target_description_xml_override, thread_extra_info};
use gdbstub::target::{Target, TargetError, TargetResult};
use std::convert::Infallible;
use std::sync::Arc;

/// Linux's error numbers, which gdb shows.
const ESRCH: u8 = 3;
const EFAULT: u8 = 14;

/// A process under gdb.
pub struct Debugged {
    pub(super) hub: Arc<Hub>,
    /// The process has ended: there is nothing left to be asked.
    pub(super) gone: bool,
    pub(super) files: OpenFiles,
}

fn number(tid: Tid) -> u32 {
    u32::try_from(tid.get()).unwrap_or(0)
}

/// Copies a part of `data` into `out`; gives how much.
pub(super) fn part(data: &[u8], offset: u64, length: usize, out: &mut [u8]) -> usize {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
    let len = length.min(out.len()).min(data.len() - from);
    out[..len].copy_from_slice(&data[from..from + len]);
    len
}

impl Target for Debugged {
    type Arch = I386Linux;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<target_description_xml_override::TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }

    fn support_memory_map(&mut self) -> Option<memory_map::MemoryMapOps<'_, Self>> {
        Some(self)
    }

    fn support_catch_syscalls(&mut self) -> Option<catch_syscalls::CatchSyscallsOps<'_, Self>> {
        Some(self)
    }

    fn support_exec_file(&mut self) -> Option<exec_file::ExecFileOps<'_, Self>> {
        Some(self)
    }

    fn support_host_io(&mut self) -> Option<host_io::HostIoOps<'_, Self>> {
        Some(self)
    }

    fn support_auxv(&mut self) -> Option<auxv::AuxvOps<'_, Self>> {
        Some(self)
    }

    fn support_libraries_svr4(&mut self) -> Option<libraries::LibrariesSvr4Ops<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<monitor_cmd::MonitorCmdOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadBase for Debugged {
    fn read_registers(&mut self, regs: &mut Registers, tid: Tid) -> TargetResult<(), Self> {
        let state = self.hub.lock();
        let thread = state.threads.get(&number(tid)).ok_or(TargetError::Errno(ESRCH))?;
        regs.clone_from(&thread.registers);
        Ok(())
    }

    fn write_registers(&mut self, regs: &Registers, tid: Tid) -> TargetResult<(), Self> {
        let mut state = self.hub.lock();
        let thread = state.threads.get_mut(&number(tid)).ok_or(TargetError::Errno(ESRCH))?;
        if !thread.parked {
            return Err(TargetError::NonFatal);
        }
        thread.registers.clone_from(regs);
        thread.changed = true;
        Ok(())
    }

    fn read_addrs(&mut self, start: u32, data: &mut [u8], _: Tid) -> TargetResult<usize, Self> {
        let (len, mut got) = (data.len(), 0);
        let read = |memory: &Memory, len: usize| {
            memory.read_bytes(start, &mut data[..len])?;
            got = len;
            Ok(())
        };
        self.with_access(start, len, Prot::READ, read).map_err(|_| TargetError::Errno(EFAULT))?;
        Ok(got)
    }

    fn write_addrs(&mut self, start: u32, data: &[u8], _: Tid) -> TargetResult<(), Self> {
        let write = |memory: &Memory, _| memory.write_bytes(start, data);
        self.with_access(start, data.len(), Prot::READ | Prot::WRITE, write)
            .map_err(|_| TargetError::Errno(EFAULT))
    }

    fn list_active_threads(&mut self, each: &mut dyn FnMut(Tid)) -> Result<(), Infallible> {
        let state = self.hub.lock();
        let ids = state.threads.keys().filter_map(|tid| Tid::new(*tid as usize));
        ids.for_each(&mut *each);
        if self.gone {
            // gdb may still ask before it is told.
            each(Tid::MIN);
        }
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<thread_extra_info::ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl Debugged {
    /// Accesses `len` bytes from `start` on; where the program may not, the debugger may: nobody runs meanwhile. `access` is told
    /// how many bytes are in one mapping.
    fn with_access(
        &self,
        start: u32,
        len: usize,
        prot: Prot,
        mut access: impl FnMut(&Memory, usize) -> Result<(), BadAddress>,
    ) -> Result<(), BadAddress> {
        let memory = &self.hub.memory;
        access(memory, len).or_else(|error| {
            let region = memory.region_at(start).ok_or(error)?;
            let page = start & !0xfff;
            let within = (region.end - start).min(len as u32);
            let pages = (start - page + within).next_multiple_of(0x1000);
            memory.protect(page, pages, region.prot | prot).map_err(|_| error)?;
            let done = access(memory, within as usize);
            memory.protect(page, pages, region.prot).map_err(|_| error)?;
            done
        })
    }

    fn act(&self, tid: Tid, action: Action, signal: Option<Signal>) {
        let mut state = self.hub.lock();
        if let Some(thread) = state.threads.get_mut(&number(tid)) {
            thread.action = action;
            thread.signal = signal.and_then(|signal| registers::signal_from_gdb(signal.0));
        }
    }
}

impl MultiThreadResume for Debugged {
    fn resume(&mut self) -> Result<(), Infallible> {
        let mut state = self.hub.lock();
        state.running = true;
        state.event = None;
        self.hub.changed.notify_all();
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), Infallible> {
        let mut state = self.hub.lock();
        state.locked = false;
        for thread in state.threads.values_mut() {
            thread.action = Action::Default;
            thread.signal = None;
        }
        Ok(())
    }

    fn set_resume_action_continue(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), Infallible> {
        self.act(tid, Action::Continue, signal);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSingleStep for Debugged {
    fn set_resume_action_step(&mut self, tid: Tid, signal: Option<Signal>) -> Result<(), Infallible> {
        self.act(tid, Action::Step, signal);
        Ok(())
    }
}

impl MultiThreadSchedulerLocking for Debugged {
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), Infallible> {
        self.hub.lock().locked = true;
        Ok(())
    }
}

impl Breakpoints for Debugged {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Debugged {
    fn add_sw_breakpoint(&mut self, addr: u32, _: usize) -> TargetResult<bool, Self> {
        // gdb takes an address where nothing is for a library that is not there yet.
        if self.hub.memory.region_at(addr).is_none() {
            return Ok(false);
        }
        self.hub.breakpoints.insert(addr);
        Ok(true)
    }

    fn remove_sw_breakpoint(&mut self, addr: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.hub.breakpoints.remove(addr))
    }
}

fn watch(kind: WatchKind) -> Watch {
    match kind {
        WatchKind::Write => Watch::Write,
        WatchKind::Read => Watch::Read,
        WatchKind::ReadWrite => Watch::Access,
    }
}

impl HwWatchpoint for Debugged {
    fn add_hw_watchpoint(&mut self, addr: u32, len: u32, kind: WatchKind) -> TargetResult<bool, Self> {
        self.hub.lock().watches.insert((addr, len, watch(kind)));
        Ok(true)
    }

    fn remove_hw_watchpoint(&mut self, addr: u32, len: u32, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.hub.lock().watches.remove(&(addr, len, watch(kind))))
    }
}

impl catch_syscalls::CatchSyscalls for Debugged {
    fn enable_catch_syscalls(
        &mut self,
        filter: Option<catch_syscalls::SyscallNumbers<'_, u32>>,
    ) -> TargetResult<(), Self> {
        self.hub.lock().calls = Some(filter.into_iter().flatten().collect());
        Ok(())
    }

    fn disable_catch_syscalls(&mut self) -> TargetResult<(), Self> {
        self.hub.lock().calls = None;
        Ok(())
    }
}

impl target_description_xml_override::TargetDescriptionXmlOverride for Debugged {
    fn target_description_xml(
        &self,
        annex: &[u8],
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        match annex {
            b"target.xml" => Ok(part(answers::target_description().as_bytes(), offset, length, buf)),
            _ => Err(TargetError::NonFatal),
        }
    }
}

impl memory_map::MemoryMap for Debugged {
    fn memory_map_xml(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(answers::MEMORY_MAP.as_bytes(), offset, length, buf))
    }
}

impl exec_file::ExecFile for Debugged {
    fn get_exec_file(
        &self,
        _: Option<gdbstub::common::Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        Ok(part(&answers::exec_file(&self.hub), offset, length, buf))
    }
}

impl auxv::Auxv for Debugged {
    fn get_auxv(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(&self.hub.image.auxv, offset, length, buf))
    }
}

impl libraries::LibrariesSvr4 for Debugged {
    fn get_libraries_svr4(&self, offset: u64, length: usize, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(part(answers::libraries(&self.hub).as_bytes(), offset, length, buf))
    }
}

impl monitor_cmd::MonitorCmd for Debugged {
    fn handle_monitor_cmd(
        &mut self,
        command: &[u8],
        mut out: monitor_cmd::ConsoleOutput<'_>,
    ) -> Result<(), Infallible> {
        out.write_raw(answers::monitor(&self.hub, &String::from_utf8_lossy(command)).as_bytes());
        Ok(())
    }
}

impl thread_extra_info::ThreadExtraInfo for Debugged {
    fn thread_extra_info(&self, tid: Tid, buf: &mut [u8]) -> Result<usize, Infallible> {
        let parked = self.hub.lock().threads.get(&number(tid)).is_some_and(|thread| thread.parked);
        let text: &[u8] = if parked { b"stopped" } else { b"in a system call" };
        Ok(part(text, 0, text.len(), buf))
    }
}
