/* timers: alarm, and the three interval timers.
 *
 * A periodic timer counts while the program sleeps, until it is cleared; the virtual ones count only while it runs.  alarm
 * is called by its number, since some C libraries make it of setitimer. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int ticks[65];

static void handler(int number)
{
    ticks[number]++;
}

static void set(int which, long first, long period)
{
    struct itimerval value = { .it_value.tv_usec = first, .it_interval.tv_usec = period };

    setitimer(which, &value, 0);
}

int main(void)
{
    struct sigaction action = { .sa_handler = handler };
    struct itimerval left;
    struct timespec half = { .tv_nsec = 500000000 };

    sigaction(SIGALRM, &action, 0);
    sigaction(SIGVTALRM, &action, 0);
    sigaction(SIGPROF, &action, 0);

    set(ITIMER_REAL, 20000, 20000);
    while (ticks[SIGALRM] < 5)
        pause();
    set(ITIMER_REAL, 0, 0);
    printf("timers: %d ticks while it waited\n", ticks[SIGALRM]);

    set(ITIMER_VIRTUAL, 10000, 0);
    nanosleep(&half, 0);
    printf("timers: %d virtual tick in sleep, still %d others\n", ticks[SIGVTALRM], ticks[SIGALRM]);
    while (!ticks[SIGVTALRM])
        ;
    printf("timers: %d virtual tick at work\n", ticks[SIGVTALRM]);

    set(ITIMER_PROF, 2000, 2000);
    while (ticks[SIGPROF] < 3)
        ;
    set(ITIMER_PROF, 0, 0);
    printf("timers: %d profiling ticks\n", ticks[SIGPROF]);

    syscall(SYS_alarm, 100);
    unsigned first = syscall(SYS_alarm, 7), second = syscall(SYS_alarm, 0);
    printf("timers: alarm had %u left, then %u\n", first, second);
    set(ITIMER_REAL, 900000, 0);
    getitimer(ITIMER_REAL, &left);
    printf("timers: some of 0.9 s left: %d\n", left.it_value.tv_sec == 0 && left.it_value.tv_usec > 800000);
    return 0;
}
