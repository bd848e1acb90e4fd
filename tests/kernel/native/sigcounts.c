/* RLIMIT_SIGPENDING counts what is queued for a user, not for a process: setrlimit(2), sigqueue(3), timer_create(2). */
#define _GNU_SOURCE
#include "posix.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

static int queued(void)
{
    char text[4096], *found;
    int file = open("/proc/self/status", O_RDONLY), got = read(file, text, sizeof text - 1);
    close(file);
    text[got] = 0;
    found = strstr(text, "SigQ:");
    return found ? atoi(found + 5) : -1;
}

static void show(const char *what)
{
    printf("%s: %d\n", what, queued());
    fflush(stdout);
}

static int queue(int number)
{
    union sigval value = {7};
    return sigqueue(getpid(), number, value) ? -errno : 0;
}

static void others(void)
{
    int told[2], wait_for[2];
    char byte;
    siginfo_t info;
    pipe(told);
    pipe(wait_for);
    pid_t child = fork();
    if (!child) {
        queue(40);
        queue(40);
        show("in a child with two more");
        write(told[1], "x", 1);
        read(wait_for[0], &byte, 1);
        _exit(0);
    }
    read(told[0], &byte, 1);
    show("its parent");
    kill(child, SIGKILL);
    waitid(P_PID, child, &info, WEXITED | WNOWAIT);
    show("it is dead");
    waitpid(child, 0, 0);
    show("it is buried");
}

static void timers(void)
{
    timer_t first, second;
    struct sigevent none = {.sigev_notify = SIGEV_NONE};
    timer_create(CLOCK_MONOTONIC, 0, &first);
    show("a timer");
    timer_create(CLOCK_MONOTONIC, &none, &second);
    show("one that tells nobody");
    timer_delete(first);
    timer_delete(second);
    show("none");
    timer_create(CLOCK_MONOTONIC, 0, &first);
    pid_t child = fork();
    if (!child) {
        timer_create(CLOCK_MONOTONIC, 0, &second);
        show("one in a child too");
        _exit(0);
    }
    waitpid(child, 0, 0);
    show("that child is gone");
    timer_delete(first);
}

static void limit(void)
{
    timer_t timer;
    struct rlimit limit = {queued() + 1, queued() + 1};
    setrlimit(RLIMIT_SIGPENDING, &limit);
    int first = queue(41), second = queue(41);
    printf("up to the limit %d, beyond it %d\n", first, second);
    printf("a timer %d\n", timer_create(CLOCK_MONOTONIC, 0, &timer) ? -errno : 0);
    printf("kill %d\n", kill(getpid(), SIGUSR2));
    show("kill is queued all the same");
    printf("kill of a real-time one %d\n", kill(getpid(), 45));
    show("known to wait, without a place");
}

static void one_user(void)
{
    struct timespec now = {0, 0};
    sigset_t set;
    setresuid(54321, 54321, 54321);
    show("at first");
    for (int times = 0; times < 3; times++)
        queue(34);
    show("three queued");
    kill(getpid(), SIGUSR1);
    show("and one of kill's");
    kill(getpid(), SIGUSR1);
    show("which waits once");
    others();
    timers();
    sigemptyset(&set);
    sigaddset(&set, 34);
    sigtimedwait(&set, 0, &now);
    show("one was taken");
    signal(SIGUSR1, SIG_IGN);
    show("one is ignored now");
    limit();
    _exit(0);
}

static void two_users(void)
{
    setresuid(54322, 0, 0);
    queue(34);
    show("of the first user");
    setresuid(54323, 0, 0);
    show("of the second");
    queue(34);
    show("after one of its own");
    setresuid(54322, 0, 0);
    show("the first again");
    _exit(0);
}

int main(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, 0);
    if (!fork())
        one_user();
    wait(0);
    if (!fork())
        two_users();
    wait(0);
    return 0;
}
