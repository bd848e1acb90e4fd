/*
 * Two slots (pkmap=2), two tasks that have a page each, and each wants another one as well: neither gives back what the
 * other waits for.  Real kernels hang here (Documentation/vm/highmem.txt); this one says who holds and who waits.
 */
#include "user.h"
#include "kmaps.h"

int main(void)
{
        int fd = open("/dev/kmaps", O_RDWR), pipes[2][2], me;
        char byte = 0;

        CHECK(1, fd >= 0 && pipe(pipes[0]) == 0 && pipe(pipes[1]) == 0);
        me = fork() == 0;
        CHECK(2, ioctl(fd, KMAP, me) >= 0);
        CHECK(3, write(pipes[!me][1], &byte, 1) == 1 && read(pipes[me][0], &byte, 1) == 1);     /* the other has its page */
        ioctl(fd, KMAP, 2 + me);
        say("kmap-nested: two went on with two pages each\n");
        return 0;
}
