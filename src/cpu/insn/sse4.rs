//! SSE4.1 beside packed integers, and the string instructions of SSE4.2. Rows: `opcodes/sse4.toml`.

use super::sse_float::{addpd, addps, mulpd, mulps, native};
use crate::cpu::float::convert::round_to_integer;
use crate::cpu::float::{F32, F64};
use crate::cpu::mxcsr::{Mxcsr, Rounding};
#[cfg(trap_memory)]
use crate::cpu::native as host;
use crate::cpu::vector::{Lane, V128, Vector};
use crate::cpu::{Exec, Fault, Pending, eflags, reg};

/// Takes the lanes of `b` where those of `mask` are negative.
#[inline(always)]
fn blend<L: Lane + Default + PartialOrd>(a: V128, b: V128, mask: V128) -> V128 {
    V128::from_lanes(|at| if mask.lane::<L>(at) < L::default() { b.lane::<L>(at) } else { a.lane(at) })
}

/// Takes the bytes of `b` where those of `mask` have their top bit set. SDM Vol. 2B, "PBLENDVB".
#[inline(always)]
pub fn pblendvb(a: V128, b: V128, mask: V128) -> V128 {
    blend::<i8>(a, b, mask)
}

/// Takes the floats of `b` where those of `mask` are negative. SDM Vol. 2A, "BLENDVPS".
#[inline(always)]
pub fn blendvps(a: V128, b: V128, mask: V128) -> V128 {
    blend::<i32>(a, b, mask)
}

/// Takes the doubles of `b` where those of `mask` are negative. SDM Vol. 2A, "BLENDVPD".
#[inline(always)]
pub fn blendvpd(a: V128, b: V128, mask: V128) -> V128 {
    blend::<i64>(a, b, mask)
}

/// Takes the lanes of `b` where bits are set.
#[inline(always)]
fn choose<L: Lane>(a: V128, b: V128, bits: u8) -> V128 {
    V128::from_lanes(|at| if bits >> at & 1 != 0 { b.lane::<L>(at) } else { a.lane(at) })
}

/// Takes the floats of `b` where bits are set. SDM Vol. 2A, "BLENDPS".
#[inline(always)]
pub fn blendps(a: V128, b: V128, bits: u8) -> V128 {
    choose::<u32>(a, b, bits)
}

/// Takes the doubles of `b` where bits are set. SDM Vol. 2A, "BLENDPD".
#[inline(always)]
pub fn blendpd(a: V128, b: V128, bits: u8) -> V128 {
    choose::<u64>(a, b, bits)
}

/// Takes the words of `b` where bits are set. SDM Vol. 2B, "PBLENDW".
#[inline(always)]
pub fn pblendw(a: V128, b: V128, bits: u8) -> V128 {
    choose::<u16>(a, b, bits)
}

/// How an immediate of ROUNDPS says to round, and whether not being an integer is an exception.
#[inline(always)]
fn rounding(how: u8, m: &Mxcsr) -> (Rounding, bool) {
    let rounding = if how & 4 != 0 { m.rounding() } else { Rounding::from_bits(u32::from(how)) };
    (rounding, how & 8 == 0)
}

/// Rounds floats to integers. SDM Vol. 2B, "ROUNDPS".
#[inline(always)]
pub fn roundps<V: Vector>(a: V, how: u8, m: &mut Mxcsr) -> V {
    native!(m, host::roundps(a, how), {
        let (rounding, precision) = rounding(how, m);
        a.map(|a: u32| round_to_integer::<F32>(u64::from(a), rounding, precision, m) as u32)
    })
}

/// Rounds doubles to integers. SDM Vol. 2B, "ROUNDPD".
#[inline(always)]
pub fn roundpd<V: Vector>(a: V, how: u8, m: &mut Mxcsr) -> V {
    native!(m, host::roundpd(a, how), {
        let (rounding, precision) = rounding(how, m);
        a.map(|a: u64| round_to_integer::<F64>(a, rounding, precision, m))
    })
}

/// The lanes whose bits are set; zeros elsewhere.
#[inline(always)]
fn masked<L: Lane>(a: V128, bits: u8) -> V128 {
    choose::<L>(V128::ZERO, a, bits)
}

