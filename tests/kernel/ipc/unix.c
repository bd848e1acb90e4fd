/*
 * Sockets of the local family, with every result and every errno printed: ``unix SECTION [direct]``.  With "direct" the
 * calls are 359 to 373, without it they go through socketcall(102).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

static int direct;
static const char *last;

static long go(int number, int call, long a, long b, long c, long d, long e, long f)
{
        long args[6] = { a, b, c, d, e, f };
        if (direct && number)
                return syscall(number, a, b, c, d, e, f);
        return syscall(SYS_socketcall, call, args);
}
#define G(n, c, a, b, d, e, f, g) go(n, c, (long)(a), (long)(b), (long)(d), (long)(e), (long)(f), (long)(g))
#define Socket(a, b, c) G(359, 1, a, b, c, 0, 0, 0)
#define Pair(a, b, c, d) G(360, 8, a, b, c, d, 0, 0)
#define Bind(a, b, c) G(361, 2, a, b, c, 0, 0, 0)
#define Connect(a, b, c) G(362, 3, a, b, c, 0, 0, 0)
#define Listen(a, b) G(363, 4, a, b, 0, 0, 0, 0)
#define Accept(a, b, c) G(0, 5, a, b, c, 0, 0, 0)
#define Accept4(a, b, c, d) G(364, 18, a, b, c, d, 0, 0)
#define Getopt(a, b, c, d, e) G(365, 15, a, b, c, d, e, 0)
#define Setopt(a, b, c, d, e) G(366, 14, a, b, c, d, e, 0)
#define Sockname(a, b, c) G(367, 6, a, b, c, 0, 0, 0)
#define Peername(a, b, c) G(368, 7, a, b, c, 0, 0, 0)
#define Sendto(a, b, c, d, e, f) G(369, 11, a, b, c, d, e, f)
#define Sendmsg(a, b, c) G(370, 16, a, b, c, 0, 0, 0)
#define Recvfrom(a, b, c, d, e, f) G(371, 12, a, b, c, d, e, f)
#define Recvmsg(a, b, c) G(372, 17, a, b, c, 0, 0, 0)
#define Shutdown(a, b) G(373, 13, a, b, 0, 0, 0, 0)
#define Send(a, b, c, d) (direct ? Sendto(a, b, c, d, 0, 0) : G(0, 9, a, b, c, d, 0, 0))
#define Recv(a, b, c, d) (direct ? Recvfrom(a, b, c, d, 0, 0) : G(0, 10, a, b, c, d, 0, 0))

static long show(const char *what, long result)
{
        if (result < 0)
                printf("%s = -1 %s\n", what, strerrorname_np(errno));
        else
                printf("%s = %ld\n", what, result);
        fflush(stdout);
        return result;
}
#define T(call) show(#call, call)

static struct sockaddr_un at_;
static socklen_t name(const char *path)
{
        memset(&at_, 0, sizeof at_);
        at_.sun_family = AF_UNIX;
        strcpy(at_.sun_path, path);
        return offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
}
static socklen_t abstract(const char *path)
{
        memset(&at_, 0, sizeof at_);
        at_.sun_family = AF_UNIX;
        strcpy(at_.sun_path + 1, path);
        return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(path);
}
static void named(const char *what, int fd, int peer)
{
        struct sockaddr_un un;
        socklen_t size = sizeof un;
        memset(&un, 'x', sizeof un);
        long got = peer ? Peername(fd, &un, &size) : Sockname(fd, &un, &size);
        if (got < 0) {
                printf("%s: %s\n", what, strerrorname_np(errno));
                return;
        }
        printf("%s: family %d size %d name '%c%.*s'\n", what, un.sun_family, (int)size,
               size > 2 ? (un.sun_path[0] ? un.sun_path[0] : '@') : '-', size > 110 ? 107 : size > 3 ? (int)size - 3 : 0, un.sun_path + 1);
}
static void ready(const char *what, int fd)
{
        struct pollfd p = { fd, 0x27ff, 0 };
        int got = poll(&p, 1, 0);
        printf("%s: poll %d %04x\n", what, got, p.revents);
}
static int pending(int fd)
{
        int n = -1;
        return ioctl(fd, FIONREAD, &n) < 0 ? -errno : n;
}
static int option(int fd, int number)
{
        int value = -1;
        socklen_t size = sizeof value;
        return Getopt(fd, SOL_SOCKET, number, &value, &size) < 0 ? -errno : value;
}
static char buf[300000];
static int p[2], q[2];

static void kinds(void)
{
        static const int types[] = { 0, 1, 2, 3, 4, 5, 6, 10, 11, 15, 16, 1 | SOCK_CLOEXEC | SOCK_NONBLOCK, 1 | 0x100 };
        for (unsigned i = 0; i < sizeof types / sizeof *types; i++) {
                int fd = show("socket type", Socket(AF_UNIX, types[i], 0));
                if (fd >= 0) {
                        printf("  type %d domain %d protocol %d accept %d flags %x fd %x\n", option(fd, SO_TYPE),
                               option(fd, SO_DOMAIN), option(fd, SO_PROTOCOL), option(fd, SO_ACCEPTCONN),
                               fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
                        close(fd);
                }
        }
        T(Socket(AF_UNIX, SOCK_STREAM, 1));
        T(Socket(AF_UNIX, SOCK_STREAM, 2));
        T(Socket(-1, SOCK_STREAM, 0));
        T(Socket(99, SOCK_STREAM, 0));
        T(Socket(99, 11, 0));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, 0x10));
        T(Pair(AF_UNIX, 4, 0, p));
        T(Pair(AF_UNIX, SOCK_STREAM, 7, p));
        T(Pair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p));
        struct stat s;
        fstat(p[0], &s);
        printf("mode %o links %d cloexec %x\n", s.st_mode, (int)s.st_nlink, fcntl(p[0], F_GETFD));
        char link[64] = "", path[64];
        sprintf(path, "/proc/self/fd/%d", p[0]);
        readlink(path, link, sizeof link - 1);
        printf("%.8s\n", link);
        T(open(path, O_RDWR));
        struct statfs fs;
        fstatfs(p[0], &fs);
        printf("file system %x\n", (int)fs.f_type);
        T(lseek(p[0], 0, SEEK_SET));
        T(pread(p[0], buf, 1, 0));
        T(Bind(1, &at_, 2));
        T(Bind(77, &at_, 2));
        T(syscall(SYS_socketcall, 0, buf));
        T(syscall(SYS_socketcall, 21, buf));
        T(syscall(SYS_socketcall, 1, 0x10));
}

static void names(void)
{
        struct stat s;
        unlink("sock");
        unlink("file");
        close(open("file", O_CREAT | O_RDWR, 0600));
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0), d = Socket(AF_UNIX, SOCK_DGRAM, 0);
        named("unbound", a, 0);
        named("unconnected", a, 1);
        T(Listen(a, 1));
        T(Accept(a, 0, 0));
        T(Bind(a, &at_, 0));
        T(Bind(a, &at_, 1));
        T(Bind(a, &at_, 129));
        T(Bind(a, &at_, 111));
        T(Bind(a, &at_, 2));
        T(Bind(a, 0x10, 20));
        socklen_t size = name("sock");
        at_.sun_family = 5;
        T(Bind(a, &at_, size));
        at_.sun_family = AF_UNIX;
        umask(022);
        T(Bind(a, &at_, size));
        T(stat("sock", &s));
        printf("mode %o size %d\n", s.st_mode, (int)s.st_size);
        named("bound", a, 0);
        T(Bind(a, &at_, size));
        T(Bind(b, &at_, size));
        size = name("other");
        T(Bind(a, &at_, size));
        T(access("other", F_OK));
        size = name("file");
        T(Bind(b, &at_, size));
        T(Connect(b, &at_, size));
        size = name("missing/x");
        T(Bind(b, &at_, size));
        T(Connect(b, &at_, size));
        size = name("file/x");
        T(Bind(b, &at_, size));
        T(open("sock", O_RDWR));
        T(open("sock", O_RDONLY));
        int path = T(open("sock", O_PATH));
        T(Listen(path, 1));
        close(path);
        T(truncate("sock", 0));
        size = name("sock");
        T(Connect(b, &at_, size));
        T(Connect(d, &at_, size));
        T(Listen(a, 1));
        T(Connect(d, &at_, size));
        T(Connect(b, &at_, size));
        T(Connect(b, &at_, size));
        T(Connect(a, &at_, size));
        T(Listen(b, 1));
        named("b", b, 0);
        named("b's peer", b, 1);
        T(rename("sock", "moved"));
        int c = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Connect(c, &at_, size));
        size = name("moved");
        T(Connect(c, &at_, size));
        T(unlink("moved"));
        int e = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Connect(e, &at_, size));
        named("listener", a, 0);
        struct sockaddr_un un;
        socklen_t room = sizeof un;
        int got = T(Accept(a, &un, &room));
        printf("room %d family %d\n", room, un.sun_family);
        named("accepted", got, 0);
        named("accepted's peer", got, 1);
        room = 5;
        memset(&un, 0, sizeof un);
        T(Sockname(a, &un, &room));
        printf("cut: room %d '%s'\n", room, un.sun_path);
        room = -1;
        T(Sockname(a, &un, &room));
        T(Sockname(a, &un, 0x10));
        T(Sockname(a, 0x10, (room = 20, &room)));
        close(a);
        T(send(c, "x", 1, MSG_NOSIGNAL));
        size = abstract("sandbox-test");
        int f = Socket(AF_UNIX, SOCK_STREAM, 0), g = Socket(AF_UNIX, SOCK_DGRAM, 0), h = Socket(AF_UNIX, SOCK_DGRAM, 0);
        T(Connect(f, &at_, size));
        T(Bind(f, &at_, size));
        T(Bind(g, &at_, size));
        T(Bind(h, &at_, size));
        T(Bind(f, &at_, size + 1));
        named("abstract", f, 0);
        T(Connect(h, &at_, size));
        T(Connect(h, &at_, size + 1));
        named("h's peer", h, 1);
        close(f);
        close(g);
        T(Bind(h, &at_, size));
        memset(&at_, 0, sizeof at_);
        at_.sun_family = AF_UNIX;
        int i = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Bind(i, &at_, 2));
        room = sizeof un;
        Sockname(i, &un, &room);
        printf("autobound: size %d first %d hex %d\n", room, un.sun_path[0], (int)strspn(un.sun_path + 1, "0123456789abcdef"));
        T(Bind(i, &at_, 2));
        int j = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Bind(j, &at_, 3));
        named("empty abstract", j, 0);
        int k = Socket(AF_UNIX, SOCK_STREAM, 0);
        memset(at_.sun_path, 'l', 108);
        T(Bind(k, &at_, 110));
        named("longest", k, 0);
        memset(buf, 'l', 108);
        T(unlink(buf));
        fchmod(h, 0600);
        int l = Socket(AF_UNIX, SOCK_DGRAM, 0);
        T(fchmod(l, 0640));
        size = name("sock2");
        T(Bind(l, &at_, size));
        stat("sock2", &s);
        printf("mode %o\n", s.st_mode);
        symlink("sock2", "link2");
        size = name("link2");
        int m = Socket(AF_UNIX, SOCK_DGRAM, 0);
        T(Bind(m, &at_, size));
        T(Connect(m, &at_, size));
        named("through a link", m, 1);
        T(mknod("sock3", S_IFSOCK | 0600, 0));
        size = name("sock3");
        T(Connect(m, &at_, size));
        unlink("sock2"), unlink("sock3"), unlink("link2"), unlink("file");
}

static void backlog(void)
{
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), fd, n;
        socklen_t size = abstract("sandbox-backlog");
        Bind(a, &at_, size);
        for (int most = 0; most < 4; most++) {
                T(Listen(a, most));
                for (n = 0;; n++) {
                        fd = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
                        if (Connect(fd, &at_, size) < 0)
                                break;
                }
                printf("%d more: %s\n", n, strerrorname_np(errno));
                ready("refused", fd);
        }
        ready("listener", a);
        printf("FIONREAD %d accepting %d\n", pending(a), option(a, SO_ACCEPTCONN));
        T(Send(a, "x", 1, MSG_NOSIGNAL));
        T(Recv(a, buf, 1, 0));
        T(Accept4(a, 0, 0, 1));
        int got = T(Accept4(a, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK));
        printf("flags %x %x\n", fcntl(got, F_GETFL), fcntl(got, F_GETFD));
        T(Connect(fd, &at_, size));
        ready("connected", fd);
        T(Send(fd, "early", 5, 0));
        while (fcntl(a, F_SETFL, O_NONBLOCK), (n = Accept(a, 0, 0)) >= 0)
                got = n;
        printf("then %s\n", strerrorname_np(errno));
        T(Recv(got, buf, 9, 0));
        struct timeval tv = { 0, 20000 };
        int w = Socket(AF_UNIX, SOCK_STREAM, 0);
        Listen(a, 0);
        T(Connect(w, &at_, size));
        w = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Setopt(w, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
        T(Connect(w, &at_, size));
        fcntl(a, F_SETFL, 0);
        if (!fork()) {
                usleep(20000);
                Accept(a, 0, 0);
                exit(0);
        }
        w = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Connect(w, &at_, size));
        wait(0);
        T(Setopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
        T(Accept(a, 0, 0) > 0);
        T(Accept(a, 0, 0));
        int x = Socket(AF_UNIX, SOCK_STREAM, 0);
        Connect(x, &at_, size);
        Send(x, "lost", 4, 0);
        T(Shutdown(a, SHUT_RD));
        ready("shut listener", a);
        w = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Connect(w, &at_, size));
        T(Accept(a, 0, 0) > 0);
        T(Accept(a, 0, 0));
        int y = Socket(AF_UNIX, SOCK_STREAM, 0), z = Socket(AF_UNIX, SOCK_STREAM, 0);
        size = abstract("sandbox-second");
        Bind(z, &at_, size), Listen(z, 5);
        Connect(y, &at_, size);
        Send(y, "lost", 4, 0);
        close(z);
        ready("never accepted", y);
        T(Recv(y, buf, 9, 0));
        T(Recv(y, buf, 9, 0));
        T(Send(y, "x", 1, MSG_NOSIGNAL));
        T(Connect(x, &at_, size));
}

static int pipes;
static void on_pipe(int n) { pipes++; }

static void stream(void)
{
        signal(SIGPIPE, on_pipe);
        int s = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Send(s, "x", 1, MSG_NOSIGNAL));
        T(Recv(s, buf, 1, 0));
        T(Shutdown(s, 2));
        T(Shutdown(s, 3));
        ready("shut", s);
        ready("fresh", Socket(AF_UNIX, SOCK_STREAM, 0));
        T(Pair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
        ready("pair", p[0]);
        T(Recv(p[0], buf, 1, 0));
        T(write(p[0], "hello", 5));
        T(Send(p[0], " world", 6, 0));
        ready("with data", p[1]);
        printf("FIONREAD %d\n", pending(p[1]));
        T(Recv(p[1], buf, 100, MSG_PEEK));
        T(Recv(p[1], buf, 3, MSG_PEEK));
        T(Recv(p[1], buf, 3, 0));
        printf("FIONREAD %d\n", pending(p[1]));
        T(Recv(p[1], buf + 3, 100, MSG_TRUNC));
        printf("'%.11s'\n", buf);
        T(Sendto(p[0], "x", 1, 0, &at_, 10));
        T(Sendto(s, "x", 1, 0, &at_, 10));
        T(Send(p[0], 0x10, 4, 0));
        T(Send(p[0], 0xfffffff0, 4, 0));
        T(Send(p[0], "", 0, 0));
        T(Recv(p[1], buf, 0, 0));
        T(read(p[1], buf, 0));
        T(Send(p[0], "abc", 3, 0));
        T(Recv(p[1], 0x10, 4, 0));
        T(Recv(p[1], buf, 4, 0));
        struct iovec in[3] = { { buf, 2 }, { (void *)16, 8 }, { buf + 10, 4 } };
        T(writev(p[0], in, 2));
        T(writev(p[0], (struct iovec[]){ { "ab", 2 }, { "", 0 }, { "cd", 2 } }, 3));
        T(readv(p[1], in, 3));
        T(Recv(p[1], buf, 9, 0));
        int n = 0;
        while (write(p[0], buf, 1) == 1)
                n++;
        printf("%d single bytes, %s\n", n, strerrorname_np(errno));
        ready("full", p[0]);
        while (Recv(p[1], buf, 1, 0) == 1 && n-- > 100)
                ;
        ready("less", p[0]);
        while (Recv(p[1], buf, sizeof buf, 0) > 0)
                ;
        T(write(p[0], buf, sizeof buf));
        int queued = -1;
        T(ioctl(p[0], 0x5411, &queued));
        printf("SIOCOUTQ %d FIONREAD %d\n", queued, pending(p[1]));
        T(Recv(p[1], buf, sizeof buf, 0));
        T(Recv(p[1], buf, sizeof buf, 0));
        T(Send(p[0], "bye", 3, 0));
        T(Shutdown(p[0], SHUT_WR));
        ready("shut writer", p[0]);
        ready("its peer", p[1]);
        T(Send(p[0], "x", 1, 0));
        printf("SIGPIPE %d\n", pipes);
        T(Send(p[0], "x", 1, MSG_NOSIGNAL));
        printf("SIGPIPE %d\n", pipes);
        T(Recv(p[1], buf, 9, 0));
        T(Recv(p[1], buf, 9, 0));
        T(Send(p[1], "back", 4, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Shutdown(p[1], SHUT_RD));
        ready("both", p[0]);
        close(p[1]);
        ready("peer closed", p[0]);
        T(write(p[0], "x", 1));
        printf("SIGPIPE %d error %d\n", pipes, option(p[0], SO_ERROR));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        Send(p[0], "unread", 6, 0);
        Send(p[1], "last", 4, 0);
        close(p[1]);
        ready("reset", p[0]);
        T(Recv(p[0], buf, 2, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        Send(p[0], "unread", 6, 0);
        close(p[1]);
        printf("error %d\n", option(p[0], SO_ERROR));
        printf("error %d\n", option(p[0], SO_ERROR));
        T(Recv(p[0], buf, 9, 0));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        Shutdown(p[1], SHUT_RD);
        T(Send(p[0], "x", 1, 0));
        printf("SIGPIPE %d\n", pipes);
        T(Recv(p[1], buf, 1, 0));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        if (!fork()) {
                for (n = 0; n < 4; n++)
                        usleep(10000), write(p[1], "1234", 4);
                exit(0);
        }
        T(Recv(p[0], buf, 10, MSG_WAITALL));
        T(Recv(p[0], buf, 10, 0) < 7);
        wait(0);
        T(Recv(p[0], buf, 10, MSG_DONTWAIT) < 7);
        T(Recv(p[0], buf, 10, MSG_DONTWAIT));
        struct timeval tv = { 0, 20000 };
        T(Setopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
        T(Recv(p[0], buf, 10, 0));
        T(Setopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
        n = T(write(p[0], buf, sizeof buf));
        T(write(p[0], buf, 1));
        if (!fork()) {
                usleep(20000);
                while (read(p[1], buf, 4096) > 0)
                        ;
                exit(0);
        }
        tv.tv_usec = 0;
        T(Setopt(p[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv));
        close(p[1]);
        T(write(p[0], buf, sizeof buf));
        T(Shutdown(p[0], SHUT_RDWR));
        wait(0);
        T(Recv(p[0], buf, 1, 0));
}

static void messages(int type, const char *bound)
{
        signal(SIGPIPE, on_pipe);
        int n, s = Socket(AF_UNIX, type, 0);
        T(Send(s, "x", 1, 0));
        T(Recv(s, buf, 1, MSG_DONTWAIT));
        ready("fresh", s);
        T(Pair(AF_UNIX, type | SOCK_NONBLOCK, 0, p));
        ready("pair", p[0]);
        T(Recv(p[0], buf, 1, 0));
        T(Send(p[0], "hello", 5, 0));
        T(write(p[0], "world!", 6));
        T(write(p[0], "", 0));
        printf("FIONREAD %d\n", pending(p[1]));
        ready("with data", p[1]);
        T(Recv(p[1], buf, 3, MSG_PEEK));
        T(Recv(p[1], buf, 3, MSG_PEEK | MSG_TRUNC));
        T(Recv(p[1], buf, 3, 0));
        T(Recv(p[1], buf, 3, MSG_TRUNC));
        printf("FIONREAD %d\n", pending(p[1]));
        T(Recv(p[1], buf, 9, 0));
        T(Recv(p[1], buf, 9, 0));
        T(Send(p[0], "x", 1, MSG_OOB));
        T(Recv(p[1], buf, 1, MSG_OOB));
        T(Send(p[0], "abc", 3, 0));
        T(Recv(p[1], 0x10, 9, 0));
        T(Recv(p[1], buf, 9, 0));
        T(Send(p[0], 0x10, 3, 0));
        T(Send(p[0], buf, 212961, 0));
        T(Send(p[0], buf, 212960, 0));
        T(Send(p[0], buf, 1, 0));
        T(Recv(p[1], buf, sizeof buf, 0));
        for (n = 0; Send(p[0], "", 0, 0) == 0; n++)
                ;
        printf("%d empty messages, %s\n", n, strerrorname_np(errno));
        for (; n; n--)
                Recv(p[1], buf, 1, 0);
        T(Recv(p[1], buf, 1, 0));
        Send(p[0], "last", 4, 0);
        T(Shutdown(p[0], SHUT_WR));
        ready("shut writer", p[0]);
        ready("its peer", p[1]);
        T(Send(p[0], "x", 1, 0));
        T(Recv(p[1], buf, 9, 0));
        T(Recv(p[1], buf, 9, 0));
        T(Shutdown(p[1], SHUT_RD));
        ready("both", p[0]);
        T(Recv(p[1], buf, 9, 0));
        fcntl(p[1], F_SETFL, 0);
        T(Recv(p[1], buf, 9, 0));
        T(Pair(AF_UNIX, type | SOCK_NONBLOCK, 0, p));
        Send(p[0], "unread", 6, 0);
        Send(p[1], "last", 4, 0);
        close(p[1]);
        ready("peer closed", p[0]);
        T(Recv(p[0], buf, 9, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Recv(p[0], buf, 9, 0));
        T(Send(p[0], "x", 1, 0));
        T(Send(p[0], "x", 1, 0));
        printf("SIGPIPE %d error %d\n", pipes, option(p[0], SO_ERROR));
        T(Pair(AF_UNIX, type | SOCK_NONBLOCK, 0, p));
        Shutdown(p[1], SHUT_RD);
        T(Send(p[0], "x", 1, 0));
        printf("SIGPIPE %d\n", pipes);
        struct iovec in[2] = { { buf, 2 }, { (void *)16, 8 } };
        T(Pair(AF_UNIX, type | SOCK_NONBLOCK, 0, p));
        T(writev(p[0], in, 2));
        T(writev(p[0], (struct iovec[]){ { "ab", 2 }, { "cd", 2 } }, 2));
        T(readv(p[1], in, 2));
        T(Recv(p[1], buf, 9, 0));
        if (!fork()) {
                usleep(20000);
                Send(p[1], "woken", 5, 0);
                exit(0);
        }
        fcntl(p[0], F_SETFL, 0);
        T(Recv(p[0], buf, 9, 0));
        wait(0);
        close(p[1]);
}
static void dgram(void)
{
        messages(SOCK_DGRAM, "dgram");
        struct sockaddr_un un;
        socklen_t size, room = sizeof un;
        int a = Socket(AF_UNIX, SOCK_DGRAM, 0), b = Socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), n;
        int c = Socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
        size = abstract("sandbox-a");
        T(Sendto(b, "x", 1, 0, &at_, size));
        Bind(a, &at_, size);
        T(Listen(a, 1));
        T(Accept(a, 0, 0));
        T(Sendto(b, "one", 3, 0, &at_, size));
        T(Sendto(b, "x", 1, 0, &at_, 2));
        T(Sendto(b, "x", 1, 0, &at_, 0));
        T(Sendto(b, "x", 1, 0, 0, 9));
        T(Sendto(b, "x", 1, 0, 0x10, 9));
        T(Recvfrom(a, buf, 9, 0, &un, &room));
        printf("room %d\n", room);
        size = abstract("sandbox-b");
        Bind(b, &at_, size);
        size = abstract("sandbox-a");
        T(Sendto(b, "two", 3, 0, &at_, size));
        room = sizeof un;
        T(Recvfrom(a, buf, 9, 0, &un, &room));
        printf("room %d '%s'\n", room, un.sun_path + 1);
        Sendto(b, "three", 3, 0, &at_, size);
        T(Recvfrom(a, buf, 9, 0, &un, 0x10));
        T(Recv(a, buf, 9, MSG_DONTWAIT));
        T(Connect(b, &at_, size));
        named("b's peer", b, 1);
        T(Connect(b, &at_, size));
        for (n = 0; Send(b, "x", 1, 0) == 1; n++)
                ;
        printf("%d messages, %s\n", n, strerrorname_np(errno));
        ready("full", b);
        ready("another", c);
        T(Sendto(c, "x", 1, 0, &at_, size));
        T(Recv(a, buf, 1, 0));
        ready("room", b);
        T(Sendto(c, "x", 1, 0, &at_, size));
        T(Sendto(c, "x", 1, 0, &at_, size));
        size = abstract("sandbox-b");
        T(Sendto(a, "back", 4, 0, &at_, size));
        T(Connect(a, &at_, size));
        T(Recv(a, buf, 9, MSG_DONTWAIT));
        size = abstract("sandbox-a");
        T(Sendto(c, "x", 1, 0, &at_, size));
        T(Connect(c, &at_, size));
        T(Recv(b, buf, 9, 0));
        struct sockaddr_un none = { AF_UNSPEC };
        T(Send(b, "queued", 6, 0));
        T(Connect(a, &none, 2));
        named("a's peer", a, 1);
        printf("b's error %d\n", option(b, SO_ERROR));
        T(Recv(a, buf, 9, MSG_DONTWAIT));
        T(Send(b, "still", 5, 0));
        T(Recv(a, buf, 9, MSG_DONTWAIT));
        close(a);
        ready("b", b);
        T(Send(b, "x", 1, 0));
        T(Send(b, "x", 1, 0));
        named("b's peer", b, 1);
        T(Sendto(b, "x", 1, 0, &at_, size));
        int d = Socket(AF_UNIX, SOCK_DGRAM, 0);
        Bind(d, &at_, size);
        T(Sendto(d, "self", 4, 0, &at_, size));
        T(Recv(d, buf, 9, 0));
        T(Connect(d, &at_, size));
        T(Send(d, "self", 4, 0));
        T(Recv(d, buf, 9, 0));
        int e = Socket(AF_UNIX, SOCK_SEQPACKET, 0);
        T(Connect(e, &at_, size));
        int f = Socket(AF_UNIX, SOCK_DGRAM, 0);
        unlink("dsock");
        size = name("dsock");
        T(Sendto(f, "x", 1, 0, &at_, size));
        Bind(f, &at_, size);
        T(Sendto(f, "x", 1, 0, &at_, size));
        T(Connect(e, &at_, size));
        unlink("dsock");
        T(Sendto(f, "x", 1, 0, &at_, size));
        T(Connect(d, &none, 2));
        if (!fork()) {
                size = abstract("sandbox-a");
                for (n = 0; n < 30; n++)
                        Sendto(f, &n, 4, 0, &at_, size);
                exit(0);
        }
        for (n = 0; n < 30; n++) {
                int got = -1;
                if (Recv(d, &got, 4, 0) != 4 || got != n)
                        printf("message %d: %d\n", n, got);
        }
        wait(0);
}
static void seqpacket(void)
{
        messages(SOCK_SEQPACKET, "seq");
        struct sockaddr_un un;
        socklen_t room = sizeof un;
        int a = Socket(AF_UNIX, SOCK_SEQPACKET, 0), b = Socket(AF_UNIX, SOCK_SEQPACKET, 0);
        socklen_t size = abstract("sandbox-seq");
        Bind(a, &at_, size);
        T(Listen(a, 3));
        T(Recv(a, buf, 1, MSG_DONTWAIT));
        T(Connect(b, &at_, size));
        T(Connect(b, &at_, size));
        int n, c = T(Accept(a, &un, &room));
        printf("room %d\n", room);
        T(Sendto(b, "abc", 3, 0, &un, 200));
        T(Sendto(b, "abc", 3, 0, &un, 2));
        room = sizeof un;
        T(Recvfrom(c, buf, 2, 0, &un, &room));
        printf("room %d\n", room);
        room = sizeof un;
        T(Sendto(c, "def", 3, 0, 0, 0));
        T(Recvfrom(b, buf, 9, 0, &un, &room));
        printf("room %d\n", room);
        fcntl(b, F_SETFL, O_NONBLOCK);
        for (n = 0; Send(b, "x", 1, 0) == 1; n++)
                ;
        printf("%d messages, %s\n", n, strerrorname_np(errno));
        close(c);
        T(Send(b, "x", 1, 0));
        T(Send(b, "x", 1, 0));
}

static struct msghdr out, in;
static struct iovec data[2];
static union { char bytes[2048]; struct cmsghdr align; } sent, got;

static struct cmsghdr *begin(int kind, int size)
{
        memset(&sent, 0, sizeof sent);
        out = (struct msghdr){ 0, 0, data, 1, &sent, CMSG_SPACE(size), 0 };
        data[0] = (struct iovec){ "m", 1 };
        struct cmsghdr *c = CMSG_FIRSTHDR(&out);
        c->cmsg_level = SOL_SOCKET, c->cmsg_type = kind, c->cmsg_len = CMSG_LEN(size);
        return c;
}
static long pass(const char *what, int to, const int *fds, int count)
{
        memcpy(CMSG_DATA(begin(SCM_RIGHTS, 4 * count)), fds, 4 * count);
        return show(what, Sendmsg(to, &out, MSG_DONTWAIT));
}
static int fetched[260], fetches;
static long fetch(const char *what, int from, int control, int flags)
{
        memset(&got, 0, sizeof got);
        data[1] = (struct iovec){ buf, 100 };
        in = (struct msghdr){ 0, 0, data + 1, 1, &got, control, 0x55 };
        long n = show(what, Recvmsg(from, &in, flags | MSG_DONTWAIT));
        printf("  flags %x control %d\n", in.msg_flags, (int)in.msg_controllen);
        fetches = 0;
        if (n >= 0)
                for (struct cmsghdr *c = CMSG_FIRSTHDR(&in); c; c = CMSG_NXTHDR(&in, c)) {
                        printf("  level %d type %d len %d", c->cmsg_level, c->cmsg_type, (int)c->cmsg_len);
                        if (c->cmsg_type == SCM_RIGHTS)
                                for (unsigned i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / 4; i++) {
                                        int fd = ((int *)CMSG_DATA(c))[i];
                                        fetched[fetches++] = fd;
                                        printf(" fd%s", fcntl(fd, F_GETFD) < 0 ? "?" : fcntl(fd, F_GETFD) ? "*" : "");
                                }
                        else if (c->cmsg_len >= CMSG_LEN(12)) {
                                struct ucred *u = (void *)CMSG_DATA(c);
                                printf(" pid %d uid %d gid %d", u->pid == getpid() ? 1 : u->pid ? 2 : 0, u->uid, u->gid);
                        }
                        printf("\n");
                }
        return n;
}
static int open_fds(void)
{
        int n = 0;
        for (int fd = 0; fd < 1024; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void rights(void)
{
        struct stat s;
        int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
        for (int t = 0; t < 3; t++) {
                T(Pair(AF_UNIX, types[t], 0, p));
                pipe(q);
                pass("pass both ends", p[0], q, 2);
                close(q[0]), close(q[1]);
                fetch("fetch", p[1], sizeof got, 0);
                T(write(fetched[1], "abc", 3));
                T(read(fetched[0], buf, 9));
                T(close(fetched[1]));
                T(read(fetched[0], buf, 9));
                close(fetched[0]);
                int before = open_fds();
                pipe(q);
                pass("pass", p[0], q, 2);
                fetch("fetch, cloexec", p[1], sizeof got, MSG_CMSG_CLOEXEC);
                close(fetched[0]), close(fetched[1]);
                pass("pass", p[0], q, 2);
                fetch("fetch, room for one", p[1], CMSG_LEN(4), 0);
                close(fetched[0]);
                pass("pass", p[0], q, 2);
                fetch("fetch, room for a header", p[1], CMSG_LEN(0), 0);
                pass("pass", p[0], q, 2);
                fetch("fetch, no room", p[1], 0, 0);
                pass("pass", p[0], q, 2);
                in.msg_control = 0, in.msg_controllen = 99, in.msg_flags = 0;
                T(Recvmsg(p[1], &in, 0));
                printf("  flags %x control %d\n", in.msg_flags, (int)in.msg_controllen);
                pass("pass", p[0], q, 2);
                T(read(p[1], buf, 9));
                pass("pass", p[0], q, 2);
                fetch("peek", p[1], sizeof got, MSG_PEEK);
                printf("same file %d\n", fstat(fetched[0], &s));
                close(fetched[0]), close(fetched[1]);
                fetch("fetch", p[1], sizeof got, 0);
                close(fetched[0]), close(fetched[1]);
                close(q[1]);
                T(read(q[0], buf, 1));
                close(q[0]);
                printf("left %d\n", open_fds() - before);
                int bad[] = { 0, 99 };
                pass("a bad descriptor", p[0], bad, 2);
                pass("none", p[0], bad, 0);
                fetch("fetch", p[1], sizeof got, 0);
                int many[254] = { 0 };
                pass("254", p[0], many, 254);
                pass("253", p[0], many, 253);
                fetch("fetch", p[1], sizeof got, 0);
                for (int i = 0; i < fetches; i++)
                        close(fetched[i]);
                struct cmsghdr *c = begin(SCM_RIGHTS, 4);
                c->cmsg_len = 11;
                T(Sendmsg(p[0], &out, 0));
                c->cmsg_len = CMSG_LEN(5);
                T(Sendmsg(p[0], &out, 0));
                c->cmsg_len = CMSG_LEN(4);
                c->cmsg_type = 99;
                T(Sendmsg(p[0], &out, 0));
                c->cmsg_level = 99;
                T(Sendmsg(p[0], &out, 0));
                fetch("fetch", p[1], sizeof got, 0);
                c = begin(SCM_RIGHTS, 4);
                out.msg_controllen = 8;
                T(Sendmsg(p[0], &out, 0));
                out.msg_controllen = 1 << 20;
                T(Sendmsg(p[0], &out, 0));
                out.msg_control = (void *)16, out.msg_controllen = 16;
                T(Sendmsg(p[0], &out, 0));
                out.msg_controllen = 0;
                T(Sendmsg(p[0], &out, 0));
                out.msg_iovlen = 1025;
                T(Sendmsg(p[0], &out, 0));
                out.msg_iovlen = 1, out.msg_namelen = -1;
                T(Sendmsg(p[0], &out, 0));
                T(Sendmsg(p[0], 0x10, 0));
                T(Recvmsg(p[1], 0x10, 0));
                close(p[0]), close(p[1]);
        }
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        int zero = 0;
        write(p[0], "ab", 2);
        pass("between", p[0], &zero, 1);
        write(p[0], "cd", 2);
        fetch("up to the files", p[1], sizeof got, 0);
        fetch("after them", p[1], sizeof got, 0);
        close(fetched[0]);
        pass("large", p[0], &zero, 1);
        data[0] = (struct iovec){ buf, 100000 };
        T(Sendmsg(p[0], &out, 0));
        fetch("small", p[1], sizeof got, 0);
        fetch("and", p[1], sizeof got, 0);
        for (long n; (n = Recv(p[1], buf, 200000, MSG_DONTWAIT)) > 0;)
                printf("%ld\n", n);
        out.msg_iovlen = 0;
        T(Sendmsg(p[0], &out, 0));
        fetch("nothing came", p[1], sizeof got, 0);
        Pair(AF_UNIX, SOCK_DGRAM, 0, q);
        begin(SCM_RIGHTS, 4);
        out.msg_iovlen = 0;
        T(Sendmsg(q[0], &out, 0));
        fetch("only files", q[1], sizeof got, 0);
        close(fetched[0]);
        struct rlimit few = { open_fds(), 4096 };
        setrlimit(RLIMIT_NOFILE, &few);
        int three[3] = { 0, 1, 2 };
        pass("three", q[0], three, 3);
        fetch("no descriptor free", q[1], sizeof got, 0);
        T(Socket(AF_UNIX, SOCK_STREAM, 0));
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
}

static void creds(void)
{
        int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET }, on = 1, off = 0;
        for (int t = 0; t < 3; t++) {
                T(Pair(AF_UNIX, types[t], 0, p));
                write(p[0], "before", 6);
                T(Setopt(p[1], SOL_SOCKET, SO_PASSCRED, &on, 4));
                write(p[0], "after", 5);
                fetch("unknown", p[1], sizeof got, 0);
                fetch("known", p[1], sizeof got, 0);
                write(p[0], "after", 5);
                fetch("cut", p[1], CMSG_LEN(4), 0);
                write(p[0], "after", 5);
                fetch("no room", p[1], 4, 0);
                struct ucred *u = (void *)CMSG_DATA(begin(SCM_CREDENTIALS, 12));
                *u = (struct ucred){ getpid(), 5, 6 };
                T(Sendmsg(p[0], &out, 0));
                fetch("claimed", p[1], sizeof got, 0);
                u->pid = 1;
                T(Sendmsg(p[0], &out, 0));
                fetch("another's", p[1], sizeof got, MSG_PEEK);
                fetch("another's", p[1], sizeof got, 0);
                u->pid = 99999;
                T(Sendmsg(p[0], &out, 0));
                u->pid = getpid(), u->uid = -1;
                T(Sendmsg(p[0], &out, 0));
                begin(SCM_CREDENTIALS, 8);
                T(Sendmsg(p[0], &out, 0));
                if (!fork()) {
                        setresuid(1000, 1000, 1000);
                        u = (void *)CMSG_DATA(begin(SCM_CREDENTIALS, 12));
                        *u = (struct ucred){ getpid(), 1000, 0 };
                        T(Sendmsg(p[0], &out, 0));
                        u->uid = 0;
                        T(Sendmsg(p[0], &out, 0));
                        u->uid = 1000, u->pid = 1;
                        T(Sendmsg(p[0], &out, 0));
                        write(p[0], "child", 5);
                        exit(0);
                }
                wait(0);
                fetch("a child's", p[1], sizeof got, 0);
                fetch("a child's", p[1], sizeof got, 0);
                int zero = 0;
                pass("both", p[0], &zero, 1);
                fetch("both", p[1], sizeof got, 0);
                close(fetched[0]);
                T(Setopt(p[1], SOL_SOCKET, SO_PASSCRED, &off, 4));
                write(p[0], "plain", 5);
                fetch("plain", p[1], sizeof got, 0);
                struct ucred peer;
                socklen_t size = sizeof peer;
                T(Getopt(p[0], SOL_SOCKET, SO_PEERCRED, &peer, &size));
                printf("peer %d %d %d\n", peer.pid == getpid(), peer.uid, peer.gid);
                close(p[0]), close(p[1]);
        }
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        Setopt(p[1], SOL_SOCKET, SO_PASSCRED, &on, 4);
        write(p[0], "mine", 4);
        write(p[0], "mine", 4);
        if (!fork()) {
                write(p[0], "his", 3);
                exit(0);
        }
        wait(0);
        fetch("one sender", p[1], sizeof got, 0);
        fetch("the other", p[1], sizeof got, 0);
        struct ucred peer;
        socklen_t size = sizeof peer, un = abstract("sandbox-cred");
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0);
        T(Getopt(a, SOL_SOCKET, SO_PEERCRED, &peer, &size));
        printf("nobody %d %d %d\n", peer.pid, peer.uid, peer.gid);
        Bind(a, &at_, un), Listen(a, 2);
        Setopt(b, SOL_SOCKET, SO_PASSCRED, &on, 4);
        if (!fork()) {
                setresuid(1000, 1000, 1000);
                Connect(b, &at_, un);
                exit(0);
        }
        wait(0);
        int c = Accept(a, 0, 0);
        Getopt(c, SOL_SOCKET, SO_PEERCRED, &peer, &size);
        printf("client %d %d %d\n", peer.pid == getpid(), peer.uid, peer.gid);
        Getopt(b, SOL_SOCKET, SO_PEERCRED, &peer, &size);
        printf("server %d %d %d\n", peer.pid == getpid(), peer.uid, peer.gid);
        struct sockaddr_un found;
        un = sizeof found;
        Sockname(b, &found, &un);
        printf("autobound %d\n", un);
        size = 6;
        T(Getopt(b, SOL_SOCKET, SO_PEERCRED, &peer, &size));
        printf("size %d\n", size);
}

static void options(void)
{
        int on = 5, big = 1 << 30, small = 1, five = 5;
        int s = Socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t size = 4;
        printf("sndbuf %d rcvbuf %d lowat %d %d\n", option(s, SO_SNDBUF), option(s, SO_RCVBUF), option(s, SO_RCVLOWAT),
               option(s, SO_SNDLOWAT));
        T(Setopt(s, SOL_SOCKET, SO_SNDBUF, &small, 4));
        T(Setopt(s, SOL_SOCKET, SO_RCVBUF, &small, 4));
        printf("sndbuf %d rcvbuf %d\n", option(s, SO_SNDBUF), option(s, SO_RCVBUF));
        on = 10000;
        Setopt(s, SOL_SOCKET, SO_SNDBUF, &on, 4);
        Setopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &on, 4);
        printf("sndbuf %d rcvbuf %d\n", option(s, SO_SNDBUF), option(s, SO_RCVBUF));
        (void)big;
        for (int i = 1; i < 16; i++)
                if (i != SO_SNDBUF && i != SO_RCVBUF && i != SO_LINGER && i != SO_REUSEPORT)
                        printf("option %d: %d\n", i, option(s, i));
        T(Setopt(s, SOL_SOCKET, SO_KEEPALIVE, &five, 4));
        T(Setopt(s, SOL_SOCKET, SO_REUSEADDR, &five, 4));
        printf("%d %d\n", option(s, SO_KEEPALIVE), option(s, SO_REUSEADDR));
        T(Setopt(s, SOL_SOCKET, SO_TYPE, &on, 4));
        T(Setopt(s, SOL_SOCKET, SO_ERROR, &on, 4));
        T(Setopt(s, SOL_SOCKET, SO_ACCEPTCONN, &on, 4));
        T(Setopt(s, SOL_SOCKET, SO_PEERCRED, &on, 4));
        T(Setopt(s, SOL_SOCKET, 9999, &on, 4));
        T(Setopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, 3));
        T(Setopt(s, SOL_SOCKET, SO_KEEPALIVE, 0x10, 4));
        T(Setopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, -1));
        T(Setopt(s, 6, 1, &on, 4));
        T(Getopt(s, 6, 1, &on, &size));
        T(Getopt(s, SOL_SOCKET, 9999, &on, &size));
        size = -1;
        T(Getopt(s, SOL_SOCKET, SO_TYPE, &on, &size));
        size = 2;
        on = -1;
        T(Getopt(s, SOL_SOCKET, SO_TYPE, &on, &size));
        printf("%x %d\n", on, size);
        size = 100;
        T(Getopt(s, SOL_SOCKET, SO_TYPE, buf, &size));
        printf("%d\n", size);
        T(Getopt(s, SOL_SOCKET, SO_TYPE, 0x10, &size));
        T(Getopt(s, SOL_SOCKET, SO_TYPE, &on, 0x10));
        T(Getopt(1, SOL_SOCKET, SO_TYPE, &on, &size));
        struct timeval tv = { 1, 500000 }, back = { 9, 9 };
        T(Setopt(s, SOL_SOCKET, 20, &tv, 8));
        size = sizeof back;
        T(Getopt(s, SOL_SOCKET, 20, &back, &size));
        printf("%d %d %d\n", (int)back.tv_sec, (int)back.tv_usec, size);
        T(Getopt(s, SOL_SOCKET, 21, &back, &size));
        printf("%d %d\n", (int)back.tv_sec, (int)back.tv_usec);
        long long wide[2] = { 2, 500000 };
        T(Setopt(s, SOL_SOCKET, 67, wide, 16));
        T(Getopt(s, SOL_SOCKET, 21, &back, &size));
        printf("%d %d\n", (int)back.tv_sec, (int)back.tv_usec);
        T(Setopt(s, SOL_SOCKET, 67, wide, 8));
        tv.tv_usec = 1000000;
        T(Setopt(s, SOL_SOCKET, 20, &tv, 8));
        T(Setopt(s, SOL_SOCKET, 20, &tv, 4));
        struct linger l = { 1, 7 };
        T(Setopt(s, SOL_SOCKET, SO_LINGER, &l, 8));
        l.l_onoff = l.l_linger = 0;
        size = 8;
        T(Getopt(s, SOL_SOCKET, SO_LINGER, &l, &size));
        printf("%d %d\n", l.l_onoff, l.l_linger);
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        int low = 4;
        T(Setopt(p[0], SOL_SOCKET, SO_RCVLOWAT, &low, 4));
        printf("lowat %d\n", option(p[0], SO_RCVLOWAT));
        write(p[1], "ab", 2);
        T(Recv(p[0], buf, 9, MSG_DONTWAIT));
        struct sockaddr_un un;
        size = sizeof un;
        T(Getopt(p[0], SOL_SOCKET, SO_PEERNAME, &un, &size));
        T(Pair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p));
        Setopt(p[0], SOL_SOCKET, SO_SNDBUF, &low, 4);
        int n = 0;
        while (write(p[0], buf, 1) == 1)
                n++;
        printf("%d bytes\n", n);
        T(write(p[0], buf, 10000));
        while (Recv(p[1], buf, 10000, 0) > 0)
                ;
        T(write(p[0], buf, 10000));
        T(ioctl(p[0], FIONREAD, &n));
        T(ioctl(p[0], 0x5401, buf));
        T(ioctl(p[0], FIONREAD, 0x10));
        int one = 1;
        fcntl(p[0], F_SETFL, 0);
        T(ioctl(p[0], FIONBIO, &one));
        printf("%x\n", fcntl(p[0], F_GETFL));
}

static void waiting(void)
{
        T(Pair(AF_UNIX, SOCK_STREAM, 0, p));
        int e = epoll_create1(0);
        struct epoll_event v = { EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET }, got_[4];
        T(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v));
        T(epoll_wait(e, got_, 4, 0));
        printf("%x\n", got_[0].events);
        T(epoll_wait(e, got_, 4, 0));
        write(p[1], "x", 1);
        T(epoll_wait(e, got_, 4, 0));
        printf("%x\n", got_[0].events);
        T(epoll_wait(e, got_, 4, 0));
        Shutdown(p[1], SHUT_WR);
        T(epoll_wait(e, got_, 4, 0));
        printf("%x\n", got_[0].events);
        close(p[1]);
        T(epoll_wait(e, got_, 4, 0));
        printf("%x\n", got_[0].events);
        fd_set r, w, x;
        FD_ZERO(&r);
        FD_ZERO(&w);
        FD_ZERO(&x);
        FD_SET(p[0], &r), FD_SET(p[0], &w), FD_SET(p[0], &x);
        T(select(p[0] + 1, &r, &w, &x, &(struct timeval){ 0 }));
        printf("%d %d %d\n", !!FD_ISSET(p[0], &r), !!FD_ISSET(p[0], &w), !!FD_ISSET(p[0], &x));
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t size = abstract("sandbox-wait");
        Bind(a, &at_, size), Listen(a, 3);
        if (!fork()) {
                usleep(20000);
                Connect(b, &at_, size);
                usleep(20000);
                write(b, "hi", 2);
                usleep(20000);
                exit(0);
        }
        close(b);
        struct pollfd f = { a, POLLIN, 0 };
        T(poll(&f, 1, -1));
        printf("%x\n", f.revents);
        int c = Accept(a, 0, 0);
        f.fd = c;
        T(poll(&f, 1, -1));
        printf("%x\n", f.revents);
        T(read(c, buf, 9));
        f.events |= POLLRDHUP;
        T(poll(&f, 1, -1));
        printf("%x\n", f.revents);
        T(read(c, buf, 9));
        wait(0);
        struct mmsghdr many[3];
        char text[3][4] = { "a", "bc", "def" };
        struct iovec v_[3];
        memset(many, 0, sizeof many);
        for (int i = 0; i < 3; i++) {
                v_[i] = (struct iovec){ text[i], i + 1 };
                many[i].msg_hdr.msg_iov = v_ + i, many[i].msg_hdr.msg_iovlen = 1;
        }
        T(Pair(AF_UNIX, SOCK_DGRAM, 0, p));
        T(direct ? syscall(SYS_sendmmsg, p[0], many, 3, 0) : G(0, 20, p[0], many, 3, 0, 0, 0));
        printf("%d %d %d\n", many[0].msg_len, many[1].msg_len, many[2].msg_len);
        memset(text, 0, sizeof text);
        T(direct ? syscall(SYS_recvmmsg, p[1], many, 3, MSG_DONTWAIT, 0) : G(0, 19, p[1], many, 3, MSG_DONTWAIT, 0, 0));
        printf("%d %d %d %s %s %.3s\n", many[0].msg_len, many[1].msg_len, many[2].msg_len, text[0], text[1], text[2]);
        T(syscall(SYS_recvmmsg, p[1], many, 3, MSG_DONTWAIT, 0));
        struct timespec ts = { 0, 2000000000 };
        T(syscall(SYS_recvmmsg, p[1], many, 3, MSG_DONTWAIT, &ts));
        write(p[0], "x", 1), write(p[0], "y", 1);
        T(syscall(SYS_recvmmsg, p[1], many, 3, 0x10000, 0));
        write(p[0], "x", 1), write(p[0], "y", 1);
        ts = (struct timespec){ 0, 0 };
        T(syscall(SYS_recvmmsg, p[1], many, 3, 0, &ts));
        T(syscall(SYS_sendmmsg, p[0], 0x10, 3, 0));
        T(syscall(SYS_sendmmsg, p[0], many, 0, 0));
        many[1].msg_hdr.msg_iov = (void *)0x10;
        T(syscall(SYS_sendmmsg, p[0], many, 3, 0));
        T(syscall(SYS_sendmmsg, 1, many, 3, 0));
}

/* Linux looks for files that only hold each other when a socket is closed, and a little later. */
static void collect(void)
{
        close(Socket(AF_UNIX, SOCK_DGRAM, 0));
        usleep(100000);
}

