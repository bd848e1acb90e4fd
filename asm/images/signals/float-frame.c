/* float-frame: a handler's x87 and SSE registers are its own.
 *
 * Three numbers lie in XMM registers and three on the x87 stack when a signal comes.  The handler starts with a clean
 * FPU, overwrites all it finds, and returns: the numbers are where they were, and so are the rounding modes. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>
#include <unistd.h>

static unsigned short status_in_handler, control_in_handler;
static unsigned mxcsr_in_handler, tags_in_frame;

static void handler(int number, siginfo_t *info, void *context)
{
    unsigned short control = 0x0f7f;
    unsigned mxcsr = 0x7f80;

    (void)number, (void)info;
    tags_in_frame = ((ucontext_t *)context)->uc_mcontext.fpregs->tag & 0xffff;
    __asm__ volatile("fnstsw %0; fnstcw %1; stmxcsr %2"
                     : "=m"(status_in_handler), "=m"(control_in_handler), "=m"(mxcsr_in_handler));
    __asm__ volatile("fninit; fldcw %0; fldpi; fldpi; fldpi; ldmxcsr %1; pxor %%xmm0, %%xmm0; pxor %%xmm7, %%xmm7"
                     : : "m"(control), "m"(mxcsr) : "memory");
}

int main(void)
{
    static const double in[3] = { 1.25, -2.5, 1e300 };
    double sse[2], x87[3];
    unsigned short control = 0x067f, control_after;
    unsigned mxcsr = 0x3f80, mxcsr_after;
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    int pid = getpid(), result;

    sigaction(SIGUSR1, &action, 0);
    __asm__ volatile("fldcw %6; ldmxcsr %7\n"
                     "movsd %8, %%xmm0; movsd %9, %%xmm7\n"
                     "fldl %10; fldl %9; fldl %8\n"
                     "int $0x80\n"
                     "fstpl %1; fstpl %2; fstpl %3\n"
                     "fnstcw %4; stmxcsr %5"
                     : "=a"(result), "=m"(x87[0]), "=m"(x87[1]), "=m"(x87[2]), "=m"(control_after), "=m"(mxcsr_after)
                     : "m"(control), "m"(mxcsr), "m"(in[0]), "m"(in[1]), "m"(in[2]), "0"(37), "b"(pid), "c"(SIGUSR1)
                     : "memory");
    __asm__ volatile("movsd %%xmm0, %0; movsd %%xmm7, %1" : "=m"(sse[0]), "=m"(sse[1]));
    control = 0x37f, mxcsr = 0x1f80;
    __asm__ volatile("fldcw %0; ldmxcsr %1" : : "m"(control), "m"(mxcsr));
    printf("float-frame: x87 %g %g %g, SSE %g %g, modes %#x %#x\n", x87[0], x87[1], x87[2], sse[0], sse[1], control_after,
           mxcsr_after & 0xffc0);
    printf("float-frame: the handler began with %#x %#x, stack top %d; tags in the frame %#x\n", control_in_handler,
           mxcsr_in_handler & 0xffc0, status_in_handler >> 11 & 7, tags_in_frame);
    return 0;
}