/// Multiplies the floats that the upper bits name, adds them up, and gives the sum where the lower bits say. SDM Vol. 2A,
/// "DPPS".
#[inline(always)]
pub fn dpps(a: V128, b: V128, bits: u8, m: &mut Mxcsr) -> V128 {
    let products = mulps(masked::<u32>(a, bits >> 4), masked::<u32>(b, bits >> 4), m);
    if m.stops_between() {
        return products;
    }
    // Each lane has a sum of its own, which differs in whose NaN comes first: its neighbour's, then its half's.
    let moved = |vector: V128, by: usize| V128::from_lanes(|at| vector.lane::<u32>(at ^ by));
    let pairs = addps(moved(products, 1), products, m);
    if m.stops_between() {
        return products;
    }
    masked::<u32>(addps(pairs, moved(pairs, 2), m), bits)
}

/// Multiplies the doubles that the upper bits name, adds them up, and gives the sum where the lower bits say. SDM Vol. 2A,
/// "DPPD".
#[inline(always)]
pub fn dppd(a: V128, b: V128, bits: u8, m: &mut Mxcsr) -> V128 {
    let products = mulpd(masked::<u64>(a, bits >> 4), masked::<u64>(b, bits >> 4), m);
    if m.stops_between() {
        return products;
    }
    // Here its own comes first.
    let swapped = V128::from_lanes(|at| products.lane::<u64>(at ^ 1));
    masked::<u64>(addpd(products, swapped, m), bits)
}

/// Inserts the float of `source` that the upper two bits name, or its only one, where the next two say; the lower four zero
/// lanes. SDM Vol. 2A, "INSERTPS".
#[inline(always)]
pub fn insertps<S: Vector>(a: V128, source: S, how: u8) -> V128 {
    let from = if S::BYTES == 16 { usize::from(how >> 6) } else { 0 };
    let to = usize::from(how >> 4 & 3);
    let float: u32 = source.lane(from);
    V128::from_lanes(|at| match at {
        _ if how >> at & 1 != 0 => 0,
        at if at == to => float,
        at => a.lane::<u32>(at),
    })
}

/// Extracts a float. SDM Vol. 2A, "EXTRACTPS".
#[inline(always)]
pub fn extractps(a: V128, at: u8) -> u32 {
    a.lane(usize::from(at & 3))
}

/// Z tells that no bit is in both, C that no bit of `b` is not in `a`. SDM Vol. 2B, "PTEST".
#[inline(always)]
pub fn ptest(a: V128, b: V128, f: &mut Pending) {
    let [both, outside] = [u128::from(a) & u128::from(b), !u128::from(a) & u128::from(b)];
    f.set_eflags((u32::from(both == 0) * eflags::ZF) | (u32::from(outside == 0) * eflags::CF));
}

/// How PCMPESTRI and its kin compare, taken out of their immediate. SDM Vol. 1, 12.9 (formerly Vol. 2B, 4.1).
#[derive(Clone, Copy)]
struct Comparison(u8);

impl Comparison {
    /// Elements are words, not bytes.
    fn words(self) -> bool {
        self.0 & 1 != 0
    }
    /// How many elements a vector has.
    fn elements(self) -> usize {
        if self.words() { 8 } else { 16 }
    }
    /// An element, sign-extended if they are signed.
    fn element(self, vector: V128, at: usize) -> i32 {
        match self.0 & 3 {
            0 => i32::from(vector.lane::<u8>(at)),
            1 => i32::from(vector.lane::<u16>(at)),
            2 => i32::from(vector.lane::<i8>(at)),
            _ => i32::from(vector.lane::<i16>(at)),
        }
    }
    /// Elements before the first that is zero.
    fn length(self, vector: V128) -> usize {
        (0..self.elements()).find(|at| self.element(vector, *at) == 0).unwrap_or(self.elements())
    }
    /// A length as a register says it: its magnitude, no more than fit.
    fn explicit_length(self, register: u32) -> usize {
        (register as i32).unsigned_abs().min(self.elements() as u32) as usize
    }

