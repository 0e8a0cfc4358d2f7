//! Integer arithmetic, logic and moves: bodies of `opcodes/integer.toml`.

use crate::cpu::{Exec, Fault, Pending, Word, reg};

/// Adds. SDM Vol. 2A, "ADD".
#[inline(always)]
pub fn add<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let wide = a.zext() + b.zext();
    f.add(a, b, wide);
    W::low(wide)
}

/// Adds with carry. SDM Vol. 2A, "ADC".
#[inline(always)]
pub fn adc<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let wide = a.zext() + b.zext() + u64::from(f.carry());
    f.add(a, b, wide);
    W::low(wide)
}

/// Subtracts. SDM Vol. 2B, "SUB".
#[inline(always)]
pub fn sub<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    f.compare(a, b);
    W::low(a.zext().wrapping_sub(b.zext()))
}

/// Subtracts with borrow. SDM Vol. 2B, "SBB".
#[inline(always)]
pub fn sbb<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let wide = a.zext().wrapping_sub(b.zext()).wrapping_sub(u64::from(f.carry()));
    f.sub(a, b, wide);
    W::low(wide)
}

/// Compares: the flags of a subtraction. SDM Vol. 2A, "CMP".
#[inline(always)]
pub fn cmp<W: Word>(a: W, b: W, f: &mut Pending) {
    f.compare(a, b);
}

/// Ors. SDM Vol. 2B, "OR".
#[inline(always)]
pub fn or<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let result = W::low(a.zext() | b.zext());
    f.logic(result);
    result
}

/// Ands. SDM Vol. 2A, "AND".
#[inline(always)]
pub fn and<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let result = W::low(a.zext() & b.zext());
    f.logic(result);
    result
}

/// Exclusive-ors. SDM Vol. 2D, "XOR".
#[inline(always)]
pub fn xor<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    let result = W::low(a.zext() ^ b.zext());
    f.logic(result);
    result
}

/// Tests: the flags of AND. SDM Vol. 2B, "TEST".
#[inline(always)]
pub fn test<W: Word>(a: W, b: W, f: &mut Pending) {
    f.logic(W::low(a.zext() & b.zext()));
}

/// Complements. SDM Vol. 2B, "NOT".
#[inline(always)]
pub fn not<W: Word>(a: W) -> W {
    W::low(!a.zext())
}

/// Negates. SDM Vol. 2B, "NEG".
#[inline(always)]
pub fn neg<W: Word>(a: W, f: &mut Pending) -> W {
    f.compare(W::default(), a);
    W::low(a.zext().wrapping_neg())
}

/// Adds 1, keeps CF. SDM Vol. 2A, "INC".
#[inline(always)]
pub fn inc<W: Word>(a: W, f: &mut Pending) -> W {
    let carry = f.carry();
    let wide = a.zext() + 1;
    f.add(a, W::low(1), wide);
    f.set_carry(carry);
    W::low(wide)
}

/// Subtracts 1, keeps CF. SDM Vol. 2A, "DEC".
#[inline(always)]
pub fn dec<W: Word>(a: W, f: &mut Pending) -> W {
    let carry = f.carry();
    let wide = a.zext().wrapping_sub(1);
    f.sub(a, W::low(1), wide);
    f.set_carry(carry);
    W::low(wide)
}

/// Multiplies unsigned to low and high half; S Z A P stay. SDM Vol. 2B, "MUL".
#[inline(always)]
pub fn mul<W: Word>(b: W, low: W, f: &mut Pending) -> (W, W) {
    let product = low.zext() * b.zext();
    let high = W::low(product >> W::BITS);
    f.set_carry_overflow(!high.is_zero(), !high.is_zero());
    (W::low(product), high)
}

/// Multiplies signed to low and high half; S Z A P stay. SDM Vol. 2A, "IMUL".
#[inline(always)]
pub fn imul<W: Word>(b: W, low: W, f: &mut Pending) -> (W, W) {
    let (result, product) = signed_product(low, b, f);
    (result, W::low((product >> W::BITS) as u64))
}

