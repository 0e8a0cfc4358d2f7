/* Compares, swaps and calls through a pointer: quicksort, then heapsort, of random words. */
#define KERNEL_NAME "sort"
#include "guest.h"

#define LENGTH 20000

static u32 input[LENGTH], work[LENGTH];

static void setup(void)
{
    for (u32 i = 0; i < LENGTH; i++)
        input[i] = next_random();
}

static NOINLINE int ascending(u32 a, u32 b)
{
    return a < b;
}

static NOINLINE int by_low_half(u32 a, u32 b)
{
    return (a << 16 | a >> 16) < (b << 16 | b >> 16);
}

static NOINLINE void quicksort(u32 *first, u32 *last)
{
    while (first < last) {
        u32 pivot = first[(last - first) / 2];
        u32 *low = first, *high = last;
        while (low <= high) {
            while (*low < pivot)
                low++;
            while (*high > pivot)
                high--;
            if (low <= high) {
                u32 swapped = *low;
                *low++ = *high;
                *high-- = swapped;
            }
        }
        if (high - first < last - low) {
            quicksort(first, high);
            first = low;
        } else {
            quicksort(low, last);
            last = high;
        }
    }
}

static NOINLINE void sift_down(u32 *heap, u32 root, u32 length, int (*less)(u32, u32))
{
    u32 moved = heap[root];

    for (;;) {
        u32 child = 2 * root + 1;
        if (child >= length)
            break;
        if (child + 1 < length && less(heap[child], heap[child + 1]))
            child++;
        if (!less(moved, heap[child]))
            break;
        heap[root] = heap[child];
        root = child;
    }
    heap[root] = moved;
}

static NOINLINE void heapsort(u32 *heap, u32 length, int (*less)(u32, u32))
{
    for (u32 i = length / 2; i-- > 0;)
        sift_down(heap, i, length, less);
    for (u32 i = length; i-- > 1;) {
        u32 largest = heap[0];
        heap[0] = heap[i];
        heap[i] = largest;
        sift_down(heap, 0, i, less);
    }
}

static u32 kernel(u32 repetition)
{
    u32 sum = repetition;

    for (u32 i = 0; i < LENGTH; i++)
        work[i] = input[i];
    quicksort(work, work + LENGTH - 1);
    for (u32 i = 0; i < LENGTH; i++)
        sum = sum * 31 + work[i];
    heapsort(work, LENGTH, by_low_half);
    for (u32 i = 0; i < LENGTH; i++)
        sum = sum * 31 + work[i];
    heapsort(work, LENGTH, ascending);
    return sum ^ work[LENGTH / 2];
}
