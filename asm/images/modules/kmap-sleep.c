/*
 * Nobody may sleep while a window is open: the next task on this CPU would get it.  vmalloc may sleep, and says so although it
 * need not this time.
 */
#include "module.h"

int init_module(void)
{
        struct page *page = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 *window = kmap_atomic(page, KM_USER0);
        void *area;

        window[0] = 1;
        kunmap_atomic(window, KM_USER0);
        area = vmalloc(PAGE_SIZE);                      /* none is open: no harm */
        vfree(area);
        window = kmap_atomic(page, KM_USER0);
        printk("kmap-sleep: vmalloc with a window open\n");
        area = vmalloc(PAGE_SIZE);
        CHECK(1, window[0] == 1);
        kunmap_atomic(window, KM_USER0);
        vfree(area);
        __free_pages(page, 0);
        return 0;
}
