#include "posix.h"
#include <sys/auxv.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
static char *area, *file;

static void smaps(const char *name, void *at)
{
    static const char *skipped[] = { "Referenced:", "Pss_Dirty:", "KSM:", "THPeligible:", "FilePmdMapped:", "Shared_Hugetlb:", "Private_Hugetlb:" };
    char line[300], start[20];
    FILE *smaps = fopen("/proc/self/smaps", "r");
    int found = 0;
    sprintf(start, "%08x-", (unsigned)at);
    printf("%s\n", name);
    while (fgets(line, sizeof line, smaps)) {
        if (line[8] == '-')
            found = !strncmp(line, start, 9);
        else if (found) {
            int skip = 0;
            for (int each = 0; each < sizeof skipped / sizeof *skipped; each++)
                skip |= !strncmp(line, skipped[each], strlen(skipped[each]));
            if (strstr(line, " sd"))
                strcpy(strstr(line, " sd"), " \n");
            if (!skip)
                printf("  %s", line);
        }
    }
    fclose(smaps);
    fflush(stdout);
}

static void pagemap(const char *name, void *at)
{
    unsigned long long entry = 7;
    int fd = open("/proc/self/pagemap", O_RDONLY), got = pread64(fd, &entry, 8, (unsigned)at / PAGE * 8ULL);
    printf("%s: %d present %d swapped %d file %d alone %d frame %d\n", name, got, (int)(entry >> 63), (int)(entry >> 62 & 1), (int)(entry >> 61 & 1), (int)(entry >> 56 & 1), (entry & (1ULL << 55) - 1) != 0);
    close(fd);
}

static long put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    if (fd < 0) {
        printf("open %d\n", errno);
        return 0;
    }
    long got = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return got;
}

static void get(const char *path)
{
    char text[300];
    int fd = open(path, O_RDONLY), got = read(fd, text, sizeof text - 1);
    text[got < 0 ? 0 : got] = 0;
    printf("%s: %d %s", path, got, text);
    close(fd);
}

static void mode(const char *path)
{
    struct stat status;
    printf("%s %o\n", path, stat(path, &status) ? errno : status.st_mode);
}

int main(void)
{
    setvbuf(stdout, 0, _IOFBF, 100000);
    int fd = open("procfiles.tmp", O_RDWR | O_CREAT, 0600), pipes[2];
    unlink("procfiles.tmp"), ftruncate(fd, 4 * PAGE);
    area = mmap(0, 8 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(area, PAGE, PROT_READ), mprotect(area + 6 * PAGE, 2 * PAGE, 0);
    file = mmap(0, 4 * PAGE, RW, MAP_SHARED, fd, 0);
    area[PAGE] = area[2 * PAGE] = 1, (void)*(volatile char *)(area + 3 * PAGE);
    file[0] = 1;
    smaps("one page", area), smaps("touched", area + PAGE), smaps("no access", area + 6 * PAGE), smaps("shared", file);
    pagemap("read-only", area), pagemap("written", area + PAGE), pagemap("only read", area + 3 * PAGE), pagemap("untouched", area + 4 * PAGE);
    pagemap("file", file), pagemap("file, untouched", file + PAGE), pagemap("page 0", 0);
    fflush(stdout);
    pipe(pipes);
    if (!fork()) {
        char letter;
        close(pipes[1]);
        area[PAGE] = 2;
        smaps("in a child", area + PAGE), pagemap("own", area + PAGE), pagemap("common", area + 2 * PAGE);
        _exit(0);
    }
    wait(0);
    mlock(area + PAGE, PAGE);
    smaps("locked", area + PAGE);
    unsigned long long entries[3];
    int map = open("/proc/self/pagemap", O_RDONLY);
    say("odd count", pread64(map, entries, 7, 0)), say("odd place", pread64(map, entries, 8, 4));
    say("two", pread64(map, entries, 16, (unsigned)area / PAGE * 8)), say("ten bytes", pread64(map, entries, 10, 0));
    say("far", pread64(map, entries, 8, 1LL << 40)), lseek(map, (unsigned)area / PAGE * 8, SEEK_SET);
    say("read", read(map, entries, 24)), say("position", lseek(map, 0, SEEK_CUR) - (unsigned)area / PAGE * 8);
    mode("/proc/self/smaps"), mode("/proc/self/smaps_rollup"), mode("/proc/self/pagemap"), mode("/proc/self/syscall");
    mode("/proc/self/oom_score"), mode("/proc/self/oom_score_adj"), mode("/proc/self/clear_refs"), mode("/proc/self/auxv"), mode("/proc/self/comm");
    mode("/proc/sys/kernel/tainted"), mode("/proc/sys/kernel/core_pattern");

    get("/proc/self/oom_score_adj");
    say("100", put("/proc/self/oom_score_adj", "100\n")), get("/proc/self/oom_score_adj");
    say("1001", put("/proc/self/oom_score_adj", "1001")), say("-1001", put("/proc/self/oom_score_adj", "-1001"));
    say("x", put("/proc/self/oom_score_adj", "x"));
    get("/proc/self/oom_score_adj");
    fflush(stdout);
    if (!fork()) {
        get("/proc/self/oom_score_adj");
        fflush(stdout);
        _exit(0);
    }
    wait(0);
    say("0", put("/proc/self/oom_score_adj", "0"));
    say("clear_refs 1", put("/proc/self/clear_refs", "1")), say("clear_refs 9", put("/proc/self/clear_refs", "9"));
    say("clear_refs 0", put("/proc/self/clear_refs", "0")), say("clear_refs x", put("/proc/self/clear_refs", "x"));
    say("read clear_refs", open("/proc/self/clear_refs", O_RDWR) >= 0);
    say("comm", put("/proc/self/comm", "a new name that is long")), get("/proc/self/comm");
    get("/proc/sys/kernel/tainted"), get("/proc/sys/kernel/core_pattern");
    unsigned words[100], number = 0;
    int aux = open("/proc/self/auxv", O_RDONLY), got = read(aux, words, sizeof words);
    while (number < got / 4 && words[number] != AT_PAGESZ)
        number += 2;
    printf("AT_PAGESZ %u\n", words[number + 1]);

    char text[300], path[50];
    int number_of, child = fork();
    unsigned first, second;
    if (!child) {
        read(pipes[0], text, 77);
        _exit(0);
    }
    pause_for(50000000);
    sprintf(path, "/proc/%d/syscall", child);
    int call = open(path, O_RDONLY);
    text[read(call, text, 299)] = 0;
    sscanf(text, "%d %x %*x %x", &number_of, &first, &second);
    printf("a child in %d, descriptor %d, %d bytes\n", number_of, first == pipes[0], second);
    call = open("/proc/self/syscall", O_RDONLY);
    got = read(call, text, 299);
    text[got] = 0;
    sscanf(text, "%d %x %x", &number_of, &first, &second);
    number = 0;
    for (char *at = text; *at; at++)
        number += *at == ' ';
    printf("this in %d of %d into %d, %d words\n", number_of, first == call, second == (unsigned)text, number + 1);
    kill(child, 9);
    return 0;
}
