/* Threads: creation, thread-local storage, mutexes, conditions, atomics, cancellation, once, barriers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 20000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_barrier_t barrier;
static pthread_key_t key;
static sem_t semaphore;
static atomic_int atomic_count, destroyed, cleaned;
static _Atomic unsigned long long wide_count;
static long guarded_count;
static int queue[16], queued, once_count, barrier_leaders;
static __thread int local = 5;

static void destroy(void *value)
{
    atomic_fetch_add(&destroyed, *(int *)value);
    free(value);
}

static void count_once(void)
{
    once_count++;
}

static void *work(void *argument)
{
    int number = (int)(long)argument;
    int *value = malloc(sizeof *value);

    *value = number;
    pthread_setspecific(key, value);
    pthread_once(&once, count_once);
    for (int i = 0; i < ROUNDS; i++) {
        local += number;
        atomic_fetch_add(&atomic_count, 1);
        atomic_fetch_add(&wide_count, 0x100000001ULL);
        if (i % 10 == 0) {
            pthread_mutex_lock(&mutex);
            guarded_count++;
            pthread_mutex_unlock(&mutex);
        }
    }
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        barrier_leaders++;
    return (void *)(long)local;
}

static void *produce(void *argument)
{
    (void)argument;
    for (int i = 1; i <= 1000; i++) {
        pthread_mutex_lock(&mutex);
        while (queued == 16)
            pthread_cond_wait(&changed, &mutex);
        queue[queued++] = i;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    sem_post(&semaphore);
    return NULL;
}

static void *consume(void *argument)
{
    long sum = 0;

    (void)argument;
    for (int i = 0; i < 1000; i++) {
        pthread_mutex_lock(&mutex);
        while (queued == 0)
            pthread_cond_wait(&changed, &mutex);
        sum += queue[--queued];
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&mutex);
    }
    return (void *)sum;
}

static void clean_up(void *argument)
{
    (void)argument;
    atomic_fetch_add(&cleaned, 1);
}

static void *wait_forever(void *argument)
{
    (void)argument;
    pthread_cleanup_push(clean_up, NULL);
    for (;;)
        pause();
    pthread_cleanup_pop(0);
    return NULL;
}

static void *spin(void *argument)
{
    while (!atomic_load((atomic_int *)argument))
        ;
    return argument;
}

int main(void)
{
    pthread_t threads[THREADS], one, other;
    void *result;
    long locals = 0;
    atomic_int stop = 0;

    pthread_key_create(&key, destroy);
    pthread_barrier_init(&barrier, NULL, THREADS);
    sem_init(&semaphore, 0, 0);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &result);
        locals += (long)result;
    }
    printf("counts %d %llx %ld, locals %ld %d\n", atomic_count, wide_count, guarded_count, locals, local);
    printf("once %d, destroyed %d, leaders %d\n", once_count, destroyed, barrier_leaders);

    pthread_create(&one, NULL, produce, NULL);
    pthread_create(&other, NULL, consume, NULL);
    pthread_join(other, &result);
    pthread_join(one, NULL);
    printf("consumed %ld, semaphore %d\n", (long)result, sem_trywait(&semaphore));

    pthread_create(&one, NULL, wait_forever, NULL);
    usleep(20000);
    pthread_cancel(one);
    pthread_join(one, &result);
    printf("cancelled %d, cleaned %d\n", result == PTHREAD_CANCELED, cleaned);

    pthread_create(&one, NULL, spin, &stop);
    usleep(20000);
    stop = 1;
    pthread_join(one, &result);
    printf("spinner saw the change: %d\n", result == &stop);
    for (int i = 0; i < 200; i++) {
        pthread_create(&one, NULL, spin, &stop);
        pthread_join(one, NULL);
    }
    printf("200 threads came and went\n");
    return 0;
}
