/*
 * /dev/busy: in use while somebody has it open.  Request 0 loads from an address that may fault, with a way out in the
 * module's exception table: -14 there.  Request 1 sets the module's own use word, which counts too; 2 tells where the module
 * lies (in pages), 3 which one it is.
 */
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
                return 1;
        asm volatile("1: mov (%1), %0\n2:\n\t"
                     ".pushsection .fixup, \"ax\"\n3: mov $-14, %0\n\tjmp 2b\n\t.popsection\n\t"
                     ".pushsection __ex_table, \"a\"\n\t.long 1b, 3b\n\t.popsection"
                     : "=r"(value) : "r"(argument));
        return value;
}

static const struct file_operations operations = { open, release, 0, 0, ioctl };

int init_module(void) { return register_chrdev("busy", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("busy"); }
