/* Robust and priority-inheriting mutexes, and futex(2) itself with both widths of time. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

static atomic_uint word, other, woken, waiting;

static long futex(void *at, int op, unsigned value, const void *timeout, void *at2, unsigned value3)
{
    long result = syscall(SYS_futex, at, op, value, timeout, at2, value3);

    return result == -1 ? -errno : result;
}

static long futex64(void *at, int op, unsigned value, const void *timeout, void *at2, unsigned value3)
{
    long result = syscall(SYS_futex_time64, at, op, value, timeout, at2, value3);

    return result == -1 ? -errno : result;
}

static void until(atomic_uint *at, unsigned value)
{
    while (atomic_load(at) < value)
        usleep(1000);
    usleep(20000);
}

static void *wait_here(void *argument)
{
    long result;

    atomic_fetch_add(&waiting, 1);
    result = futex(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, (unsigned)(size_t)argument);
    if (result == 0)
        atomic_fetch_add(&woken, 1);
    return (void *)result;
}

static void operations(void)
{
    int32_t soon[2] = {0, 1000000}, wrong[2] = {0, -1};
    int64_t soon64[2] = {0, 1000000};
    struct timespec now;
    pthread_t threads[4];
    void *result;

    printf("wait: %ld %ld %ld %ld\n", futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0), futex(&word, FUTEX_WAIT, 0, soon, NULL, 0),
           futex64(&word, FUTEX_WAIT, 0, soon64, NULL, 0), futex(&word, FUTEX_WAIT, 0, wrong, NULL, 0));
    clock_gettime(CLOCK_REALTIME, &now);
    soon64[0] = now.tv_sec;
    soon64[1] = now.tv_nsec;
    printf("until: %ld %ld\n", futex64(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, soon64, NULL, ~0u),
           futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    printf("bad: %ld %ld %ld %ld\n", futex((char *)&word + 1, FUTEX_WAIT, 0, NULL, NULL, 0),
           futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0), futex(&word, 99, 0, NULL, NULL, 0),
           futex(&word, FUTEX_WAIT, 0, (void *)8, NULL, 0));

    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, wait_here, (void *)(1u << i));
    until(&waiting, 4);
    printf("wake of bit 2: %ld\n", futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 4));
    pthread_join(threads[2], &result);
    printf("compared: %ld\n", futex(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)1, &other, 5));
    printf("requeue: %ld\n", futex(&word, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, (void *)1, &other, 0));
    until(&woken, 2);
    printf("on the other: %ld\n", futex(&other, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0));
    printf("wake op: %ld", futex(&word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 10, (void *)10, &other,
                                 FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
    printf(" and the word %u\n", other);
    for (int i = 0; i < 4; i++)
        if (i != 2)
            pthread_join(threads[i], &result);
    printf("all woken: %u\n", woken);
}

static void *wait_for_either(void *argument)
{
    struct futex_waitv list[2] = {
        {.val = 0, .uaddr = (uintptr_t)&word, .flags = FUTEX_32},
        {.val = 0, .uaddr = (uintptr_t)argument, .flags = FUTEX_32},
    };
    long result;

    atomic_fetch_add(&waiting, 1);
    result = syscall(SYS_futex_waitv, list, 2, 0, NULL, 0);
    return (void *)(result == -1 ? -errno : result);
}

static void several(void)
{
    pthread_t thread;
    void *result;

    atomic_store(&waiting, 0);
    atomic_store(&other, 0);
    pthread_create(&thread, NULL, wait_for_either, &other);
    until(&waiting, 1);
    printf("either: woke %ld,", futex(&other, FUTEX_WAKE, 1, NULL, NULL, 0));
    pthread_join(thread, &result);
    printf(" index %ld\n", (long)result);
}

static void *die_with(void *argument)
{
    pthread_mutex_lock(argument);
    return NULL;
}

static void *wait_for(void *argument)
{
    int result = pthread_mutex_lock(argument);

    if (result == EOWNERDEAD)
        pthread_mutex_consistent(argument);
    if (result == 0 || result == EOWNERDEAD)
        pthread_mutex_unlock(argument);
    return (void *)(long)result;
}

static void *hold_and_die(void *argument)
{
    pthread_mutex_lock(argument);
    atomic_store(&waiting, 1);
    usleep(50000);
    return NULL;
}

static void *crash(void *argument)
{
    volatile int *volatile nowhere = NULL;

    *nowhere = 1;
    return argument;
}

static void robust(const char *name, int protocol)
{
    pthread_mutex_t *mutex = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    pthread_t thread, waiter;
    void *result;
    pid_t child;
    int status;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutex_init(mutex, &attributes);

    pthread_create(&thread, NULL, die_with, mutex);
    pthread_join(thread, NULL);
    printf("%s: left by a thread %ld,", name, (long)wait_for(mutex));

    atomic_store(&waiting, 0);
    pthread_create(&thread, NULL, hold_and_die, mutex);
    until(&waiting, 1);
    pthread_create(&waiter, NULL, wait_for, mutex);
    pthread_join(waiter, &result);
    pthread_join(thread, NULL);
    printf(" waited for %ld,", (long)result);
    fflush(stdout);

    child = fork();
    if (child == 0) {
        pthread_mutex_lock(mutex);
        _exit(0);
    }
    waitpid(child, &status, 0);
    printf(" left by a process %ld,", (long)wait_for(mutex));
    fflush(stdout);

    child = fork();
    if (child == 0) {
        pthread_mutex_lock(mutex);
        pthread_create(&thread, NULL, crash, NULL);
        pause();
    }
    waitpid(child, &status, 0);
    printf(" by one that crashes %ld\n", (long)wait_for(mutex));
    munmap(mutex, 4096);
}

static void *count(void *argument)
{
    static long counted;

    for (int i = 0; i < 2000; i++) {
        pthread_mutex_lock(argument);
        counted++;
        pthread_mutex_unlock(argument);
    }
    return (void *)counted;
}

static void inheriting(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t mutex;
    pthread_t threads[4];
    struct timespec when;
    void *result;
    long most = 0;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&mutex, &attributes);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, count, &mutex);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &result);
        most = (long)result > most ? (long)result : most;
    }
    pthread_mutex_lock(&mutex);
    clock_gettime(CLOCK_REALTIME, &when);
    pthread_create(&threads[0], NULL, wait_for, &mutex);
    usleep(20000);
    pthread_mutex_unlock(&mutex);
    pthread_join(threads[0], &result);
    printf("inheriting: counted %ld, waited %ld\n", most, (long)result);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    operations();
    several();
    robust("robust", PTHREAD_PRIO_NONE);
    inheriting();
    return 0;
}
