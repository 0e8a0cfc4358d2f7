/* A tracer and its tracees: stops, registers, memory, events. Prints what it sees, which is the same in every run. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t known[16];
static int count;

/* Ids differ between runs; their order does not. */
static int name_of(pid_t pid) {
    for (int i = 0; i < count; i++)
        if (known[i] == pid) return i;
    known[count] = pid;
    return count++;
}

static void show(const char *what, pid_t pid, int status) {
    printf("%s: task %d ", what, name_of(pid));
    if (WIFEXITED(status)) printf("exited %d\n", WEXITSTATUS(status));
    else if (WIFSIGNALED(status)) printf("killed %d\n", WTERMSIG(status));
    else printf("stopped %#x\n", status >> 8);
}

static int wait_for(const char *what, pid_t pid) {
    int status = 0;
    pid_t found = waitpid(pid, &status, __WALL);
    if (found < 0) {
        printf("%s: wait: errno %d\n", what, errno);
        return 0;
    }
    show(what, found, status);
    return status;
}

static long request(const char *what, int number, pid_t pid, uintptr_t addr, uintptr_t data) {
    errno = 0;
    long result = ptrace(number, pid, (void *)addr, (void *)data);
    if (errno) printf("%s: errno %d\n", what, errno);
    return result;
}

static void registers(const char *what, pid_t pid) {
    struct user_regs_struct r;
    if (request(what, PTRACE_GETREGS, pid, 0, (uintptr_t)&r)) return;
    /* Ids differ. */
    printf("%s: eax %ld orig_eax %ld cs %#lx ds %#lx ss %#lx\n", what, r.eax > 0 ? 1 : r.eax, r.orig_eax, r.xcs, r.xds,
           r.xss);
}

static volatile int variable = 1;

static void child_signals(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    raise(SIGUSR2);
    raise(SIGTERM);
    _exit(3);
}

static void signals(void) {
    pid_t pid = fork();
    if (!pid) child_signals();
    siginfo_t info;
    wait_for("signals", pid);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("ignored", pid);
    request("info", PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info);
    printf("info: %d code %d from itself %d\n", info.si_signo, info.si_code, info.si_pid == pid);
    request("cont", PTRACE_CONT, pid, 0, SIGUSR1);
    wait_for("to be suppressed", pid);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("to be changed", pid);
    printf("bad signal %ld\n", ptrace(PTRACE_CONT, pid, 0, 100));
    request("cont", PTRACE_CONT, pid, 0, SIGABRT);
    wait_for("changed", pid);
    wait_for("gone", pid);
    request("gone", PTRACE_CONT, pid, 0, 0);
}

static void child_memory(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    _exit(variable);
}

static void memory(void) {
    pid_t pid = fork();
    if (!pid) child_memory();
    wait_for("memory", pid);
    printf("peek %ld\n", request("peek", PTRACE_PEEKDATA, pid, (uintptr_t)&variable, 0));
    request("poke", PTRACE_POKEDATA, pid, (uintptr_t)&variable, 42);
    printf("peek %ld\n", request("peek", PTRACE_PEEKDATA, pid, (uintptr_t)&variable, 0));
    request("nothing there", PTRACE_PEEKDATA, pid, 0, 0);
    request("nothing there", PTRACE_POKEDATA, pid, 16, 1);
    /* Read-only memory can be written, and bytes across a boundary of eight. */
    static const char text[32] = "0123456789abcdefghijklmnopqrstu";
    request("poke text", PTRACE_POKETEXT, pid, (uintptr_t)text + 5, 0x40404040);
    long word = request("peek text", PTRACE_PEEKTEXT, pid, (uintptr_t)text + 5, 0);
    printf("text %lx\n", word);
    int value = 0;
    struct iovec local = {&value, sizeof value}, remote = {(void *)&variable, sizeof value};
    printf("readv %zd", process_vm_readv(pid, &local, 1, &remote, 1, 0));
    printf(" %d\n", value);
    value = 43;
    printf("writev %zd\n", process_vm_writev(pid, &local, 1, &remote, 1, 0));
    remote.iov_base = (void *)16;
    printf("readv %zd", process_vm_readv(pid, &local, 1, &remote, 1, 0));
    printf(" errno %d\n", errno);
    printf("usr %ld\n", request("usr", PTRACE_PEEKUSER, pid, offsetof(struct user, regs.xcs), 0));
    request("usr odd", PTRACE_PEEKUSER, pid, 2, 0);
    request("usr far", PTRACE_PEEKUSER, pid, sizeof(struct user), 0);
    request("cs", PTRACE_POKEUSER, pid, offsetof(struct user, regs.xcs), 0);
    request("unknown", 0x777, pid, 0, 0);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("memory", pid);
}

