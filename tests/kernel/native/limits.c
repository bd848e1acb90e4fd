#include "posix.h"
#include <sys/sendfile.h>

static int got;
static void handler(int number) { got++; }
static void now(const char *name, long result)
{
    printf("%s %ld %d SIGXFSZ %d\n", name, result, result < 0 ? errno : 0, got);
    got = 0;
}

int main(void)
{
    char bytes[8192];
    int in = open("in", O_RDWR | O_CREAT, 0600), out = open("out", O_RDWR | O_CREAT | O_TRUNC, 0600), pipes[2];
    struct rlimit limit = { 10000, 20000 };
    off64_t from, to;
    unlink("in"), unlink("out");
    memset(bytes, 'x', sizeof bytes);
    write(in, bytes, 8192), write(in, bytes, 8192);
    lseek(in, 0, SEEK_SET);
    signal(SIGXFSZ, handler);
    setrlimit(RLIMIT_FSIZE, &limit);
    now("sendfile", sendfile(out, in, 0, 8192));
    now("partial sendfile", sendfile(out, in, 0, 8192));
    printf("position %ld %ld\n", (long)lseek(in, 0, SEEK_CUR), (long)lseek(out, 0, SEEK_CUR));
    now("at the limit", sendfile(out, in, 0, 100));
    now("nothing at the limit", sendfile(out, in, 0, 0));
    from = 0, to = 9000;
    now("partial copy_file_range", copy_file_range(in, &from, out, &to, 4096, 0));
    from = 0, to = 10000;
    now("copy_file_range", copy_file_range(in, &from, out, &to, 4096, 0));
    lseek(out, 9990, SEEK_SET);
    now("partial write", write(out, bytes, 100));
    now("write", write(out, bytes, 100));
    lseek(out, 9990, SEEK_SET);
    struct { void *base; int size; } pieces[3] = { { bytes, 5 }, { bytes, 50 }, { bytes, 50 } };
    now("partial writev", syscall(SYS_writev, out, pieces, 3));
    now("writev", syscall(SYS_writev, out, pieces, 3));
    now("partial pwrite", pwrite(out, bytes, 100, 9995));
    pipe(pipes);
    write(pipes[1], bytes, 200);
    to = 9950;
    now("partial splice", splice(pipes[0], 0, out, &to, 100, 0));
    to = 10000;
    now("splice", splice(pipes[0], 0, out, &to, 100, 0));
    now("ftruncate", ftruncate(out, 10001));
    now("fallocate", fallocate(out, 0, 0, 10001));

    int full = open("/dev/full", O_RDWR), null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    int random = open("/dev/urandom", O_RDWR);
    write(pipes[1], bytes, 200);
    now("splice to full", splice(pipes[0], 0, full, 0, 10, 0));
    now("splice to null", splice(pipes[0], 0, null, 0, 10, 0));
    now("splice from null", splice(null, 0, pipes[1], 0, 10, 0));
    now("splice to zero", splice(pipes[0], 0, zero, 0, 10, 0));
    now("splice to random", splice(pipes[0], 0, random, 0, 10, 0));
    lseek(in, 0, SEEK_SET);
    now("sendfile to full", sendfile(full, in, 0, 10));
    now("sendfile to null", sendfile(null, in, 0, 10));
    now("sendfile to zero", sendfile(zero, in, 0, 10));
    return 0;
}
