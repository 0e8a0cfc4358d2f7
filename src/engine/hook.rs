//! Watching a machine: a hook sees each instruction before and behind it. Without one, nothing is slower.

use super::run::{Machine, Stop};
use super::shared::{Gate, SharedCode};
use crate::isa::Insn;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Sees the instructions of one machine; see [`Machine::set_hook`].
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::sync::Arc;
/// use table86::memory::{MapRequest, Place, Prot};
/// use table86::{Hook, Machine, Memory, Stop, isa::Insn};
///
/// struct Count(Arc<AtomicU32>);
/// impl Hook for Count {
///     fn after(&mut self, _: &Machine, _: Option<&Insn>, _: Option<Stop>) {
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let memory = Arc::new(Memory::new().unwrap());
/// let code = vec![0x40, 0x40, 0x0f, 0x0b]; // inc eax; inc eax; ud2
/// memory.map(&MapRequest::bytes(Place::Fixed(0x1000), code, Prot::READ | Prot::EXEC, None)).unwrap();
/// let mut machine = Machine::new(memory).unwrap();
/// let seen = Arc::new(AtomicU32::new(0));
/// machine.set_hook(Some(Box::new(Count(Arc::clone(&seen)))));
/// machine.cpu.eip = 0x1000;
/// assert!(matches!(machine.run(10), Stop::Exception(_)));
/// assert_eq!((machine.cpu.regs[0], seen.load(Ordering::Relaxed)), (2, 3));
/// ```
pub trait Hook: Send {
    /// Before an instruction, which EIP is at; `None` if it cannot be fetched or is none. `Break` stops the machine there
    /// ([`Stop::Hook`]).
    fn before(&mut self, machine: &Machine, insn: Option<&Insn>) -> ControlFlow<()> {
        let _ = (machine, insn);
        ControlFlow::Continue(())
    }

    /// Behind an instruction, or at one that could not be completed: `stop` is what the machine stops for, if it does. Behind
    /// a complete one, EIP is where the program goes on.
    fn after(&mut self, machine: &Machine, insn: Option<&Insn>, stop: Option<Stop>) {
        let _ = (machine, insn, stop);
    }

    /// Tells whether it wants to see no more: the machine drops it and runs on at full speed.
    fn is_done(&self) -> bool {
        false
    }

    /// What sees the instructions of a new thread; nothing does if `None`.
    fn for_thread(&self) -> Option<Box<dyn Hook>> {
        None
    }
}

/// Addresses that machines stop before: they are part of the translations, so code between them runs at full speed, and
/// memory stays as it is. [`Machine::step`] goes over them. To be changed by a thread that runs no instructions meanwhile.
#[derive(Clone)]
pub struct Breakpoints(pub(super) Arc<SharedCode>);

impl Breakpoints {
    /// Stops at `addr` from now on.
    pub fn insert(&self, addr: u32) {
        self.change(|set| {
            set.insert(addr);
        });
    }

    /// Stops there no more; tells whether it did.
    pub fn remove(&self, addr: u32) -> bool {
        let mut found = false;
        self.change(|set| found = set.remove(&addr));
        found
    }

    /// Whether machines stop there.
    pub fn contains(&self, addr: u32) -> bool {
        self.0.lock().breakpoints().contains(&addr)
    }

    /// Stops nowhere.
    pub fn clear(&self) {
        self.change(std::collections::HashSet::clear);
    }

    fn change(&self, change: impl FnOnce(&mut std::collections::HashSet<u32>)) {
        self.0.stop_others(&Gate::default()).change_breakpoints(change);
    }
}

impl Machine {
    /// Lets a hook see every instruction from now on, or none. The machine then goes step by step, some hundred times slower.
    pub fn set_hook(&mut self, hook: Option<Box<dyn Hook>>) {
        self.hook = hook;
    }

    /// Executes one instruction. `None` when it is complete and there is nothing to be told.
    pub fn step(&mut self) -> Option<Stop> {
        let before = self.cpu.instructions();
        loop {
            let stop = self.try_step();
            // Not yet, if a page became accessible or writable meanwhile.
            if stop.is_some() || self.cpu.instructions() != before {
                return stop;
            }
        }
    }

    /// Executes instructions under the eyes of the hook until the count is `end`; `None` when the hook has seen enough.
    pub(super) fn run_hooked(&mut self, hook: &mut dyn Hook, end: u64) -> Option<Stop> {
        while !hook.is_done() {
            if self.cpu.instructions() >= end {
                return Some(Stop::Limit);
            }
            if self.take_stop_request() {
                return Some(Stop::Requested);
            }
            let insn = self.decode(self.cpu.eip);
            if hook.before(self, insn.as_ref()).is_break() {
                return Some(Stop::Hook);
            }
            let stop = self.step();
            hook.after(self, insn.as_ref(), stop);
            if stop.is_some() {
                return stop;
            }
        }
        None
    }
}
