/* futex(2) by itself: results, errnos, requeueing, FUTEX_WAKE_OP; robust lists that are not what they should be. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WAITERS 5

static int first, second, waiting;
static int bits_of[WAITERS];

static long futex(void *word, int what, int value, const void *timeout, void *other, int third)
{
    long result = syscall(SYS_futex, word, what, value, timeout, other, third);
    return result < 0 ? -errno : result;
}

static void *waits(void *argument)
{
    int bits = *(int *)argument;
    __sync_fetch_and_add(&waiting, 1);
    return (void *)futex(&first, FUTEX_WAIT_BITSET, 0, NULL, NULL, bits);
}

static void start(pthread_t *threads, int count)
{
    waiting = 0;
    for (int i = 0; i < count; i++) {
        bits_of[i] = 1 << i;
        pthread_create(&threads[i], NULL, waits, &bits_of[i]);
        while (__sync_fetch_and_add(&waiting, 0) != i + 1)
            usleep(100);
        usleep(3000);
    }
}

static void join(pthread_t *threads, int count)
{
    long sum = 0;
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        sum += (long)result;
    }
    printf("joined, results %ld\n", sum);
}

static void *dies(void *argument)
{
    syscall(SYS_set_robust_list, argument, sizeof(struct robust_list_head));
    return NULL;
}

static struct { struct robust_list list; int word; } nodes[4];

static void die_with(struct robust_list_head *head)
{
    pthread_t thread;
    pthread_create(&thread, NULL, dies, head);
    pthread_join(thread, NULL);
}

static void *holds(void *argument)
{
    int tid = (int)syscall(SYS_gettid);
    for (int i = 0; i < 4; i++)
        nodes[i].word = i == 1 ? tid | FUTEX_WAITERS : i == 2 ? 1 : tid;
    return dies(argument);
}

static void show_nodes(const char *what)
{
    printf("%s:", what);
    for (int i = 0; i < 4; i++)
        printf(" %s%s", nodes[i].word & FUTEX_OWNER_DIED ? "died" : "kept", nodes[i].word & FUTEX_WAITERS ? "+" : "");
    printf("\n");
}

int main(void)
{
    pthread_t threads[WAITERS];
    struct timespec span = {0, 1000000}, bad = {0, 1000000000}, moment;

    setvbuf(stdout, NULL, _IONBF, 0);
    start(threads, 5);
    printf("wake one by its bit %ld\n", futex(&first, FUTEX_WAKE_BITSET, 9, NULL, NULL, 4));
    printf("compare %ld\n", futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)1, &second, 1));
    printf("requeue %ld\n", futex(&first, FUTEX_CMP_REQUEUE, 1, (void *)1, &second, 0));
    printf("there %ld", futex(&second, FUTEX_WAKE, 9, NULL, NULL, 0));
    printf(", here %ld\n", futex(&first, FUTEX_REQUEUE, 0, (void *)9, &second, 0));
    printf("and there %ld\n", futex(&second, FUTEX_WAKE, 1, NULL, NULL, 0));
    printf("the last %ld\n", futex(&second, FUTEX_WAKE, 0x7FFFFFFF, NULL, NULL, 0));
    join(threads, 5);

    start(threads, 3);
    second = 10;
    printf("wake_op %ld", futex(&second, FUTEX_WAKE_OP, 1, (void *)2, &first, FUTEX_OP(FUTEX_OP_ADD, 5, FUTEX_OP_CMP_EQ, 0)));
    printf(", the word %d\n", first);
    printf("wake_op %ld", futex(&first, FUTEX_WAKE_OP, 1, (void *)2, &second, FUTEX_OP(FUTEX_OP_ANDN, 2, FUTEX_OP_CMP_LT, -1)));
    printf(", the word %d\n", second);
    join(threads, 3);
    struct { int code, before; } codes[] = {
        {FUTEX_OP(FUTEX_OP_SET, 7, FUTEX_OP_CMP_NE, 0), 1}, {FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 31, FUTEX_OP_CMP_GE, 0), 1},
        {FUTEX_OP(FUTEX_OP_XOR, -1, FUTEX_OP_CMP_LE, 0), 0x55}, {FUTEX_OP(FUTEX_OP_ADD, -2048, FUTEX_OP_CMP_GT, 0), -1},
        {FUTEX_OP(6, 1, FUTEX_OP_CMP_GT, 0), 3}, {FUTEX_OP(FUTEX_OP_ADD, 1, 9, 0), 3},
    };
    for (int i = 0; i < 6; i++) {
        second = codes[i].before;
        printf("op %d: %ld", i, futex(&first, FUTEX_WAKE_OP, 1, (void *)1, &second, codes[i].code));
        printf(" %#x\n", second);
    }

    char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    first = 0;
    printf("wait: value %ld", futex(&first, FUTEX_WAIT, 1, NULL, NULL, 0));
    printf(" time %ld", futex(&first, FUTEX_WAIT, 0, &span, NULL, 0));
    printf(" bad time %ld", futex(&first, FUTEX_WAIT, 0, &bad, NULL, 0));
    printf(" no time %ld", futex(&first, FUTEX_WAIT, 0, (void *)8, NULL, 0));
    printf(" unaligned %ld", futex((char *)&first + 1, FUTEX_WAIT, 0, NULL, NULL, 0));
    printf(" unmapped %ld", futex((void *)8, FUTEX_WAIT, 0, NULL, NULL, 0));
    printf(" no bits %ld\n", futex(&first, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
    clock_gettime(CLOCK_MONOTONIC, &moment);
    printf("past moment %ld", futex(&first, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, &moment, NULL, -1));
    clock_gettime(CLOCK_REALTIME, &moment);
    printf(" %ld", futex(&first, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &moment, NULL, -1));
    printf(" realtime wake %ld\n", futex(&first, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
    printf("wake: unmapped %ld, private %ld, negative %ld, requeue %ld %ld\n", futex((void *)8, FUTEX_WAKE, 1, NULL, NULL, 0),
           futex((void *)8, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0), futex(&first, FUTEX_WAKE, -1, NULL, NULL, 0),
           futex(&first, FUTEX_REQUEUE, -1, (void *)1, &second, 0), futex(&first, FUTEX_REQUEUE, 1, (void *)-1, &second, 0));
    printf("wake_op on a page that cannot be written %ld\n",
           futex(&first, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 1, (void *)1, page, FUTEX_OP(FUTEX_OP_ADD, 1, 0, 0)));

    void *head;
    size_t size = 0;
    struct robust_list_head list;
    printf("list: size %ld", syscall(SYS_set_robust_list, &list, 11));
    printf(" %s", strerror(errno));
    printf(", get %ld", syscall(SYS_get_robust_list, 0, &head, &size));
    printf(" size %d", (int)size);
    printf(", nobody's %ld", syscall(SYS_get_robust_list, 0x7FFFFFF, &head, &size));
    printf(" %s\n", strerror(errno));
    list.futex_offset = (char *)&nodes[0].word - (char *)&nodes[0].list;
    list.list_op_pending = NULL;
    list.list.next = &nodes[0].list;
    for (int i = 0; i < 4; i++)
        nodes[i].list.next = i == 3 ? &list.list : &nodes[i + 1].list;
    pthread_create(&threads[0], NULL, holds, &list);
    pthread_join(threads[0], NULL);
    show_nodes("a list");
    nodes[3].list.next = &nodes[0].list;
    list.list_op_pending = &nodes[3].list;
    pthread_create(&threads[0], NULL, holds, &list);
    pthread_join(threads[0], NULL);
    show_nodes("a circle with a pending one");
    nodes[1].list.next = (void *)16;
    pthread_create(&threads[0], NULL, holds, &list);
    pthread_join(threads[0], NULL);
    show_nodes("one that leads nowhere");
    list.futex_offset = 2;
    die_with(&list);
    die_with((void *)12);
    list.list.next = (void *)0xFFFFFFF0;
    die_with(&list);
    printf("hostile lists end\n");
    return 0;
}
