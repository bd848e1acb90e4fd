/*
 * Workers on several CPUs read pages of one file in highmem, in any order and more pages than the kva pool has slots, and compare
 * every word: a CPU that goes on with the page that an address had before reads another page's words.
 *
 *      kva-threads threads|forks WORKERS PAGES ROUNDS
 *
 * Threads share an address space, so that no CR3 is loaded between two of them; forks have each their own.
 */
#define ARGUMENTS
#include "user.h"

#define SYS_clone 120
#define SYS_pread64 180
#define SYS_memfd_create 356
#define CLONE_THREADS 0x00050F00u       /* VM, FS, FILES, SIGHAND, THREAD, SYSVSEM */
#define SIGCHLD 17
#define MOST 8
#define WORDS (PAGE / 4)

static u32 buffer[MOST][WORDS];
static u8 stack_of[MOST][PAGE];
static u32 pages, rounds, workers;
static int file;
static u32 volatile ended, wrong;

static u32 number(const char *text)
{
        u32 value = 0;
        while (*text)
                value = value * 10 + *text++ - '0';
        return value;
}

static u32 word(u32 at, u32 place) { return at * 0x9E3779B1u + place; }

static int work(u32 me)
{
        u32 round, count, at, place, *words = buffer[me], draw = me;

        for (round = 0; round < rounds; round++)
                for (count = 0; count < pages; count++) {
                        draw = draw * 1103515245u + 12345u;
                        at = (draw >> 16) % pages;
                        memset(words, 0xFF, PAGE);
                        if (call6(SYS_pread64, file, (u32)words, PAGE, at * PAGE, 0, 0) != PAGE)
                                return 1;
                        for (place = 0; place < WORDS; place++)
                                if (words[place] != word(at, place))
                                        return 1;
                        sched_yield();
                }
        return 0;
}

static void thread(u32 me)
{
        int failed = work(me);
        if (failed)
                wrong = 1;
        asm volatile("lock incl %0" : "+m"(ended));
        exit(failed);
}

static void start(u32 me, u32 flags)
{
        u32 *top = (u32 *)(stack_of[me] + PAGE);
        int pid;

        *--top = me;
        asm volatile("int $0x80\n\ttest %%eax, %%eax\n\tjnz 1f\n\tpop %%eax\n\tpush %%eax\n\tpush %%eax\n\tcall *%%edi\n1:"
                     : "=a"(pid) : "0"(SYS_clone), "b"(flags), "c"(top), "d"(0), "S"(0), "D"(thread) : "memory");
        CHECK(4, pid > 0);
}

int main(u32 *stack)
{
        u32 at, place;
        int threads, status;

        CHECK(1, stack[0] == 5);
        threads = *(const char *)stack[2] == 't';
        workers = number((const char *)stack[3]), pages = number((const char *)stack[4]);
        rounds = number((const char *)stack[5]);
        CHECK(2, workers > 0 && workers <= MOST && pages > 0);
        file = call(SYS_memfd_create, "pages", 0, 0);
        for (at = 0; at < pages; at++) {
                for (place = 0; place < WORDS; place++)
                        buffer[0][place] = word(at, place);
                CHECK(3, write(file, buffer[0], PAGE) == PAGE);
        }
        for (at = 0; at < workers; at++)
                start(at, threads ? CLONE_THREADS : SIGCHLD);
        if (threads)
                while (ended < workers)
                        sched_yield();
        else
                for (at = 0; at < workers; at++) {
                        CHECK(5, waitpid(-1, &status, 0) > 0);
                        wrong |= status != 0;
                }
        if (wrong) {
                say("kva-threads: a page was another one\n");
                return 6;
        }
        say("kva-threads: every page was what it must be\n");
        return 0;
}
