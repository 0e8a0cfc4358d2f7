//! The threads of a process and its end (exit_group(2)).

use super::super::process::ExitReason;
use super::super::ptrace::Tracees;
use super::super::signal::host::nudge;
use super::host;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the first thread waits for others that the end of the process has to bring back from the host.
const PATIENCE: Duration = Duration::from_secs(2);

/// The threads that end together.
#[derive(Default)]
pub struct Group {
    /// Whom the process traces.
    pub(in crate::kernel) tracees: Tracees,
    state: Mutex<State>,
    /// A thread left.
    left: Condvar,
    /// `State::end` is there.
    ending: AtomicBool,
    /// Instructions that the threads have executed, as far as they have looked up since.
    instructions: AtomicU64,
}

#[derive(Default)]
struct State {
    threads: BTreeSet<u32>,
    end: Option<End>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: ExitReason,
    /// Where the thread was that ended it.
    pub eip: u32,
}

/// Keeps a group as it is.
pub(in crate::kernel) struct Held<'a> {
    _state: MutexGuard<'a, State>,
}

impl Group {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no thread comes or goes and keeps it so, for fork(2).
    pub(in crate::kernel) fn hold(&self) -> Held<'_> {
        Held { _state: self.state() }
    }

    /// Notes a thread.
    pub(in crate::kernel) fn enter(&self, tid: u32) {
        self.state().threads.insert(tid);
    }

    /// Takes a thread out, which ended so. The last one's end is that of the process.
    pub(super) fn leave(&self, tid: u32, end: End) {
        let mut state = self.state();
        state.threads.remove(&tid);
        if state.threads.is_empty() {
            state.end.get_or_insert(end);
        }
        self.left.notify_all();
    }

    /// Makes a thread look up, even from a blocking call.
    pub fn nudge(&self, tid: u32) {
        // Whoever is noted is still there, or only just gone.
        if self.state().threads.contains(&tid) {
            nudge(tid);
        }
    }

    /// Tells whether there is more than one thread.
    pub fn has_others(&self) -> bool {
        self.state().threads.len() > 1
    }

    /// Ends all threads. The first reason counts.
    pub(super) fn end(&self, end: End) {
        let mut state = self.state();
        state.end.get_or_insert(end);
        self.ending.store(true, Ordering::SeqCst);
        let own = host::gettid();
        for tid in state.threads.iter().filter(|&&tid| tid != own) {
            nudge(*tid);
        }
    }

    /// Why the process ends, once it does.
    pub fn ended(&self) -> Option<ExitReason> {
        if !self.ending.load(Ordering::SeqCst) {
            return None;
        }
        self.state().end.map(|end| end.reason)
    }

    /// The end of the process, once it is certain.
    pub fn end_of_process(&self) -> Option<End> {
        self.state().end
    }

    /// Waits for the last thread to leave, which must have entered before. Gives why the process ended.
    pub(in crate::kernel) fn wait(&self) -> ExitReason {
        let mut state = self.state();
        loop {
            let Some(end) = state.end else {
                state = self.left.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if state.threads.is_empty() {
                return end.reason;
            }
            let (guard, timeout) =
                self.left.wait_timeout(state, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            if timeout.timed_out() {
                return end.reason;
            }
            state = guard;
        }
    }

    /// Adds instructions that a thread has executed.
    pub(in crate::kernel) fn count(&self, instructions: u64) {
        self.instructions.fetch_add(instructions, Ordering::Relaxed);
    }

    /// Instructions executed by all threads.
    pub fn instructions(&self) -> u64 {
        self.instructions.load(Ordering::Relaxed)
    }
}
