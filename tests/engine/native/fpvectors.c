/* fpvectors KIND COUNT SEED [vm]: each instruction of a kind (0 x87, 1 SSE) COUNT times, with all exceptions masked and
   not, on edge values and random ones.  A line a vector: its name, number, and a hash of what is there behind it, or
   with v all of it; with m without the last instruction and operand, which Intel's processors keep in other ways.  A floating-point exception is a result: si_code and the state in the signal's frame. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include "names.h"

static struct state {
    void (*code)(void);
    uint32_t flags, eax;
    void *loaded, *stored;
    uint32_t unused[3];
    uint8_t before[512], after[512];
} s __attribute__((aligned(16)));
static uint8_t loaded[16] __attribute__((aligned(16))), stored[64] __attribute__((aligned(16)));
static uint64_t seed;
static int unpointed;
static sigjmp_buf back;
static struct { uint32_t number, code, control, status, tags, mxcsr, last[4]; uint8_t st[80]; } trap;

extern void run_x87(struct state *), run_sse(struct state *);
extern void (*x87_codes[])(void), (*sse_codes[])(void);

static uint32_t next(void)
{
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed >> 17;
}

static uint64_t next64(void) { return (uint64_t)next() << 32 | next(); }

static void on_signal(int number, siginfo_t *info, void *context)
{
    struct _libc_fpstate *fp = ((ucontext_t *)context)->uc_mcontext.fpregs;
    trap.number = number, trap.code = info->si_code;
    trap.control = fp->cw & 0xffff, trap.status = fp->sw & 0xffff, trap.tags = fp->tag & 0xffff;
    memcpy(&trap.mxcsr, (uint8_t *)fp + 112 + 24, 4);
    memcpy(trap.last, &fp->ipoff, 16);
    memcpy(trap.st, fp->_st, 80);
    siglongjmp(back, 1);
}

static void extended(uint8_t *to)
{
    uint64_t significand = next64() | 1ull << 63;
    uint32_t exponent = next() % 0x7fff;
    switch (next() % 14) {
    case 0: significand = 0, exponent = 0; break;
    case 1: significand = 1ull << 63, exponent = 0x7fff; break;
    case 2: significand |= 1ull << 62, exponent = 0x7fff; break;
    case 3: significand &= ~(1ull << 62), significand |= 1, exponent = 0x7fff; break;
    case 4: significand &= ~(1ull << 63), exponent = 0; break;                  /* denormal */
    case 5: exponent = 0; break;                                                /* pseudo-denormal */
    case 6: significand &= ~(1ull << 63); break;                                /* unnormal: not supported */
    case 7: significand = 1ull << 63, exponent = 0x3fff - 2 + next() % 70; break;
    case 8: significand = ~0ull << next() % 64, significand |= 1ull << 63, exponent = 0x3fff + next() % 66; break;
    case 9: break;
    default: exponent = 0x3fff - 40 + next() % 110;
    }
    exponent |= (next() & 1) << 15;
    memcpy(to, &significand, 8), memcpy(to + 8, &exponent, 2);
}

static uint32_t single(void)
{
    uint32_t sign = next() << 31, random = next();
    switch (next() % 9) {
    case 0: return sign;
    case 1: return sign | 0x7f800000;
    case 2: return sign | 0x7fc00000 | (random & 0x3fffff);
    case 3: return sign | 0x7f800000 | (random & 0x3fffff) | 1;
    case 4: return sign | (random & 0x7fffff);
    case 5: return sign | 0x00800000 | (random & 3);
    case 6: return sign | (random & 0x7fffffff);
    default: return sign | (0x3f800000 - 0x8000000 + random % 0x10000000);
    }
}

static uint64_t number(void)
{
    uint64_t sign = (uint64_t)next() << 63, random = next64();
    switch (next() % 9) {
    case 0: return sign;
    case 1: return sign | 0x7ffull << 52;
    case 2: return sign | 0xfffull << 51 | (random & 0x7ffffffffffff);
    case 3: return sign | 0x7ffull << 52 | (random & 0x7ffffffffffff) | 1;
    case 4: return sign | (random & 0xfffffffffffff);
    case 5: return sign | 1ull << 52 | (random & 3);
    case 6: return sign | (random & ~(1ull << 63));
    default: return sign | ((0x3dfull << 52) + random % (0x40ull << 52));
    }
}

static void operand(uint8_t *to)
{
    uint32_t a = single(), integer = next() % 3 ? next() << 1 : next() % 100;
    uint64_t b = number();
    switch (next() % 5) {
    case 0: memcpy(to, &a, 4), a = single(), memcpy(to + 4, &a, 4); break;
    case 1: memcpy(to, &b, 8); break;
    case 2: extended(to); break;
    case 3: memcpy(to, &integer, 4), integer = next() << 1, memcpy(to + 4, &integer, 4); break;
    default:
        for (int at = 0; at < 9; at++)
            to[at] = next() % 10 | next() % 10 << 4;
        to[9] = next() << 7;
    }
}

static uint32_t hashed(const void *from, int size, uint32_t hash)
{
    for (const uint8_t *at = from; size--; at++)
        hash = (hash ^ *at) * 16777619u;
    return hash;
}

