/* What is hard about Linux for an emulator and is in no other program here: single steps, stacks that grow, files of more
 * than 2 GiB, descriptors and mappings of the emulator's own, calls that go on after a stop, terminals, netlink, a forbidden
 * time stamp counter, names of memory, ids chosen for children. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/prctl.h>
#include <linux/sched.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static volatile int steps, codes, traps;
static sigjmp_buf out;

static void on_step(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)number;
    steps++;
    codes |= 1 << info->si_code;
    traps |= 1 << u->uc_mcontext.gregs[REG_TRAPNO];
}

static void on_fault(int number)
{
    siglongjmp(out, number);
}

static void on_signal(int number)
{
    (void)number;
}

static void single_steps(void)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGTRAP, &action, NULL);
    __asm__ volatile("pushf; orl $0x100, (%%esp); popf\n\t"
                     "nop; movl $3, %%ecx; 1: decl %%ecx; jnz 1b; push %%eax; pop %%eax; rep movsb\n\t"
                     "pushf; andl $~0x100, (%%esp); popf"
                     ::: "ecx", "esi", "edi", "cc", "memory");
    printf("steps %d, codes %x, traps %x\n", steps, codes, traps);
}

/* The signal that a write raises, or 0. */
static int writes(volatile char *where)
{
    int number = sigsetjmp(out, 1);

    if (number == 0)
        *where = 1;
    return number;
}

