/*
 * What everyday programs do between system calls: makes a text, splits it into words, counts them in a
 * hash table, formats and parses numbers, compares strings, packs the text and unpacks it again.
 */
#define KERNEL_NAME "mixed"
#include "guest.h"

#define TEXT_LENGTH 30000
#define BUCKETS 1024
#define WORDS 4096
#define MIN_MATCH 4

struct word {
    struct word *next;
    const char *text;
    u32 length, count;
};

static char text[TEXT_LENGTH + 64], unpacked[TEXT_LENGTH + 64];
static u8 packed[2 * TEXT_LENGTH];
static struct word words[WORDS], *buckets[BUCKETS];
static u32 word_count;

static void setup(void)
{
    static const char *const syllables[] = {"ta", "ble", "ing", "er", "con", "de", "re", "st", "o", "un", "ly", "pro"};
    u32 length = 0;

    while (length < TEXT_LENGTH) {
        u32 count = 1 + (next_random() >> 8) % 3;
        while (count-- > 0)
            for (const char *s = syllables[(next_random() >> 8) % COUNT(syllables)]; *s; s++)
                text[length++] = *s;
        text[length++] = next_random() >> 29 ? ' ' : '\n';
    }
}

static NOINLINE int same(const char *a, const char *b, u32 length)
{
    for (u32 i = 0; i < length; i++)
        if (a[i] != b[i])
            return 0;
    return 1;
}

static NOINLINE void count_word(const char *start, u32 length)
{
    u32 hash = 5381;

    for (u32 i = 0; i < length; i++)
        hash = hash * 33 ^ (u8)start[i];
    struct word **link = &buckets[hash % BUCKETS];
    for (; *link; link = &(*link)->next)
        if ((*link)->length == length && same((*link)->text, start, length)) {
            (*link)->count++;
            return;
        }
    if (word_count == WORDS)
        return;
    *link = &words[word_count++];
    **link = (struct word){0, start, length, 1};
}

static NOINLINE u32 format_number(char *to, u32 value)
{
    char digits[10];
    u32 length = 0;

    do
        digits[length++] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    for (u32 i = 0; i < length; i++)
        to[i] = digits[length - 1 - i];
    to[length] = 0;
    return length;
}

/* Copies bytes or earlier matches: a byte below 128 counts literals; from 128 on, a match and its distance. */
static NOINLINE u32 pack(void)
{
    static u32 last_seen[4096];
    u32 out = 0, literals = 0;

    for (u32 i = 0; i < COUNT(last_seen); i++)
        last_seen[i] = ~0u;
    for (u32 i = 0; i < TEXT_LENGTH;) {
        u32 key = (u8)text[i] | (u32)(u8)text[i + 1] << 8 | (u32)(u8)text[i + 2] << 16 | (u32)(u8)text[i + 3] << 24;
        u32 *slot = &last_seen[key * 2654435761u >> 20];
        u32 from = *slot, length = 0;
        *slot = i;
        if (from != ~0u && i - from < 65536)
            while (length < 127 + MIN_MATCH && i + length < TEXT_LENGTH && text[from + length] == text[i + length])
                length++;
        if (length >= MIN_MATCH) {
            packed[out++] = (u8)(128 + length - MIN_MATCH);
            packed[out++] = (u8)(i - from);
            packed[out++] = (u8)((i - from) >> 8);
            i += length;
            literals = 0;
            continue;
        }
        if (literals == 0 || packed[literals - 1] == 127) {
            packed[out++] = 0;
            literals = out;
        } else {
            packed[literals - 1]++;
        }
        packed[out++] = (u8)text[i++];
    }
    return out;
}

static NOINLINE u32 unpack(u32 length)
{
    u32 out = 0;

    for (u32 i = 0; i < length;) {
        u32 control = packed[i++];
        if (control < 128) {
            for (u32 k = 0; k <= control; k++)
                unpacked[out++] = (char)packed[i++];
        } else {
            u32 distance = packed[i] | (u32)packed[i + 1] << 8;
            i += 2;
            for (u32 k = 0; k < control - 128 + MIN_MATCH; k++, out++)
                unpacked[out] = unpacked[out - distance];
        }
    }
    return out;
}

static u32 kernel(u32 repetition)
{
    u32 sum = repetition, start = 0;
    char number[12];

    word_count = 0;
    for (u32 i = 0; i < BUCKETS; i++)
        buckets[i] = 0;
    for (u32 i = 0; i < TEXT_LENGTH; i++)
        if (text[i] == ' ' || text[i] == '\n') {
            if (i > start)
                count_word(text + start, i - start);
            start = i + 1;
        }
    for (u32 i = 0; i < word_count; i++) {
        sum += format_number(number, words[i].count * 2654435761u);
        sum = sum * 31 + parse_number(number);
    }
    u32 packed_length = pack();
    if (unpack(packed_length) != TEXT_LENGTH || !same(text, unpacked, TEXT_LENGTH))
        return ~0u;
    return sum * 31 + packed_length;
}
