//! The x87 FPU: its canonical state and its instructions on that state.
//!
//! [`Fpu`] is what FSAVE, FXSAVE, signal frames and the debugger see. Its methods are the instructions less their
//! memory accesses: `insn` computes through [`soft`], `image` reads and writes the environment and state images.
//!
//! A waiting instruction first asks [`Fpu::pending`] and raises `#MF` if it says so; the non-waiting ones (FNINIT,
//! FNCLEX, FNSTCW, FNSTSW, FNSTENV, FNSAVE) and FXSAVE do not. None of the methods checks by itself.

mod image;
mod insn;
#[cfg(trap_memory)]
pub(crate) mod live;
pub(crate) mod notes;
pub mod soft;
pub mod way;

pub use image::{ENV_16, ENV_32, FXSAVE_X87, SAVE_16, SAVE_32, Width};
pub use insn::{Operand, Store};

use soft::{Class, F80, flag, quick};

/// What computes for the x87. Both do the same to the last bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Software, on any host.
    Soft,
    /// The host's FPU, wherever all exceptions are masked; else software.
    Live,
}

impl Backend {
    /// Whether this host can do it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Soft => true,
            #[cfg(trap_memory)]
            Self::Live => live::is_possible(),
            #[cfg(not(trap_memory))]
            Self::Live => false,
        }
    }
}

impl Default for Backend {
    /// The faster one of those that are available.
    fn default() -> Self {
        if Self::Live.is_available() { Self::Live } else { Self::Soft }
    }
}

/// The control word after FNINIT: everything masked, 64 bits, to nearest.
pub const CONTROL_INIT: u16 = 0x037f;
/// The bits of the control word that can be written; bit 6 always reads 1.
const CONTROL_WRITABLE: u16 = 0x1f3f;
/// Bit 6 of the control word, reserved.
const CONTROL_FIXED: u16 = 0x0040;
/// The bits of the status word kept as written in [`Fpu::status`].
const STATUS_STICKY: u16 = (flag::EXCEPTIONS | flag::SF | flag::CODES) & !STATUS_APART;
/// Those that are bytes of their own, as each operation writes them.
const STATUS_APART: u16 = flag::PE | flag::C1;

/// Where the last non-control instruction was and what it accessed (SDM Vol. 1, 8.1.8 and 8.1.9).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    /// Offset of the instruction, prefixes included.
    pub fip: u32,
    /// Offset of its memory operand.
    pub fdp: u32,
    /// Its code segment selector.
    pub fcs: u16,
    /// The segment selector of its memory operand.
    pub fds: u16,
    /// The low three bits of its first opcode byte and its second one: 11 bits.
    pub fop: u16,
}

/// The number of a physical register. A type that has no other values, so that nobody looks for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Number {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
}

impl Number {
    /// Counted modulo 8.
    #[inline(always)]
    const fn of(n: usize) -> Number {
        match n & 7 {
            0 => Number::R0,
            1 => Number::R1,
            2 => Number::R2,
            3 => Number::R3,
            4 => Number::R4,
            5 => Number::R5,
            6 => Number::R6,
            _ => Number::R7,
        }
    }
}

/// What is known of a physical register.
#[derive(Clone, Copy, Debug)]
struct Tag(u8);

impl Tag {
    /// Empty.
    const EMPTY: Tag = Tag(0);
    /// Not empty.
    const FULL: Tag = Tag(1);
    /// Not empty, and [`F80::is_normal`]: what the short ways ask for, of two registers at once.
    const NORMAL: Tag = Tag(0x81);

    /// The tag of a register that has a value.
    #[inline(always)]
    const fn of(value: F80) -> Tag {
        if value.is_normal() { Tag::NORMAL } else { Tag::FULL }
    }

    /// Whether it is [`Tag::EMPTY`].
    #[inline(always)]
    const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A physical register less its significand, where it is kept.
#[repr(C, align(4))]
#[derive(Clone, Copy, Debug)]
struct Head {
    /// A [`Word`].
    bytes: [u8; 4],
}

impl Head {
    /// Where a word is kept.
    #[inline(always)]
    const fn of(word: Word) -> Head {
        Head { bytes: word.0.to_le_bytes() }
    }

