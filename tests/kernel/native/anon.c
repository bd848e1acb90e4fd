#include "posix.h"

#define PAGE 4096
static char *base;

static void areas(const char *name)
{
    char line[300];
    unsigned start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    printf("%s:", name);
    while (fgets(line, sizeof line, maps)) {
        sscanf(line, "%x-%x", &start, &end);
        if (start < (unsigned)base + 64 * PAGE && end > (unsigned)base)
            printf(" %d-%d %.4s", (int)(start - (unsigned)base) / PAGE, (int)(end - (unsigned)base) / PAGE, strchr(line, ' ') + 1);
    }
    printf("\n");
    fflush(stdout);
    fclose(maps);
}

static void at(int page, int pages, int prot) { mmap(base + page * PAGE, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0); }
static void touch(int page) { base[page * PAGE] = 1; }
static void clear(void) { munmap(base, 64 * PAGE); }
#define RW (PROT_READ | PROT_WRITE)

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    base = mmap(0, 64 * PAGE, 0, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    clear();
    at(1, 2, RW), at(5, 2, RW), at(3, 2, RW), areas("untouched"), clear();
    at(1, 2, RW), at(5, 2, RW), touch(1), at(3, 2, RW), areas("lower touched"), clear();
    at(1, 2, RW), at(5, 2, RW), touch(5), at(3, 2, RW), areas("upper touched"), clear();
    at(1, 2, RW), at(5, 2, RW), touch(1), touch(5), at(3, 2, RW), areas("both touched"), touch(3), areas("and the third"), clear();
    at(1, 2, RW), at(5, 2, RW), (void)*(volatile char *)(base + PAGE), touch(5), at(3, 2, RW), areas("lower read"), clear();
    at(1, 6, RW), touch(1), touch(6), munmap(base + 3 * PAGE, 2 * PAGE), at(3, 2, RW), areas("was one"), clear();
    at(1, 6, RW), munmap(base + 3 * PAGE, 2 * PAGE), touch(1), touch(5), at(3, 2, RW), areas("was one, untouched"), clear();
    at(1, 6, RW), touch(1), mprotect(base + 3 * PAGE, 2 * PAGE, PROT_READ), areas("split"), touch(5), mprotect(base + 3 * PAGE, 2 * PAGE, RW), areas("rejoined"), clear();
    at(1, 2, RW), at(3, 2, PROT_READ), touch(1), at(5, 2, RW), touch(5), mprotect(base + 3 * PAGE, 2 * PAGE, RW), areas("a bridge"), clear();
    at(1, 2, RW), at(3, 2, RW | PROT_EXEC), touch(1), touch(3), mprotect(base + 3 * PAGE, 2 * PAGE, RW), areas("a neighbour's"), clear();
    at(1, 2, RW), at(10, 2, RW), touch(1), touch(10), mremap(base + 10 * PAGE, 2 * PAGE, 2 * PAGE, 3, base + 3 * PAGE), areas("moved, touched"), clear();
    at(1, 2, RW), at(10, 2, RW), touch(1), mremap(base + 10 * PAGE, 2 * PAGE, 2 * PAGE, 3, base + 3 * PAGE), areas("moved, untouched"), clear();
    at(1, 2, RW), at(10, 2, RW), touch(10), mremap(base + 10 * PAGE, 2 * PAGE, 2 * PAGE, 3, base + 3 * PAGE), areas("moved, beside untouched"), at(5, 2, RW), areas("and another"), clear();
    at(1, 4, RW), touch(1), touch(3), mremap(base + 3 * PAGE, 2 * PAGE, 2 * PAGE, 3, base + 10 * PAGE), areas("away"), mremap(base + 10 * PAGE, 2 * PAGE, 2 * PAGE, 3, base + 3 * PAGE), areas("and back"), clear();
    at(1, 2, RW), touch(1), mremap(base + PAGE, 2 * PAGE, 4 * PAGE, 0), areas("grown"), clear();
    at(1, 2, RW), touch(1);
    if (!fork()) {
        areas("child"), at(3, 2, RW), areas("child, more"), touch(3), at(5, 2, RW), areas("child, and more");
        mremap(base + PAGE, 2 * PAGE, 2 * PAGE, 1);
        mprotect(base + PAGE, PAGE, PROT_READ), areas("child, split"), mprotect(base + PAGE, PAGE, RW), areas("child, rejoined");
        _exit(0);
    }
    wait(0);
    at(3, 2, RW), areas("parent, more"), clear();
    int fd = open("anon.tmp", O_RDWR | O_CREAT, 0600);
    unlink("anon.tmp"), ftruncate(fd, 10 * PAGE);
    mmap(base + PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0), mmap(base + 3 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 2 * PAGE);
    touch(1), touch(3), mmap(base + 2 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, PAGE), areas("a file"), clear();
    return 0;
}
