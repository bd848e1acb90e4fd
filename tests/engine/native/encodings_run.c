/* What ordinary programs see of unusual encodings and of misaligned operands: results, and signals with their trap
   numbers.  Prints the same lines on every processor that the instructions below are defined for. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static sigjmp_buf back;
static int number, code;
static unsigned at, trap, error;
static char buf[64] __attribute__((aligned(64)));

static void on_signal(int which, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	__asm__ volatile("pushfl; andl $~0x40000,(%esp); popfl");
	number = which;
	code = info->si_code;
	at = g[REG_EIP];
	trap = g[REG_TRAPNO];
	error = g[REG_ERR];
	siglongjmp(back, 1);
}

#define ONE(name, text) \
	static void name(void) \
	{ \
		__asm__ volatile(".globl at_" #name "\nat_" #name ":\n" text ::"b"(buf) : "memory", "eax", "ecx", "edx"); \
	} \
	extern char at_##name[];
#define AC "pushfl; orl $0x40000,(%%esp); popfl\n"
#define NO_AC "\npushfl; andl $~0x40000,(%%esp); popfl\n"
#define ALL \
	X(movaps, "movaps 4(%0),%%xmm0") X(addps, "addps 8(%0),%%xmm0") X(movups, "movups 4(%0),%%xmm0") \
	X(movapd_store, "movapd %%xmm0,8(%0)") X(lock_nop, ".byte 0xf0; nop") \
	X(lock_register, ".byte 0xf0; addl %%eax,%%ecx") X(lock_inc, "lock; incl (%0)") X(pop_1, ".byte 0x8f,0xc8") \
	X(movmskps_memory, ".byte 0x0f,0x50,0x03") X(word, AC "movw 1(%0),%%ax" NO_AC) \
	X(doubleword, AC "movl 2(%0),%%eax" NO_AC) X(aligned, AC "movl 4(%0),%%eax" NO_AC) \
	X(store, AC "movl %%eax,1(%0)" NO_AC) X(double_8, AC "fldl 4(%0)" NO_AC) X(tbyte, AC "fldt 4(%0)" NO_AC) \
	X(env, AC "fnstenv 1(%0)" NO_AC) X(movaps_ac, AC "movaps 1(%0),%%xmm0" NO_AC) \
	X(cmpxchg8b, AC "lock; cmpxchg8b 4(%0)" NO_AC) X(rdpmc, "rdpmc") X(prefetch, ".byte 0x0f,0x18,0xc0") \
	X(unmapped, AC "movl 0x7000001,%%eax" NO_AC) X(unmapped_ps, "movaps 0x7000001,%%xmm0") \
	X(unmapped_aligned, "movaps 0x7000000,%%xmm0") X(byte_ac, AC "movb 1(%0),%%al" NO_AC)
#define X(name, text) ONE(name, text)
ALL
#undef X
#define X(name, text) { #name, name, at_##name },
static const struct {
	const char *name;
	void (*run)(void);
	char *at;
} cases[] = { ALL };

/* Code made at run time: CMPPS and CMPSD with every immediate, in memory forms with every displacement. */
static void compare(unsigned char *page)
{
	static float values[8] __attribute__((aligned(16))) = { 1, 2, 3, 0, 1, 3, 2, 0 };
	static const unsigned char head[] = { 0x0f, 0x28, 0x00 /* movaps (%eax),%xmm0 */ };
	unsigned out[4];

	*(unsigned *)&values[7] = 0x7fc00000;
	for (int scalar = 0; scalar < 2; scalar++)
		for (int mode = 0; mode < 4; mode++)
			for (int imm = 0; imm < 256; imm++) {
				unsigned char *p = page;
				unsigned disp = 16;

				memcpy(p, head, 3), p += 3;
				if (scalar)
					*p++ = 0xf2;
				*p++ = 0x0f, *p++ = 0xc2;
				if (mode == 0)
					*p++ = 0x40, *p++ = disp;
				else if (mode == 1)
					*p++ = 0x44, *p++ = 0x20, *p++ = disp;
				else if (mode == 2)
					*p++ = 0x80, memcpy(p, &disp, 4), p += 4;
				else
					disp += (unsigned)values, *p++ = 0x05, memcpy(p, &disp, 4), p += 4;
				*p++ = imm;
				memcpy(p, "\x0f\x11\x02\xc3", 4); /* movups %xmm0,(%edx); ret */
				__asm__ volatile("call *%%ecx" : : "a"(values), "d"(out), "c"(page) : "memory");
				printf("cmp %d %d %d %x %x %x %x\n", scalar, mode, imm, out[0], out[1], out[2], out[3]);
			}
}

