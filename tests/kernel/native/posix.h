/* Say what a call gave: its result, or -1 and errno.  Times are told only as true or false, for two machines to agree. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long say(const char *what, long result)
{
    if (result == -1)
        printf("%s -1 %d\n", what, errno);
    else
        printf("%s %ld\n", what, result);
    fflush(stdout);
    return result;
}

static void pause_for(long nanoseconds)
{
    struct timespec time = { nanoseconds / 1000000000, nanoseconds % 1000000000 };
    nanosleep(&time, 0);
}
