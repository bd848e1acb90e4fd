/* ptrace(2): forks, clones, exec and exits of traced tasks, attaching, seizing, stops of a process, dead tracers. */
#include "posix.h"
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/syscall.h>
#include <sys/user.h>

#define STACK 16384

/* What wait says of one task. */
static int next(const char *what, int pid)
{
    int status = 0, got = waitpid(pid, &status, __WALL);
    printf("%s: %s status %x\n", what, got == pid ? "as asked" : got < 0 ? "nobody" : "another", status);
    fflush(stdout);
    return status;
}

static unsigned message(int pid)
{
    unsigned long found = 0;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &found);
    return found;
}

/* A child that stops itself, then does its work and ends. */
static int start(int (*work)(void), int traceme)
{
    int pid = fork();
    if (!pid) {
        if (traceme)
            ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(work());
    }
    return pid;
}

static int forks(void)
{
    int status, pid = fork();
    if (!pid)
        _exit(3);
    waitpid(pid, &status, 0);
    pid = vfork();
    if (!pid)
        _exit(4);
    waitpid(pid, &status, 0);
    return 5;
}

static void event_forks(void)
{
    int pid = start(forks, 1), child;
    next("stop", pid);
    say("options", ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE |
                          PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT));
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("fork", pid);
    child = message(pid);
    printf("a child %d\n", child > 0 && child != pid);
    next("child begins", child);
    printf("child eax %ld\n", ptrace(PTRACE_PEEKUSER, child, 4 * EAX, 0));
    ptrace(PTRACE_CONT, child, 0, 0);
    next("child ends", child);
    printf("with %x\n", message(child));
    ptrace(PTRACE_CONT, child, 0, 0);
    next("child is gone", child);
    say("waited for twice", waitpid(child, 0, WNOHANG));
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("sigchld", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGCHLD);
    next("vfork", pid);
    child = message(pid);
    next("child begins", child);
    ptrace(PTRACE_CONT, child, 0, 0);
    next("child ends", child);
    ptrace(PTRACE_DETACH, child, 0, 0);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("vfork done", pid);
    printf("same child %d\n", message(pid) == child);
    ptrace(PTRACE_CONT, pid, 0, 0);
    for (;;) {
        int status = next("end", pid);
        if (!(status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8)) && WIFSTOPPED(status)) {
            ptrace(PTRACE_CONT, pid, 0, WSTOPSIG(status));
            continue;
        }
        if (!WIFSTOPPED(status))
            break;
        printf("exit %x\n", message(pid));
        ptrace(PTRACE_CONT, pid, 0, 0);
    }
}

static int execs(void)
{
    char *argv[] = { "sh", "again", 0 };
    execv("/proc/self/exe", argv);
    return 99;
}

static void event_exec(int option)
{
    int pid = start(execs, 1), status;
    struct user_regs_struct r;
    next("stop", pid);
    if (option)
        ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD);
    ptrace(PTRACE_CONT, pid, 0, 0);
    status = next("exec", pid);
    ptrace(PTRACE_GETREGS, pid, 0, &r);
    printf("eax %ld ebx %ld cs %lx ss %lx ds %lx orig %ld eip %d esp %d\n", r.eax, r.ebx, r.xcs, r.xss, r.xds, r.orig_eax,
           r.eip != 0, r.esp > 0x80000000);
    printf("argc %ld\n", ptrace(PTRACE_PEEKDATA, pid, r.esp, 0));
    if (option)
        printf("was %d\n", message(pid) == pid);
    ptrace(PTRACE_SYSCALL, pid, 0, 0);
    next("call", pid);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    next("end", pid);
}

static volatile int go;
static int waits(void)
{
    while (!go)
        usleep(1000);
    return go;
}

static void attaching(void)
{
    int pid = fork(), status;
    if (!pid)
        _exit(waits());
    say("attach", ptrace(PTRACE_ATTACH, pid, 0, 0));
    next("attached", pid);
    say("attach again", ptrace(PTRACE_ATTACH, pid, 0, 0));
    say("poke", ptrace(PTRACE_POKEDATA, pid, &go, 42));
    printf("mine %d\n", go);
    say("running is no stop", (ptrace(PTRACE_CONT, pid, 0, SIGSTOP), 0));
    next("stop of the process", pid);
    siginfo_t si;
    say("siginfo", ptrace(PTRACE_GETSIGINFO, pid, 0, &si));
    say("detach", ptrace(PTRACE_DETACH, pid, 0, 0));
    say("stays stopped", (waitpid(pid, &status, WUNTRACED), status));
    kill(pid, SIGCONT);
    next("end", pid);
}

static void stopped_before(void)
{
    int pid = start(waits, 0), status;
    say("stopped", (waitpid(pid, &status, WUNTRACED), status));
    say("attach", ptrace(PTRACE_ATTACH, pid, 0, 0));
    next("attached", pid);
    ptrace(PTRACE_POKEDATA, pid, &go, 6);
    ptrace(PTRACE_CONT, pid, 0, 0);
    status = next("then", pid);
    if (WIFSTOPPED(status)) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        status = next("then", pid);
    }
}

