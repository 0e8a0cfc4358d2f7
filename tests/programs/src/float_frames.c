/* Floating-point state in signal frames, and XSAVE: what a handler finds, what it may change, and what is refused. Only
 * what concerns the x87 and SSE is printed, for a processor may have more. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum { FSAVE = 112, LEGACY = 512, HEADER = 64, SOFTWARE = 464, X87 = 1, SSE = 2 };
static const uint32_t MAGIC1 = 0x46505853, MAGIC2 = 0x46505845;

/* What is done to the frame. */
static void (*change)(uint8_t *fsave, uint8_t *fx);
static int trap_number;

static uint32_t *word(uint8_t *at)
{
    return (uint32_t *)at;
}

static void show(const char *name, uint32_t flags, uint8_t *fsave, int times)
{
    uint8_t *fx = fsave + FSAVE;
    uint32_t *sw = word(fx + SOFTWARE);

    if (times != 0)
        return;
    printf("%s: flags %x, aligned %d, magic %x, status again %d\n", name, (unsigned)flags, (uintptr_t)fx % 64 == 0,
           *word(fsave + 108) >> 16, (uint16_t)*word(fsave + 108) == (uint16_t)*word(fsave + 4));
    printf("magic 1 %d, magic 2 %d, features %x, size %d, more %d\n", sw[0] == MAGIC1, *word(fx + sw[4]) == MAGIC2,
           sw[2] & 3, sw[4] >= LEGACY + HEADER, (int)(sw[1] - sw[4]));
    printf("header %x, xmm1 %08x, mxcsr %x, st0 %02x%02x\n", *word(fx + LEGACY) & 3, *word(fx + 160 + 16),
           *word(fx + 24), fsave[28 + 9], fsave[28 + 8]);
}

static void on_usr1(int number, siginfo_t *info, void *context)
{
    static int times;
    ucontext_t *u = context;
    uint8_t *fsave = (uint8_t *)u->uc_mcontext.fpregs;

    (void)number, (void)info;
    show("rt frame", u->uc_flags, fsave, times++);
    change(fsave, fsave + FSAVE);
}

/* Without SA_SIGINFO the context is an argument by value, which has to stay where it is. */
static void on_usr2(int number, struct sigcontext context)
{
    static int times;
    struct sigcontext *volatile kept = &context;
    uint8_t *fsave = (uint8_t *)kept->fpstate;

    (void)number;
    show("frame", 0, fsave, times++);
    change(fsave, fsave + FSAVE);
    kept->fpstate = (void *)fsave;
}

static void on_segv(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)number, (void)info;
    trap_number = u->uc_mcontext.gregs[REG_TRAPNO];
    u->uc_mcontext.gregs[REG_EIP] += 3;
}

static void nothing(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave, (void)fx;
}

static void registers(uint8_t *fsave, uint8_t *fx)
{
    *word(fx + 160 + 16) = 0x5eed;
    *word(fx + 24) = 0x1f81;
    /* 2 for ST(0), in FSAVE's image and 4 in FXSAVE's. */
    *word(fsave + 28 + 8) = (*word(fsave + 28 + 8) & 0xffff0000) | 0x4000;
    memset(fsave + 28, 0, 7);
    fsave[28 + 7] = 0x80;
    memset(fx + 32, 0, 7);
    fx[32 + 7] = 0x80;
    *word(fx + 32 + 8) = 0x4001;
}

static void no_sse(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    *word(fx + LEGACY) &= ~SSE;
}

static void no_x87(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    *word(fx + LEGACY) &= ~X87;
}

static void sse_not_wanted(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    word(fx + SOFTWARE)[2] &= ~SSE;
}

static void neither_and_no_magic1(uint8_t *fsave, uint8_t *fx)
{
    registers(fsave, fx);
    *word(fx + LEGACY) = 0;
    *word(fx + SOFTWARE) = 0;
}

static void neither_and_no_magic2(uint8_t *fsave, uint8_t *fx)
{
    registers(fsave, fx);
    *word(fx + LEGACY) = 0;
    *word(fx + word(fx + SOFTWARE)[4]) = 0;
}

static void neither_and_small(uint8_t *fsave, uint8_t *fx)
{
    registers(fsave, fx);
    *word(fx + LEGACY) = 0;
    word(fx + SOFTWARE)[4] = LEGACY;
}

static void other_magic(uint8_t *fsave, uint8_t *fx)
{
    registers(fsave, fx);
    *word(fsave + 108) |= 0xffff0000;
}

static void bad_mxcsr(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    *word(fx + 24) |= 1u << 31;
}

static void bad_mxcsr_for_nobody(uint8_t *fsave, uint8_t *fx)
{
    bad_mxcsr(fsave, fx);
    *word(fx + LEGACY) = 0;
}

static void bad_mxcsr_and_no_magic1(uint8_t *fsave, uint8_t *fx)
{
    bad_mxcsr(fsave, fx);
    *word(fx + SOFTWARE) = 0;
}

static void compacted(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    *word(fx + LEGACY + 12) = 1u << 31;
}

static void reserved_bytes(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    fx[LEGACY + HEADER - 1] = 1;
}

