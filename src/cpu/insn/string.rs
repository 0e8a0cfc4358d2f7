//! Strings: MOVS, CMPS, SCAS, LODS, STOS, alone and repeated. Rows: `opcodes/string.toml`.
//!
//! A repeated instruction handles one element by ordinary accesses, which may fault, then as many more in bulk as
//! lie in the pages that element has touched. ESI, EDI and ECX are brought up to date before each access, so a fault
//! leaves them as silicon does and the instruction can be restarted.

use crate::cpu::exec::{Rep, StringOp};
use crate::cpu::{Exec, Fault, Seg, Word, reg};
use crate::memory::access::GuestValue;

const PAGE_BYTES: u32 = 4096;
const ECX: u8 = reg::ECX as u8;
const ESI: u8 = reg::ESI as u8;
const EDI: u8 = reg::EDI as u8;

/// A string instruction at work on elements of `bytes` bytes.
#[derive(Clone, Copy)]
struct Walk {
    x: Exec,
    op: StringOp,
    bytes: u32,
    down: bool,
}

impl Walk {
    #[inline(always)]
    fn new<W: Word>(x: Exec) -> Walk {
        Walk { x, op: x.string(), bytes: W::BYTES, down: x.down() }
    }

    /// SI, DI, CX or ESI, EDI, ECX.
    #[inline(always)]
    fn register(self, number: u8) -> u32 {
        if self.op.addr16 { u32::from(self.x.reg::<u16>(number)) } else { self.x.reg(number) }
    }

    #[inline(always)]
    fn set_register(self, number: u8, value: u32) {
        if self.op.addr16 { self.x.set_reg(number, value as u16) } else { self.x.set_reg(number, value) }
    }

    /// The segment that ESI or EDI points into.
    #[inline(always)]
    fn segment(self, number: u8) -> u8 {
        if number == ESI { self.op.source } else { Seg::Es as u8 }
    }

    /// Linear address of the next element that ESI or EDI points at, if it is within its segment.
    #[inline(always)]
    fn next(self, number: u8) -> Result<u32, Fault> {
        self.x.within(self.segment(number), self.register(number), self.bytes)
    }

    /// The same, if a run of elements is known to be within it.
    #[inline(always)]
    fn linear(self, number: u8) -> u32 {
        self.register(number).wrapping_add(self.x.cpu().segment_bases[usize::from(self.segment(number) & 7)])
    }

    /// Moves an index register by `elements`.
    #[inline(always)]
    fn advance(self, number: u8, elements: u32) {
        let distance = elements.wrapping_mul(self.bytes);
        let index = self.register(number);
        let index = if self.down { index.wrapping_sub(distance) } else { index.wrapping_add(distance) };
        self.set_register(number, index);
    }

    /// Elements that the count still asks for.
    #[inline(always)]
    fn left(self) -> u32 {
        self.register(ECX)
    }

    /// Counts `elements` as done.
    #[inline(always)]
    fn done(self, elements: u32) {
        self.set_register(ECX, self.left().wrapping_sub(elements));
    }

    /// Elements from the next one on that lie wholly in the page which the element before it ended in, and within the segment.
    /// None with 16-bit addresses, which may wrap around.
    #[inline(always)]
    fn room(self, number: u8) -> u32 {
        if self.op.addr16 {
            return 0;
        }
        let next = self.linear(number);
        // Going up, the element before ended just below `next`; going down, it started just above the next one.
        let edge = if self.down { next.wrapping_add(self.bytes) } else { next };
        let in_page = match edge % PAGE_BYTES {
            0 => 0,
            offset if self.down => offset / self.bytes,
            offset => (PAGE_BYTES - offset) / self.bytes,
        };
        // Aligned ones never run over the segment's end.
        match self.register(number) {
            offset if offset % self.bytes == 0 => in_page,
            offset if self.down => in_page.min(offset / self.bytes + 1),
            offset => in_page.min(offset.wrapping_neg() / self.bytes),
        }
    }

    /// Lowest address of `elements` elements of which the first to be handled is at `next`.
    #[inline(always)]
    fn lowest(self, next: u32, elements: u32) -> u32 {
        if self.down { next.wrapping_sub((elements - 1) * self.bytes) } else { next }
    }
}

/// Copies a string element, or ECX of them. SDM Vol. 2B, "MOVS/MOVSB/MOVSW/MOVSD/MOVSQ".
#[inline(always)]
pub fn movs<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    x.apart(move_string::<W>)
}

