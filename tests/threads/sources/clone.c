/* clone(2) flag by flag: what a task made with one of them shares with its maker, and nothing else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <asm/ldt.h>
#include <unistd.h>

static char stack[65536] __attribute__((aligned(16)));
static volatile int word;
static int tid_here = -1, tid_there = -1, cleared = -1;

static int changes(void *argument)
{
    (void)argument;
    word = 2;
    if (chdir("/proc"))
        word = 3;
    umask(0123);
    close(100);
    dup2(1, 101);
    signal(SIGUSR1, SIG_IGN);
    return 5;
}

static void share(const char *name, int flags)
{
    char here[100];
    int status;
    word = 1;
    (void)!chdir("/");
    umask(022);
    dup2(1, 100);
    close(101);
    signal(SIGUSR1, SIG_DFL);
    int child = clone(changes, stack + sizeof stack, flags | SIGCHLD, NULL);
    waitpid(child, &status, 0);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    printf("%s: word %d, cwd %s, umask %o, closed %d, opened %d, ignored %d, status %d\n", name, word,
           getcwd(here, sizeof here), umask(022), fcntl(100, F_GETFD) < 0, fcntl(101, F_GETFD) >= 0,
           action.sa_handler == SIG_IGN, WEXITSTATUS(status));
}

static int ids(void *argument)
{
    (void)argument;
    return tid_there == getpid() ? 0 : 1;
}

static int gone(void *argument) { (void)argument; return 0; }

static int segment(void *argument)
{
    int selector = *(int *)argument, found;
    __asm__ volatile("mov %1, %%fs; mov %%fs:0, %0" : "=r"(found) : "r"(selector));
    return found == 0x1234 ? 0 : 1;
}

static int undoes(void *argument)
{
    struct sembuf up = {0, 1, SEM_UNDO};
    semop(*(int *)argument, &up, 1);
    return 0;
}

static int moves(void *argument)
{
    int fd = *(int *)argument;
    char byte;
    return read(fd, &byte, 1) == 1 ? byte : 0;
}

int main(void)
{
    int status, child;

    setvbuf(stdout, NULL, _IONBF, 0);
    share("nothing", 0);
    share("VM", CLONE_VM);
    share("FS", CLONE_FS);
    share("FILES", CLONE_FILES);
    share("VM SIGHAND", CLONE_VM | CLONE_SIGHAND);
    share("all", CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND);

    child = clone(ids, stack + sizeof stack, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &tid_here, NULL,
                  &tid_there);
    waitpid(child, &status, 0);
    printf("tid here %d, there %d, here it stays %d\n", tid_here == child, WEXITSTATUS(status) == 0, tid_there);
    child = clone(gone, stack + sizeof stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL, &cleared);
    while (cleared)
        syscall(SYS_futex, &cleared, 0, -1, NULL, NULL, 0);
    printf("cleared %d\n", waitpid(child, NULL, 0) == child);

    static int words[1] = {0x1234};
    struct user_desc desc = {.entry_number = -1, .base_addr = (unsigned long)words, .limit = 0xFFFFF, .seg_32bit = 1,
                             .limit_in_pages = 1, .useable = 1};
    syscall(SYS_set_thread_area, &desc);
    unsigned long own = (unsigned long)words + 4096;
    desc.base_addr = own;
    syscall(SYS_set_thread_area, &desc);
    desc.base_addr = (unsigned long)words;
    int selector = desc.entry_number * 8 + 3;
    child = clone(segment, stack + sizeof stack, CLONE_SETTLS | SIGCHLD, &selector, NULL, &desc, NULL);
    waitpid(child, &status, 0);
    syscall(SYS_get_thread_area, &desc);
    printf("a segment of its own %d, here the old one %d\n", WEXITSTATUS(status) == 0, desc.base_addr == own);

    int set = semget(IPC_PRIVATE, 1, 0600);
    child = clone(undoes, stack + sizeof stack, SIGCHLD, &set);
    waitpid(child, NULL, 0);
    printf("undone alone: %d", semctl(set, 0, GETVAL));
    child = clone(undoes, stack + sizeof stack, CLONE_SYSVSEM | SIGCHLD, &set);
    waitpid(child, NULL, 0);
    printf(", shared and kept: %d\n", semctl(set, 0, GETVAL));
    semctl(set, 0, IPC_RMID);

    int ends[2];
    (void)!pipe(ends);
    child = clone(moves, stack + sizeof stack, CLONE_FILES | SIGCHLD, &ends[0]);
    usleep(100000);
    close(ends[0]);                                         /* while the child reads there */
    printf("written %d", (int)write(ends[1], "A", 1));
    waitpid(child, &status, 0);
    printf(", read %c\n", WEXITSTATUS(status));
    signal(SIGPIPE, SIG_IGN);
    printf("then %d", (int)write(ends[1], "B", 1));
    printf(" %s\n", strerror(errno));

    child = clone(gone, stack + sizeof stack, 0, NULL);     /* no signal at its end: a "clone" child */
    printf("wait %d", waitpid(child, NULL, 0));
    printf(" %s", strerror(errno));
    printf(", __WCLONE %d\n", waitpid(child, NULL, __WCLONE) == child);
    child = clone(gone, stack + sizeof stack, SIGCHLD, NULL);
    printf("wait __WCLONE %d", waitpid(child, NULL, __WCLONE));
    printf(" %s", strerror(errno));
    printf(", __WALL %d\n", waitpid(child, NULL, __WALL) == child);
    return 0;
}
