/* ptrace(2): stops and their codes, registers, stepping, system calls, signals.  See ptrace(2). */
#include "posix.h"
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/user.h>

static int child;

/* What wait says of the child. */
static int next(const char *what)
{
    int status = 0, pid = waitpid(child, &status, __WALL);
    printf("%s: %s status %x\n", what, pid == child ? "child" : "nobody", status);
    fflush(stdout);
    return status;
}

static void regs(const char *what, struct user_regs_struct *r)
{
    printf("%s: regs %ld\n", what, ptrace(PTRACE_GETREGS, child, 0, r));
}

static void info(const char *what)
{
    siginfo_t si;
    memset(&si, 0, sizeof si);
    errno = 0;
    long got = ptrace(PTRACE_GETSIGINFO, child, 0, &si);
    printf("%s: siginfo %ld errno %d signo %d code %x\n", what, got, errno, si.si_signo, si.si_code);
}

static volatile int handled;
static void on_usr(int number) { handled = number; }

static void traced(void)
{
    say("traceme", ptrace(PTRACE_TRACEME, 0, 0, 0));
    say("traceme again", ptrace(PTRACE_TRACEME, 0, 0, 0));
    signal(SIGUSR1, on_usr);
    signal(SIGUSR2, on_usr);
    raise(SIGSTOP);
    syscall(SYS_getppid);
    syscall(SYS_write, 1, "written\n", 8);
    raise(SIGUSR1);
    printf("handled %d\n", handled == SIGUSR2 ? 2 : handled == SIGUSR1 ? 1 : 0);
    fflush(stdout);
    handled = 0;
    raise(SIGUSR1);
    printf("suppressed: handled %d\n", handled);
    fflush(stdout);
    raise(SIGCHLD);
    asm volatile("int3; nop");
    asm volatile(".globl steps\nsteps: mov $1, %%eax; mov $2, %%eax; nop\n\tpushf\n\tpop %%eax\n" : : : "eax");
    asm volatile("mov %0, %%eax; int $0x80" : : "i"(SYS_getpid) : "eax");
    errno = 0;
    printf("changed %ld\n", syscall(SYS_getuid));
    printf("denied %ld", syscall(SYS_mkdir, "ptrace_never", 0700));
    printf(" errno %d\n", errno);
    fflush(stdout);
    _exit(7);
}

static void syscalls(void)
{
    struct user_regs_struct r;
    int at;
    say("options", ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD));
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (at = 0; at < 40; at++) {
        int status = next("call");
        if (status >> 8 != (SIGTRAP | 0x80))
            break;
        regs("call", &r);
        if (r.orig_eax == SYS_getppid) {
            printf("getppid eax %ld eq %d\n", r.eax == -ENOSYS ? -ENOSYS : 0, r.eax == getpid());
            info("call");
            if (r.eax != -ENOSYS)
                break;
        }
        ptrace(PTRACE_SYSCALL, child, 0, 0);
    }
    ptrace(PTRACE_CONT, child, 0, 0);
}

static void signals(void)
{
    siginfo_t si;
    next("usr1");
    info("usr1");
    ptrace(PTRACE_CONT, child, 0, SIGUSR2);
    next("usr1 once more");
    ptrace(PTRACE_CONT, child, 0, 0);
    next("an ignored signal stops too");
    ptrace(PTRACE_GETSIGINFO, child, 0, &si);
    say("set siginfo", ptrace(PTRACE_SETSIGINFO, child, 0, &si));
    ptrace(PTRACE_CONT, child, 0, SIGCHLD);
}

extern char steps[];

static void stepping(void)
{
    struct user_regs_struct r;
    int at;
    next("breakpoint");
    info("breakpoint");
    for (at = 0; at < 9; at++) {
        long eip, orig;
        ptrace(PTRACE_SINGLESTEP, child, 0, 0);
        next("step");
        regs("step", &r);
        eip = r.eip - (long)steps;
        printf("at %ld eax %ld TF %d orig %ld\n", eip, r.eax == child ? -7 : eip > 10 ? r.eax & 0x100 : r.eax,
               !!(r.eflags & 0x100), r.orig_eax < 0 ? -1 : r.orig_eax);
        info("step");
        orig = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, regs.eip), 0);
        printf("peekuser %d\n", orig == r.eip);
    }
    ptrace(PTRACE_SYSCALL, child, 0, 0);
}

