//! RCPPS and RSQRTPS: what the host's tables give, on hosts that have none the exact value rounded to 12 bits.

#[cfg(target_arch = "x86_64")]
pub use super::host::{rcpss as reciprocal, rsqrtss as reciprocal_root};

#[cfg(not(target_arch = "x86_64"))]
pub use portable::{reciprocal, reciprocal_root};

/// Without the host's tables.
#[cfg(any(test, not(target_arch = "x86_64")))]
pub mod portable {
    use crate::cpu::float::arith::{div, sqrt};
    use crate::cpu::float::convert::widen;
    use crate::cpu::float::{Class, F32, F64, Format, infinity, propagate, round_as, unpack, zero};
    use crate::cpu::mxcsr::{Mxcsr, Rounding};

    /// Masked, denormals as zeros, flush to zero.
    const MXCSR: u32 = 0x9fc0;
    /// Fraction bits of binary32 that a result leaves 0.
    const UNUSED: u32 = 12;

    /// Rounds a double to 12 bits of a float.
    fn shorten(double: u64) -> u32 {
        let mut m = Mxcsr::new(MXCSR);
        let x = unpack::<F64>(double, m);
        let unit = 1u64 << (63 - (23 - UNUSED));
        let (sig, carried) = x.sig.overflowing_add(unit / 2);
        let (sig, exp) = if carried { (1 << 63, x.exp + 1) } else { (sig & !(unit - 1), x.exp) };
        round_as::<F32>(x.sign, exp, u128::from(sig) << 64, Rounding::Nearest, &mut m) as u32
    }

    /// 1 / `a`, rounded to 12 bits. Denormals count as zeros, and become ones.
    pub fn reciprocal(a: u32) -> u32 {
        let mut m = Mxcsr::new(MXCSR);
        let (bits, x) = (u64::from(a), unpack::<F32>(u64::from(a), m));
        match x.class {
            Class::Quiet | Class::Signalling => propagate::<F32>(bits, bits, &mut m) as u32,
            Class::Zero => infinity::<F32>(x.sign) as u32,
            Class::Infinity => zero::<F32>(x.sign) as u32,
            Class::Finite => shorten(div::<F64>(1f64.to_bits(), widen(a, &mut m), &mut m)),
        }
    }

    /// 1 / √`a`, rounded to 12 bits. Denormals count as zeros.
    pub fn reciprocal_root(a: u32) -> u32 {
        let mut m = Mxcsr::new(MXCSR);
        let (bits, x) = (u64::from(a), unpack::<F32>(u64::from(a), m));
        match x.class {
            Class::Quiet | Class::Signalling => propagate::<F32>(bits, bits, &mut m) as u32,
            Class::Zero => infinity::<F32>(x.sign) as u32,
            _ if x.sign => F32::INDEFINITE as u32,
            Class::Infinity => 0,
            Class::Finite => {
                let root = sqrt::<F64>(widen(a, &mut m), &mut m);
                shorten(div::<F64>(1f64.to_bits(), root, &mut m))
            }
        }
    }

    #[cfg(all(test, target_arch = "x86_64"))]
    mod tests {
        #[test]
        fn approximations_differ_from_the_hosts_by_less_than_the_manual_allows() {
            let close = |a: u32, b: u32| {
                let (x, y) = (f64::from(f32::from_bits(a)), f64::from(f32::from_bits(b)));
                a == b || (x.is_nan() && y.is_nan()) || ((x - y) / y).abs() < 3.0 / 4096.0
            };
            for at in 0..200_000u32 {
                let a = at.wrapping_mul(0x9e37_79b1);
                assert!(close(super::reciprocal(a), super::super::reciprocal(a)), "1/{a:08x}");
                assert!(close(super::reciprocal_root(a), super::super::reciprocal_root(a)), "1/√{a:08x}");
            }
        }
    }
}