    /// A bit for each element of `b`: whether it has what is looked for, `a`.
    fn result(self, a: (V128, usize), b: (V128, usize)) -> u32 {
        let ((a, a_len), (b, b_len)) = (a, b);
        let elements = self.elements();
        let all = (1 << elements) - 1;
        let is = |at: usize, other: usize| self.element(a, at) == self.element(b, other);
        let found = |at: usize| match self.0 >> 2 & 3 {
            // Any of the set.
            0 => at < b_len && (0..a_len).any(|of| is(of, at)),
            // In one of the ranges; one without an end has none.
            1 => {
                let value = self.element(b, at);
                let within =
                    |from: usize| self.element(a, from) <= value && value <= self.element(a, from + 1);
                at < b_len && (0..a_len / 2).any(|range| within(2 * range))
            }
            // The same as the other; equal too if both are beyond the end.
            2 => (at < a_len && at < b_len && is(at, at)) || (at >= a_len && at >= b_len),
            // Where the other begins.
            _ => (0..a_len.min(elements - at)).all(|of| at + of < b_len && is(of, at + of)),
        };
        let bits = (0..elements).fold(0, |bits, at| bits | u32::from(found(at)) << at);
        match self.0 >> 4 & 3 {
            1 => bits ^ all,
            3 => bits ^ ((1 << b_len) - 1),
            _ => bits,
        }
    }

    /// The number of the first or last bit, or how many elements there are.
    fn index(self, result: u32) -> u32 {
        match result {
            0 => self.elements() as u32,
            _ if self.0 & 0x40 != 0 => result.ilog2(),
            _ => result.trailing_zeros(),
        }
    }

    /// The bits, or as many elements of all ones.
    fn mask(self, result: u32) -> V128 {
        let set = |at: usize| result >> at & 1 != 0;
        match self.0 & 0x41 {
            0x40 => V128::from_lanes(|at| if set(at) { u8::MAX } else { 0 }),
            0x41 => V128::from_lanes(|at| if set(at) { u16::MAX } else { 0 }),
            _ => V128::from(u128::from(result)),
        }
    }

    /// Compares, and sets the flags.
    fn run(self, x: Exec, a: (V128, usize), b: (V128, usize)) -> u32 {
        let result = self.result(a, b);
        let ends = |length: usize| u32::from(length < self.elements());
        let mut flags = x.flags();
        flags.set_eflags(
            (u32::from(result != 0) * eflags::CF)
                | (ends(b.1) * eflags::ZF)
                | (ends(a.1) * eflags::SF)
                | ((result & 1) * eflags::OF),
        );
        x.set_flags(flags);
        result
    }

    /// The same with lengths in EAX and EDX.
    fn explicit(self, x: Exec, a: V128, b: V128) -> u32 {
        let length = |register: usize| self.explicit_length(x.cpu().regs[register]);
        self.run(x, (a, length(reg::EAX)), (b, length(reg::EDX)))
    }

    /// The same with strings that end at zero.
    fn implicit(self, x: Exec, a: V128, b: V128) -> u32 {
        self.run(x, (a, self.length(a)), (b, self.length(b)))
    }
}

/// Compares strings of explicit length; a mask in XMM0. SDM Vol. 2B, "PCMPESTRM".
#[inline(always)]
pub fn pcmpestrm(x: Exec, a: V128, b: V128, how: u8) -> Result<(), Fault> {
    x.apart_with(a.into(), b.into(), move |x, a, b| {
        x.cpu().xmm[0] = Comparison(how).mask(Comparison(how).explicit(x, a.into(), b.into()));
    });
    Ok(())
}

/// Compares strings of explicit length; an index in ECX. SDM Vol. 2B, "PCMPESTRI".
#[inline(always)]
pub fn pcmpestri(x: Exec, a: V128, b: V128, how: u8) -> Result<(), Fault> {
    x.apart_with(a.into(), b.into(), move |x, a, b| {
        x.cpu().regs[reg::ECX] = Comparison(how).index(Comparison(how).explicit(x, a.into(), b.into()));
    });
    Ok(())
}