static void growing(void)
{
    const long page = 4096, gap = 256 * page;
    struct sigaction action = {.sa_handler = on_fault};

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    char *room = mmap(NULL, 4 * gap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    munmap(room, 4 * gap);
    char *floor = mmap(room, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    char *top = mmap(room + 3 * gap, page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    printf("grows: one page %d, more %d, ", writes(top - 1), writes(top - 20 * page));
    printf("between %d, into the gap %d, the floor %d\n", writes(top - 10 * page), writes(floor + gap / 2), writes(floor));
    printf("a read-only page does not grow: %d\n", (mprotect(top - 20 * page, page, PROT_READ), writes(top - 20 * page)));
}

static void large_files(void)
{
    struct stat status;
    struct { long words[40]; } old;
    int file = open("large", O_CREAT | O_RDWR | O_LARGEFILE, 0600);

    if (file < 0 || syscall(SYS_ftruncate64, file, 0x40000000u, 1) != 0)
        exit(1);
    long result = syscall(SYS_open, "large", O_RDONLY);
    printf("open without O_LARGEFILE %ld %d, ", result, errno);
    errno = 0;
    printf("with it %d, ", syscall(SYS_open, "large", O_RDONLY | O_LARGEFILE) >= 0);
    errno = 0;
    result = syscall(SYS_stat, "large", &old);
    printf("old stat %ld %d, ", result, errno);
    errno = 0;
    result = syscall(SYS_lseek, file, -1, SEEK_END);
    printf("old lseek %ld %d\n", result, errno);
    (void)status;
    close(file);
    unlink("large");
}

/* The guest finds no descriptor that it did not open, and none that it closes is missed. */
static void own_descriptors(char **argv)
{
    int open_ones = 0, status = 0;

    syscall(SYS_close_range, 3, ~0u, 0);
    for (int fd = 3; fd < 70000; fd++) {
        open_ones += fcntl(fd, F_GETFD) >= 0;
        close(fd);
    }
    int copy = fcntl(0, F_DUPFD, 3);
    pid_t child = fork();
    if (child == 0) {
        execl(argv[0], argv[0], "child", (char *)NULL);
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("open %d, next %d, child %x\n", open_ones, copy, status);
}

/* execve needs no descriptor, so it works for those who have none left. */
static void all_descriptors(char **argv)
{
    int status = 0;
    FILE *script = fopen("script", "w");

    fprintf(script, "#!%s full\n", argv[0]);
    fclose(script);
    chmod("script", 0700);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {20, 20};
        setrlimit(RLIMIT_NOFILE, &limit);
        while (dup(0) >= 0)
            ;
        status = errno;
        pid_t second = fork();
        if (second == 0) {
            execl(argv[0], argv[0], "full", (char *)NULL);
            _exit(errno);
        }
        waitpid(second, &status, 0);
        printf("a child's program: %x\n", status);
        execl("./script", "./script", (char *)NULL);
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("no descriptor left: %x\n", status);
    unlink("script");
}

static void own_memory(char **argv)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[500], path[500] = {0}, *name = realpath(argv[0], NULL);
    uintptr_t wanted[] = {(uintptr_t)own_memory, (uintptr_t)&steps, (uintptr_t)line, (uintptr_t)getauxval(AT_SYSINFO_EHDR)};
    int found[4] = {0}, high = 0, unnamed = 0;

    while (fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        char rights[5];
        if (sscanf(line, "%llx-%llx %4s", &start, &end, rights) != 3) {
            unnamed++;
            continue;
        }
        high += end > 0x100000000ULL;
        for (int i = 0; i < 4; i++)
            if (wanted[i] >= start && wanted[i] < end)
                found[i]++;
    }
    fclose(maps);
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        path[0] = 0;
    printf("maps: code %d, data %d, stack %d, vdso %d, beyond 4 GiB %d, unreadable %d; exe %d\n", found[0], found[1], found[2],
           found[3], high, unnamed, name != NULL && strcmp(name, path) == 0);
}

static void after_a_stop(void)
{
    int status, result;
    pid_t child = fork();

    if (child == 0) {
        struct timespec start, end, time = {0, 400000000};
        clock_gettime(CLOCK_MONOTONIC, &start);
        result = nanosleep(&time, NULL);
        clock_gettime(CLOCK_MONOTONIC, &end);
        long long slept = (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
        _exit(result == 0 && slept >= 400000000);
    }
    for (int i = 0; i < 3; i++) {
        usleep(20000);
        kill(child, SIGSTOP);
        waitpid(child, &status, WUNTRACED);
        kill(child, SIGCONT);
    }
    waitpid(child, &status, 0);
    printf("slept to the end after stops: %x\n", status);
}

/* Waits for a child to stop or end; its status. */
static int next(pid_t child)
{
    int status = 0;

    waitpid(child, &status, WUNTRACED);
    return status;
}

static void terminals(void)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), ready[2], status;
    struct winsize size = {.ws_row = 33, .ws_col = 77};
    struct termios settings;
    char name[100], text[100];

    if (master < 0 || grantpt(master) || unlockpt(master) || ptsname_r(master, name, sizeof name) || pipe(ready))
        exit(1);
    printf("%.9s, ", name);
    ioctl(master, TIOCSWINSZ, &size);
    pid_t session = fork();
    if (session == 0) {
        struct sigaction action = {.sa_handler = on_signal};
        setsid();
        int terminal = open(name, O_RDWR);
        sigset_t block, old;
        signal(SIGTTOU, SIG_IGN);
        ioctl(terminal, TIOCGWINSZ, &size);
        int good = size.ws_row == 33 && tcgetpgrp(terminal) == getpid() && isatty(terminal) && tcgetsid(terminal) == getpid();
        /* A background group that reads is stopped. */
        pid_t reader = fork();
        if (reader == 0) {
            setpgid(0, 0);
            _exit(read(terminal, text, 1));
        }
        setpgid(reader, reader);
        status = next(reader);
        good = good << 1 | (WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTIN);
        /* In the foreground it reads, and is interrupted from the keyboard. */
        tcsetpgrp(terminal, reader);
        kill(reader, SIGCONT);
        if (write(ready[1], "1", 1) != 1)
            _exit(99);
        status = next(reader);
        good = good << 1 | (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
        tcsetpgrp(terminal, getpid());
        sigemptyset(&block);
        sigaddset(&block, SIGWINCH);
        sigprocmask(SIG_BLOCK, &block, &old);
        sigaction(SIGWINCH, &action, NULL);
        if (write(ready[1], "2", 1) != 1)
            _exit(99);
        good = good << 1 | (sigwaitinfo(&block, NULL) == SIGWINCH);
        ioctl(terminal, TIOCGWINSZ, &size);
        good = good << 1 | (size.ws_col == 99);
        tcgetattr(terminal, &settings);
        settings.c_lflag &= ~(ICANON | ECHO);
        settings.c_cc[VMIN] = 2;
        good = good << 1 | (tcsetattr(terminal, TCSANOW, &settings) == 0);
        if (write(ready[1], "3", 1) != 1)
            _exit(99);
        good = good << 1 | (read(terminal, text, 10) == 2);
        _exit(good);
    }
    for (char seen = 0; seen != '3';) {
        if (read(ready[0], &seen, 1) != 1)
            exit(1);
        size.ws_col = 99;
        if (seen == '1') {
            if (write(master, "\003", 1) != 1)
                exit(1);
        } else if (seen == '2') {
            ioctl(master, TIOCSWINSZ, &size);
        } else if (write(master, "xy", 2) != 2) {
            exit(1);
        }
    }
    printf("terminal %x\n", next(session));
}

/* sock_diag(7) knows of a listening socket. */
static void netlink(void)
{
    struct {
        struct nlmsghdr head;
        struct inet_diag_req_v2 request;
    } question = {
        .head = {.nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .request = {.sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0u},
    };
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), link = socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG), found = 0;
    static char answer[65536];

    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 7);
    getsockname(listener, (struct sockaddr *)&address, &length);
    if (send(link, &question, sizeof question, 0) < 0)
        exit(1);
    for (int more = 1; more;) {
        int size = recv(link, answer, sizeof answer, 0);
        if (size <= 0)
            break;
        for (struct nlmsghdr *head = (void *)answer; NLMSG_OK(head, (unsigned)size); head = NLMSG_NEXT(head, size)) {
            struct inet_diag_msg *message = NLMSG_DATA(head);
            if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR)
                more = 0;
            else if (message->id.idiag_sport == address.sin_port && message->idiag_state == 10)
                found += message->idiag_wqueue == 7;
        }
    }
    printf("netlink: found %d\n", found);
}

