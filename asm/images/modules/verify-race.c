/*
 * The race of verify_area: between the check and the copy the module sleeps, and another process cuts the file that the
 * page belongs to.  Through FS nothing catches the fault; a kernel of that time oopses.
 */
#include "user.h"

#define CHECK_THEN_SLEEP 4
#define WAKE 5

int main(void)
{
        int fd = open("/dev/uaccess", O_RDWR), file = open("/data", O_RDWR | O_CREAT);
        u8 *area = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

        CHECK(1, fd >= 0 && file >= 0 && (u32)area < 0xC0000000u);
        CHECK(2, call(SYS_ftruncate, file, PAGE, 0) == 0);
        area[8] = 1;
        if (fork() == 0) {
                while (ioctl(fd, WAKE, 0) == 0)
                        sched_yield();
                exit(0);
        }
        if (fork() == 0) {
                call(SYS_ftruncate, file, 0, 0);
                exit(0);
        }
        ioctl(fd, CHECK_THEN_SLEEP, (u32)area);
        say("verify-race: nobody came between\n");
        return 0;
}
