/* Signals to a thread and to the process, masks and pending sets, sigwait, alternate stacks, faults. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t ready, seen;
static __thread int number;
static __thread sigjmp_buf back;
static __thread char stack[16384];
static volatile int by[80], stacks, caught;

static void handler(int signal)
{
    by[signal] = number;
    sem_post(&seen);
}

static void on_stack(int signal)
{
    char here;
    stacks += &here >= stack && &here < stack + sizeof stack;
    (void)signal;
    sem_post(&seen);
}

static void fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_addr == (void *)(long)(0x100 * number))
        __sync_fetch_and_add(&caught, 1);
    siglongjmp(back, signal);
}

static void *listens(void *argument)
{
    number = (int)(long)argument;
    sem_post(&ready);
    for (;;)
        pause();
    return NULL;
}

static void *takes_usr1(void *argument)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    return listens(argument);
}

static void *waits(void *argument)
{
    sigset_t set;
    int got;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGRTMIN + 3);
    sem_post(&ready);
    for (int i = 0; i < 3; i++) {
        siginfo_t info;
        got = sigwaitinfo(&set, &info);
        printf("sigwait: %s, code %d, value %d\n", got == SIGUSR2 ? "USR2" : "RT", info.si_code,
               info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
        sem_post(&seen);
    }
    return argument;
}

static void *faults(void *argument)
{
    sigset_t set;
    number = (int)(long)argument;
    sigemptyset(&set);
    sigaddset(&set, SIGSEGV);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (int i = 0; i < 20; i++)
        if (!sigsetjmp(back, 1))
            *(volatile int *)(long)(0x100 * number) = 1;
    return NULL;
}

static void *with_stack(void *argument)
{
    stack_t mine = {.ss_sp = stack, .ss_size = sizeof stack}, found;
    sigaltstack(NULL, &found);
    printf("a new thread's stack is disabled: %d\n", found.ss_flags == SS_DISABLE);
    sigaltstack(&mine, NULL);
    pthread_kill(pthread_self(), SIGHUP);
    return argument;
}

int main(void)
{
    pthread_t one, two, three;
    sigset_t all, pending;
    struct sigaction action = {.sa_handler = handler};

    setvbuf(stdout, NULL, _IONBF, 0);
    sem_init(&ready, 0, 0);
    sem_init(&seen, 0, 0);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGCHLD, &action, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pthread_create(&one, NULL, takes_usr1, (void *)1L);
    pthread_create(&two, NULL, listens, (void *)2L);
    sem_wait(&ready);
    sem_wait(&ready);
    kill(getpid(), SIGUSR1);
    sem_wait(&seen);
    printf("USR1 for the process went to thread %d\n", by[SIGUSR1]);
    pthread_kill(two, SIGUSR1);
    pthread_kill(one, SIGUSR1);
    sem_wait(&seen);
    printf("USR1 for each: thread %d, the other keeps it\n", by[SIGUSR1]);
    kill(getpid(), SIGTERM);
    raise(SIGUSR2);
    sigpending(&pending);
    printf("pending here: TERM %d USR2 %d USR1 %d\n", sigismember(&pending, SIGTERM), sigismember(&pending, SIGUSR2),
           sigismember(&pending, SIGUSR1));
    struct timespec none = {0};
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    printf("taken: %d\n", sigtimedwait(&term, NULL, &none) == SIGTERM);
    printf("again: %d", sigtimedwait(&term, NULL, &none));
    printf(" %s\n", strerror(errno));
    sigemptyset(&term);
    sigaddset(&term, SIGUSR2);
    sigtimedwait(&term, NULL, &none);

    pthread_create(&three, NULL, waits, NULL);
    sem_wait(&ready);
    kill(getpid(), SIGUSR2);
    sem_wait(&seen);
    pthread_kill(three, SIGUSR2);
    sem_wait(&seen);
    union sigval value = {.sival_int = 33};
    pthread_sigqueue(three, SIGRTMIN + 3, value);
    pthread_join(three, NULL);
    sem_wait(&seen);

    sigset_t alarm_set;
    sigemptyset(&alarm_set);
    sigaddset(&alarm_set, SIGALRM);
    sigaddset(&alarm_set, SIGCHLD);
    pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
    number = 9;
    struct itimerval soon = {.it_value = {0, 3000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    while (sem_wait(&seen))
        ;
    printf("ALRM went to %d\n", by[SIGALRM]);
    pid_t child = fork();
    if (child == 0)
        _exit(3);
    while (sem_wait(&seen))
        ;
    printf("CHLD went to %d, waited %d\n", by[SIGCHLD], waitpid(child, NULL, 0) == child);

    action.sa_sigaction = fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    pthread_t faulty[3];
    for (long i = 0; i < 3; i++)
        pthread_create(&faulty[i], NULL, faults, (void *)(i + 1));
    for (int i = 0; i < 3; i++)
        pthread_join(faulty[i], NULL);
    printf("each fault at its own address: %d\n", caught);

    action.sa_handler = on_stack;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGHUP, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, &all, NULL);
    for (int i = 0; i < 3; i++) {
        pthread_create(&three, NULL, with_stack, NULL);
        pthread_join(three, NULL);
    }
    printf("handlers on stacks of their threads: %d\n", stacks);
    printf("no such thread: %ld", syscall(SYS_tgkill, getpid(), getpid() + 100000, 0));
    printf(" %s", strerror(errno));
    printf(", another process: %ld", syscall(SYS_tgkill, 1, getpid(), 0));
    printf(" %s", strerror(errno));
    printf(", zero: %ld", syscall(SYS_tkill, 0, 0));
    printf(" %s\n", strerror(errno));
    return 0;
}