static void seizing(void)
{
    int pid = fork();
    siginfo_t si;
    if (!pid)
        _exit(waits());
    say("bad seize", ptrace(PTRACE_SEIZE, pid, 1, 0));
    say("bad options", ptrace(PTRACE_SEIZE, pid, 0, 0x40000000));
    say("seize", ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
    say("runs", waitpid(pid, 0, WNOHANG));
    say("peek a running one", ptrace(PTRACE_PEEKDATA, pid, &go, 0));
    say("interrupt", ptrace(PTRACE_INTERRUPT, pid, 0, 0));
    next("interrupted", pid);
    say("siginfo", ptrace(PTRACE_GETSIGINFO, pid, 0, &si));
    printf("signo %d code %x\n", si.si_signo, si.si_code);
    say("poke", ptrace(PTRACE_POKEDATA, pid, &go, 9));
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("end", pid);
}

static void group_stops(void)
{
    int pid = fork();
    if (!pid)
        _exit(waits());
    ptrace(PTRACE_SEIZE, pid, 0, 0);
    kill(pid, SIGSTOP);
    next("sigstop", pid);
    ptrace(PTRACE_CONT, pid, 0, SIGSTOP);
    next("group stop", pid);
    say("listen", ptrace(PTRACE_LISTEN, pid, 0, 0));
    say("nothing", waitpid(pid, 0, WNOHANG));
    say("not to be asked", ptrace(PTRACE_PEEKDATA, pid, &go, 0));
    kill(pid, SIGCONT);
    next("goes on", pid);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("sigcont", pid);
    ptrace(PTRACE_POKEDATA, pid, &go, 8);
    ptrace(PTRACE_CONT, pid, 0, SIGCONT);
    next("end", pid);
}

static void kills(void)
{
    int pid = start(waits, 1);
    next("stop", pid);
    say("kill", kill(pid, SIGKILL));
    next("killed", pid);
    pid = start(waits, 1);
    next("stop", pid);
    say("kill", ptrace(PTRACE_KILL, pid, 0, 0));
    next("killed", pid);
}

/* A tracer that ends while its tracee is stopped: that goes on, or ends with it. */
static void dead_tracers(int options)
{
    int pid = fork(), tracer, status;
    if (!pid)
        _exit(waits());
    tracer = fork();
    if (!tracer) {
        ptrace(PTRACE_ATTACH, pid, 0, 0);
        waitpid(pid, &status, 0);
        ptrace(PTRACE_SETOPTIONS, pid, 0, options);
        ptrace(PTRACE_POKEDATA, pid, &go, 21);
        _exit(0);
    }
    next("tracer", tracer);
    next("tracee", pid);
}

/* Who waits for a process that somebody else traces: first the tracer. */
static void two_who_wait(void)
{
    int pid = start(waits, 0), tracer, status, gate[2], back[2];
    char byte;
    pipe(gate);
    pipe(back);
    waitpid(pid, &status, WUNTRACED);
    tracer = fork();
    if (!tracer) {
        ptrace(PTRACE_SEIZE, pid, 0, 0);
        waitpid(pid, &status, 0);
        printf("tracer sees %x\n", status);
        ptrace(PTRACE_POKEDATA, pid, &go, 17);
        kill(pid, SIGCONT);
        ptrace(PTRACE_CONT, pid, 0, 0);
        do {
            siginfo_t si;
            waitid(P_PID, pid, &si, WEXITED | WSTOPPED | WNOWAIT);
            if (si.si_code == CLD_EXITED)
                break;
            waitpid(pid, &status, 0);
            ptrace(PTRACE_CONT, pid, 0, 0);
        } while (1);
        write(gate[1], "x", 1);
        read(back[0], &byte, 1);
        waitpid(pid, &status, 0);
        printf("tracer buries %x\n", status);
        fflush(stdout);
        _exit(0);
    }
    read(gate[0], &byte, 1);
    say("not yet", waitpid(pid, &status, WNOHANG));
    write(back[1], "x", 1);
    next("tracer", tracer);
    next("its own child", pid);
}

static int thread_entry(void *unused)
{
    syscall(SYS_exit, 11);
    return 0;
}

static char stack[STACK] __attribute__((aligned(16)));

static int threads(void)
{
    clone(thread_entry, stack + STACK, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, 0);
    usleep(100000);
    return 12;
}

static void event_threads(void)
{
    int pid = start(threads, 1), thread;
    next("stop", pid);
    ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("clone", pid);
    thread = message(pid);
    next("thread begins", thread);
    ptrace(PTRACE_CONT, thread, 0, 0);
    next("thread ends", thread);
    ptrace(PTRACE_CONT, pid, 0, 0);
    next("process ends", pid);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return 33;
    setvbuf(stdout, 0, _IONBF, 0);
    event_forks();
    event_exec(1);
    event_exec(0);
    attaching();
    stopped_before();
    seizing();
    group_stops();
    kills();
    dead_tracers(0);
    dead_tracers(PTRACE_O_EXITKILL);
    two_who_wait();
    event_threads();
    return 0;
}
