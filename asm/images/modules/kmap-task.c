/*
 * Copies and clears by two addresses in the task's own page table (post 001, point 5): in a system call, in page faults, and for
 * a child that has another table.
 */
#include "user.h"

#define PAGES 12

static u8 area[PAGES * PAGE];

static void store_all(u32 by)
{
        u32 n;

        for (n = 0; n < PAGES; n++)
                *(u32 *)(area + n * PAGE + 8) += by;
}

static int is(u32 value)
{
        u32 n, same = 1;

        for (n = 0; n < PAGES; n++)
                same &= *(u32 *)(area + n * PAGE + 8) == value + n && *(u32 *)(area + n * PAGE + 4092) == n;
        return same;
}

int main(void)
{
        int file = open("/dev/kmap", O_RDWR), child, status;
        u32 n;

        CHECK(1, file >= 0);
        for (n = 0; n < PAGES; n++) {                   /* each is cleared */
                CHECK(2, *(u32 *)(area + n * PAGE + 8) == 0);
                *(u32 *)(area + n * PAGE + 8) = n;
                *(u32 *)(area + n * PAGE + 4092) = n;
        }
        CHECK(3, ioctl(file, 1, 0) == 0);
        child = fork();
        store_all(child ? 100 : 200);                   /* each is copied */
        CHECK(4, ioctl(file, 1, 0) == 0);
        CHECK(5, is(child ? 100 : 200));
        if (!child)
                return 0;
        CHECK(6, waitpid(child, &status, 0) == child && status == 0 && is(100));
        say("kmap-task: clears, copies on write and copies of a module, in two tasks\n");
        return 0;
}
