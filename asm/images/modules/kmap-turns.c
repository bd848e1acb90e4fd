/*
 * Two slots (pkmap=2), both with a user: who wants a third page sleeps until one is given back.  Six children want three
 * pages; when the slots are given back each of them has its turn, and two that want the same page find it at one address.
 */
#include "user.h"
#include "kmaps.h"

#define CHILDREN 6
#define SYS_nanosleep 162

static void nap(void)
{
        u32 time[2] = { 0, 1000000 };

        call(SYS_nanosleep, time, 0, 0);
}

static int child(int fd, int n)
{
        int page = 2 + n / 2, slot = ioctl(fd, KMAP, page), again;

        CHECK(20 + n, slot >= 0 && ioctl(fd, LOOK, page) == 100 + page);
        nap();
        again = ioctl(fd, KMAP, page);
        CHECK(30 + n, again == slot && ioctl(fd, LOOK, page) == 100 + page);
        CHECK(40 + n, ioctl(fd, KUNMAP, page) == 0 && ioctl(fd, KUNMAP, page) == 0);
        return 0;
}

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), n, status;

        CHECK(1, fd >= 0 && ioctl(fd, KMAP, 0) >= 0 && ioctl(fd, KMAP, 1) >= 0);
        for (n = 0; n < CHILDREN; n++)
                if (fork() == 0)
                        exit(child(fd, n));
        while (ioctl(fd, ASKING, 0) != CHILDREN)
                nap();
        nap();
        CHECK(2, ioctl(fd, ASKING, 0) == CHILDREN);
        CHECK(3, !ioctl(fd, MAPPED, 2) && !ioctl(fd, MAPPED, 3) && !ioctl(fd, MAPPED, 4));
        CHECK(4, ioctl(fd, LOOK, 0) == 100 && ioctl(fd, LOOK, 1) == 101);
        CHECK(6, ioctl(fd, KUNMAP, 0) == 0 && ioctl(fd, KUNMAP, 1) == 0);
        for (n = 0; n < CHILDREN; n++)
                CHECK(5, waitpid(-1, &status, 0) > 0 && status == 0);
        say("kmap-turns: six slept for a slot, each had its turn\n");
        return 0;
}