static int reads_tsc(int with_number)
{
    int number = sigsetjmp(out, 1);

    if (number == 0 && with_number)
        __asm__ volatile("rdtscp" ::: "eax", "ecx", "edx");
    else if (number == 0)
        __asm__ volatile("rdtsc" ::: "eax", "edx");
    return number;
}

static void on_general_fault(int number, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    codes = info->si_code | u->uc_mcontext.gregs[REG_ERR];
    traps = u->uc_mcontext.gregs[REG_TRAPNO];
    siglongjmp(out, number);
}

/* PR_SET_TSC: for the thread, its children, and the programs that they execute. */
static void time_stamps(char **argv)
{
    struct sigaction action = {.sa_sigaction = on_general_fault, .sa_flags = SA_SIGINFO};
    int mode = 0, status = 0;

    sigaction(SIGSEGV, &action, NULL);
    printf("tsc: %d, %d", prctl(PR_GET_TSC, &mode), mode);
    printf(" %d; ", reads_tsc(0));
    printf("bad %d", prctl(PR_SET_TSC, 3));
    printf(" %d; forbidden %d ", errno, prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
    prctl(PR_GET_TSC, &mode);
    int plain = reads_tsc(0), trap = traps, code = codes;
    printf("%d: %d, trap %d, code %x; numbered %d; ", mode, plain, trap, code, reads_tsc(1));
    pid_t child = fork();
    if (child == 0) {
        mode = reads_tsc(0);
        prctl(PR_SET_TSC, PR_TSC_ENABLE);
        _exit(mode << 4 | reads_tsc(0));
    }
    waitpid(child, &status, 0);
    printf("child %x, here %d; ", status, reads_tsc(0));
    child = vfork();
    if (child == 0) {
        execl(argv[0], argv[0], "tsc", (char *)NULL);
        _exit(99);
    }
    waitpid(child, &status, 0);
    printf("executed %x; ", status);
    prctl(PR_SET_TSC, PR_TSC_ENABLE);
    printf("allowed again %d\n", reads_tsc(0));
}

static int name(void *where, size_t size, const char *text)
{
    errno = 0;
    return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, where, size, text) == 0 ? 0 : errno;
}

