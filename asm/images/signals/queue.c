/* queue: standard signals are flags, real-time signals a queue.
 *
 * While all are blocked a process sends itself some, with values.  Unblocked, the lowest number comes first; of one
 * real-time signal all come, in the order of sending, with their values; of SIGUSR1 only one. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int order[32], count, nested, deepest;

static void handler(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (++nested > deepest)
        deepest = nested;
    order[count++] = number == SIGUSR1 ? 1 : (number - SIGRTMIN) * 100 + info->si_value.sival_int;
    nested--;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
    struct timespec none = { 0 };
    siginfo_t info;
    sigset_t all, before, one;

    sigfillset(&all);
    action.sa_mask = all;
    for (int number = SIGRTMIN; number <= SIGRTMIN + 3; number++)
        sigaction(number, &action, 0);
    sigaction(SIGUSR1, &action, 0);
    sigprocmask(SIG_BLOCK, &all, &before);
    for (int value = 1; value <= 3; value++) {
        sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ .sival_int = value });
        sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 10 * value });
        kill(getpid(), SIGUSR1);
    }
    sigqueue(getpid(), SIGRTMIN + 3, (union sigval){ .sival_int = 77 });

    sigemptyset(&one);
    sigaddset(&one, SIGRTMIN + 3);
    int waited = sigtimedwait(&one, &info, &none);
    printf("queue: sigtimedwait RT+%d, value %d, code %d, from me %d\n", waited - SIGRTMIN, info.si_value.sival_int,
           info.si_code, info.si_pid == getpid());
    printf("queue: none left %d\n", sigtimedwait(&one, &info, &none));
    sigprocmask(SIG_SETMASK, &before, 0);
    printf("queue:");
    for (int at = 0; at < count; at++)
        printf(" %d", order[at]);
    printf(", %d at a time\n", deepest);
    return 0;
}
