#include "posix.h"

static volatile int got, code, overrun, value, number;
static void handler(int sig, siginfo_t *info, void *context)
{
    got++;
    code = info->si_code, overrun = info->si_overrun, number = info->si_timerid;
    value = info->si_value.sival_int;
}

struct event { int value, signo, notify, tid; char pad[48]; } event;
static struct itimerspec spec, old;
static struct timespec now, zero;
static siginfo_t info;
static sigset_t set, pending, before;
static int timer;

static long create(int clock) { return syscall(SYS_timer_create, clock, &event, &timer); }
static long settime(int id, int flags) { return syscall(SYS_timer_settime, id, flags, &spec, &old); }
static long gettime(int id) { return syscall(SYS_timer_gettime, id, &old); }
static void times(long first, long period)
{
    memset(&spec, 0, sizeof spec);
    spec.it_value.tv_nsec = first, spec.it_interval.tv_nsec = period;
}
static void event_is(int notify, int signo, int tid) { event.notify = notify, event.signo = signo, event.tid = tid; }

static void clocks(void)
{
    char name[20];
    for (int clock = 0; clock < 14; clock++) {
        if (clock == 8 || clock == 9)   /* need a clock of the board's */
            continue;
        sprintf(name, "clock %d", clock);
        event_is(SIGEV_NONE, 0, 0);
        if (say(name, create(clock)) == 0)
            say("delete", syscall(SYS_timer_delete, timer));
    }
}

