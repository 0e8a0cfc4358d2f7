//! Single bits: bodies of `opcodes/bit.toml`.

use crate::cpu::{Exec, Fault, Pending, Word};
use crate::memory::access::GuestAtomic;

/// What becomes of the bit that was looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Set,
    Reset,
    Complement,
}

impl Change {
    #[inline(always)]
    fn apply<W: Word>(self, a: W, bit: u32) -> W {
        let mask = 1u64 << bit;
        W::low(match self {
            Change::Set => a.zext() | mask,
            Change::Reset => a.zext() & !mask,
            Change::Complement => a.zext() ^ mask,
        })
    }
}

/// The bit number within an operand.
#[inline(always)]
fn within<W: Word>(index: u32) -> u32 {
    index % W::BITS
}

#[inline(always)]
fn is_set<W: Word>(a: W, bit: u32) -> bool {
    a.zext() >> bit & 1 != 0
}

#[inline(always)]
fn tested<W: Word>(a: W, index: u32, change: Change, f: &mut Pending) -> W {
    let bit = within::<W>(index);
    f.set_carry(is_set(a, bit));
    change.apply(a, bit)
}

/// Copies a bit of a register to CF. SDM Vol. 2A, "BT".
#[inline(always)]
pub fn bt<W: Word>(a: W, index: W, f: &mut Pending) {
    f.set_carry(is_set(a, within::<W>(index.u32())));
}

/// Copies a bit, given by an immediate, to CF. SDM Vol. 2A, "BT".
#[inline(always)]
pub fn bt_imm<W: Word>(a: W, index: u8, f: &mut Pending) {
    f.set_carry(is_set(a, within::<W>(u32::from(index))));
}

/// Sets a bit of a register. SDM Vol. 2A, "BTS".
#[inline(always)]
pub fn bts<W: Word>(a: W, index: W, f: &mut Pending) -> W {
    tested(a, index.u32(), Change::Set, f)
}

/// Sets a bit that an immediate gives. SDM Vol. 2A, "BTS".
#[inline(always)]
pub fn bts_imm<W: Word>(a: W, index: u8, f: &mut Pending) -> W {
    tested(a, u32::from(index), Change::Set, f)
}

/// Clears a bit of a register. SDM Vol. 2A, "BTR".
#[inline(always)]
pub fn btr<W: Word>(a: W, index: W, f: &mut Pending) -> W {
    tested(a, index.u32(), Change::Reset, f)
}

/// Clears a bit that an immediate gives. SDM Vol. 2A, "BTR".
#[inline(always)]
pub fn btr_imm<W: Word>(a: W, index: u8, f: &mut Pending) -> W {
    tested(a, u32::from(index), Change::Reset, f)
}

/// Complements a bit of a register. SDM Vol. 2A, "BTC".
#[inline(always)]
pub fn btc<W: Word>(a: W, index: W, f: &mut Pending) -> W {
    tested(a, index.u32(), Change::Complement, f)
}

/// Complements a bit that an immediate gives. SDM Vol. 2A, "BTC".
#[inline(always)]
pub fn btc_imm<W: Word>(a: W, index: u8, f: &mut Pending) -> W {
    tested(a, u32::from(index), Change::Complement, f)
}

/// Copies a bit of the string at `address` to CF. SDM Vol. 2A, "BT".
pub fn bt_string<W: Word + GuestAtomic>(x: Exec, address: u32, index: W) -> Result<(), Fault> {
    let word: W = x.load(word_address(x, address, index)?)?;
    let mut f = x.flags();
    f.set_carry(is_set(word, within::<W>(index.u32())));
    x.set_flags(f);
    Ok(())
}

/// Sets a bit of the string at `address`. SDM Vol. 2A, "BTS".
pub fn bts_string<W: Word + GuestAtomic>(x: Exec, address: u32, index: W) -> Result<(), Fault> {
    change_string(x, address, index, Change::Set)
}

/// Clears a bit of the string at `address`. SDM Vol. 2A, "BTR".
pub fn btr_string<W: Word + GuestAtomic>(x: Exec, address: u32, index: W) -> Result<(), Fault> {
    change_string(x, address, index, Change::Reset)
}

/// Complements a bit of the string at `address`. SDM Vol. 2A, "BTC".
pub fn btc_string<W: Word + GuestAtomic>(x: Exec, address: u32, index: W) -> Result<(), Fault> {
    change_string(x, address, index, Change::Complement)
}

fn change_string<W: Word + GuestAtomic>(
    x: Exec,
    address: u32,
    index: W,
    change: Change,
) -> Result<(), Fault> {
    let address = word_address(x, address, index)?;
    let bit = within::<W>(index.u32());
    let was_set = if x.locked() {
        x.update_locked(address, |word: W| Ok((change.apply(word, bit), is_set(word, bit))))?
    } else {
        // One read-modify-write: where it faults, it is reported as a write.
        x.probe_write(address, W::BYTES)?;
        let word: W = x.load(address)?;
        x.store(address, change.apply(word, bit))?;
        is_set(word, bit)
    };
    let mut f = x.flags();
    f.set_carry(was_set);
    x.set_flags(f);
    Ok(())
}

/// Where the operand is that holds bit `index`, a signed offset, of the string at the linear address `start`.
#[inline(always)]
fn word_address<W: Word>(x: Exec, start: u32, index: W) -> Result<u32, Fault> {
    let words = index.sext().div_euclid(i64::from(W::BITS)) as u32;
    let address = x.behind(start, words.wrapping_mul(W::BYTES));
    x.in_segment::<W>(address)
}

/// Finds the lowest set bit of `b`; without one, `a` stays. Z tells which. SDM Vol. 2A, "BSF".
#[inline(always)]
pub fn bsf<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    f.set_zero(b.is_zero());
    if b.is_zero() { a } else { W::low(u64::from(b.zext().trailing_zeros())) }
}

/// Finds the highest set bit of `b`; without one, `a` stays. Z tells which. SDM Vol. 2A, "BSR".
#[inline(always)]
pub fn bsr<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    f.set_zero(b.is_zero());
    b.zext().checked_ilog2().map_or(a, |highest| W::low(u64::from(highest)))
}
