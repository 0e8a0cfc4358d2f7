//! The way of a superblock: which instructions it consists of, and which flags they have to leave.

use super::encode::passed;
use super::liveness::{self, Facts};
use crate::cpu::{Cpu, Seg};
use crate::isa::decode::{MAX_LEN, NO_REG, operand_bytes};
use crate::isa::{
    Access, Code, DecodeError, Flow, Implicit, Insn, Mem, Operand, Privilege, Status, decode, flag,
};
use crate::memory::{CodePage, Memory, page};
use std::collections::HashSet;
use std::sync::Arc;

/// Instructions in a superblock at most.
pub(crate) const MAX_INSNS: usize = 96;
/// Calls are followed into their target while the block is shorter than this.
const INLINE_UNTIL: usize = 48;
/// Instructions at most in a block that may run only once.
const QUICK_INSNS: usize = 24;

/// An instruction on its way into ops.
pub(super) struct Item {
    pub(super) eip: u32,
    pub(super) insn: Result<Insn, Stop>,
    pub(super) facts: Facts,
    /// Flags needed behind it.
    pub(super) after: u8,
    /// The same but for those that only the way out of a branch needs.
    pub(super) ahead: u8,
    /// Slot of its op, once emitted; none for jumps that are followed.
    pub(super) slot: Option<usize>,
    /// The keys that fit, best first; empty for handlers that have none.
    pub(super) keys: Vec<u64>,
    /// The block goes on at the target.
    pub(super) followed: bool,
}

/// Why decoding ended without an instruction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    Undefined,
    TooLong,
    /// The first byte that cannot be fetched, and whether its page is there.
    Unfetchable(u32, bool),
    /// Somebody wants to stop there.
    Breakpoint,
}

/// What is known about one run of the translator.
pub(super) struct Job<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) memory: &'a Memory,
    pub(super) mode: Mode,
    /// Instructions at most; 1 for a single step, which is not kept.
    pub(super) max: usize,
    pub(super) step: bool,
    /// To be done fast rather than well: the code may run only once.
    pub(super) quick: bool,
    /// The code is compared at each entry, so the block is short and straight.
    pub(super) verified: bool,
    /// Verified code is read once, as other threads may change it at any moment.
    pub(super) snapshot: Option<Snapshot>,
    pub(super) window: Window,
    /// What the block depends on.
    pub(super) pages: Vec<u32>,
    /// How many of the pages hold its instructions; the others were looked ahead at.
    pub(super) decoded: usize,
    /// Where to stop before the instruction, if anywhere; a single step goes over them.
    pub(super) breakpoints: Option<Arc<HashSet<u32>>>,
}

/// A copy of code.
pub(super) struct Snapshot {
    eip: u32,
    pub(super) bytes: Vec<u8>,
}

impl Snapshot {
    /// As much as can be fetched of what a straight block at `eip` can have.
    fn take(memory: &Memory, eip: u32) -> Snapshot {
        let mut bytes = vec![0; MAX_INSNS * MAX_LEN];
        let fetched = memory.fetch(eip, &mut bytes);
        bytes.truncate(fetched);
        Snapshot { eip, bytes }
    }

    /// The code at `eip`, as much as there is of it.
    fn rest(&self, eip: u32) -> &[u8] {
        let from = (eip.wrapping_sub(self.eip) as usize).min(self.bytes.len());
        &self.bytes[from..]
    }
}

/// Code that is read ahead, so that not each instruction has to be fetched by itself.
pub(super) struct Window {
    eip: u32,
    len: usize,
    bytes: [u8; WINDOW],
}

/// Bytes that a window has at most.
const WINDOW: usize = 64;

impl Window {
    /// Nothing yet.
    const EMPTY: Window = Window { eip: 0, len: 0, bytes: [0; WINDOW] };