/// Multiplies signed, keeps the low half; S Z A P stay. SDM Vol. 2A, "IMUL".
#[inline(always)]
pub fn imul_low<W: Word>(a: W, b: W, f: &mut Pending) -> W {
    signed_product(a, b, f).0
}

#[inline(always)]
fn signed_product<W: Word>(a: W, b: W, f: &mut Pending) -> (W, i64) {
    let product = a.sext() * b.sext();
    let low = W::low(product as u64);
    let lost = low.sext() != product;
    f.set_carry_overflow(lost, lost);
    (low, product)
}

/// Divides `high:low` unsigned: quotient and remainder. #DE if `b` is 0 or the quotient does not fit.
/// SDM Vol. 2A, "DIV".
#[inline(always)]
pub fn div<W: Word>(b: W, low: W, high: W, f: &mut Pending) -> Result<(W, W), Fault> {
    let dividend = high.zext() << W::BITS | low.zext();
    // With high < b the divisor is not 0 and the quotient fits.
    if high >= b {
        return Err(Fault::DE);
    }
    divided(f);
    Ok((W::low(dividend / b.zext()), W::low(dividend % b.zext())))
}

/// Divides `high:low` signed, towards 0: quotient and remainder. #DE if `b` is 0 or the quotient does not fit.
/// SDM Vol. 2A, "IDIV".
#[inline(always)]
pub fn idiv<W: Word>(b: W, low: W, high: W, f: &mut Pending) -> Result<(W, W), Fault> {
    let dividend = high.sext() << W::BITS | low.zext() as i64;
    // Neither divides by 0 nor i64::MIN by -1.
    let (Some(quotient), Some(remainder)) = (dividend.checked_div(b.sext()), dividend.checked_rem(b.sext()))
    else {
        return Err(Fault::DE);
    };
    let low = W::low(quotient as u64);
    if low.sext() != quotient {
        return Err(Fault::DE);
    }
    divided(f);
    Ok((low, W::low(remainder as u64)))
}

/// The flags that a division leaves on Zen: S Z P clear, A set.
#[inline(always)]
fn divided(f: &mut Pending) {
    // 1 is positive, not zero, and has odd parity.
    f.result(1u8);
    f.set_aux(true);
}

/// Copies. SDM Vol. 2B, "MOV".
#[inline(always)]
pub fn mov<W: Word>(a: W) -> W {
    a
}

/// Zero-extends a byte. SDM Vol. 2B, "MOVZX".
#[inline(always)]
pub fn movzx_byte<W: Word>(a: u8) -> W {
    W::low(a.zext())
}

/// Zero-extends a word, or copies it. SDM Vol. 2B, "MOVZX".
#[inline(always)]
pub fn movzx_word<W: Word>(a: u16) -> W {
    W::low(a.zext())
}

/// Sign-extends a byte. SDM Vol. 2B, "MOVSX/MOVSXD".
#[inline(always)]
pub fn movsx_byte<W: Word>(a: u8) -> W {
    W::low(a.sext() as u64)
}

/// Sign-extends a word, or copies it. SDM Vol. 2B, "MOVSX/MOVSXD".
#[inline(always)]
pub fn movsx_word<W: Word>(a: u16) -> W {
    W::low(a.sext() as u64)
}

/// Sign-extends AL to AX. SDM Vol. 2A, "CBW/CWDE/CDQE".
#[inline(always)]
pub fn cbw(al: u8) -> u16 {
    al.sext() as u16
}

/// Sign-extends AX to EAX. SDM Vol. 2A, "CBW/CWDE/CDQE".
#[inline(always)]
pub fn cwde(ax: u16) -> u32 {
    ax.sext() as u32
}

/// Gives DX the sign of AX. SDM Vol. 2A, "CWD/CDQ/CQO".
#[inline(always)]
pub fn cwd(ax: u16) -> u16 {
    (ax.sext() >> 16) as u16
}

