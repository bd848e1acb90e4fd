/*
 * Work that makes the kernel reach pages of highmem: what `sandbox compare kmap` measures between two calls of times().
 *
 *      kmap-work copy PAGES WORKERS    PAGES/2 pages of one file into another, twice, each time by another process
 *      kmap-work storm PAGES WORKERS   every process writes to every page that it shares with its parent
 *      kmap-work read PAGES WORKERS    every process reads a file, twice
 *
 * Each word of each page is compared with what it must be.
 */
#define ARGUMENTS
#include "user.h"

#define SYS_times 43
#define SYS_pread64 180
#define SYS_memfd_create 356
#define SYS_copy_file_range 377
#define WORDS (PAGE / 4)
#define PASSES 2

static u32 page[WORDS];
static u32 pages, workers;

static u32 number(const char *text)
{
        u32 value = 0;
        while (*text)
                value = value * 10 + *text++ - '0';
        return value;
}

static u32 word(u32 at, u32 place) { return at * 0x9E3779B1u + place; }

static int is_page(const u32 *words, u32 at)
{
        u32 differs = 0, place;
        for (place = 0; place < WORDS; place++)
                differs |= words[place] ^ word(at, place);
        return !differs;
}

static void fill(u32 *words, u32 at)
{
        u32 place;
        for (place = 0; place < WORDS; place++)
                words[place] = word(at, place);
}

static int new_file(const char *name)
{
        int file = call(SYS_memfd_create, name, 0, 0);
        CHECK(10, file >= 0);
        return file;
}

static int full_file(u32 count)
{
        int file = new_file("source");
        u32 at;
        for (at = 0; at < count; at++) {
                fill(page, at);
                CHECK(11, write(file, page, PAGE) == PAGE);
        }
        return file;
}

static void work_in_children(void (*work)(u32 worker, u32 pass), u32 passes)
{
        u32 pass, worker;
        int status;

        call(SYS_times, 0, 0, 0);
        for (pass = 0; pass < passes; pass++) {
                for (worker = 0; worker < workers; worker++)
                        if (!fork()) {
                                work(worker, pass);
                                exit(0);
                        }
                for (worker = 0; worker < workers; worker++)
                        CHECK(12, waitpid(-1, &status, 0) > 0 && status == 0);
        }
        call(SYS_times, 0, 0, 0);
}

static int source, target;

static void copy(u32 worker, u32 pass)
{
        u32 half = pages / 2, at;
        for (at = (worker + pass) % workers; at < half; at += workers) {
                u32 from[2] = { at * PAGE, 0 }, to[2] = { at * PAGE, 0 };
                CHECK(20, call6(SYS_copy_file_range, source, (u32)from, target, (u32)to, PAGE, 0) == PAGE);
        }
}

static void copies(void)
{
        u32 half = pages / 2, at, *copied;

        source = full_file(half), target = new_file("target");
        CHECK(21, call(SYS_ftruncate, target, half * PAGE, 0) == 0);
        work_in_children(copy, PASSES);
        copied = mmap(0, half * PAGE, PROT_READ, MAP_SHARED, target, 0);
        for (at = 0; at < half; at++)
                CHECK(22, is_page(copied + at * WORDS, at));
}

static u32 *shared;

static void storm(u32 worker, u32 pass)
{
        u32 at;
        for (at = 0; at < pages; at++)
                shared[at * WORDS + worker] = ~word(at, worker);
        for (at = 0; at < pages; at++) {
                CHECK(30, shared[at * WORDS + worker] == ~word(at, worker));
                shared[at * WORDS + worker] = word(at, worker);
                CHECK(31, is_page(shared + at * WORDS, at));
        }
}

static void storms(void)
{
        u32 at;

        shared = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(32, (u32)shared < 0xFFFFF000u);
        for (at = 0; at < pages; at++)
                fill(shared + at * WORDS, at);
        work_in_children(storm, 1);
        for (at = 0; at < pages; at++)
                CHECK(33, is_page(shared + at * WORDS, at));
}

static void read_all(u32 worker, u32 pass)
{
        u32 at;
        for (at = 0; at < pages; at++) {
                CHECK(40, call6(SYS_pread64, source, (u32)page, PAGE, at * PAGE, 0, 0) == PAGE);
                CHECK(41, is_page(page, at));
        }
}

int main(u32 *stack)
{
        const char *mode;

        CHECK(1, stack[0] == 4);
        mode = (const char *)stack[2];
        pages = number((const char *)stack[3]), workers = number((const char *)stack[4]);
        CHECK(2, pages > 1 && workers > 0 && workers < WORDS);
        if (*mode == 'c')
                copies();
        else if (*mode == 's')
                storms();
        else {
                source = full_file(pages);
                work_in_children(read_all, PASSES);
        }
        say("kmap-work: every page is what it must be\n");
        return 0;
}
