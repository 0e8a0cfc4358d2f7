/* Signals: faults with their details, handlers on an alternate stack, masks, timers, queued values. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf after_fault;
static volatile siginfo_t seen;
static volatile int on_alternate_stack, trap_number, error_code;
static char *alternate_stack;
static volatile sig_atomic_t count;
static volatile int *volatile unmapped = (int *)16;

static void on_fault(int number, siginfo_t *info, void *context)
{
    const ucontext_t *u = context;
    char here;

    (void)number;
    seen.si_signo = info->si_signo;
    seen.si_code = info->si_code;
    seen.si_addr = info->si_addr;
    trap_number = u->uc_mcontext.gregs[REG_TRAPNO];
    error_code = u->uc_mcontext.gregs[REG_ERR];
    on_alternate_stack = &here >= alternate_stack && &here < alternate_stack + SIGSTKSZ;
    siglongjmp(after_fault, 1);
}

static void on_count(int number)
{
    count += number == SIGALRM ? 1 : 100;
}

static void on_value(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    count += info->si_value.sival_int;
}

/* Moves the instruction pointer behind a two-byte ud2. */
static void skip_ud2(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)number, (void)info;
    u->uc_mcontext.gregs[REG_EIP] += 2;
    u->uc_mcontext.gregs[REG_EAX] = 77;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

#define FAULT(what, statement)                                                                                   \
    do {                                                                                                         \
        if (sigsetjmp(after_fault, 1) == 0) {                                                                    \
            statement;                                                                                           \
            printf("%s: no fault\n", what);                                                                      \
        } else {                                                                                                 \
            printf("%s: signal %d code %d trap %d error %x alternate %d\n", what, seen.si_signo, seen.si_code,   \
                   trap_number, error_code, on_alternate_stack);                                                 \
        }                                                                                                        \
    } while (0)

int main(void)
{
    volatile int zero = 0, one = 1, smallest = INT_MIN;
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack;
    int result = 0;

    alternate_stack = malloc(SIGSTKSZ);
    stack = (stack_t){.ss_sp = alternate_stack, .ss_size = SIGSTKSZ};
    sigaltstack(&stack, NULL);
    handle(SIGSEGV, on_fault, SA_ONSTACK);
    handle(SIGBUS, on_fault, 0);
    handle(SIGFPE, on_fault, 0);
    handle(SIGILL, on_fault, 0);
    handle(SIGTRAP, on_fault, 0);

    FAULT("write to address 16", *unmapped = 1);
    printf("  address %p\n", seen.si_addr);
    FAULT("write to a read-only page", *(volatile char *)(page + 5) = 1);
    printf("  offset %d\n", (int)((char *)seen.si_addr - page));
    FAULT("read of a read-only page", result += *(volatile char *)(page + 5));
    mprotect(page, 4096, PROT_NONE);
    FAULT("read of a protected page", result += *(volatile char *)(page + 4095));
    FAULT("call of a page that is not executable", ((void (*)(void))(uintptr_t)(page + 4096))());
    FAULT("division by zero", zero = one / zero);
    FAULT("quotient too large", zero = smallest / -one);
    FAULT("ud2", __asm__ volatile("ud2"));
    FAULT("int3", __asm__ volatile("int3"));
    FAULT("hlt", __asm__ volatile("hlt"));
    FAULT("int 0x81", __asm__ volatile("int $0x81"));
    FAULT("into", __asm__ volatile("movl $0x7fffffff, %%eax; incl %%eax; into" ::: "eax", "cc"));
    FAULT("bound", __asm__ volatile("movl $9, %%eax; bound %%eax, %0" ::"m"(*(const int64_t[]){5LL << 32}) : "eax"));

    handle(SIGILL, skip_ud2, 0);
    __asm__ volatile("ud2" : "=a"(result));
    printf("continued with %d\n", result);

    signal(SIGUSR1, on_count);
    raise(SIGUSR1);
    printf("raised: %d\n", count);
    sigset_t blocked, pending;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    kill(getpid(), SIGUSR1);
    sigpending(&pending);
    printf("blocked: %d, pending %d\n", count, sigismember(&pending, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    printf("unblocked: %d\n", count);

    count = 0;
    handle(SIGRTMIN, on_value, 0);
    sigaddset(&blocked, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    for (int i = 1; i <= 3; i++)
        sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i * i});
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    printf("queued: %d\n", count);

    count = 0;
    signal(SIGALRM, on_count);
    struct itimerval every = {{0, 20000}, {0, 20000}};
    setitimer(ITIMER_REAL, &every, NULL);
    while (count < 3)
        ; /* a busy loop has to be interrupted too */
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    printf("timer ticks: %d\n", count >= 3);

    struct sigaction interrupting = {.sa_handler = on_count};
    sigaction(SIGALRM, &interrupting, NULL);
    int ends[2];
    char byte;
    if (pipe(ends) != 0)
        return 1;
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 50000}}, NULL);
    result = (int)read(ends[0], &byte, 1);
    printf("interrupted read: %d %s\n", result, strerror(errno));
    fflush(stdout);
    signal(SIGABRT, SIG_DFL);
    abort();
}
