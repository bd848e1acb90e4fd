#include "posix.h"

static int child(unsigned flags)
{
    int pid = syscall(SYS_clone, flags, 0, 0, 0, 0);
    if (!pid)
        _exit(6);
    return pid;
}

static void wait_for(const char *name, unsigned flags, int options)
{
    int pid = child(flags), status = 0;
    siginfo_t info = { 0 };
    printf("%s\n", name);
    fflush(stdout);
    int got = waitpid(-1, &status, options);
    printf("waitpid %d %d %x\n", got == pid, got < 0 ? errno : 0, status);
    got = waitid(P_PID, pid, &info, WEXITED | WNOWAIT | options);
    printf("waitid %d %d %d\n", got, got ? errno : 0, info.si_status);
    got = waitpid(pid, &status, __WALL);
    printf("__WALL %d %x\n", got == pid, status);
}

static long self(const char *path, char *argument)
{
    int pid = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0), status = 0;
    if (!pid) {
        execl(path, path, argument, (char *)0);
        _exit(1);
    }
    pause_for(100000000);
    long got = waitpid(-1, &status, 0);
    printf("after exec %d %x\n", got == pid, status);
    return got;
}

static void times_of(const char *name)
{
    struct rusage usage, mine;
    int pid = fork(), status;
    if (!pid) {
        do                                      /* a tick that counts system time may be long in coming */
            for (int at = 0; at < 5000; at++)
                getppid(), syscall(SYS_gettimeofday, &usage, 0), syscall(SYS_getrusage, 0, &usage);
        while (getrusage(RUSAGE_SELF, &usage) == 0 && usage.ru_stime.tv_sec + usage.ru_stime.tv_usec == 0);
        _exit(0);
    }
    wait4(pid, &status, 0, &usage);
    getrusage(RUSAGE_CHILDREN, &mine);
    printf("%s system %d of children %d\n", name, usage.ru_stime.tv_sec + usage.ru_stime.tv_usec > 0,
           mine.ru_stime.tv_sec > 0 || mine.ru_stime.tv_usec >= usage.ru_stime.tv_usec);
}

int main(int count, char **argv)
{
    if (count > 1)
        return 3;
    signal(SIGUSR1, SIG_IGN);
    wait_for("SIGCHLD", SIGCHLD, 0);
    wait_for("SIGCHLD, __WCLONE", SIGCHLD, __WCLONE);
    wait_for("SIGCHLD, __WALL", SIGCHLD, __WALL);
    wait_for("0", 0, 0);
    wait_for("0, __WCLONE", 0, __WCLONE);
    wait_for("SIGUSR1", SIGUSR1, 0);
    wait_for("SIGUSR1, __WCLONE", SIGUSR1, __WCLONE);
    wait_for("SIGUSR1, both", SIGUSR1, __WCLONE | __WALL);
    self(argv[0], "again");
    times_of("children");
    return 0;
}
