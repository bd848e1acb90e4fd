/*
 * A descriptor goes from one process to another over a socket with a name: the child sends the writing end of a pipe of
 * its own, and closes it; what the parent then writes through it, the child reads.
 */
#include "user.h"

#define SYS_unlink 10
#define SYS_socketcall 102
enum { SOCKET = 1, BIND, CONNECT, LISTEN, ACCEPT, SENDMSG = 16, RECVMSG };
#define AF_UNIX 1
#define SOCK_STREAM 1
#define SOL_SOCKET 1
#define SCM_RIGHTS 1

struct sockaddr_un { unsigned short family; char path[108]; };
struct cmsg { u32 size; int level, type, fd; };
struct msghdr { void *name; u32 name_size; void *vector; u32 pieces; struct cmsg *control; u32 control_size; int flags; };

static struct sockaddr_un address = { AF_UNIX, "/tmp/passed-file-" };
static char text[4];
static struct { void *base; u32 size; } vector = { text, 3 };
static struct cmsg control;
static struct msghdr message = { 0, 0, &vector, 1, &control, sizeof control, 0 };

static int sockets(int number, u32 a, const void *b, u32 c)
{
        u32 block[3] = { a, (u32)b, c };
        return call(SYS_socketcall, number, block, 0);
}

static void name(int number)
{
        char *end = address.path;
        while (*end)
                end++;
        for (; number; number /= 10)
                *end++ = '0' + number % 10;
}

static int child(void)
{
        int ends[2], to = sockets(SOCKET, AF_UNIX, (void *)SOCK_STREAM, 0);
        CHECK(20, pipe(ends) == 0);
        CHECK(21, sockets(CONNECT, to, &address, sizeof address) == 0);
        memcpy(text, "fd:", 3);
        control = (struct cmsg){ sizeof control, SOL_SOCKET, SCM_RIGHTS, ends[1] };
        CHECK(22, sockets(SENDMSG, to, &message, 0) == 3);
        close(ends[1]);
        CHECK(23, read(ends[0], text, 4) == 2 && text[0] == 'o' && text[1] == 'k');
        CHECK(24, read(ends[0], text, 4) == 0);
        return 0;
}

int main(void)
{
        int status, from, at = sockets(SOCKET, AF_UNIX, (void *)SOCK_STREAM, 0);
        name(getpid());
        CHECK(1, sockets(BIND, at, &address, sizeof address) == 0);
        CHECK(2, sockets(LISTEN, at, (void *)1, 0) == 0);
        if (!fork())
                exit(child());
        from = sockets(ACCEPT, at, 0, 0);
        CHECK(3, from >= 0);
        CHECK(4, call(SYS_unlink, address.path, 0, 0) == 0);
        CHECK(5, sockets(RECVMSG, from, &message, 0) == 3 && text[0] == 'f');
        CHECK(6, message.control_size == sizeof control && control.type == SCM_RIGHTS && control.size == sizeof control && control.fd > from);
        CHECK(7, write(control.fd, "ok", 2) == 2);
        close(control.fd);
        CHECK(8, waitpid(-1, &status, 0) > 0 && status == 0);
        say("passed-file: what was sent over a socket is the sender's own file\n");
        return 0;
}
