/* step-count: a program that steps itself.
 *
 * The handler of SIGTRAP sets and clears the trap flag in the context to which sigreturn goes back, so the CPU raises #DB
 * behind every instruction between.  A REP MOVSB traps behind each of its iterations.  RDTSC is an instruction like others,
 * also where a kernel has to do it. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <ucontext.h>

static int steps, trace;
static unsigned long last, wrong;
extern char first[], end[];

static void handler(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

    (void)number;
    if (!trace) {
        registers[REG_EFL] |= 0x100;
        trace = 1;
        return;
    }
    if (info->si_code != TRAP_TRACE || info->si_addr != (void *)registers[REG_EIP])
        wrong++;
    last = registers[REG_EIP];
    steps++;
    if (last == (unsigned long)end)
        registers[REG_EFL] &= ~0x100;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    static char from[8] = "stepped", to[8];

    sigaction(SIGTRAP, &action, 0);
    __asm__ volatile("int3\n"
                     ".globl first, end\n"
                     "first: mov $3, %%eax\n"
                     "1: dec %%eax\n"
                     "jnz 1b\n"
                     "rdtsc\n"
                     "mov $8, %%ecx\n"
                     "mov %0, %%esi\n"
                     "mov %1, %%edi\n"
                     "rep movsb\n"
                     "end: nop\n"
                     : : "i"(from), "i"(to) : "eax", "ecx", "edx", "esi", "edi", "memory", "cc");
    /* mov, three times dec and jnz, rdtsc, three movs, eight iterations; the trap of int3 itself is not counted. */
    printf("step-count: %d steps, %s, %lu wrong\n", steps, to, wrong);
    return 0;
}
