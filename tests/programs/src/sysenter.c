/* SYSENTER by a program's own hand, as __kernel_vsyscall has it: what Linux makes of EBP, ESP and EIP, of a stack that is none, of
   the trap flag, of signals that come before, during and behind the call, and how all that unwinds. */
#define _GNU_SOURCE
#include <errno.h>
#include <execinfo.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* call_it(nr, a, b, c, d, e, f): the call, and what is in registers behind it. */
struct registers {
    uint32_t ebx, ecx, edx, esi, edi, ebp, esp_moved;
} seen;

int call_it(int nr, ...);
int call_without_stack(int nr, ...);
__asm__(".text\n"
        ".globl call_it\n"
        "call_it:\n"
        "    .cfi_startproc\n"
        "    push %ebp\n    .cfi_adjust_cfa_offset 4\n    .cfi_rel_offset %ebp, 0\n"
        "    push %ebx\n    .cfi_adjust_cfa_offset 4\n    .cfi_rel_offset %ebx, 0\n"
        "    push %esi\n    .cfi_adjust_cfa_offset 4\n    .cfi_rel_offset %esi, 0\n"
        "    push %edi\n    .cfi_adjust_cfa_offset 4\n    .cfi_rel_offset %edi, 0\n"
        "    mov 20(%esp), %eax; mov 24(%esp), %ebx; mov 28(%esp), %ecx\n"
        "    mov 32(%esp), %edx; mov 36(%esp), %esi; mov 40(%esp), %edi; mov 44(%esp), %ebp\n"
        "    push %esp\n    .cfi_adjust_cfa_offset 4\n"
        "    call enter\n"
        "    push %ebp\n    .cfi_adjust_cfa_offset 4\n"
        "    call 1f\n"
        "1:  pop %ebp\n"
        "    add $_GLOBAL_OFFSET_TABLE_+(.-1b), %ebp\n"
        "    mov seen@GOT(%ebp), %ebp\n"
        "    mov %ebx, (%ebp); mov %ecx, 4(%ebp); mov %edx, 8(%ebp); mov %esi, 12(%ebp); mov %edi, 16(%ebp)\n"
        "    popl 20(%ebp)\n    .cfi_adjust_cfa_offset -4\n"
        "    mov %esp, %ebx; sub (%esp), %ebx; mov %ebx, 24(%ebp)\n"
        "    add $4, %esp\n    .cfi_adjust_cfa_offset -4\n"
        "    pop %edi; pop %esi; pop %ebx; pop %ebp\n"
        "    ret\n"
        "    .cfi_endproc\n"
        "enter:\n"
        "    push %ecx; push %edx; push %ebp; mov %esp, %ebp\n"
        "    sysenter\n"
        "    hlt\n"
        /* EBP is nowhere; the kernel takes it for the stack. */
        ".globl call_without_stack\n"
        "call_without_stack:\n"
        "    mov 4(%esp), %eax; mov $16, %ebp\n"
        "    sysenter\n"
        "    hlt\n");
static uint32_t vdso;

/* Addresses in the vDSO differ; whether they are there does not. */
static int is_vdso(uint32_t at) {
    return at - vdso < 8192;
}

static void show(const char *what, int result) {
    printf("%s: %d; %x %x %x %x %x %x, esp %d\n", what, result, seen.ebx, seen.ecx, seen.edx, seen.esi, seen.edi, seen.ebp,
           (int)seen.esp_moved);
}

static sigjmp_buf back;
static int steps, steps_in_vdso;
static volatile int alarms;

static void on_fault(int sig, siginfo_t *info, void *context) {
    ucontext_t *c = context;
    greg_t *r = c->uc_mcontext.gregs;
    printf("signal %d code %d: eax %d, esp %#x, ebp %#x, in the vDSO %d, bytes there", sig, info->si_code, r[REG_EAX],
           r[REG_ESP], r[REG_EBP], is_vdso(r[REG_EIP]));
    const unsigned char *at = (const unsigned char *)r[REG_EIP];
    if (is_vdso(r[REG_EIP]))
        for (int i = -2; i < 4; i++)
            printf(" %02x", at[i]);
    printf(", trapno %d err %d\n", r[REG_TRAPNO], r[REG_ERR]);
    siglongjmp(back, 1);
}

