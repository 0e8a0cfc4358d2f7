/* A dependent chain through a 1 KiB table: CRC-32 (IEEE 802.3), a byte at a time. */
#define KERNEL_NAME "crc32"
#include "guest.h"

static u32 table[256];
static u8 data[1 << 18];

static void setup(void)
{
    for (u32 i = 0; i < 256; i++) {
        u32 remainder = i;
        for (int bit = 0; bit < 8; bit++)
            remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320u : 0);
        table[i] = remainder;
    }
    for (u32 i = 0; i < COUNT(data); i++)
        data[i] = (u8)next_random();
}

static u32 kernel(u32 repetition)
{
    u32 crc = ~repetition;

    for (int pass = 0; pass < 8; pass++)
        for (u32 i = 0; i < COUNT(data); i++)
            crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    return ~crc;
}
