/* The x87 through the mathematics library, to the last bit (%a). */
#include <fenv.h>
#include <math.h>
#include <stdio.h>

int main(void)
{
    static const double values[] = {0, -0.0, 0.1, 0.5, 1, 1.5, 2, 3.141592653589793, 10, 1e5, 1e-5, 1e300, 1e-300, -1, -2.5};
    static const int modes[] = {FE_TONEAREST, FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
    int exponent;

    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        double x = values[i];
        printf("%g: %a %a %a %a\n", x, sin(x), cos(x), tan(x), atan(x));
        printf("  %a %a %a %a %a\n", exp(x), log(fabs(x)), sqrt(fabs(x)), cbrt(x), pow(fabs(x), 0.3));
        printf("  %a %a %a %a\n", floor(x), ceil(x), rint(x), fmod(x, 0.7));
        double fraction = frexp(x, &exponent);
        printf("  %a %d %a %a\n", fraction, exponent, ldexp(x, 5), hypot(x, 1));
        printf("  %a %a %a\n", sinh(fmin(x, 100)), tanh(x), expm1(fmin(x, 100)));
        printf("  %La %La %La\n", sinl(x), expl(x), sqrtl(fabsl(x)));
        printf("  %ld %lld %d\n", lrint(fmin(x, 1e5)), llrint(fmin(x, 1e15)), (int)fmin(x, 1e5));
    }
    for (int i = 0; i < 4; i++) {
        volatile double third = 1, three = 3, half = 2.5;
        fesetround(modes[i]);
        third /= three;
        printf("%a %g %ld\n", third, rint(half), lrint(-half));
    }
    fesetround(FE_TONEAREST);
    feclearexcept(FE_ALL_EXCEPT);
    volatile double zero = 0, one = 1, huge = 1e308;
    volatile double results[] = {one / zero, zero / zero, huge * huge, sqrt(-one)};
    printf("%g %d %g %d\n", results[0], isnan(results[1]), results[2], isnan(results[3]));
    printf("exceptions %d%d%d\n", !!fetestexcept(FE_DIVBYZERO), !!fetestexcept(FE_INVALID), !!fetestexcept(FE_OVERFLOW));
    return 0;
}
