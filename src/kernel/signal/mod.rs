//! Signals: what the guest asked for, and how host signals become guest ones.
//!
//! The host's kernel keeps the queues. The guest's actions and mask are mirrored to the host: what the guest ignores
//! or leaves to the default is ignored or left to the default there, and what it blocks is blocked there. Only
//! signals with a handler reach [`host`], whose handler records one, blocks all others and asks the engine to stop;
//! [`deliver`] then builds the guest's frame and unblocks. So order, coalescing, real-time queues, `sigpending`,
//! `sigtimedwait`, stopping and continuing are Linux's own.
//!
//! `SIGSEGV` and `SIGBUS` are the exception: the emulator needs them for guest memory, so they are never blocked or
//! ignored on the host, and those sent by `kill` are held here.

pub mod action;
pub mod deliver;
pub mod fault;
pub mod frame;
pub mod host;
pub mod info;
pub mod mask;
pub mod send;
pub mod stack;
pub mod wait;

pub use info::{Fields, Info};
pub use mask::SigSet;

use super::errno::Errno;
use super::process::Process;
use super::table::Restart;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Signals are numbered 1 to 64.
pub const SIGNALS: i32 = 64;

/// Given by `sigreturn`: all registers came from a frame, EAX too. Never shown to the guest.
pub const STATE_RESTORED: Errno = Errno(513);

/// `SIG_DFL`.
pub const SIG_DFL: u32 = 0;
/// `SIG_IGN`.
pub const SIG_IGN: u32 = 1;

/// Flags of `struct sigaction` (sigaction(2)), as i386 numbers them.
pub mod sa {
    #![allow(missing_docs)]
    pub const NOCLDSTOP: u32 = 1;
    pub const NOCLDWAIT: u32 = 2;
    pub const SIGINFO: u32 = 4;
    pub const EXPOSE_TAGBITS: u32 = 0x800;
    pub const RESTORER: u32 = 0x0400_0000;
    pub const ONSTACK: u32 = 0x0800_0000;
    pub const RESTART: u32 = 0x1000_0000;
    pub const NODEFER: u32 = 0x4000_0000;
    pub const RESETHAND: u32 = 0x8000_0000;
    /// The flags that Linux knows; others are dropped, so that a program can find out.
    pub const KNOWN: u32 =
        NOCLDSTOP | NOCLDWAIT | SIGINFO | EXPOSE_TAGBITS | RESTORER | ONSTACK | RESTART | NODEFER | RESETHAND;
}

/// What the guest wants done about a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// [`SIG_DFL`], [`SIG_IGN`] or the handler's address.
    pub handler: u32,
    /// Bits of [`sa`].
    pub flags: u32,
    /// Where the handler returns to, with [`sa::RESTORER`].
    pub restorer: u32,
    /// Blocked while the handler runs.
    pub mask: SigSet,
}

impl Action {
    /// Tells whether a handler is to be called.
    pub fn has_handler(&self) -> bool {
        self.handler > SIG_IGN
    }
}

/// What a signal does when nothing else was asked for (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Ends the process, with a core dump or without.
    Kill,
    /// Nothing.
    Ignore,
    /// Stops the process until `SIGCONT`.
    Stop,
}

/// The default action of `signal`.
pub fn default_action(signal: i32) -> DefaultAction {
    match signal {
        libc::SIGCHLD | libc::SIGURG | libc::SIGWINCH | libc::SIGCONT => DefaultAction::Ignore,
        libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => DefaultAction::Stop,
        _ => DefaultAction::Kill,
    }
}

/// A system call that a signal ended, until it is known what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub nr: u32,
    /// The row's class; `None` for a call that had not begun and is made again in any case.
    pub restart: Option<Restart>,
}

impl Call {
    /// EAX as debuggers see it: the kernel's own error number (`ERESTARTSYS` and its kin).
    pub fn shown(&self) -> u32 {
        let number: i32 = match self.restart {
            Some(Restart::NoHand) => 514,
            Some(Restart::Block) => 516,
            None | Some(Restart::Sys | Restart::No) => 512,
        };
        number.wrapping_neg() as u32
    }

    /// What a debugger's `orig_eax` and EAX make of the call that was interrupted before: as for the kernel, these registers
    /// alone decide whether there is one.
    pub fn from_shown(orig_eax: u32, eax: u32, before: Option<Call>) -> Option<Call> {
        let class = match (eax as i32).wrapping_neg() {
            512 | 513 => Restart::Sys,
            514 => Restart::NoHand,
            516 => Restart::Block,
            _ => return None,
        };
        let restart = before.map_or(Some(class), |call| call.restart);
        (orig_eax as i32 >= 0).then_some(Call { nr: orig_eax, restart })
    }
}

/// The rest of a call, for `restart_syscall`.
pub type RestartBlock = Box<dyn FnOnce(&mut Process) -> Result<u32, Errno> + Send>;

/// What the last exception was, as frames show it; it stays until the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trap {
    /// The exception's vector.
    pub number: u32,
    /// Its error code.
    pub error: u32,
    /// The address of the last page fault.
    pub cr2: u32,
}

/// What a process wants done about each signal; its threads share it.
#[derive(Debug)]
pub struct Actions(Mutex<[Action; SIGNALS as usize]>);

