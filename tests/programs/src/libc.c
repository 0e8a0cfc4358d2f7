/* The C library's own paths: formatted output and input, strings, sorting, time, number conversions. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wchar.h>

static int compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static long sum(int count, ...)
{
    va_list arguments;
    long total = 0;

    va_start(arguments, count);
    while (count-- > 0)
        total += va_arg(arguments, long);
    va_end(arguments);
    return total;
}

static void formats(void)
{
    printf("%d %u %x %o %c %s %p %%\n", INT_MIN, UINT_MAX, 0xbeef, 8, 'c', "text", (void *)0x1234);
    printf("%lld %llu %llx %hhd %hd %zu\n", LLONG_MIN, ULLONG_MAX, 0x123456789abcdefULL, 300, 70000, sizeof(long));
    printf("[%5d|%-5d|%05d|%+d|% d|%*d|%.3d]\n", 42, 42, 42, 42, 42, 7, 42, 7);
    printf("%f %e %g %G %a %.0f %.15g\n", 3.14159, 1e-10, 1e20, 1e-5, 1.0 / 3, 2.5, 0.1);
    printf("%Lf %Le %La\n", 1.5L, 1e4000L, 0.1L);
    printf("%f %f %g %g\n", 1.0 / 0.0, -1.0 / 0.0, 0.0 / 0.0 < 1 ? 1.0 : -0.0, 5e-324);
    printf("%.30f\n%.0f\n%.20e\n", 0.1, 1e22, 1.7976931348623157e308);
}

static void conversions(void)
{
    char *end;
    int a, matched;
    double d;
    char word[16];

    printf("%ld %ld %lu %lld\n", strtol("-0x1fz", &end, 16), strtol("777", NULL, 8), strtoul("4294967295", NULL, 10),
           strtoll("-9223372036854775808", NULL, 10));
    errno = 0;
    printf("%ld", strtol("99999999999", NULL, 10));
    printf(" %s\n", strerror(errno));
    printf("%.17g %.17g %.17g %.17g\n", strtod("1e-320", NULL), strtod("0x1.8p3", NULL), strtod("inf", NULL),
           strtod("123456789012345678901234567890", NULL));
    matched = sscanf("12 word 3.5", "%d %15s %lf", &a, word, &d);
    printf("%d %d %s %g\n", matched, a, word, d);
    printf("%lld %lld %llu\n", -7LL / 2, -7LL % 2, ULLONG_MAX / 10);
    printf("%d %d %u\n", (int)-3.99, (int)3.99, (unsigned)3e9);
    printf("%.17g %.17g\n", (double)(float)0.1, (double)UINT64_MAX);
}

static void strings(void)
{
    const char *words[] = {"pear", "apple", "fig", "orange", "banana", "kiwi"};
    const char *wanted = "fig";
    char buffer[64] = "a,b;;c", *save = NULL;

    qsort(words, 6, sizeof *words, compare);
    for (int i = 0; i < 6; i++)
        printf("%s ", words[i]);
    printf("%d\n", bsearch(&wanted, words, 6, sizeof *words, compare) != NULL);
    for (char *t = strtok_r(buffer, ",;", &save); t; t = strtok_r(NULL, ",;", &save))
        printf("<%s>", t);
    printf(" %s %zu %d\n", strstr("haystack", "st"), strcspn("hello", "l"), strcmp("a", "b") < 0);
    for (size_t n = 0; n < 40; n += 13) {
        memset(buffer, 'x', sizeof buffer);
        memmove(buffer + 3, buffer, n);
        memcpy(buffer, "abcdefghijklmnopqrstuvwxyz0123456789ABCDEF", n);
        buffer[n] = 0;
        printf("%zu:%s %d\n", strlen(buffer), buffer, toupper(buffer[0]));
    }
    setlocale(LC_ALL, "C");
    printf("%ls %zu\n", L"wide", wcslen(L"wide"));
}

static void rest(void)
{
    jmp_buf place;
    regex_t expression;
    regmatch_t match[2];
    struct tm when;
    time_t seconds = 1700000000;
    char text[64];
    volatile int round = 0;

    if (setjmp(place) < 3) {
        round++;
        longjmp(place, round);
    }
    printf("longjmp %d, varargs %ld\n", round, sum(4, 1L, 20L, 300L, 4000L));
    gmtime_r(&seconds, &when);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %A %j", &when);
    printf("%s %d\n", text, (int)timegm(&when));
    if (regcomp(&expression, "([0-9]+)-x", REG_EXTENDED) == 0 && regexec(&expression, "ab 123-x", 2, match, 0) == 0)
        printf("match %d %d\n", (int)match[1].rm_so, (int)match[1].rm_eo);
    regfree(&expression);
    srand(1);
    printf("rand %d %d\n", rand(), rand());
}

int main(int argc, char **argv)
{
    formats();
    conversions();
    strings();
    rest();
    for (int i = 1; i < argc; i++)
        printf("argument %s, environment %s\n", argv[i], getenv("USER"));
    fprintf(stderr, "to standard error\n");
    return 17;
}
