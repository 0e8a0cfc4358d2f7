/* Byte stores in strides and a linear scan: the sieve of Eratosthenes over odd numbers. */
#define KERNEL_NAME "sieve"
#include "guest.h"

#define LIMIT 1000000
#define SLOTS (LIMIT / 2)

static u8 composite[SLOTS];

static void setup(void) {}

static u32 kernel(u32 repetition)
{
    u32 count = 1, sum = 2;

    for (u32 i = 0; i < SLOTS; i++)
        composite[i] = 0;
    for (u32 i = 1; i < SLOTS; i++) {
        if (composite[i])
            continue;
        u32 prime = 2 * i + 1;
        count++;
        sum += prime ^ repetition;
        if (prime < 1000)
            for (u32 k = 2 * i * (i + 1); k < SLOTS; k += prime)
                composite[k] = 1;
    }
    return sum * 31 + count;
}
