//! Counting instructions exactly, at little cost: a counter a block, multiplied out in the end. Unsafe: the counters are raw
//! memory that handlers write.
//!
//! An op at a block's start counts at a *site*, and a stub before the target of each branch that leaves the block early counts
//! at another. Each instruction ran as often as its block was entered, less as often as the block was left before it: by a
//! branch, or by a fault, which the run loop notes. Each machine has counters of its own, so threads need no atomics.

use crate::isa::Insn;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Sites at most: more than the arena has room for many times over. What is translated later is not counted.
const MOST: usize = 1 << 26;

/// Address and row of each instruction of a block.
type Insns = Arc<[(u32, u16)]>;

/// What is counted at a place.
struct Site {
    insns: Insns,
    /// The block was left when so many instructions were complete; `None`: it was entered.
    left: Option<u32>,
}

/// The places where is counted, of all translations that there were.
#[derive(Default)]
pub(crate) struct Sites(Vec<Site>);

impl Sites {
    /// A site for entering a block.
    pub(crate) fn entry(&mut self, insns: Insns) -> Option<u32> {
        self.add(Site { insns, left: None })
    }

    /// A site for leaving the block of another site; none is needed at its end.
    pub(crate) fn exit(&mut self, entry: u32, done: u32) -> Option<u32> {
        let insns = Arc::clone(&self.0.get(entry as usize)?.insns);
        ((done as usize) < insns.len()).then(|| self.add(Site { insns, left: Some(done) }))?
    }

    fn add(&mut self, site: Site) -> Option<u32> {
        if self.0.len() == MOST {
            return None;
        }
        self.0.push(site);
        Some((self.0.len() - 1) as u32)
    }
}

/// What one machine has counted.
pub(crate) struct Tally {
    counters: *mut u64,
    /// How often a block was left by a fault: by its site, and how many instructions were complete.
    left: RefCell<HashMap<(u32, u32), u64>>,
    /// Instructions executed alone.
    stepped: RefCell<HashMap<(u32, u16), u64>>,
}

// SAFETY: the counters are the tally's own.
unsafe impl Send for Tally {}

impl Tally {
    /// Reserves room for all counters; pages are used only when written.
    pub(crate) fn new() -> std::io::Result<Tally> {
        // SAFETY: a fresh anonymous mapping.
        let counters = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MOST * size_of::<u64>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if counters == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Tally { counters: counters.cast(), left: RefCell::default(), stepped: RefCell::default() })
    }

    /// Where handlers count, by site.
    pub(crate) fn counters(&self) -> *mut u64 {
        self.counters
    }

    /// Notes that a fault left a block.
    pub(crate) fn left(&self, site: u32, done: u32) {
        *self.left.borrow_mut().entry((site, done)).or_default() += 1;
    }

    /// Notes an instruction that was executed alone.
    pub(crate) fn stepped(&self, insn: &Insn) {
        *self.stepped.borrow_mut().entry((insn.eip, insn.index)).or_default() += 1;
    }

    /// Gives everything, and begins again at 0.
    pub(crate) fn drain(&self, sites: &Sites, mut each: impl FnMut(u32, u16, i64)) {
        for (index, site) in sites.0.iter().enumerate() {
            // SAFETY: there are fewer sites than counters, and the machine that counts is the one that asks.
            let count = std::mem::take(unsafe { &mut *self.counters.add(index) }) as i64;
            if count != 0 {
                let (from, sign) = site.left.map_or((0, 1), |done| (done as usize, -1));
                site.insns[from..].iter().for_each(|&(addr, row)| each(addr, row, sign * count));
            }
        }
        for ((site, done), count) in self.left.take() {
            let insns = sites.0.get(site as usize).map_or(&[][..], |site| &site.insns);
            let missed = insns.get(done as usize..).unwrap_or_default();
            missed.iter().for_each(|&(addr, row)| each(addr, row, -(count as i64)));
        }
        for ((addr, row), count) in self.stepped.take() {
            each(addr, row, count as i64);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; the machine that counted in it goes with it.
        unsafe { libc::munmap(self.counters.cast(), MOST * size_of::<u64>()) };
    }
}
