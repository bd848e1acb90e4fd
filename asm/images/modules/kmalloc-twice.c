/*
 * A piece that is freed twice: its header says so.
 */
#include "module.h"

int init_module(void)
{
        void *first = kmalloc(100, GFP_KERNEL), *second = kmalloc(100, GFP_KERNEL);

        kfree(first);
        kfree(first);
        printk("kmalloc-twice: nobody noticed; and now two owners of one piece: %d\n",
               kmalloc(100, GFP_KERNEL) == kmalloc(100, GFP_KERNEL));
        kfree(second);
        return 0;
}