static void hex(const char *name, const void *from, int size)
{
    printf(" %s ", name);
    for (const uint8_t *at = from; size--; at++)
        printf("%02x", *at);
}

static void tell(const char *name, int count, int spoken, int from, int size)
{
    uint32_t hash = hashed(s.after + from, size, 2166136261u);
    hash = hashed(stored, sizeof stored, hashed(&s.flags, 8, hash));
    printf("%s: %d %08x", name, count, hashed(&trap, sizeof trap, hash));
    if (spoken) {
        hex("before", s.before + from, size), hex("loaded", loaded, 16), hex("after", s.after + from, size);
        hex("flags, eax", &s.flags, 8), hex("stored", stored, 32), hex("trap", &trap, 24);
    }
    putchar('\n');
}

static void begin(void (*code)(void))
{
    memset(&s, 0, sizeof s), memset(stored, 0x5a, sizeof stored), memset(&trap, 0, sizeof trap);
    s.code = code, s.flags = 0x202 | (next() & 0x8d5), s.eax = next();
    s.loaded = loaded, s.stored = stored;
    memset(loaded, 0, sizeof loaded);
}

static void x87(int op, int count, int masked, int spoken)
{
    uint16_t control = next() & 1 ? 0x37f : (next() & 0xf00) | 0x7f, status, tags = 0;
    uint32_t top = next() & 7, exceptions = next() % 3 ? 0 : next() & 0x3f, holes = next() % 3 == 0;
    begin(x87_codes[op]);
    if ((control & 0x300) == 0x100)
        control |= 0x300;
    if (!masked)
        control ^= next() & 0x3f;
    if (masked || next() % 4)
        exceptions &= control;
    status = top << 11 | (next() & 0x4700) | exceptions;
    for (uint32_t at = 0; at < 8; at++)
        if (holes ? next() & 1 : at >= 6)
            tags |= 3 << 2 * ((at + top) & 7);
    memcpy(s.before, &control, 2), memcpy(s.before + 4, &status, 2), memcpy(s.before + 8, &tags, 2);
    for (int at = 0; at < 8; at++)
        extended(s.before + 28 + 10 * at);
    operand(loaded);
    if (!sigsetjmp(back, 1))
        run_x87(&s);
    else
        s.flags = s.eax = 0;
    asm volatile("fninit");
    for (int at = 2; at < 12; at += 4)
        memset(s.after + at, 0, 2);                             /* reserved */
    s.flags &= 0x8d5;
    if (unpointed)
        memset(s.after + 12, 0, 16), memset(stored + 12, 0, 16), memset(trap.last, 0, 16);
    tell(x87_names[op], count, spoken, 0, 108);
}

static void sse(int op, int count, int masked, int spoken)
{
    uint32_t mxcsr = 0x1f80 | (next() & 0x3f), clean = 0x1f80;
    uint16_t control = 0x37f;
    begin(sse_codes[op]);
    if (!masked)
        mxcsr ^= (next() & 0x3f) << 7;
    if (next() % 3 == 0)
        mxcsr |= next() & 0xe040;
    if (next() % 8)
        mxcsr &= ~0x3f | mxcsr >> 7;
    memcpy(s.before, &control, 2), memcpy(s.before + 24, &mxcsr, 4);
    for (int at = 0; at < 8; at++)
        for (int part = 0; part < 16; part += 8) {
            uint64_t value = next() & 1 ? number() : (uint64_t)single() << 32 | single();
            memcpy(s.before + 160 + 16 * at + part, &value, 8);
            if (!part)
                memcpy(s.before + 32 + 16 * at, &value, 8);
        }
    for (int at = 0; at < 16; at += 8) {
        uint64_t value = next() & 1 ? number() : (uint64_t)single() << 32 | single();
        memcpy(loaded + at, &value, 8);
    }
    if (!sigsetjmp(back, 1))
        run_sse(&s);
    else
        s.flags = s.eax = 0;
    asm volatile("ldmxcsr %0; emms; fninit" ::"m"(clean));
    s.flags &= 0x8d5;
    if (trap.mxcsr & ~(mxcsr >> 7) & 0x18)                      /* PE beside an unmasked OE or UE: docs/fidelity.md */
        trap.mxcsr &= ~0x20;
    memset(s.after + 28, 0, 4);                                 /* MXCSR_MASK is the processor's */
    for (int at = 0; at < 8; at++)
        memset(s.after + 40 + 16 * at, 0, 8);
    memset(s.after, 0, 24);
    tell(sse_names[op], count, spoken, 24, 264);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    int kind = atoi(argv[1]), count = atoi(argv[2]);
    seed = 88172645463325252ull ^ (uint64_t)atoi(argv[3]) << 20;
    for (int each = 0; each < 10; each++)
        next();
    unpointed = argc > 4 && strchr(argv[4], 'm');
    sigaction(SIGFPE, &action, 0), sigaction(SIGILL, &action, 0), sigaction(SIGSEGV, &action, 0);
    for (int op = 0; op < (kind ? SSE_COUNT : X87_COUNT); op++)
        for (int at = 0; at < count; at++)
            (kind ? sse : x87)(op, at, at & 1, argc > 4 && strchr(argv[4], 'v'));
    return 0;
}