/* TEST by its other names, SALC, group 82, and a LOCK that code writes into itself. */
static void aliases(unsigned char *page)
{
	static const struct {
		const char *code;
		int size;
	} list[] = {
		{ "\xf6\xc8\x81", 3 }, { "\xf7\xc8\x01\x00\x00\x80", 6 }, { "\x66\xf7\xc8\x00\x80", 5 }, { "\xf6\x09\x40", 3 },
		{ "\xf9\xd6", 2 }, { "\xf8\xd6", 2 }, { "\x82\xc0\x7f", 3 }, { "\x82\x29\x01", 3 }, { "\xf0\x82\x01\x05", 4 },
		{ "\x0f\x19\xc0", 3 }, { "\x0f\x1e\x01", 3 }, { "\x0f\x18\xe0", 3 },
	};
	for (unsigned n = 0; n < sizeof list / sizeof *list; n++) {
		unsigned flags, eax = 0x80000081;

		memcpy(page, list[n].code, list[n].size);
		memcpy(page + list[n].size, "\x9c\x5a\xc3", 3); /* pushf; pop %edx; ret */
		buf[0] = 0x41;
		__asm__ volatile("call *%%esi" : "+a"(eax), "=d"(flags) : "S"(page), "c"(buf) : "memory", "cc");
		printf("alias %u %x %x %x\n", n, eax, flags & 0x8c5, buf[0]);
	}
	memcpy(page, "\xc6\x00\xf0\x90\x90\xc3", 6); /* movb $0xf0,(%eax) */
	number = 0;
	if (!sigsetjmp(back, 1))
		__asm__ volatile("call *%%ecx" : : "a"(page + 3), "c"(page) : "memory");
	printf("own code: signal %d at +%d, byte %x\n", number, (int)(at - (unsigned)page), page[3]);
	memcpy(page + 4093, "\x90\xf0\x90\x90\xc3", 5);
	page[4096] = 0x90;
	number = 0;
	if (!sigsetjmp(back, 1))
		__asm__ volatile("call *%%ecx" : : "c"(page + 4093) : "memory");
	printf("across pages: signal %d at +%d\n", number, (int)(at - (unsigned)page));
	memcpy(page + 8190, "\x90\xf0", 2);
	number = 0;
	if (!sigsetjmp(back, 1))
		__asm__ volatile("call *%%ecx" : : "c"(page + 8190) : "memory");
	printf("into nothing: signal %d at +%d trap %u\n", number, (int)(at - (unsigned)page), trap);
}

int main(void)
{
	static const int signals[] = { SIGILL, SIGTRAP, SIGBUS, SIGSEGV, SIGFPE };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_NODEFER };
	unsigned char *page;

	for (unsigned n = 0; n < sizeof signals / sizeof *signals; n++)
		sigaction(signals[n], &action, 0);
	for (unsigned n = 0; n < sizeof cases / sizeof *cases; n++) {
		number = code = trap = error = 0;
		if (!sigsetjmp(back, 1))
			cases[n].run();
		printf("%s: signal %d code %d trap %u error %x at +%d\n", cases[n].name, number, code, trap, error,
		       number ? (int)(at - (unsigned)cases[n].at) : 0);
	}
	page = mmap(0, 12288, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(page + 8192, 4096);
	compare(page);
	aliases(page);
	return 0;
}
