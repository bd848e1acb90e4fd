/* Timers that start a thread, signal one thread, or count a thread's own time; a descriptor for a process of threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static sem_t called, ready;
static int elsewhere, taken_by;
static __thread int number;
static pid_t tid;
static volatile int stop;

static void callback(union sigval value)
{
    elsewhere = value.sival_int == 42 && syscall(SYS_gettid) != getpid();
    sem_post(&called);
}

static void handler(int signal)
{
    (void)signal;
    taken_by = number;
    stop = 1;
    sem_post(&called);
}

static void *waits(void *argument)
{
    number = 7;
    tid = (pid_t)syscall(SYS_gettid);
    sem_post(&ready);
    while (!stop)
        usleep(500);
    return argument;
}

static void *works(void *argument)
{
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    struct itimerspec span = {.it_value = {0, 3000000}};
    struct timespec spent;

    number = 8;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);
    timer_settime(timer, 0, &span, NULL);
    while (!stop)
        ;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    printf("its own time %d", spent.tv_sec || spent.tv_nsec >= 3000000);
    timer_delete(timer);
    return argument;
}

static void *pauses(void *argument) { pause(); return argument; }

int main(void)
{
    timer_t timer;
    pthread_t thread;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = callback};
    struct itimerspec span = {.it_value = {0, 2000000}};

    setvbuf(stdout, NULL, _IONBF, 0);
    sem_init(&called, 0, 0);
    sem_init(&ready, 0, 0);
    signal(SIGUSR1, handler);
    event.sigev_value.sival_int = 42;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &span, NULL);
    while (sem_wait(&called))
        ;
    printf("called in a thread of its own: %d\n", elsewhere);
    timer_delete(timer);

    pthread_create(&thread, NULL, waits, NULL);
    sem_wait(&ready);
    memset(&event, 0, sizeof event);
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event.sigev_notify_thread_id = tid;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &span, NULL);
    pthread_join(thread, NULL);
    printf("taken by %d", taken_by);
    event.sigev_notify_thread_id = getppid();
    printf(", another's thread %d", timer_create(CLOCK_MONOTONIC, &event, &timer));
    printf(" %s\n", strerror(errno));
    stop = 0;
    pthread_create(&thread, NULL, works, NULL);
    pthread_join(thread, NULL);
    printf(", taken by %d\n", taken_by);

    pid_t child = fork();
    if (child == 0) {
        pthread_create(&thread, NULL, pauses, NULL);
        usleep(1000);
        kill(getpid(), SIGTERM);
        pause();
    }
    int fd = (int)syscall(434, child, 0);
    struct pollfd poll_on = {.fd = fd, .events = POLLIN};
    printf("ended: %d", poll(&poll_on, 1, 10000));
    siginfo_t info;
    waitid((idtype_t)3, (id_t)fd, &info, WEXITED);
    printf(", by %d\n", info.si_status);
    return 0;
}
