/*
 * Pages of highmem go round from CPU to CPU: each worker gets a page's address and hands it to the next one, who reads the page
 * there.  What `sandbox compare kmap` measures between two calls of times().
 *
 *      kmap-share threads|processes PAGES WORKERS kva|kmap|windows
 *
 * Threads have one address space, so that no CR3 is loaded between two of them; processes have each their own.
 */
#define ARGUMENTS
#include "user.h"
#include "share.h"

#define SYS_times 43
#define SYS_clone 120
#define SYS_futex 240
#define SYS_sched_setaffinity 241
#define SYS_sched_getaffinity 242
#define CLONE_THREADS 0x00050F00u       /* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM */
#define SIGCHLD 17
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define ROUNDS 2

static u8 stack_of[BOXES][PAGE];
static u32 pages, workers, cpus;
static int share;
static u32 volatile *full, *ended, *failure;    /* of all workers, processes too */

static u32 number(const char *text)
{
        u32 value = 0;
        while (*text)
                value = value * 10 + *text++ - '0';
        return value;
}

static void wait_until(u32 volatile *flag, u32 value)
{
        while (*flag != value && !*failure)
                call(SYS_futex, flag, FUTEX_WAIT, !value);
}

static void set(u32 volatile *flag, u32 value)
{
        *flag = value;
        call(SYS_futex, flag, FUTEX_WAKE, BOXES);
}

/* Worker n is on CPU n, and those behind the last CPU begin again: the next worker is on another CPU where there is one. */
static int work(u32 me)
{
        u32 mask = 1u << me % cpus, count = ROUNDS * pages / workers, before = (me + workers - 1) % workers, draw = me;

        if (call(SYS_sched_setaffinity, 0, sizeof mask, &mask))
                return 20;
        while (count-- && !*failure) {
                draw = draw * 1103515245u + 12345u;
                wait_until(full + me, 0);
                if (ioctl(share, SHARE_PUT, me << 16 | (draw >> 16) % pages))
                        return 21;
                set(full + me, 1);
                wait_until(full + before, 1);
                if (ioctl(share, SHARE_TAKE, before))
                        return 22;
                set(full + before, 0);
        }
        return 0;
}

static void worker(u32 me)
{
        int failed = work(me);
        u32 n;

        if (failed) {
                *failure = failed;
                for (n = 0; n < workers; n++)
                        set(full + n, full[n]);
        }
        asm volatile("lock incl %0" : "+m"(*ended));
        call(SYS_futex, ended, FUTEX_WAKE, BOXES);
        exit(failed);
}

static void start(u32 me, u32 flags)
{
        u32 *top = (u32 *)(stack_of[me] + PAGE);
        int pid;

        *--top = me;
        asm volatile("int $0x80\n\ttest %%eax, %%eax\n\tjnz 1f\n\tpop %%eax\n\tpush %%eax\n\tpush %%eax\n\tcall *%%edi\n1:"
                     : "=a"(pid) : "0"(SYS_clone), "b"(flags), "c"(top), "d"(0), "S"(0), "D"(worker) : "memory");
        CHECK(4, pid > 0);
}

static void run(int threads)
{
        u32 me, seen;
        int status;

        for (me = 0; me < workers; me++)
                start(me, threads ? CLONE_THREADS : SIGCHLD);
        if (threads)
                while ((seen = *ended) < workers)
                        call(SYS_futex, ended, FUTEX_WAIT, seen);
        else
                for (me = 0; me < workers; me++)
                        CHECK(6, waitpid(-1, &status, 0) > 0);
        for (me = 0; *failure && me < workers; me++)
                ioctl(share, SHARE_TAKE, me);
        CHECK(*failure, *failure == 0);
}

int main(u32 *stack)
{
        u32 mask = 0;
        const char *way;

        CHECK(1, stack[0] == 5);
        pages = number((const char *)stack[3]), workers = number((const char *)stack[4]);
        way = (const char *)stack[5];
        CHECK(2, pages <= SHARE_PAGES && workers > 1 && workers <= BOXES);
        CHECK(3, call(SYS_sched_getaffinity, 0, sizeof mask, &mask) > 0);
        while (mask >> cpus)
                cpus++;
        full = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(4, (u32)full < 0xFFFFF000u);
        ended = full + BOXES, failure = ended + 1;
        share = open("/dev/share", O_RDWR);
        CHECK(5, share >= 0);
        CHECK(7, ioctl(share, way[1] == 'v' ? SHARE_KVA : *way == 'k' ? SHARE_KMAP : SHARE_WINDOWS, pages) == 0);
        call(SYS_times, 0, 0, 0);
        run(*(const char *)stack[2] == 't');
        call(SYS_times, 0, 0, 0);
        say("kmap-share: every page was what it must be, on every CPU\n");
        return 0;
}
