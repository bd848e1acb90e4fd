/*
 * kmap with four slots (pkmap=4).  A page keeps its address as long as its count is not 0: with n users it is n + 1, without
 * any it is 1, and the page is still mapped.  When no slot is left, a lap takes the addresses of all pages at 1 away at once,
 * and flushes once; a slot that is used again shows its new page.
 */
#include "module.h"

#define PAGES 12

static struct page *page[PAGES];

static u32 first_word(struct page *its)
{
        u32 *window = kmap_atomic(its, KM_USER0), word = *window;

        kunmap_atomic(window, KM_USER0);
        return word;
}

int init_module(void)
{
        u32 *kept, *at, *last, *window, n, before, since = 1, laps = 0;

        for (n = 0; n < PAGES; n++) {
                page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                CHECK(1, page[n] && page[n]->flags & PG_HIGHMEM && page_address(page[n]) == NULL);
                window = kmap_atomic(page[n], KM_USER0);
                *window = 100 + n;
                kunmap_atomic(window, KM_USER0);
        }
        kept = kmap(page[0]);
        CHECK(2, *kept == 100 && kmap(page[0]) == kept && kmap_to_page(kept) == page[0]);       /* 3 */
        kunmap(page[0]);                                                                        /* 2 */
        for (last = kept, n = 1; n < PAGES; n++) {
                at = kmap(page[n]);
                CHECK(3, at != kept && *at == 100 + n && page[n]->virtual == (u32)at);
                if (at < last) {
                        laps++, since = n;
                        for (before = 1; before < n; before++)
                                CHECK(4, page_address(page[before]) == NULL);                   /* 0 */
                }
                *at = 1000 + n;
                kunmap(page[n]);
                for (before = since; before <= n; before++)
                        CHECK(5, page_address(page[before]) != NULL);                           /* 1 */
                CHECK(6, kmap(page[n]) == at && *at == 1000 + n);
                kunmap(page[n]);
                CHECK(7, *kept == 100 && page_address(page[0]) == kept);
                last = at;
        }
        CHECK(8, laps == 3);
        kunmap(page[0]);
        kmap_flush_unused();
        for (n = 0; n < PAGES; n++) {
                CHECK(9, page_address(page[n]) == NULL && first_word(page[n]) == (n ? 1000 + n : 100));
                __free_pages(page[n], 0);
        }
        printk("kmap-laps: %u pages through four slots in %u laps, the one in use stayed\n", PAGES, laps);
        return 0;
}
