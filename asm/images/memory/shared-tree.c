/* shared-tree: a tree of processes over shared and private memory.
 *
 * Fifteen processes add to a counter that all share, by a locked instruction, and to a private one of which each has its
 * own.  A file that two of them map shows the stores of both, to read(2) too. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DEPTH = 3, ROUNDS = 1000 };

static volatile int private_count;

static void grow(int depth, volatile int *shared)
{
    int status;

    for (int round = 0; round < ROUNDS; round++) {
        __atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
        private_count++;
    }
    if (depth == DEPTH)
        return;
    for (int child = 0; child < 2; child++)
        if (!fork()) {
            grow(depth + 1, shared);
            _exit(private_count == (depth + 2) * ROUNDS);
        }
    while (wait(&status) > 0)
        if (WEXITSTATUS(status) != 1)
            shared[1]++;
}

int main(void)
{
    volatile int *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char name[] = "/tmp/shared-tree-file", text[17] = "";
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

    grow(0, shared);
    printf("shared-tree: %d together, %d alone, %d wrong\n", shared[0], private_count, shared[1]);

    unlink(name);
    if (file < 0 || ftruncate(file, 8192))
        return 1;
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        return 2;
    strcpy(page + 4090, "parent");
    if (!fork()) {
        strcpy(page + 4096, " and child");
        _exit(pwrite(file, "written", 7, 100) != 7);
    }
    wait(0);
    if (pread(file, text, 16, 4090) != 16)
        return 3;
    printf("shared-tree: %.6s%s; %s\n", text, text + 6, page + 100);
    return 0;
}