    /// The whole of it.
    #[inline(always)]
    const fn word(self) -> Word {
        Word(u32::from_le_bytes(self.bytes))
    }

    /// What is known of the register. Read by itself, for it may have been written so ([`Head::set_tag`]): the processor waits a
    /// dozen cycles for a word that was written in parts.
    #[inline(always)]
    const fn tag(&self) -> Tag {
        Tag(self.bytes[3])
    }

    /// Changes what is known of the register, and nothing else.
    #[inline(always)]
    const fn set_tag(&mut self, tag: Tag) {
        self.bytes[3] = tag.0;
    }
}

/// The sign and exponent of a register in the lower half, its tag in the highest byte.
#[derive(Clone, Copy, Debug)]
struct Word(u32);

impl Word {
    /// Puts it together.
    #[inline(always)]
    const fn new(se: u16, tag: Tag) -> Word {
        Word(se as u32 | (tag.0 as u32) << 24)
    }

    /// Sign and exponent, as [`F80::se`].
    #[inline(always)]
    const fn se(self) -> u16 {
        self.0 as u16
    }

    /// What is known of the register.
    #[inline(always)]
    const fn tag(self) -> Tag {
        Tag((self.0 >> 24) as u8)
    }

    /// Whether the register is empty.
    #[inline(always)]
    const fn is_empty(self) -> bool {
        self.tag().is_empty()
    }

    /// Whether the register is [`Tag::NORMAL`].
    #[inline(always)]
    const fn is_normal(self) -> bool {
        self.are_normal(self)
    }

    /// Whether both are [`Tag::NORMAL`].
    #[inline(always)]
    const fn are_normal(self, other: Word) -> bool {
        (self.0 & other.0).cast_signed() < 0
    }
}

/// All of a physical register.
#[derive(Clone, Copy, Debug)]
struct Register {
    /// The significand.
    sig: u64,
    /// The rest.
    word: Word,
}

impl Register {
    /// A value, and what is known of it.
    #[inline(always)]
    const fn new(value: F80, tag: Tag) -> Register {
        Register { sig: value.sig, word: Word::new(value.se, tag) }
    }

    /// The value, whatever the tag says.
    #[inline(always)]
    const fn value(self) -> F80 {
        F80::new(self.word.se(), self.sig)
    }
}

/// The canonical state of the x87 FPU.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fpu {
    /// The significands of the physical registers R0–R7: the MMX registers.
    sigs: [u64; 8],
    /// The rest of them.
    heads: [Head; 8],
    /// Never with reserved bits other than bit 6, which is set.
    control: u16,
    /// [`STATUS_STICKY`], and ES and B, which follow from the exceptions and their masks.
    status: u16,
    /// C1: of a result, that it was rounded away from zero.
    away: bool,
    /// The register that ST(0) is. At an odd offset, or the compiler may load more than what was stored last, which costs the
    /// processor a dozen cycles.
    top: Number,
    /// Whether the short ways may be taken: the control word is one that they know, and the state is here and not in the host's FPU.
    /// Nothing is pending then.
    short: bool,
    /// PE, if any bit is set: what was rounded off of all results since.
    lost: u64,
    /// The last instruction's pointers, kept by whoever runs instructions.
    pub pointers: Pointers,
}

impl PartialEq for Fpu {
    /// Whether all that can be seen is the same.
    fn eq(&self, other: &Self) -> bool {
        let words = |fpu: &Self| (fpu.control, fpu.status(), fpu.tags(), fpu.pointers);
        let exponents = |fpu: &Self| fpu.heads.map(|head| head.word().se());
        self.sigs == other.sigs && exponents(self) == exponents(other) && words(self) == words(other)
    }
}

impl Eq for Fpu {}

impl Default for Fpu {
    /// The state after FNINIT, with the registers 0.
    fn default() -> Self {
        Self {
            sigs: [0; 8],
            heads: [Head::of(Word::new(0, Tag::EMPTY)); 8],
            control: CONTROL_INIT,
            status: 0,
            away: false,
            short: quick::is_plain(CONTROL_INIT),
            top: Number::R0,
            lost: 0,
            pointers: Pointers::default(),
        }
    }
}

