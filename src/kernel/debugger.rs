//! What a debugger has to do with a process: it decides when threads run, and is told what happens to them.

use super::process::{ExitReason, Process};
use super::signal::{Call, Info};
use crate::Stop;

/// Runs a process's threads in place of their loop. Each call comes from the thread that it is about, and may wait.
pub trait Debugger: Send + Sync {
    /// A thread is about to run its first instruction.
    fn started(&self, process: &mut Process);
    /// Runs instructions, as many as `budget` at most, when the thread may run. [`Stop::Requested`] when the thread is to be
    /// looked after and run again.
    fn run(&self, process: &mut Process, budget: u64) -> Stop;
    /// A signal is about to take effect, and has interrupted `call`; what shall take effect in its place.
    fn signal(&self, process: &mut Process, info: Info, call: &mut Option<Call>) -> Option<Info>;
    /// System call `nr` is about to be made. The one that is made is what `orig_eax` says then, and none if that is negative.
    fn call_begins(&self, process: &mut Process, nr: u32);
    /// System call `nr` has ended; its result is in EAX.
    fn call_done(&self, process: &mut Process, nr: u32);
    /// The end of a thread.
    fn ended(&self, process: &mut Process);
    /// The end of the process.
    fn end(&self, reason: ExitReason);
}
