/* Threads on other CPUs store into a page that the main thread makes read-only and writable again.  While it is read-only
   it does not change: mprotect(2) comes back when no CPU has the old translation any more. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>

#define THREADS 3
#define ROUNDS 6

static int *page;
static volatile int stop, closed;
static sigjmp_buf back[THREADS];
static __thread int number;

static void fault(int signal)
{
    while (closed)
        ;
    siglongjmp(back[number], signal);
}

static void *stores(void *argument)
{
    number = (int)(long)argument;
    sigsetjmp(back[number], 1);
    while (!stop)
        for (int i = 0; i < 100; i++)
            ((volatile int *)page)[16 * number]++;
    return NULL;
}

static void spin(int count)
{
    for (volatile int i = 0; i < count; i++)
        ;
}

int main(void)
{
    pthread_t threads[THREADS];
    int changes = 0;

    signal(SIGSEGV, fault);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, stores, (void *)i);
    for (int round = 0; round < ROUNDS; round++) {
        int before[THREADS];
        spin(20000);
        closed = 1;
        mprotect(page, 4096, PROT_READ);
        for (int i = 0; i < THREADS; i++)
            before[i] = ((volatile int *)page)[16 * i];
        spin(20000);
        for (int i = 0; i < THREADS; i++)
            changes += before[i] != ((volatile int *)page)[16 * i];
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        closed = 0;
    }
    stop = 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("changes while it was read-only: %d\n", changes);
    return changes != 0;
}
