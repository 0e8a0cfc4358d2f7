/* Few values, all in registers: the escape times of the Mandelbrot set. */
#include "precision.h"
#define KERNEL_NAME "mandel-" PRECISION
#include "guest.h"

#define WIDTH 64
#define HEIGHT 48
#define LIMIT 200

static void setup(void) {}

static NOINLINE u32 escape_time(double cr, double ci)
{
    double r = 0, i = 0;
    u32 n = 0;

    while (n < LIMIT) {
        double rr = r * r, ii = i * i;
        if (rr + ii > 4.0)
            break;
        i = 2.0 * r * i + ci;
        r = rr - ii + cr;
        n++;
    }
    return n;
}

static u32 kernel(u32 repetition)
{
    u32 sum = repetition;

    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            sum = sum * 31 + escape_time(x * (3.0 / WIDTH) - 2.2, y * (2.4 / HEIGHT) - 1.2);
    return sum;
}
