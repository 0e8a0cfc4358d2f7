/* What the scripts here are about: calls, a variable that is watched, a signal, threads, system calls, a fault. */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

volatile double scale = 2.5;
volatile int hits;

static int factorial(int n) {
    return n <= 1 ? 1 : n * factorial(n - 1);
}

static void handler(int signal) {
    hits += signal;
}

static void *work(void *argument) {
    hits++;
    return argument;
}

int main(void) {
    pthread_t threads[2];
    hits = factorial(5);
    scale = scale * 2;
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], 0, work, 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], 0);
    write(1, "done\n", 5);
    *(volatile int *)16 = hits;
    return 0;
}
