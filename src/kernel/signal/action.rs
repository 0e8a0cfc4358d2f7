//! Setting actions (sigaction(2), signal(2)).

use super::mask::SET_SIZE;
use super::{Action, DefaultAction, SIG_DFL, SIG_IGN, SIGNALS, SigSet, default_action, sa, valid};
use crate::kernel::errno::Errno;
use crate::kernel::process::Process;

/// `struct sigaction` of `rt_sigaction`: handler, flags, restorer, the mask's two words.
type RtWords = [u32; 5];
/// `struct old_sigaction`: handler, mask, flags, restorer.
type OldWords = [u32; 4];

/// Replaces the action of `signal` and mirrors it to the host. Signals that become ignored are no longer pending.
fn replace(p: &mut Process, signal: i32, mut action: Action) {
    action.flags &= sa::KNOWN;
    action.mask = action.mask.without_unblockable();
    p.signals.set_action(signal, action);
    let ignored = action.handler == SIG_IGN
        || action.handler == SIG_DFL && default_action(signal) == DefaultAction::Ignore;
    if ignored {
        p.signals.held.retain(|info| info.signal != signal);
    }
}

/// Takes all handlers away; what is ignored stays ignored.
pub(crate) fn reset_handlers(p: &mut Process) {
    for signal in 1..=SIGNALS {
        if p.signals.action(signal).has_handler() {
            replace(p, signal, Action::default());
        }
    }
}

/// Checks the signal of a call that sets an action if `sets`.
fn settable(signal: i32, sets: bool) -> Result<i32, Errno> {
    let fixed = signal == libc::SIGKILL || signal == libc::SIGSTOP;
    if sets && fixed { Err(Errno::EINVAL) } else { valid(signal) }
}

/// rt_sigaction(2).
pub fn rt_sigaction(p: &mut Process, signal: i32, new: u32, old: u32, size: u32) -> Result<u32, Errno> {
    if size != SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let words = if new != 0 { Some(p.machine.memory.read::<RtWords>(new)?) } else { None };
    settable(signal, words.is_some())?;
    let before = p.signals.action(signal);
    if let Some([handler, flags, restorer, low, high]) = words {
        let mask = SigSet(u64::from(low) | u64::from(high) << 32);
        replace(p, signal, Action { handler, flags, restorer, mask });
    }
    if old != 0 {
        let Action { handler, flags, restorer, mask } = before;
        let words: RtWords = [handler, flags, restorer, mask.0 as u32, (mask.0 >> 32) as u32];
        p.machine.memory.write(old, words)?;
    }
    Ok(0)
}

/// sigaction(2) with the old structure and its 32-bit mask.
pub fn sigaction(p: &mut Process, signal: i32, new: u32, old: u32) -> Result<u32, Errno> {
    let words = if new != 0 { Some(p.machine.memory.read::<OldWords>(new)?) } else { None };
    settable(signal, words.is_some())?;
    let before = p.signals.action(signal);
    if let Some([handler, mask, flags, restorer]) = words {
        replace(p, signal, Action { handler, flags, restorer, mask: SigSet(mask.into()) });
    }
    if old != 0 {
        let words: OldWords = [before.handler, before.mask.0 as u32, before.flags, before.restorer];
        p.machine.memory.write(old, words)?;
    }
    Ok(0)
}

/// signal(2) as System V had it: the handler is reset when it runs, and the signal is not blocked meanwhile. Gives
/// the old handler.
pub fn signal(p: &mut Process, signal: i32, handler: u32) -> Result<u32, Errno> {
    settable(signal, true)?;
    let before = p.signals.action(signal).handler;
    let flags = sa::RESETHAND | sa::NODEFER;
    replace(p, signal, Action { handler, flags, restorer: 0, mask: SigSet::EMPTY });
    Ok(before)
}
