/* Processes with threads that end at once: by exit_group(2) in a thread, by a fault, by execve(2); each is a child that
   would else go on for ever. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *self;
static sem_t started;

static void kill_by_fault(void)
{
    __asm__ volatile("movl $1, 16");
}

static void *waits(void *argument)
{
    sem_post(&started);
    for (;;)
        pause();
    return argument;
}

static void *acts(void *argument)
{
    char pid[12];

    switch ((int)(long)argument) {
    case 0:
        _exit(7);
    case 1:
        kill_by_fault();
        break;
    case 2:
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        execl(self, self, pid, NULL);
    }
    return argument;
}

static void with_threads(int what)
{
    pthread_t thread;

    sem_init(&started, 0, 0);
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, NULL, waits, NULL);
    for (int i = 0; i < 3; i++)
        sem_wait(&started);
    pthread_create(&thread, NULL, acts, (void *)(long)what);
    alarm(2);                               /* what ends one thread only leaves a process that this ends */
    for (;;)
        pause();
}

int main(int count, char **arguments)
{
    static const char *const names[] = {"_exit", "a fault", "execve"};
    int wanted[] = {7 << 8, 11, 5 << 8}, wrong = 0;

    self = arguments[0];
    if (count == 2)
        return getpid() == atoi(arguments[1]) && getpid() == syscall(SYS_gettid) ? 5 : 6;
    for (int what = 0; what < 3; what++) {
        int status;
        pid_t child = fork();
        if (child == 0)
            with_threads(what);
        waitpid(child, &status, 0);
        printf("%s in a thread: status %#x\n", names[what], status & ~0x80);
        fflush(stdout);
        wrong += (status & ~0x80) != wanted[what];
    }
    return wrong;
}
