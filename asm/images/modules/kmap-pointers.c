/*
 * Post 004: "any pointers the user space process may pass may point to memory that is not currently mapped in the kernel's virtual
 * memory setup.  So this is where kmap_atomic comes into play".  They need none: a system call leaves the program's own page
 * table loaded, and a pointer into it works in the kernel wherever the frame is, in highmem too.
 */
#include "user.h"

#define SYS_pread64 180
#define PAGES 4
#define DIRECT (12u << 20)              /* boot: RAM below has kernel addresses, highmem=12m above has none */

int main(void)
{
        int device = open("/dev/kmap", O_RDWR), map = open("/proc/self/pagemap", O_RDONLY);
        volatile u32 *area = mmap(0, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        u32 n, entry[2];

        CHECK(1, device >= 0 && map >= 0);
        for (n = 0; n < PAGES; n++) {
                volatile u32 *word = area + n * (PAGE / 4) + n;

                *word = 1000 + n;
                CHECK(2, call6(SYS_pread64, map, (u32)entry, 8, (u32)word / PAGE * 8, 0, 0) == 8);
                CHECK(3, entry[1] >> 31 && entry[0] >= DIRECT / PAGE);  /* present, and where */
                CHECK(4, ioctl(device, 2, (u32)word) == 1000 + (int)n);
                CHECK(5, *word == 1001 + n);
        }
        say("kmap-pointers: the kernel read and wrote four words of highmem at the program's addresses\n");
        return 0;
}
