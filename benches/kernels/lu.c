/* Loads and stores around each operation: LU decomposition with partial pivoting, then a solution. */
#include "precision.h"
#define KERNEL_NAME "lu-" PRECISION
#include "guest.h"

#define SIZE 60

static double input[SIZE][SIZE], a[SIZE][SIZE], b[SIZE];

static void setup(void)
{
    for (int i = 0; i < SIZE; i++)
        for (int j = 0; j < SIZE; j++)
            input[i][j] = (double)(int)(next_random() >> 12) / 1048576.0 - 0.5;
}

static inline double magnitude(double x)
{
    return x < 0 ? -x : x;
}

static NOINLINE int decompose(void)
{
    for (int k = 0; k < SIZE; k++) {
        int pivot = k;
        for (int i = k + 1; i < SIZE; i++)
            if (magnitude(a[i][k]) > magnitude(a[pivot][k]))
                pivot = i;
        if (a[pivot][k] == 0)
            return 0;
        if (pivot != k) {
            for (int j = 0; j < SIZE; j++) {
                double swapped = a[k][j];
                a[k][j] = a[pivot][j];
                a[pivot][j] = swapped;
            }
            double swapped = b[k];
            b[k] = b[pivot];
            b[pivot] = swapped;
        }
        for (int i = k + 1; i < SIZE; i++) {
            double factor = a[i][k] /= a[k][k];
            for (int j = k + 1; j < SIZE; j++)
                a[i][j] -= factor * a[k][j];
            b[i] -= factor * b[k];
        }
    }
    return 1;
}

static NOINLINE void substitute(void)
{
    for (int i = SIZE - 1; i >= 0; i--) {
        for (int j = i + 1; j < SIZE; j++)
            b[i] -= a[i][j] * b[j];
        b[i] /= a[i][i];
    }
}

static u32 kernel(u32 repetition)
{
    u32 sum = 0;

    for (int i = 0; i < SIZE; i++) {
        for (int j = 0; j < SIZE; j++)
            a[i][j] = input[i][j];
        b[i] = (double)(i + (int)(repetition & 7));
    }
    if (!decompose())
        return ~0u;
    substitute();
    for (int i = 0; i < SIZE; i++) {
        union {
            double value;
            u32 words[2];
        } x = {b[i]};
        sum = sum * 31 + (x.words[0] ^ x.words[1]);
    }
    return sum;
}
