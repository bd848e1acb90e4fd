/*
 * The hole from 14 to 16 MB is cleared while a process on another CPU reads pages in it: their entries name other frames
 * from one moment to the next, and that CPU must forget the old ones before the card answers there.
 */
#include "user.h"

#define FRAME 0
#define OPEN 1
#define PAGES 5800
#define FIRST 0xE00
#define END 0x1000
#define HOT 16

static u32 *area;
static int hot[HOT], fd;

static int inside(int at)
{
        u32 frame = ioctl(fd, FRAME, (u32)(area + at * 1024));

        return frame >= FIRST && frame < END;
}

int main(void)
{
        volatile u32 *told;
        int at, found = 0, child, status;

        fd = open("/dev/hole", O_RDWR);
        area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        told = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(1, fd >= 0);
        told[0] = told[1] = 0;
        for (at = 0; at < PAGES; at += 256)             /* page tables first: they are the kernel's and cannot move */
                area[at * 1024] = at + 1;
        for (at = 0; at < PAGES; at++)
                area[at * 1024] = at + 1;
        for (at = 0; at < PAGES; at++) {
                if (inside(at) && found < HOT)
                        hot[found++] = at;
                else if (at % 2)                        /* room for what is to be moved */
                        munmap(area + at * 1024, PAGE);
        }
        CHECK(2, found == HOT);
        child = fork();
        if (child == 0) {
                do {
                        for (at = 0; at < HOT; at++)
                                CHECK(10, *(volatile u32 *)(area + hot[at] * 1024) == (u32)hot[at] + 1);
                        told[0] = 1;
                } while (!told[1]);
                exit(0);
        }
        while (!told[0])
                sched_yield();
        CHECK(3, ioctl(fd, OPEN, 0) > 0);
        for (at = 0; at < HOT; at++)
                CHECK(4, !inside(hot[at]));
        told[1] = 1;
        CHECK(5, waitpid(child, &status, 0) == child && status == 0);
        say("smp-hole: what the other CPU read was moved under it\n");
        return 0;
}
