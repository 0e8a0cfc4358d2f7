//! Instructions of an x86 host that not every x86-64 has, for guests that use the same. Unsafe: inline assembly.
//!
//! A body with `takes = "host"` is told by a [`Native`] whether the host has them; it does the same in plain Rust where not.
#![allow(unsafe_code)]

/// Whether the host's own instruction may be used.
#[derive(Clone, Copy, Debug)]
pub struct Native(bool);

impl Native {
    /// It may, or it may not.
    #[inline(always)]
    pub fn new(native: bool) -> Native {
        Native(native)
    }

    /// Whether it may.
    #[inline(always)]
    pub fn native(self) -> bool {
        self.0
    }
}

macro_rules! features {
    ($($name:ident $bit:literal $text:tt;)*) => {
        $(
            #[doc = concat!("`", $text, "`.")]
            pub const $name: u32 = 1 << $bit;
        )*

        /// What the host has.
        pub fn features() -> u32 {
            #[cfg(target_arch = "x86_64")]
            return 0 $(| if std::arch::is_x86_feature_detected!($text) { $name } else { 0 })*;
            #[cfg(not(target_arch = "x86_64"))]
            0
        }
    };
}

features! {
    SSE3 0 "sse3";
    SSSE3 1 "ssse3";
    SSE4_1 2 "sse4.1";
    SSE4_2 3 "sse4.2";
    POPCNT 4 "popcnt";
    AES 5 "aes";
    PCLMULQDQ 6 "pclmulqdq";
    SHA 7 "sha";
    GFNI 8 "gfni";
    LZCNT 9 "lzcnt";
    BMI1 10 "bmi1";
    BMI2 11 "bmi2";
}

/// The vector, in a vector register if the host has such.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn in_register(vector: crate::cpu::vector::V128) -> crate::cpu::vector::V128 {
    vector
}

#[cfg(target_arch = "x86_64")]
pub use instructions::*;

#[cfg(target_arch = "x86_64")]
mod instructions {
    use crate::cpu::Word;
    use crate::cpu::vector::{V128, Vector};
    use std::arch::asm;
    use std::arch::x86_64::__m128i;

    /// The vector, in a vector register. For what the compiler would rather do with two general ones.
    #[inline(always)]
    pub fn in_register(vector: V128) -> V128 {
        let mut host: __m128i = vector.into();
        // SAFETY: there is no instruction.
        unsafe { asm!("/* {0} */", inout(xmm_reg) host, options(pure, nomem, nostack, preserves_flags)) };
        host.into()
    }

    /// Functions of vectors by an instruction; those of two write the first.
    macro_rules! vectors {
        ($($name:ident $instruction:literal ($a:ident $(, $b:ident)?) $doc:literal;)*) => {$(
            #[doc = $doc]
            #[inline(always)]
            pub fn $name($a: V128 $(, $b: V128)?) -> V128 {
                let mut result: __m128i = $a.into();
                $(let $b: __m128i = $b.into();)?
                // SAFETY: the caller knows that the host has it; it touches nothing but its operands.
                unsafe {
                    vectors!(@run $instruction, result $(, $b)?);
                }
                result.into()
            }
        )*};
        (@run $instruction:literal, $a:ident, $b:ident) => {
            asm!(concat!($instruction, " {a}, {b}"), a = inout(xmm_reg) $a, b = in(xmm_reg) $b,
                options(pure, nomem, nostack, preserves_flags))
        };
        (@run $instruction:literal, $a:ident) => {
            asm!(concat!($instruction, " {a}, {a}"), a = inout(xmm_reg) $a, options(pure, nomem, nostack, preserves_flags))
        };
    }

