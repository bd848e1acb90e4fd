/* hello: what a C program leans on before and after its first line.
 *
 * The start code sets thread-local storage up (set_thread_area) and asks what standard output is (ioctl) before the
 * first line goes out (writev).  printf of a double takes the x87 unit.  malloc takes small blocks from the heap (brk)
 * and large ones from mmap.  errno is in thread-local storage, behind gs. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 100, LARGE = 1 << 20 };

int main(int argc, char **argv)
{
    printf("hello, %s\n", argc > 1 ? argv[1] : "world");
    printf("2/3 is %.12f, 2^70 is %.0f\n", 2.0 / 3.0, 1180591620717411303424.0);

    char *small = malloc(SMALL), *large = malloc(LARGE);
    if (!small || !large)
        return 1;
    memset(small, 's', SMALL);
    memset(large, 'l', LARGE);
    if (small[SMALL - 1] != 's' || large[LARGE - 1] != 'l')
        return 2;
    free(large);
    free(small);

    if (open("/no/such/file", O_RDONLY) != -1)
        return 3;
    printf("open: %s\n", strerror(errno));
    return errno == ENOENT ? 0 : 4;
}
