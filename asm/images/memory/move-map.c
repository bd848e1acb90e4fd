/* move-map: mremap grows, shrinks and moves, and copies nothing.
 *
 * Pages keep their contents at another address; what lay behind is a hole; a move onto other pages replaces them.  What is
 * moved out of the middle of a file's area goes on showing its own page of the file. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096 };

static sigjmp_buf back;
static volatile int falls;

static void fallen(int number)
{
    (void)number;
    falls++;
    siglongjmp(back, 1);
}

int main(void)
{
    char *area = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char there[8];
    char page[PAGE];
    int good = 0;

    for (int page = 0; page < 8; page++)
        area[page * PAGE + page] = 'a' + page;
    munmap(area + 8 * PAGE, 8 * PAGE);
    char *grown = mremap(area, 8 * PAGE, 12 * PAGE, 0);
    printf("move-map: grows in place %d", grown == area);
    mmap(area + 12 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    grown = mremap(area, 12 * PAGE, 20 * PAGE, 0);
    printf(", not into a neighbour %d", grown == MAP_FAILED && errno == ENOMEM);
    grown = mremap(area, 12 * PAGE, 20 * PAGE, MREMAP_MAYMOVE);
    printf(", elsewhere %d\n", grown != MAP_FAILED && grown != area);
    for (int page = 0; page < 8; page++)
        good += grown[page * PAGE + page] == 'a' + page;
    printf("move-map: %d of 8 pages came along, the rest is zero: %d\n", good, !grown[19 * PAGE]);
    signal(SIGSEGV, fallen);
    if (!sigsetjmp(back, 1))
        area[PAGE] = '!';
    printf("move-map: the old place is a hole: %d, whoever writes there falls: %d %d\n",
           mincore(area, PAGE, there) == -1 && errno == ENOMEM, falls, grown[PAGE] == 0);
    char *target = mmap(0, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    target[0] = target[3 * PAGE] = 'z';
    target[PAGE + 2] = target[2 * PAGE + 3] = 'y';
    char *moved = mremap(grown + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE);
    printf("move-map: onto others: %d, %c%c%c%c\n", moved == target + PAGE, target[0], target[PAGE + 2], target[2 * PAGE + 3],
           target[3 * PAGE]);
    printf("move-map: refused: %d %d\n", mremap(grown + 1, PAGE, PAGE, 0) == MAP_FAILED && errno == EINVAL,
           mremap(grown + 2 * PAGE, PAGE, PAGE, 0) == MAP_FAILED && errno == EFAULT);
    char *less = mremap(grown, 2 * PAGE, PAGE, 0);
    if (!sigsetjmp(back, 1))
        grown[PAGE] = '!';
    printf("move-map: less: %d, and who writes behind it falls: %d\n",
           less == grown && mincore(grown + PAGE, PAGE, there) == -1, falls);
    int file = open("/proc/self/exe", O_RDONLY);
    char *mapped = mmap(0, 3 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
    moved = mremap(mapped + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target + PAGE);
    printf("move-map: of a file its own page: %d\n",
           moved == target + PAGE && pread(file, page, PAGE, PAGE) == PAGE && !memcmp(moved, page, PAGE));
    return 0;
}
