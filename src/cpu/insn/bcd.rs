//! Decimal adjustment: bodies of `opcodes/bcd.toml`.

use crate::cpu::{Fault, Pending};

/// What DAA adds and DAS subtracts, and whether the low and the high digit are adjusted.
#[inline(always)]
fn packed_adjustment(al: u8, f: &Pending) -> (u8, bool, bool) {
    let low = f.aux() || al & 15 > 9;
    let high = f.carry() || al > 0x99;
    (if low { 6 } else { 0 } + if high { 0x60 } else { 0 }, low, high)
}

/// Adjusts two packed digits after an addition. SDM Vol. 2A, "DAA".
#[inline(always)]
pub fn daa(al: u8, f: &mut Pending) -> u8 {
    let (adjustment, low, high) = packed_adjustment(al, f);
    f.add(al, adjustment, u64::from(al) + u64::from(adjustment));
    f.set_carry(high);
    f.set_aux(low);
    al.wrapping_add(adjustment)
}

/// Adjusts two packed digits after a subtraction. SDM Vol. 2A, "DAS".
#[inline(always)]
pub fn das(al: u8, f: &mut Pending) -> u8 {
    let (adjustment, low, high) = packed_adjustment(al, f);
    f.compare(al, adjustment);
    f.set_carry(high || (low && al < 6));
    f.set_aux(low);
    al.wrapping_sub(adjustment)
}

/// Tells whether AL is no decimal digit, or the last operation carried out of one.
#[inline(always)]
fn wants_unpacked_adjustment(ax: u16, f: &Pending) -> bool {
    f.aux() || ax & 15 > 9
}

/// AL cut to one digit, AH as it is.
const UNPACKED: u16 = 0xff0f;

/// Adjusts an unpacked digit after an addition. SDM Vol. 2A, "AAA".
#[inline(always)]
pub fn aaa(ax: u16, f: &mut Pending) -> u16 {
    let adjust = wants_unpacked_adjustment(ax, f);
    let adjustment = if adjust { 0x106 } else { 0 };
    f.add(ax, adjustment, u64::from(ax) + u64::from(adjustment));
    f.set_carry(adjust);
    f.set_aux(adjust);
    ax.wrapping_add(adjustment) & UNPACKED
}

/// Adjusts an unpacked digit after a subtraction. SDM Vol. 2A, "AAS".
#[inline(always)]
pub fn aas(ax: u16, f: &mut Pending) -> u16 {
    let adjust = wants_unpacked_adjustment(ax, f);
    let adjustment = if adjust { 0x106 } else { 0 };
    f.compare(ax, adjustment);
    f.set_carry(adjust);
    f.set_aux(adjust);
    ax.wrapping_sub(adjustment) & UNPACKED
}

/// Splits AL into two digits of a base: AL and AH. #DE if the base is 0. SDM Vol. 2A, "AAM".
#[inline(always)]
pub fn aam(base: u8, al: u8, f: &mut Pending) -> Result<(u8, u8), Fault> {
    let (Some(upper), Some(lower)) = (al.checked_div(base), al.checked_rem(base)) else {
        return Err(Fault::DE);
    };
    f.logic(lower);
    Ok((lower, upper))
}

/// Joins two digits of a base: AL and AH, which becomes 0. SDM Vol. 2A, "AAD".
#[inline(always)]
pub fn aad(base: u8, al: u8, ah: u8, f: &mut Pending) -> (u8, u8) {
    let tens = ah.wrapping_mul(base);
    f.add(al, tens, u64::from(al) + u64::from(tens));
    (al.wrapping_add(tens), 0)
}
