/*
 * The windows of one CPU are used up: the seventeenth is refused.  Unnoticed, it is the first one of the next CPU.
 */
#include "module.h"

#define WINDOWS 16

int init_module(void)
{
        struct page *page = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 *window[WINDOWS + 1], n;

        for (n = 0; n < WINDOWS; n++) {
                window[n] = kmap_atomic(page, KM_USER0);
                window[n][n] = n + 1;
        }
        for (n = 0; n < WINDOWS; n++)
                CHECK(1, window[0][n] == n + 1 && kmap_atomic_to_page(window[n]) == page);
        printk("kmap-full: %u windows on one page\n", n);
        window[n] = kmap_atomic(page, KM_USER0);
        for (n = WINDOWS + 1; n-- > 0;)
                kunmap_atomic(window[n], KM_USER0);
        __free_pages(page, 0);
        return 0;
}
