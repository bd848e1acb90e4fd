/* ptrace(2): register sets, masks, handlers under a single step, emulated calls, exec by a thread, threads that trace. */
#include "posix.h"
#include <asm/ldt.h>
#include <elf.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>

#define STACK 16384
#define GETSIGMASK 0x420a
#define SETSIGMASK 0x420b
#define SYSEMU 31

static int next(const char *what, int pid)
{
    int status = 0, got = waitpid(pid, &status, __WALL);
    printf("%s: %s status %x\n", what, got == pid ? "as asked" : got < 0 ? "nobody" : "another", status);
    return status;
}

static int start(int (*work)(void))
{
    int pid = fork();
    if (!pid) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(work());
    }
    next("stop", pid);
    return pid;
}

static volatile int handled;
static void handler(int number) { handled = number; }

static int steps(void)
{
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    return handled == SIGUSR1 ? 31 : 32;
}

/* A step with a signal ends at the first instruction of its handler, whose frame has no TF. */
static void step_into_a_handler(void)
{
    struct user_regs_struct r;
    int pid = start(steps);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("usr1", pid);
    ptrace(PTRACE_SINGLESTEP, pid, 0, SIGUSR1);
    next("in the handler", pid);
    ptrace(PTRACE_GETREGS, pid, 0, &r);
    printf("at its start %d, TF %ld\n", r.eip == (long)handler, r.eflags & 0x100);
    printf("its frame: signal %ld TF %ld\n", ptrace(PTRACE_PEEKDATA, pid, r.esp + 4, 0),
           ptrace(PTRACE_PEEKDATA, pid, r.esp + 8 + 64, 0) & 0x100);
    siginfo_t si;
    say("siginfo", ptrace(PTRACE_GETSIGINFO, pid, 0, &si));
    printf("signo %d code %x\n", si.si_signo, si.si_code);
    ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
    next("a step further", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("end", pid);
}

static int sets(void)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, 0, &mask);
    return sigismember(&mask, SIGUSR2) ? 41 : 40;
}

static void register_sets(void)
{
    struct user_regs_struct r, again;
    char room[2048];
    struct iovec vector = { &r, sizeof r };
    struct user_desc desc;
    unsigned long long mask = 0;
    int pid = start(sets);
    say("getregset", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
    ptrace(PTRACE_GETREGS, pid, 0, &again);
    printf("%d bytes, the same %d\n", (int)vector.iov_len, !memcmp(&r, &again, sizeof r));
    vector.iov_len = 8;
    say("a part", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
    printf("%d bytes\n", (int)vector.iov_len);
    vector.iov_len = 7;
    say("odd", ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, &vector));
    vector = (struct iovec){ &r, sizeof r };
    say("setregset", ptrace(PTRACE_SETREGSET, pid, NT_PRSTATUS, &vector));
    say("unknown", ptrace(PTRACE_GETREGSET, pid, 0x7777, &vector));
    vector = (struct iovec){ room, sizeof room };
    say("fpx", ptrace(PTRACE_GETREGSET, pid, NT_PRXFPREG, &vector));
    printf("%d bytes\n", (int)vector.iov_len);
    say("thread area", ptrace(25, pid, r.xgs >> 3, &desc));
    printf("base %d limit %x\n", desc.base_addr != 0, desc.limit);
    say("no thread area", ptrace(25, pid, 77, &desc));
    say("no thread area", ptrace(25, pid, -1, &desc));
    say("getsigmask", ptrace(GETSIGMASK, pid, 8, &mask));
    printf("mask %llx\n", mask);
    say("getsigmask", ptrace(GETSIGMASK, pid, 4, &mask));
    mask = ~0ull;
    mask = 1ull << (SIGUSR2 - 1) | 1ull << (SIGKILL - 1);
    say("setsigmask", ptrace(SETSIGMASK, pid, 8, &mask));
    ptrace(GETSIGMASK, pid, 8, &mask);
    printf("mask %llx\n", mask);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("end", pid);
}

static int calls(void)
{
    return syscall(SYS_getppid) == 777 ? 51 : 50;
}

static void emulated(void)
{
    struct user_regs_struct r;
    int pid = start(calls), at;
    for (at = 0; at < 8; at++) {
        ptrace(SYSEMU, pid, 0, 0);
        next("emulated", pid);
        ptrace(PTRACE_GETREGS, pid, 0, &r);
        printf("orig %ld eax %ld\n", r.orig_eax, r.eax);
        if (r.orig_eax == SYS_getppid) {
            r.eax = 777;
            ptrace(PTRACE_SETREGS, pid, 0, &r);
        }
        if (r.orig_eax == SYS_exit_group)
            break;
    }
    ptrace(PTRACE_KILL, pid, 0, 0);
    next("end", pid);
}

static char stack[STACK] __attribute__((aligned(16)));

static int exec_in_thread(void *unused)
{
    char *argv[] = { "again", "again", 0 };
    execv("/proc/self/exe", argv);
    return 0;
}

static int execs(void)
{
    clone(exec_in_thread, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0);
    for (;;)
        pause();
}

static void exec_by_a_thread(void)
{
    unsigned long was = 0;
    int pid = start(execs), thread;
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("clone", pid);
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &was);
    thread = was;
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("thread begins", thread);
    ptrace(PTRACE_CONT, thread, 0, 0);
    next("exec, as the leader", pid);
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &was);
    printf("it was the thread %d\n", (int)was == thread);
    say("the thread", waitpid(thread, 0, __WALL | WNOHANG));
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("end", pid);
}

