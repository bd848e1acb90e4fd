/* What a thread has of its own and what the process has: numbers, names, /proc, clocks, usage, limits, groups, CPUs. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sem_t ready, done;
static pid_t tid;
static pthread_t worker;
static struct timespec spent;

static long nanoseconds(struct timespec time) { return time.tv_sec * 1000000000L + time.tv_nsec; }

static void *work(void *argument)
{
    struct rusage usage;
    struct timespec process;
    cpu_set_t one;
    tid = (pid_t)syscall(SYS_gettid);
    prctl(PR_SET_NAME, "worker");
    for (volatile int i = 0; i < 3000000; i++)
        ;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &process);
    printf("its own time is no more than the process's: %d, its usage %d\n", nanoseconds(spent) <= nanoseconds(process),
           getrusage(RUSAGE_THREAD, &usage));
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    printf("its CPU %d\n", sched_getcpu());
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + 5);
    sem_post(&ready);
    sem_wait(&done);
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    *(pid_t *)argument = child;
    sem_post(&ready);
    sem_wait(&done);
    return NULL;
}

static void line_of(const char *path, const char *name)
{
    char line[200];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        printf("%s: %s\n", path, strerror(errno));
        return;
    }
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            printf("%s", line);
    fclose(file);
}

static int entries(const char *path, int number)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    int found = 0;
    while (folder != NULL && (entry = readdir(folder)) != NULL)
        found += number ? atoi(entry->d_name) == number : entry->d_name[0] != '.';
    if (folder != NULL)
        closedir(folder);
    return found;
}

int main(void)
{
    char path[100], name[20], text[100];
    pid_t child;
    clockid_t clock;
    struct timespec now;
    struct rlimit limit;
    cpu_set_t set;

    setvbuf(stdout, NULL, _IONBF, 0);
    sem_init(&ready, 0, 0);
    sem_init(&done, 0, 0);
    pthread_create(&worker, NULL, work, &child);
    sem_wait(&ready);
    printf("tid %d, of the process %d\n", tid == getpid(), tid != getpid());
    printf("in task %d, this one %d, in /proc %d\n", entries("/proc/self/task", 0), entries("/proc/self/task", tid),
           entries("/proc", tid));
    snprintf(path, sizeof path, "/proc/%d/status", tid);
    line_of(path, "Name:");
    line_of(path, "Threads:");
    line_of("/proc/self/status", "Name:");
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    line_of(path, "");
    snprintf(path, sizeof path, "/proc/self/task/%d/task", tid);
    printf("no tasks in a task: %d\n", access(path, F_OK));
    snprintf(text, sizeof text, "%d/task/%d", getpid(), getpid());
    name[0] = 0;
    path[readlink("/proc/thread-self", path, sizeof path - 1)] = 0;
    printf("thread-self %d\n", strcmp(path, text) == 0);
    pthread_getname_np(worker, name, sizeof name);
    printf("name %s, nicer by %d\n", name, getpriority(PRIO_PROCESS, tid) - getpriority(PRIO_PROCESS, 0));
    pthread_getcpuclockid(worker, &clock);
    printf("its clock %d", clock_gettime(clock, &now));
    printf(" %d", nanoseconds(now) >= nanoseconds(spent));
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    printf(", the process's %d", nanoseconds(now) >= nanoseconds(spent));
    printf(", of a thread by the process's way: %d\n", clock_getcpuclockid(tid, &clock) != 0);
    limit.rlim_cur = 50;
    limit.rlim_max = 60;
    printf("limit %d", prlimit(tid, RLIMIT_NOFILE, &limit, NULL));
    getrlimit(RLIMIT_NOFILE, &limit);
    printf(" is the process's: %d\n", (int)limit.rlim_cur);
    sched_getaffinity(tid, sizeof set, &set);
    printf("its CPUs %d, bad mask", CPU_COUNT(&set));
    CPU_ZERO(&set);
    CPU_SET(77, &set);
    printf(" %d", sched_setaffinity(0, sizeof set, &set));
    printf(" %s\n", strerror(errno));
    printf("setpgid of a thread %d", setpgid(tid, 0));
    printf(" %s, getpgid %d, getsid %d\n", strerror(errno), getpgid(tid) == getpgrp(), getsid(tid) == getsid(0));
    printf("kill by a thread's number %d, tkill %ld\n", kill(tid, 0), syscall(SYS_tkill, tid, 0));
    sem_post(&done);
    sem_wait(&ready);
    printf("wait of another's child: __WNOTHREAD %d", waitpid(child, NULL, __WNOTHREAD));
    printf(" %s", strerror(errno));
    printf(", without %d\n", waitpid(child, NULL, 0) == child);
    sem_post(&done);
    pthread_join(worker, NULL);
    usleep(1000);
    printf("in task %d, gone: tkill %ld", entries("/proc/self/task", 0), syscall(SYS_tkill, tid, 0));
    printf(" %s\n", strerror(errno));
    return 0;
}
