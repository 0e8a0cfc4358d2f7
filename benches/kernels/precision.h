/* How this build computes with floating-point numbers, for the kernel's name. */
#ifdef __SSE2_MATH__
#define PRECISION "sse2"
#else
#define PRECISION "x87"
#endif
