/* Indirect jumps: an interpreter of a small register machine, running a search for long Collatz sequences. */
#define KERNEL_NAME "interp"
#include "guest.h"

enum operation { SET, MOVE, ADD, MULTIPLY, HALVE, JUMP, JUMP_IF_EVEN, JUMP_UNLESS_LESS, STOP };
enum variable { N, LIMIT, BEST, STEPS, VALUE, ONE, THREE, VARIABLES };

static const struct instruction {
    u8 operation, a, b, c;
} program[] = {
    /*  0 */ {SET, N, 1, 0},
    /*  1 */ {JUMP_UNLESS_LESS, N, LIMIT, 15},
    /*  2 */ {MOVE, VALUE, N, 0},
    /*  3 */ {SET, STEPS, 0, 0},
    /*  4 */ {JUMP_UNLESS_LESS, ONE, VALUE, 11},
    /*  5 */ {ADD, STEPS, STEPS, ONE},
    /*  6 */ {JUMP_IF_EVEN, VALUE, 0, 9},
    /*  7 */ {MULTIPLY, VALUE, VALUE, THREE},
    /*  8 */ {ADD, VALUE, VALUE, ONE},
    /*  9 */ {HALVE, VALUE, VALUE, 0},
    /* 10 */ {JUMP, 0, 0, 4},
    /* 11 */ {JUMP_UNLESS_LESS, BEST, STEPS, 13},
    /* 12 */ {MOVE, BEST, STEPS, 0},
    /* 13 */ {ADD, N, N, ONE},
    /* 14 */ {JUMP, 0, 0, 1},
    /* 15 */ {STOP, 0, 0, 0},
};

static void setup(void) {}

static NOINLINE u32 run(u32 limit)
{
    u32 v[VARIABLES] = {[LIMIT] = limit, [ONE] = 1, [THREE] = 3};

    for (const struct instruction *next = program;;) {
        const struct instruction *i = next++;
        switch ((enum operation)i->operation) {
        case SET:
            v[i->a] = i->b;
            break;
        case MOVE:
            v[i->a] = v[i->b];
            break;
        case ADD:
            v[i->a] = v[i->b] + v[i->c];
            break;
        case MULTIPLY:
            v[i->a] = v[i->b] * v[i->c];
            break;
        case HALVE:
            v[i->a] = v[i->b] >> 1;
            break;
        case JUMP:
            next = program + i->c;
            break;
        case JUMP_IF_EVEN:
            if ((v[i->a] & 1) == 0)
                next = program + i->c;
            break;
        case JUMP_UNLESS_LESS:
            if (v[i->a] >= v[i->b])
                next = program + i->c;
            break;
        case STOP:
            return v[BEST];
        }
    }
}

static u32 kernel(u32 repetition)
{
    return run(4000) + repetition;
}