static void child_calls(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    syscall(SYS_getppid);
    syscall(SYS_close, 1234);
    long result = syscall(SYS_getuid);
    _exit(result == 77 ? 5 : 6);
}

struct syscall_info {
    uint8_t op, pad[3];
    uint32_t arch;
    uint64_t ip, sp, nr, args[6];
} __attribute__((packed, aligned(4)));

static void calls(void) {
    pid_t pid = fork();
    if (!pid) child_calls();
    wait_for("calls", pid);
    request("options", PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
    request("bad options", PTRACE_SETOPTIONS, pid, 0, 0x80000000);
    for (int stop = 0;; stop++) {
        request("syscall", PTRACE_SYSCALL, pid, 0, 0);
        int status = wait_for("syscall", pid);
        if (!WIFSTOPPED(status)) break;
        struct user_regs_struct r;
        struct syscall_info info = {0};
        request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
        long len = request("syscall info", 0x420e, pid, sizeof info, (uintptr_t)&info);
        printf("call %ld, info %ld bytes op %d arch %x nr %lld\n", r.orig_eax, len, info.op, info.arch,
               r.orig_eax == SYS_getppid && info.op == 2 ? -1 : (long long)info.nr);
        siginfo_t si;
        request("siginfo", PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&si);
        printf("siginfo %d %#x\n", si.si_signo, si.si_code);
        if (r.orig_eax == SYS_getuid32 || r.orig_eax == SYS_getuid) {
            if (info.op == 1) r.orig_eax = -1; /* No call at all. */
            r.eax = 77;
            request("setregs", PTRACE_SETREGS, pid, 0, (uintptr_t)&r);
        }
        if (r.orig_eax == -1 && info.op == 2) {
            r.eax = 77;
            request("setregs", PTRACE_SETREGS, pid, 0, (uintptr_t)&r);
        }
    }
}

extern char step_here[], step_end[];
static void child_steps(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    asm volatile("int3\n\t"
                 ".globl step_here\nstep_here:\n\t"
                 "mov $1, %%eax\n\t"
                 "add $2, %%eax\n\t"
                 "push %%ebx\n\t"
                 "mov $20, %%eax\n\t"
                 "int $0x80\n\t"
                 "pop %%ebx\n\t"
                 "nop\n\t"
                 ".globl step_end\nstep_end:\n\t"
                 "nop\n\t"
                 "ud2" ::: "eax", "memory");
    _exit(0);
}

static void steps(void) {
    pid_t pid = fork();
    if (!pid) child_steps();
    wait_for("steps", pid);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("int3", pid);
    siginfo_t info;
    struct user_regs_struct r;
    for (int i = 0; i < 8; i++) {
        request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
        request("info", PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info);
        printf("at +%ld eax %ld orig %ld code %#x trap flag %ld\n", r.eip - (long)step_here,
               i == 5 || i == 6 || i == 7 ? -1 : r.eax, r.orig_eax, info.si_code, r.eflags >> 8 & 1);
        request("step", PTRACE_SINGLESTEP, pid, 0, 0);
        wait_for("step", pid);
    }
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("ud2", pid);
    request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
    printf("at end +%ld\n", r.eip - (long)step_end);
    r.eip += 2;
    request("setregs", PTRACE_SETREGS, pid, 0, (uintptr_t)&r);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("steps", pid);
}

__attribute__((noinline)) static int compute(int value) {
    asm volatile("" ::: "memory");
    return value * 3;
}

static void child_breakpoints(void) {
    int sum = 0;
    for (int i = 0; i < 3000; i++) sum += compute(i); /* Until it is translated well. */
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    for (int i = 0; i < 3; i++) sum += compute(i);
    _exit(sum & 0x7f);
}

static void breakpoints(void) {
    pid_t pid = fork();
    if (!pid) child_breakpoints();
    wait_for("breakpoints", pid);
    uintptr_t at = (uintptr_t)compute;
    long old = request("peek", PTRACE_PEEKTEXT, pid, at, 0);
    request("poke", PTRACE_POKETEXT, pid, at, (old & ~0xff) | 0xcc);
    request("cont", PTRACE_CONT, pid, 0, 0);
    for (int hits = 0; WIFSTOPPED(wait_for("breakpoint", pid)); hits++) {
        struct user_regs_struct r;
        request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
        printf("hit %d at +%ld\n", hits, r.eip - (long)at);
        r.eip--;
        request("setregs", PTRACE_SETREGS, pid, 0, (uintptr_t)&r);
        request("poke", PTRACE_POKETEXT, pid, at, old);
        request("step", PTRACE_SINGLESTEP, pid, 0, 0);
        wait_for("step", pid);
        request("poke", PTRACE_POKETEXT, pid, at, (old & ~0xff) | 0xcc);
        request("cont", PTRACE_CONT, pid, 0, 0);
    }
}

static void child_watched(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    compute(1);
    variable = 5;
    compute(2);
    variable = 6;
    _exit(variable);
}

static void watchpoints(void) {
    pid_t pid = fork();
    if (!pid) child_watched();
    wait_for("watchpoints", pid);
    size_t debug = offsetof(struct user, u_debugreg);
    request("dr0", PTRACE_POKEUSER, pid, debug, (uintptr_t)&variable);
    request("dr1", PTRACE_POKEUSER, pid, debug + 4, (uintptr_t)compute);
    request("dr7", PTRACE_POKEUSER, pid, debug + 28, 0x000d0005);
    request("dr4", PTRACE_POKEUSER, pid, debug + 16, 1);
    request("cont", PTRACE_CONT, pid, 0, 0);
    while (WIFSTOPPED(wait_for("watchpoint", pid))) {
        siginfo_t info;
        struct user_regs_struct r;
        request("info", PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info);
        request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
        printf("code %d, bits %lx, at compute %d, value %ld\n", info.si_code,
               request("dr6", PTRACE_PEEKUSER, pid, debug + 24, 0) & 15, r.eip == (long)compute,
               request("peek", PTRACE_PEEKDATA, pid, (uintptr_t)&variable, 0));
        request("dr6", PTRACE_POKEUSER, pid, debug + 24, 0);
        request("cont", PTRACE_CONT, pid, 0, 0);
    }
}

static void *thread(void *argument) {
    variable = 9;
    return argument;
}

static void child_events(void) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
    pid_t pid = fork();
    if (!pid) _exit(11);
    waitpid(pid, NULL, 0);
    pid = vfork();
    if (!pid) _exit(12);
    waitpid(pid, NULL, 0);
    pthread_t id;
    pthread_create(&id, NULL, thread, NULL);
    pthread_join(id, NULL);
    execl("/proc/self/exe", "tracing", "executed", NULL);
    _exit(99);
}

