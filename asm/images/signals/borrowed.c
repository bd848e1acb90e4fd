/* borrowed: vfork lends the child the parent's memory until it executes a program or ends.
 *
 * What the child stores the parent finds; the parent does not run meanwhile.  The program that the child executes (this
 * one, with an argument) has an address space of its own, and from then on the parent runs beside it: the program waits
 * for a letter from it. */

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NEWS = 20 };

static volatile int stored, order;

int main(int argc, char **argv)
{
    int status, ends[2];
    char letter;
    pid_t pid;

    if (argc > 1 && !strcmp(argv[1], "again")) {
        stored = 99;
        return read(NEWS, &letter, 1) == 1 && letter == 'x' ? 7 : 8;
    }
    pid = vfork();
    if (!pid) {
        stored = 42;
        order++;
        _exit(3);
    }
    order *= 10;
    waitpid(pid, &status, 0);
    printf("borrowed: the child stored %d, left with %d, order %d\n", stored, WEXITSTATUS(status), order);
    pipe(ends);
    dup2(ends[0], NEWS);
    pid = vfork();
    if (!pid) {
        stored = 43;
        execl("/proc/self/exe", argv[0], "again", (char *)0);
        execl(argv[0], argv[0], "again", (char *)0);
        _exit(127);
    }
    write(ends[1], "x", 1);
    waitpid(pid, &status, 0);
    printf("borrowed: then %d, the program left with %d\n", stored, WEXITSTATUS(status));
    return 0;
}