    vectors! {
        pshufb "pshufb" (a, b) "SDM Vol. 2B, \"PSHUFB\", of 128 bits.";
        pmulld "pmulld" (a, b) "SDM Vol. 2B, \"PMULLD\".";
        packsswb "packsswb" (a, b) "SDM Vol. 2B, \"PACKSSWB\".";
        packssdw "packssdw" (a, b) "SDM Vol. 2B, \"PACKSSDW\".";
        packuswb "packuswb" (a, b) "SDM Vol. 2B, \"PACKUSWB\".";
        punpcklbw "punpcklbw" (a, b) "SDM Vol. 2B, \"PUNPCKLBW\".";
        punpcklwd "punpcklwd" (a, b) "SDM Vol. 2B, \"PUNPCKLWD\".";
        punpckldq "punpckldq" (a, b) "SDM Vol. 2B, \"PUNPCKLDQ\".";
        punpckhbw "punpckhbw" (a, b) "SDM Vol. 2B, \"PUNPCKHBW\".";
        punpckhwd "punpckhwd" (a, b) "SDM Vol. 2B, \"PUNPCKHWD\".";
        punpckhdq "punpckhdq" (a, b) "SDM Vol. 2B, \"PUNPCKHDQ\".";
        pmaddwd "pmaddwd" (a, b) "SDM Vol. 2B, \"PMADDWD\".";
        psadbw "psadbw" (a, b) "SDM Vol. 2B, \"PSADBW\".";
        aesimc "aesimc" (a) "SDM Vol. 2A, \"AESIMC\".";
        aesenc "aesenc" (a, b) "SDM Vol. 2A, \"AESENC\".";
        aesenclast "aesenclast" (a, b) "SDM Vol. 2A, \"AESENCLAST\".";
        aesdec "aesdec" (a, b) "SDM Vol. 2A, \"AESDEC\".";
        aesdeclast "aesdeclast" (a, b) "SDM Vol. 2A, \"AESDECLAST\".";
        sha1nexte "sha1nexte" (a, b) "SDM Vol. 2B, \"SHA1NEXTE\".";
        sha1msg1 "sha1msg1" (a, b) "SDM Vol. 2B, \"SHA1MSG1\".";
        sha1msg2 "sha1msg2" (a, b) "SDM Vol. 2B, \"SHA1MSG2\".";
        sha256msg1 "sha256msg1" (a, b) "SDM Vol. 2B, \"SHA256MSG1\".";
        sha256msg2 "sha256msg2" (a, b) "SDM Vol. 2B, \"SHA256MSG2\".";
        gf2p8mulb "gf2p8mulb" (a, b) "SDM Vol. 2A, \"GF2P8MULB\".";
    }

    /// Which bytes of a vector make its doublewords in each order that two bits each can say.
    static ORDERS: [[u8; 16]; 256] = {
        let mut orders = [[0; 16]; 256];
        let mut order = 0;
        while order < 256 {
            let mut at = 0;
            while at < 16 {
                orders[order][at] = (order >> (at / 4 * 2) & 3) as u8 * 4 + at as u8 % 4;
                at += 1;
            }
            order += 1;
        }
        orders
    };

    /// SDM Vol. 2B, "PSHUFD", of any order: by PSHUFB, as an order is a part of the former.
    #[inline(always)]
    pub fn shuffle(a: V128, order: u8) -> V128 {
        pshufb(a, V128::from(ORDERS[usize::from(order)]))
    }

    /// The same of instructions with an immediate, which is a part of them.
    macro_rules! with_immediate {
        ($($name:ident $instruction:literal $doc:literal;)*) => {$(
            #[doc = $doc]
            #[inline(always)]
            pub fn $name<const IMMEDIATE: i32>(a: V128, b: V128) -> V128 {
                let (mut a, b): (__m128i, __m128i) = (a.into(), b.into());
                // SAFETY: as for the functions without.
                unsafe {
                    asm!(concat!($instruction, " {a}, {b}, {i}"), a = inout(xmm_reg) a, b = in(xmm_reg) b, i = const IMMEDIATE,
                        options(pure, nomem, nostack, preserves_flags));
                }
                a.into()
            }
        )*};
    }

    with_immediate! {
        aeskeygenassist "aeskeygenassist" "SDM Vol. 2A, \"AESKEYGENASSIST\"; of the second operand, as the first is written.";
        pclmulqdq "pclmulqdq" "SDM Vol. 2B, \"PCLMULQDQ\".";
        sha1rnds4 "sha1rnds4" "SDM Vol. 2B, \"SHA1RNDS4\".";
        gf2p8affineqb "gf2p8affineqb" "SDM Vol. 2A, \"GF2P8AFFINEQB\".";
        gf2p8affineinvqb "gf2p8affineinvqb" "SDM Vol. 2A, \"GF2P8AFFINEINVQB\".";
    }

    /// SDM Vol. 2B, "PMOVMSKB".
    #[inline(always)]
    pub fn pmovmskb(a: V128) -> u32 {
        let a: __m128i = a.into();
        let bits;
        // SAFETY: as for the others.
        unsafe {
            asm!("pmovmskb {0:e}, {1}", out(reg) bits, in(xmm_reg) a, options(pure, nomem, nostack, preserves_flags));
        }
        bits
    }

