/*
 * copy_highpage and clear_highpage by two addresses of this CPU (post 001: "picking 2 unused virtual addresses in kernel
 * space"): page after page at the same two addresses, and nobody sees the one before.
 */
#include "module.h"

#define PAGES 6
#define WORDS (PAGE_SIZE / 4)

static struct page *page[PAGES];

static int is(u32 which, u32 first)
{
        u32 *window = kmap_atomic(page[which], KM_USER0), n, wrong = 0;

        for (n = 0; n < WORDS; n++)
                wrong += window[n] != (first ? first + n : 0);
        kunmap_atomic(window, KM_USER0);
        return !wrong;
}

int init_module(void)
{
        u32 *window, n, word;

        for (n = 0; n < PAGES; n++) {
                page[n] = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
                CHECK(1, page[n]->flags & PG_HIGHMEM && page_address(page[n]) == NULL);
                window = kmap_atomic(page[n], KM_USER0);
                for (word = 0; word < WORDS; word++)
                        window[word] = (n + 1) * 10000 + word;
                kunmap_atomic(window, KM_USER0);
        }
        copy_highpage(page[3], page[0]);
        copy_highpage(page[4], page[1]);
        clear_highpage(page[0]);
        clear_highpage(page[2]);
        copy_highpage(page[2], page[5]);
        CHECK(2, is(0, 0) && is(1, 20000) && is(2, 60000) && is(3, 10000) && is(4, 20000) && is(5, 60000));
        for (n = 0; n < PAGES; n++)
                __free_pages(page[n], 0);
        printk("kmap-local: three copies and two clears at the same addresses\n");
        return 0;
}
