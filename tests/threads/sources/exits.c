/* Ways in which a process with threads ends, or another program takes its place; each in a child of its own. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_t first;
static char self[200];
static sem_t started;
static int ends[2];

static void *forever(void *argument)
{
    sem_post(&started);
    if (argument != NULL)
        for (;;)
            __asm__ volatile("" ::: "memory");
    for (;;)
        pause();
    return NULL;
}

static void some_threads(void)
{
    pthread_t thread;
    sem_init(&started, 0, 0);
    for (long i = 0; i < 3; i++)
        pthread_create(&thread, NULL, forever, (void *)(i % 2));
    for (int i = 0; i < 3; i++)
        sem_wait(&started);
}

static void *exits(void *argument) { exit((int)(long)argument); }
static void *faults(void *argument) { *(volatile int *)8 = 1; return argument; }
static void *aborts(void *argument) { signal(SIGABRT, SIG_DFL); abort(); return argument; }

static void *executes(void *argument)
{
    char number[20];
    snprintf(number, sizeof number, "%d", getpid());
    execl(self, self, "again", number, NULL);
    return argument;
}

static void *outlives(void *argument)
{
    pthread_join(first, NULL);
    usleep(1000);
    printf("the others go on: pid kept %d, tid other %d\n", getpid() == *(pid_t *)argument,
           syscall(SYS_gettid) != getpid());
    exit(4);
}

static void leader_first(void)
{
    static pid_t mine;
    pthread_t thread;
    mine = getpid();
    pthread_create(&thread, NULL, outlives, &mine);
    pthread_exit(NULL);
}

static void *last(void *argument) { usleep(2000); return argument; }

static void last_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, last, NULL);
    syscall(SYS_exit, 9);
}

static void in_thread(void *(*what)(void *), long argument)
{
    pthread_t thread;
    some_threads();
    pthread_create(&thread, NULL, what, (void *)argument);
    pause();
}

static void in_main(void) { some_threads(); exit(6); }
static void from_thread(void) { in_thread(exits, 5); }
static void by_fault(void) { in_thread(faults, 0); }
static void by_abort(void) { in_thread(aborts, 0); }
static void by_exec(void) { in_thread(executes, 0); }
static void exec_in_main(void) { some_threads(); executes(NULL); }
static void is_killed(void) { some_threads(); (void)!write(ends[1], "x", 1); pause(); }

static void report(const char *what, void (*act)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        first = pthread_self();
        act();
        _exit(99);
    }
    if (act == is_killed) {
        char byte;
        (void)!read(ends[0], &byte, 1);
        kill(child, SIGTERM);
    }
    waitpid(child, &status, 0);
    if (WIFEXITED(status))
        printf("%s: exit %d\n", what, WEXITSTATUS(status));
    else
        printf("%s: signal %d\n", what, WTERMSIG(status));
}

static void stops(void)
{
    int status;
    siginfo_t info;
    pid_t child = fork();
    if (child == 0)
        is_killed();
    char byte;
    (void)!read(ends[0], &byte, 1);
    kill(child, SIGSTOP);
    waitpid(child, &status, WUNTRACED);
    printf("stopped by %d", WSTOPSIG(status));
    printf(", once: %d", waitpid(child, &status, WUNTRACED | WNOHANG));
    kill(child, SIGCONT);
    waitpid(child, &status, WCONTINUED);
    printf(", continued %d", WIFCONTINUED(status));
    kill(child, SIGSTOP);
    waitid(P_PID, child, &info, WSTOPPED);
    printf(", stopped again %d", info.si_status);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    printf(", killed by %d\n", WTERMSIG(status));
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count == 3) {
        printf("the new program: pid kept %d, one thread %d\n", getpid() == atoi(arguments[2]),
               getpid() == syscall(SYS_gettid));
        return 8;
    }
    self[readlink("/proc/self/exe", self, sizeof self - 1)] = 0;
    (void)!pipe(ends);
    report("exit in main", in_main);
    report("exit in a thread", from_thread);
    report("a fault in a thread", by_fault);
    report("abort in a thread", by_abort);
    report("exec in a thread", by_exec);
    report("exec in main", exec_in_main);
    report("main ends first", leader_first);
    report("the last thread ends", last_thread);
    report("SIGTERM for the process", is_killed);
    stops();
    return 0;
}