/// MOVS, apart from its handler.
#[inline(always)]
fn move_string<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let walk = Walk::new::<W>(x);
    if walk.op.rep == Rep::None {
        return move_element::<W>(walk);
    }
    while walk.left() != 0 {
        move_element::<W>(walk)?;
        walk.done(1);
        let elements = walk.left().min(walk.room(ESI)).min(walk.room(EDI));
        if elements > 1 {
            let elements = move_elements(walk, elements);
            walk.advance(ESI, elements);
            walk.advance(EDI, elements);
            walk.done(elements);
        }
    }
    Ok(())
}

#[inline(always)]
fn move_element<W: Word + GuestValue>(walk: Walk) -> Result<(), Fault> {
    let value: W = walk.x.load(walk.next(ESI)?)?;
    walk.x.store(walk.next(EDI)?, value)?;
    walk.advance(ESI, 1);
    walk.advance(EDI, 1);
    Ok(())
}

/// Copies up to `elements` elements within the current pages as one after the other would be; gives how many.
fn move_elements(walk: Walk, elements: u32) -> u32 {
    let (source, destination, len) = (walk.linear(ESI), walk.linear(EDI), elements * walk.bytes);
    let above = destination.wrapping_sub(source);
    let below = source.wrapping_sub(destination);
    if walk.down {
        // As many as do not touch each other; the next round takes the rest.
        let elements = elements.min(above.min(below) / walk.bytes);
        if elements > 0 {
            let (source, destination) = (walk.lowest(source, elements), walk.lowest(destination, elements));
            walk.x.copy_within_pages(destination, source, elements * walk.bytes);
        }
        return elements;
    }
    if above >= len {
        walk.x.copy_within_pages(destination, source, len);
        return elements;
    }
    if above < walk.bytes {
        // Each element overlaps the one it is copied from.
        return 0;
    }
    // The destination starts inside the source: the bytes between the two repeat. Each copy doubles what repeats.
    let mut copied = 0;
    while copied < len {
        let part = (len - copied).min(copied + above);
        walk.x.copy_within_pages(destination.wrapping_add(copied), source, part);
        copied += part;
    }
    elements
}

/// Stores AL, AX or EAX in a string element, or in ECX of them. SDM Vol. 2B, "STOS/STOSB/STOSW/STOSD/STOSQ".
#[inline(always)]
pub fn stos<W: Word + GuestValue>(x: Exec, value: W) -> Result<(), Fault> {
    x.apart(move |x| store_string::<W>(x, value))
}

/// STOS, apart from its handler.
#[inline(always)]
fn store_string<W: Word + GuestValue>(x: Exec, value: W) -> Result<(), Fault> {
    let walk = Walk::new::<W>(x);
    if walk.op.rep == Rep::None {
        x.store(walk.next(EDI)?, value)?;
        walk.advance(EDI, 1);
        return Ok(());
    }
    while walk.left() != 0 {
        x.store(walk.next(EDI)?, value)?;
        walk.advance(EDI, 1);
        walk.done(1);
        let elements = walk.left().min(walk.room(EDI));
        if elements > 0 {
            x.fill_within_page(walk.lowest(walk.linear(EDI), elements), value, elements);
            walk.advance(EDI, elements);
            walk.done(elements);
        }
    }
    Ok(())
}

/// Loads a string element, or the last of ECX of them; `value` is what stays when there is none.
/// SDM Vol. 2A, "LODS/LODSB/LODSW/LODSD/LODSQ".
#[inline(always)]
pub fn lods<W: Word + GuestValue>(x: Exec, value: W) -> Result<W, Fault> {
    x.apart(move |x| load_string::<W>(x, value))
}

/// LODS, apart from its handler.
#[inline(always)]
fn load_string<W: Word + GuestValue>(x: Exec, mut value: W) -> Result<W, Fault> {
    let walk = Walk::new::<W>(x);
    if walk.op.rep == Rep::None {
        value = x.load(walk.next(ESI)?)?;
        walk.advance(ESI, 1);
        return Ok(value);
    }
    while walk.left() != 0 {
        value = x.load(walk.next(ESI)?)?;
        // The accumulator shows the elements loaded before a fault.
        x.set_reg(reg::EAX as u8, value);
        walk.advance(ESI, 1);
        walk.done(1);
        // All but the last element of the page would be overwritten.
        let skipped = walk.left().min(walk.room(ESI)).saturating_sub(1);
        walk.advance(ESI, skipped);
        walk.done(skipped);
    }
    Ok(value)
}

/// Compares string elements: once, while they are equal, or while they differ.
/// SDM Vol. 2A, "CMPS/CMPSB/CMPSW/CMPSD/CMPSQ".
///
/// The flags are those of the last comparison; they do not change when a later access faults, nor with ECX = 0.
#[inline(always)]
pub fn cmps<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    x.apart(compare_strings::<W>)
}

