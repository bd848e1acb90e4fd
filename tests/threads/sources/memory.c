/* mmap, mprotect, munmap, mremap and madvise while other threads use the pages: what they may see, and no more. */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096
#define READERS 3
#define ROUNDS 12

static __thread sigjmp_buf back;
static __thread int expecting;
static char *volatile page;
static volatile int stop, closed;
static int faults;
static pthread_barrier_t barrier;

static void fault(int signal)
{
    (void)signal;
    if (!expecting)
        _Exit(33);
    while (closed)
        ;
    siglongjmp(back, 1);
}

static void *pokes(void *argument)
{
    long mine = (long)argument;
    expecting = 1;
    while (!stop) {
        if (sigsetjmp(back, 1))
            __sync_fetch_and_add(&faults, 1);
        else
            *(volatile int *)(page + 16 * mine) += 1;
    }
    return NULL;
}

/* While the page is read-only, nobody changes it: a stale translation on another CPU would. */
static void protections(void)
{
    pthread_t threads[READERS];
    int changed = 0;
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, pokes, (void *)i);
    for (int round = 0; round < ROUNDS; round++) {
        char before[PAGE];
        closed = 1;
        mprotect(page, PAGE, PROT_READ);
        memcpy(before, page, PAGE);
        for (volatile int i = 0; i < 20000; i++)
            ;
        changed += memcmp(before, page, PAGE) != 0;
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        closed = 0;
        for (volatile int i = 0; i < 1000; i++)
            ;
    }
    stop = 1;
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    printf("changed while read-only: %d of %d\n", changed, ROUNDS);
}

static void *looks(void *argument)
{
    char *area = argument;
    volatile int bad = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        expecting = 1;
        if (!sigsetjmp(back, 1)) {
            bad += *(volatile char *)area == 'x';
            bad += 100;
        }
        expecting = 0;
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        bad += *(volatile char *)(area + PAGE) != (char)round;
        bad += *(volatile char *)area != 'x';
        pthread_barrier_wait(&barrier);
    }
    return (void *)(long)bad;
}

/* Behind munmap nobody reaches the page; behind mmap it is there for all. */
static void mappings(void)
{
    pthread_t threads[READERS];
    long bad = 0;
    char *area = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(area, 'x', 2 * PAGE);
    pthread_barrier_init(&barrier, NULL, READERS + 1);
    for (int i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, looks, area);
    for (int round = 0; round < ROUNDS; round++) {
        munmap(area, PAGE);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        area[PAGE] = (char)round;
        char *again = mmap(area, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        again[0] = 'x';
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        if (round == ROUNDS / 2)
            madvise(area + PAGE, PAGE, MADV_DONTNEED);
    }
    for (int i = 0; i < READERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        bad += (long)result;
    }
    printf("wrong sights: %ld\n", bad);
}

static char *fresh;

static void *touches(void *argument)
{
    long mine = (long)argument;
    for (int i = 0; i < 64; i++) {
        pthread_barrier_wait(&barrier);
        __sync_fetch_and_add((int *)(fresh + i * PAGE), 1 << (8 * mine));
    }
    return NULL;
}

/* Threads that fault on the same fresh page at once get the same page. */
static void same_page(void)
{
    pthread_t threads[READERS];
    int wrong = 0;
    fresh = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_barrier_init(&barrier, NULL, READERS);
    for (long i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, touches, (void *)i);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 64; i++)
        wrong += *(int *)(fresh + i * PAGE) != 0x010101;
    printf("lost stores: %d\n", wrong);
}

static void *maps(void *argument)
{
    long sum = 0;
    (void)argument;
    for (int i = 0; i < 40; i++) {
        unsigned char *mine = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(mine, i, 3 * PAGE);
        mine = mremap(mine, 3 * PAGE, 5 * PAGE, MREMAP_MAYMOVE);
        sum += mine[0] + mine[3 * PAGE - 1] + mine[4 * PAGE];
        munmap(mine, 5 * PAGE);
    }
    return (void *)sum;
}

int main(void)
{
    pthread_t threads[READERS];
    struct sigaction action = {.sa_handler = fault, .sa_flags = SA_NODEFER};
    long sum = 0;

    setvbuf(stdout, NULL, _IONBF, 0);
    sigaction(SIGSEGV, &action, NULL);
    protections();
    mappings();
    same_page();
    for (int i = 0; i < READERS; i++)
        pthread_create(&threads[i], NULL, maps, NULL);
    for (int i = 0; i < READERS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    printf("sum %ld\n", sum);
    return 0;
}
