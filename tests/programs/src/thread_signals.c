/* Signals and threads: sent to one of them or to the process, masks, handlers on stacks of their own, faults at once. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS 4

static atomic_int ready, handled[THREADS], wrong, go_on, faults;
static __thread int number = -1;
static __thread volatile int hits;
static __thread sigjmp_buf back;
static pthread_barrier_t barrier;

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    hits++;
    if (number < 0 || info->si_signo != signal)
        atomic_fetch_add(&wrong, 1);
    else
        atomic_fetch_add(&handled[number], 1);
}

/* Runs on the thread's own alternate stack. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    stack_t stack;
    char here;

    (void)signal;
    (void)context;
    sigaltstack(NULL, &stack);
    if (!(stack.ss_flags & SS_ONSTACK) || &here < (char *)stack.ss_sp || &here >= (char *)stack.ss_sp + stack.ss_size
        || info->si_addr != (void *)(size_t)(0x1000 + number * 16))
        atomic_fetch_add(&wrong, 1);
    atomic_fetch_add(&faults, 1);
    siglongjmp(back, 1);
}

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

/* Waits in read(2) until a signal ends it. */
static void *blocked_reader(void *argument)
{
    int pipes[2];
    char byte;
    ssize_t got;

    number = (int)(size_t)argument;
    if (pipe(pipes) != 0)
        exit(99);
    atomic_fetch_add(&ready, 1);
    got = read(pipes[0], &byte, 1);
    if (got != -1 || errno != EINTR || hits != 1)
        atomic_fetch_add(&wrong, 1);
    close(pipes[0]);
    close(pipes[1]);
    return NULL;
}

static void *busy(void *argument)
{
    number = (int)(size_t)argument;
    atomic_fetch_add(&ready, 1);
    while (hits < 50)
        ;
    return NULL;
}

static void *faulter(void *argument)
{
    static _Alignas(16) char stacks[THREADS][32768];
    stack_t stack = {.ss_size = sizeof stacks[0]};
    volatile int i;

    number = (int)(size_t)argument;
    stack.ss_sp = stacks[number];
    sigaltstack(&stack, NULL);
    pthread_barrier_wait(&barrier);
    for (i = 0; i < 500; i++)
        if (sigsetjmp(back, 1) == 0)
            *(volatile int *)(size_t)(0x1000 + number * 16) = i;
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, NULL);
    return NULL;
}

/* The only thread that does not block SIGUSR2. */
static void *taker(void *argument)
{
    sigset_t set;

    number = (int)(size_t)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    atomic_fetch_add(&ready, 1);
    while (!atomic_load(&go_on))
        usleep(1000);
    return NULL;
}

static void *waiter(void *argument)
{
    sigset_t set;
    siginfo_t info;
    int *values = argument;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    atomic_fetch_add(&ready, 1);
    for (int i = 0; i < 3; i++)
        if (sigwaitinfo(&set, &info) == SIGRTMIN)
            values[i] = info.si_value.sival_int;
    return NULL;
}

static void *pending(void *argument)
{
    sigset_t set;

    (void)argument;
    /* What was sent to the other thread is not pending here; what was sent to the process is. */
    sigpending(&set);
    return (void *)(size_t)(sigismember(&set, SIGRTMIN + 1) * 2 + sigismember(&set, SIGRTMIN + 2));
}

static void *timed(void *argument)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 3};
    struct itimerspec when = {.it_value = {0, 5000000}};
    timer_t timer;
    sigset_t set;
    siginfo_t info;

    (void)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    event._sigev_un._tid = gettid();
    event.sigev_value.sival_int = 77;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &when, NULL);
    if (sigwaitinfo(&set, &info) != SIGRTMIN + 3 || info.si_code != SI_TIMER)
        return NULL;
    timer_delete(timer);
    return (void *)(size_t)info.si_value.sival_int;
}

static void until(atomic_int *value, int wanted)
{
    while (atomic_load(value) < wanted)
        usleep(1000);
}

int main(void)
{
    pthread_t threads[THREADS], one;
    sigset_t set, old;
    void *result;
    int values[3] = {0};

    handle(SIGUSR1, on_signal, 0);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, blocked_reader, (void *)i);
    until(&ready, THREADS);
    usleep(50000);
    for (int i = 0; i < THREADS; i++)
        pthread_kill(threads[i], SIGUSR1);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("in calls: %d %d %d %d, wrong %d\n", handled[0], handled[1], handled[2], handled[3], wrong);

    atomic_store(&ready, 0);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, busy, (void *)i);
    until(&ready, THREADS);
    for (int i = 0; i < 200; i++) {
        int before = atomic_load(&handled[i % THREADS]);
        pthread_kill(threads[i % THREADS], SIGUSR1);
        until(&handled[i % THREADS], before + 1);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("in loops: %d %d %d %d, wrong %d\n", handled[0], handled[1], handled[2], handled[3], wrong);

    pthread_barrier_init(&barrier, NULL, THREADS);
    handle(SIGSEGV, on_fault, SA_ONSTACK);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, faulter, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("faults: %d, wrong %d\n", faults, wrong);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    for (int i = 0; i < 4; i++)
        sigaddset(&set, SIGRTMIN + i);
    pthread_sigmask(SIG_BLOCK, &set, &old);
    handle(SIGUSR2, on_signal, SA_RESTART);
    atomic_store(&ready, 0);
    atomic_store(&handled[2], 0);
    pthread_create(&one, NULL, taker, (void *)2);
    until(&ready, 1);
    for (int i = 1; i <= 10; i++) {
        kill(getpid(), SIGUSR2);
        until(&handled[2], i);
    }
    atomic_store(&go_on, 1);
    pthread_join(one, NULL);
    printf("to the process: %d by the one that takes it, wrong %d\n", handled[2], wrong);

    atomic_store(&ready, 0);
    pthread_create(&one, NULL, waiter, values);
    until(&ready, 1);
    for (int i = 1; i <= 3; i++)
        pthread_sigqueue(one, SIGRTMIN, (union sigval){.sival_int = i * 11});
    pthread_join(one, NULL);
    printf("waited for: %d %d %d\n", values[0], values[1], values[2]);

    pthread_kill(pthread_self(), SIGRTMIN + 1);
    kill(getpid(), SIGRTMIN + 2);
    pthread_create(&one, NULL, pending, NULL);
    pthread_join(one, &result);
    printf("pending in the other thread: %d, here: %d\n", (int)(size_t)result, (int)(size_t)pending(NULL));

    pthread_create(&one, NULL, timed, NULL);
    pthread_join(one, &result);
    printf("timer for a thread: %d\n", (int)(size_t)result);
    printf("no such thread: %d\n", (int)syscall(SYS_tgkill, getpid(), 0x3fffffff, 0) == -1 && errno == ESRCH);
    return 0;
}