    /// The code at `eip`: an instruction's worth at least, if so much can be fetched. Of another page only what that needs is
    /// read.
    fn rest(&mut self, memory: &Memory, eip: u32) -> &[u8] {
        let mut from = eip.wrapping_sub(self.eip) as usize;
        if from.saturating_add(MAX_LEN) > self.len {
            let here = (page::SIZE - eip % page::SIZE) as usize;
            self.eip = eip;
            self.len = memory.fetch(eip, &mut self.bytes[..here.clamp(MAX_LEN, WINDOW)]);
            from = 0;
        }
        &self.bytes[from..self.len]
    }
}

/// How segment registers are set, as far as translations depend on it. Equal for nearly all programs: flat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Mode {
    /// Bit n: segment register n holds a null selector; an access by it raises #GP.
    null: u8,
    /// ES, CS, SS or DS has a base.
    based: bool,
}

impl Mode {
    /// The mode that a CPU is in.
    pub(crate) fn of(cpu: &Cpu) -> Mode {
        let null = (0..6).filter(|&at| cpu.selectors[at] & !3 == 0).map(|at| 1 << at).sum();
        Mode { null, based: cpu.segment_bases[..4].iter().any(|base| *base != 0) }
    }
}

impl Item {
    /// What is at `eip`, to be said; all flags are needed behind it.
    pub(super) fn new(eip: u32, facts: Facts) -> Item {
        let insn = Err(Stop::Undefined);
        let (after, ahead) = (flag::STATUS, flag::STATUS);
        Item { eip, insn, facts, after, ahead, slot: None, keys: Vec::new(), followed: false }
    }

    /// Where a branch leaves the block.
    pub(super) fn exit(&self, insn: &Insn) -> u32 {
        if self.followed { insn.next_eip() } else { insn.imm }
    }

    /// The condition of an instruction, for a branch that of leaving the block.
    pub(super) fn condition(&self, insn: &Insn) -> u8 {
        let inverse = insn.form().flow == Flow::Branch && self.followed;
        insn.form().condition.unwrap_or(0) ^ u8::from(inverse)
    }

    /// Whether flags that it writes are needed behind `next`, which follows it.
    pub(super) fn needed_behind(&self, next: &Item) -> bool {
        let open = if next.facts.barrier { flag::STATUS } else { next.after & !next.facts.kills };
        self.facts.writes && self.facts_written() & open != 0
    }

    /// Whether flags that it writes are needed behind a branch, which follows it, only where that leaves the block.
    pub(super) fn needed_at_exit(&self, branch: &Item) -> bool {
        self.needed_behind(branch) && self.facts_written() & branch.ahead == 0
    }

    /// Flags that it may change.
    pub(super) fn facts_written(&self) -> u8 {
        self.insn.map_or(0, |insn| liveness::changed(insn.form()))
    }
}

/// Whether an instruction does nothing but take its place: NOP in its many forms.
pub(super) fn has_no_effect(insn: &Insn) -> bool {
    let form = insn.form();
    let plain =
        form.flow == Flow::Next && form.privilege == Privilege::User && form.status == Status::Implemented;
    plain
        && !form.takes_cpu
        && !form.flags.writes
        && form.exceptions.is_empty()
        && passed(insn).next().is_none()
}

/// Moves a comparison behind the instruction that stands between it and its branch, so that the two can be joined.
pub(super) fn bring_together(items: &mut [Item]) {
    for at in 0..items.len().saturating_sub(2) {
        let [first, second, third] = &items[at..at + 3] else { continue };
        let (Ok(one), Ok(two), Ok(branch)) = (&first.insn, &second.insn, &third.insn) else { continue };
        if first.facts.writes && branch.form().condition.is_some() && liveness::may_swap(one, two) {
            items.swap(at, at + 1);
        }
    }
}

/// Whether the handler has to keep flags. A body that takes the CPU keeps them itself.
pub(super) fn flag_is_live(item: &Item) -> bool {
    let by_handler = item.insn.is_ok_and(|insn| !insn.form().takes_cpu);
    by_handler && item.facts.writes && item.facts_written() & item.after != 0
}