static void changes(void)
{
    struct user_regs_struct r;
    for (;;) {
        int status = next("change");
        if (status >> 8 != (SIGTRAP | 0x80))
            return;
        regs("change", &r);
        if (r.orig_eax == SYS_getuid || r.orig_eax == SYS_getuid32) {
            if (r.eax == -ENOSYS)
                say("another call", ptrace(PTRACE_POKEUSER, child, 4 * ORIG_EAX, SYS_gettid));
        } else if (r.orig_eax == SYS_gettid) {
            printf("gettid %d\n", r.eax == child);
            r.eax = 1234;
            say("another result", ptrace(PTRACE_SETREGS, child, 0, &r));
        } else if (r.orig_eax == SYS_mkdir) {
            r.orig_eax = -1;
            say("no call", ptrace(PTRACE_SETREGS, child, 0, &r));
        } else if (r.orig_eax == -1) {
            printf("skipped, eax %ld\n", r.eax);
            r.eax = -EACCES;
            ptrace(PTRACE_SETREGS, child, 0, &r);
        }
        ptrace(PTRACE_SYSCALL, child, 0, 0);
    }
}

static void errors(void)
{
    struct user_regs_struct r;
    unsigned at;
    unsigned places[] = { 1, 68, 72, 248, 252, 268, 280, 1000 };
    for (at = 0; at < sizeof places / sizeof *places; at++) {
        errno = 0;
        long got = syscall(SYS_ptrace, PTRACE_PEEKUSER, child, places[at], &r);
        printf("peekuser %u: %ld errno %d\n", places[at], got, errno);
    }
    say("pokeuser between", ptrace(PTRACE_POKEUSER, child, 2, 0));
    say("pokeuser outside", ptrace(PTRACE_POKEUSER, child, 1000, 0));
    say("bad cs", ptrace(PTRACE_POKEUSER, child, 4 * CS, 0));
    say("bad ss", ptrace(PTRACE_POKEUSER, child, 4 * SS, 0x10));
    say("bad ds", ptrace(PTRACE_POKEUSER, child, 4 * DS, 8));
    say("good ds", ptrace(PTRACE_POKEUSER, child, 4 * DS, ptrace(PTRACE_PEEKUSER, child, 4 * DS, 0)));
    say("flags", ptrace(PTRACE_POKEUSER, child, 4 * EFL, 0xffffffff & ~0x100));
    printf("flags %lx\n", ptrace(PTRACE_PEEKUSER, child, 4 * EFL, 0) & ~0x104000);
    say("flags back", ptrace(PTRACE_POKEUSER, child, 4 * EFL, 0x202));
    say("bad signal", ptrace(PTRACE_CONT, child, 0, 65));
    say("bad signal", ptrace(PTRACE_DETACH, child, 0, 65));
    say("bad options", ptrace(PTRACE_SETOPTIONS, child, 0, 0x80000000));
    say("bad request", ptrace(9999, child, 0, 0));
    say("nobody", ptrace(PTRACE_PEEKTEXT, 99999, 0, 0));
    say("not ours", ptrace(PTRACE_PEEKTEXT, 1, 0, 0));
    say("self", ptrace(PTRACE_ATTACH, getpid(), 0, 0));
    say("twice", ptrace(PTRACE_ATTACH, child, 0, 0));
    say("interrupt", ptrace(PTRACE_INTERRUPT, child, 0, 0));
    say("listen", ptrace(PTRACE_LISTEN, child, 0, 0));
    say("seize", ptrace(PTRACE_SEIZE, child, 4, 0));
    say("getregs", ptrace(PTRACE_GETREGS, child, 0, 8));
    say("siginfo", ptrace(PTRACE_GETSIGINFO, child, 0, 8));
    say("message", ptrace(PTRACE_GETEVENTMSG, child, 0, 8));
}

static void floats(void)
{
    struct user_fpregs_struct f;
    struct user_fpxregs_struct x;
    memset(&f, 0, sizeof f);
    say("getfpregs", ptrace(PTRACE_GETFPREGS, child, 0, &f));
    printf("cwd %lx swd %lx twd %lx\n", f.cwd & 0xffff, f.swd & 0xffff, f.twd & 0xffff);
    say("getfpxregs", ptrace(PTRACE_GETFPXREGS, child, 0, &x));
    printf("cwd %x mxcsr %lx\n", x.cwd, x.mxcsr);
    x.xmm_space[0] = 0x12345678;
    say("setfpxregs", ptrace(PTRACE_SETFPXREGS, child, 0, &x));
    memset(&x, 0, sizeof x);
    ptrace(PTRACE_GETFPXREGS, child, 0, &x);
    printf("xmm0 %lx\n", x.xmm_space[0]);
    f.cwd = 0xffff027f;
    say("setfpregs", ptrace(PTRACE_SETFPREGS, child, 0, &f));
    ptrace(PTRACE_GETFPXREGS, child, 0, &x);
    printf("cwd %x xmm0 %lx\n", x.cwd, x.xmm_space[0]);
}

int main(void)
{
    child = fork();
    if (!child)
        traced();
    next("stop");
    info("stop");
    errors();
    floats();
    syscalls();
    signals();
    stepping();
    changes();
    say("gone", waitpid(child, 0, 0));
    say("gone", ptrace(PTRACE_PEEKTEXT, child, 0, 0));
    return 0;
}
