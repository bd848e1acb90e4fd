/*
 * Two slots (pkmap=2), two tasks that have a page each, and each wants another one as well: neither gives back what the
 * other waits for.  Real kernels hang here (Documentation/vm/highmem.txt); this one says who holds and who waits.
 */
#include "user.h"
#include "kmaps.h"

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), me = fork() == 0;

        CHECK(1, fd >= 0 && ioctl(fd, KMAP, me) >= 0);
        while (!ioctl(fd, MAPPED, !me))
                sched_yield();
        ioctl(fd, KMAP, 2 + me);
        say("kmap-nested: two went on with two pages each\n");
        return 0;
}
