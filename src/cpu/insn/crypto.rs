//! Cryptography: AES, carry-less products, SHA, Galois fields. Rows: `opcodes/crypto.toml`.

use super::sse_float::native;
#[cfg(trap_memory)]
use crate::cpu::native;
use crate::cpu::native::Native;
use crate::cpu::vector::{V128, Vector};

/// Multiplies in the field of AES, whose polynomial is x^8 + x^4 + x^3 + x + 1. FIPS 197, 4.2.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut product, mut a, mut rest) = (0, a, b);
    while rest != 0 {
        if rest & 1 != 0 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 != 0 { 0x1b } else { 0 };
        rest >>= 1;
    }
    product
}

/// The inverse in the field of AES, 0 for 0: a^254.
const fn invert(a: u8) -> u8 {
    let (mut power, mut result, mut at) = (a, 1, 1);
    while at < 8 {
        power = multiply(power, power);
        result = multiply(result, power);
        at += 1;
    }
    result
}

/// The inverse of each byte.
const INVERSES: [u8; 256] = {
    let mut inverses = [0; 256];
    let mut at = 0;
    while at < 256 {
        inverses[at] = invert(at as u8);
        at += 1;
    }
    inverses
};

/// What SubBytes makes of each byte, or with `back` what it was before. FIPS 197, 5.1.1.
const fn substitutes(back: bool) -> [u8; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let a = INVERSES[at];
        let sum = a ^ a.rotate_left(1) ^ a.rotate_left(2) ^ a.rotate_left(3) ^ a.rotate_left(4) ^ 0x63;
        if back {
            table[sum as usize] = at as u8;
        } else {
            table[at] = sum;
        }
        at += 1;
    }
    table
}

const SUB_BYTES: [u8; 256] = substitutes(false);
const INV_SUB_BYTES: [u8; 256] = substitutes(true);

/// Each byte replaced by its place in a table, taken from `step` columns further on a row down the state.
fn substitute_and_shift(state: V128, table: &[u8; 256], step: usize) -> V128 {
    V128::from_lanes(|at| {
        let (row, column) = (at % 4, at / 4);
        table[usize::from(state.lane::<u8>(row + 4 * ((column + step * row) % 4)))]
    })
}

/// Each column multiplied by a polynomial. FIPS 197, 5.1.3.
fn mix_columns(state: V128, factors: [u8; 4]) -> V128 {
    V128::from_lanes(|at| {
        let (row, column) = (at % 4, at / 4);
        (0..4).fold(0, |sum, from: usize| {
            sum ^ multiply(state.lane::<u8>(4 * column + from), factors[(from + 4 - row) % 4])
        })
    })
}

/// MixColumns' polynomial.
const MIX: [u8; 4] = [2, 3, 1, 1];
/// Its inverse.
const INV_MIX: [u8; 4] = [14, 11, 13, 9];

/// Adds in the field.
#[inline(always)]
fn add(a: V128, b: V128) -> V128 {
    V128::from(u128::from(a) ^ u128::from(b))
}

/// InvMixColumns of a round key. SDM Vol. 2A, "AESIMC".
#[inline(always)]
pub fn aesimc(key: V128, h: Native) -> V128 {
    native!(h, native::aesimc(key), mix_columns(key, INV_MIX))
}

/// A round of encryption. SDM Vol. 2A, "AESENC".
#[inline(always)]
pub fn aesenc(state: V128, key: V128, h: Native) -> V128 {
    native!(
        h,
        native::aesenc(state, key),
        add(mix_columns(substitute_and_shift(state, &SUB_BYTES, 1), MIX), key)
    )
}

/// The last round of encryption. SDM Vol. 2A, "AESENCLAST".
#[inline(always)]
pub fn aesenclast(state: V128, key: V128, h: Native) -> V128 {
    native!(h, native::aesenclast(state, key), add(substitute_and_shift(state, &SUB_BYTES, 1), key))
}

/// A round of decryption. SDM Vol. 2A, "AESDEC".
#[inline(always)]
pub fn aesdec(state: V128, key: V128, h: Native) -> V128 {
    native!(
        h,
        native::aesdec(state, key),
        add(mix_columns(substitute_and_shift(state, &INV_SUB_BYTES, 3), INV_MIX), key)
    )
}

