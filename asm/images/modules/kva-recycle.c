/*
 * page_kva() with two slots (post 001): a page keeps its address when nobody uses it, the slot without users for longest
 * is the one that is recycled, and one with a user never is.
 */
#include "module.h"

#define PAGES 8

int init_module(void)
{
        struct page *page[PAGES];
        u32 *kept, *at, *last, n;

        for (n = 0; n < PAGES; n++) {
                page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                CHECK(1, page[n] && page[n]->flags & PG_HIGHMEM && page_kva(page[n]) == NULL);
        }
        kept = kva_get(page[0]);
        CHECK(2, page_kva(page[0]) == kept && virt_to_page(kept) == page[0]);
        kva_put(page[0]);
        CHECK(8, kva_get(page[0]) == kept && kva_get(page[0]) == kept);
        kva_put(page[0]);
        *kept = 1000;
        for (n = 1; n < PAGES; n++) {
                at = kva_get(page[n]);
                CHECK(3, at != kept && (n == 1 || at == last));
                *at = 1000 + n;
                kva_put(page[n]);
                CHECK(4, page_kva(page[n]) == at && (n == 1 || page_kva(page[n - 1]) == NULL));
                CHECK(5, *kept == 1000 && page_kva(page[0]) == kept);
                last = at;
        }
        CHECK(6, kva_get(page[0]) == kept);
        kva_put(page[0]);
        kva_put(page[0]);
        for (n = 0; n < PAGES; n++) {
                at = kva_get(page[n]);
                CHECK(7, *at == 1000 + n && __pa(at) == vmalloc_to_pfn(at) * PAGE_SIZE);
                kva_put(page[n]);
                __free_pages(page[n], 0);
        }
        printk("kva-recycle: %u pages through two slots, the one in use stayed\n", PAGES);
        return 0;
}
