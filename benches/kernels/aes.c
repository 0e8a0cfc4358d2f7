/* AES-128 in counter mode by AES-NI, four blocks at a time. */
#define KERNEL_NAME "aes"
#include "guest.h"
#include <wmmintrin.h>

#define BLOCKS 1024

static __m128i keys[11];
static __m128i data[BLOCKS];

static inline __m128i next_key(__m128i key, __m128i made)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, _mm_shuffle_epi32(made, 0xff));
}

static void setup(void)
{
    keys[0] = _mm_set_epi32((int)next_random(), (int)next_random(), (int)next_random(), (int)next_random());
#define ROUND(n, constant) keys[n] = next_key(keys[n - 1], _mm_aeskeygenassist_si128(keys[n - 1], constant))
    ROUND(1, 1), ROUND(2, 2), ROUND(3, 4), ROUND(4, 8), ROUND(5, 16);
    ROUND(6, 32), ROUND(7, 64), ROUND(8, 128), ROUND(9, 27), ROUND(10, 54);
}

static u32 kernel(u32 repetition)
{
    __m128i counter = _mm_set_epi32((int)repetition, 0, 0, 0), sum = counter;
    const __m128i one = _mm_set_epi32(0, 0, 0, 1);

    for (u32 i = 0; i < BLOCKS; i += 4) {
        __m128i block[4];
        for (u32 k = 0; k < 4; k++) {
            block[k] = _mm_xor_si128(counter, keys[0]);
            counter = _mm_add_epi64(counter, one);
        }
        for (u32 round = 1; round < 10; round++)
            for (u32 k = 0; k < 4; k++)
                block[k] = _mm_aesenc_si128(block[k], keys[round]);
        for (u32 k = 0; k < 4; k++) {
            data[i + k] = _mm_xor_si128(data[i + k], _mm_aesenclast_si128(block[k], keys[10]));
            sum = _mm_add_epi32(sum, data[i + k]);
        }
    }
    return (u32)_mm_cvtsi128_si32(sum) ^ (u32)_mm_cvtsi128_si32(_mm_srli_si128(sum, 8));
}