static void unknown_state(uint8_t *fsave, uint8_t *fx)
{
    (void)fsave;
    word(fx + LEGACY)[1] = 1u << 29;
}

/* Sends itself a signal with known floating-point registers, and shows what they are behind it. */
static void send(const char *name, int signal)
{
    static const uint32_t xmm[4] = {1, 2, 3, 4};
    static const uint32_t control = 0x1fa0;
    static uint32_t after[4], mxcsr;
    static uint8_t image[108];
    int result = SYS_kill;

    __asm__ volatile("fninit; fldpi; fld1; movups %[xmm], %%xmm1; ldmxcsr %[control]; int $0x80;"
                     "movups %%xmm1, %[after]; stmxcsr %[mxcsr]; fnsave %[image]"
                     : "+a"(result), [after] "=m"(after), [mxcsr] "=m"(mxcsr), [image] "=m"(image)
                     : "b"(getpid()), "c"(signal), [xmm] "m"(xmm), [control] "m"(control)
                     : "memory");
    printf("%s: xmm1 %x %x %x %x, mxcsr %x, control %04x, status %04x, tags %04x, st0 %02x%02x %02x\n", name, after[0],
           after[1], after[2], after[3], mxcsr, (uint16_t)*word(image), (uint16_t)*word(image + 4),
           (uint16_t)*word(image + 8), image[28 + 9], image[28 + 8], image[28 + 7]);
}

static void both_ways(const char *name, void (*what)(uint8_t *, uint8_t *))
{
    change = what;
    send(name, SIGUSR1);
    send(name, SIGUSR2);
}

/* What is refused ends the process. */
static void alone(const char *name, void (*what)(uint8_t *, uint8_t *))
{
    int status;

    fflush(stdout);
    if (fork() == 0) {
        change = what;
        send(name, SIGUSR1);
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    printf("%s: status %x\n", name, status & 0x7f);
}

static void instructions(void)
{
    static uint8_t area[8192] __attribute__((aligned(64)));
    static const uint32_t xmm[4] = {5, 6, 7, 8};
    static uint32_t after[4];
    struct sigaction action = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
    uint32_t eax, ebx, ecx, edx, high;

    __cpuid(1, eax, ebx, ecx, edx);
    printf("xsave %u, osxsave %u\n", ecx >> 26 & 1, ecx >> 27 & 1);
    __cpuid(0, eax, ebx, ecx, edx);
    printf("leaf %d\n", eax >= 13);
    __cpuid_count(13, 0, eax, ebx, ecx, edx);
    printf("states %x, room %d\n", eax & 3, ebx >= LEGACY + HEADER && ecx >= ebx);
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(high) : "c"(0));
    printf("XCR0 %x\n", eax & 3);
    sigaction(SIGSEGV, &action, NULL);
    __asm__ volatile("xgetbv" : "=a"(eax), "=d"(high) : "c"(7) : "memory");
    signal(SIGSEGV, SIG_DFL);
    printf("XCR7: trap %d\n", trap_number);
    for (uint32_t states = 0; states < 4; states++) {
        memset(area, 0xa5, sizeof area);
        memset(area + LEGACY, 0, HEADER);
        __asm__ volatile("fninit; fldpi; movups %[xmm], %%xmm2; xsave %[area]"
                         : [area] "+m"(area) : "a"(states), "d"(0), [xmm] "m"(xmm) : "memory");
        uint32_t sum = 0;
        for (int at = 0; at < 1024; at++)
            if (at < 6 || at >= 32) /* without pointers, and the mask of MXCSR */
                sum = sum * 31 + area[at];
        printf("saved %x: header %x, sum %08x\n", states, *word(area + LEGACY), sum);
    }
    for (uint32_t in_header = 0; in_header < 4; in_header++) {
        *word(area + LEGACY) = in_header;
        __asm__ volatile("xorps %%xmm2, %%xmm2; fninit; xrstor %[area]; movups %%xmm2, %[after]; fnsave %[image]"
                         : [after] "=m"(after), [image] "=m"(*(uint8_t(*)[108])(area + 2048))
                         : [area] "m"(area), "a"(3), "d"(0) : "memory");
        printf("restored %x: xmm2 %x, tags %04x\n", in_header, after[0], (uint16_t)*word(area + 2048 + 8));
    }
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    struct sigaction action = {.sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO};

    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, (void (*)(int))(void *)on_usr2);
    instructions();
    both_ways("nothing", nothing);
    both_ways("registers", registers);
    both_ways("no SSE", no_sse);
    both_ways("no x87", no_x87);
    both_ways("SSE not wanted", sse_not_wanted);
    both_ways("neither and no magic 1", neither_and_no_magic1);
    both_ways("neither and no magic 2", neither_and_no_magic2);
    both_ways("neither and small", neither_and_small);
    both_ways("other magic", other_magic);
    alone("bad MXCSR", bad_mxcsr);
    alone("bad MXCSR for nobody", bad_mxcsr_for_nobody);
    alone("bad MXCSR and no magic 1", bad_mxcsr_and_no_magic1);
    alone("compacted", compacted);
    alone("reserved bytes", reserved_bytes);
    alone("unknown state", unknown_state);
    return 0;
}