    /// SDM Vol. 2B, "SHA256RNDS2".
    #[inline(always)]
    pub fn sha256rnds2(a: V128, b: V128, words: V128) -> V128 {
        let (mut a, b, words): (__m128i, __m128i, __m128i) = (a.into(), b.into(), words.into());
        // SAFETY: as for the others.
        unsafe {
            asm!("sha256rnds2 {a}, {b}", a = inout(xmm_reg) a, b = in(xmm_reg) b, in("xmm0") words,
                options(pure, nomem, nostack, preserves_flags));
        }
        a.into()
    }

    /// SDM Vol. 2B, "POPCNT".
    #[inline(always)]
    pub fn popcnt(source: u32) -> u32 {
        let count;
        // SAFETY: as for the others.
        unsafe {
            asm!("popcnt {0:e}, {1:e}", out(reg) count, in(reg) source, options(pure, nomem, nostack));
        }
        count
    }

    /// SDM Vol. 2A, "CRC32".
    #[inline(always)]
    pub fn crc32<W: Word>(mut crc: u32, data: W) -> u32 {
        // SAFETY: as for the others.
        unsafe {
            match W::BITS {
                8 => {
                    asm!("crc32 {0:e}, {1}", inout(reg) crc, in(reg_byte) data.u32() as u8, options(pure, nomem, nostack))
                }
                16 => {
                    asm!("crc32 {0:e}, {1:x}", inout(reg) crc, in(reg) data.u32() as u16, options(pure, nomem, nostack))
                }
                _ => {
                    asm!("crc32 {0:e}, {1:e}", inout(reg) crc, in(reg) data.u32(), options(pure, nomem, nostack))
                }
            }
        }
        crc
    }

    /// Functions of two numbers.
    macro_rules! numbers {
        ($($name:ident $instruction:literal $doc:literal;)*) => {$(
            #[doc = $doc]
            #[inline(always)]
            pub fn $name(a: u32, b: u32) -> u32 {
                let result;
                // SAFETY: as for the others.
                unsafe {
                    asm!(concat!($instruction, " {0:e}, {1:e}, {2:e}"), out(reg) result, in(reg) a, in(reg) b,
                        options(pure, nomem, nostack, preserves_flags));
                }
                result
            }
        )*};
    }

    numbers! {
        pdep "pdep" "SDM Vol. 2B, \"PDEP\".";
        pext "pext" "SDM Vol. 2B, \"PEXT\".";
    }

    /// Rounding to integers: by the bits of an immediate, which is a part of the instruction.
    macro_rules! round {
        ($($name:ident $packed:literal $scalar:literal $doc:literal;)*) => {$(
            #[doc = $doc]
            #[inline(always)]
            pub fn $name<V: Vector>(a: V, how: u8) -> V {
                #[inline(always)]
                fn by<V: Vector, const HOW: i32>(a: V) -> V {
                    let mut a: __m128i = a.resize::<V128>().into();
                    // SAFETY: the caller knows that the host has it; it touches nothing but its operands and MXCSR's flags.
                    unsafe {
                        if V::BYTES == 16 {
                            asm!(concat!($packed, " {a}, {a}, {how}"), a = inout(xmm_reg) a, how = const HOW, options(nomem, nostack));
                        } else {
                            asm!(concat!($scalar, " {a}, {a}, {how}"), a = inout(xmm_reg) a, how = const HOW, options(nomem, nostack));
                        }
                    }
                    V128::from(a).resize()
                }
                match how & 15 {
                    0 => by::<V, 0>(a),
                    1 => by::<V, 1>(a),
                    2 => by::<V, 2>(a),
                    3 => by::<V, 3>(a),
                    8 => by::<V, 8>(a),
                    9 => by::<V, 9>(a),
                    10 => by::<V, 10>(a),
                    11 => by::<V, 11>(a),
                    how if how & 8 == 0 => by::<V, 4>(a),
                    _ => by::<V, 12>(a),
                }
            }
        )*};
    }

    round! {
        roundps "roundps" "roundss" "SDM Vol. 2B, \"ROUNDPS\".";
        roundpd "roundpd" "roundsd" "SDM Vol. 2B, \"ROUNDPD\".";
    }
}
