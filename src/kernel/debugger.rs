//! What a debugger has to do with a process: it decides when threads run, and is told what happens to them.

use super::process::{ExitReason, Process};
use super::signal::Info;
use crate::Stop;

/// Runs a process's threads in place of their loop. Each call comes from the thread that it is about, and may wait.
pub trait Debugger: Send + Sync {
    /// A thread is about to run its first instruction.
    fn started(&self, process: &mut Process);
    /// Runs instructions, as many as `budget` at most, when the thread may run. [`Stop::Requested`] when the thread is to be
    /// looked after and run again.
    fn run(&self, process: &mut Process, budget: u64) -> Stop;
    /// A signal is about to take effect; what shall take effect in its place.
    fn signal(&self, process: &mut Process, info: Info) -> Option<Info>;
    /// A system call begins (`result` is `None`) or has ended.
    fn call(&self, process: &mut Process, nr: u32, result: Option<u32>);
    /// The end of a thread.
    fn ended(&self, process: &mut Process);
    /// The end of the process.
    fn end(&self, reason: ExitReason);
}
