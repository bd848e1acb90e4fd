/* The memory of another process: PTRACE_PEEK and POKE, /proc/PID/mem, process_vm_readv and process_vm_writev. */
#include "posix.h"
#include <sys/ptrace.h>
#include <sys/uio.h>

#define PAGE 4096

static char *nothing, *writable, *readonly, *shared, *shared_file, *file_ro, *untouched;
static const char text[] = "in the file";
static int child, bystander;

static void *area(int prot, int flags, int fd)
{
    return mmap(0, 2 * PAGE, prot, flags, fd, 0);
}

static void areas(void)
{
    int fd = open("/tmp/ptrace_mem_file", O_RDWR | O_CREAT | O_TRUNC, 0600), ro;
    write(fd, "abcdefgh", 8);
    ftruncate(fd, PAGE);
    ro = open("/tmp/ptrace_mem_file", O_RDONLY);
    unlink("/tmp/ptrace_mem_file");
    writable = area(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    nothing = area(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    readonly = area(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    untouched = area(PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    shared = area(PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1);
    shared_file = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    file_ro = mmap(0, PAGE, PROT_READ, MAP_SHARED, ro, 0);
    strcpy(writable, "written");
    strcpy(nothing, "unreadable");
    strcpy(readonly, "only read");
    mprotect(nothing, PAGE, PROT_NONE);
    mprotect(readonly, PAGE, PROT_READ);
    munmap(writable + PAGE, PAGE);
}

static void work(void)
{
    raise(SIGSTOP);
    printf("child sees %s, %s, %s, %.8s\n", writable, readonly, text, shared_file);
    mprotect(nothing, PAGE, PROT_READ);
    printf("child sees %s, untouched %x\n", nothing, *(unsigned *)untouched);
    fflush(stdout);
    raise(SIGSTOP);
    nothing[1] = 0;
    _exit(0);
}

static void word(const char *what, char *at)
{
    unsigned found = 0xdeadbeef;
    errno = 0;
    long got = syscall(SYS_ptrace, PTRACE_PEEKDATA, child, at, &found);
    printf("peek %s: %ld %x errno %d\n", what, got, found, errno);
}

static void poke(const char *what, char *at, const char *data)
{
    unsigned value;
    memcpy(&value, data, 4);
    printf("%s: ", what);
    say("poke", ptrace(PTRACE_POKEDATA, child, at, value));
}

static void words(void)
{
    word("writable", writable);
    word("across the end", writable + PAGE - 2);
    word("readonly", readonly);
    word("nothing", nothing);
    word("nothing, never touched", nothing + PAGE);
    word("shared", shared);
    word("file behind its end", shared_file + PAGE);
    word("unmapped", 0);
    word("kernel", (char *)0xffffe000 + 0x1000 * 0);
    word("to nowhere", writable);
    say("peek to nowhere", syscall(SYS_ptrace, PTRACE_PEEKDATA, child, writable, 8));
    poke("writable", writable, "PoPo");
    poke("across the end", writable + PAGE - 2, "zzzz");
    poke("readonly", readonly, "Only");
    poke("nothing", nothing, "unUN");
    poke("untouched", untouched, "\1\2\3\4");
    poke("shared read-only", shared, "abcd");
    poke("shared file", shared_file, "ABCD");
    poke("shared file opened read-only", file_ro, "abcd");
    poke("text", (char *)text, "IN-t");
    poke("unmapped", 0, "abcd");
    printf("mine: %s, %s, %s, %.8s\n", writable, readonly, text, shared_file);
}

static void file(void)
{
    char name[64], buf[PAGE + 64];
    int fd;
    sprintf(name, "/proc/%d/mem", child);
    fd = say("open", open(name, O_RDWR) > 0 ? 3 : -1) == 3 ? open(name, O_RDWR) : -1;
    memset(buf, 0, sizeof buf);
    say("pread", pread64(fd, buf, 7, (unsigned)writable));
    printf("%s\n", buf);
    say("pread to the end", pread64(fd, buf, sizeof buf, (unsigned)writable));
    say("pread behind it", pread64(fd, buf, 4, (unsigned)writable + PAGE));
    say("pread 0", pread64(fd, buf, 0, 0));
    say("read at 0", read(fd, buf, 4));
    printf("lseek %d\n", lseek64(fd, (unsigned)readonly, SEEK_SET) == (unsigned)readonly);
    say("end", lseek64(fd, 0, SEEK_END) == -1 ? -1 : 0);
    say("write", write(fd, "ONLY", 4));
    printf("forward %d\n", lseek64(fd, 1, SEEK_CUR) == (unsigned)readonly + 5);
    say("read", read(fd, buf, 4));
    printf("%.4s\n", buf);
    say("pwrite", pwrite64(fd, "nev", 3, (unsigned)shared));
    say("pwrite from nowhere", pwrite64(fd, 0, 3, (unsigned)writable));
    say("pread to nowhere", pread64(fd, 0, 3, (unsigned)writable));
    say("pwrite nothing", pwrite64(fd, "not", 3, (unsigned)nothing));
    say("mmap", mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0);
    sprintf(name, "/proc/%d/mem", getpid());
    fd = open(name, O_RDWR);
    say("mine", pwrite64(fd, "my own", 7, (unsigned)readonly));
    printf("%s\n", readonly);
}

static void vm(const char *what, int write, struct iovec *local, int locals, struct iovec *remote, int remotes)
{
    printf("%s: ", what);
    say("bytes", write ? process_vm_writev(child, local, locals, remote, remotes, 0)
                       : process_vm_readv(child, local, locals, remote, remotes, 0));
}

static void vectors(void)
{
    char a[8] = "", b[PAGE * 2];
    struct iovec local[2] = { { a, 4 }, { b, sizeof b } }, remote[3] = { { writable, 7 }, { readonly, 4 }, { shared_file, 8 } };
    struct iovec nowhere = { writable + PAGE - 8, 16 }, none = { 0, 4 }, half[2] = { { writable, 4 }, { 0, 4 } };
    memset(b, 0, sizeof b);
    vm("three pieces", 0, local, 2, remote, 3);
    printf("%.4s %.15s\n", a, b);
    vm("less room than data", 0, local, 1, remote, 3);
    vm("over the end", 0, local + 1, 1, &nowhere, 1);
    vm("nothing there", 0, local, 1, &none, 1);
    vm("half there", 0, local + 1, 1, half, 2);
    vm("nothing here", 0, &none, 1, remote, 1);
    vm("no local", 0, local, 0, remote, 1);
    vm("no remote", 0, local, 1, remote, 0);
    vm("PROT_NONE", 0, local, 1, &(struct iovec){ nothing, 4 }, 1);
    vm("write", 1, local, 1, &(struct iovec){ writable, 4 }, 1);
    vm("write what is read-only", 1, local, 1, &(struct iovec){ readonly, 4 }, 1);
    vm("write the file", 1, &(struct iovec){ "WXYZ", 4 }, 1, &(struct iovec){ shared_file + 4, 4 }, 1);
    vm("write over the end", 1, local + 1, 1, &nowhere, 1);
    say("flags", process_vm_readv(child, local, 1, remote, 1, 1));
    say("nobody", process_vm_readv(99999, local, 1, remote, 1, 0));
    say("many", process_vm_readv(child, local, 1025, remote, 1, 0));
    say("many there", process_vm_readv(child, local, 1, remote, 1025, 0));
    say("bad vector", process_vm_readv(child, local, 1, (void *)8, 1, 0));
    say("mine", process_vm_readv(getpid(), local, 1, &(struct iovec){ readonly, 6 }, 1, 0));
}

int main(void)
{
    int status, fd;
    char name[64], byte;
    setvbuf(stdout, 0, _IONBF, 0);
    areas();
    child = fork();
    if (!child)
        work();
    bystander = fork();
    if (!bystander)
        work();
    waitpid(child, &status, WUNTRACED);
    waitpid(bystander, &status, WUNTRACED);
    say("seize", ptrace(PTRACE_SEIZE, child, 0, 0));
    say("interrupt", ptrace(PTRACE_INTERRUPT, child, 0, 0));
    waitpid(child, &status, 0);
    words();
    file();
    vectors();
    kill(child, SIGCONT);
    ptrace(PTRACE_DETACH, child, 0, 0);
    do
        waitpid(child, &status, WUNTRACED);
    while (!WIFSTOPPED(status));
    kill(bystander, SIGCONT);
    waitpid(bystander, &status, WUNTRACED);
    sprintf(name, "/proc/%d/mem", child);
    fd = open(name, O_RDONLY);
    kill(bystander, SIGKILL);
    waitpid(bystander, &status, 0);
    kill(child, SIGCONT);
    say("the child may still not write", (waitpid(child, &status, 0), status & 0x7f));
    say("gone", pread64(fd, &byte, 1, (unsigned)writable));
    say("gone", open(name, O_RDONLY));
    if (!fork()) {
        int pid = getppid();
        setgid(7);
        setuid(7);
        sprintf(name, "/proc/%d/mem", pid);
        say("another user", open(name, O_RDONLY));
        say("another user", process_vm_readv(pid, &(struct iovec){ name, 4 }, 1, &(struct iovec){ writable, 4 }, 1, 0));
        say("another user", ptrace(PTRACE_ATTACH, pid, 0, 0));
        _exit(0);
    }
    wait(&status);
    return 0;
}
