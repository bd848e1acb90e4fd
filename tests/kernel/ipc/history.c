/*
 * A random history of eight sockets that never wait: ``history SEED STEPS`` prints what each step gave, and now and then
 * what poll and two ioctls say of every socket.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKETS 8
#define NAMES 4

static unsigned state;
static int step, at, fds[SOCKETS];
static char text[70000], room[64000];
static struct sockaddr_un address;

static unsigned random_below(unsigned n)
{
        state = state * 1103515245u + 12345u;
        return (state >> 16) % n;
}
static int kind(void) { return (int[]){ SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET }[random_below(3)]; }
static int size(void)
{
        static const unsigned most[] = { 1, 20, 300, 5000, 60000 };
        return random_below(most[random_below(5)]);
}
static socklen_t name(int number)
{
        memset(&address, 0, sizeof address);
        address.sun_family = AF_UNIX;
        return 3 + sprintf(address.sun_path + 1, "sandbox-history%d", number);
}
static void show(const char *what, long argument, long result)
{
        printf("%d #%d %s %ld = %ld %s\n", step, at, what, argument, result, result < 0 ? strerrorname_np(errno) : "");
}
static unsigned sum(const char *bytes, long count)
{
        unsigned total = 0;
        while (count-- > 0)
                total = total * 31 + (unsigned char)*bytes++;
        return total;
}
static void put(int where, int fd)
{
        if (fds[where] >= 0)
                close(fds[where]);
        fds[where] = fd;
}

static void make(int other)
{
        int type = kind(), ends[2];
        put(at, -1), put(other, -1);
        if (at == other) {
                fds[at] = socket(AF_UNIX, type | SOCK_NONBLOCK, 0);
                show("socket", type, fds[at] >= 0);
        } else {
                show("pair", type, socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, ends));
                fds[at] = ends[0], fds[other] = ends[1];
        }
}
static void take(int other)
{
        socklen_t length = sizeof address;
        int new = accept4(fds[at], (void *)&address, &length, SOCK_NONBLOCK);
        show("accept", new >= 0 ? length : 0, new >= 0 ? 1 : new);
        if (new >= 0 && other != at)
                put(other, new);
        else if (new >= 0)
                close(new);
}
static void receive(void)
{
        int flags = (random_below(4) ? 0 : MSG_PEEK) | (random_below(4) ? 0 : MSG_TRUNC) | (random_below(6) ? 0 : MSG_WAITALL);
        int most = size();
        long got = recv(fds[at], room, most, flags);
        show("recv", most, got);
        if (got > 0)
                printf("   %x\n", sum(room, got < most ? got : most));
}
static void send_files(void)
{
        struct { struct cmsghdr head; int fds[3]; } control = { { 12 + 4 * (1 + random_below(3)), SOL_SOCKET, SCM_RIGHTS } };
        struct iovec pieces[2] = { { text, size() }, { text + 9, size() } };
        struct msghdr message = { 0, 0, pieces, 1 + random_below(2), &control, control.head.cmsg_len, 0 };
        show("sendmsg", control.head.cmsg_len, sendmsg(fds[at], &message, MSG_NOSIGNAL));
}
static void receive_files(void)
{
        char control[200] = "";
        struct iovec pieces[2] = { { room, size() }, { room + 60001, random_below(2000) } };
        struct msghdr message = { &address, sizeof address, pieces, 1 + random_below(2), control,
                                  random_below(3) ? sizeof control : random_below(60), 0 };
        long got = recvmsg(fds[at], &message, random_below(5) ? 0 : MSG_PEEK);
        show("recvmsg", pieces[0].iov_len, got);
        if (got < 0)
                return;
        printf("   %x %d %d\n", message.msg_flags, (int)message.msg_controllen, message.msg_namelen);
        for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
                printf("   %d %d\n", each->cmsg_type, (int)each->cmsg_len);
                for (unsigned i = 0; each->cmsg_type == SCM_RIGHTS && i < (each->cmsg_len - 12) / 4; i++)
                        close(((int *)CMSG_DATA(each))[i]);
        }
}
static void options(void)
{
        int error = -1, wanted = (1 + random_below(20)) * 3000;
        socklen_t length = sizeof error;
        long result = getsockopt(fds[at], SOL_SOCKET, SO_ERROR, &error, &length);
        show("error", error, result);
        if (!random_below(4))
                show("buffer", wanted, setsockopt(fds[at], SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted));
}
static void look(void)
{
        for (int i = 0; i < SOCKETS; i++) {
                struct pollfd ready = { fds[i], 0x7fff, 0 };
                int in = -1, out = -1;
                if (fds[i] < 0)
                        continue;
                poll(&ready, 1, 0);
                long result = ioctl(fds[i], FIONREAD, &in);
                in = result < 0 ? -errno : in;
                ioctl(fds[i], TIOCOUTQ, &out);
                printf("   %d: %x %d %d\n", i, ready.revents, in, out);
        }
}
static void one(int other)
{
        int number = random_below(NAMES), count = size(), on = random_below(2);
        socklen_t length = name(number);
        struct sockaddr none = { AF_UNSPEC };
        long result;
        switch (random_below(24)) {
        case 0: case 1: make(other); break;
        case 2: make(at); break;
        case 3: show("bind", number, bind(fds[at], (void *)&address, length)); break;
        case 4: show("listen", number, listen(fds[at], number)); break;
        case 5: case 6: show("connect", number, connect(fds[at], (void *)&address, length)); break;
        case 7: take(other); break;
        case 8: case 9: case 10: show("send", count, send(fds[at], text + number, count, MSG_NOSIGNAL)); break;
        case 11: case 12: case 13: receive(); break;
        case 14: show("sendto", number, sendto(fds[at], text, count, MSG_NOSIGNAL, (void *)&address, length)); break;
        case 15: send_files(); break;
        case 16: case 17: receive_files(); break;
        case 18: show("shutdown", number, shutdown(fds[at], number)); break;
        case 19: put(at, -1); break;
        case 20: show("passcred", on, setsockopt(fds[at], SOL_SOCKET, SO_PASSCRED, &on, sizeof on)); break;
        case 21: show("disconnect", at, connect(fds[at], &none, 2)); break;
        case 22: options(); break;
        case 23:
                length = sizeof address;
                result = getpeername(fds[at], (void *)&address, &length);
                show("peer", result ? 0 : length, result);
        }
}

int main(int argc, char **argv)
{
        int steps = atoi(argv[2]);
        state = atoi(argv[1]);
        signal(SIGPIPE, SIG_IGN);
        memset(fds, -1, sizeof fds);
        for (unsigned i = 0; i < sizeof text; i++)
                text[i] = i * 7;
        for (step = 0; step < steps; step++) {
                at = random_below(SOCKETS);
                one(random_below(SOCKETS));
                if (!random_below(3))
                        look();
        }
        return 0;
}