/* Files in flight that hold each other: the pipe's writer is among them, so its reader sees the end when they are freed. */
static void cycles(void)
{
        int ends[2], both[3];
        pipe(ends);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        Pair(AF_UNIX, SOCK_STREAM, 0, p);
        both[0] = p[0], both[1] = p[1], both[2] = ends[1];
        pass("into itself", p[0], both, 3);
        close(ends[1]);
        T(read(ends[0], buf, 1));
        close(p[0]), close(p[1]);
        collect();
        T(read(ends[0], buf, 1));
        pipe(ends);
        Pair(AF_UNIX, SOCK_DGRAM, 0, p), Pair(AF_UNIX, SOCK_SEQPACKET, 0, q);
        both[0] = p[0], both[1] = ends[1];
        pass("p into q", q[0], both, 2);
        both[0] = q[0];
        pass("q into p", p[0], both, 1);
        both[0] = p[1];
        pass("p's reader into q", q[0], both, 1);
        both[0] = q[1];
        pass("q's reader into p", p[0], both, 1);
        close(ends[1]), close(p[0]), close(p[1]), close(q[0]), close(q[1]);
        collect();
        T(read(ends[0], buf, 1));
        pipe(ends);
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t size = abstract("sandbox-cycle");
        Bind(a, &at_, size), Listen(a, 3), Connect(b, &at_, size);
        both[0] = a, both[1] = ends[1];
        pass("listener into its own connection", b, both, 2);
        close(a), close(b), close(ends[1]);
        collect();
        T(read(ends[0], buf, 1));
        pipe(ends);
        Pair(AF_UNIX, SOCK_STREAM, 0, p), Pair(AF_UNIX, SOCK_STREAM, 0, q);
        both[0] = q[1], both[1] = ends[1];
        pass("kept", p[0], both, 2);
        pass("inside", q[0], both + 1, 1);
        close(q[0]), close(q[1]), close(ends[1]);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        T(read(ends[0], buf, 1));
        fetch("fetch", p[1], sizeof got, 0);
        int r = fetched[0];
        close(fetched[1]);
        fetch("from inside", r, sizeof got, 0);
        T(write(fetched[0], "end", 3));
        T(read(ends[0], buf, 9));
        close(fetched[0]), close(r);
        T(read(ends[0], buf, 9));
        pipe(ends);
        int chain = ends[1];
        for (int i = 0; i < 200; i++) {
                Pair(AF_UNIX, SOCK_STREAM, 0, p);
                memcpy(CMSG_DATA(begin(SCM_RIGHTS, 4)), &chain, 4);
                if (Sendmsg(p[0], &out, 0) != 1) {
                        printf("at %d: %s\n", i, strerrorname_np(errno));
                        break;
                }
                close(chain), close(p[0]);
                chain = p[1];
        }
        close(chain);
        collect();
        T(read(ends[0], buf, 1));
        pipe(ends);
        if (!fork()) {
                Pair(AF_UNIX, SOCK_STREAM, 0, p);
                both[0] = p[0], both[1] = p[1], both[2] = ends[1];
                pass("into itself, then exit", p[0], both, 3);
                exit(0);
        }
        close(ends[1]);
        wait(0);
        collect();
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        T(read(ends[0], buf, 1));
        Pair(AF_UNIX, SOCK_STREAM, 0, p);
        if (!fork()) {
                pipe(q);
                both[0] = p[0], both[1] = p[1], both[2] = q[1];
                pass("left at exit", p[0], both, 3);
                exit(0);
        }
        wait(0);
        fetch("still here", p[1], sizeof got, 0);
}

