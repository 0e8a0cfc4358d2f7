/* Memory: mappings and their protection, growth, code made at run time and changed afterwards. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *result_of(void *address)
{
    return address == MAP_FAILED ? strerror(errno) : "mapped";
}

static void mappings(void)
{
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0644);
    char text[8193] = {0};

    memset(text, 'a', 8192);
    if (write(file, text, 8192) != 8192)
        exit(1);
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    char *private = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 4096);
    shared[0] = 'S';
    private[0] = 'P';
    shared[4097] = 'x';
    printf("%c %c %c ", shared[0], shared[4096], private[1]);
    msync(shared, 8192, MS_SYNC);
    pread(file, text, 4100, 0);
    printf("%c%c%c%c\n", text[0], text[1], text[4096], text[4097]);

    char *grown = mremap(private, 4096, 16384, MREMAP_MAYMOVE);
    printf("mremap %s %c\n", result_of(grown), grown[0]);
    printf("unaligned: %s\n", result_of(mmap((void *)1, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("nothing: %s\n", result_of(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("no file: %s\n", result_of(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 99, 0)));
    printf("too much: %s\n", result_of(mmap(NULL, 0xfff00000u, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("taken: %s\n", result_of(mmap(shared, 4096, PROT_READ, MAP_FIXED_NOREPLACE | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)));
    printf("mprotect of nothing: %d ", mprotect((void *)0x1000, 4096, PROT_READ));
    printf("%s\n", strerror(errno));
    munmap(shared, 8192);
    printf("write from unmapped memory: %zd ", write(file, shared, 1));
    printf("%s\n", strerror(errno));
    printf("over 4 GiB: %s\n", result_of(mmap64(NULL, 4096, PROT_READ, MAP_PRIVATE, file, 0x180000000LL)));
}

static void growth(void)
{
    char *start = sbrk(0);
    char *block = sbrk(100000);
    unsigned sum = 0;
    char *blocks[100];

    memset(block, 1, 100000);
    printf("brk grew by %d\n", (int)((char *)sbrk(0) - start));
    for (int i = 0; i < 100; i++)
        blocks[i] = memset(malloc(1000 * i + 1), i, 1000 * i + 1);
    for (int i = 0; i < 100; i += 2)
        blocks[i] = realloc(blocks[i], 3000 * i + 1);
    for (int i = 0; i < 100; i++) {
        sum = sum * 31 + (unsigned char)blocks[i][500 * i];
        free(blocks[i]);
    }
    char *aligned = memalign(4096, 10);
    printf("sum %u, aligned %d, zero %d\n", sum, (int)((uintptr_t)aligned % 4096), ((char *)calloc(1000, 1000))[999999]);
}

/* mov eax, value; ret */
static void put_function(unsigned char *code, uint32_t value)
{
    code[0] = 0xb8;
    memcpy(code + 1, &value, 4);
    code[5] = 0xc3;
}

static void code_at_run_time(void)
{
    unsigned char *code = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t (*call)(void) = (uint32_t(*)(void))(uintptr_t)(code + 4094);
    uint32_t sum = 0;

    for (uint32_t i = 0; i < 200; i++) {
        put_function(code + 4094, i);
        sum = sum * 31 + call();
    }
    printf("changed code: %u\n", sum);
    mprotect(code, 8192, PROT_READ | PROT_EXEC);
    printf("after mprotect: %u\n", call());
    int file = memfd_create("code", 0);
    if (ftruncate(file, 4096) != 0)
        return;
    unsigned char *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    unsigned char *executable = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    call = (uint32_t(*)(void))(uintptr_t)executable;
    for (uint32_t i = 0; i < 50; i++) {
        put_function(writable, i * i);
        sum = sum * 31 + call();
    }
    printf("changed through another mapping: %u\n", sum);
    /* An instruction that changes the next one. */
    static const unsigned char self_modifying[] = {
        0xe8, 0, 0, 0, 0,                   /* call next; pop ecx */
        0x59, 0xc6, 0x41, 7, 0x2a,          /* mov byte [ecx + 7], 42: the value of the next instruction */
        0x90, 0xb8, 0, 0, 0, 0, 0xc3,       /* nop; mov eax, 0; ret */
    };
    memcpy(writable, self_modifying, sizeof self_modifying);
    mprotect(executable, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    printf("self-modifying: %u\n", call());
}

int main(void)
{
    mappings();
    growth();
    code_at_run_time();
    return 0;
}
