/* Code that one thread writes and others run: replaced under a lock, behind a flag, through another mapping, unmapped. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS 3

typedef unsigned (*function)(void);

static atomic_uint version, wrong, seen[THREADS];
static unsigned char *code, *alias;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* mov eax, value; ret */
static void write_function(unsigned char *at, unsigned value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static void *map(int prot)
{
    return mmap(NULL, 8192, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Calls while nobody writes; what it sees never goes back. */
static void *reader(void *argument)
{
    unsigned number = (unsigned)(size_t)argument, last = 0;

    while (last < 150) {
        unsigned value;

        pthread_rwlock_rdlock(&lock);
        value = ((function)(uintptr_t)code)();
        if (value != atomic_load(&version) || value < last)
            atomic_fetch_add(&wrong, 1);
        last = value;
        pthread_rwlock_unlock(&lock);
        atomic_store(&seen[number], last);
    }
    return NULL;
}

static void under_a_lock(const char *name, unsigned char *written)
{
    pthread_t threads[THREADS];

    atomic_store(&version, 0);
    write_function(written, 0);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, reader, (void *)i);
    for (unsigned value = 1; value <= 150; value++) {
        pthread_rwlock_wrlock(&lock);
        write_function(written, value);
        atomic_store(&version, value);
        pthread_rwlock_unlock(&lock);
        if (value % 10 == 0)
            for (int i = 0; i < THREADS; i++)
                while (value < 150 && atomic_load(&seen[i]) < value)
                    usleep(10);
        sched_yield();
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        atomic_store(&seen[i], 0);
    }
    printf("%s: %u calls were wrong\n", name, wrong);
}

/* Waits for a flag in a loop and calls at once: the loop and the function are one stretch of code. */
static void *follower(void *argument)
{
    function call = (function)(uintptr_t)code;

    (void)argument;
    for (unsigned value = 1; value <= 100; value++) {
        while (atomic_load(&version) != value)
            ;
        if (call() != value)
            atomic_fetch_add(&wrong, 1);
        atomic_store(&seen[0], value);
    }
    return NULL;
}

static void behind_a_flag(void)
{
    pthread_t thread;

    atomic_store(&version, 0);
    atomic_store(&seen[0], 0);
    pthread_create(&thread, NULL, follower, NULL);
    for (unsigned value = 1; value <= 100; value++) {
        write_function(code, value);
        atomic_store(&version, value);
        while (atomic_load(&seen[0]) != value)
            ;
    }
    pthread_join(thread, NULL);
    printf("behind a flag: %u calls were wrong\n", wrong);
}

/* Each thread makes code of its own, runs it, changes it, throws it away. */
static void *own_code(void *argument)
{
    unsigned number = (unsigned)(size_t)argument;

    for (unsigned round = 0; round < 60; round++) {
        unsigned char *own = map(PROT_READ | PROT_WRITE | PROT_EXEC);

        for (unsigned i = 0; i < 20; i++) {
            write_function(own + 16 * (i % 5), number * 1000 + i);
            if (((function)(uintptr_t)(own + 16 * (i % 5)))() != number * 1000 + i)
                atomic_fetch_add(&wrong, 1);
        }
        if (round % 2) {
            mprotect(own, 8192, PROT_READ | PROT_WRITE);
            write_function(own, round);
            mprotect(own, 8192, PROT_READ | PROT_EXEC);
            if (((function)(uintptr_t)own)() != round)
                atomic_fetch_add(&wrong, 1);
        }
        munmap(own, 8192);
    }
    return NULL;
}

/* Threads that write to data on the page of code that others run. */
static void *neighbour(void *argument)
{
    volatile unsigned *mine = (unsigned *)(code + 2048) + (size_t)argument;

    for (unsigned i = 0; i < 3000; i++) {
        *mine += 1;
        if (((function)(uintptr_t)code)() != 7)
            atomic_fetch_add(&wrong, 1);
    }
    return (void *)(size_t)*mine;
}

int main(void)
{
    pthread_t threads[THREADS];
    unsigned total = 0;
    void *result;
    int file = memfd_create("code", 0);

    code = map(PROT_READ | PROT_WRITE | PROT_EXEC);
    under_a_lock("written in place", code);
    behind_a_flag();

    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, own_code, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("code of their own: %u calls were wrong\n", wrong);

    write_function(code, 7);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, neighbour, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        total += (unsigned)(size_t)result;
    }
    printf("beside data: %u writes, %u calls were wrong\n", total, wrong);

    if (ftruncate(file, 8192) != 0)
        return 1;
    code = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    alias = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    under_a_lock("written through another mapping", alias);
    return 0;
}
