/*
 * Reclaim takes the pages of a file from a process that is reading them on another CPU, which must forget them before the
 * frames are somebody else's.
 */
#include "user.h"

#define PAGES 64
#define HOT 16
#define CHUNK (64 * PAGE)
#define WNOHANG 1

static u32 first[1024];

int main(void)
{
        int file = open("/big", O_RDWR | O_CREAT), at, child, status, rounds = 0;
        volatile u32 *area;

        CHECK(1, file >= 0);
        for (at = 0; at < PAGES; at++) {
                first[0] = at + 1;
                CHECK(2, write(file, first, PAGE) == PAGE);
        }
        area = mmap(0, PAGES * PAGE, PROT_READ, MAP_SHARED, file, 0);
        CHECK(3, (u32)area < 0xFFFFF000u);
        for (at = 0; at < PAGES; at++)
                CHECK(4, area[at * 1024] == (u32)at + 1);
        child = fork();
        if (child == 0)
                for (;;) {                              /* until the kernel ends it */
                        volatile char *mine = mmap(0, CHUNK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                        for (at = 0; at < CHUNK; at += PAGE)
                                mine[at] = 1;
                }
        while (waitpid(child, &status, WNOHANG) == 0) {
                for (at = 0; at < HOT * 20; at++)     /* few enough for a TLB */
                        CHECK(5, area[at % HOT * 1024] == (u32)(at % HOT) + 1);
                rounds++;
        }
        CHECK(6, status == SIGKILL && rounds > 1);
        say("smp-reclaim: every page that was read was the file's\n");
        return 0;
}
