/*
 * A module that calls another module and the kernel, and reads the other's data: its symbols come from both.
 */
#include "module.h"

extern int library_value;
extern int library_add(int one, int other);
static int (*add)(int, int) = library_add;

int init_module(void)
{
        CHECK(1, library_add(2, 3) == 10);
        library_value = 100;
        CHECK(2, add(2, 3) == 105);
        CHECK(3, verify_area(VERIFY_READ, (void *)0, 4) == -EFAULT);
        printk("module-user: linked to a module and to the kernel\n");
        return 0;
}
