/*
 * What a request may do when memory is short (post 002), asked of /dev/levels:
 *
 *      GFP_ATOMIC   takes from the reserve, and reclaims nothing
 *      GFP_BUFFER   gives cached pages up to get memory, and goes a little below the reserve (2.0)
 *      GFP_NFS      goes down to five frames (2.0)
 *      GFP_KERNEL   does too; and lets other tasks run, one of which frees what is needed
 */
#include "user.h"

#define TAKE 0
#define GIVE 1
#define ONE 2
#define FREE 3
#define GFP_BUFFER 0
#define GFP_ATOMIC 1
#define GFP_KERNEL 3
#define GFP_NFS 5
#define FILE_PAGES 100

static char page[PAGE];

int main(void)
{
        int fd = open("/dev/levels", O_RDWR), file = open("/big", O_RDWR | O_CREAT), at, child, status, low, ready[2];
        volatile char *area;

        CHECK(1, fd >= 0 && file >= 0 && call(SYS_ftruncate, file, FILE_PAGES * PAGE, 0) == 0);
        ioctl(fd, TAKE, GFP_KERNEL);
        low = ioctl(fd, FREE, 0);
        CHECK(2, low > 20);                                     /* the reserve stays */
        CHECK(3, !ioctl(fd, ONE, GFP_KERNEL));
        CHECK(4, ioctl(fd, ONE, GFP_ATOMIC));
        ioctl(fd, TAKE, GFP_BUFFER);                            /* 2.0: 12 frames and an eighth less must stay */
        CHECK(13, low >= 48 && ioctl(fd, FREE, 0) == low - (12 + low / 8));
        ioctl(fd, TAKE, GFP_NFS);
        CHECK(14, ioctl(fd, FREE, 0) == 5);

        ioctl(fd, GIVE, 0);
        for (at = 0; at < FILE_PAGES; at++)
                CHECK(5, read(file, page, PAGE) == PAGE);       /* the page cache fills */
        ioctl(fd, TAKE, GFP_ATOMIC);                            /* the reserve too, and no cached page went */
        CHECK(6, ioctl(fd, FREE, 0) == 0 && !ioctl(fd, ONE, GFP_ATOMIC));
        CHECK(7, ioctl(fd, ONE, GFP_BUFFER));                   /* cached pages go */
        CHECK(8, ioctl(fd, FREE, 0) > 0 && ioctl(fd, ONE, GFP_ATOMIC));
        ioctl(fd, GIVE, 0);

        CHECK(9, pipe(ready) == 0);
        child = fork();
        if (child == 0) {
                area = mmap(0, 64 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                for (at = 0; at < 64; at++)
                        area[at * PAGE] = 1;
                write(ready[1], page, 1);
                while (ioctl(fd, FREE, 0) > 40)                 /* until somebody has to wait for memory */
                        sched_yield();
                exit(0);
        }
        read(ready[0], page, 1);
        ioctl(fd, TAKE, GFP_ATOMIC);
        CHECK(10, ioctl(fd, FREE, 0) == 0);
        CHECK(11, ioctl(fd, ONE, GFP_KERNEL));                  /* the child runs, ends, and its frames are free */
        CHECK(12, waitpid(child, &status, 1) == child && status == 0);
        ioctl(fd, GIVE, 0);
        say("gfp-levels: ATOMIC takes the reserve, BUFFER reclaims, KERNEL sleeps\n");
        return 0;
}
