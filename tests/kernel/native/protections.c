/* mprotect(2): each protection in the place of each other, the page used in between, and every kind of access in ring 3.
 * A line each: old, new, access, and how it ends: "ok", or the page fault's error code and whether CR2 is the address. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile unsigned long code, address;
static unsigned char *page;

static void on_fault(int number, siginfo_t *info, void *where)
{
    code = ((ucontext_t *)where)->uc_mcontext.gregs[REG_ERR];
    address = (unsigned long)info->si_addr;
    siglongjmp(back, 1);
}

static void use(int access)
{
    if (access == 0) (void)*(volatile unsigned char *)page;
    if (access == 1) *(volatile unsigned char *)(page + 8) = 1;
    if (access == 2) __asm__ volatile("lock incl %0" : "+m"(*(unsigned *)(page + 8)) : : "memory", "cc");
    if (access == 3) ((void (*)(void))page)();
}

int main(void)
{
    static const int kinds[] = {PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_WRITE, PROT_EXEC,
                                PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC};
    static const char *names[] = {"none", "r", "w", "rw", "x", "rx", "rwx"}, *accesses[] = {"read", "write", "modify", "run"};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, 0);
    for (int old = 0; old < 7; old++) for (int now = 0; now < 7; now++) for (int access = 0; access < 4; access++) {
        page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        page[0] = 0xc3;                                          /* ret */
        mprotect(page, 4096, kinds[old]);
        for (int before = 0; before < 4; before++) if (!sigsetjmp(back, 1)) use(before);
        mprotect(page, 4096, kinds[now]);
        if (!sigsetjmp(back, 1)) { use(access); printf("%s %s %s ok\n", names[old], names[now], accesses[access]); }
        else printf("%s %s %s %lx %d\n", names[old], names[now], accesses[access], code, address == (unsigned long)page || address == (unsigned long)page + 8);
        munmap(page, 4096);
    }
    return 0;
}
