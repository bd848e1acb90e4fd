/* A thread ends and a process is killed while they hold robust mutexes: the next owner is told (EOWNERDEAD), for the
   kernel walks the list of what a thread holds when it ends (set_robust_list(2)). */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static pthread_mutex_t *mutexes;

static void *holds(void *argument)
{
    pthread_mutex_lock(&mutexes[0]);
    pthread_mutex_lock(&mutexes[1]);
    return argument;
}

static int next_owner(pthread_mutex_t *mutex, const char *what)
{
    int error = pthread_mutex_trylock(mutex);
    const char *said = error == EOWNERDEAD ? "its owner died" : error == EBUSY ? "it is locked" : "it is free";

    printf("%s: %s", what, said);
    printf(", made consistent: %d", pthread_mutex_consistent(mutex) == 0);
    printf(", unlocked: %d\n", pthread_mutex_unlock(mutex) == 0);
    return error != EOWNERDEAD;
}

int main(void)
{
    pthread_mutexattr_t attributes;
    pthread_t thread;
    int wrong = 0, status;

    mutexes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    for (int i = 0; i < 3; i++)
        pthread_mutex_init(&mutexes[i], &attributes);
    if (pthread_create(&thread, NULL, holds, NULL) || pthread_join(thread, NULL))
        return 1;
    wrong += next_owner(&mutexes[0], "the first of a thread");
    wrong += next_owner(&mutexes[1], "the second");
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        pthread_mutex_lock(&mutexes[2]);
        raise(SIGKILL);
    }
    waitpid(child, &status, 0);
    wrong += next_owner(&mutexes[2], "that of a process");
    return wrong;
}