/// Gives EDX the sign of EAX. SDM Vol. 2A, "CWD/CDQ/CQO".
#[inline(always)]
pub fn cdq(eax: u32) -> u32 {
    (eax.sext() >> 32) as u32
}

/// Exchanges. SDM Vol. 2D, "XCHG".
#[inline(always)]
pub fn xchg<W: Word>(a: W, b: W) -> (W, W) {
    (b, a)
}

/// Adds, and gives op2 the old op1. SDM Vol. 2D, "XADD".
#[inline(always)]
pub fn xadd<W: Word>(a: W, b: W, f: &mut Pending) -> (W, W) {
    (add(a, b, f), a)
}

/// Compares and exchanges: the new destination and accumulator. SDM Vol. 2A, "CMPXCHG".
#[inline(always)]
pub fn cmpxchg<W: Word>(a: W, b: W, accumulator: W, f: &mut Pending) -> (W, W) {
    f.compare(accumulator, a);
    if accumulator == a { (b, accumulator) } else { (a, a) }
}

/// Compares and exchanges the eight bytes at `address`, which are written in either case. SDM Vol. 2A,
/// "CMPXCHG8B/CMPXCHG16B".
pub fn cmpxchg8b(x: Exec, address: u32) -> Result<(), Fault> {
    let pair = |high: usize, low: usize| {
        u64::from(x.reg::<u32>(high as u8)) << 32 | u64::from(x.reg::<u32>(low as u8))
    };
    let expected = pair(reg::EDX, reg::EAX);
    let replacement = pair(reg::ECX, reg::EBX);
    let exchanged = |old: u64| if old == expected { replacement } else { old };
    let old = if x.locked() {
        x.update_locked(address, |old: u64| Ok((exchanged(old), old)))?
    } else {
        // One read-modify-write: where it faults, it is reported as a write.
        x.probe_write(address, 8)?;
        let old = x.load(address)?;
        x.store(address, exchanged(old))?;
        old
    };
    if old != expected {
        x.set_reg(reg::EAX as u8, old as u32);
        x.set_reg(reg::EDX as u8, (old >> 32) as u32);
    }
    let mut f = x.flags();
    f.set_zero(old == expected);
    x.set_flags(f);
    Ok(())
}

/// Gives the effective address, truncated or zero-extended. SDM Vol. 2A, "LEA".
#[inline(always)]
pub fn lea<W: Word>(address: u32) -> W {
    W::low(u64::from(address))
}

/// Loads AL from a table at EBX, or BX with 16-bit addresses. SDM Vol. 2D, "XLAT/XLATB".
#[inline(always)]
pub fn xlat(x: Exec, al: u8, ebx: u32) -> Result<u8, Fault> {
    let mut offset = ebx.wrapping_add(u32::from(al));
    if x.addr16() {
        offset &= 0xffff;
    }
    x.load(x.within(x.segment(), offset, 1)?)
}

/// Reverses bytes; 16 bits become 0, as on silicon. SDM Vol. 2A, "BSWAP".
#[inline(always)]
pub fn bswap<W: Word>(a: W) -> W {
    // The low word of a swapped dword is its upper half, which a word does not have.
    W::low(u64::from(a.u32().swap_bytes()))
}

/// Copies if the condition holds. SDM Vol. 2A, "CMOVcc".
#[inline(always)]
pub fn cmovcc<W: Word>(cond: bool, a: W, b: W) -> W {
    if cond { b } else { a }
}

/// Gives the condition as 0 or 1. SDM Vol. 2B, "SETcc".
#[inline(always)]
pub fn setcc(cond: bool) -> u8 {
    u8::from(cond)
}

/// Gives AL all ones if CF is set. AMD and Intel do not document it.
#[inline(always)]
pub fn salc(f: &mut Pending) -> u8 {
    if f.carry() { 0xff } else { 0 }
}

/// Does nothing. SDM Vol. 2B, "NOP".
#[inline(always)]
pub fn nop() {}
