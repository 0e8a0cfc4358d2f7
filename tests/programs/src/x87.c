/* The stack, control and status word of the x87 across system calls, signals, threads and forks. */
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static volatile long double spoiled;

/* Uses the stack, and leaves other modes behind; the kernel puts everything back. */
static void tick(int signal)
{
    unsigned short control = 0x0f7f;
    (void)signal;
    ticks++;
    __asm__ volatile("fldcw %0" : : "m"(control));
    long double sum = 1;
    for (int i = 1; i < 50; i++)
        sum = sum / 3 + i;
    spoiled = sum;
    __asm__ volatile("fninit; fldpi; fldpi; fldpi");
}

/* The sum of a series, with all of it on the stack and a system call in the middle of each round. */
static long double series(int rounds, int calls)
{
    long double sum = 0, term = 1, result;
    for (int i = 1; i <= rounds; i++) {
        int number = SYS_getppid;
        __asm__ volatile(
            "fldt %2\n\tfldt %3\n\tfld1\n\tfldl2e\n\tfmul %%st(2), %%st\n\tfaddp\n\t"
            "test %4, %4\n\tjz 1f\n\tint $0x80\n1:\n\t"
            "fdivrp\n\tfaddp\n\tfstpt %0"
            : "=m"(result), "+a"(number)
            : "m"(sum), "m"(term), "r"(calls)
            : "memory");
        sum = result;
        term = term * 1.0625L + 0.25L;
    }
    return sum;
}

static void show(const char *what, long double value)
{
    unsigned short control, status;
    __asm__ volatile("fnstcw %0; fnstsw %1" : "=m"(control), "=m"(status));
    printf("%s: %La control %04x exceptions %02x\n", what, value, control, status & 0x3f);
}

static long double sums[4];

static void *thread(void *argument)
{
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    long at = (long)argument;
    fesetround(modes[at]);
    for (int i = 0; i < 20; i++)
        sums[at] = series(500, i & 1);
    return NULL;
}

int main(void)
{
    struct sigaction action;
    struct itimerval timer = {{0, 500}, {0, 500}};
    pthread_t threads[4];

    setvbuf(stdout, NULL, _IONBF, 0);
    show("without calls", series(1000, 0));
    show("with calls", series(1000, 1));

    /* Signals, until some have come while the x87 was at work. */
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    sigaction(SIGVTALRM, &action, NULL);
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
    long double first = series(1000, 0);
    int same = 1;
    while (ticks < 20)
        same &= series(1000, 0) == first;
    memset(&timer, 0, sizeof timer);
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
    show("with signals", first);
    printf("always the same: %d\n", same);

    for (long i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread, (void *)i);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        show("thread", sums[i]);
    }

    /* A child has the parent's modes and exceptions. */
    fesetround(FE_UPWARD);
    show("before the fork", series(100, 0));
    pid_t child = fork();
    if (child == 0) {
        show("child", series(100, 1));
        fesetround(FE_DOWNWARD);
        show("child, down", series(100, 1));
        _exit(0);
    }
    waitpid(child, NULL, 0);
    show("parent", series(100, 1));

    /* A child that borrows the memory is killed while its x87 is at work. */
    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    pid_t killer = fork();
    if (killer == 0) {
        pid_t victim = 0;
        if (read(ends[0], &victim, sizeof victim) == sizeof victim) {
            usleep(20000);
            kill(victim, SIGKILL);
        }
        _exit(0);
    }
    pid_t borrower = vfork();
    if (borrower == 0) {
        pid_t self = getpid();
        if (write(ends[1], &self, sizeof self) == sizeof self)
            __asm__ volatile("fld1; fldpi; 1: fadd %st, %st(1); fld %st(1); fstp %st; jmp 1b");
        _exit(0);
    }
    int status = 0;
    waitpid(borrower, &status, 0);
    waitpid(killer, NULL, 0);
    printf("killed by %d\n", WTERMSIG(status));
    show("behind it", series(100, 0));

    /* An MMX instruction in between takes the registers over. */
    unsigned long long both = 0x0123456789abcdefULL, out;
    __asm__ volatile("fldpi; fstp %%st; movq %1, %%mm3; paddb %%mm3, %%mm3; movq %%mm3, %0; emms" : "=m"(out) : "m"(both));
    show("behind MMX", series(10, 0));
    printf("%llx\n", out);
    return 0;
}
