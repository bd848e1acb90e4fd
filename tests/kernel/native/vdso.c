#include "posix.h"
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

static char *base;
static Elf32_Sym *symbols;
static char *names;
static Elf32_Half *versions;
static unsigned count;

static void *find(const char *name)
{
    for (unsigned at = 0; at < count; at++)
        if (!strcmp(names + symbols[at].st_name, name) && symbols[at].st_shndx)
            return base + symbols[at].st_value;
    return 0;
}

static int listed(struct dl_phdr_info *info, size_t size, void *data)
{
    if (info->dlpi_addr == (unsigned)base)
        printf("dl_iterate_phdr: name %d headers %d\n", !strcmp(info->dlpi_name, "linux-gate.so.1"), info->dlpi_phnum > 0);
    return 0;
}

static volatile int handled;
static void handler(int number) { handled++; }

int main(void)
{
    setvbuf(stdout, 0, _IONBF, 0);
    base = (char *)getauxval(AT_SYSINFO_EHDR);
    printf("AT_SYSINFO_EHDR %d, a page's start %d\n", base != 0, ((unsigned)base & 4095) == 0);
    Elf32_Ehdr *header = (void *)base;
    Elf32_Phdr *segment = (void *)(base + header->e_phoff);
    printf("%.3s class %d data %d type %d machine %d\n", base + 1, base[4], base[5], header->e_type, header->e_machine);
    Elf32_Dyn *dynamic = 0;
    for (int at = 0; at < header->e_phnum; at++) {
        if (segment[at].p_type == PT_LOAD)
            printf("load flags %d offset %u at %u\n", segment[at].p_flags, segment[at].p_offset, segment[at].p_vaddr);
        if (segment[at].p_type == PT_DYNAMIC)
            dynamic = (void *)(base + segment[at].p_vaddr);
    }
    for (; dynamic->d_tag; dynamic++)
        switch (dynamic->d_tag) {
        case DT_SYMTAB: symbols = (void *)(base + dynamic->d_un.d_ptr); break;
        case DT_STRTAB: names = base + dynamic->d_un.d_ptr; break;
        case DT_HASH: count = ((unsigned *)(base + dynamic->d_un.d_ptr))[1]; break;
        case DT_VERSYM: versions = (void *)(base + dynamic->d_un.d_ptr); break;
        }
    for (dynamic = dynamic; dynamic->d_tag != DT_SONAME; dynamic--)
        ;
    printf("soname %s, versions %d\n", names + dynamic->d_un.d_val, versions != 0);
    static const char *wanted[] = { "__kernel_vsyscall", "__kernel_sigreturn", "__kernel_rt_sigreturn", "__vdso_clock_gettime", "__vdso_clock_gettime64", "__vdso_clock_getres", "__vdso_gettimeofday", "__vdso_time", "__vdso_getcpu", "__vdso_nothing" };
    for (int at = 0; at < 10; at++)
        printf("%s %d\n", wanted[at], find(wanted[at]) != 0);
    int pid;
    asm volatile("call *%1" : "=a"(pid) : "r"(find("__kernel_vsyscall")), "a"(SYS_getpid) : "memory");
    printf("getpid %d\n", pid == getpid());
    struct timespec time = { 0 }, now;
    struct timeval tv = { 0 };
    long (*two)(long, void *) = find("__vdso_clock_gettime");
    say("clock_gettime", two(0, &time)), clock_gettime(0, &now);
    printf("near %d\n", labs(now.tv_sec - time.tv_sec) < 2);
    printf("bad clock %ld\n", two(99, &time));
    long long wide[2] = { 0 };
    two = find("__vdso_clock_gettime64"), say("clock_gettime64", two(1, wide)), clock_gettime(1, &now);
    printf("near %d\n", now.tv_sec - wide[0] < 2);
    two = find("__vdso_clock_getres"), say("clock_getres", two(1, &time));
    printf("resolution %ld %ld\n", time.tv_sec, time.tv_nsec);
    long (*day)(void *, void *) = find("__vdso_gettimeofday");
    say("gettimeofday", day(&tv, 0)), clock_gettime(0, &now);
    printf("near %d\n", labs(now.tv_sec - tv.tv_sec) < 2);
    long (*seconds)(void *) = find("__vdso_time");
    printf("time %d\n", labs(seconds(0) - now.tv_sec) < 2);
    unsigned cpu = 99, node = 99;
    long (*getcpu)(void *, void *, void *) = find("__vdso_getcpu");
    say("getcpu", getcpu(&cpu, &node, 0));
    printf("cpu %d node %u\n", cpu < 99, node);
    dl_iterate_phdr(listed, 0);
    struct { void *handler; unsigned long flags; void *restorer; unsigned long long mask; } action = { handler, 0, 0, 0 };
    say("sigaction", syscall(SYS_rt_sigaction, SIGUSR1, &action, 0, 8));
    raise(SIGUSR1);
    action.flags = SA_SIGINFO;
    say("sigaction", syscall(SYS_rt_sigaction, SIGUSR1, &action, 0, 8));
    raise(SIGUSR1);
    printf("handled %d\n", handled);
    char line[200];
    unsigned start, end;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]") && sscanf(line, "%x-%x", &start, &end) == 2)
            printf("%d %.26s\n", start == (unsigned)base, strchr(line, ' '));
    return 0;
}