/* One task at a time goes on, so that the order is always the same. */
static void events(void) {
    pid_t pid = fork();
    if (!pid) child_events();
    wait_for("events", pid);
    request("options", PTRACE_SETOPTIONS, pid, 0,
            PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT |
                PTRACE_O_TRACEVFORKDONE | PTRACE_O_EXITKILL);
    request("cont", PTRACE_CONT, pid, 0, 0);
    for (;;) {
        int status = wait_for("event", pid);
        if (!WIFSTOPPED(status)) break;
        unsigned long message = 0;
        int event = status >> 16;
        request("message", PTRACE_GETEVENTMSG, pid, 0, (uintptr_t)&message);
        registers("event", pid);
        if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE) {
            pid_t child = message;
            wait_for("new", child);
            if (event == PTRACE_EVENT_FORK) registers("new", child);
            request("new", PTRACE_CONT, child, 0, 0);
            if (event != PTRACE_EVENT_CLONE) {
                int code = wait_for("new exits", child);
                request("code", PTRACE_GETEVENTMSG, child, 0, (uintptr_t)&message);
                printf("event %d code %#lx\n", code >> 16, message);
                request("new", PTRACE_CONT, child, 0, 0);
                wait_for("new", child);
            } else {
                wait_for("thread exits", child);
                request("thread", PTRACE_CONT, child, 0, 0);
                wait_for("thread", child);
            }
        } else {
            printf("message %d\n", event == PTRACE_EVENT_EXIT ? (int)message : name_of(message));
        }
        int signal = event ? 0 : WSTOPSIG(status);
        request("cont", PTRACE_CONT, pid, 0, signal);
    }
}

