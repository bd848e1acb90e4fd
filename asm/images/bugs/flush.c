/*
 * Two threads, each on a CPU of its own: one draws pictures into a page behind the scene and has it exchanged with the page
 * that is shown, the other looks at the page that is shown.  It is made to be debugged: docs/tutorial-debug.md.
 */
#include "user.h"

#define SYS_clone 120
#define SYS_sched_setaffinity 241
#define SYS_exit_group 252
#define CLONE_THREAD_OF_MINE 0x00050F00u        /* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM */
#define PICTURES 3

static struct { u32 picture, pixels[PAGE / 4 - 1]; } shown __attribute__((aligned(PAGE))),
        hidden __attribute__((aligned(PAGE)));
static u32 stack[PAGE / 4] __attribute__((aligned(PAGE)));
static volatile u32 drawn __attribute__((aligned(PAGE))), seen, wrong;

static void on_cpu(int number)
{
        u32 mask = 1 << number;
        if (call(SYS_sched_setaffinity, 0, sizeof mask, &mask))
                call(SYS_exit_group, 1, 0, 0);
}

static __attribute__((noinline)) void missed(u32 picture) { wrong = picture; }

/* Every picture that is drawn must be seen. */
static void look(void)
{
        u32 next;

        on_cpu(1);
        for (next = 1; next <= PICTURES; next++) {
                while (drawn != next)
                        ;
                if (*(volatile u32 *)&shown.picture != next)
                        missed(next);
                seen = next;
        }
        exit(0);
}

static void start(void (*thread)(void))
{
        u32 *top = stack + sizeof stack / 4;
        int pid;

        *--top = (u32)thread;
        asm volatile("int $0x80\n\ttest %%eax, %%eax\n\tjnz 1f\n\tret\n1:"
                     : "=a"(pid) : "0"(SYS_clone), "b"(CLONE_THREAD_OF_MINE), "c"(top), "d"(0), "S"(0), "D"(0) : "memory");
        CHECK(2, pid > 0);
}

int main(void)
{
        u32 pages[2] = { (u32)&shown, (u32)&hidden }, next;
        int fd = open("/dev/flip", O_RDWR);

        CHECK(3, fd >= 0);
        on_cpu(0);
        shown.picture = hidden.picture = 0;
        start(look);
        for (next = 1; next <= PICTURES; next++) {
                hidden.picture = next;
                CHECK(4, ioctl(fd, 0, (u32)pages) == 0);
                CHECK(5, *(volatile u32 *)&shown.picture == next);
                drawn = next;
                while (seen != next)
                        ;
        }
        if (wrong) {
                say("bug-flush: the other CPU sees a picture of before\n");
                return 6;
        }
        say("bug-flush: both CPUs see the same pictures\n");
        return 0;
}
