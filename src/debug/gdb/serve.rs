//! The thread that talks to gdb.

use super::connection::Socket;
use super::files::OpenFiles;
use super::target::Debugged;
use super::{Event, Hub, Watch, registers};
use crate::kernel::process::{ExitReason, Process};
use gdbstub::common::{Signal, Tid};
use gdbstub::conn::{Connection, ConnectionExt};
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event as Next, WaitForStopReasonError};
use gdbstub::stub::{DisconnectReason, GdbStub, MultiThreadStopReason};
use gdbstub::target::Target;
use gdbstub::target::ext::breakpoints::WatchKind;
use gdbstub::target::ext::catch_syscalls::CatchSyscallPosition;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether gdb has sent something while the program runs.
const LOOK: Duration = Duration::from_millis(10);

/// Lets gdb, which is at the other end of `socket`, debug a process that has not run yet.
///
/// # Errors
/// The host's, when it has no thread to give.
pub fn serve(process: &mut Process, socket: Socket) -> io::Result<()> {
    let hub = Hub::new(process);
    process.debugger = Some(Arc::clone(&hub) as Arc<_>);
    std::thread::Builder::new().name("gdb".into()).spawn(move || {
        // Those of the process are the guest's.
        super::keep_out_of_signals();
        talk(&hub, socket);
    })?;
    Ok(())
}

fn talk(hub: &Arc<Hub>, socket: Socket) {
    let mut target = Debugged { hub: Arc::clone(hub), gone: false, files: OpenFiles::default() };
    // The process stops before its first instruction; gdb asks for that when it connects.
    {
        let mut state = hub.lock();
        while state.event.is_none() {
            state = hub.wait(state, LOOK);
        }
        state.event = None;
    }
    let mut farewell = socket.clone();
    let ended = GdbStub::new(socket).run_blocking::<Loop>(&mut target);
    match ended {
        Ok(DisconnectReason::Kill) => {
            // gdb waits for an answer, and `gdbstub` gives none.
            let _ = farewell.write_all(b"$OK#9a");
            super::kill()
        }
        // The end is told; so is everything else, as nobody listens any more.
        Ok(_) | Err(_) => {
            hub.lock().told = true;
            hub.detach();
        }
    }
}

/// Waits for the process or for gdb, whoever is first.
enum Loop {}

type Failed = WaitForStopReasonError<Infallible, io::Error>;

impl BlockingEventLoop for Loop {
    type Target = Debugged;
    type Connection = Socket;
    type StopReason = MultiThreadStopReason<u32>;

    fn wait_for_stop_reason(
        target: &mut Debugged,
        socket: &mut Socket,
    ) -> Result<Next<Self::StopReason>, Failed> {
        let hub = Arc::clone(&target.hub);
        loop {
            let event = {
                let state = hub.lock();
                let state = if state.event.is_none() { hub.wait(state, LOOK) } else { state };
                state.event
            };
            if let Some((tid, event)) = event {
                hub.settle();
                hub.lock().event = None;
                if let Event::End(_) = event {
                    target.gone = true;
                }
                return Ok(Next::TargetStopped(reason(tid, event)));
            }
            if socket.peek().map_err(WaitForStopReasonError::Connection)?.is_some() {
                let byte = socket.read().map_err(WaitForStopReasonError::Connection)?;
                return Ok(Next::IncomingData(byte));
            }
        }
    }

    fn on_interrupt(target: &mut Debugged) -> Result<Option<Self::StopReason>, <Debugged as Target>::Error> {
        let hub = &target.hub;
        let tid = {
            let mut state = hub.lock();
            // What else has happened comes when the program goes on.
            state.running = false;
            state.event.map_or_else(|| state.threads.keys().next().copied().unwrap_or(1), |(tid, _)| tid)
        };
        hub.settle();
        let event = hub.lock().event.take();
        let event = event.map_or(Event::Interrupted, |(_, event)| event);
        Ok(Some(reason(tid, event)))
    }
}

/// What gdb is told.
fn reason(tid: u32, event: Event) -> MultiThreadStopReason<u32> {
    let tid = Tid::new(tid as usize).unwrap_or(Tid::MIN);
    let stopped = |signal| MultiThreadStopReason::SignalWithThread { tid, signal };
    match event {
        Event::Started | Event::Step => stopped(Signal::SIGTRAP),
        Event::Breakpoint => MultiThreadStopReason::SwBreak(tid),
        Event::Watch { addr, kind } => {
            let kind = match kind {
                Watch::Write => WatchKind::Write,
                Watch::Read => WatchKind::Read,
                Watch::Access => WatchKind::ReadWrite,
            };
            MultiThreadStopReason::Watch { tid, kind, addr }
        }
        Event::Signal(signal) => stopped(Signal(registers::signal_to_gdb(signal))),
        Event::Call { nr, entry } => MultiThreadStopReason::CatchSyscall {
            tid: Some(tid),
            number: nr,
            position: if entry { CatchSyscallPosition::Entry } else { CatchSyscallPosition::Return },
        },
        Event::Interrupted => stopped(Signal::SIGINT),
        Event::End(ExitReason::Exited(status)) => MultiThreadStopReason::Exited(status),
        Event::End(ExitReason::Killed(signal)) => {
            MultiThreadStopReason::Terminated(Signal(registers::signal_to_gdb(signal)))
        }
        Event::End(ExitReason::LimitReached) => MultiThreadStopReason::Exited(124),
    }
}
