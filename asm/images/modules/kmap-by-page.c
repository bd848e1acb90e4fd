/*
 * kunmap takes the page, kunmap_atomic the address.  Who confuses them closes nothing, and 2.4 did not say so.
 */
#include "module.h"

int init_module(void)
{
        struct page *page = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 *window = kmap_atomic(page, KM_USER0);

        window[0] = 1;
        printk("kmap-by-page: kunmap_atomic(page)\n");
        kunmap_atomic(page, KM_USER0);
        return 0;
}
