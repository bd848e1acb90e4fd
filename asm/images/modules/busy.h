/* The device of busy.c and raw.c: NAME, which one it is (WHICH), and the label that its exception table names (FAULTS). */
#include "module.h"

u32 mod_use_count_;

static int open(int file) { mod_inc_use_count(); return 0; }
static int release(int file) { mod_dec_use_count(); return 0; }

static int ioctl(int file, u32 request, u32 argument)
{
        int value;

        if (request == 1)
                return mod_use_count_ = argument, 0;
        if (request == 2)
                return (u32)&mod_use_count_ >> 12;
        if (request == 3)
                return WHICH;
        asm volatile("1: mov (%1), %0\n2:\n\t"
                     ".pushsection .fixup, \"ax\"\n3: mov $-14, %0\n\tjmp 2b\n\t.popsection\n\t"
                     ".pushsection __ex_table, \"a\"\n\t.long " FAULTS ", 3b\n\t.popsection"
                     : "=r"(value) : "r"(argument));
        return value;
}

static const struct file_operations operations = { open, release, 0, 0, ioctl };

int init_module(void) { return register_chrdev(NAME, &operations) < 0; }
void cleanup_module(void) { unregister_chrdev(NAME); }
