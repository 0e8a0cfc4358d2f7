/* fork, vfork and posix_spawn in threads, while others allocate, print and map memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int stop, good, spawned, shared;
static char *self;

static void *churn(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument + 1;
    char *kept[16] = {0};

    while (!atomic_load(&stop)) {
        int slot = rand_r(&seed) % 16;
        char *page;

        free(kept[slot]);
        kept[slot] = malloc(rand_r(&seed) % 5000 + 1);
        kept[slot][0] = 1;
        page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[4096] = 1;
        munmap(page, 8192);
    }
    for (int i = 0; i < 16; i++)
        free(kept[i]);
    return NULL;
}

static void *count_up(void *argument)
{
    (*(int *)argument)++;
    return NULL;
}

/* The child has one thread, can make others, and its memory is its own. */
static void *forks(void *argument)
{
    (void)argument;
    for (int i = 0; i < 20; i++) {
        int status, counted = i;
        pid_t child = fork();

        if (child == 0) {
            pthread_t thread;
            char *text = malloc(100);

            if (gettid() != getpid() || pthread_create(&thread, NULL, count_up, &counted) != 0)
                _exit(100);
            pthread_join(thread, NULL);
            sprintf(text, "%d", counted);
            _exit(atoi(text));
        }
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == i + 1 && counted == i)
            atomic_fetch_add(&good, 1);
    }
    return NULL;
}

static void *spawns(void *argument)
{
    (void)argument;
    for (int i = 0; i < 5; i++) {
        char *argv[] = {self, "spawned", NULL};
        int status;
        pid_t child;

        if (posix_spawn(&child, self, NULL, NULL, argv, NULL) == 0 && waitpid(child, &status, 0) == child
            && WIFEXITED(status) && WEXITSTATUS(status) == 42)
            atomic_fetch_add(&spawned, 1);
    }
    return NULL;
}

static void *vforks(void *argument)
{
    (void)argument;
    for (int i = 0; i < 20; i++) {
        volatile int seen = 0;
        int status;
        pid_t child = vfork();

        if (child == 0) {
            seen = 1;
            _exit(11);
        }
        waitpid(child, &status, 0);
        if (seen && WIFEXITED(status) && WEXITSTATUS(status) == 11)
            atomic_fetch_add(&good, 1);
    }
    return NULL;
}

/* A process on the same memory that runs beside its parent. */
static int share(void *argument)
{
    for (int i = 0; i < 1000; i++)
        atomic_fetch_add((atomic_int *)argument, 1);
    return getpid() == gettid() && getpid() != atomic_load(&stop) ? 23 : 24;
}

static void shares(void)
{
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t child = clone(share, stack + 65536, CLONE_VM | SIGCHLD, &shared);

    for (int i = 0; i < 1000; i++)
        atomic_fetch_add(&shared, 1);
    waitpid(child, &status, 0);
    printf("a process on the same memory: %d, status %d\n", shared, WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
    pthread_t threads[8];

    if (argc == 2)
        return 42;
    self = argv[0];
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, churn, (void *)i);
    pthread_create(&threads[2], NULL, forks, NULL);
    pthread_create(&threads[3], NULL, forks, NULL);
    pthread_create(&threads[4], NULL, spawns, NULL);
    pthread_create(&threads[5], NULL, vforks, NULL);
    forks(NULL);
    for (int i = 2; i < 6; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf("%d children were right, %d spawned\n", good, spawned);
    shares();
    return 0;
}
