#include "posix.h"

struct attr { unsigned size, policy; unsigned long long flags; int nice; unsigned priority; unsigned long long runtime, deadline, period; unsigned least, most; } attr;
static long set(int pid, int flags) { return syscall(SYS_sched_setattr, pid, &attr, flags); }
static void get(const char *name)
{
    struct attr found = { 0 };
    say(name, syscall(SYS_sched_getattr, 0, &found, 48, 0));
    printf("size %u policy %u flags %llx nice %d priority %u", found.size, found.policy, found.flags, found.nice, found.priority);
    if (found.policy == 6)
        printf(" %llu %llu %llu", found.runtime, found.deadline, found.period);
    printf("\n");
}
static void try(const char *name, unsigned size, unsigned policy, unsigned long long flags, int nice, unsigned priority)
{
    memset(&attr, 0, sizeof attr);
    attr.size = size, attr.policy = policy, attr.flags = flags, attr.nice = nice, attr.priority = priority;
    if (say(name, set(0, 0)) == -1 && attr.size != size)
        printf("size now %d\n", attr.size > 0);
    else
        get("  is");
}
#define IO(class, level) ((class) << 13 | (level))
int main(void)
{
    get("at first");
    try("nice 5", 48, 0, 0, 5, 0);
    printf("getpriority %d\n", getpriority(PRIO_PROCESS, 0));
    try("nice 50", 48, 0, 0, 50, 0);
    try("size 0", 0, 0, 0, 0, 0);
    try("size 40", 40, 0, 0, 0, 0);
    try("size 5000", 5000, 0, 0, 0, 0);
    try("priority", 48, 0, 0, 0, 1);
    try("fifo", 48, 1, 0, 0, 10);
    try("fifo 0", 48, 1, 0, 0, 0);
    try("fifo 100", 48, 1, 0, 0, 100);
    try("rr, reset", 48, 2, 1, 0, 7);
    printf("getscheduler %x\n", sched_getscheduler(0));
    try("keep policy", 48, 0, 8, 0, 9);
    try("keep both", 48, 0, 0x18, 0, 9);
    try("batch", 48, 3, 0, 3, 0);
    try("idle", 48, 5, 0, 3, 0);
    try("policy 4", 48, 4, 0, 0, 0);
    try("policy 8", 48, 8, 0, 0, 0);
    try("policy -1", 48, -1, 0, 0, 0);
    try("flags", 48, 0, 0x1000, 0, 0);
    try("other", 48, 0, 0, 0, 0);
    char page[4096] = { 0 };
    *(unsigned *)page = 100;
    say("zeros behind", syscall(SYS_sched_setattr, 0, page, 0));
    page[99] = 1;
    say("more behind", syscall(SYS_sched_setattr, 0, page, 0));
    try("deadline without times", 48, 6, 0, 0, 0);
    memset(&attr, 0, sizeof attr);
    attr.size = 48, attr.policy = 6, attr.runtime = 10000000, attr.deadline = 30000000, attr.period = 100000000;
    say("deadline", set(0, 0));
    get("  is");
    say("fork", fork());
    attr.deadline = 1000000;
    say("deadline below runtime", set(0, 0));
    try("other", 48, 0, 0, 0, 0);
    say("null", syscall(SYS_sched_setattr, 0, 0, 0));
    say("bad", syscall(SYS_sched_setattr, 0, 4, 0));
    say("flags", set(0, 1));
    say("pid", set(-1, 0));
    say("no pid", set(999999, 0));
    say("get size 40", syscall(SYS_sched_getattr, 0, &attr, 40, 0));
    say("get size 5000", syscall(SYS_sched_getattr, 0, &attr, 5000, 0));
    say("get flags", syscall(SYS_sched_getattr, 0, &attr, 48, 1));
    say("get pid", syscall(SYS_sched_getattr, -1, &attr, 48, 0));
    say("get no pid", syscall(SYS_sched_getattr, 999999, &attr, 48, 0));
    say("get null", syscall(SYS_sched_getattr, 0, 0, 48, 0));
    say("get bad", syscall(SYS_sched_getattr, 0, 4, 48, 0));
    memset(page, 0x55, sizeof page);
    say("get 200", syscall(SYS_sched_getattr, 0, page, 200, 0));
    printf("size %d\n", *(int *)page);

    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("set be 5", syscall(SYS_ioprio_set, 1, 0, IO(2, 5)));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("own pid", syscall(SYS_ioprio_get, 1, getpid()));
    setpgid(0, 0);
    say("group", syscall(SYS_ioprio_get, 2, getpid()));
    fflush(stdout);
    if (!fork()) {
        say("child's", syscall(SYS_ioprio_get, 1, 0));
        _exit(0);
    }
    wait(0);
    say("set rt 3", syscall(SYS_ioprio_set, 1, 0, IO(1, 3)));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("set idle", syscall(SYS_ioprio_set, 1, 0, IO(3, 0)));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("set idle 2", syscall(SYS_ioprio_set, 1, 0, IO(3, 2)));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("set be 8", syscall(SYS_ioprio_set, 1, 0, IO(2, 8)));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("set none 1", syscall(SYS_ioprio_set, 1, 0, IO(0, 1)));
    say("set class 4", syscall(SYS_ioprio_set, 1, 0, IO(4, 1)));
    say("set 0", syscall(SYS_ioprio_set, 1, 0, 0));
    say("ioprio", syscall(SYS_ioprio_get, 1, 0));
    say("which 0", syscall(SYS_ioprio_get, 0, 0));
    say("which 4", syscall(SYS_ioprio_set, 4, 0, IO(2, 1)));
    say("no pid", syscall(SYS_ioprio_get, 1, 999999));
    say("set no pid", syscall(SYS_ioprio_set, 1, 999999, IO(2, 1)));
    nice(10);
    say("nice 10", syscall(SYS_ioprio_get, 1, 0));
    return 0;
}
