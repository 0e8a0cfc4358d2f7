//! What tasks on the same memory have in common: what the kernel knows about that memory, and what is said to the user.

use super::aio::Aio;
use super::ipc::Ipc;
use super::limits::Limits;
use super::mm::AddressSpace;
use super::proc::Arguments;
use super::process::Image;
use crate::Memory;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// State of all threads, each part behind a lock of its own. No two are held at a time but for fork(2).
pub struct Common {
    /// Where arguments and environment lie.
    pub arguments: Arguments,
    space: Mutex<AddressSpace>,
    limits: Mutex<Limits>,
    ipc: Mutex<Ipc>,
    aio: Mutex<Aio>,
    said: Mutex<HashSet<String>>,
}

/// Keeps all parts as they are.
pub(super) struct Held<'a> {
    _space: MutexGuard<'a, AddressSpace>,
    _limits: MutexGuard<'a, Limits>,
    _ipc: MutexGuard<'a, Ipc>,
    _aio: MutexGuard<'a, Aio>,
    _said: MutexGuard<'a, HashSet<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Common {
    /// That of a program that has not run yet.
    pub fn new(memory: &Memory, image: &Image) -> Common {
        Common {
            arguments: Arguments::locate(memory, image.start_stack),
            space: Mutex::new(AddressSpace::new(image.brk_start)),
            limits: Mutex::default(),
            ipc: Mutex::default(),
            aio: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// The break.
    pub fn space(&self) -> MutexGuard<'_, AddressSpace> {
        lock(&self.space)
    }

    /// Resource limits that the host is not told.
    pub fn limits(&self) -> MutexGuard<'_, Limits> {
        lock(&self.limits)
    }

    /// Attached System V segments.
    pub fn ipc(&self) -> MutexGuard<'_, Ipc> {
        lock(&self.ipc)
    }

    /// Contexts of asynchronous I/O.
    pub fn aio(&self) -> MutexGuard<'_, Aio> {
        lock(&self.aio)
    }

    /// Keys of what [`Process::say_once`](super::Process::say_once) said. Held while something is said.
    pub(crate) fn said(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.said)
    }

    /// Waits until no thread changes anything and keeps it so, for fork(2).
    pub(super) fn hold(&self) -> Held<'_> {
        Held {
            _space: self.space(),
            _limits: self.limits(),
            _ipc: self.ipc(),
            _aio: self.aio(),
            _said: self.said(),
        }
    }
}