/// CMPS, apart from its handler.
#[inline(always)]
fn compare_strings<W: Word + GuestValue>(x: Exec) -> Result<(), Fault> {
    let walk = Walk::new::<W>(x);
    let stop_equal = match walk.op.rep {
        Rep::None => {
            let (left, right) = compare_element::<W>(walk)?;
            commit_compare(x, left, right);
            return Ok(());
        }
        Rep::Rep => false,
        Rep::Repne => true,
    };
    let mut last = None;
    while walk.left() != 0 {
        let (left, right) = compare_element::<W>(walk)?;
        walk.done(1);
        last = Some((left, right));
        if (left == right) == stop_equal {
            break;
        }
        let elements = walk.left().min(walk.room(ESI)).min(walk.room(EDI));
        if walk.down || elements < 2 {
            continue;
        }
        // The last element is left to the ordinary way, which knows its flags.
        let len = elements * walk.bytes;
        let stop = x.look_within_page(walk.linear(ESI), len, |left| {
            x.look_within_page(walk.linear(EDI), len, |right| {
                first(elements, |at| (element::<W>(left, at) == element::<W>(right, at)) == stop_equal)
            })
        });
        let skipped = stop.min(elements - 1);
        walk.advance(ESI, skipped);
        walk.advance(EDI, skipped);
        walk.done(skipped);
    }
    if let Some((left, right)) = last {
        commit_compare(x, left, right);
    }
    Ok(())
}

#[inline(always)]
fn compare_element<W: Word + GuestValue>(walk: Walk) -> Result<(W, W), Fault> {
    // In the order in which AMD's processors fault.
    let right: W = walk.x.load(walk.next(EDI)?)?;
    let left: W = walk.x.load(walk.next(ESI)?)?;
    walk.advance(ESI, 1);
    walk.advance(EDI, 1);
    Ok((left, right))
}

/// Compares AL, AX or EAX with string elements: once, while they are equal, or while they differ.
/// SDM Vol. 2B, "SCAS/SCASB/SCASW/SCASD". The flags are as [`cmps`] leaves them.
#[inline(always)]
pub fn scas<W: Word + GuestValue>(x: Exec, wanted: W) -> Result<(), Fault> {
    x.apart(move |x| scan_string::<W>(x, wanted))
}

/// SCAS, apart from its handler.
#[inline(always)]
fn scan_string<W: Word + GuestValue>(x: Exec, wanted: W) -> Result<(), Fault> {
    let walk = Walk::new::<W>(x);
    let stop_equal = match walk.op.rep {
        Rep::None => {
            let value: W = x.load(walk.next(EDI)?)?;
            walk.advance(EDI, 1);
            commit_compare(x, wanted, value);
            return Ok(());
        }
        Rep::Rep => false,
        Rep::Repne => true,
    };
    let mut last = None;
    while walk.left() != 0 {
        let value: W = x.load(walk.next(EDI)?)?;
        walk.advance(EDI, 1);
        walk.done(1);
        last = Some(value);
        if (value == wanted) == stop_equal {
            break;
        }
        let elements = walk.left().min(walk.room(EDI));
        if walk.down || elements < 2 {
            continue;
        }
        let stop = x.look_within_page(walk.linear(EDI), elements * walk.bytes, |bytes| {
            first(elements, |at| (element::<W>(bytes, at) == wanted) == stop_equal)
        });
        let skipped = stop.min(elements - 1);
        walk.advance(EDI, skipped);
        walk.done(skipped);
    }
    if let Some(value) = last {
        commit_compare(x, wanted, value);
    }
    Ok(())
}

#[inline(always)]
fn commit_compare<W: Word>(x: Exec, left: W, right: W) {
    let mut flags = x.flags();
    flags.compare(left, right);
    x.set_flags(flags);
}

/// Element `at` of a run of little-endian elements.
#[inline(always)]
fn element<W: Word>(bytes: &[u8], at: usize) -> W {
    let width = W::BYTES as usize;
    let mut value = [0; 8];
    if let Some(bytes) = bytes.get(at * width..(at + 1) * width) {
        value[..width].copy_from_slice(bytes);
    }
    W::low(u64::from_le_bytes(value))
}

/// The first of `elements` elements for which `stops` holds, or `elements`.
///
/// Looks at blocks without leaving them early, which lets the compiler use vectors.
#[inline(always)]
fn first(elements: u32, stops: impl Fn(usize) -> bool) -> u32 {
    const BLOCK: usize = 32;
    let elements = elements as usize;
    let mut start = 0;
    while start + BLOCK <= elements && !(start..start + BLOCK).fold(false, |any, at| any | stops(at)) {
        start += BLOCK;
    }
    (start..elements).find(|at| stops(*at)).unwrap_or(elements) as u32
}
