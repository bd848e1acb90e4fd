/*
 * The stack of windows (2.6.37): what was opened last is closed first.  With two pages a helper of 2.6.11 closed the first
 * one first, which fixed slots allow and a stack does not.
 */
#include "module.h"

int init_module(void)
{
        struct page *from = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0), *to = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 *source = kmap_atomic(from, KM_USER0), *target = kmap_atomic(to, KM_USER1);

        source[7] = 4711;
        target[7] = source[7];
        kunmap_atomic(target, KM_USER1);                        /* the right order */
        kunmap_atomic(source, KM_USER0);
        source = kmap_atomic(from, KM_USER0);
        target = kmap_atomic(to, KM_USER1);
        CHECK(1, source != target && source[7] == 4711 && target[7] == 4711);
        printk("kmap-order: two pages, closed in the order of opening\n");
        kunmap_atomic(source, KM_USER0);
        kunmap_atomic(target, KM_USER1);
        __free_pages(from, 0);
        __free_pages(to, 0);
        return 0;
}
