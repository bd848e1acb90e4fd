/* A name that another thread gives, ids that all threads take, and a thread of the first program that executes. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static char *self;
static unsigned ids[2];
static pthread_barrier_t barrier;

static void *looks(void *argument)
{
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    ids[(long)argument] = getuid();
    return NULL;
}

static void *executes(void *argument)
{
    char number[20];
    snprintf(number, sizeof number, "%d", getpid());
    execl(self, self, number, NULL);
    exit(argument == NULL);
}

int main(int count, char **arguments)
{
    pthread_t threads[2], thread;
    char name[16] = "";

    self = arguments[0];
    setvbuf(stdout, NULL, _IONBF, 0);
    if (count == 2) {
        printf("pid kept %d, tid %d\n", getpid() == atoi(arguments[1]), getpid() == syscall(SYS_gettid));
        return 12;
    }
    pthread_barrier_init(&barrier, NULL, 3);
    for (long i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, looks, (void *)i);
    pthread_barrier_wait(&barrier);
    printf("named %d", pthread_setname_np(threads[1], "second"));
    pthread_getname_np(threads[1], name, sizeof name);
    printf(" %s\n", name);
    printf("setuid %d", setuid(1000));
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    printf(", all of them %u %u\n", ids[0], ids[1]);
    pthread_create(&thread, NULL, executes, NULL);
    for (;;)
        pause();
}
