/* What can be said of mappings: pages moved away from under an address, memory that a child does not get or finds empty,
 * pages locked. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif

enum { PAGE = 4096, RW = PROT_READ | PROT_WRITE, OWN = MAP_PRIVATE | MAP_ANONYMOUS };

static sigjmp_buf out;
static volatile int awaited;

static void on_fault(int number)
{
    if (!awaited)
        _exit(96);
    siglongjmp(out, number);
}

static char *pages(int count)
{
    char *at = mmap(NULL, count * PAGE, RW, OWN, -1, 0);

    if (at == MAP_FAILED)
        exit(99);
    return at;
}

/* The byte there, or less than nothing: the signal that reading it raises. */
static int look(volatile char *where)
{
    int number = sigsetjmp(out, 1);

    awaited = 1;
    int result = number == 0 ? *where : -number;
    awaited = 0;
    return result;
}

/* What a function of no arguments gives, or the signal that it raises. */
static int call(void *code)
{
    int number = sigsetjmp(out, 1);

    awaited = 1;
    int result = number == 0 ? ((int (*)(void))code)() : -number;
    awaited = 0;
    return result;
}

static void put_code(char *where, unsigned char value)
{
    unsigned char code[] = {0xb8, value, 0, 0, 0, 0xc3};

    memcpy(where, code, sizeof code);
}

static void *move(void *from, size_t old_size, size_t new_size, int flags, void *to)
{
    return (void *)syscall(SYS_mremap, from, old_size, new_size, flags, to);
}

static int file_of(const char *name, int count)
{
    int file = open(name, O_CREAT | O_TRUNC | O_RDWR, 0600);

    for (int i = 0; i < count; i++) {
        char page[PAGE];
        memset(page, 'a' + i, sizeof page);
        if (write(file, page, sizeof page) != sizeof page)
            exit(98);
    }
    return file;
}

static void moved_away(void)
{
    int keep = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
    char *old = pages(4), *room = pages(8), *new;

    memset(old, 7, 4 * PAGE);
    new = move(old, 4 * PAGE, 4 * PAGE, keep, NULL);
    printf("moved: %d %d, left %d %d, ", look(new), look(new + 4 * PAGE - 1), look(old), look(old + 4 * PAGE - 1));
    old[PAGE] = 3;
    printf("written %d %d\n", look(old + PAGE), look(new + PAGE));

    memset(room, 5, 8 * PAGE);
    munmap(room + 4 * PAGE, 4 * PAGE);
    char *there = move(new + PAGE, PAGE, PAGE, keep, room + 5 * PAGE);
    printf("to a hint: %d, from a part: %d %d %d, arrived %d\n", there == room + 5 * PAGE, look(new), look(new + PAGE),
           look(new + 2 * PAGE), look(there));
    there = move(new + 2 * PAGE, 2 * PAGE, 2 * PAGE, keep, room);
    printf("a hint that is taken: %d, %d %d\n", there == room, look(room), look(there));
    there = move(new, PAGE, PAGE, keep | MREMAP_FIXED, room + PAGE);
    printf("fixed: %d %d %d\n", there == room + PAGE, look(there), look(new));

    mprotect(room, PAGE, PROT_READ);
    there = move(room, PAGE, PAGE, keep, NULL);
    printf("read-only: %d %d\n", look(there), look(room));
    mprotect(room, PAGE, PROT_NONE);
    there = move(room, PAGE, PAGE, keep, NULL);
    printf("inaccessible: %d %d\n", look(there), look(room));

    int file = file_of("mapped", 3);
    char *private = mmap(NULL, 3 * PAGE, RW, MAP_PRIVATE, file, 0);
    char *shared = mmap(NULL, 3 * PAGE, RW, MAP_SHARED, file, 0);
    memset(private, 'x', PAGE);
    new = move(private, 3 * PAGE, 3 * PAGE, keep, NULL);
    printf("private file: moved %c%c, left %c%c\n", new[0], new[PAGE], private[0], private[PAGE]);
    new = move(shared + PAGE, 2 * PAGE, 2 * PAGE, keep, NULL);
    new[0] = 'y';
    printf("shared file: moved %c%c, left %c%c\n", new[0], new[PAGE], shared[PAGE], shared[2 * PAGE]);
    shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared[0] = 'z';
    new = move(shared, PAGE, PAGE, keep, NULL);
    new[1] = 'w';
    printf("shared memory: moved %c, left %c%c\n", new[0], shared[0], shared[1]);
    close(file);
    unlink("mapped");

    char *code = mmap(NULL, 2 * PAGE, RW | PROT_EXEC, OWN, -1, 0);
    put_code(code, 1);
    put_code(code + PAGE, 2);
    printf("code: %d %d, ", call(code), call(code + PAGE));
    new = move(code, PAGE, PAGE, keep, NULL);
    printf("moved %d %d, left %d, ", call(new), call(code + PAGE), look(code));
    put_code(code, 3);
    printf("anew %d %d\n", call(code), call(new));

    static const struct { int offset, old_pages, new_pages, flags, to; } bad[] = {
        {0, 1, 2, 5, 0}, {0, 2, 1, 5, 0}, {0, 1, 1, 4, 0}, {0, 1, 1, 5, 8}, {0, 2, 2, 5, PAGE}, {0, 3, 3, 5, -1},
        {2 * PAGE, 1, 1, 5, -1}, {1, 1, 1, 5, -1}, {0, 0, 0, 5, -1}, {0, 0, 1, 5, -1}, {0, 1, 1, 8, 0}, {0, 1, 1, 6, 0},
        {0, 1, 1, 7, 0}, {0, 1, 1, 7, 8},
    };
    char *two = pages(3);
    munmap(two + 2 * PAGE, PAGE);
    printf("refused:");
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        void *to = bad[i].to < 0 ? NULL : two + bad[i].to;
        errno = 0;
        void *result = move(two + bad[i].offset, bad[i].old_pages * PAGE, bad[i].new_pages * PAGE, bad[i].flags, to);
        printf(" %d", result == MAP_FAILED ? errno : 0);
    }
    printf("\n");
}

