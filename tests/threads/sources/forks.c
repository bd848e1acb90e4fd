/* fork in a thread, atfork handlers, and mutexes and conditions in memory that processes share. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct shared {
    pthread_mutex_t mutex, robust;
    pthread_cond_t changed;
    pthread_barrier_t barrier;
    int count, turn;
};

static struct shared *shared;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;

static void before(void) { pthread_mutex_lock(&held); printf("before\n"); }
static void after_here(void) { pthread_mutex_unlock(&held); }
static void after_there(void) { printf("child\n"); pthread_mutex_unlock(&held); }

static int threads_now(void)
{
    char line[200];
    int found = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "Threads: %d", &found) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return found;
}

static void *forker(void *argument)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        printf("the child has %d thread, its main: %d\n", threads_now(), getpid() == syscall(SYS_gettid));
        fflush(stdout);
        _exit(7);
    }
    waitpid(child, &status, 0);
    printf("status %d\n", WEXITSTATUS(status));
    return argument;
}

static void *sleeper(void *argument) { pause(); return argument; }

static void *dies_with_it(void *argument)
{
    pthread_mutex_lock(&shared->robust);
    return argument;
}

static void *waits_for_it(void *argument)
{
    int error = pthread_mutex_lock(&shared->robust);
    printf("a waiter got %s\n", strerror(error));
    pthread_mutex_consistent(&shared->robust);
    pthread_mutex_unlock(&shared->robust);
    return argument;
}

int main(void)
{
    pthread_t thread, other;
    pthread_mutexattr_t attributes;
    pthread_condattr_t condition;
    pthread_barrierattr_t meeting;
    int status;

    setvbuf(stdout, NULL, _IONBF, 0);
    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_create(&other, NULL, sleeper, NULL);
    pthread_atfork(before, after_here, after_there);
    pthread_create(&thread, NULL, forker, NULL);
    pthread_join(thread, NULL);

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&shared->robust, &attributes);
    pthread_condattr_init(&condition);
    pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&shared->changed, &condition);
    pthread_barrierattr_init(&meeting);
    pthread_barrierattr_setpshared(&meeting, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->barrier, &meeting, 2);
    pid_t child = fork();
    for (int i = 0; i < 20; i++) {
        pthread_mutex_lock(&shared->mutex);
        while (shared->turn != (child == 0))
            pthread_cond_wait(&shared->changed, &shared->mutex);
        shared->count += child == 0 ? 1 : 100;
        shared->turn = child != 0;
        pthread_cond_signal(&shared->changed);
        pthread_mutex_unlock(&shared->mutex);
    }
    if (child == 0) {
        pthread_mutex_lock(&shared->robust);
        pthread_barrier_wait(&shared->barrier);
        raise(SIGKILL);
    }
    pthread_barrier_wait(&shared->barrier);
    int error = pthread_mutex_lock(&shared->robust);
    waitpid(child, &status, 0);
    printf("count %d, killed by %d, then %s\n", shared->count, WTERMSIG(status), strerror(error));
    printf("consistent %d", pthread_mutex_consistent(&shared->robust));
    printf(", unlock %d\n", pthread_mutex_unlock(&shared->robust));

    pthread_create(&thread, NULL, dies_with_it, NULL);
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, waits_for_it, NULL);
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, dies_with_it, NULL);
    pthread_join(thread, NULL);
    printf("%s", strerror(pthread_mutex_trylock(&shared->robust)));
    pthread_mutex_unlock(&shared->robust);
    printf(", given up: %s\n", strerror(pthread_mutex_lock(&shared->robust)));
    return 0;
}