static void default_event(void)
{
    say("no event", syscall(SYS_timer_create, 1, 0, &timer));
    times(5000000, 0);
    say("settime", settime(timer, 0));
    printf("old %ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
    say("gettime", gettime(timer));
    printf("left %d\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 5000000);
    pause();
    printf("got %d code %d overrun %d its number %d %d\n", got, code, overrun, value == timer, number == timer);
    say("overrun", syscall(SYS_timer_getoverrun, timer));
    say("gettime", gettime(timer));
    printf("left %ld\n", old.it_value.tv_nsec);
    say("delete", syscall(SYS_timer_delete, timer));
    say("delete", syscall(SYS_timer_delete, timer));
    say("gettime", gettime(timer));
    say("overrun", syscall(SYS_timer_getoverrun, timer));
    say("settime", settime(timer, 0));
    say("null", syscall(SYS_timer_settime, timer, 0, 0, 0));
    say("bad", syscall(SYS_timer_settime, timer, 0, 4, 0));
}

static void events(void)
{
    event_is(SIGEV_SIGNAL, 0, 0), say("signal 0", create(0));
    event_is(SIGEV_SIGNAL, 65, 0), say("signal 65", create(0));
    event_is(SIGEV_SIGNAL, 64, 0), say("signal 64", create(0));
    event_is(4, 10, 1), say("thread 1", create(0));
    event_is(4, 10, getpid()), say("own thread", create(0));
    event_is(3, 10, 0), say("notify 3", create(0));
    event_is(2, 10, 0), say("notify 2", create(0));
    event_is(5, 10, 0), say("notify 5", create(0));
    say("bad event", syscall(SYS_timer_create, 0, 4, &timer));
    say("bad number", syscall(SYS_timer_create, 0, 0, 4));
}

static void overruns(void)
{
    event.value = 0x1234, event_is(SIGEV_SIGNAL, SIGUSR1, 0);
    say("periodic", create(CLOCK_MONOTONIC));
    times(10000000, 10000000);
    settime(timer, 0);
    pause_for(55000000);
    sigpending(&pending);
    printf("pending %d\n", sigismember(&pending, SIGUSR1));
    say("wait", sigwaitinfo(&set, &info));
    printf("code %d overrun %d value %x its number %d\n", info.si_code, info.si_overrun >= 4,
           info.si_value.sival_int, info.si_timerid == timer);
    printf("same %d\n", syscall(SYS_timer_getoverrun, timer) == info.si_overrun);
    gettime(timer);
    printf("period %ld left %d\n", old.it_interval.tv_nsec, old.it_value.tv_nsec <= 10000000 && old.it_value.tv_nsec > 0);
    times(0, 10000000);
    say("disarm", settime(timer, 0));
    printf("period %ld left %d\n", old.it_interval.tv_nsec, old.it_value.tv_nsec > 0);
    gettime(timer);
    printf("%ld %ld\n", old.it_interval.tv_nsec, old.it_value.tv_nsec);
}

static void two_and_a_kill(void)
{
    int first = timer, number;
    create(CLOCK_REALTIME);
    times(1000000, 0);
    kill(getpid(), SIGUSR1);
    settime(first, 0);
    settime(timer, 0);
    pause_for(20000000);
    while ((number = sigtimedwait(&set, &info, &zero)) > 0)
        printf("signal %d code %d overrun %d\n", number, info.si_code, info.si_overrun);
}

static void changed(void)
{
    times(1000000, 0), settime(timer, 0);
    pause_for(5000000);
    times(0, 0), settime(timer, 0);
    sigpending(&pending);
    printf("pending when disarmed %d\n", sigismember(&pending, SIGUSR1));
    say("and delivered", sigtimedwait(&set, &info, &zero));
    times(1000000, 0), settime(timer, 0);
    pause_for(5000000);
    settime(timer, 0);
    say("once", sigwaitinfo(&set, &info));
    say("not twice", sigtimedwait(&set, &info, &zero));
}

static void absolute(void)
{
    clock_gettime(CLOCK_REALTIME, &now);
    times(0, 0);
    now.tv_nsec += 5000000;
    if (now.tv_nsec >= 1000000000)
        now.tv_sec++, now.tv_nsec -= 1000000000;
    spec.it_value = now;
    say("absolute", settime(timer, TIMER_ABSTIME));
    say("wait", sigwaitinfo(&set, &info));
    clock_gettime(CLOCK_REALTIME, &zero);
    printf("after %d\n", zero.tv_sec > now.tv_sec || zero.tv_nsec >= now.tv_nsec);
    spec.it_value.tv_sec = 1;
    say("in the past", settime(timer, TIMER_ABSTIME));
    say("wait", sigwaitinfo(&set, &info));
    times(1000000000, 0), say("nanoseconds", settime(timer, 0));
    times(-1, 0), say("negative", settime(timer, 0));
    times(1, 0), spec.it_value.tv_sec = -1, say("seconds", settime(timer, 0));
    times(1000, 0), say("flags", settime(timer, 8));
    say("wait", sigwaitinfo(&set, &info));
}

static void cpu_time(void)
{
    event_is(SIGEV_SIGNAL, 40, 0);
    say("own time", create(CLOCK_PROCESS_CPUTIME_ID));
    times(20000000, 0);
    settime(timer, 0);
    pause_for(50000000);
    sigpending(&pending);
    printf("while asleep %d\n", sigismember(&pending, 40));
    do {
        for (volatile int at = 0; at < 100000; at++)
            ;
        sigpending(&pending);
    } while (!sigismember(&pending, 40));
    say("wait", sigwaitinfo(&set, &info));
    gettime(timer);
    printf("%ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
}

static void wide(void)
{
    long long next[4] = { 0, 0, 0, 300000000 }, left[4] = { 9, 9, 9, 9 };
    say("settime64", syscall(409, timer, 0, next, left));
    printf("%lld %lld %lld %lld\n", left[0], left[1], left[2], left[3]);
    say("gettime64", syscall(408, timer, left));
    printf("%lld %lld %lld %d\n", left[0], left[1], left[2], left[3] > 0 && left[3] <= 300000000);
    say("delete", syscall(SYS_timer_delete, timer));
}

static void nobody(void)
{
    event_is(SIGEV_NONE, 0, 0);
    create(CLOCK_BOOTTIME);
    times(500000000, 0), settime(timer, 0), gettime(timer);
    printf("left %d\n", old.it_value.tv_nsec > 0);
    times(5000000, 0), settime(timer, 0);
    pause_for(10000000), gettime(timer);
    printf("%ld %ld\n", old.it_value.tv_sec, old.it_value.tv_nsec);
    times(5000000, 4000000), settime(timer, 0);
    pause_for(10000000), gettime(timer);
    printf("%d %ld\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 4000000, old.it_interval.tv_nsec);
    say("overrun", syscall(SYS_timer_getoverrun, timer));
}

static void ignored(void)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    signal(SIGUSR1, SIG_IGN);
    event_is(SIGEV_SIGNAL, SIGUSR1, 0);
    sigprocmask(SIG_SETMASK, &before, 0);
    create(CLOCK_MONOTONIC);
    times(1000000, 4000000), settime(timer, 0);
    pause_for(10000000), gettime(timer);
    printf("goes on %d\n", old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 4000000);
    got = 0;
    sigaction(SIGUSR1, &action, 0);
    while (!got)
        pause_for(10000000);
    printf("heard again\n");
    times(0, 0), settime(timer, 0);
}

static void children(char **argv)
{
    fflush(stdout);
    if (!fork()) {
        say("child's gettime", gettime(timer));
        say("child's own", create(1));
        printf("%d\n", timer);
        fflush(stdout);
        event_is(SIGEV_SIGNAL, SIGKILL, 0), create(1);
        times(200000000, 0), settime(timer, 0);
        execl(argv[0], argv[0], "again", (char *)0);
    }
    int status;
    wait(&status);
    printf("after exec %x\n", status);
}

int main(int count, char **argv)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    if (count > 1) {
        pause_for(300000000);
        return 5;
    }
    sigaction(SIGALRM, &action, 0);
    clocks();
    default_event();
    events();
    sigaddset(&set, SIGUSR1), sigaddset(&set, 40);
    sigprocmask(SIG_BLOCK, &set, &before);
    overruns(), two_and_a_kill(), changed(), absolute(), cpu_time(), wide(), nobody(), ignored();
    children(argv);
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_SIGPENDING, &none);
    say("no room", create(1));
    return 0;
}
