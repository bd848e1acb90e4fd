/*
 * Two slots (pkmap=2), both with a user: who wants a third page sleeps until one is given back.  Four children want two pages;
 * when one slot is given back each of them comes to its turn, and two that want the same page find it at the same address.
 */
#include "user.h"
#include "kmaps.h"

#define CHILDREN 4

static int child(int fd, int n)
{
        int page = 2 + n / 2, slot = ioctl(fd, KMAP, page), again, tries;

        CHECK(20 + n, slot >= 0 && ioctl(fd, LOOK, page) == 100 + page);
        for (tries = 0; tries < 20; tries++)
                sched_yield();
        again = ioctl(fd, KMAP, page);
        CHECK(30 + n, again == slot && ioctl(fd, LOOK, page) == 100 + page);
        CHECK(40 + n, ioctl(fd, KUNMAP, page) == 0 && ioctl(fd, KUNMAP, page) == 0);
        return 0;
}

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), n, status, tries;

        CHECK(1, fd >= 0 && ioctl(fd, KMAP, 0) >= 0 && ioctl(fd, KMAP, 1) >= 0);
        for (n = 0; n < CHILDREN; n++)
                if (fork() == 0)
                        exit(child(fd, n));
        while (ioctl(fd, ASKING, 0) != CHILDREN)
                sched_yield();
        for (tries = 0; tries < 20; tries++)
                sched_yield();
        CHECK(2, ioctl(fd, ASKING, 0) == CHILDREN);
        CHECK(3, !ioctl(fd, MAPPED, 2) && !ioctl(fd, MAPPED, 3));
        CHECK(4, ioctl(fd, LOOK, 0) == 100 && ioctl(fd, KUNMAP, 0) == 0);
        for (n = 0; n < CHILDREN; n++)
                CHECK(5, waitpid(-1, &status, 0) > 0 && status == 0);
        CHECK(6, ioctl(fd, LOOK, 1) == 101 && ioctl(fd, KUNMAP, 1) == 0);
        say("kmap-sleep: four slept for a slot, each had its turn\n");
        return 0;
}
