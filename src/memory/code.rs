//! Pages from which code has been translated.
//!
//! A page is *protected* (the host forbids writing; a write faults, [`Memory::code_written`] lifts the
//! protection and the page counts as dirty) or *verified* (translations are compared with memory at each
//! entry). Verified are pages that can change without a write by the guest's address, because they are shared or
//! because a writable shared mapping of their file exists, and pages that were written too often.

use super::map::Object;
use super::{MapError, Memory, Prot, State, page};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

/// How often a page may be written after translation before it is verified instead of protected.
const MOST_WRITES: u32 = 32;

/// How changes to a page of code will be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodePage {
    /// A write faults, and the page becomes dirty.
    Protected,
    /// Not at all: compare at each entry.
    Verify,
}

/// Code pages, by page number.
#[derive(Debug, Default)]
pub(super) struct CodeState {
    /// Pages whose translations are no longer good.
    dirty: BTreeSet<u32>,
    /// Writes to pages after translation.
    writes: HashMap<u32, u32>,
    /// Writable pages that the host holds read-only.
    protected: BTreeSet<u32>,
}

impl CodeState {
    /// Number of pages whose host protection differs from their neighbours'.
    pub(super) fn protected(&self) -> usize {
        self.protected.len()
    }
}

impl Memory {
    /// Sees to it that changes to page `number` (address / 4096) will be noticed. To be called before the bytes to
    /// be translated are read, so that no write falls in between.
    pub fn protect_code(&self, number: u32) -> CodePage {
        let mut state = self.lock();
        let byte = self.space.page(number).load(Ordering::Acquire);
        if byte & page::CODE != 0 {
            return CodePage::Protected;
        }
        if byte & page::MAPPED == 0 {
            return CodePage::Verify;
        }
        let verify = byte & (page::VERIFY | page::SHARED) != 0
            || state.code.writes.get(&number).is_some_and(|&writes| writes > MOST_WRITES)
            || state.file_written_elsewhere(number * page::SIZE);
        if !verify && self.forbid_writes(&mut state, number, byte) {
            return CodePage::Protected;
        }
        self.space.page(number).fetch_or(page::VERIFY, Ordering::AcqRel);
        CodePage::Verify
    }

    /// Gives up the translations from the pages of a range that is about to be written, or was tried to be: protected
    /// pages become writable again, if the guest may write them, and dirty. Takes a lock: the handler of
    /// SIGSEGV has to return to ordinary code before it is called. A fault at a page whose byte allows the access has
    /// been resolved by another thread meanwhile; the access is to be tried again.
    pub fn code_written(&self, addr: u32, len: u32) {
        let Some(last) = len.checked_sub(1) else { return };
        let last = addr.saturating_add(last) / page::SIZE;
        for number in addr / page::SIZE..=last {
            if self.space.page(number).load(Ordering::Acquire) & page::CODE != 0 {
                self.give_up_code(&mut self.lock(), number);
            }
        }
    }

    /// Tells whether [`Memory::take_dirty_code`] would give any pages. Cheap.
    pub fn has_dirty_code(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// The numbers of the pages whose translations are no longer good, ascending, each once: written, unmapped,
    /// replaced, moved, no longer executable.
    pub fn take_dirty_code(&self) -> Vec<u32> {
        let mut state = self.lock();
        self.dirty.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.code.dirty).into_iter().collect()
    }

    /// Sets CODE and makes the page read-only on the host; `false` and nothing changed if it cannot.
    ///
    /// The bit comes first and goes last: a page that the host holds read-only against the guest's wish always has
    /// it, so that a fault can be told from the guest's own.
    fn forbid_writes(&self, state: &mut State, number: u32, byte: u8) -> bool {
        let start = number * page::SIZE;
        let writable = byte & page::WRITE != 0;
        if writable && state.check_host_mappings().is_err() {
            return false;
        }
        self.space.page(number).fetch_or(page::CODE, Ordering::AcqRel);
        if writable {
            if self.space.protect(start, start + page::SIZE, Prot::READ).is_err() {
                self.space.page(number).fetch_and(!page::CODE, Ordering::AcqRel);
                return false;
            }
            state.code.protected.insert(number);
        }
        true
    }

