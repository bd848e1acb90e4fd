/* stack-catch: the stack's limit, met and survived.
 *
 * A recursion without end runs into RLIMIT_STACK.  Its handler cannot run where there is no stack: it has an alternate one,
 * reports where it stands, and leaves by siglongjmp.  Twice, with two limits. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

static sigjmp_buf back;
static char other[16384];
static volatile int depth;
static int on_other, wrong;

static void handler(int number, siginfo_t *info, void *context)
{
    char here;

    (void)number, (void)context;
    on_other = &here > other && &here < other + sizeof other;
    if (info->si_code != SEGV_MAPERR)
        wrong++;
    siglongjmp(back, 1);
}

static int deeper(volatile char *before)
{
    volatile char room[1024];

    room[0] = before[0];
    if (depth++ == 1 << 24)
        return 0;
    return deeper(room) + room[0];
}

int main(void)
{
    stack_t stack = { .ss_sp = other, .ss_size = sizeof other };
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    struct rlimit limit;
    volatile char start = 0;

    sigaltstack(&stack, 0);
    sigaction(SIGSEGV, &action, 0);
    for (int kilobytes = 256; kilobytes <= 1024; kilobytes *= 4) {
        getrlimit(RLIMIT_STACK, &limit);
        limit.rlim_cur = kilobytes * 1024;
        setrlimit(RLIMIT_STACK, &limit);
        depth = 0;
        if (!sigsetjmp(back, 1))
            deeper(&start);
        sigaltstack(0, &stack);
        printf("stack-catch: %d KB caught between depth %d and %d, on the other stack %d, on it now %d\n", kilobytes,
               depth > kilobytes * 3 / 4 ? kilobytes * 3 / 4 : 0, depth <= kilobytes ? kilobytes : 0, on_other,
               !!(stack.ss_flags & SS_ONSTACK));
    }
    return wrong;
}