/* Whether a line of /proc/self/maps covers an address. */
static int is_listed(const void *where)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[500];
    int found = 0;

    while (maps != NULL && fgets(line, sizeof line, maps)) {
        unsigned long long start, end;
        if (sscanf(line, "%llx-%llx", &start, &end) == 2)
            found |= (uintptr_t)where >= start && (uintptr_t)where < end;
    }
    fclose(maps);
    return found;
}

static void children(void)
{
    char *area = pages(5), *wiped = pages(4), *code = mmap(NULL, 2 * PAGE, RW | PROT_EXEC, OWN, -1, 0);
    int file = file_of("mapped", 1), status;
    char *shared = mmap(NULL, PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char *private = mmap(NULL, PAGE, RW, MAP_PRIVATE, file, 0);

    memset(area, 1, 5 * PAGE);
    memset(wiped, 2, 4 * PAGE);
    memset(shared, 3, PAGE);
    put_code(code, 4);
    put_code(code + PAGE, 5);
    int first = call(code), second = call(code + PAGE);
    printf("code before: %d %d\n", first, second);
    printf("advice: %d %d %d", madvise(area + PAGE, 3 * PAGE, MADV_DONTFORK), madvise(area + 2 * PAGE, PAGE, MADV_DOFORK),
           madvise(shared, PAGE, MADV_DONTFORK));
    printf(" %d %d", madvise(wiped, 3 * PAGE, MADV_WIPEONFORK), madvise(wiped + PAGE, PAGE, MADV_KEEPONFORK));
    printf(" %d %d\n", madvise(code, PAGE, MADV_WIPEONFORK), madvise(code + PAGE, PAGE, MADV_DONTFORK));
    munmap(wiped + 3 * PAGE, PAGE);
    char *grown = mremap(wiped + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE);
    grown[PAGE] = 9;
    printf("here: %d %d %d %d %d, %d %d %d %d\n", look(area), look(area + PAGE), look(area + 2 * PAGE), look(area + 3 * PAGE),
           look(shared), look(wiped), look(wiped + PAGE), look(grown), look(grown + PAGE));
    fflush(stdout);
    for (int level = 0; level < 2; level++) {
        pid_t child = fork();
        if (child != 0) {
            waitpid(child, &status, 0);
            if (level == 1)
                _exit(status);
            break;
        }
        printf("child %d: %d %d %d %d %d %d, %d %d %d %d, code %d %d\n", level, look(area), look(area + PAGE),
               look(area + 2 * PAGE), look(area + 3 * PAGE), look(area + 4 * PAGE), look(shared), look(wiped), look(wiped + PAGE),
               look(grown), look(grown + PAGE), call(code), call(code + PAGE));
        printf("listed: %d %d %d", is_listed(area), is_listed(area + PAGE), is_listed(shared));
        errno = 0;
        ssize_t written = write(1, area + PAGE, 1);
        printf(", write %d %d", (int)written, errno);
        char *again = mmap(area + PAGE, PAGE, RW, OWN | MAP_FIXED_NOREPLACE, -1, 0);
        printf(", free %d", again == area + PAGE);
        munmap(again, PAGE);
        errno = 0;
        printf(", locked %d %d\n", mprotect(area + PAGE, PAGE, RW), errno);
        memset(wiped, 6, PAGE);
        fflush(stdout);
        if (level == 1)
            _exit(0);
    }
    printf("children %x; here: %d %d, code %d %d\n", status, look(area + PAGE), look(wiped), call(code), call(code + PAGE));
    pid_t child = vfork();
    if (child == 0)
        _exit(area[PAGE] + wiped[0]);
    waitpid(child, &status, 0);
    printf("vfork %x\n", status);

    static const int advice[] = {MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK, MADV_KEEPONFORK};
    munmap(area + 4 * PAGE, PAGE);
    for (int i = 0; i < 4; i++) {
        char *places[] = {area + 1, area, area + 3 * PAGE, private, shared, NULL};
        int sizes[] = {PAGE, 0, 2 * PAGE, PAGE, PAGE, PAGE};
        printf("advice %d:", advice[i]);
        for (int place = 0; place < 6; place++) {
            errno = 0;
            madvise(places[place], sizes[place], advice[i]);
            printf(" %d", errno);
        }
        printf("\n");
    }
    close(file);
    unlink("mapped");
}

/* Kilobytes locked. */
static int locked(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[300];
    int result = -1;

    while (status != NULL && fgets(line, sizeof line, status))
        sscanf(line, "VmLck: %d", &result);
    fclose(status);
    return result;
}

/* How many of some pages are in memory. */
static int resident(char *area, int count)
{
    unsigned char found[64];
    int result = 0;

    if (mincore(area, count * PAGE, found) != 0)
        return -errno;
    for (int i = 0; i < count; i++)
        result += found[i] & 1;
    return result;
}

static void tell(const char *what, int result)
{
    int error = errno;

    printf("%s %d", what, result);
    if (result != 0)
        printf(" %d", error);
    printf(": %d\n", locked());
}

static void locks(void)
{
    char *area = pages(16);
    int status;

    tell("none", 0);
    tell("lock", mlock(area + 100, 3 * PAGE));
    printf("%d in memory\n", resident(area, 16));
    tell("once more", mlock(area + 2 * PAGE, 4 * PAGE));
    tell("on fault", mlock2(area + 8 * PAGE, 4 * PAGE, MLOCK_ONFAULT));
    printf("%d in memory\n", resident(area + 8 * PAGE, 4));
    area[8 * PAGE] = 1;
    printf("%d in memory\n", resident(area + 8 * PAGE, 4));
    tell("unlock", munlock(area + PAGE, PAGE));
    tell("unmap", munmap(area, PAGE));
    tell("protect", mprotect(area + 4 * PAGE, PAGE, PROT_READ));
    tell("not locked", munmap(area + 14 * PAGE, 2 * PAGE));
    char *tail = mremap(area + 8 * PAGE, 4 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
    tell("grow", 0);
    char *away = move(area + 5 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
    tell("empty", 0);
    tell("the empty page", munmap(area + 5 * PAGE, PAGE));
    tell("what was in it", munmap(away, PAGE));
    tell("the tail", munmap(tail, 5 * PAGE));
    area = pages(4);
    munmap(area + 2 * PAGE, PAGE);
    tell("a hole", mlock(area + PAGE, 3 * PAGE));
    tell("an unlocked hole", munlock(area + PAGE, 3 * PAGE));
    tell("beyond", mlock(area, -8 * PAGE));
    tell("nothing", mlock(area + 2 * PAGE, 0));
    tell("unknown", mlock2(area, PAGE, 2));
    char *none = mmap(NULL, PAGE, PROT_NONE, OWN, -1, 0);
    tell("inaccessible", mlock(none, PAGE));
    tell("unlock all", munlockall());

    area = mmap(NULL, 5 * PAGE, RW, OWN | MAP_LOCKED, -1, 0);
    tell("MAP_LOCKED", 0);
    printf("%d in memory\n", resident(area, 5));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        tell("child", 0);
        tell("child", mlock(area, PAGE));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, &status, 0);
    munmap(area, 5 * PAGE);

    char *early = pages(3);
    tell("future", mlockall(MCL_FUTURE));
    char *late = pages(10);
    tell("pages", 0);
    printf("%d in memory\n", resident(late, 10));
    char *end = sbrk(4 * PAGE);
    tell("break", 0);
    tell("back", brk(end));
    int id = shmget(IPC_PRIVATE, 3 * PAGE, 0600);
    void *segment = shmat(id, NULL, 0);
    tell("segment", 0);
    tell("detached", shmdt(segment));
    shmctl(id, IPC_RMID, NULL);
    char *stack = mmap(late + 9 * PAGE, PAGE, RW, OWN | MAP_FIXED | MAP_GROWSDOWN, -1, 0);
    munmap(late, 9 * PAGE);
    tell("stack", 0);
    *(volatile char *)(stack - 3 * PAGE) = 1;
    tell("grown", 0);
    printf("early %d in memory, ", resident(early, 3));
    printf("current %d, ", mlockall(MCL_CURRENT));
    printf("early %d in memory\n", resident(early, 3));
    int all = locked();
    char *unlocked = pages(6);
    printf("everything: %d, later none: %d, %d in memory\n", all > 100, locked() - all, resident(unlocked, 6));
    tell("unlock all", munlockall());
    tell("on fault", mlockall(MCL_FUTURE | MCL_ONFAULT));
    char *touched = pages(6);
    touched[0] = 1;
    tell("pages", 0);
    printf("%d in memory\n", resident(touched, 6));
    tell("unlock all", munlockall());
    tell("only on fault", mlockall(MCL_ONFAULT));
    munmap(stack - 4 * PAGE, 5 * PAGE);
}

static void limits(void)
{
    struct rlimit limit = {8 * PAGE, 8 * PAGE};
    pid_t child = fork();
    int status;

    if (child != 0) {
        waitpid(child, &status, 0);
        printf("limits: %x\n", status);
        return;
    }
    setrlimit(RLIMIT_MEMLOCK, &limit);
    if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0)
        _exit(97);
    char *area = pages(20);
    tell("within", mlock(area, 6 * PAGE));
    tell("beyond", mlock(area + 6 * PAGE, 3 * PAGE));
    tell("again", mlock(area, 8 * PAGE));
    tell("a hole beyond", mlock(area + 8 * PAGE, 2000 * PAGE));
    tell("MAP_LOCKED", mmap(NULL, 3 * PAGE, RW, OWN | MAP_LOCKED, -1, 0) == MAP_FAILED);
    tell("all", mlockall(MCL_CURRENT));
    munlock(area, 8 * PAGE);
    tell("future", mlockall(MCL_FUTURE));
    char *replaced = mmap(area + 18 * PAGE, 2 * PAGE, RW, OWN | MAP_FIXED, -1, 0);
    replaced[0] = 4;
    munlock(replaced, 2 * PAGE);
    tell("fits", mmap(NULL, 7 * PAGE, RW, OWN, -1, 0) == MAP_FAILED);
    tell("does not", mmap(NULL, 2 * PAGE, RW, OWN, -1, 0) == MAP_FAILED);
    tell("nor in place of others", mmap(replaced, 2 * PAGE, RW, OWN | MAP_FIXED, -1, 0) == MAP_FAILED);
    printf("%d\n", look(replaced));
    tell("break", sbrk(2 * PAGE) == (void *)-1);
    munlockall();
    munmap(area + 5 * PAGE, 5 * PAGE);
    tell("five", mlock(area, 5 * PAGE));
    tell("growing", mremap(area, 5 * PAGE, 9 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED);
    tell("moving", mremap(area, 5 * PAGE, 5 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 10 * PAGE) == MAP_FAILED);
    munlockall();
    limit.rlim_cur = 0;
    setrlimit(RLIMIT_MEMLOCK, &limit);
    tell("none at all", mlock(area + 10 * PAGE, PAGE));
    tell("unlock", munlock(area + 10 * PAGE, PAGE));
    tell("future", mlockall(MCL_FUTURE));
    tell("MAP_LOCKED", mmap(NULL, PAGE, RW, OWN | MAP_LOCKED, -1, 0) == MAP_FAILED);
    tell("unlock all", munlockall());
    fflush(stdout);
    _exit(0);
}

int main(void)
{
    struct sigaction action = {.sa_handler = on_fault};

    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    moved_away();
    children();
    locks();
    fflush(stdout);
    limits();
    return 0;
}
