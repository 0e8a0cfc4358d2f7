/* Calls and returns: the naive Fibonacci recursion. */
#define KERNEL_NAME "fib"
#include "guest.h"

static void setup(void) {}

static NOINLINE u32 fib(u32 n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u32 kernel(u32 repetition)
{
    return fib(26) + repetition;
}
