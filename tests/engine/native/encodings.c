/* What this host's CPU makes of instructions: reads records of 16 bytes (length, then code), executes each once in
   ring 3 under TF, and writes for each the number of the signal that ended it (SIGTRAP: it was done) and si_code.
   With an argument, EFLAGS.AC is set, and the argument is added to the address that every register holds.

   The whole loop runs inside of the signal handler: every return from it enters the next instruction. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <unistd.h>

enum { RECORD = 16, DATA = 0x20000000, CODE = 0x10000000, STACK = 0x30000000, SIZE = 0x10000 };

static unsigned char *records, *results;
static int count, now = -1, flags = 0x302, shift;
static greg_t saved[NGREG];
static struct _libc_fpstate *fp;
static unsigned char fpstate[512 + 112];

static void fill(volatile unsigned char *to, int value, int size)
{
	while (size--)
		*to++ = value;
}

static void next(greg_t *g)
{
	volatile unsigned char *code = (volatile unsigned char *)CODE + 64;
	unsigned char *record = records + now * RECORD;

	fill(code, 0, 32);
	for (int at = 0; at < record[0]; at++)
		code[at] = record[1 + at];
	fill((volatile unsigned char *)DATA + SIZE / 2, 0, 1024);
	fill((volatile unsigned char *)STACK + SIZE / 2, 0, 1024);
	for (int at = 0; at < NGREG; at++)
		g[at] = saved[at];
	for (int at = REG_EDI; at <= REG_EAX; at++)
		g[at] = DATA + SIZE / 2 + shift;
	g[REG_ESP] = STACK + SIZE / 2 + 256 + shift;
	g[REG_EIP] = CODE + 64;
	g[REG_EFL] = flags;
}

static void on_signal(int number, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;

	if (now < 0) {
		for (int at = 0; at < NGREG; at++)
			saved[at] = g[at];
		for (int at = 0; at < (int)sizeof fpstate; at++)
			fpstate[at] = ((unsigned char *)uc->uc_mcontext.fpregs)[at];
	} else {
		results[2 * now] = number;
		results[2 * now + 1] = info->si_code;
	}
	if (++now < count)
		next(g);
	else
		for (int at = 0; at < NGREG; at++)
			g[at] = saved[at];
	for (int at = 0; at < (int)sizeof fpstate; at++)
		((volatile unsigned char *)uc->uc_mcontext.fpregs)[at] = fpstate[at];
}

static void *map(unsigned long at)
{
	return mmap((void *)at, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

int main(int argc, char **argv)
{
	static char stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	static const int signals[] = { SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGSYS };
	size_t size = 0, room = 1 << 26, got;

	if (argc > 1) {
		flags |= 0x40000;
		shift = atoi(argv[1]);
	}
	records = malloc(room);
	while ((got = fread(records + size, 1, room - size, stdin)) > 0)
		size += got;
	count = size / RECORD;
	results = calloc(count + 1, 2);
	map(DATA), map(CODE), map(STACK);
	sigaltstack(&alternate, 0);
	for (unsigned at = 0; at < sizeof signals / sizeof *signals; at++)
		sigaction(signals[at], &action, 0);
	__asm__ volatile("int3" ::: "memory");
	fwrite(results, 2, count, stdout);
	return 0;
}
