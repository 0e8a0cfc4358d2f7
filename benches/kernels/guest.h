/*
 * What a freestanding i386 Linux program needs: a start, output and an end by int 0x80, a repetition
 * loop. Each kernel includes this file and defines KERNEL_NAME, setup() and kernel().
 *
 * argv[1] is the number of repetitions (default 1). All repetitions do the same amount of work, so the
 * instructions executed are a + b * repetitions. The checksum printed covers every repetition.
 */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned int u32;

#define NOINLINE __attribute__((noinline, noclone))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Prepares the data; runs once. */
static void setup(void);

/* One repetition; its result goes into the checksum. */
static u32 kernel(u32 repetition);

static inline int system_call(int number, int a, int b, int c)
{
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

static void put(const char *text, u32 length)
{
    while (length > 0) {
        int written = system_call(4 /* write */, 1, (int)text, (int)length);
        if (written <= 0)
            system_call(1 /* exit */, 1, 0, 0);
        text += written;
        length -= (u32)written;
    }
}

/* gcc calls these even in freestanding code. */
__attribute__((used)) void *memcpy(void *to, const void *from, u32 length)
{
    u8 *t = to;
    const u8 *f = from;
    while (length-- > 0)
        *t++ = *f++;
    return to;
}

__attribute__((used)) void *memset(void *to, int value, u32 length)
{
    u8 *t = to;
    while (length-- > 0)
        *t++ = (u8)value;
    return to;
}

/* Marsaglia's xorshift: the same data on every run. */
static u32 random_state = 2463534242u;

static inline u32 next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static u32 parse_number(const char *text)
{
    u32 value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (u32)(*text - '0');
    return value;
}

__attribute__((used, noreturn)) static void guest_main(const u32 *stack)
{
    u32 argc = stack[0];
    u32 repetitions = argc > 1 ? parse_number((const char *)stack[2]) : 1;
    u32 checksum = 0;
    char line[] = KERNEL_NAME " 00000000\n";

    setup();
    for (u32 i = 0; i < repetitions; i++)
        checksum = (checksum << 5 | checksum >> 27) ^ kernel(i);
    for (u32 i = 0; i < 8; i++)
        line[sizeof KERNEL_NAME + i] = "0123456789abcdef"[checksum >> (28 - 4 * i) & 15];
    put(line, sizeof line - 1);
    for (;;)
        system_call(1 /* exit */, 0, 0, 0);
}

__asm__(".globl _start\n"
        "_start:\n"
        "    mov %esp, %eax\n"
        "    xor %ebp, %ebp\n"
        "    and $-16, %esp\n"
        "    sub $12, %esp\n"
        "    push %eax\n"
        "    call guest_main\n");

#endif
