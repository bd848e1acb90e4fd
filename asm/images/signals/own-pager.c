/* own-pager: a program that pages for itself.
 *
 * A window of pages without any access; whoever touches one gets SIGSEGV, and the handler opens the page, fills it and
 * returns: the instruction is made again.  One REP MOVSB walks over all pages of two windows, so it is interrupted and
 * resumed in its middle, with ECX, ESI and EDI as far as they had come. */

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { PAGE = 4096, PAGES = 24 };

static char *from, *to;
static int opened, wrong;

static void pager(int number, siginfo_t *info, void *context)
{
    char *page = (char *)((unsigned long)info->si_addr & -PAGE);

    (void)number, (void)context;
    if (info->si_code != SEGV_ACCERR)
        wrong++;
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    if (page >= from && page < from + PAGES * PAGE)
        memset(page, 'a' + (page - from) / PAGE, PAGE);
    opened++;
}

int main(void)
{
    struct sigaction action = { .sa_sigaction = pager, .sa_flags = SA_SIGINFO };
    unsigned long count = PAGES * PAGE - 2;
    char *source, *target;
    int good = 0;

    sigaction(SIGSEGV, &action, 0);
    from = mmap(0, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    to = mmap(0, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    source = from, target = to + 1;
    __asm__ volatile("rep movsb" : "+c"(count), "+S"(source), "+D"(target) : : "memory");
    for (int at = 0; at < PAGES * PAGE - 2; at++)
        good += to[at + 1] == 'a' + at / PAGE;
    printf("own-pager: %d pages opened, %d of %d bytes right, ecx %lu, %d wrong\n", opened, good, PAGES * PAGE - 2, count,
           wrong);
    return 0;
}
