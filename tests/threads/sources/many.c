/* A thousand short threads, some detached, and a pipe between producers and consumers. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int ends[2], made;
static long produced, consumed;

static void *brief(void *argument) { __sync_fetch_and_add(&made, 1); return argument; }

static void *produce(void *argument)
{
    for (int i = 0; i < 200; i++) {
        int value = (int)(long)argument * 1000 + i;
        (void)!write(ends[1], &value, sizeof value);
        __sync_fetch_and_add(&produced, value);
    }
    return NULL;
}

static void *consume(void *argument)
{
    int value;
    while (read(ends[0], &value, sizeof value) == sizeof value)
        __sync_fetch_and_add(&consumed, value);
    return argument;
}

int main(void)
{
    pthread_t threads[8];
    pthread_attr_t detached;
    long right = 0;

    pthread_attr_init(&detached);
    pthread_attr_setstacksize(&detached, 65536);
    for (long i = 0; i < 900; i++) {
        pthread_t thread;
        void *result;
        pthread_create(&thread, &detached, brief, (void *)i);
        pthread_join(thread, &result);
        right += (long)result == i;
    }
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        while (pthread_create(&thread, &detached, brief, NULL))
            sched_yield();
    }
    while (__sync_fetch_and_add(&made, 0) < 1000)
        sched_yield();
    printf("made %d, results %ld\n", made, right);
    (void)!pipe(ends);
    for (long i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, i % 2 ? produce : consume, (void *)i);
    for (int i = 1; i < 8; i += 2)
        pthread_join(threads[i], NULL);
    close(ends[1]);
    for (int i = 0; i < 8; i += 2)
        pthread_join(threads[i], NULL);
    printf("produced %ld, lost %ld\n", produced, produced - consumed);
    return 0;
}
