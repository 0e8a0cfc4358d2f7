/* How threads and processes with threads end: by one thread's exit, the last one's return, signals, execve. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char *self;

static void *forever(void *argument)
{
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

static void *busy(void *argument)
{
    for (volatile unsigned count = 0;; count++)
        ;
    return argument;
}

static void *read_forever(void *argument)
{
    int *pipes = argument;
    char byte;

    while (read(pipes[0], &byte, 1) == 1)
        ;
    return NULL;
}

static void *lock(void *argument)
{
    pthread_mutex_lock(argument);
    return NULL;
}

/* Threads in all situations: running, waiting in a call, waiting for a lock. */
static void populate(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static int pipes[2];
    pthread_t thread;

    if (pipe(pipes) != 0)
        exit(99);
    pthread_mutex_lock(&mutex);
    pthread_create(&thread, NULL, forever, NULL);
    pthread_create(&thread, NULL, busy, NULL);
    pthread_create(&thread, NULL, read_forever, pipes);
    pthread_create(&thread, NULL, lock, &mutex);
    usleep(5000);
}

static void *exit_3(void *argument)
{
    (void)argument;
    exit(3);
}

static void *crash(void *argument)
{
    volatile int *volatile nowhere = NULL;

    *nowhere = 1;
    return argument;
}

static void *trap(void *argument)
{
    (void)argument;
    abort();
}

static void *become_echo(void *argument)
{
    pid_t pid = getpid();
    char text[16];

    (void)argument;
    snprintf(text, sizeof text, "%d", (int)pid);
    execl(self, self, "after", text, (char *)NULL);
    exit(98);
}

static void *return_soon(void *argument)
{
    usleep(20000);
    return argument;
}

static void *exit_soon(void *argument)
{
    usleep(20000);
    syscall(SYS_exit, 17);
    return argument;
}

static void in_child(const char *what, void (*body)(void))
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        body();
        _exit(97);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status))
        printf("%s: status %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void with(void *(*body)(void *))
{
    pthread_t thread;

    populate();
    pthread_create(&thread, NULL, body, NULL);
    for (;;)
        pause();
}

static void main_returns(void)
{
    populate();
    exit(4);
}

static void thread_exits(void)
{
    with(exit_3);
}

static void thread_crashes(void)
{
    with(crash);
}

static void thread_aborts(void)
{
    with(trap);
}

static void thread_executes(void)
{
    with(become_echo);
}

static void main_executes(void)
{
    populate();
    become_echo(NULL);
}

static void main_leaves_first(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, return_soon, NULL);
    pthread_exit(NULL);
}

static void main_ends_by_itself(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, exit_soon, NULL);
    syscall(SYS_exit, 5);
}

static void killed_from_outside(void)
{
    populate();
    kill(getpid(), SIGTERM);
    for (;;)
        pause();
}

static void main_gone_and_killed(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, busy, NULL);
    if (fork() == 0) {
        usleep(20000);
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    pthread_exit(NULL);
}

static void *leave_quietly(void *argument)
{
    *(int *)argument = 1;
    syscall(SYS_exit, 7);
    return NULL;
}

static void thread_ends_alone(void)
{
    static int ran;
    pthread_t thread;

    pthread_create(&thread, NULL, leave_quietly, &ran);
    pthread_join(thread, NULL);
    _exit(ran ? 8 : 9);
}

int main(int argc, char **argv)
{
    self = argv[0];
    if (argc == 3 && strcmp(argv[1], "after") == 0) {
        pthread_t thread;

        printf("executed: same process %d, first thread %d\n", atoi(argv[2]) == getpid(), gettid() == getpid());
        fflush(stdout);
        pthread_create(&thread, NULL, return_soon, NULL);
        pthread_join(thread, NULL);
        return 6;
    }
    in_child("main returns", main_returns);
    in_child("a thread exits", thread_exits);
    in_child("a thread crashes", thread_crashes);
    in_child("a thread aborts", thread_aborts);
    in_child("a thread executes", thread_executes);
    in_child("main executes", main_executes);
    in_child("main leaves first", main_leaves_first);
    in_child("main ends by itself", main_ends_by_itself);
    in_child("killed from outside", killed_from_outside);
    in_child("killed without main", main_gone_and_killed);
    in_child("a thread ends alone", thread_ends_alone);
    return 0;
}