impl Actions {
    fn lock(&self) -> MutexGuard<'_, [Action; SIGNALS as usize]> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The action of `signal`, which must be 1 to 64.
    pub fn get(&self, signal: i32) -> Action {
        self.lock()[signal as usize - 1]
    }

    /// Replaces an action here and on the host.
    fn set(&self, signal: i32, action: Action) {
        let mut actions = self.lock();
        actions[signal as usize - 1] = action;
        host::install(signal, &action);
    }

    /// The same actions for a process that changes them for itself.
    pub fn copy(&self) -> Arc<Actions> {
        Arc::new(Actions(Mutex::new(*self.lock())))
    }

    /// Waits until no thread changes anything and keeps it so, for fork(2).
    pub(super) fn hold(&self) -> Held<'_> {
        Held { _actions: self.lock() }
    }
}

/// Keeps the actions as they are.
pub(super) struct Held<'a> {
    _actions: MutexGuard<'a, [Action; SIGNALS as usize]>,
}

/// The signal state of a thread.
pub struct Signals {
    /// The process's actions.
    pub actions: Arc<Actions>,
    /// Signals blocked now.
    pub mask: SigSet,
    /// The mask to come back to when a call with a temporary mask has ended.
    pub saved_mask: Option<SigSet>,
    /// The alternate stack.
    pub alt_stack: stack::AltStack,
    /// For frames.
    pub trap: Trap,
    /// The class of the call that was interrupted, where it is not the row's.
    pub(crate) restart_class: Option<Restart>,
    /// A vfork child: host signals are taken only where the parent's state is whole, see [`host::apply_mask`].
    pub(crate) shielded: bool,
    /// What `restart_syscall` goes on with.
    pub restart_block: Option<RestartBlock>,
    /// A signal of the thread's own making, to be delivered before it runs on.
    pub(crate) forced: Option<Info>,
    /// Sent `SIGSEGV` and `SIGBUS`, blocked ones too.
    pub(crate) held: Vec<Info>,
    /// Where the host's handler puts signals.
    pub(crate) inbox: Box<host::Inbox>,
}

impl Signals {
    /// The state at a program's start: ignored signals are the host process's, as `execve` left them; so is the
    /// mask, unless an `execve` of the guest handed on another one.
    pub fn inherit(mask: Option<SigSet>) -> Signals {
        let mut actions = [Action::default(); SIGNALS as usize];
        for signal in 1..=SIGNALS {
            let action = &mut actions[signal as usize - 1];
            if host::ignored_at_start(signal) {
                action.handler = SIG_IGN;
                host::install(signal, action);
            }
        }
        // Rust's runtime ignores it.
        host::install(libc::SIGPIPE, &actions[libc::SIGPIPE as usize - 1]);
        host::take_sent_faults();
        let actions = Arc::new(Actions(Mutex::new(actions)));
        Signals { mask: mask.unwrap_or_else(host::mask), ..Signals::new(actions) }
    }

    /// Nothing blocked, nothing pending.
    fn new(actions: Arc<Actions>) -> Signals {
        Signals {
            actions,
            mask: SigSet::EMPTY,
            saved_mask: None,
            alt_stack: stack::AltStack::default(),
            trap: Trap::default(),
            restart_class: None,
            shielded: false,
            restart_block: None,
            forced: None,
            held: Vec::new(),
            inbox: Box::default(),
        }
    }

    /// The state of a child made by fork or vfork: nothing pending.
    pub fn for_child(&self) -> Signals {
        Signals {
            mask: self.mask,
            alt_stack: self.alt_stack,
            trap: self.trap,
            shielded: self.shielded,
            ..Signals::new(self.actions.copy())
        }
    }

    /// The state of a task that shares memory with this one, with or without its actions: nothing pending, and no alternate
    /// stack, as that is in use.
    pub fn for_task(mask: SigSet, actions: Arc<Actions>) -> Signals {
        Signals { mask, ..Signals::new(actions) }
    }

    /// The action of `signal`, which must be 1 to 64.
    pub fn action(&self, signal: i32) -> Action {
        self.actions.get(signal)
    }

    /// Replaces an action and mirrors it to the host.
    pub(crate) fn set_action(&self, signal: i32, action: Action) {
        self.actions.set(signal, action);
    }

    /// Makes the default action that of `signal`.
    pub(crate) fn set_default(&self, signal: i32) {
        self.set_action(signal, Action { handler: SIG_DFL, ..self.action(signal) });
    }

    /// Changes the mask here and on the host. `SIGKILL` and `SIGSTOP` stay unblocked.
    pub fn set_mask(&mut self, mask: SigSet) {
        self.mask = mask.without_unblockable();
        host::apply_mask(self);
    }
}

/// Checks a signal number from the guest: `EINVAL` unless it is 1 to 64.
pub fn valid(signal: i32) -> Result<i32, Errno> {
    if (1..=SIGNALS).contains(&signal) { Ok(signal) } else { Err(Errno::EINVAL) }
}

/// Continues a call that a stop interrupted. `EINTR` if there is none.
pub fn restart_syscall(p: &mut Process) -> Result<u32, Errno> {
    match p.signals.restart_block.take() {
        Some(rest) => rest(p),
        None => Err(Errno::EINTR),
    }
}
