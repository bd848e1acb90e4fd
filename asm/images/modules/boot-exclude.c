/*
 * memexclude=6m-7m, the option that post 002 wants, and highmem=8m: no frame of the first is ever handed out, and
 * frames above what is left of lowmem have no kernel address.  memexclude=10243k-10246k: pages that it meets go whole.
 */
#include "module.h"

int init_module(void)
{
        u32 free = nr_free_pages(), count = 0, inside = 0, pfn, *page, *taken = NULL;
        struct page *high;

        CHECK(1, high_memory == PAGE_OFFSET + (24u << 20));
        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                inside += virt_to_phys(page) >= 6u << 20 && virt_to_phys(page) < 7u << 20;
                inside += virt_to_phys(page) >= 10240u << 10 && virt_to_phys(page) < 10248u << 10;
                page[0] = (u32)taken;
                taken = page;
                count++;
        }
        while ((page = taken) != NULL) {
                taken = (u32 *)page[0];
                free_page((u32)page);
        }
        CHECK(2, inside == 0);
        CHECK(3, nr_free_pages() == free && count > 3000);

        high = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        CHECK(4, high != NULL && high->flags & PG_HIGHMEM);
        CHECK(5, page_address(high) == NULL && page_to_pfn(high) >= (24u << 20) / PAGE_SIZE);
        __free_pages(high, 0);
        for (pfn = (24u << 20) / PAGE_SIZE; pfn < (32u << 20) / PAGE_SIZE; pfn++) {
                high = pfn_to_page(pfn);
                CHECK(6, high->flags & PG_OPEN && high->flags & PG_HIGHMEM && page_address(high) == NULL);
        }
        high = pfn_to_page((24u << 20) / PAGE_SIZE - 1);
        CHECK(7, !(high->flags & PG_HIGHMEM) && page_address(high) == (void *)(high_memory - PAGE_SIZE));
        printk("boot-exclude: every frame of lowmem, and none from 6 to 7 MB; 8 MB are highmem\n");
        return 0;
}
