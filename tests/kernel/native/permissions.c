/* Mode bits, owners and the sticky bit against users that are not root: path_resolution(7), and the ERRORS of each call. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result)
{
    if (result < 0)
        printf("%s: %s\n", what, strerrorname_np(errno));
    else
        printf("%s: ok\n", what);
}

static void show(const char *path)
{
    struct stat now;
    if (lstat(path, &now))
        printf("%s: %s\n", path, strerrorname_np(errno));
    else
        printf("%s: %o %u %u\n", path, now.st_mode, now.st_uid, now.st_gid);
}

static int make(const char *path, int mode, int uid, int gid)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    write(fd, "text", 4);
    close(fd);
    chown(path, uid, gid);
    return chmod(path, mode);
}

static int folder(const char *path, int mode, int uid, int gid)
{
    mkdir(path, 0700);
    chown(path, uid, gid);
    return chmod(path, mode);
}

static void opens(const char *path)
{
    char what[100];
    static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_PATH, O_RDONLY | O_NOATIME, O_RDWR | O_CREAT };
    for (int at = 0; at < sizeof flags / sizeof *flags; at++) {
        int fd = open(path, flags[at], 0600);
        sprintf(what, "open %s %#x", path, flags[at]), say(what, fd);
        close(fd);
    }
    for (int want = 0; want < 8; want++) {
        sprintf(what, "access %s %d", path, want), say(what, access(path, want));
        sprintf(what, "eaccess %s %d", path, want), say(what, eaccess(path, want));
    }
}

static void names(const char *in)
{
    char path[100], other[100], what[100];
    sprintf(path, "%s/new", in);
    int fd = open(path, O_CREAT | O_RDWR, 0);
    sprintf(what, "create in %s", in), say(what, fd);
    if (fd >= 0)
        say("write", write(fd, "x", 1)), show(path), say("open again", open(path, O_RDONLY)), close(fd);
    sprintf(what, "unlink in %s", in), say(what, unlink(path));
    sprintf(what, "mkdir in %s", in), say(what, mkdir(path, 0777)), show(path);
    sprintf(what, "rmdir in %s", in), say(what, rmdir(path));
    sprintf(what, "symlink in %s", in), say(what, symlink("target", path)), show(path);
    sprintf(other, "%s/moved", in);
    sprintf(what, "rename in %s", in), say(what, rename(path, other));
    say("unlink it", unlink(other));
    sprintf(what, "fifo in %s", in), say(what, mkfifo(path, 0644)), show(path);
    unlink(path);
    sprintf(what, "tmpfile in %s", in), say(what, fd = open(in, O_TMPFILE | O_RDWR, 0600)), close(fd);
    sprintf(path, "%s/roots", in), sprintf(what, "unlink %s", path), say(what, unlink(path));
    sprintf(path, "%s/ours", in), sprintf(what, "unlink %s", path), say(what, unlink(path));
    sprintf(path, "%s/dir", in), sprintf(what, "rmdir %s", path), say(what, rmdir(path));
    sprintf(path, "%s/none", in), sprintf(what, "unlink %s", path), say(what, unlink(path));
    struct sockaddr_un name = { AF_UNIX };
    sprintf(name.sun_path, "%s/sock", in);
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    sprintf(what, "bind in %s", in), say(what, bind(sock, (void *)&name, sizeof name));
    show(name.sun_path);
    unlink(name.sun_path), close(sock);
}

static void attributes(const char *path)
{
    char what[100];
    struct timeval times[2] = { { 1000, 0 }, { 2000, 0 } };
    sprintf(what, "chmod %s", path), say(what, chmod(path, 0640));
    sprintf(what, "chown %s to itself", path), say(what, chown(path, 1000, -1));
    sprintf(what, "chown %s to root", path), say(what, chown(path, 0, -1));
    sprintf(what, "chgrp %s to mine", path), say(what, chown(path, -1, 100));
    sprintf(what, "chgrp %s to another", path), say(what, chown(path, -1, 4242));
    sprintf(what, "chown %s to nothing", path), say(what, chown(path, -1, -1));
    sprintf(what, "times %s", path), say(what, utimes(path, times));
    sprintf(what, "now %s", path), say(what, utimes(path, 0));
    sprintf(what, "truncate %s", path), say(what, truncate(path, 2));
    sprintf(what, "setgid %s", path), say(what, chmod(path, 02755));
    show(path);
}

static void run(const char *path)
{
    char *const argv[] = { (char *)path, "x", 0 };
    fflush(stdout);
    if (!fork()) {
        execv(path, argv);
        printf("exec %s: %s\n", path, strerrorname_np(errno));
        fflush(stdout);
        _exit(0);
    }
    int status;
    wait(&status);
    printf("%s ended %x\n", path, status);
}

static void as(int uid, int gid, int group)
{
    static const char *const files[] = { "f0", "f4", "f040", "f604", "f666", "f600u", "f060u", "f006u", "f060g", "f", "d755/f", "d700/f", "d711/f", "d744/f" };
    static const char *const folders[] = { "d755", "d777", "d1777", "d2777", "d711", "d733", "d700", "d070g", "d700u" };
    fflush(stdout);
    if (!fork()) {
        if (setgroups(1, &group) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
            exit(1);
        printf("as %d %d %d\n", uid, gid, group);
        for (int at = 0; at < sizeof files / sizeof *files; at++)
            opens(files[at]);
        for (int at = 0; at < sizeof folders / sizeof *folders; at++) {
            char what[100];
            sprintf(what, "list %s", folders[at]), say(what, open(folders[at], O_RDONLY | O_DIRECTORY));
            sprintf(what, "chdir %s", folders[at]), say(what, chdir(folders[at]));
            if (!strchr(folders[at], 'x'))
                chdir("/"), chdir(getenv("WHERE"));
            sprintf(what, "dot %s", folders[at]);
            char dot[100];
            struct stat now;
            sprintf(dot, "%s/.", folders[at]), say(what, stat(dot, &now));
            sprintf(dot, "%s/..", folders[at]), say(what, stat(dot, &now));
            names(folders[at]);
        }
        attributes("f600u"), attributes("f666"), attributes("f4");
        run("x711"), run("x700"), run("x666"), run("script"), run("x070g");
        say("chroot", chroot("d755")), say("link", link("f666", "d777/l")), say("rename over", rename("d777/l", "d1777/over"));
        say("dir moves", rename("d777/sub", "d1777/sub")), say("dir stays", rename("d777/sub", "d777/sub2"));
        say("link of a link", access("link", R_OK)), say("readlink", readlink("d700/l", (char[20]){ 0 }, 20));
        say("memory", open("/dev/null", O_RDWR)), say("zero", open("/dev/zero", O_RDONLY)), say("tmp", access("/tmp", W_OK));
        struct sockaddr_un name = { AF_UNIX, "sock755" };
        say("connect", connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name));
        strcpy(name.sun_path, "sock777");
        say("connect", connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&name, sizeof name));
        fflush(stdout);
        _exit(0);
    }
    wait(0);
}

static void things(void)
{
    static const struct { const char *name; int mode, uid, gid; } folders[] = {
        { "d755", 0755 }, { "d777", 0777 }, { "d1777", 01777 }, { "d2777", 02777, 0, 77 }, { "d711", 0711 }, { "d733", 0733 },
        { "d700", 0700 }, { "d744", 0744 }, { "d070g", 0070, 0, 50 }, { "d700u", 0700, 1000, 100 },
    };
    char path[100];
    make("f0", 0, 0, 0), make("f4", 0004, 0, 0), make("f040", 0040, 0, 100), make("f604", 0604, 0, 0), make("f666", 0666, 0, 0);
    make("f600u", 0600, 1000, 100), make("f060u", 0060, 1000, 100), make("f006u", 0006, 1000, 100), make("f060g", 0060, 0, 50), make("f", 0644, 0, 0);
    for (int at = 0; at < sizeof folders / sizeof *folders; at++) {
        folder(folders[at].name, folders[at].mode, folders[at].uid, folders[at].gid);
        sprintf(path, "%s/f", folders[at].name), make(path, 0644, 0, 0);
        sprintf(path, "%s/roots", folders[at].name), make(path, 0666, 0, 0);
        sprintf(path, "%s/ours", folders[at].name), make(path, 0600, 1000, 100);
        sprintf(path, "%s/dir", folders[at].name), folder(path, 0755, 0, 0);
    }
    folder("d777/sub", 0755, 0, 0), make("d1777/over", 0666, 0, 0);
    symlink("d700/f", "link"), symlink("f", "d700/l");
    for (int at = 0; at < 2; at++) {
        struct sockaddr_un name = { AF_UNIX };
        int sock = socket(AF_UNIX, SOCK_STREAM, 0);
        strcpy(name.sun_path, at ? "sock777" : "sock755");
        bind(sock, (void *)&name, sizeof name), chmod(name.sun_path, at ? 0777 : 0755), listen(sock, 8);
    }
}

static void copy(const char *path, int mode, int gid)
{
    static char buffer[1 << 16];
    int in = open("/proc/self/exe", O_RDONLY), out = open(path, O_CREAT | O_WRONLY, 0700), got;
    while ((got = read(in, buffer, sizeof buffer)) > 0)
        write(out, buffer, got);
    close(in), close(out), chown(path, 0, gid), chmod(path, mode);
}

int main(int argc, char **argv)
{
    char where[] = "/tmp/permXXXXXX";
    if (argc > 1)
        return getuid() == 0 ? 1 : 2;
    umask(0);
    for (int round = 0; round < 3; round++) {
        strcpy(where, "/tmp/permXXXXXX");
        mkdtemp(where), chmod(where, 0777), chdir(where), setenv("WHERE", where, 1);
        things();
        copy("x711", 0711, 0), copy("x700", 0700, 0), copy("x666", 0666, 0), copy("x070g", 0070, 50);
        int fd = open("script", O_CREAT | O_WRONLY, 0755);
        dprintf(fd, "#!%s/x700\n", where), close(fd);
        if (round < 2)
            as(1000, round ? 77 : 100, round ? 50 : 100);
        else
            as(0, 0, 0);
        fflush(stdout);
        if (!fork()) {
            char command[100];
            sprintf(command, "%s", where);
            chdir("/");
            execl("/bin/rm", "rm", "-rf", command, (char *)0);
            _exit(0);
        }
        wait(0);
    }
    return 0;
}
