/* Four threads count under one mutex, take turns by a condition, and are joined: at a thread's end the kernel clears the
   word that clone(2) was given (CLONE_CHILD_CLEARTID) and wakes who waits there. */
#include <pthread.h>
#include <stdio.h>

#define THREADS 4
#define ROUNDS 200

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static __thread int mine;
static int total, turn;

static void *work(void *argument)
{
    int number = (int)(long)argument;

    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        total++;
        mine++;
        pthread_mutex_unlock(&mutex);
    }
    pthread_mutex_lock(&mutex);
    while (turn != number)
        pthread_cond_wait(&changed, &mutex);
    printf("thread %d counted %d\n", number, mine);
    turn++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    return argument;
}

int main(void)
{
    pthread_t threads[THREADS];
    long sum = 0;

    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            return 1;
    for (int i = 0; i < THREADS; i++) {
        void *result;
        if (pthread_join(threads[i], &result))
            return 2;
        sum += (long)result;
    }
    printf("all of them %d, results %ld, here %d\n", total, sum, mine);
    return total != THREADS * ROUNDS || mine;
}
