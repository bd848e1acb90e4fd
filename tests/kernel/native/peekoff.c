/* SO_PEEK_OFF (socket(7)): MSG_PEEK begins at an offset that follows what is looked at and what is received. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifndef SO_PEEK_OFF
#define SO_PEEK_OFF 42
#endif

static int ends[2];

static void offset(void)
{
    int value = 4711;
    socklen_t size = sizeof value;
    int got = getsockopt(ends[1], SOL_SOCKET, SO_PEEK_OFF, &value, &size);
    printf(" offset %d (%d, %u)\n", value, got, size);
}

static void set(int value)
{
    printf("set %d: %d", value, setsockopt(ends[1], SOL_SOCKET, SO_PEEK_OFF, &value, sizeof value));
    offset();
}

static void take(int size, int flags)
{
    char text[100] = "";
    struct iovec part = { text, size };
    struct msghdr message = { 0, 0, &part, 1 };
    int got = recvmsg(ends[1], &message, flags | MSG_DONTWAIT);
    printf("%s %d flags %#x: %d \"%s\" %#x %s", flags & MSG_PEEK ? "peek" : "take", size, flags, got, text, message.msg_flags, got < 0 ? strerror(errno) : "");
    offset();
}

static void send_all(void)
{
    send(ends[0], "abcdef", 6, 0), send(ends[0], "ghi", 3, 0), send(ends[0], "jklmnopq", 8, 0);
}

int main(void)
{
    static const int kinds[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
    for (int at = 0; at < 3; at++) {
        printf("kind %d\n", kinds[at]);
        socketpair(AF_UNIX, kinds[at], 0, ends);
        offset(), send_all();
        take(4, MSG_PEEK), take(4, MSG_PEEK);
        set(0);
        take(4, MSG_PEEK), take(4, MSG_PEEK), take(4, MSG_PEEK), take(20, MSG_PEEK), take(4, MSG_PEEK);
        set(7);
        take(1, MSG_PEEK), take(5, 0), take(2, MSG_PEEK | MSG_TRUNC), take(100, MSG_PEEK);
        set(1000);
        take(4, MSG_PEEK), take(2, 0), take(100, 0), take(4, MSG_PEEK), take(4, 0);
        set(-1), set(-7), set(3);
        send_all();
        take(2, MSG_PEEK), take(100, MSG_PEEK | MSG_WAITALL), take(6, 0), take(6, 0), take(100, 0), take(1, 0);
        set(2);
        send(ends[0], "", 0, 0), send(ends[0], "xyz", 3, 0);
        take(2, MSG_PEEK), take(9, MSG_PEEK), take(9, 0), take(9, 0);
        close(ends[0]), take(3, MSG_PEEK), take(3, 0), close(ends[1]);
    }
    return 0;
}
