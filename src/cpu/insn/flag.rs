//! Single flags: bodies of `opcodes/flag.toml`.

use crate::cpu::{Exec, Fault, Pending, eflags};

/// The flags that LAHF and SAHF move.
const IN_AH: u32 = eflags::STATUS & !eflags::OF;

/// Clears CF. SDM Vol. 2A, "CLC".
#[inline(always)]
pub fn clc(f: &mut Pending) {
    f.set_carry(false);
}

/// Sets CF. SDM Vol. 2B, "STC".
#[inline(always)]
pub fn stc(f: &mut Pending) {
    f.set_carry(true);
}

/// Complements CF. SDM Vol. 2A, "CMC".
#[inline(always)]
pub fn cmc(f: &mut Pending) {
    let carry = f.carry();
    f.set_carry(!carry);
}

/// Clears DF. SDM Vol. 2A, "CLD".
#[inline(always)]
pub fn cld(x: Exec) -> Result<(), Fault> {
    x.cpu().system_flags &= !eflags::DF;
    Ok(())
}

/// Sets DF. SDM Vol. 2B, "STD".
#[inline(always)]
pub fn set_direction(x: Exec) -> Result<(), Fault> {
    x.cpu().system_flags |= eflags::DF;
    Ok(())
}

/// Gives S Z A P C as AH has them. SDM Vol. 2A, "LAHF".
#[inline(always)]
pub fn lahf(f: &mut Pending) -> u8 {
    (f.eflags() & IN_AH | eflags::FIXED) as u8
}

/// Takes S Z A P C from AH; O stays. SDM Vol. 2B, "SAHF".
#[inline(always)]
pub fn sahf(ah: u8, f: &mut Pending) {
    f.set_eflags(f.eflags() & eflags::OF | u32::from(ah) & IN_AH);
}