static void seized(void) {
    int ready[2];
    if (pipe(ready)) return;
    pid_t pid = fork();
    if (!pid) {
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) variable++;
    }
    char byte;
    if (read(ready[0], &byte, 1) != 1) return;
    usleep(20000); /* It is in its loop. */
    request("seize", PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD);
    request("running", PTRACE_GETEVENTMSG, pid, 0, 0);
    request("interrupt", PTRACE_INTERRUPT, pid, 0, 0);
    wait_for("interrupted", pid);
    struct user_regs_struct r;
    request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
    printf("orig_eax %ld\n", r.orig_eax);
    kill(pid, SIGSTOP);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("to stop", pid);
    request("cont", PTRACE_CONT, pid, 0, SIGSTOP);
    wait_for("group stop", pid);
    siginfo_t info;
    request("listen", PTRACE_LISTEN, pid, 0, 0);
    printf("nothing %d\n", waitpid(pid, NULL, WNOHANG | __WALL));
    kill(pid, SIGCONT);
    wait_for("continued", pid);
    request("cont", PTRACE_CONT, pid, 0, 0);
    int status = wait_for("signal", pid);
    request("info", PTRACE_GETSIGINFO, pid, 0, (uintptr_t)&info);
    request("detach", PTRACE_DETACH, pid, 0, WSTOPSIG(status));
    request("detached", PTRACE_CONT, pid, 0, 0);
    printf("runs %d\n", waitpid(pid, NULL, WNOHANG | __WALL));
    request("attach", PTRACE_ATTACH, pid, 0, 0);
    wait_for("attached", pid);
    request("interrupt", PTRACE_INTERRUPT, pid, 0, 0);
    int before = request("peek", PTRACE_PEEKDATA, pid, (uintptr_t)&variable, 0);
    request("cont", PTRACE_CONT, pid, 0, 0);
    usleep(20000);
    kill(pid, SIGSTOP);
    wait_for("again", pid);
    printf("ran %d\n", before != request("peek", PTRACE_PEEKDATA, pid, (uintptr_t)&variable, 0));
    request("kill", PTRACE_KILL, pid, 0, 0);
    wait_for("killed", pid);
}

static void interrupted_call(void) {
    int ends[2];
    if (pipe(ends)) return;
    pid_t pid = fork();
    if (!pid) {
        char byte;
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(read(ends[0], &byte, 1) == 1 ? byte : 1);
    }
    wait_for("call", pid);
    request("options", PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD);
    request("syscall", PTRACE_SYSCALL, pid, 0, 0);
    wait_for("entry", pid);
    registers("entry", pid);
    request("syscall", PTRACE_SYSCALL, pid, 0, 0);
    usleep(50000);
    kill(pid, SIGSTOP);
    wait_for("exit", pid);
    struct user_regs_struct r;
    request("regs", PTRACE_GETREGS, pid, 0, (uintptr_t)&r);
    printf("eax %ld orig_eax %ld\n", r.eax, r.orig_eax);
    request("syscall", PTRACE_SYSCALL, pid, 0, 0);
    wait_for("signal", pid);
    request("syscall", PTRACE_SYSCALL, pid, 0, 0);
    wait_for("again", pid);
    if (write(ends[1], "A", 1) != 1) return;
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("call", pid);
}