    /// As `code_written` for one page, if it is protected.
    pub(super) fn give_up_code(&self, state: &mut State, number: u32) {
        let byte = self.space.page(number).load(Ordering::Acquire);
        if byte & page::CODE == 0 {
            return;
        }
        let mut lost = page::CODE;
        if byte & page::WRITE != 0 {
            let start = number * page::SIZE;
            if self.space.protect(start, start + page::SIZE, Prot::from_bits(u32::from(byte))).is_err() {
                // The host has no memory left for that. The guest learns it by a fault.
                lost |= page::WRITE;
            }
            state.code.protected.remove(&number);
        }
        self.space.page(number).fetch_and(!lost, Ordering::AcqRel);
        *state.code.writes.entry(number).or_default() += 1;
        self.mark_dirty(state, number);
    }

    /// Notes that page `number`, whose byte was `byte`, is another page from now on.
    pub(super) fn forget_code(&self, state: &mut State, number: u32, byte: u8) {
        if byte & (page::CODE | page::VERIFY) != 0 {
            self.mark_dirty(state, number);
            state.code.protected.remove(&number);
        }
        state.code.writes.remove(&number);
    }

    fn mark_dirty(&self, state: &mut State, number: u32) {
        state.code.dirty.insert(number);
        self.dirty.store(true, Ordering::Relaxed);
    }

    /// Changes what `start..end`, all mapped and of one area, allows; tells how far it got. Pages of code that stay
    /// executable keep their translations and their protection.
    pub(super) fn protect_pages(
        &self,
        state: &mut State,
        start: u32,
        end: u32,
        prot: Prot,
    ) -> (u32, Result<(), MapError>) {
        let keeps_code = |number| {
            prot.contains(Prot::EXEC) && self.space.page(number).load(Ordering::Acquire) & page::CODE != 0
        };
        let (mut run, behind) = (start / page::SIZE, end / page::SIZE);
        while run < behind {
            let code = keeps_code(run);
            let next = (run..behind).find(|&number| keeps_code(number) != code).unwrap_or(behind);
            let host_prot = if code { prot.without(Prot::WRITE) } else { prot };
            if let Err(errno) = self.space.protect(run * page::SIZE, next * page::SIZE, host_prot) {
                let refused = errno == libc::EACCES;
                let error = if refused { MapError::Access } else { MapError::from_host(errno) };
                return (run * page::SIZE, Err(error));
            }
            for number in run..next {
                self.protect_page(state, number, prot);
            }
            run = next;
        }
        (end, Ok(()))
    }

    /// Writes down the new protection of one page.
    fn protect_page(&self, state: &mut State, number: u32, prot: Prot) {
        let byte = self.space.page(number);
        let old = byte.load(Ordering::Acquire);
        let mut new = prot.page_byte(old & page::SHARED != 0);
        if prot.contains(Prot::EXEC) {
            new |= old & (page::CODE | page::VERIFY);
            if old & page::CODE != 0 && prot.contains(Prot::WRITE) {
                state.code.protected.insert(number);
            }
        } else if old & (page::CODE | page::VERIFY) != 0 {
            self.mark_dirty(state, number);
            state.code.protected.remove(&number);
        }
        byte.store(new, Ordering::Release);
    }

    /// After a shared mapping of a file became writable: private pages of that file are no longer safe from
    /// changes, so translations from them are given up, to be made again as verified ones.
    pub(super) fn give_up_aliases(&self, state: &mut State, dev: u64, ino: u64) {
        let aliases: Vec<(u32, u32)> = state
            .tree
            .iter()
            .filter(|(_, area)| {
                !area.shared
                    && matches!(&area.object, Object::File { file, .. } if (file.dev, file.ino) == (dev, ino))
            })
            .map(|(start, area)| (start, area.end))
            .collect();
        for (start, end) in aliases {
            for number in start / page::SIZE..end / page::SIZE {
                if self.space.page(number).load(Ordering::Acquire) & page::CODE != 0 {
                    self.give_up_code(state, number);
                }
            }
        }
    }
}

impl State {
    /// Tells whether `addr` is private memory of a file that a shared mapping may write.
    fn file_written_elsewhere(&self, addr: u32) -> bool {
        let Some((_, area)) = self.tree.at(addr) else { return false };
        let Object::File { file: own, .. } = &area.object else { return false };
        let same = |object: &Object| match object {
            Object::File { file, .. } => (file.dev, file.ino) == (own.dev, own.ino),
            Object::Anonymous(_) => false,
        };
        self.tree
            .iter()
            .any(|(_, other)| other.shared && other.prot.contains(Prot::WRITE) && same(&other.object))
    }
}
