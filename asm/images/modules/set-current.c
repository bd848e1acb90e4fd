/*
 * "Can current just be changed?"  Not alone: the fault is answered with the other task's areas, the page arrives in its
 * directory, and the CPU, which walks the one in CR3, faults again, for ever.
 */
#include "user.h"

#define PRETEND 7
#define WHERE 8

static u8 fresh[PAGE] __attribute__((aligned(PAGE)));           /* the parent has no page there */

int main(void)
{
        int fd = open("/dev/uaccess", O_RDWR), child, status, parent = getpid();

        CHECK(1, fd >= 0);
        child = fork();
        if (child == 0) {
                fresh[0] = 2;
                munmap(fresh, PAGE);
                ioctl(fd, WHERE, (u32)fresh);
                ioctl(fd, PRETEND, parent);
                exit(0);
        }
        waitpid(child, &status, 0);
        say("set-current: it came back\n");
        return 0;
}