/// Compares strings that end at zero; a mask in XMM0. SDM Vol. 2B, "PCMPISTRM".
#[inline(always)]
pub fn pcmpistrm(x: Exec, a: V128, b: V128, how: u8) -> Result<(), Fault> {
    x.apart_with(a.into(), b.into(), move |x, a, b| {
        x.cpu().xmm[0] = Comparison(how).mask(Comparison(how).implicit(x, a.into(), b.into()));
    });
    Ok(())
}

/// Compares strings that end at zero; an index in ECX. SDM Vol. 2B, "PCMPISTRI".
#[inline(always)]
pub fn pcmpistri(x: Exec, a: V128, b: V128, how: u8) -> Result<(), Fault> {
    x.apart_with(a.into(), b.into(), move |x, a, b| {
        x.cpu().regs[reg::ECX] = Comparison(how).index(Comparison(how).implicit(x, a.into(), b.into()));
    });
    Ok(())
}

/// A field of bits in a quadword: a mask as long as it is, and its place. A length of 0 means 64.
#[inline(always)]
fn field(length: u8, place: u8) -> (u64, u8) {
    (u64::MAX >> (length.wrapping_neg() & 63), place & 63)
}

/// Extracts a field; the upper half becomes 0. AMD64 Architecture Programmer's Manual Vol. 4, "EXTRQ".
#[inline(always)]
pub fn extrq_at(a: V128, length: u8, place: u8) -> V128 {
    let (mask, place) = field(length, place);
    V128::ZERO.with_lane(0, a.lane::<u64>(0) >> place & mask)
}

/// As [`extrq_at`], with length and place in the two lowest bytes of `b`. AMD64 APM Vol. 4, "EXTRQ".
#[inline(always)]
pub fn extrq(a: V128, b: V128) -> V128 {
    extrq_at(a, b.lane(0), b.lane(1))
}

/// Inserts the low bits of `b` as a field; the upper half becomes 0. AMD64 APM Vol. 4, "INSERTQ".
#[inline(always)]
pub fn insertq_at(a: V128, b: u64, length: u8, place: u8) -> V128 {
    let (mask, place) = field(length, place);
    V128::ZERO.with_lane(0, a.lane::<u64>(0) & !(mask << place) | (b & mask) << place)
}

/// As [`insertq_at`], with length and place in bytes 8 and 9 of `b`. AMD64 APM Vol. 4, "INSERTQ".
#[inline(always)]
pub fn insertq(a: V128, b: V128) -> V128 {
    insertq_at(a, b.lane(0), b.lane(8), b.lane(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_extracted_and_inserted_bit_by_bit() {
        let (a, b) = (0x8421_a5a5_dead_beef_u64, 0xfedc_ba98_7654_3210_u64);
        let bit = |value: u64, at: u32| value >> at & 1;
        let vector = |low: u64| V128::from(u128::from(low) | 0x55 << 64);
        for (length, place) in (0..64u8).flat_map(|length| (0..64u8).map(move |place| (length, place))) {
            let count = if length == 0 { 64 } else { u32::from(length) };
            let place_of = |bit: u32| bit + u32::from(place);
            let within = |at: u32| (place_of(0)..place_of(count)).contains(&at);
            let extracted = (0..count).filter(|at| place_of(*at) < 64 && bit(a, place_of(*at)) != 0);
            let extracted = extracted.fold(0, |all, at| all | 1u64 << at);
            let inserted =
                (0..64).filter(|&at| if within(at) { bit(b, at - place_of(0)) } else { bit(a, at) } != 0);
            let inserted = inserted.fold(0, |all, at| all | 1u64 << at);
            // Higher bits of both mean nothing.
            let (length, place) = (length | 0x40, place | 0x80);
            assert_eq!(u128::from(extrq_at(vector(a), length, place)), extracted.into());
            assert_eq!(u128::from(insertq_at(vector(a), b, length, place)), inserted.into());
            let control = u128::from(length) | u128::from(place) << 8;
            assert_eq!(u128::from(extrq(vector(a), control.into())), extracted.into());
            assert_eq!(
                u128::from(insertq(vector(a), (control << 64 | u128::from(b)).into())),
                inserted.into()
            );
        }
    }
}