/// The last round of decryption. SDM Vol. 2A, "AESDECLAST".
#[inline(always)]
pub fn aesdeclast(state: V128, key: V128, h: Native) -> V128 {
    native!(h, native::aesdeclast(state, key), add(substitute_and_shift(state, &INV_SUB_BYTES, 3), key))
}

/// SubWord and RotWord of the odd words, with a round constant. SDM Vol. 2A, "AESKEYGENASSIST".
#[inline(always)]
pub fn aeskeygenassist(key: V128, constant: u8, h: Native) -> V128 {
    let words = native!(h, native::aeskeygenassist::<0>(key, key), {
        let word = |at: usize| {
            let bytes = key.lane::<u32>(at).to_le_bytes();
            u32::from_le_bytes(bytes.map(|byte| SUB_BYTES[usize::from(byte)]))
        };
        V128::from_lanes(|at| if at % 2 == 0 { word(at + 1) } else { word(at).rotate_right(8) })
    });
    add(words, V128::from_lanes(|at| if at % 2 == 0 { 0 } else { u32::from(constant) }))
}

/// Multiplies two quadwords without carries. SDM Vol. 2B, "PCLMULQDQ".
#[inline(always)]
pub fn pclmulqdq(a: V128, b: V128, which: u8, h: Native) -> V128 {
    let (a, b): (u64, u64) = (a.lane(usize::from(which & 1)), b.lane(usize::from(which >> 4 & 1)));
    native!(h, native::pclmulqdq::<0>(a.resize(), b.resize()), {
        let part = |at: u32| if b >> at & 1 != 0 { u128::from(a) << at } else { 0 };
        V128::from((0..64).fold(0, |product, at| product ^ part(at)))
    })
}

/// The four words of a vector, the highest first, as the algorithms count them.
fn words(vector: V128) -> [u32; 4] {
    [3, 2, 1, 0].map(|at| vector.lane(at))
}

/// The vector of four words, the highest first.
fn from_words(words: [u32; 4]) -> V128 {
    V128::from_lanes(|at| words[3 - at])
}

/// Whether bits of `b` or of `c`, as `a` says. FIPS 180-4, 4.1.
fn choice(a: u32, b: u32, c: u32) -> u32 {
    (a & b) ^ (!a & c)
}

/// What two of three say. FIPS 180-4, 4.1.
fn majority(a: u32, b: u32, c: u32) -> u32 {
    (a & b) ^ (a & c) ^ (b & c)
}

/// Four rounds of SHA-1. SDM Vol. 2B, "SHA1RNDS4".
#[inline(always)]
pub fn sha1rnds4(state: V128, message: V128, which: u8, h: Native) -> V128 {
    native!(
        h,
        match which & 3 {
            0 => native::sha1rnds4::<0>(state, message),
            1 => native::sha1rnds4::<1>(state, message),
            2 => native::sha1rnds4::<2>(state, message),
            _ => native::sha1rnds4::<3>(state, message),
        },
        {
            const CONSTANTS: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];
            let [mut a, mut b, mut c, mut d] = words(state);
            let mut e = 0;
            for word in words(message) {
                let mixed = match which & 3 {
                    0 => choice(b, c, d),
                    2 => majority(b, c, d),
                    _ => b ^ c ^ d,
                };
                let sum = mixed
                    .wrapping_add(a.rotate_left(5))
                    .wrapping_add(word)
                    .wrapping_add(e)
                    .wrapping_add(CONSTANTS[usize::from(which & 3)]);
                (a, b, c, d, e) = (sum, a, b.rotate_left(30), c, d);
            }
            from_words([a, b, c, d])
        }
    )
}

/// The next E, added to the message. SDM Vol. 2B, "SHA1NEXTE".
#[inline(always)]
pub fn sha1nexte(state: V128, message: V128, h: Native) -> V128 {
    native!(h, native::sha1nexte(state, message), {
        let e = state.lane::<u32>(3).rotate_left(30);
        message.with_lane(3, message.lane::<u32>(3).wrapping_add(e))
    })
}

/// The first half of a schedule. SDM Vol. 2B, "SHA1MSG1".
#[inline(always)]
pub fn sha1msg1(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::sha1msg1(a, b), {
        let ([w0, w1, w2, w3], [w4, w5, ..]) = (words(a), words(b));
        from_words([w2 ^ w0, w3 ^ w1, w4 ^ w2, w5 ^ w3])
    })
}

