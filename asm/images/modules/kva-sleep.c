/*
 * Two slots in the kva pool and three who want one: the third sleeps until one is given back, and gets that one.
 */
#include "user.h"

#define GET 1
#define PUT 2
#define SEE 3
#define WNOHANG 1
#define SYS_nanosleep 162

int main(void)
{
        int kva = open("/dev/kva", O_RDWR), child, status, n, address[2];
        u32 moment[2] = { 0, 1000000 };

        CHECK(1, kva >= 0 && ioctl(kva, GET, 0) == 0 && ioctl(kva, GET, 1) == 0);
        for (n = 0; n < 2; n++)
                address[n] = ioctl(kva, SEE, n);
        CHECK(2, address[0] && address[1] && address[0] != address[1]);
        child = fork();
        if (child == 0) {
                CHECK(3, ioctl(kva, GET, 2) == 0);
                CHECK(4, ioctl(kva, SEE, 2) == address[1] && ioctl(kva, SEE, 1) == 0);
                exit(ioctl(kva, PUT, 2));
        }
        call(SYS_nanosleep, moment, 0, 0);
        CHECK(5, waitpid(child, &status, WNOHANG) == 0);
        CHECK(6, ioctl(kva, SEE, 2) == 0 && ioctl(kva, GET, 0) == 0 && ioctl(kva, PUT, 0) == 0);       /* a hit needs none */
        CHECK(7, ioctl(kva, PUT, 1) == 0);
        CHECK(8, waitpid(child, &status, 0) == child && status == 0);
        CHECK(9, ioctl(kva, SEE, 0) == address[0] && ioctl(kva, PUT, 0) == 0);
        say("kva-sleep: the third slept until a slot had no user, and got that one\n");
        return 0;
}