static void on_step(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)sig, (void)info;
    steps++;
    if (!is_vdso(r[REG_EIP]))
        return;
    /* What the processor is at: the pops of the landing pad and the return. */
    printf("step in the vDSO: %02x\n", *(unsigned char *)r[REG_EIP]);
    if (++steps_in_vdso == 4)
        r[REG_EFL] &= ~0x100;
}

static int frames_to_main;
static uint32_t main_begin, main_end;

static void on_alarm(int sig, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    void *frames[32];
    (void)sig, (void)info;
    alarms++;
    if (!is_vdso(r[REG_EIP]))
        return;
    const unsigned char *at = (const unsigned char *)r[REG_EIP];
    printf("alarm at %02x %02x %02x, eax %d\n", at[0], at[1], at[2], r[REG_EAX]);
    int count = backtrace(frames, 32);
    for (int i = 0; i < count; i++)
        if ((uint32_t)frames[i] - main_begin < main_end - main_begin)
            frames_to_main = 1;
}

static void handle(int sig, void (*handler)(int, siginfo_t *, void *), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(sig, &action, NULL);
}

static void again(int restart) {
    int ends[2];
    char got = 0;
    if (pipe(ends))
        exit(1);
    handle(SIGALRM, on_alarm, restart ? SA_RESTART : 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(200000);
        kill(getppid(), SIGALRM);
        usleep(200000);
        if (write(ends[1], "x", 1) != 1)
            _exit(1);
        _exit(0);
    }
    alarms = 0;
    frames_to_main = 0;
    fflush(stdout);
    int result = call_it(SYS_read, ends[0], &got, 1, 4, 5, 6);
    printf("interrupted read: %d, %d, alarms %d, unwinds to main %d\n", result, got, alarms, frames_to_main);
    siginfo_t info;
    while (waitid(P_PID, child, &info, WEXITED) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    close(ends[1]);
}

int main(void) {
    void *warm[4];
    vdso = getauxval(AT_SYSINFO_EHDR);
    backtrace(warm, 4);
    main_begin = (uint32_t)main;
    main_end = (uint32_t)&&end;

    int result = call_it(SYS_getpid, 1, 2, 3, 4, 5, 6);
    show("getpid", result == getpid());
    result = call_it(9999, 1, 2, 3, 4, 5, 6);
    show("no such call", result);

    /* Six arguments, the last one from the stack. */
    char *page = (char *)call_it(SYS_mmap2, 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    show("mmap2", page != MAP_FAILED);
    page[0] = 1;
    show("mmap2 beyond", call_it(SYS_mmap2, 0, 4096, PROT_READ, MAP_PRIVATE, 0, 0xfffff000) < 0);

    /* No stack at EBP: EFAULT, and the landing pad's pop faults. */
    handle(SIGSEGV, on_fault, SA_ONSTACK);
    static char other_stack[65536];
    stack_t stack = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    sigaltstack(&stack, NULL);
    if (!sigsetjmp(back, 1)) {
        call_without_stack(SYS_getpid);
        printf("came back\n");
    }

    /* Single steps over the call. */
    handle(SIGTRAP, on_step, 0);
    __asm__ volatile("pushf; orl $0x100, (%%esp); popf" ::: "memory", "cc");
    result = call_it(SYS_getpid, 1, 2, 3, 4, 5, 6);
    show("stepped", result == getpid());
    printf("steps in the vDSO: %d\n", steps_in_vdso);

    again(1);
    again(0);

    /* poll goes on by restart_syscall. */
    struct pollfd none = {.fd = -1};
    printf("poll: %d\n", call_it(SYS_poll, &none, 0, 10, 4, 5, 6));
end:
    return 0;
}