/// The second half of a schedule. SDM Vol. 2B, "SHA1MSG2".
#[inline(always)]
pub fn sha1msg2(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::sha1msg2(a, b), {
        let ([x0, x1, x2, x3], [_, w13, w14, w15]) = (words(a), words(b));
        let w16 = (x0 ^ w13).rotate_left(1);
        from_words([w16, (x1 ^ w14).rotate_left(1), (x2 ^ w15).rotate_left(1), (x3 ^ w16).rotate_left(1)])
    })
}

/// Two rounds of SHA-256. SDM Vol. 2B, "SHA256RNDS2".
#[inline(always)]
pub fn sha256rnds2(state: V128, other: V128, message: V128, h: Native) -> V128 {
    native!(h, native::sha256rnds2(state, other, message), {
        let ([mut c, mut d, mut g, mut hh], [mut a, mut b, mut e, mut f]) = (words(state), words(other));
        for at in 0..2 {
            let sum = choice(e, f, g)
                .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
                .wrapping_add(message.lane(at))
                .wrapping_add(hh);
            let next = sum
                .wrapping_add(majority(a, b, c))
                .wrapping_add(a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22));
            (a, b, c, d, e, f, g, hh) = (next, a, b, c, sum.wrapping_add(d), e, f, g);
        }
        from_words([a, b, e, f])
    })
}

/// The first half of a schedule. SDM Vol. 2B, "SHA256MSG1".
#[inline(always)]
pub fn sha256msg1(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::sha256msg1(a, b), {
        let sigma = |w: u32| w.rotate_right(7) ^ w.rotate_right(18) ^ w >> 3;
        let next = |at: usize| if at < 3 { a.lane::<u32>(at + 1) } else { b.lane::<u32>(0) };
        V128::from_lanes(|at| a.lane::<u32>(at).wrapping_add(sigma(next(at))))
    })
}

/// The second half of a schedule. SDM Vol. 2B, "SHA256MSG2".
#[inline(always)]
pub fn sha256msg2(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::sha256msg2(a, b), {
        let sigma = |w: u32| w.rotate_right(17) ^ w.rotate_right(19) ^ w >> 10;
        let ([x3, x2, x1, x0], [w15, w14, ..]) = (words(a), words(b));
        let (w16, w17) = (x0.wrapping_add(sigma(w14)), x1.wrapping_add(sigma(w15)));
        from_words([x3.wrapping_add(sigma(w17)), x2.wrapping_add(sigma(w16)), w17, w16])
    })
}

/// Multiplies bytes in the field of AES. SDM Vol. 2A, "GF2P8MULB".
#[inline(always)]
pub fn gf2p8mulb(a: V128, b: V128, h: Native) -> V128 {
    native!(h, native::gf2p8mulb(a, b), a.zip(b, multiply))
}

/// Each byte times the bit matrix in the same quadword of `matrices`.
fn transform(a: V128, matrices: V128, prepare: impl Fn(u8) -> u8) -> V128 {
    V128::from_lanes(|at| {
        let value = prepare(a.lane(at));
        let row = |bit: usize| matrices.lane::<u8>((at & 8) + 7 - bit);
        (0..8).fold(0, |byte: u8, bit| byte | ((row(bit) & value).count_ones() as u8 & 1) << bit)
    })
}

/// The byte that is added, in each lane.
#[inline(always)]
fn spread(byte: u8) -> V128 {
    V128::from_lanes(|_| byte)
}

/// Multiplies bytes by bit matrices and adds. SDM Vol. 2A, "GF2P8AFFINEQB".
#[inline(always)]
pub fn gf2p8affineqb(a: V128, matrices: V128, plus: u8, h: Native) -> V128 {
    let product = native!(h, native::gf2p8affineqb::<0>(a, matrices), transform(a, matrices, |byte| byte));
    add(product, spread(plus))
}

/// The same with the inverses of the bytes. SDM Vol. 2A, "GF2P8AFFINEINVQB".
#[inline(always)]
pub fn gf2p8affineinvqb(a: V128, matrices: V128, plus: u8, h: Native) -> V128 {
    let product = native!(
        h,
        native::gf2p8affineinvqb::<0>(a, matrices),
        transform(a, matrices, |byte| INVERSES[usize::from(byte)])
    );
    add(product, spread(plus))
}
