/*
 * An address of kmap is good on every CPU.  Each of eight pages is mapped on one CPU, read and changed at that address by a
 * task on each, and given back; with two slots (pkmap=2) the address soon shows another page, on every CPU.
 */
#include "user.h"
#include "kmaps.h"

#define SYS_sched_setaffinity 241
#define SYS_sched_getaffinity 242

static int pipes[32][2], tasks;

/* The others sleep until it is their turn; when one has failed, nobody wakes them, and the kernel says so. */
static int my_turn(int me)
{
        char byte;

        return read(pipes[me][0], &byte, 1) == 1;
}

static int next_turn(int me)
{
        char byte = 0;

        return write(pipes[(me + 1) % tasks][1], &byte, 1) == 1;
}

/* The word is as the one before left it. */
static int other(int fd, int me)
{
        int n;

        for (n = 0; n < KMAP_PAGES; n++) {
                CHECK(20 + me, my_turn(me) && ioctl(fd, LOOK, n) == 100 + n + me - 1);
                CHECK(30 + me, ioctl(fd, STORE, (100 + n + me) << 16 | n) == 0 && next_turn(me));
        }
        return 0;
}

static void first(int fd)
{
        int n, slot, used = 0;

        for (n = 0; n < KMAP_PAGES; n++) {
                slot = ioctl(fd, KMAP, n);
                used |= 1 << slot;
                CHECK(2, slot >= 0 && ioctl(fd, LOOK, n) == 100 + n && next_turn(0) && my_turn(0));
                CHECK(3, ioctl(fd, LOOK, n) == 100 + n + tasks - 1 && ioctl(fd, KUNMAP, n) == 0);
        }
        CHECK(4, used == 3);
}

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), me, mask, n, status;

        CHECK(1, fd >= 0 && call(SYS_sched_getaffinity, 0, sizeof mask, &mask) > 0);
        while (mask >> tasks)
                tasks++;
        if (tasks == 1)
                tasks = 2;
        for (n = 0; n < tasks; n++)
                CHECK(5, pipe(pipes[n]) == 0);
        for (me = tasks - 1; me > 0 && fork(); me--)
                ;
        mask = 1 << me;
        call(SYS_sched_setaffinity, 0, sizeof mask, &mask);     /* one CPU is shared by two */
        if (me)
                return other(fd, me);
        first(fd);
        for (n = 1; n < tasks; n++)
                CHECK(6, waitpid(-1, &status, 0) > 0 && status == 0);
        say("kmap-cpus: eight pages at two addresses, the same on every CPU\n");
        return 0;
}