impl Fpu {
    /// Initializes control, status, tags and pointers; the registers keep their bits. SDM Vol. 2A, "FINIT/FNINIT".
    pub fn fninit(&mut self) {
        *self = Self { sigs: self.sigs, heads: self.heads, ..Self::default() };
        self.mark_all(Tag::EMPTY);
    }

    /// Clears the exceptions, SF, ES and B; the condition codes stay. SDM Vol. 2A, "FCLEX/FNCLEX".
    pub const fn fnclex(&mut self) {
        self.status &= flag::CODES;
        self.lost = 0;
    }

    /// Whether an unmasked exception waits, so that a waiting instruction raises `#MF`.
    #[inline]
    #[must_use]
    pub const fn pending(&self) -> bool {
        self.status & flag::ES != 0
    }

    /// Offset of what copies of handlers may leave out: what [`Fpu::is_short`] gives.
    #[cfg_attr(not(trap_memory), allow(dead_code))] // nothing is copied then
    pub(crate) const SHORT: usize = std::mem::offset_of!(Fpu, short);

    /// Offset of the top, one byte.
    #[cfg_attr(not(trap_memory), allow(dead_code))] // nothing is copied then
    pub(crate) const TOP: usize = std::mem::offset_of!(Fpu, top);

    /// Whether the [`Short`](way::Short) ways of instructions may be taken.
    #[inline(always)]
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.short
    }

    /// The control word, as FNSTCW stores it.
    #[inline]
    #[must_use]
    pub const fn control(&self) -> u16 {
        self.control
    }

    /// Loads the control word. SDM Vol. 2A, "FLDCW". Reserved bits are dropped; an exception whose flag is set and
    /// whose mask is cleared becomes pending.
    #[inline]
    pub const fn set_control(&mut self, control: u16) {
        self.control = control & CONTROL_WRITABLE | CONTROL_FIXED;
        self.short = quick::is_plain(control);
        self.summarize();
    }

    /// The status word, as FNSTSW stores it.
    #[inline]
    #[must_use]
    pub const fn status(&self) -> u16 {
        self.status
            | ((self.lost != 0) as u16) << flag::PE.trailing_zeros()
            | (self.away as u16) << flag::C1.trailing_zeros()
            | (self.top() as u16) << 11
    }

    /// Replaces the status word, TOP included; ES and B are recomputed from the exceptions and their masks.
    #[inline]
    pub const fn set_status(&mut self, status: u16) {
        self.status = status & STATUS_STICKY;
        self.lost = (status & flag::PE) as u64;
        self.away = status & flag::C1 != 0;
        self.top = Number::of((status >> 11) as usize);
        self.summarize();
    }

    /// The physical register that ST(0) is, 0 to 7.
    #[inline]
    #[must_use]
    pub const fn top(&self) -> u8 {
        self.top as u8
    }

    /// The abridged tag word: bit n set when Rn is not empty.
    #[inline]
    #[must_use]
    pub fn tags(&self) -> u8 {
        (0..8).fold(0, |tags, n| tags | u8::from(!self.heads[n].tag().is_empty()) << n)
    }

    /// Replaces the abridged tag word.
    #[inline]
    pub fn set_tags(&mut self, tags: u8) {
        for n in 0..8 {
            let is_full = tags >> n & 1 != 0;
            let tag = if is_full { Tag::of(self.physical(n)) } else { Tag::EMPTY };
            self.heads[usize::from(n)].set_tag(tag);
        }
    }

    /// The full tag word: two bits a physical register; 00 valid, 01 zero, 10 special, 11 empty
    /// (SDM Vol. 1, 8.1.7).
    #[must_use]
    pub fn tag_word(&self) -> u16 {
        (0..8u8).fold(0, |word, n| {
            let tag = if self.heads[usize::from(n)].tag().is_empty() {
                3
            } else {
                match self.physical(n).class() {
                    Class::Normal => 0,
                    Class::Zero => 1,
                    _ => 2,
                }
            };
            word | tag << (2 * n)
        })
    }

    /// Replaces the tags from a full tag word, of which only "empty" or not is taken, as on silicon.
    pub fn set_tag_word(&mut self, word: u16) {
        self.set_tags((0..8).fold(0, |tags, n| tags | u8::from(word >> (2 * n) & 3 != 3) << n));
    }

    /// The physical register Rn, whatever its tag says; `n` counts modulo 8.
    #[inline]
    #[must_use]
    pub const fn physical(&self, n: u8) -> F80 {
        self.value(Number::of(n as usize))
    }

    /// Replaces the physical register Rn, which stays empty if it is; `n` counts modulo 8.
    #[inline]
    pub const fn set_physical(&mut self, n: u8, value: F80) {
        let n = Number::of(n as usize);
        let tag = if self.tag(n).is_empty() { Tag::EMPTY } else { Tag::of(value) };
        self.replace(n, value, tag);
    }

    /// ST(`i`), whatever its tag says; `i` counts modulo 8.
    #[inline]
    #[must_use]
    pub const fn st(&self, i: u8) -> F80 {
        self.value(self.number(i))
    }

    /// Replaces ST(`i`) and marks it as not empty.
    #[inline]
    pub const fn set_st(&mut self, i: u8, value: F80) {
        self.replace(self.number(i), value, Tag::of(value));
    }

    /// Whether ST(`i`) is empty.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self, i: u8) -> bool {
        self.tag(self.number(i)).is_empty()
    }

    /// The physical register that ST(`i`) is; `i` counts modulo 8.
    #[inline(always)]
    const fn number(&self, i: u8) -> Number {
        if i == 0 { self.top } else { Number::of((self.top as usize).wrapping_add(i as usize)) }
    }

    /// All but the significand of a register.
    #[inline(always)]
    const fn word(&self, n: Number) -> Word {
        self.heads[n as usize].word()
    }

    /// What is known of a register.
    #[inline(always)]
    const fn tag(&self, n: Number) -> Tag {
        self.heads[n as usize].tag()
    }

    /// The value of a register, whatever its tag says.
    #[inline(always)]
    const fn value(&self, n: Number) -> F80 {
        self.register(n).value()
    }

    /// Replaces a register by a value of which `tag` is known.
    #[inline(always)]
    const fn replace(&mut self, n: Number, value: F80, tag: Tag) {
        self.set_register(n, Register::new(value, tag));
    }

    /// All of a register.
    #[inline(always)]
    const fn register(&self, n: Number) -> Register {
        Register { sig: self.sigs[n as usize], word: self.word(n) }
    }

    /// Replaces all of a register.
    #[inline(always)]
    const fn set_register(&mut self, n: Number, register: Register) {
        self.sigs[n as usize] = register.sig;
        self.heads[n as usize] = Head::of(register.word);
    }

    /// Marks a register as empty.
    #[inline(always)]
    const fn empty(&mut self, n: Number) {
        self.heads[n as usize].set_tag(Tag::EMPTY);
    }

    /// Marks all registers.
    #[inline]
    const fn mark_all(&mut self, tag: Tag) {
        let mut n = 0;
        while n < self.heads.len() {
            self.heads[n].set_tag(tag);
            n += 1;
        }
    }

    /// The MMX register `n`, the significand of Rn; `n` counts modulo 8.
    #[inline]
    #[must_use]
    pub const fn mm(&self, n: u8) -> u64 {
        self.sigs[(n & 7) as usize]
    }

    /// Replaces the MMX register `n` and sets the sign and exponent of Rn to ones (SDM Vol. 1, 9.5.1).
    #[inline]
    pub const fn set_mm(&mut self, n: u8, value: u64) {
        let n = Number::of(n as usize);
        let tag = if self.tag(n).is_empty() { Tag::EMPTY } else { Tag::FULL };
        self.replace(n, F80::new(0xffff, value), tag);
    }

    /// Makes the state what every MMX instruction but EMMS leaves: TOP 0 and no register empty
    /// (SDM Vol. 1, 9.5.1).
    #[inline]
    pub const fn enter_mmx(&mut self) {
        self.top = Number::R0;
        self.mark_all(Tag::FULL);
    }

    /// Marks all registers as empty and sets TOP to 0. SDM Vol. 2A, "EMMS".
    #[inline]
    pub const fn emms(&mut self) {
        self.top = Number::R0;
        self.mark_all(Tag::EMPTY);
    }

    /// Recomputes ES and B.
    #[inline]
    const fn summarize(&mut self) {
        self.status &= STATUS_STICKY;
        if self.status() & !self.control & flag::EXCEPTIONS != 0 {
            self.status |= flag::ES | flag::B;
        }
    }
}