static void floats(void) {
    pid_t pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        float value = 0;
        double top;
        asm volatile("fninit; fld1; fldpi; mov $0x12345678, %%eax; movd %%eax, %%xmm1\n\t"
                     "int3\n\t"
                     "movd %%xmm1, %0; fstpl %1; fstp %%st"
                     : "=m"(value), "=m"(top)
                     :
                     : "eax", "memory");
        _exit(value == 1.5f && top == 1.0 ? 7 : 8);
    }
    wait_for("floats", pid);
    struct user_fpregs_struct fp;
    struct user_fpxregs_struct fx;
    request("fpregs", PTRACE_GETFPREGS, pid, 0, (uintptr_t)&fp);
    printf("cwd %lx swd %lx twd %lx st0 %lx\n", fp.cwd & 0xffff, fp.swd & 0xffff, fp.twd & 0xffff, fp.st_space[1]);
    request("fpxregs", PTRACE_GETFPXREGS, pid, 0, (uintptr_t)&fx);
    printf("cwd %x swd %x twd %x mxcsr %lx xmm1 %lx\n", fx.cwd, fx.swd, fx.twd, fx.mxcsr, fx.xmm_space[4]);
    float value = 1.5f;
    memcpy(&fx.xmm_space[4], &value, 4);
    request("fpxregs", PTRACE_SETFPXREGS, pid, 0, (uintptr_t)&fx);
    request("fpregs", PTRACE_GETFPREGS, pid, 0, (uintptr_t)&fp);
    memcpy(&fp.st_space[0], "\0\0\0\0\0\0\0\x80\xff\x3f", 10);
    request("fpregs", PTRACE_SETFPREGS, pid, 0, (uintptr_t)&fp);
    unsigned char area[600];
    struct iovec set = {area, sizeof area};
    for (int kind = 1; kind < 3; kind++) {
        set.iov_len = sizeof area;
        request("regset", PTRACE_GETREGSET, pid, kind, (uintptr_t)&set);
        printf("regset %d: %zu\n", kind, set.iov_len);
    }
    set.iov_len = 48;
    request("tls", PTRACE_GETREGSET, pid, 0x200, (uintptr_t)&set);
    printf("tls: %zu entry %u\n", set.iov_len, *(unsigned *)area);
    request("regset 77", PTRACE_GETREGSET, pid, 77, (uintptr_t)&set);
    request("area", 25, pid, 12, (uintptr_t)area);
    request("area 3", 25, pid, 3, (uintptr_t)area);
    uint64_t mask = 0;
    request("mask", PTRACE_GETSIGMASK, pid, 8, (uintptr_t)&mask);
    printf("mask %llx\n", (unsigned long long)mask);
    request("mask of 4", PTRACE_GETSIGMASK, pid, 4, (uintptr_t)&mask);
    request("cont", PTRACE_CONT, pid, 0, 0);
    wait_for("floats", pid);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1 && !strcmp(argv[1], "executed")) return 13;
    static const struct {
        const char *name;
        void (*run)(void);
    } parts[] = {{"signals", signals}, {"memory", memory}, {"calls", calls}, {"steps", steps},
                 {"breakpoints", breakpoints}, {"watchpoints", watchpoints}, {"events", events}, {"seized", seized},
                 {"interrupted", interrupted_call}, {"floats", floats}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (argc > 1 && strcmp(argv[1], parts[i].name)) continue;
        printf("== %s\n", parts[i].name);
        count = 0;
        parts[i].run();
    }
    return 0;
}
