#include "posix.h"
#include <asm/ldt.h>

static struct user_desc entry(int number, unsigned base, unsigned limit)
{
    struct user_desc found = { .entry_number = number, .base_addr = base, .limit = limit, .seg_32bit = 1, .useable = 1 };
    return found;
}

static long set(int number, unsigned base)
{
    struct user_desc desc = entry(number, base, 0xfff);
    return syscall(SYS_modify_ldt, 0x11, &desc, sizeof desc);
}

static int through(int number)
{
    int value;
    asm volatile("mov %1, %%fs\n\tmovl %%fs:0, %0" : "=r"(value) : "r"(number << 3 | 7));
    return value;
}

static int words[9] = { 11, 22, 33, 44, 55, 66, 77, 88, 99 };
static char table[65536 + 100];
static const int numbers[] = { 0, 511, 512, 513, 1024, 4000, 8190, 8191 };

static void read_all(const char *name)
{
    for (int at = 0; at < 8; at++)
        printf("%s entry %d: %d\n", name, numbers[at], through(numbers[at]));
    fflush(stdout);
}

int main(void)
{
    for (int at = 0; at < 8; at++) {
        say("set", set(numbers[at], (unsigned)&words[at]));
        printf("entry 0: %d\n", through(0));
        printf("size %ld\n", syscall(SYS_modify_ldt, 0, table, sizeof table));
    }
    say("8192", set(8192, 0));
    read_all("own");
    memset(table, 0x55, sizeof table);
    say("read 100", syscall(SYS_modify_ldt, 0, table, 100));
    say("read all", syscall(SYS_modify_ldt, 0, table, 65536));
    printf("%x %x\n", *(int *)(table + 513 * 8) == ((unsigned)&words[3] << 16 | 0xfff), *(int *)(table + 8));
    int status;
    if (!fork()) {
        words[2] = 34;
        read_all("child");
        set(512, (unsigned)&words[8]);
        printf("changed %d\n", through(512));
        fflush(stdout);
        _exit(0);
    }
    wait(&status);
    printf("status %x\n", status);
    read_all("after");
    asm volatile("mov %0, %%fs" : : "r"(0));
    return 0;
}
