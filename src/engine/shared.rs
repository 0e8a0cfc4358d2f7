//! Translations that several machines run at once: one lock, a gate for each machine, and the way to stop them all.
//! Unsafe: stops a machine by the pointer that it has put into its gate.
//!
//! A machine runs handlers only behind its gate. Whoever retires or frees blocks announces it, asks those behind gates to come
//! out at the next block boundary, and waits; nobody goes in before it is over. All else needs the lock only: new blocks are
//! written where nobody is yet, and links are patched by single stores.

use super::path::Mode;
use super::translate::{Settings, Translations};
use crate::cpu::Cpu;
use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for translations: 256 MiB.
const SLOTS: usize = (256 << 20) / size_of::<super::op::Op>();

/// Where a machine shows that it runs handlers: its CPU then, else null.
#[derive(Debug, Default)]
pub(crate) struct Gate(AtomicPtr<Cpu>);

/// The translations of a guest, for all its machines.
///
/// Locks are taken in the order of the fields.
pub(crate) struct SharedCode {
    /// Held by who keeps everybody out.
    closed: Mutex<()>,
    gates: Mutex<Vec<Arc<Gate>>>,
    inner: Mutex<Inner>,
    /// `closed` is held for keeping machines out.
    closing: AtomicBool,
    /// How often blocks were retired or freed. Changes only while nobody is behind a gate.
    changes: AtomicU64,
}

struct Inner {
    translations: Translations,
    /// How often everything was freed.
    flushes: u64,
}

/// The translations, locked. Others may be running them.
pub(crate) struct Locked<'a>(MutexGuard<'a, Inner>);

/// The translations, locked, while no other machine runs handlers.
pub(crate) struct Stopped<'a> {
    shared: &'a SharedCode,
    inner: MutexGuard<'a, Inner>,
    _closed: MutexGuard<'a, ()>,
}

/// Everything locked, and as it is between two changes.
pub(crate) struct Still<'a> {
    gates: MutexGuard<'a, Vec<Arc<Gate>>>,
    _inner: MutexGuard<'a, Inner>,
    _closed: MutexGuard<'a, ()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedCode {
    /// No translations, no machines.
    pub(crate) fn new(settings: Settings) -> std::io::Result<Arc<SharedCode>> {
        let translations = Translations::new(settings, SLOTS)?;
        Ok(Arc::new(SharedCode {
            closed: Mutex::default(),
            gates: Mutex::default(),
            inner: Mutex::new(Inner { translations, flushes: 0 }),
            closing: AtomicBool::new(false),
            changes: AtomicU64::new(0),
        }))
    }

    /// A gate for one more machine.
    pub(crate) fn join(&self) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        lock(&self.gates).push(Arc::clone(&gate));
        gate
    }

    /// Forgets a machine that is gone.
    pub(crate) fn part(&self, gate: &Arc<Gate>) {
        lock(&self.gates).retain(|other| !Arc::ptr_eq(other, gate));
    }

    /// How often blocks were retired or freed so far.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// The translations, to be looked up and added to. May be called behind a gate.
    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked(lock(&self.inner))
    }

    /// Goes through a gate, if blocks have not changed since [`SharedCode::changes`] was `seen` and nobody wants to change
    /// them. What the caller wrote before is visible to those who then look through the gate.
    pub(crate) fn enter(&self, gate: &Gate, cpu: &mut Cpu, seen: u64) -> bool {
        gate.0.store(cpu, Ordering::SeqCst);
        if !self.closing.load(Ordering::SeqCst) && self.changes() == seen {
            return true;
        }
        self.leave(gate);
        false
    }

    /// Comes back; waits while others may still look at the CPU.
    pub(crate) fn leave(&self, gate: &Gate) {
        gate.0.store(null_mut(), Ordering::SeqCst);
        if self.closing.load(Ordering::SeqCst) {
            drop(lock(&self.closed));
        }
    }

    /// Brings all machines but the one of `own` out of their handlers and keeps them out.
    pub(crate) fn stop_others(&self, own: &Gate) -> Stopped<'_> {
        let closed = lock(&self.closed);
        self.closing.store(true, Ordering::SeqCst);
        for gate in lock(&self.gates).iter().filter(|gate| !std::ptr::eq(&raw const ***gate, own)) {
            let mut waits = 0u32;
            loop {
                let cpu = gate.0.load(Ordering::SeqCst);
                if cpu.is_null() {
                    break;
                }
                // SAFETY: the machine cannot leave without looking at `closing`, and then waits for the lock that we hold, so
                // its CPU is still there.
                unsafe { Cpu::leave_soon(cpu) };
                waits += 1;
                if waits < 64 { std::hint::spin_loop() } else { std::thread::yield_now() }
            }
        }
        Stopped { shared: self, inner: lock(&self.inner), _closed: closed }
    }

    /// Waits until nothing changes and keeps it so.
    pub(crate) fn hold_still(&self) -> Still<'_> {
        let closed = lock(&self.closed);
        Still { gates: lock(&self.gates), _inner: lock(&self.inner), _closed: closed }
    }
}

impl Gate {
    /// Says that nobody is behind it: for one whose thread ended there.
    pub(crate) fn reset(&self) {
        self.0.store(null_mut(), Ordering::SeqCst);
    }
}

impl Still<'_> {
    /// After fork(2): the machine of `own` is the only one left.
    pub(crate) fn forget_others(&mut self, own: &Arc<Gate>) {
        self.gates.retain(|gate| Arc::ptr_eq(gate, own));
    }
}

impl Locked<'_> {
    /// How often everything was freed so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.0.flushes
    }
}

impl Deref for Locked<'_> {
    type Target = Translations;
    fn deref(&self) -> &Translations {
        &self.0.translations
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Translations {
        &mut self.0.translations
    }
}

impl Stopped<'_> {
    /// Makes all blocks with code on these pages invalid.
    pub(crate) fn invalidate(&mut self, pages: &[u32]) {
        self.inner.translations.invalidate(pages);
        self.changed();
    }

    /// Makes the block at `eip` invalid.
    pub(crate) fn invalidate_entry(&mut self, mode: Mode, eip: u32) {
        self.inner.translations.invalidate_entry(mode, eip);
        self.changed();
    }

    /// Changes where blocks stop.
    pub(crate) fn change_breakpoints(&mut self, change: impl FnOnce(&mut HashSet<u32>)) {
        let mut wanted = self.inner.translations.breakpoints().clone();
        change(&mut wanted);
        self.inner.translations.set_breakpoints(wanted);
        self.changed();
    }

    /// Frees all blocks if there is no room for another one. Caches of targets have to be cleared.
    pub(crate) fn make_room(&mut self) {
        if self.inner.translations.is_full() {
            self.inner.translations.flush();
            self.inner.flushes += 1;
            self.changed();
        }
    }

    fn changed(&self) {
        self.shared.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Stopped<'_> {
    /// Lets the others go on.
    fn drop(&mut self) {
        self.shared.closing.store(false, Ordering::SeqCst);
    }
}
