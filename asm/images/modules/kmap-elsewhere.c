/*
 * A window is its own CPU's: the program runs on CPU 1 and has the kernel open one there, the card interrupts CPU 0, and its
 * handler closes it.  CPU 1 was never told, and CPU 0 needed nothing.
 */
#include "user.h"

#define SYS_sched_setaffinity 241

int main(void)
{
        u32 second = 2;
        int file = open("/dev/kmap", O_RDWR);

        CHECK(1, file >= 0);
        CHECK(2, call(SYS_sched_setaffinity, 0, sizeof second, &second) == 0);
        say("kmap-elsewhere: a window of CPU 1, and a bell on CPU 0\n");
        CHECK(3, ioctl(file, 3, 0) == 0);
        return 0;
}
