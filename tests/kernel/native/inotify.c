#include "posix.h"
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/ioctl.h>
#include <dirent.h>

static int fd;
static const struct { unsigned bit; const char *name; } names[] = {
    { IN_ACCESS, "ACCESS" }, { IN_MODIFY, "MODIFY" }, { IN_ATTRIB, "ATTRIB" }, { IN_CLOSE_WRITE, "CLOSE_WRITE" },
    { IN_CLOSE_NOWRITE, "CLOSE_NOWRITE" }, { IN_OPEN, "OPEN" }, { IN_MOVED_FROM, "MOVED_FROM" }, { IN_MOVED_TO, "MOVED_TO" },
    { IN_CREATE, "CREATE" }, { IN_DELETE, "DELETE" }, { IN_DELETE_SELF, "DELETE_SELF" }, { IN_MOVE_SELF, "MOVE_SELF" },
    { IN_IGNORED, "IGNORED" }, { IN_ISDIR, "ISDIR" }, { IN_Q_OVERFLOW, "Q_OVERFLOW" }, { IN_UNMOUNT, "UNMOUNT" },
};

static void events(const char *what)
{
    static char buffer[65536] __attribute__((aligned(4)));
    static unsigned last;
    int got = read(fd, buffer, sizeof buffer);
    printf("%s:%s\n", what, got < 0 ? " none" : "");
    for (char *at = buffer; at < buffer + got;) {
        struct inotify_event *event = (void *)at;
        printf("  %d", event->wd);
        for (int each = 0; each < sizeof names / sizeof *names; each++)
            if (event->mask & names[each].bit)
                printf(" %s", names[each].name);
        if (event->cookie)
            printf(event->cookie == last ? " same cookie" : " cookie"), last = event->cookie;
        if (event->len)
            printf(" %s, %u", event->name, event->len);
        printf("\n");
        at += sizeof *event + event->len;
    }
    fflush(stdout);
}

static void arguments(void)
{
    int other = inotify_init1(0);
    char small[16];
    int waiting;
    say("flags", inotify_init1(1));
    say("cloexec", fcntl(inotify_init1(IN_CLOEXEC), F_GETFD));
    say("no mask", inotify_add_watch(other, ".", 0));
    say("odd mask", inotify_add_watch(other, ".", 0x1000000 >> 9));
    say("no inotify", inotify_add_watch(1, ".", IN_OPEN));
    say("no file", inotify_add_watch(99, ".", IN_OPEN));
    say("nothing there", inotify_add_watch(other, "nothing", IN_OPEN));
    say("bad path", inotify_add_watch(other, (char *)4, IN_OPEN));
    say("only a directory", inotify_add_watch(other, "/dev/null", IN_OPEN | IN_ONLYDIR));
    say("both", inotify_add_watch(other, ".", IN_OPEN | IN_MASK_ADD | IN_MASK_CREATE));
    say("first", inotify_add_watch(other, ".", IN_OPEN));
    say("again", inotify_add_watch(other, ".", IN_CREATE));
    say("create", inotify_add_watch(other, ".", IN_CREATE | IN_MASK_CREATE));
    say("second", inotify_add_watch(other, "/tmp", IN_CREATE));
    say("remove none", inotify_rm_watch(other, 7));
    say("remove", inotify_rm_watch(other, 1));
    say("remove again", inotify_rm_watch(other, 1));
    say("FIONREAD", ioctl(other, FIONREAD, &waiting));
    printf("%d\n", waiting);
    say("small", read(other, small, 15));
    say("read", read(other, small, 16));
    say("third", inotify_add_watch(other, ".", IN_CREATE));
    close(open("with a name", O_CREAT | O_RDWR, 0600));
    say("small", read(other, small, 16));
    unlink("with a name");
    say("write", write(other, small, 16));
    say("remove of no inotify", inotify_rm_watch(1, 1));
    struct pollfd entry = { other, POLLIN | POLLOUT };
    say("poll", poll(&entry, 1, 0));
    printf("%x\n", entry.revents);
    close(other);
}

