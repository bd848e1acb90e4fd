/*
 * A log in vmalloc space, and behind it the table of where each line begins.  When the log is full it begins again.  It is
 * made to be debugged: docs/tutorial-debug.md finds out what is wrong with it.
 */
#include "module.h"

#define LOG_SIZE (2 * PAGE_SIZE)
#define LINES 1000

static char *text;
static u32 used, *begins;

static __attribute__((noipa)) void append(const char *line, u32 length)
{
        if (used > LOG_SIZE)
                used = 0;                       /* begin again */
        memcpy(text + used, line, length);
        used += length;
}

int init_module(void)
{
        static const char line[] = "eth0: packet of 1514 bytes received, checksum is good\n";
        int count;

        text = vmalloc(LOG_SIZE);
        begins = vmalloc(LINES * sizeof *begins);
        CHECK(1, text && begins);
        for (count = 0; count < LINES; count++) {
                append(line, sizeof line - 1 - count % 7);
                begins[count] = used;
        }
        printk("bug-guard: %d lines are in the log\n", LINES);
        vfree(begins);
        vfree(text);
        return 0;
}
