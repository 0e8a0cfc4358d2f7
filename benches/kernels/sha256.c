/* Rotations, additions and more live values than registers: SHA-256 (FIPS 180-4) of a buffer. */
#define KERNEL_NAME "sha256"
#include "guest.h"

static u8 data[1 << 18];
static u32 round_constants[64];
static u32 initial_state[8];

#define LIMBS 9

/* product = factor * base, in limbs of 16 bits, the lowest first. */
static void multiply(u32 product[LIMBS], const u32 factor[LIMBS], const u32 base[3])
{
    for (int i = 0; i < LIMBS; i++)
        product[i] = 0;
    for (int i = 0; i + 3 < LIMBS; i++) {
        u32 carry = 0;
        for (int j = 0; j < 3; j++) {
            u32 value = product[i + j] + factor[i] * base[j] + carry;
            product[i + j] = value & 0xffff;
            carry = value >> 16;
        }
        product[i + 3] += carry;
    }
}

/* The first 32 bits of the fraction of the square (degree 2) or cube (degree 3) root of a prime. */
static u32 root_fraction(u32 prime, int degree)
{
    u32 whole = 0, fraction = 0;

    while ((whole + 1) * (whole + 1) * (degree == 3 ? whole + 1 : 1) <= prime)
        whole++;
    for (u32 bit = 1u << 31; bit != 0; bit >>= 1) {
        u32 candidate = fraction | bit;
        u32 base[3] = {candidate & 0xffff, candidate >> 16, whole};
        u32 power[LIMBS] = {base[0], base[1], base[2]}, product[LIMBS];
        for (int i = 1; i < degree; i++) {
            multiply(product, power, base);
            for (int k = 0; k < LIMBS; k++)
                power[k] = product[k];
        }
        if (power[2 * degree] < prime)
            fraction = candidate;
    }
    return fraction;
}

static void setup(void)
{
    u32 found = 0;

    for (u32 n = 2; found < 64; n++) {
        u32 divisor = 2;
        while (divisor * divisor <= n && n % divisor != 0)
            divisor++;
        if (divisor * divisor <= n)
            continue;
        if (found < 8)
            initial_state[found] = root_fraction(n, 2);
        round_constants[found++] = root_fraction(n, 3);
    }
    for (u32 i = 0; i < COUNT(data); i++)
        data[i] = (u8)next_random();
}

static inline u32 rotate_right(u32 value, int count)
{
    return value >> count | value << (32 - count);
}

static NOINLINE void compress(u32 state[8], const u8 block[64])
{
    u32 w[64];
    u32 a = state[0], b = state[1], c = state[2], d = state[3];
    u32 e = state[4], f = state[5], g = state[6], h = state[7];

    for (int i = 0; i < 16; i++)
        w[i] = (u32)block[4 * i] << 24 | (u32)block[4 * i + 1] << 16 | (u32)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        u32 s0 = rotate_right(w[i - 15], 7) ^ rotate_right(w[i - 15], 18) ^ w[i - 15] >> 3;
        u32 s1 = rotate_right(w[i - 2], 17) ^ rotate_right(w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    for (int i = 0; i < 64; i++) {
        u32 s1 = rotate_right(e, 6) ^ rotate_right(e, 11) ^ rotate_right(e, 25);
        u32 t1 = h + s1 + ((e & f) ^ (~e & g)) + round_constants[i] + w[i];
        u32 s0 = rotate_right(a, 2) ^ rotate_right(a, 13) ^ rotate_right(a, 22);
        u32 t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + t1;
        d = c, c = b, b = a, a = t1 + t2;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static u32 kernel(u32 repetition)
{
    u32 state[8];

    for (int i = 0; i < 8; i++)
        state[i] = initial_state[i];
    data[0] = (u8)repetition;
    for (u32 i = 0; i < COUNT(data); i += 64)
        compress(state, data + i);
    return state[0] ^ state[7];
}
