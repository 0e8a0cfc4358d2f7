/* Recursion with bit masks and unpredictable branches: all placements of ten queens. */
#define KERNEL_NAME "queens"
#include "guest.h"

#define SIZE 10
#define ALL ((1u << SIZE) - 1)

static void setup(void) {}

static NOINLINE u32 place(u32 columns, u32 left, u32 right)
{
    u32 free_squares = ALL & ~(columns | left | right), solutions = 0;

    if (columns == ALL)
        return 1;
    while (free_squares) {
        u32 square = free_squares & -free_squares;
        free_squares ^= square;
        solutions += place(columns | square, (left | square) << 1, (right | square) >> 1);
    }
    return solutions;
}

static u32 kernel(u32 repetition)
{
    return place(0, 0, 0) + repetition;
}
