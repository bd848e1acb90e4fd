#include "posix.h"
#include <sys/personality.h>
#include <sys/utsname.h>

int main(int count, char **argv)
{
    struct utsname name;
    int plain, old, length;
    if (count > 1) {
        printf("personality %x\n", personality(-1) & ~0x440000);
        uname(&name);
        printf("2.6 %d\n", !strncmp(name.release, "2.6.", 4));
        printf("page 0: %d\n", *(volatile int *)0);
        fflush(stdout);
        *(volatile int *)0 = 1;
        return 0;
    }
    uname(&name);
    int minor = atoi(strchr(name.release, '.') + 1);
    personality(UNAME26);
    uname(&name);
    sscanf(name.release, "2.6.%d", &old);
    printf("release 2.6.(60 + minor) %d\n", old == 60 + minor);
    printf("rest %d\n", name.release[6] == 0 || name.release[6] == '-');
    personality(MMAP_PAGE_ZERO | UNAME26);
    printf("now %d\n", mmap(0, 1, 0, 0x22, -1, 0) != 0);
    fflush(stdout);
    int status, pid = fork();
    if (!pid)
        execl(argv[0], argv[0], "again", (char *)0);
    waitpid(pid, &status, 0);
    printf("killed by %d\n", status & 127);
    return 0;
}