static volatile int traced;
static int attach_in_thread(void *unused)
{
    syscall(SYS_ptrace, PTRACE_ATTACH, traced, 0, 0);
    syscall(SYS_exit, 0);
    return 0;
}

static int waits(void)
{
    for (;;)
        usleep(1000);
}

/* The tracer is a thread: another one of its process may wait, and may not ask; when it ends, so does the tracing. */
static void a_thread_traces(void)
{
    int status, word;
    traced = fork();
    if (!traced)
        _exit(waits());
    clone(attach_in_thread, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM, 0);
    usleep(50000);
    say("not its tracer", ptrace(PTRACE_PEEKDATA, traced, &traced, 0));
    say("it runs", waitpid(traced, &status, WNOHANG) == traced && WIFSTOPPED(status) && WSTOPSIG(status) != SIGSTOP);
    kill(traced, SIGKILL);
    next("end", traced);
}

/* State and TracerPid, as /proc/PID/status has them. */
static void status_of(int pid)
{
    char name[64], line[256];
    sprintf(name, "/proc/%d/status", pid);
    FILE *file = fopen(name, "r");
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "State:", 6))
            printf("%s", line);
        if (!strncmp(line, "TracerPid:", 10))
            printf("tracer %s\n", atoi(line + 10) == getpid() ? "I" : atoi(line + 10) ? "another" : "nobody");
    }
    fclose(file);
    sprintf(name, "/proc/%d/syscall", pid);
    file = fopen(name, "r");
    fgets(line, sizeof line, file);
    printf("in call %d\n", atoi(line));
    fclose(file);
}

static int faults(void)
{
    *(volatile int *)16 = 1;
    return 1;
}

static void fatal(void)
{
    siginfo_t si;
    int pid = start(faults);
    status_of(pid);
    status_of(getpid());
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("fault", pid);
    status_of(pid);
    ptrace(PTRACE_GETSIGINFO, pid, 0, &si);
    printf("signo %d code %d at %d\n", si.si_signo, si.si_code, (int)si.si_addr);
    ptrace(PTRACE_CONT, pid, 0, SIGSEGV);
    printf("%x\n", next("end", pid) & 0x7f);
}

/* SIGCONT for a seized process that was not stopped, and SIGKILL for one that listens. */
static void seized(void)
{
    int pid = fork();
    if (!pid)
        _exit(waits());
    ptrace(PTRACE_SEIZE, pid, 0, 0);
    kill(pid, SIGCONT);
    next("continued", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("sigcont", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    kill(pid, SIGSTOP);
    next("sigstop", pid);
    kill(pid, SIGCONT);
    ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
    next("after a SIGCONT that came before", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("and then", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    kill(pid, SIGSTOP);
    next("sigstop", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
    next("group stop", pid);
    ptrace(PTRACE_LISTEN, pid, 0, 0);
    kill(pid, SIGKILL);
    next("killed", pid);
}

/* Stops of a process that somebody else traces, as its parent sees them. */
static void stops_for_the_parent(void)
{
    int pid = fork(), tracer, status, gate[2];
    char byte;
    pipe(gate);
    if (!pid)
        _exit(waits());
    tracer = fork();
    if (!tracer) {
        ptrace(PTRACE_SEIZE, pid, 0, 0);
        kill(pid, SIGSTOP);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
        waitpid(pid, &status, 0);
        printf("tracer sees %x\n", status);
        write(gate[1], "x", 1);
        pause();
    }
    read(gate[0], &byte, 1);
    say("stopped", (waitpid(pid, &status, WUNTRACED), status));
    say("once", waitpid(pid, &status, WUNTRACED | WNOHANG));
    kill(tracer, SIGKILL);
    next("tracer", tracer);
    kill(pid, SIGCONT);
    say("continued", (waitpid(pid, &status, WCONTINUED), status));
    kill(pid, SIGKILL);
    next("end", pid);
}

/* A sleep that a stop interrupts goes on; one whose result the tracer has changed does not. */
static int sleeps(void)
{
    struct timespec time = { 0, 80000000 };
    return nanosleep(&time, 0) == 0 ? 61 : 62;
}

static void interrupted(void)
{
    int pid = start(sleeps);
    ptrace(PTRACE_CONT, pid, 0, 0);
    usleep(20000);
    kill(pid, SIGSTOP);
    next("interrupted", pid);
    printf("eax %ld orig %ld\n", ptrace(PTRACE_PEEKUSER, pid, 4 * EAX, 0), ptrace(PTRACE_PEEKUSER, pid, 4 * ORIG_EAX, 0));
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("slept", pid);
    pid = start(sleeps);
    ptrace(PTRACE_CONT, pid, 0, 0);
    usleep(20000);
    kill(pid, SIGSTOP);
    next("interrupted", pid);
    ptrace(PTRACE_POKEUSER, pid, 4 * EAX, -EIO);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("another result", pid);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IONBF, 0);
    if (argc > 1)
        return 33;
    step_into_a_handler();
    register_sets();
    emulated();
    exec_by_a_thread();
    a_thread_traces();
    fatal();
    seized();
    stops_for_the_parent();
    interrupted();
    return 0;
}