static void files(void)
{
    char letter = 'x';
    DIR *directory;
    int file = open("d/file", O_CREAT | O_EXCL | O_RDWR, 0600), other;
    events("create");
    write(file, "hello", 5), write(file, "hello", 5), pread(file, &letter, 1, 0), read(file, &letter, 1);
    events("write and read");
    lseek(file, 0, SEEK_SET), read(file, &letter, 1), write(file, &letter, 0), write(file, &letter, 1);
    events("read, no bytes, write");
    fchmod(file, 0644), chmod("d/file", 0600), chown("d/file", 0, 0);
    events("attributes");
    ftruncate(file, 3), truncate("d/file", 2);
    events("truncate");
    struct timespec times[2] = { { 5, 0 }, { 6, 0 } };
    utimensat(AT_FDCWD, "d/file", times, 0), times[0].tv_nsec = UTIME_OMIT, utimensat(AT_FDCWD, "d/file", times, 0);
    times[0].tv_nsec = 0, times[1].tv_nsec = UTIME_OMIT, futimens(file, times);
    events("times");
    close(dup(file)), close(file);
    events("close");
    close(open("d/file", O_RDONLY)), close(open("d/file", O_WRONLY | O_TRUNC)), close(open("d/file", O_PATH)), close(open("d", O_RDONLY | O_DIRECTORY));
    events("open");
    close(open("d/new", O_CREAT | O_TRUNC | O_WRONLY, 0600));
    events("new with O_TRUNC");
    mkdir("d/dir", 0700), symlink("file", "d/link"), mkfifo("d/fifo", 0600), link("d/file", "d/hard");
    events("other kinds");
    close(open("d/dir", O_RDONLY)), close(open("d/link", O_RDONLY)), close(open("d/dir/in", O_CREAT | O_WRONLY, 0600));
    events("and open them");
    directory = opendir("d");
    while (readdir(directory))
        ;
    closedir(directory);
    events("list");
    rename("d/hard", "d/moved"), rename("d/moved", "d/dir/moved"), rename("d/dir/moved", "d/back"), rename("d/back", "d/new");
    events("rename");
    rename("d/dir", "d/dir2");
    events("rename a directory");
    syscall(SYS_renameat2, AT_FDCWD, "d/dir2", AT_FDCWD, "d/file", 2);
    syscall(SYS_renameat2, AT_FDCWD, "d/dir2", AT_FDCWD, "d/file", 2);
    events("exchange");
    unlink("d/dir2/in"), rmdir("d/dir2"), unlink("d/link"), unlink("d/fifo"), unlink("d/new");
    events("remove");
    file = open("d/file", O_RDWR), other = open("d/copy", O_CREAT | O_RDWR, 0600), write(file, "abcdef", 6), lseek(file, 0, SEEK_SET);
    sendfile(other, file, 0, 3), copy_file_range(file, 0, other, 0, 2, 0);
    events("sendfile, copy_file_range");
    unlink("d/file");
    events("unlink, open");
    write(file, "more", 4), close(file);
    events("and then");
    close(other);
}

static void themselves(void)
{
    int file = open("d/self", O_CREAT | O_WRONLY, 0600), wd = say("watch", inotify_add_watch(fd, "d/self", IN_ALL_EVENTS));
    close(file);
    events("both");
    link("d/self", "d/self2"), unlink("d/self2"), rename("d/self", "d/self3");
    events("names");
    file = open("d/self3", O_RDONLY), unlink("d/self3");
    events("unlink");
    close(file);
    events("close");
    say("gone", inotify_rm_watch(fd, wd));
    mkdir("d/sub", 0700), say("watch", inotify_add_watch(fd, "d/sub", IN_ALL_EVENTS));
    close(open("d/sub/file", O_CREAT | O_WRONLY, 0600)), unlink("d/sub/file"), chmod("d/sub", 0755), rmdir("d/sub");
    events("a directory");
    close(open("d/a", O_CREAT | O_WRONLY, 0600)), close(open("d/b", O_CREAT | O_WRONLY, 0600));
    events("two");
    say("watch", inotify_add_watch(fd, "d/b", IN_ALL_EVENTS)), rename("d/a", "d/b");
    events("replaced");
    say("once", inotify_add_watch(fd, "d/b", IN_OPEN | IN_ONESHOT)), close(open("d/b", O_RDONLY)), close(open("d/b", O_RDONLY));
    events("once");
    unlink("d/b");
    events("end");
}

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    arguments();
    fd = inotify_init1(IN_NONBLOCK);
    char place[] = "/tmp/inotifyXXXXXX";
    chdir(mkdtemp(place)), mkdir("d", 0700);
    say("watch", inotify_add_watch(fd, "d", IN_ALL_EVENTS));
    files();
    themselves();
    unlink("d/copy"), events("copy");
    say("watch less", inotify_add_watch(fd, "d", IN_DELETE_SELF));
    close(open("d/x", O_CREAT | O_WRONLY, 0600)), unlink("d/x"), events("nothing");
    say("add", inotify_add_watch(fd, "d", IN_CREATE | IN_MASK_ADD));
    close(open("d/x", O_CREAT | O_WRONLY, 0600)), unlink("d/x"), events("create");
    int pid = fork();
    if (!pid) {
        pause_for(50000000), rmdir("d");
        _exit(0);
    }
    fcntl(fd, F_SETFL, 0), events("wait"), wait(0);
    rmdir(place);
    return 0;
}
