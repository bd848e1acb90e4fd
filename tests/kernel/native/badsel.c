#include "posix.h"
#include <asm/ldt.h>
#include <ucontext.h>
#include <setjmp.h>

/* A handler that changes CS or SS of its frame, and what the handler of the SIGSEGV that follows finds in its own. */
static struct sig { unsigned long gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip, cs, eflags, uesp, ss; } *seen;
static int cs, ss;
static volatile int stage;
static unsigned long stack_pointer, eip;
static sigjmp_buf out;

static void change(int number, siginfo_t *info, void *context)
{
    struct sig *frame = (void *)&((ucontext_t *)context)->uc_mcontext;
    stack_pointer = frame->uesp, eip = frame->eip;
    if (cs >= 0) frame->cs = frame->cs & ~0xffff | cs;
    if (ss >= 0) frame->ss = frame->ss & ~0xffff | ss;
    frame->eax = 0x1234;
    stage = 1;
}

static void segv(int number, siginfo_t *info, void *context)
{
    struct sig *frame = (void *)&((ucontext_t *)context)->uc_mcontext;
    unsigned now_cs, now_ss;
    asm("mov %%cs, %0; mov %%ss, %1" : "=r"(now_cs), "=r"(now_ss));
    printf("  signal %d code %d addr %d cs %lx ss %lx trapno %lu err %lx", number, info->si_code, info->si_addr != 0, frame->cs & 0xffff, frame->ss & 0xffff, frame->trapno, frame->err);
    printf(" eip %d esp %d eax %lx, handler %x %x\n", frame->eip == eip, frame->uesp == stack_pointer, frame->eax, now_cs, now_ss);
    fflush(stdout);
    siglongjmp(out, 1);
}

static void try(const char *name, int new_cs, int new_ss)
{
    cs = new_cs, ss = new_ss;
    printf("%s\n", name);
    fflush(stdout);
    if (!sigsetjmp(out, 1)) {
        raise(SIGUSR1);
        printf("  went on\n");
    }
}

static void set(int number, int contents, int not_present, int readonly)
{
    struct user_desc desc = { .entry_number = number, .limit = 0xfffff, .seg_32bit = 1, .contents = contents, .read_exec_only = readonly, .limit_in_pages = 1, .seg_not_present = not_present, .useable = 1 };
    if (syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc)) printf("ldt %d\n", errno);
}

int main(void)
{
    static char alternate[16384];
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    struct sigaction action = { .sa_sigaction = change, .sa_flags = SA_SIGINFO };
    sigaction(SIGUSR1, &action, 0);
    sigaltstack(&stack, 0);
    action.sa_sigaction = segv, action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, 0), sigaction(SIGBUS, &action, 0);
    set(0, 0, 0, 0);   /* data */
    set(1, 2, 0, 0);   /* code */
    set(2, 0, 1, 0);   /* absent data */
    set(3, 2, 1, 0);   /* absent code */
    set(4, 0, 0, 1);   /* read-only data */
    try("cs null", 0, -1);
    try("ss null", -1, 0);
    try("cs 8", 8, -1);
    try("cs data", 0x2b, -1);
    try("ss code", -1, 0x23);
    try("cs rpl 0", 0x20, -1);
    try("ss rpl 0", -1, 0x28);
    try("cs ldt data", 7, -1);
    try("ss ldt code", -1, 0xf);
    try("cs absent", 0x1f, -1);
    try("ss absent", -1, 0x17);
    try("ss read-only", -1, 0x27);
    try("cs beyond", 0xfff7, -1);
    try("ss beyond", -1, 0xfff7);
    try("cs ldt code", 0xf, -1);
    try("ss ldt data", -1, 7);
    try("both bad", 8, 0x18);
    return 0;
}
