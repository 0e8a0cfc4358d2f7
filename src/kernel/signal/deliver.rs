//! Delivery: which signal is next, what it does, and what becomes of the call that it interrupted.

use super::host;
use super::{Call, DefaultAction, Info, SIG_DFL, SIG_IGN, SigSet, default_action, frame, sa};
use crate::cpu::reg;
use crate::kernel::blocking;
use crate::kernel::errno::Errno;
use crate::kernel::process::{ExitReason, INT_LEN, Process};
use crate::kernel::ptrace;
use crate::kernel::table::Restart;

/// The number of `restart_syscall`.
const RESTART_SYSCALL: u32 = 0;

/// Tells whether [`deliver`] has something to do before the guest runs on.
pub fn wanted(p: &Process) -> bool {
    let signals = &p.signals;
    blocking::pending()
        || signals.forced.is_some()
        || p.interrupted.is_some()
        || signals.saved_mask.is_some()
        || signals.held.iter().any(|info| !signals.mask.contains(info.signal))
}

/// Delivers every signal that is not blocked, and settles an interrupted call. Afterwards the guest's mask is in
/// force on the host and nothing recorded waits, unless the process has come to its end.
pub fn deliver(p: &mut Process) {
    let mut call = p.interrupted.take();
    if let Some(info) = p.signals.forced.take() {
        handle(p, info, &mut call);
    }
    while p.end.is_none() {
        let Some(info) = next(p) else { break };
        handle(p, info, &mut call);
    }
    if p.end.is_some() {
        return;
    }
    if let Some(call) = call {
        settle(p, call, None);
    }
    if let Some(mask) = p.signals.saved_mask.take() {
        p.signals.set_mask(mask);
    }
    // A signal that came meanwhile is looked at in the loop's next round, before the guest runs.
    if !blocking::pending() {
        host::apply_mask(&p.signals);
    }
}

/// The next signal that is not blocked. Recorded ones that the guest has blocked since go back to the host.
fn next(p: &mut Process) -> Option<Info> {
    loop {
        p.signals.inbox.acknowledge();
        host::collect_held(&mut p.signals);
        let mask = p.signals.mask;
        if let Some(at) = p.signals.held.iter().position(|info| !mask.contains(info.signal)) {
            return Some(p.signals.held.remove(at));
        }
        let Some(info) = p.signals.inbox.take() else {
            // Nothing waits here: let the host deliver what it has, and look again.
            host::apply_mask(&p.signals);
            if blocking::pending() {
                continue;
            }
            return None;
        };
        if !mask.contains(info.signal) {
            return Some(info);
        }
        host::requeue(&info);
    }
}

/// Does what the debugger, the tracer and the guest want done about a signal.
fn handle(p: &mut Process, mut info: Info, call: &mut Option<Call>) {
    // What a tracer has to see to itself is no news for its program.
    if info.signal == libc::SIGCHLD
        && ptrace::is_tracer()
        && !ptrace::tracer::serve(p)
        && info.code == libc::CLD_TRAPPED
    {
        return;
    }
    if let Some(debugger) = p.debugger.clone() {
        let Some(wanted) = debugger.signal(p, info, call) else { return };
        info = wanted;
    }
    if !p.trace.is_traced() {
        return act(p, info, call);
    }
    if let Some(info) = ptrace::tracee::signal_stop(p, info, call) {
        act(p, info, call);
    }
}

/// Does what the guest wants done about a signal.
fn act(p: &mut Process, info: Info, call: &mut Option<Call>) {
    let action = p.signals.action(info.signal);
    match action.handler {
        SIG_IGN => {}
        SIG_DFL => default(p, &info),
        _ => {
            p.with_observer(|observer, process| observer.signal(process, &info));
            if let Some(call) = call.take() {
                settle(p, call, Some(action.flags));
            }
            run_handler(p, &info);
        }
    }
}

/// Takes the default action.
fn default(p: &mut Process, info: &Info) {
    match default_action(info.signal) {
        DefaultAction::Ignore => {}
        // The host has the same action; it stops this process as soon as the mask lets the signal through.
        DefaultAction::Stop if p.trace.is_traced() => ptrace::tracee::group_stop(p, info),
        DefaultAction::Stop => host::requeue(info),
        DefaultAction::Kill => kill(p, info),
    }
}

/// Ends the process by a signal.
fn kill(p: &mut Process, info: &Info) {
    p.with_observer(|observer, process| observer.signal(process, info));
    p.end = Some(ExitReason::Killed(info.signal));
}

/// Calls the guest's handler: builds its frame and blocks what is to be blocked.
fn run_handler(p: &mut Process, info: &Info) {
    let action = p.signals.action(info.signal);
    let frame_mask = p.signals.saved_mask.take().unwrap_or(p.signals.mask);
    if action.flags & sa::RESETHAND != 0 {
        p.signals.set_default(info.signal);
    }
    if frame::push(p, info, &action, frame_mask).is_err() {
        // No room for the frame: SIGSEGV, and no second try if that is what failed.
        if info.signal == libc::SIGSEGV {
            p.signals.set_default(libc::SIGSEGV);
        }
        p.signals.set_mask(frame_mask);
        force(p, Info::kernel(libc::SIGSEGV));
        if let Some(info) = p.signals.forced.take() {
            handle(p, info, &mut None);
        }
        return;
    }
    let own = if action.flags & sa::NODEFER != 0 { SigSet::EMPTY } else { SigSet::of(info.signal) };
    let mask = p.signals.mask.union(action.mask).union(own);
    p.signals.set_mask(mask);
    ptrace::tracee::handler_begins(p);
}

/// Raises a signal that the thread cannot get around: if it is blocked or ignored, it kills.
pub fn force(p: &mut Process, info: Info) {
    let blocked = p.signals.mask.contains(info.signal);
    if blocked || p.signals.action(info.signal).handler == SIG_IGN {
        p.signals.set_default(info.signal);
        if blocked {
            let mask = p.signals.mask.minus(SigSet::of(info.signal));
            p.signals.set_mask(mask);
        }
    }
    p.signals.forced = Some(info);
}

/// Decides what an interrupted call gives: `EINTR`, or that it is made again. `handler` has the flags of the action
/// whose handler runs first, if any does. EIP is behind `int 0x80`.
fn settle(p: &mut Process, call: Call, handler: Option<u32>) {
    let number = match (call.restart, handler) {
        (None, _) | (Some(Restart::Sys | Restart::NoHand), None) => call.nr,
        (Some(Restart::Sys), Some(flags)) if flags & sa::RESTART != 0 => call.nr,
        (Some(Restart::Block), None) if p.signals.restart_block.is_some() => RESTART_SYSCALL,
        (Some(Restart::Block), None) => call.nr,
        (Some(Restart::No | Restart::Sys | Restart::NoHand | Restart::Block), _) => {
            p.machine.cpu.regs[reg::EAX] = Errno::EINTR.0.wrapping_neg() as u32;
            return;
        }
    };
    let cpu = &mut p.machine.cpu;
    cpu.regs[reg::EAX] = number;
    cpu.eip = cpu.eip.wrapping_sub(INT_LEN);
}
