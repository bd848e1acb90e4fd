/* fault-info: what a handler is told of each kind of fault.
 *
 * A table of small crimes; the handler writes down signal, code, address, and what the context keeps of the exception
 * (vector, error code, CR2), then goes on behind the crime by siglongjmp. */

#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { FETCH = 0x10 };     /* in a page fault's error code, where there is NX */

static sigjmp_buf back;
static char *readonly, *nothing;
static volatile char *volatile low = (char *)64;

static void handler(int number, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    int trap = registers[REG_TRAPNO];
    char *address = info->si_addr;
    const char *place = "-";

    if (address == (char *)registers[REG_EIP])
        place = "the instruction";
    else if (address == readonly + 5)
        place = "read-only + 5";
    else if (address == nothing + 16)
        place = "nothing + 16";
    else if (address == (char *)low)
        place = "64";
    else if (address)
        place = "?";
    printf("signal %d code %d at %s: vector %d error %#x%s\n", number, info->si_code, place, trap,
           (unsigned)registers[REG_ERR] & ~(trap == 14 ? FETCH : 0), trap == 14 && ((ucontext_t *)context)->uc_mcontext.cr2 == (unsigned long)address
           ? ", cr2 is the address" : "");
    siglongjmp(back, 1);
}

static void read_null(void) { (void)*low; }
static void write_null(void) { *low = 1; }
static void read_nothing(void) { (void)*(volatile char *)(nothing + 16); }
static void write_readonly(void) { *(volatile char *)(readonly + 5) = 1; }
static void jump_nowhere(void) { ((void (*)(void))low)(); }
static void divide(void) { __asm__ volatile("divl %0" : : "r"(0), "d"(0), "a"(1) : "cc"); }
static void divide_too_large(void) { __asm__ volatile("idivl %0" : : "r"(1), "d"(1), "a"(0) : "cc"); }
static void undefined(void) { __asm__ volatile("ud2"); }
static void breakpoint(void) { __asm__ volatile("int3"); }
static void privileged(void) { __asm__ volatile("hlt"); }
static void gate(void) { __asm__ volatile("int $0x42"); }
static void segment(void) { __asm__ volatile("mov %0, %%fs" : : "r"(0x1234)); }
static void x87(void)      /* the flag of an invalid operation is up, and that is masked: it is not what is told */
{
    short control = 0x37b;
    int environment[7];
    __asm__ volatile("fninit; fldcw %0; fnstenv (%1); orl $1, 4(%1); fldenv (%1); fld1; fldz; fdivrp; fwait"
                     : : "m"(control), "r"(environment) : "memory");
}

static const struct {
    const char *name;
    void (*commit)(void);
} crimes[] = {
    { "read at 64", read_null }, { "write at 64", write_null }, { "read of PROT_NONE", read_nothing },
    { "write to read-only", write_readonly }, { "call of 64", jump_nowhere },
    { "division by zero", divide }, { "quotient too large", divide_too_large }, { "ud2", undefined },
    { "int3", breakpoint }, { "hlt", privileged }, { "int 0x42", gate }, { "bad selector", segment },
    { "x87 division by zero", x87 },
};

int main(void)
{
    static const int numbers[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };

    for (unsigned at = 0; at < sizeof numbers / sizeof *numbers; at++)
        sigaction(numbers[at], &action, 0);
    readonly = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    nothing = mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned at = 0; at < sizeof crimes / sizeof *crimes; at++) {
        printf("%s: ", crimes[at].name);
        fflush(stdout);
        if (!sigsetjmp(back, 1))
            crimes[at].commit();
    }
    return 0;
}
