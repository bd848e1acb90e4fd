/*
 * A process has a page pinned by a device and given up, and forks.  The child writes into its own copy of the page, and the
 * parent reads what it had.  It is made to be debugged: docs/tutorial-debug.md finds out what is wrong.
 */
#include "user.h"

#define PIN 0
#define CANCEL 2

static u32 page[PAGE / 4] __attribute__((aligned(PAGE)));

int main(void)
{
        int fd = open("/dev/pin", O_RDWR), child, status;

        CHECK(1, fd >= 0);
        page[0] = 7;
        child = fork();
        if (child == 0) {
                *(volatile u32 *)page = 8;
                exit(0);
        }
        CHECK(2, ioctl(fd, PIN, (u32)page) == 0 && ioctl(fd, CANCEL, 0) == 0);
        CHECK(3, waitpid(child, &status, 0) == child && status == 0);
        if (*(volatile u32 *)page != 7) {
                say("bug-cow: the child wrote into the parent's page\n");
                return 4;
        }
        say("bug-cow: the parent has its own page\n");
        return 0;
}
