/*
 * "If gcc is running in video memory, there is no way to move it" (post 002).  Two processes run in the range from 14 to
 * 16 MB, and share pages there; the chipset shows RAM, the card is not seen (outcome a).  Then the range is cleared: every
 * page is copied elsewhere and every entry changed while the processes live, and the card answers.
 */
#include "user.h"

#define FRAME 0
#define OPEN 1
#define WORD 2
#define NOT_RESERVED 3
#define PAGES 5800
#define FIRST 0xE00
#define END 0x1000

static u32 *area;
static int fd;

static int inside(void)
{
        int at, found = 0;

        for (at = 0; at < PAGES; at++)
                if (area[at * 1024]) {
                        u32 frame = ioctl(fd, FRAME, (u32)(area + at * 1024));
                        found += frame >= FIRST && frame < END;
                }
        return found;
}

static int whole(void)
{
        int at;

        for (at = 0; at < PAGES; at++)
                if (area[at * 1024] && (area[at * 1024] != (u32)at + 1 || area[at * 1024 + 1023] != ~(u32)at))
                        return 0;
        return 1;
}

int main(void)
{
        int at, before, moved, child, status, go[2];
        char byte;

        fd = open("/dev/hole", O_RDWR);
        area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(1, fd >= 0 && pipe(go) == 0);
        for (at = 0; at < PAGES; at += 256)             /* page tables first: they are the kernel's and cannot move */
                area[at * 1024] = at + 1;
        for (at = 0; at < PAGES; at++)
                area[at * 1024] = at + 1, area[at * 1024 + 1023] = ~at;
        for (at = 0; at < PAGES; at++) {                /* room for what is to be moved */
                u32 frame = ioctl(fd, FRAME, (u32)(area + at * 1024));
                if (frame >= END && at % 2)
                        mmap(area + at * 1024, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        }
        before = inside();
        CHECK(2, before > 300 && whole());
        CHECK(3, ioctl(fd, WORD, 0) != 0x20415349);     /* "ISA ": the card is not seen, there is RAM */

        child = fork();                                 /* shares every page */
        if (child == 0) {
                read(go[0], &byte, 1);
                CHECK(4, inside() == 0 && whole());
                for (at = 0; at < PAGES; at += 20)
                        if (area[at * 1024])
                                area[at * 1024 + 1] = 77;
                exit(!whole());
        }
        moved = ioctl(fd, OPEN, 0);
        CHECK(5, moved >= before);
        CHECK(6, ioctl(fd, WORD, 0) == 0x20415349 && ioctl(fd, NOT_RESERVED, 0) == 0);
        CHECK(7, inside() == 0 && whole());
        write(go[1], &byte, 1);
        CHECK(8, waitpid(child, &status, 0) == child && status == 0);
        for (at = 0; at < PAGES; at++)                  /* what the child stored went to copies */
                CHECK(10, area[at * 1024 + 1] == 0);
        CHECK(9, whole() && ioctl(fd, OPEN, 0) == -ENODEV);
        say("isa-hole-clear: the programs were moved, the card has its place\n");
        return 0;
}
