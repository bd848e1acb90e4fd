/*
 * An address of kmap is good on every CPU.  Each of eight pages is mapped on one CPU, read and changed at that address by a
 * task on each, and given back; with two slots (pkmap=2) the address soon shows another page, on every CPU.
 */
#include "user.h"
#include "kmaps.h"

#define SYS_sched_setaffinity 241
#define SYS_sched_getaffinity 242

static volatile int *turn;
static int tasks;

/* Ends the task when another one has failed. */
static void wait_for(int wanted)
{
        while (*turn != wanted) {
                if (*turn < 0)
                        exit(1);
                sched_yield();
        }
}

/* As CHECK, and the others do not wait for ever. */
#define NEED(number, condition) do { if (!(condition)) { *turn = -1; exit(number); } } while (0)

/* Once each round, when it is its turn: the word is as the one before left it. */
static int other(int fd, int me)
{
        int n;

        for (n = 0; n < KMAP_PAGES; n++) {
                wait_for(n * tasks + me);
                NEED(20 + me, ioctl(fd, LOOK, n) == 100 + n + me - 1);
                NEED(30 + me, ioctl(fd, STORE, (100 + n + me) << 16 | n) == 0);
                (*turn)++;
        }
        return 0;
}

static void first(int fd)
{
        int n, slot, used = 0;

        for (n = 0; n < KMAP_PAGES; n++) {
                slot = ioctl(fd, KMAP, n);
                used |= 1 << slot;
                NEED(2, slot >= 0 && ioctl(fd, LOOK, n) == 100 + n);
                *turn = n * tasks + 1;
                wait_for((n + 1) * tasks);
                NEED(3, ioctl(fd, LOOK, n) == 100 + n + tasks - 1 && ioctl(fd, KUNMAP, n) == 0);
        }
        NEED(5, used == 3);
}

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), me, mask, n, status;

        turn = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(1, fd >= 0 && call(SYS_sched_getaffinity, 0, sizeof mask, &mask) > 0);
        while (mask >> tasks)
                tasks++;
        if (tasks == 1)
                tasks = 2;
        for (me = tasks - 1; me > 0 && fork(); me--)
                ;
        mask = 1 << me;
        call(SYS_sched_setaffinity, 0, sizeof mask, &mask);     /* one CPU is shared by two */
        if (me)
                return other(fd, me);
        first(fd);
        for (n = 1; n < tasks; n++)
                CHECK(4, waitpid(-1, &status, 0) > 0 && status == 0);
        say("kmap-cpus: eight pages at two addresses, the same on every CPU\n");
        return 0;
}
