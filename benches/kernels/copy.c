/* Copies of all sizes by 16 bytes at a time, aligned and not, as C libraries do them with SSE2. */
#define KERNEL_NAME "copy"
#include "guest.h"
#include <emmintrin.h>

#define SIZE 65536

static u8 from[SIZE + 64] __attribute__((aligned(64)));
static u8 to[SIZE + 64] __attribute__((aligned(64)));

static void setup(void)
{
    for (u32 i = 0; i < sizeof from; i++)
        from[i] = (u8)next_random();
}

static NOINLINE void copy(u8 *target, const u8 *source, u32 length)
{
    for (; length >= 64; length -= 64, target += 64, source += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)source);
        __m128i b = _mm_loadu_si128((const __m128i *)(source + 16));
        __m128i c = _mm_loadu_si128((const __m128i *)(source + 32));
        __m128i d = _mm_loadu_si128((const __m128i *)(source + 48));
        _mm_storeu_si128((__m128i *)target, a);
        _mm_storeu_si128((__m128i *)(target + 16), b);
        _mm_storeu_si128((__m128i *)(target + 32), c);
        _mm_storeu_si128((__m128i *)(target + 48), d);
    }
    for (; length >= 16; length -= 16, target += 16, source += 16)
        _mm_storeu_si128((__m128i *)target, _mm_loadu_si128((const __m128i *)source));
}

static u32 kernel(u32 repetition)
{
    u32 sum = repetition;

    for (u32 length = 32; length <= SIZE; length += length / 2) {
        length &= ~15u;
        copy(to + (repetition & 15), from + (length & 7), length);
        sum = sum * 31 + to[length / 2];
    }
    return sum;
}
