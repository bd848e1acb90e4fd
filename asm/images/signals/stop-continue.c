/* stop-continue: a parent watches its child stop, go on and die.
 *
 * wait4 tells of stops and continuations to who asks for them, SIGCHLD carries the same in its siginfo.  A signal that would
 * end a stopped process waits until it goes on.  Of signals that stop and the one that continues, the last that was sent
 * takes the others back. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pid_t child;
static sigset_t told;

/* What SIGCHLD says, which is blocked and taken from the queue. */
static void hear(void)
{
    siginfo_t info;

    sigwaitinfo(&told, &info);
    printf("SIGCHLD: code %d, status %d, from the child %d\n", info.si_code, info.si_status, info.si_pid == child);
}

static void await(int options)
{
    int status = 0;

    if (waitpid(child, &status, options) != child)
        printf("?\n");
    if (WIFSTOPPED(status))
        printf("stopped by %d\n", WSTOPSIG(status));
    else if (WIFCONTINUED(status))
        printf("continued\n");
    else if (WIFSIGNALED(status))
        printf("killed by %d\n", WTERMSIG(status));
    else
        printf("ended with %d\n", WEXITSTATUS(status));
}

/* Which of the two waits, both being blocked. */
static void say_pending(const char *after)
{
    sigset_t pending;

    sigpending(&pending);
    printf("after %s: stop %d, continue %d\n", after, sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
}

static void send_both(void)
{
    sigset_t both;

    sigemptyset(&both);
    sigaddset(&both, SIGTSTP);
    sigaddset(&both, SIGCONT);
    sigprocmask(SIG_BLOCK, &both, 0);
    kill(getpid(), SIGCONT);
    say_pending("SIGCONT");
    kill(getpid(), SIGTSTP);
    say_pending("SIGTSTP");
    kill(getpid(), SIGCONT);
    say_pending("SIGCONT");
}

int main(void)
{
    siginfo_t info = { 0 };
    struct timespec none = { 0 };
    struct timespec while_it_could = { .tv_nsec = 20000000 };

    sigemptyset(&told);
    sigaddset(&told, SIGCHLD);
    sigprocmask(SIG_BLOCK, &told, 0);
    setvbuf(stdout, 0, _IONBF, 0);
    child = fork();
    if (!child) {
        setpgid(0, 0);
        for (;;)
            pause();
    }
    setpgid(child, child);
    kill(child, SIGSTOP);
    hear();
    await(WUNTRACED);
    printf("nothing new: %d\n", (int)waitpid(child, 0, WNOHANG | WUNTRACED | WCONTINUED));
    kill(child, SIGCONT);
    hear();
    await(WCONTINUED);
    kill(-child, SIGTSTP);
    hear();
    await(WUNTRACED);
    kill(child, SIGTERM);
    nanosleep(&while_it_could, 0);
    printf("it cannot die while it is stopped: %d\n", (int)waitpid(child, 0, WNOHANG));
    kill(child, SIGCONT);
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    printf("waitid: code %d status %d, mine %d\n", info.si_code, info.si_status, info.si_pid == child);
    await(0);
    while (sigtimedwait(&told, 0, &none) > 0)
        ;
    if (!(child = fork()))
        _exit(9);
    hear();
    await(0);
    send_both();
    return 0;
}
