/* Atomic instructions of several threads on the same memory: aligned, across a cache line, across a page; and locks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define THREADS 4
#define ROUNDS 20000
/* Linux slows threads down that lock across cache lines, where the processor reports that (split_lock_mitigate). */
#define SPLIT_ROUNDS 200

/* Counts in every way that LOCK allows; all must come out as if one thread had done it. */
struct place {
    volatile uint8_t *byte;
    volatile uint16_t *word;
    volatile uint32_t *dword, *flags, *spin, *guarded;
    volatile uint64_t *wide;
};

static struct place place;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_spinlock_t spinlock;
static pthread_barrier_t barrier;
static long mutex_count, rwlock_count, spin_count, torn;
static int rounds;

/* Adds 1 in one of eight ways. */
static void change(volatile uint32_t *at, int round)
{
    uint32_t one = 1, old;

    switch (round % 8) {
    case 0:
        __asm__ volatile("lock incl %0" : "+m"(*at) : : "cc");
        break;
    case 1:
        __asm__ volatile("lock addl $1, %0" : "+m"(*at) : : "cc");
        break;
    case 2:
        __asm__ volatile("lock xaddl %1, %0" : "+m"(*at), "+r"(one) : : "cc");
        break;
    case 3:
        __asm__ volatile("lock subl $-1, %0" : "+m"(*at) : : "cc");
        break;
    case 4:
        __asm__ volatile("stc\n\tlock adcl $0, %0" : "+m"(*at) : : "cc");
        break;
    case 5:
        __asm__ volatile("stc\n\tlock sbbl $-2, %0" : "+m"(*at) : : "cc");
        break;
    case 6:
        old = *at;
        while (1) {
            uint32_t seen = old;
            __asm__ volatile("lock cmpxchgl %2, %0" : "+m"(*at), "+a"(seen) : "r"(old + 1) : "cc");
            if (seen == old)
                break;
            old = seen;
        }
        break;
    default:
        __asm__ volatile("lock decl %0\n\tlock addl $2, %0" : "+m"(*at) : : "cc");
    }
}

static void change_wide(volatile uint64_t *at)
{
    uint64_t old = *at;
    unsigned char done;

    do {
        uint64_t new = old + 0x100000001ull;
        __asm__ volatile("lock cmpxchg8b %0\n\tsete %1"
                         : "+m"(*at), "=q"(done), "+A"(old)
                         : "b"((uint32_t)new), "c"((uint32_t)(new >> 32))
                         : "cc");
    } while (!done);
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < rounds; i++) {
        uint32_t taken = 1, own = 1u << (number * 8 + (i & 7));

        change(place.dword, i);
        __asm__ volatile("lock incb %0" : "+m"(*place.byte) : : "cc");
        __asm__ volatile("lock addw $3, %0" : "+m"(*place.word) : : "cc");
        change_wide(place.wide);
        /* Each thread turns over eight bits of its own in one word. */
        if (i % 2)
            __asm__ volatile("lock xorl %1, %0" : "+m"(*place.flags) : "r"(own) : "cc");
        else
            __asm__ volatile("lock btcl %1, %0" : "+m"(*place.flags) : "r"(number * 8 + (i & 7)) : "cc");
        __asm__ volatile("lock andl %1, %0" : "+m"(*place.flags) : "r"(~(own & 0x55555555)) : "cc");
        __asm__ volatile("lock orl %1, %0" : "+m"(*place.flags) : "r"(own & 0x11111111) : "cc");
        /* A lock made of XCHG, which needs no prefix. */
        do
            __asm__ volatile("xchgl %0, %1" : "+r"(taken), "+m"(*place.spin) : : "memory");
        while (taken);
        *place.guarded += 1;
        __asm__ volatile("movl $0, %0" : "=m"(*place.spin) : : "memory");
        if (i % 20 == 0) {
            pthread_mutex_lock(&mutex);
            mutex_count++;
            pthread_mutex_unlock(&mutex);
            pthread_rwlock_wrlock(&rwlock);
            rwlock_count++;
            pthread_rwlock_unlock(&rwlock);
            pthread_rwlock_rdlock(&rwlock);
            torn += rwlock_count < 0;
            pthread_rwlock_unlock(&rwlock);
            pthread_spin_lock(&spinlock);
            spin_count++;
            pthread_spin_unlock(&spinlock);
        }
    }
    return NULL;
}

static void contend(const char *name, char *at, int apart, int split)
{
    pthread_t threads[THREADS];

    memset(at - 64, 0, 64 + 8 * (size_t)apart);
    place.dword = (void *)(at - split);
    place.byte = (void *)(at + apart);
    place.word = (void *)(at + 2 * apart - (split ? 1 : 0));
    place.wide = (void *)(at + 3 * apart - split);
    place.flags = (void *)(at + 4 * apart - split);
    place.spin = (void *)(at + 5 * apart - split);
    place.guarded = (void *)(at + 6 * apart - split);
    mutex_count = rwlock_count = spin_count = 0;
    rounds = split ? SPLIT_ROUNDS : ROUNDS;
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("%s: %u %u %u %llx %x %u\n", name, *place.dword, *place.byte, *place.word,
           (unsigned long long)*place.wide, *place.flags, *place.guarded);
    printf("%s: mutex %ld, rwlock %ld, spin %ld, torn %ld\n", name, mutex_count, rwlock_count, spin_count, torn);
}

int main(void)
{
    char *memory = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_spin_init(&spinlock, 0);
    contend("aligned", memory + 4096, 64, 0);
    contend("across lines", memory + 4096 + 64, 64, 2);
    contend("across pages", memory + 2 * 4096, 4096, 3);
    return 0;
}
