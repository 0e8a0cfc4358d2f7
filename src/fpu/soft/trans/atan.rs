//! FPATAN.

use super::super::env::Env;
use super::super::f80::{F80, Num};
use super::super::round::{denormal_stops, nan_of_two};
use super::fixed::{ODD_RECIPROCALS, Wide, alternating, mul_high};

/// π.
const PI: Wide = Wide { exp: 1, mant: 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1 };

/// Fraction bits of the angles in fixed point: π just fits.
const ANGLE_BITS: i32 = 126;

/// atan(i/16) in units of 2^-128, summed up from atan((i + 1)/16) − atan(i/16) = atan(16/(256 + i(i + 1))).
const STEPS: [u128; 17] = {
    let mut table = [0; 17];
    let mut i = 0;
    while i < 16 {
        // u − u³/3 + u⁵/5 …, of u = 16/n.
        let n = 256 + i as u128 * (i as u128 + 1);
        let mut power = u128::MAX / n * 16 + u128::MAX % n * 16 / n;
        let mut sum = 0;
        let mut k = 1;
        while power != 0 {
            sum = if k % 4 == 1 { sum + power / k } else { sum - power / k };
            power = power / n * 256 / n;
            k += 2;
        }
        table[i + 1] = table[i] + sum;
        i += 1;
    }
    table
};

/// atan of a number up to 1/16.
fn series(u: Wide) -> Wide {
    let fixed = u.to_fixed(128);
    let square = mul_high(fixed, fixed);
    let rest = mul_high(square, alternating(square, &ODD_RECIPROCALS));
    // 1 itself does not fit; what is as near below it rounds as the true value does.
    u.times(Wide { exp: -1, mant: 0u128.wrapping_sub(rest.max(1)) })
}

/// atan of a number up to 1.
fn up_to_one(t: Wide) -> Wide {
    if t.exp < -5 {
        return series(t);
    }
    // With c the nearest sixteenth: atan t = atan c ± atan u, u = |t − c|/(1 + t·c).
    let fixed = t.to_fixed(126);
    let index = ((fixed >> 121) + 1) >> 1;
    let c = index << 122;
    // 1 + t·c in units of 2^-126.
    let sum = (1 << 126) + (fixed >> 4) * index;
    let table = STEPS[(index & 31).min(16) as usize];
    let difference = fixed.abs_diff(c);
    if difference == 0 {
        return Wide::normalized(-1, table);
    }
    let part = series(Wide::normalized(1, difference).over(Wide::normalized(1, sum))).to_fixed(128);
    Wide::normalized(-1, if fixed < c { table - part } else { table + part })
}

/// Takes the angle of the point (`x`, `y`), from −π to π. SDM Vol. 2A, "FPATAN".
pub fn arctangent(x: F80, y: F80, env: &mut Env) -> F80 {
    if let Some(nan) = nan_of_two(x, y, env) {
        return nan;
    }
    if denormal_stops(x.is_denormal() || y.is_denormal(), env) {
        return y;
    }
    let sign = y.sign();
    let quarter = Wide { exp: PI.exp - 2, ..PI };
    let half = Wide { exp: PI.exp - 1, ..PI };
    if x.is_infinite() && y.is_infinite() {
        if x.is_negative() {
            let three_quarters = 3 * (PI.mant >> 2);
            return Wide { exp: PI.exp, mant: three_quarters }.round(sign, env);
        }
        return quarter.round(sign, env);
    }
    if y.is_zero() || x.is_infinite() {
        return if x.is_negative() { PI.round(sign, env) } else { F80::zero(sign) };
    }
    if x.is_zero() || y.is_infinite() {
        return half.round(sign, env);
    }
    let (y, x) = (Num::finite(y), Num::finite(x));
    let steep = (y.exp, y.sig) > (x.exp, x.sig);
    let (rise, run) = if steep { (Wide::of(x), Wide::of(y)) } else { (Wide::of(y), Wide::of(x)) };
    let angle = up_to_one(rise.over(run));
    if !steep && x.sign == 0 {
        return angle.round(sign, env);
    }
    let fixed = angle.to_fixed(ANGLE_BITS);
    let base = if steep { half } else { PI }.to_fixed(ANGLE_BITS);
    let angle = if steep && x.sign != 0 { base + fixed } else { base - fixed };
    Wide::normalized(1, angle).round(sign, env)
}
