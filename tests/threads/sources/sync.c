/* Mutexes of three kinds, conditions, a barrier, a reader-writer lock, semaphores, once, thread-local data and keys. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define THREADS 6

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t slots, items;
static pthread_key_t key;
static __thread int mine = 40;
static __thread char text[100] = "of its own";
static int total, initialised, destroyed, turn, serials, readers_saw[THREADS], shared_pair[2], values[THREADS];

static void initialise(void) { initialised++; }
static void destroy(void *value) { __sync_fetch_and_add(&destroyed, *(int *)value); }

static void *work(void *argument)
{
    int number = (int)(long)argument;

    pthread_once(&once, initialise);
    values[number] = number;
    pthread_setspecific(key, &values[number]);
    mine += number;
    snprintf(text, sizeof text, "thread %d", number);
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&mutex);
        total += number;
        pthread_mutex_unlock(&mutex);
    }
    if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
        __sync_fetch_and_add(&serials, 1);
    pthread_mutex_lock(&mutex);
    while (turn != number)
        pthread_cond_wait(&changed, &mutex);
    printf("turn %d: mine %d, text \"%s\", key %d\n", number, mine, text, *(int *)pthread_getspecific(key));
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < 50; i++) {
        if (i % 10 == number) {
            pthread_rwlock_wrlock(&rwlock);
            shared_pair[0]++;
            shared_pair[1]++;
            pthread_rwlock_unlock(&rwlock);
        } else {
            pthread_rwlock_rdlock(&rwlock);
            readers_saw[number] += shared_pair[0] != shared_pair[1];
            pthread_rwlock_unlock(&rwlock);
        }
    }
    pthread_barrier_wait(&barrier);
    return (void *)(long)(mine * 2);
}

static void *produce(void *argument)
{
    (void)argument;
    for (int i = 0; i < 100; i++) {
        sem_wait(&slots);
        turn = i;
        sem_post(&items);
    }
    return NULL;
}

static void kinds_of_mutex(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t checked, recursive;
    struct timespec soon;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checked, &attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    printf("unlock %s", strerror(pthread_mutex_unlock(&checked)));
    printf(", lock %d", pthread_mutex_lock(&checked));
    printf(", lock again %s\n", strerror(pthread_mutex_lock(&checked)));
    printf("recursive %d", pthread_mutex_lock(&recursive));
    printf(" %d", pthread_mutex_lock(&recursive));
    for (int i = 0; i < 3; i++)
        printf(" %d", pthread_mutex_unlock(&recursive));
    printf("\n");
    pthread_mutex_lock(&mutex);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 2000000;
    soon.tv_sec += soon.tv_nsec / 1000000000;
    soon.tv_nsec %= 1000000000;
    printf("timed wait %s", strerror(pthread_cond_timedwait(&changed, &mutex, &soon)));
    printf(", timed lock %s", strerror(pthread_mutex_timedlock(&mutex, &soon)));
    printf(", try %s\n", strerror(pthread_mutex_trylock(&mutex)));
    pthread_mutex_unlock(&mutex);
    printf("semaphore %d", sem_trywait(&items));
    printf(" %s", strerror(errno));
    printf(", timed %d", sem_timedwait(&items, &soon));
    printf(" %s\n", strerror(errno));
}

int main(void)
{
    pthread_t threads[THREADS], producer;
    long sum = 0;
    int torn = 0, taken = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
    pthread_barrier_init(&barrier, NULL, THREADS);
    pthread_key_create(&key, destroy);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)i);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
        torn += readers_saw[i];
    }
    printf("total %d, results %ld, mine here %d, initialised %d, destroyed %d, serial %d, torn %d, pair %d\n", total, sum,
           mine, initialised, destroyed, serials, torn, shared_pair[0]);
    sem_init(&slots, 0, 1);
    sem_init(&items, 0, 0);
    pthread_create(&producer, NULL, produce, NULL);
    for (int i = 0; i < 100; i++) {
        sem_wait(&items);
        taken += turn == i;
        sem_post(&slots);
    }
    pthread_join(producer, NULL);
    printf("taken in order: %d\n", taken);
    kinds_of_mutex();
    return 0;
}
