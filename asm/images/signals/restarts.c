/* restarts: a signal arrives in the middle of a system call.
 *
 * With SA_RESTART read, write and wait4 go on as if nothing had happened, but for the handler, which has run meanwhile: what
 * a child waits for comes from there.  Without, they fail with EINTR.  nanosleep and
 * poll never go on by themselves when a handler has run, and nanosleep says how long it would have slept.  A process that is
 * stopped in its sleep and continued sleeps on for what is left.  sigsuspend waits with a mask of its own and always returns
 * EINTR, the old mask back in place. */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile int alarms;
static int ends[2], gate[2];

static void handler(int number)
{
    (void)number;
    alarms++;
    if (write(gate[1], "x", 1) != 1)
        alarms = -1;
}

/* SIGALRM in a while, once; later a child writes a byte. */
static void prepare(int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    struct itimerval soon = { .it_value.tv_usec = 20000 };

    sigaction(SIGALRM, &action, 0);
    alarms = 0;
    setitimer(ITIMER_REAL, &soon, 0);
}

static pid_t child(void)
{
    pid_t pid = fork();
    struct timespec later = { .tv_nsec = 80000000 };

    if (!pid) {
        nanosleep(&later, 0);
        if (write(ends[1], "x", 1) != 1)
            _exit(1);
        _exit(5);
    }
    return pid;
}

static void say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s, %d alarm\n", what, strerror(errno), alarms);
    else
        printf("%s: %ld, %d alarm\n", what, result, alarms);
}

int main(void)
{
    struct timespec wanted = { .tv_sec = 1 }, left = { 0 };
    sigset_t alarm_only, before, after;
    char byte;
    int status, opened = 3;

    if (pipe(ends) || pipe(gate))
        return 1;

    pid_t pid = child();
    prepare(SA_RESTART);
    say("read with SA_RESTART", read(ends[0], &byte, 1));
    waitpid(pid, 0, 0);

    pid = child();
    prepare(0);
    say("read without", read(ends[0], &byte, 1));
    prepare(SA_RESTART);
    pid_t waited = waitpid(pid, &status, 0);
    printf("wait with SA_RESTART: %s, status %d, %d alarm\n", waited == pid ? "the child" : "?", WEXITSTATUS(status), alarms);
    say("read then", read(ends[0], &byte, 1));
    while (read(gate[0], &byte, 1) == 1 && --opened)
        ;
    if (!(pid = fork()))
        _exit(read(gate[0], &byte, 1) == 1 ? 6 : 1);
    prepare(SA_RESTART);
    waitpid(pid, &status, 0);
    printf("wait for what the handler does: status %d, %d alarm\n", WEXITSTATUS(status), alarms);

    prepare(SA_RESTART);
    int slept = nanosleep(&wanted, &left);
    printf("nanosleep: %d, %s left, %d alarm\n", slept, left.tv_sec == 0 && left.tv_nsec > 900000000 ? "about 0.98 s" : "?",
           alarms);
    struct timespec moment = { .tv_nsec = 20000000 }, stopped = { .tv_nsec = 600000000 }, began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    if (!(pid = fork())) {
        nanosleep(&wanted, 0);
        _exit(7);
    }
    nanosleep(&moment, 0);
    kill(pid, SIGSTOP);
    nanosleep(&stopped, 0);
    kill(pid, SIGCONT);
    waitpid(pid, &status, 0);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    long took = (ended.tv_sec - began.tv_sec) * 1000 + (ended.tv_nsec - began.tv_nsec) / 1000000;
    printf("stopped for 0.6 s of 1 s: status %d, %s\n", WEXITSTATUS(status),
           took < 990 ? "early" : took > 1450 ? "late" : "in time");
    struct pollfd each = { .fd = ends[0], .events = POLLIN };
    prepare(SA_RESTART);
    say("poll", poll(&each, 1, 1000));
    errno = 0;
    prepare(SA_RESTART);
    say("pause", pause());

    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    sigprocmask(SIG_BLOCK, &alarm_only, &before);
    prepare(SA_RESTART);
    struct timespec more = { .tv_nsec = 50000000 };
    nanosleep(&more, 0);
    printf("blocked: %d alarm", alarms);
    sigpending(&after);
    printf(", pending %d\n", sigismember(&after, SIGALRM));
    say("sigsuspend", sigsuspend(&before));
    sigprocmask(SIG_SETMASK, 0, &after);
    printf("afterwards blocked: %d\n", sigismember(&after, SIGALRM));
    return 0;
}