static void on_alarm(int n) { printf("alarm\n"); }
static void arm(int flags)
{
        struct sigaction act = { .sa_handler = on_alarm, .sa_flags = flags };
        sigaction(SIGALRM, &act, 0);
        setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 30000 } }, 0);
}
/* A child that does something in 80 ms, when the alarm has been. */
static void later(void (*what)(void))
{
        if (!fork()) {
                usleep(80000);
                what();
                exit(0);
        }
}
static int ends_of[2];
static void write_there(void) { Send(ends_of[1], "there", 5, 0); }
static void read_all(void)
{
        while (Recv(ends_of[1], buf, 5000, MSG_DONTWAIT) > 0)
                ;
}
static void take(void) { Accept(ends_of[0], 0, 0); }
static void join(void) { Connect(Socket(AF_UNIX, SOCK_STREAM, 0), &at_, ends_of[1]); }

static void interrupted(void)
{
        struct timeval tv = { 5, 0 };
        int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
        for (int t = 0; t < 3; t++) {
                Pair(AF_UNIX, types[t], 0, ends_of);
                arm(0);
                T(Recv(ends_of[0], buf, 9, 0));
                arm(SA_RESTART);
                later(write_there);
                T(Recv(ends_of[0], buf, 9, 0));
                wait(0);
                Setopt(ends_of[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
                Setopt(ends_of[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
                arm(SA_RESTART);
                T(Recv(ends_of[0], buf, 9, 0));
                while (Send(ends_of[0], buf, 5000, MSG_DONTWAIT) > 0)
                        ;
                arm(SA_RESTART);
                T(Send(ends_of[0], buf, 5000, 0));
                tv.tv_sec = 0;
                Setopt(ends_of[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
                tv.tv_sec = 5;
                arm(0);
                T(Send(ends_of[0], buf, 5000, 0));
                arm(SA_RESTART);
                later(read_all);
                T(Send(ends_of[0], buf, 5000, 0));
                wait(0);
        }
        Pair(AF_UNIX, SOCK_STREAM, 0, ends_of);
        Send(ends_of[1], "some", 4, 0);
        arm(0);
        T(Recv(ends_of[0], buf, 9, MSG_WAITALL));
        arm(0);
        T(Send(ends_of[0], buf, 300000, 0));
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0);
        socklen_t size = abstract("sandbox-late");
        Bind(a, &at_, size), Listen(a, 0);
        ends_of[0] = a, ends_of[1] = size;
        arm(0);
        T(Accept(a, 0, 0));
        arm(SA_RESTART);
        later(join);
        T(Accept(a, 0, 0) > 0);
        wait(0);
        Connect(Socket(AF_UNIX, SOCK_STREAM, 0), &at_, size);
        arm(0);
        T(Connect(b, &at_, size));
        arm(SA_RESTART);
        later(take);
        T(Connect(b, &at_, size));
        wait(0);
        int c = Socket(AF_UNIX, SOCK_DGRAM, 0), d = Socket(AF_UNIX, SOCK_DGRAM, 0), force = 100 << 20;
        size = abstract("sandbox-force");
        Bind(c, &at_, size);
        T(Setopt(d, SOL_SOCKET, SO_SNDBUFFORCE, &force, 4));
        char *much = calloc(1, 9 << 20);
        T(Sendto(d, much, 8 << 20, 0, &at_, size));
        T(Sendto(d, much, (4 << 20) + 69632, 0, &at_, size));
        T(Sendto(d, much, 3 << 20, 0, &at_, size));
        T(Recv(c, much, 9 << 20, 0));
        T(option(c, SO_REUSEPORT));
        T(Setopt(c, SOL_SOCKET, SO_REUSEPORT, &force, 4));
}

/* An ordinary user has as many files on the way as RLIMIT_NOFILE says, and one message more. */
static void limits(void)
{
        struct rlimit few = { 20, 20 };
        int five[5] = { 0, 0, 0, 0, 0 }, n = 0;
        if (!fork()) {
                Pair(AF_UNIX, SOCK_DGRAM, 0, p);
                setrlimit(RLIMIT_NOFILE, &few);
                if (setresuid(54321, 54321, 54321))
                        exit(1);
                do
                        memcpy(CMSG_DATA(begin(SCM_RIGHTS, sizeof five)), five, sizeof five);
                while (Sendmsg(p[0], &out, MSG_DONTWAIT) == 1 && ++n < 50);
                printf("%d messages, %s\n", n, strerrorname_np(errno));
                T(Send(p[0], "x", 1, MSG_DONTWAIT));
                fetch("fetch", p[1], sizeof got, 0);
                pass("again", p[0], five, 5);
                pass("again", p[0], five, 5);
                exit(0);
        }
        wait(0);
}

static void spliced(void)
{
        int types[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
        for (int t = 0; t < 3; t++) {
                int ends[2], back[2], zero = 0;
                loff_t off = 0;
                Pair(AF_UNIX, types[t] | (t ? SOCK_NONBLOCK : 0), 0, p);
                pipe(ends), pipe(back);
                for (int i = 0; i < 30000; i++)
                        buf[i] = i % 251;
                T(splice(p[1], 0, ends[1], 0, 100, SPLICE_F_NONBLOCK));
                Send(p[0], "first", 5, 0), Send(p[0], "second", 6, 0);
                T(splice(p[1], &off, ends[1], 0, 100, 0));
                T(splice(p[1], 0, ends[1], 0, 3, 0));
                T(splice(p[1], 0, ends[1], 0, 100, 0));
                memset(buf + 40000, 0, 100);
                T(read(ends[0], buf + 40000, 100));
                printf("'%s'\n", buf + 40000);
                Send(p[0], buf, 30000, 0);
                T(splice(p[1], 0, ends[1], 0, 10, 0));
                read(ends[0], buf + 40000, 10);
                long n, all = 10;
                while ((n = splice(p[1], 0, ends[1], 0, 100000, SPLICE_F_NONBLOCK)) > 0)
                        while (ioctl(ends[0], FIONREAD, &zero) == 0 && zero)
                                all += read(ends[0], buf + 40000 + all, 50000);
                printf("%ld, %s, %s\n", all, strerrorname_np(errno),
                       memcmp(buf, buf + 40000, all) ? "different" : "the same");
                write(back[1], "into the socket", 15);
                T(splice(back[0], 0, p[0], 0, 100, 0));
                T(Recv(p[1], buf + 40000, 100, 0));
                pass("with a file", p[0], &zero, 0);
                T(splice(p[1], 0, ends[1], 0, 100, 0));
                close(p[0]);
                T(splice(p[1], 0, ends[1], 0, 100, SPLICE_F_NONBLOCK));
                close(ends[0]);
                signal(SIGPIPE, on_pipe);
                T(splice(p[1], 0, ends[1], 0, 100, SPLICE_F_NONBLOCK));
                printf("SIGPIPE %d\n", pipes);
        }
        pipe(q);
        T(splice(Socket(AF_UNIX, SOCK_STREAM, 0), 0, q[1], 0, 100, 0));
        FILE *file = tmpfile();
        fwrite(buf, 1, 20000, file), fflush(file);
        Pair(AF_UNIX, SOCK_STREAM, 0, p);
        loff_t at = 0;
        T(syscall(SYS_sendfile64, p[0], fileno(file), &at, 20000));
        T(Recv(p[1], buf + 40000, 50000, 0));
        printf("%d\n", memcmp(buf, buf + 40000, 20000));
        T(syscall(SYS_sendfile64, p[0], p[1], 0, 100));
}

static void proc(void)
{
        unlink("sandbox-file");
        int a = Socket(AF_UNIX, SOCK_STREAM, 0), b = Socket(AF_UNIX, SOCK_STREAM, 0), c = Socket(AF_UNIX, SOCK_DGRAM, 0);
        socklen_t size = abstract("sandbox-proc");
        Bind(a, &at_, size), Listen(a, 3), Connect(b, &at_, size), Connect(Socket(AF_UNIX, SOCK_STREAM, 0), &at_, size);
        int d = Accept(a, 0, 0);
        size = name("sandbox-file");
        Bind(c, &at_, size);
        Connect(Socket(AF_UNIX, SOCK_DGRAM, 0), &at_, size);
        int e = Socket(AF_UNIX, SOCK_SEQPACKET, 0);
        size = abstract("sandbox-seq");
        at_.sun_path[8] = 0;
        Bind(e, &at_, size);
        struct stat s;
        fstat(d, &s);
        for (int i = 0; i < 2; i++) {
                FILE *f = fopen(i ? "/proc/self/net/unix" : "/proc/net/unix", "r");
                static char line[300], rows[16][300];
                int count = 0;
                while (fgets(line, sizeof line, f)) {
                        unsigned refs, protocol, flags, type, state;
                        unsigned long inode;
                        char path[200] = "";
                        if (!strstr(line, ":"))
                                printf("%s", line);
                        else if (strstr(line, "sandbox") && count < 16 &&
                                 sscanf(line, "%*[^:]: %x %x %x %x %x %lu %199s", &refs, &protocol, &flags, &type, &state,
                                        &inode, path) == 7)
                                sprintf(rows[count++], "type %u state %u flags %x protocol %u refs %u inode %s %s\n", type,
                                        state, flags, protocol, refs,
                                        inode == s.st_ino ? "accepted's" : inode ? "another's" : "none", path);
                }
                qsort(rows, count, sizeof *rows, (int (*)(const void *, const void *))strcmp);
                for (int n = 0; n < count; n++)
                        printf("%s", rows[n]);
                fclose(f);
        }
        char link[100] = "", path[100];
        sprintf(path, "/proc/self/fd/%d", d);
        readlink(path, link, 99);
        printf("%d\n", strtoul(link + 8, 0, 10) == s.st_ino);
        unlink("sandbox-file");
}

int main(int argc, char **argv)
{
        static const struct { const char *name; void (*run)(void); } all[] = {
                { "kinds", kinds }, { "names", names }, { "backlog", backlog }, { "stream", stream }, { "dgram", dgram },
                { "seqpacket", seqpacket }, { "rights", rights }, { "creds", creds }, { "options", options },
                { "waiting", waiting }, { "cycles", cycles }, { "proc", proc },
                { "interrupted", interrupted }, { "spliced", spliced }, { "limits", limits },
        };
        chdir("/tmp");
        char folder[] = "/tmp/unixXXXXXX";
        if (!mkdtemp(folder) || chdir(folder))
                return 2;
        direct = argc > 2;
        for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
                if (!strcmp(all[i].name, argv[1]))
                        all[i].run();
        rmdir(folder);
        return 0;
}
