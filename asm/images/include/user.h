/*
 * A C program without a library: _start calls main and exits with what it returns; system calls give -errno.
 */
#ifndef USER_H
#define USER_H

typedef unsigned int u32;
typedef unsigned char u8;

#define PAGE 4096
#define O_RDONLY 0
#define O_RDWR 2
#define O_CREAT 0x40
#define PROT_READ 1
#define PROT_WRITE 2
#define MAP_SHARED 1
#define MAP_PRIVATE 2
#define MAP_FIXED 0x10
#define MAP_ANONYMOUS 0x20
#define EIO 5
#define EFAULT 14
#define EBUSY 16
#define ENODEV 19
#define EINVAL 22
#define SIGKILL 9

#define SYS_exit 1
#define SYS_fork 2
#define SYS_read 3
#define SYS_write 4
#define SYS_open 5
#define SYS_close 6
#define SYS_waitpid 7
#define SYS_getpid 20
#define SYS_kill 37
#define SYS_pipe 42
#define SYS_ioctl 54
#define SYS_ftruncate 93
#define SYS_munmap 91
#define SYS_mprotect 125
#define SYS_delete_module 129
#define SYS_sched_yield 158
#define SYS_mmap2 192

static inline int call6(int number, u32 a, u32 b, u32 c, u32 d, u32 e, u32 f)
{
        int result;
        u32 last[2] = { (u32)number, f };
        asm volatile("push %%ebp\n\tmov 4(%%eax), %%ebp\n\tmov (%%eax), %%eax\n\tint $0x80\n\tpop %%ebp"
                     : "=a"(result) : "0"(last), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
        return result;
}
#define call(number, a, b, c) call6((number), (u32)(a), (u32)(b), (u32)(c), 0, 0, 0)

static inline int open(const char *path, int flags) { return call(SYS_open, path, flags, 0644); }
static inline int close(int fd) { return call(SYS_close, fd, 0, 0); }
static inline int read(int fd, void *to, u32 count) { return call(SYS_read, fd, to, count); }
static inline int write(int fd, const void *from, u32 count) { return call(SYS_write, fd, from, count); }
static inline int ioctl(int fd, u32 request, u32 argument) { return call(SYS_ioctl, fd, request, argument); }
static inline int fork(void) { return call(SYS_fork, 0, 0, 0); }
static inline int getpid(void) { return call(SYS_getpid, 0, 0, 0); }
static inline int kill(int pid, int signal) { return call(SYS_kill, pid, signal, 0); }
static inline int pipe(int fds[2]) { return call(SYS_pipe, fds, 0, 0); }
static inline int sched_yield(void) { return call(SYS_sched_yield, 0, 0, 0); }
static inline int waitpid(int pid, int *status, int options) { return call(SYS_waitpid, pid, status, options); }
static inline void exit(int status) { for (;;) call(SYS_exit, status, 0, 0); }
static inline int munmap(void *at, u32 size) { return call(SYS_munmap, at, size, 0); }
static inline int mprotect(void *at, u32 size, int prot) { return call(SYS_mprotect, at, size, prot); }
static inline void *mmap(void *at, u32 size, int prot, int flags, int fd, u32 page)
{
        return (void *)call6(SYS_mmap2, (u32)at, size, (u32)prot, (u32)flags, (u32)fd, page);
}

void *memcpy(void *to, const void *from, u32 count)
{
        void *start = to;
        asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
        return start;
}
void *memset(void *to, int byte, u32 count)
{
        void *start = to;
        asm volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(byte) : "memory");
        return start;
}

static inline void say(const char *text)
{
        u32 size = 0;
        while (text[size])
                size++;
        write(1, text, size);
}

/* End with a number unless a condition holds. */
#define CHECK(number, condition) do { if (!(condition)) exit(number); } while (0)

#ifdef ARGUMENTS                        /* main gets the stack as exec left it: argc, argv[0], ... */
int main(u32 *stack);
asm(".globl _start\n_start:\n\tmov %esp, %eax\n\tpush %eax\n\tcall main\n\tpush %eax\n\tcall leave\n");
#else
int main(void);
asm(".globl _start\n_start:\n\tcall main\n\tpush %eax\n\tcall leave\n");
#endif
void leave(int status) { exit(status); }

#endif
