/*
 * A file is cut while a process on another CPU reads the page that goes.  That CPU has the translation and never asks the
 * tables: unless it is told to forget it, it reads on in a frame that is somebody else's.  Told, it gets SIGBUS (mmap(2)).
 */
#include "user.h"

#define SIGBUS 7
#define MS_SYNC 4
#define SYS_unlink 10
#define SYS_msync 144

int main(void)
{
        int file = open("/tmp/smp-truncate-file", O_RDWR | O_CREAT), child, status;
        volatile u32 *page = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        volatile u32 *told = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        CHECK(1, file >= 0 && (u32)page < 0xFFFFF000u && (u32)told < 0xFFFFF000u);
        CHECK(2, call(SYS_unlink, "/tmp/smp-truncate-file", 0, 0) == 0 && call(SYS_ftruncate, file, 2 * PAGE, 0) == 0);
        page[1024] = 1;
        CHECK(3, call(SYS_msync, page, 2 * PAGE, MS_SYNC) == 0);
        page[1024] = 2;                                 /* dirty once more */
        child = fork();
        if (child == 0) {
                while (!told[1])
                        told[0] = page[1024];
                exit(page[1024] == 2 ? 10 : 11);
        }
        while (!told[0])
                sched_yield();
        CHECK(4, told[0] == 2 && call(SYS_ftruncate, file, PAGE, 0) == 0);
        told[1] = 1;
        CHECK(5, waitpid(child, &status, 0) == child && status == SIGBUS);
        say("smp-truncate: the other CPU forgot the page in time\n");
        return 0;
}
