#include "posix.h"
#include <sys/sendfile.h>

/* splice and sendfile from what has no page cache: devices, texts of /proc, descriptors that are none of these. */
static int full, null, zero, chance, version, maps, folder, event, pipes[2];

static void splices(void)
{
    char bytes[100] = { 1 };
    int sum = 0;
    say("full", splice(full, 0, pipes[1], 0, 10, 0));
    say("zero", splice(zero, 0, pipes[1], 0, 10000, 0));
    say("random", splice(chance, 0, pipes[1], 0, 10, 0));
    say("null", splice(null, 0, pipes[1], 0, 10, 0));
    say("event", splice(event, 0, pipes[1], 0, 8, 0));
    say("directory", splice(folder, 0, pipes[1], 0, 8, 0));
    say("read", read(pipes[0], bytes, 100));
    for (int at = 0; at < 100; at++)
        sum |= bytes[at];
    printf("zeros %d\n", sum == 0);
    say("version", splice(version, 0, pipes[1], 0, 5, 0));
    say("position", lseek(version, 0, SEEK_CUR));
}

static void sendfiles(void)
{
    off_t offset = 2;
    int file = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    say("version", sendfile(null, version, 0, 5));
    say("position", lseek(version, 0, SEEK_CUR));
    say("maps", sendfile(null, maps, 0, 5));
    say("version, offset", sendfile(null, version, &offset, 3));
    printf("offset %ld\n", (long)offset);
    say("zero", sendfile(file, zero, 0, 9000));
    say("size", lseek(file, 0, SEEK_END));
    say("null", sendfile(file, null, 0, 9));
    say("event", sendfile(file, event, 0, 8));
    say("directory", sendfile(file, folder, 0, 8));
    write(pipes[1], "x", 1);
    say("pipe", sendfile(null, pipes[0], 0, 1));
    say("nothing of zero", sendfile(null, zero, 0, 0));
    say("zero, offset", sendfile(null, zero, &offset, 4));
    printf("offset %ld\n", (long)offset);
}

int main(void)
{
    full = open("/dev/full", O_RDWR), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    chance = open("/dev/urandom", O_RDWR), version = open("/proc/version", O_RDONLY), maps = open("/proc/self/maps", O_RDONLY);
    folder = open("/tmp", O_RDONLY), event = syscall(SYS_eventfd2, 1, 0);
    pipe(pipes);
    splices(), sendfiles();
    return 0;
}
