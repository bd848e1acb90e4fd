/* Cancellation: of what waits in a call, of what runs, and of what has it disabled; cleanup handlers run. */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <unistd.h>

static sem_t started;
static int ends[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static volatile int go;

static void say(void *what) { printf("cleanup %s\n", (char *)what); }
static void unlock(void *what) { pthread_mutex_unlock(what); }

static void *in_read(void *argument)
{
    char byte;
    pthread_cleanup_push(say, "of a read");
    sem_post(&started);
    (void)!read(ends[0], &byte, 1);
    pthread_cleanup_pop(0);
    return argument;
}

static void *in_wait(void *argument)
{
    pthread_cleanup_push(say, "of a wait");
    pthread_mutex_lock(&mutex);
    pthread_cleanup_push(unlock, &mutex);
    sem_post(&started);
    for (;;)
        pthread_cond_wait(&never, &mutex);
    pthread_cleanup_pop(1);
    pthread_cleanup_pop(0);
    return argument;
}

static void *running(void *argument)
{
    pthread_cleanup_push(say, "of a loop");
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    sem_post(&started);
    for (;;)
        __asm__ volatile("" ::: "memory");
    pthread_cleanup_pop(0);
    return argument;
}

static void *disabled(void *argument)
{
    int before;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    sem_post(&started);
    while (!go)
        usleep(100);
    printf("not cancelled while disabled\n");
    pthread_setcancelstate(before, NULL);
    pthread_testcancel();
    printf("never reached\n");
    return argument;
}

static void *sleeping(void *argument)
{
    pthread_cleanup_push(say, "of a sleep");
    sem_post(&started);
    sleep(1000);
    pthread_cleanup_pop(0);
    return argument;
}

int main(void)
{
    void *(*kinds[])(void *) = {in_read, in_wait, running, disabled, sleeping};

    setvbuf(stdout, NULL, _IONBF, 0);
    (void)!pipe(ends);
    sem_init(&started, 0, 0);
    for (int i = 0; i < 5; i++) {
        pthread_t thread;
        void *result = NULL;
        go = 0;
        pthread_create(&thread, NULL, kinds[i], NULL);
        sem_wait(&started);
        usleep(2000);
        pthread_cancel(thread);
        go = 1;
        pthread_join(thread, &result);
        printf("%d cancelled: %d\n", i, result == PTHREAD_CANCELED);
    }
    printf("the mutex is free: %d\n", pthread_mutex_trylock(&mutex));
    return 0;
}
