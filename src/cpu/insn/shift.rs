//! Shifts and rotates: bodies of `opcodes/shift.toml`, whose head says what the undefined flags become.

use crate::cpu::{Pending, Word};

/// The part of the count that counts, for every width. SDM Vol. 2B, "SAL/SAR/SHL/SHR".
#[inline(always)]
fn masked(count: u8) -> u32 {
    u32::from(count & 31)
}

/// Tells whether the two most significant bits differ: O of everything that goes right.
#[inline(always)]
fn top_bits_differ<W: Word>(a: W) -> bool {
    (a.zext() ^ a.zext() << 1) >> (W::BITS - 1) & 1 != 0
}

/// The flags of a shift: S Z P by the result, A set.
#[inline(always)]
fn shifted<W: Word>(result: W, carry: bool, overflow: bool, f: &mut Pending) -> W {
    f.result(result);
    f.set_carry_overflow(carry, overflow);
    f.set_aux(true);
    result
}

/// Shifts left. SDM Vol. 2B, "SAL/SAR/SHL/SHR".
#[inline(always)]
pub fn shl<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    let wide = a.zext() << count;
    let result = W::low(wide);
    // Behind the result, so that there is no branch where nobody wants the flags; likewise below.
    if count == 0 {
        return result;
    }
    let carry = wide >> W::BITS & 1 != 0;
    shifted(result, carry, carry != result.sign(), f)
}

/// Shifts right with zeros. SDM Vol. 2B, "SAL/SAR/SHL/SHR".
#[inline(always)]
pub fn shr<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    let result = W::low(a.zext() >> count);
    if count == 0 {
        return result;
    }
    shifted(result, a.zext() >> (count - 1) & 1 != 0, top_bits_differ(result), f)
}

/// Shifts right with the sign. SDM Vol. 2B, "SAL/SAR/SHL/SHR".
#[inline(always)]
pub fn sar<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    let result = W::low((a.sext() >> count) as u64);
    if count == 0 {
        return result;
    }
    shifted(result, a.sext() >> (count - 1) & 1 != 0, false, f)
}

/// Rotates left. SDM Vol. 2B, "RCL/RCR/ROL/ROR".
#[inline(always)]
pub fn rol<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    let result = rotated_left(a, count);
    if count == 0 {
        return result;
    }
    let carry = result.zext() & 1 != 0;
    f.set_carry_overflow(carry, carry != result.sign());
    result
}

/// Rotates right. SDM Vol. 2B, "RCL/RCR/ROL/ROR".
#[inline(always)]
pub fn ror<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    let result = rotated_left(a, W::BITS - count % W::BITS);
    if count == 0 {
        return result;
    }
    f.set_carry_overflow(result.sign(), top_bits_differ(result));
    result
}

/// `a` rotated left by up to 32 bits.
#[inline(always)]
fn rotated_left<W: Word>(a: W, count: u32) -> W {
    a.rotated_left(count)
}

/// Rotates left through carry. SDM Vol. 2B, "RCL/RCR/ROL/ROR".
#[inline(always)]
pub fn rcl<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    if count == 0 {
        return a;
    }
    let count = count % (W::BITS + 1);
    let joined = u64::from(f.carry()) << W::BITS | a.zext();
    let wide = joined << count | joined >> (W::BITS + 1 - count);
    let result = W::low(wide);
    let carry = wide >> W::BITS & 1 != 0;
    f.set_carry_overflow(carry, carry != result.sign());
    result
}

/// Rotates right through carry. SDM Vol. 2B, "RCL/RCR/ROL/ROR".
#[inline(always)]
pub fn rcr<W: Word>(a: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    if count == 0 {
        return a;
    }
    let count = count % (W::BITS + 1);
    let joined = u64::from(f.carry()) << W::BITS | a.zext();
    let wide = joined >> count | joined << (W::BITS + 1 - count);
    let result = W::low(wide);
    f.set_carry_overflow(wide >> W::BITS & 1 != 0, top_bits_differ(result));
    result
}

/// Shifts left, filling from `b`. SDM Vol. 2B, "SHLD".
#[inline(always)]
pub fn shld<W: Word>(a: W, b: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    if count == 0 {
        return a;
    }
    // Flags are those of `a` shifted on its own, also where nothing of it is left in the result.
    let wide = a.zext() << count;
    let carry = wide >> W::BITS & 1 != 0;
    let overflow = carry != W::low(wide).sign();
    let result = if count <= W::BITS {
        W::low(wide | b.zext() >> (W::BITS - count))
    } else {
        rotated_left(b, count - W::BITS)
    };
    shifted(result, carry, overflow, f)
}

/// Shifts right, filling from `b`. SDM Vol. 2B, "SHRD".
#[inline(always)]
pub fn shrd<W: Word>(a: W, b: W, count: u8, f: &mut Pending) -> W {
    let count = masked(count);
    if count == 0 {
        return a;
    }
    let result = if count <= W::BITS {
        W::low(a.zext() >> count | b.zext() << (W::BITS - count))
    } else {
        rotated_left(b, 32 - count)
    };
    shifted(result, a.zext() >> (count - 1) & 1 != 0, top_bits_differ(result), f)
}
