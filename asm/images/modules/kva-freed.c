/*
 * A page that is freed takes nothing along: its kva is nobody's, and the next owner of the frame begins without one.
 */
#include "module.h"

int init_module(void)
{
        struct page *page, *again;
        u32 *at, *other, seen = 0, n;

        for (n = 0; n < 4; n++) {
                page = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                CHECK(1, page && page_kva(page) == NULL);
                at = kva_get(page);
                *at = n;
                kva_put(page);
                CHECK(2, vmalloc_to_pfn(at) != ~0u);
                __free_pages(page, 0);
                CHECK(3, vmalloc_to_pfn(at) == ~0u && virt_to_page(at) == NULL);
                again = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                seen += again == page;
                CHECK(4, again && page_kva(again) == NULL && page_address(again) == NULL);
                other = kva_get(again);
                *other = 100 + n;
                CHECK(5, other == at && *at == 100 + n);
                kva_put(again);
                __free_pages(again, 0);
        }
        CHECK(6, seen > 0);
        printk("kva-freed: the address went with the page\n");
        return 0;
}