/// Tells whether the code at an address has run seldom: what quick blocks have counted.
pub(super) type Profile<'a> = Option<&'a dyn Fn(u32) -> bool>;

impl<'a> Job<'a> {
    /// The translation of a whole block.
    pub(super) fn new(cpu: &'a Cpu, memory: &'a Memory, mode: Mode) -> Job<'a> {
        Job {
            cpu,
            memory,
            mode,
            max: MAX_INSNS,
            step: false,
            quick: false,
            verified: false,
            snapshot: None,
            window: Window::EMPTY,
            pages: Vec::new(),
            decoded: 0,
            breakpoints: None,
        }
    }

    /// The translation of code that may run only once.
    pub(super) fn quick(cpu: &'a Cpu, memory: &'a Memory, mode: Mode) -> Job<'a> {
        Job { max: QUICK_INSNS, quick: true, ..Job::new(cpu, memory, mode) }
    }

    /// Forgets what was read.
    pub(super) fn begin(&mut self) {
        self.pages.clear();
        self.window = Window::EMPTY;
    }

    /// Replaces `items` by those of the block at `eip`, with the flags that are needed, and `pages` by what it depends on.
    pub(super) fn read(&mut self, eip: u32, specialise: bool, profile: Profile<'_>, items: &mut Vec<Item>) {
        self.begin();
        self.snapshot = self.verified.then(|| Snapshot::take(self.memory, eip));
        self.decode(eip, profile, items);
        self.decoded = self.pages.len();
        if specialise && !self.quick {
            bring_together(items);
        }
        self.mark_live(items);
    }

    /// Sees to it that changes to the block's pages are noticed. Tells whether the block has to be read again, as a page was
    /// open to writes when it was.
    ///
    /// Only the translator guards pages, under a lock that it holds all the time: a page that is guarded now has been since
    /// before it was read, as a write would have lifted that.
    pub(super) fn guard_pages(&mut self) -> bool {
        let mut again = false;
        for (index, page) in self.pages.iter().enumerate() {
            let decoded = index < self.decoded;
            if self.memory.page_byte(page << 12) & page::CODE != 0 || self.verified && decoded {
                continue;
            }
            again = true;
            if self.memory.protect_code(*page) == CodePage::Verify && decoded {
                self.verified = true;
                break;
            }
        }
        again
    }

    /// Reads the instruction at `eip`, and notes where it is.
    #[inline]
    pub(super) fn next(&mut self, eip: u32) -> Result<Insn, Stop> {
        let insn = self.fetch(eip);
        match &insn {
            Ok(insn) => self.note_pages(insn),
            Err(Stop::Unfetchable(addr, _)) if *addr == eip => {}
            Err(_) if self.pages.contains(&(eip >> 12)) => {}
            Err(_) => self.pages.push(eip >> 12),
        }
        insn
    }

    /// Reads the instruction at `eip`.
    #[inline]
    fn fetch(&mut self, eip: u32) -> Result<Insn, Stop> {
        if self.breakpoints.as_ref().is_some_and(|wanted| wanted.contains(&eip)) {
            return Err(Stop::Breakpoint);
        }
        let bytes = match &self.snapshot {
            Some(snapshot) => snapshot.rest(eip),
            None => self.window.rest(self.memory, eip),
        };
        let bytes = &bytes[..bytes.len().min(MAX_LEN)];
        match decode(bytes, eip) {
            Ok(insn) if self.cpu.cpuid.has_all(insn.form().cpuid) => Ok(insn),
            Ok(insn) => insn.without_prefix().ok_or(Stop::Undefined),
            Err(DecodeError::Undefined) => Err(Stop::Undefined),
            Err(DecodeError::TooLong) => Err(Stop::TooLong),
            Err(DecodeError::TooShort) => {
                let missing = eip.wrapping_add(bytes.len() as u32);
                // Linux fills in a page that may be read before it says that it may not be executed.
                let byte = self.memory.page_byte(missing);
                Err(Stop::Unfetchable(missing, byte & 7 != 0))
            }
        }
    }

    #[inline]
    fn note_pages(&mut self, insn: &Insn) {
        let [first, last] = [insn.eip, insn.next_eip().wrapping_sub(1)].map(|addr| addr >> 12);
        if first != last || self.pages.last() != Some(&first) {
            self.add_pages(first, last);
        }
    }

    fn add_pages(&mut self, first: u32, last: u32) {
        for page in [first, last] {
            if !self.pages.contains(&page) {
                self.pages.push(page);
            }
        }
    }

    /// Decodes along the likely path.
    pub(super) fn decode(&mut self, eip: u32, profile: Profile<'_>, items: &mut Vec<Item>) {
        items.clear();
        let mut at = eip;
        while items.len() < self.max {
            let insn = match self.next(at) {
                Ok(insn) => insn,
                Err(stop) => {
                    let facts = Facts { reads: 0, writes: false, kills: 0, barrier: true };
                    items.push(Item { insn: Err(stop), ..Item::new(at, facts) });
                    break;
                }
            };
            let form = insn.form();
            let facts = if self.quick && !self.verified {
                // All flags are needed.
                Facts::without_liveness(&insn)
            } else {
                liveness::facts(&insn)
            };
            let known =
                |target: u32| items.iter().any(|item: &Item| item.insn.is_ok_and(|insn| insn.eip == target));
            let follow = self.follows(&insn, items.len()) && !known(insn.imm);
            // A loop to the block's start is unrolled: as often as a whole round still fits.
            let round = || items.iter().rev().take_while(|item| item.eip != eip).count() + 2;
            let again = form.flow == Flow::Branch
                && form.condition.is_some()
                && insn.imm == eip
                && !self.step
                && !self.quick
                && !self.verified
                && !insn.opsize16
                && items.len() + 1 + round() < self.max;
            let follow = follow || again;
            // Behind such a branch, the block would be long for nothing.
            let rare = form.flow == Flow::Branch
                && !follow
                && profile.is_some_and(|is_rare| is_rare(insn.next_eip()));
            let writes_code = self.verified && facts.barrier;
            items.push(Item { insn: Ok(insn), followed: follow, ..Item::new(at, facts) });
            if self.ends(&insn, follow) || writes_code || rare {
                break;
            }
            at = if follow { insn.imm } else { insn.next_eip() };
        }
    }

    /// Whether the block goes on at the target of a jump or call, with so many instructions before it, if it does not have the
    /// target already.
    pub(super) fn follows(&self, insn: &Insn, before: usize) -> bool {
        let form = insn.form();
        let may = match form.flow {
            Flow::Jump => true,
            Flow::Call => !self.quick && before < INLINE_UNTIL,
            _ => false,
        };
        may && insn.is_direct()
            && !self.step
            && !self.verified
            && !insn.opsize16
            && form.privilege == Privilege::User
            && before + 1 < self.max
            && insn.imm != insn.eip
    }

    /// Whether the block ends with an instruction, whose jump it may follow.
    pub(super) fn ends(&self, insn: &Insn, followed: bool) -> bool {
        let form = insn.form();
        // What is behind a branch may never run, so it is not worth a quick translation.
        let goes_on = match form.flow {
            Flow::Next => true,
            Flow::Branch => !self.quick,
            _ => followed,
        };
        !goes_on || form.privilege != Privilege::User || matches!(form.status, Status::Todo(_))
    }

    /// Finds the flags needed behind each instruction.
    pub(super) fn mark_live(&mut self, items: &mut [Item]) {
        if self.step || self.verified || self.quick {
            return;
        }
        let mut live = match items.last().map(|item| item.insn) {
            Some(Ok(insn)) => match insn.form().flow {
                Flow::Next | Flow::Branch => self.lookahead(insn.next_eip()),
                Flow::Jump | Flow::Call if insn.is_direct() => self.lookahead(insn.imm),
                _ => flag::STATUS,
            },
            _ => flag::STATUS,
        };
        for item in items.iter_mut().rev() {
            item.ahead = live;
            if let Ok(insn) = item.insn
                && insn.form().flow == Flow::Branch
            {
                live |= self.lookahead(item.exit(&insn));
            }
            item.after = live;
            live = liveness::before(&item.facts, live);
        }
    }

    /// Flags needed at `eip`; its pages become those of the block, which depends on them from now on.
    fn lookahead(&mut self, eip: u32) -> u8 {
        let mut at = eip;
        let mut read = Vec::new();
        let needed = liveness::lookahead(|| {
            let insn = self.fetch(at).ok()?;
            at = insn.next_eip();
            read.push(insn);
            Some(insn)
        });
        if needed == flag::STATUS {
            return needed;
        }
        let fresh = read.iter().any(|insn| {
            [insn.eip, insn.next_eip().wrapping_sub(1)]
                .iter()
                .any(|addr| self.memory.page_byte(*addr) & (page::VERIFY | page::SHARED) != 0)
        });
        if fresh {
            return flag::STATUS;
        }
        for insn in &read {
            self.note_pages(insn);
        }
        needed
    }

    /// Whether an access is by a null selector, or a write by CS.
    pub(super) fn may_not_access(&self, insn: &Insn) -> bool {
        if self.mode.null & 0b1111 == 0
            && insn.mem.is_none_or(|mem| !matches!(mem.seg, Seg::Fs | Seg::Gs))
            && insn.segment.is_none()
        {
            return false;
        }
        let null = |seg: Seg| seg != Seg::None && self.mode.null & 1 << seg as u8 != 0;
        insn.form().operands.iter().any(|operand| {
            if matches!(operand.access, Access::Address) {
                return false;
            }
            let refused = |seg: Seg| null(seg) || (seg == Seg::Cs && operand.access.writes());
            match operand.code {
                code if code.may_be_memory() => {
                    operand.access != Access::Shown && insn.mem.is_some_and(|mem| refused(mem.seg))
                }
                Code::X | Code::XEdi => refused(insn.segment.unwrap_or(Seg::Ds)),
                Code::Y => null(Seg::Es),
                _ => false,
            }
        })
    }

    /// The memory operand, if it may run over the end of a segment which may have a base, and the instruction's body does not look:
    /// as it has to where a register moves the operand, or another access comes first.
    #[inline(always)]
    pub(super) fn open_operand(&self, insn: &Insn) -> Option<&'static Operand> {
        let mem = insn.mem.filter(|mem| self.segment(mem.seg) != Seg::None)?;
        Job::open_operand_of(insn, &mem)
    }

    #[inline(never)]
    fn open_operand_of(insn: &Insn, mem: &Mem) -> Option<&'static Operand> {
        let form = insn.form();
        let in_body = form.after_pop || form.also.iter().any(|also| also.place == Implicit::BitString);
        if insn.addr16 || form.privilege != Privilege::User || in_body {
            return None;
        }
        let accessed = |operand: &&Operand| {
            operand.code.may_be_memory() && !matches!(operand.access, Access::Address | Access::Shown)
        };
        let operand = form.operands.iter().find(accessed)?;
        let bytes = operand_bytes(operand.size, insn.opsize16);
        let is_inside = mem.base == NO_REG && mem.index == NO_REG && mem.disp <= bytes.wrapping_neg();
        (!is_inside).then_some(operand)
    }

    /// Whether CS, DS, ES and SS have no base.
    pub(super) fn is_flat(&self) -> bool {
        !self.mode.based
    }

    /// The segment whose base has to be added: none in a flat one.
    pub(super) fn segment(&self, seg: Seg) -> Seg {
        if !self.mode.based && !matches!(seg, Seg::Fs | Seg::Gs) { Seg::None } else { seg }
    }
}
