/*
 * The task's own two addresses exist where a task runs (post 001: "it should work _iff_ all copy/clear page operations happen
 * in such a context").  Who loads a module before the first program is a kernel thread: it has no page table of its own.
 */
#include "module.h"

int init_module(void)
{
        struct page *from = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0), *to = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);

        printk("kmap-no-task: process %d copies\n", current_pid());
        copy_highpage(to, from);
        __free_pages(from, 0);
        __free_pages(to, 0);
        return 0;
}