/* Kernels without such names know none of this. */
static void names(void)
{
    char long_name[100], line[500], *area = mmap(NULL, 4 * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *maps;

    memset(long_name, 'x', sizeof long_name - 1);
    long_name[99] = 0;
    printf("names: %d %d %d", name(area, 4096, "first"), name(area + 4096, 2 * 4096, "a second"), name(area, 0, "none"));
    printf(" %d %d %d", name(area, 4096, long_name), name(area, 4096, "[x]"), name(area + 1, 4096, "odd"));
    printf(" %d %d %d\n", name(area, 4096, (char *)1), name(area + 2 * 4096, 4096, NULL), prctl(PR_SET_VMA, 9, area, 4096, 0));
    maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        char *found = strstr(line, "[anon:");
        if (found != NULL)
            printf("%s", found);
    }
    fclose(maps);
}

/* Without a function of its own to return from: a child may be on this very stack. */
static long clone3(struct clone_args *arguments, size_t size)
{
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "0"(SYS_clone3), "b"(arguments), "c"(size) : "memory");
    if (result == 0)
        _exit(getpid() & 0x7f);
    return result;
}

/* A child's id can be chosen, by those who may, and its control group. */
static void chosen_ids(void)
{
    static const struct { int id, count; } wishes[] = {{1, 1}, {0, 1}, {-5, 1}, {1 << 30, 1}, {300, 33}, {300, 0}, {300, 32}};
    int ids[40], status;
    struct clone_args arguments = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)ids};

    printf("ids:");
    for (unsigned i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        for (int level = 0; level < 40; level++)
            ids[level] = wishes[i].id;
        arguments.set_tid_size = wishes[i].count;
        printf(" %ld", clone3(&arguments, sizeof arguments));
    }
    arguments.set_tid_size = 1;
    arguments.set_tid = 1;
    printf(" %ld", clone3(&arguments, sizeof arguments));
    arguments.set_tid = 0;
    printf(" %ld", clone3(&arguments, sizeof arguments));
    arguments.set_tid = (uintptr_t)ids;
    /* One that has just become free. */
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, &status, 0);
    ids[0] = child;
    arguments.set_tid_size = 1;
    long chosen = clone3(&arguments, sizeof arguments);
    int good = chosen == child && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == (child & 0x7f);
    printf("; chosen %d, or not allowed %d", good, chosen == -EPERM);
    arguments.flags = CLONE_VM | CLONE_VFORK;
    chosen = clone3(&arguments, sizeof arguments);
    good = chosen == child && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == (child & 0x7f);
    printf("; vfork %d %d\n", good, chosen == -EPERM);

    struct clone_args group = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 12345};
    printf("groups: %ld", clone3(&group, sizeof group));
    group.cgroup = 1ull << 31;
    printf(" %ld", clone3(&group, sizeof group));
    group.cgroup = open("/", O_RDONLY | O_DIRECTORY);
    printf(" %ld", clone3(&group, sizeof group));
    printf(" %ld", clone3(&group, 64));
    group.flags |= CLONE_VM | CLONE_VFORK;
    printf(" %ld\n", clone3(&group, sizeof group));
    close(group.cgroup);

    int process = -1;
    struct clone_args watched = {
        .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (uintptr_t)&process};
    chosen = clone3(&watched, sizeof watched);
    siginfo_t info = {0};
    int waited = waitid(P_PIDFD, process, &info, WEXITED);
    printf("watched: %d, %d, the one %d, closed on exec %d\n", process >= 0, waited, info.si_pid == chosen,
           fcntl(process, F_GETFD));
    close(process);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_fault};

    if (argc > 1 && strcmp(argv[1], "tsc") == 0) {
        sigaction(SIGSEGV, &action, NULL);
        return reads_tsc(0);
    }
    if (argc > 1 && strcmp(argv[1], "full") == 0)
        return dup(0) < 0 && errno == EMFILE ? 77 : 98;
    if (argc > 1)
        return fcntl(3, F_GETFD) >= 0 ? 17 : 18;
    setvbuf(stdout, NULL, _IONBF, 0);
    single_steps();
    growing();
    large_files();
    own_descriptors(argv);
    all_descriptors(argv);
    own_memory(argv);
    after_a_stop();
    terminals();
    netlink();
    time_stamps(argv);
    names();
    chosen_ids();
    return 0;
}
