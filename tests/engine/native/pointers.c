/* FIP, FCS, FOP, FDP and FDS behind each kind of x87 instruction, as FNSTENV, FXSAVE and signal frames have them. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

struct environment { uint32_t cw, sw, tw, fip; uint16_t fcs, fop; uint32_t fdp, fds; };
static double number = 1.5, zero;
static float single = 2.5;
static int32_t integer = 3;
static uint16_t control, packed[7];
static uint8_t image[512] __attribute__((aligned(16))), saved[108];
static sigjmp_buf back;

static void tell(const char *name, struct environment *e)
{
    printf("%-16s %x %x %x %x %x fxsave ", name, e->fip, e->fcs, e->fop, e->fdp, e->fds);
    for (int at = 6; at < 24; at++)
        printf("%02x", image[at]);
    putchar('\n');
}

#define RUN(name, code) do { struct environment e; integer = 3, control = 0x340, memset(image, 0xee, 512); \
    asm volatile("fninit; fldl %[n]; fldl %[n]; fldl %[n]\n" code "\nfxsave %[b]; fnstenv %[e]; fninit" \
        : [e] "=m"(e), [b] "+m"(image), [i] "+m"(integer), [s] "+m"(saved), [c] "+m"(control), [p] "+m"(packed) \
        : [n] "m"(number), [f] "m"(single) : "eax", "memory"); tell(name, &e); } while (0)

static void on_signal(int signal, siginfo_t *info, void *context)
{
    struct _libc_fpstate *fp = ((ucontext_t *)context)->uc_mcontext.fpregs;
    struct environment e;
    asm volatile("fnstenv %0; fldenv %0" : "=m"(e));
    memcpy(image, (uint8_t *)fp + 112, 512);
    printf("%lx %lx %lx %lx ", fp->ipoff, fp->cssel, fp->dataoff, fp->datasel);
    tell(signal == SIGFPE ? "SIGFPE" : "SIGUSR1", &e);
    if (signal == SIGFPE)
        siglongjmp(back, 1);
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    RUN("fadd", "fadd %%st(1), %%st");
    RUN("fadd m32", "fadds %[f]");
    RUN("prefixes", ".byte 0x3e, 0x36; fadds %[f]");
    RUN("fild", "fildl %[i]");
    RUN("fld tbyte", "fldt %[s]");
    RUN("fldz", "fldz");
    RUN("fnop", "fnop");
    RUN("ffree", "ffree %%st(2)");
    RUN("fincstp", "fincstp");
    RUN("fcomi", "fcomi %%st(1), %%st");
    RUN("fcmovne", "cmp %%eax, %%eax; fcmovne %%st(1), %%st");
    RUN("fst", "fsts %[i]");
    RUN("fstp tbyte", "fstpt %[s]");
    RUN("fldcw", "fldcw %[c]; fnstcw %[c]; fnstsw %[c]");
    RUN("fnstsw ax", "fnstsw %%ax");
    RUN("fninit, fnstsw", "fninit; fnstsw %%ax");
    RUN("fneni", ".byte 0xdb, 0xe0, 0xdb, 0xe1, 0xdb, 0xe4");
    RUN("fnclex", "fwait; fnclex");
    RUN("mmx", "movd %%eax, %%mm0; paddb %%mm1, %%mm0; movq %[n], %%mm0; emms");
    RUN("fnsave, frstor", "fnsave %[s]; frstor %[s]");
    RUN("fldenv", "fnstenv %[s]; movl $0x12345678, %[s]+12; movl $0x07ab0073, %[s]+16; fldenv %[s]");
    RUN("another", "fnstenv %[s]; movl $0x07ab0073, %[s]+16; fldenv %[s]; fabs");
    RUN("16 bits", "data16 fnstenv %[p]; data16 fldenv %[p]");
    RUN("pending", "fldcw %[c]; fldz; fdivrp %%st, %%st(1)");
    RUN("pending, memory", "fldcw %[c]; fldz; fdivrl %[n]");
    RUN("left out", "movw $0x37e, %[c]; fldcw %[c]; fstp %%st; fstp %%st; fstp %%st; fistl %[i]");
    RUN("fxrstor", "fxsave %[b]; movl $0x1230000, %[b]+4; movl $0x1234567, %[b]+8; movl $0x76543, %[b]+16; fxrstor %[b]");
    sigaction(SIGFPE, &action, 0), sigaction(SIGUSR1, &action, 0);
    RUN("before", "fabs");
    raise(SIGUSR1);
    if (!sigsetjmp(back, 1))
        asm volatile("fninit; fldcw %2; fldl %0; fdivl %1; nop; fnop; fwait" ::"m"(number), "m"(zero), "m"(control));
    control = 0x340;
    if (!sigsetjmp(back, 1))
        asm volatile("fninit; fldcw %2; fldl %0; fldz; fdivrp %%st, %%st(1); fldz" ::"m"(number), "m"(zero), "m"(control));
    return 0;
}
