/*
 * Memory for ISA DMA lies below 16 MB, and a transfer may not cross 64 KB (128 KB for the 16-bit channels).  Ordinary
 * requests come from above 16 MB first, and from below when nothing else is left.
 */
#include "module.h"

#define LIMIT (16u << 20)
#define AREA (256 * PAGE_SIZE)          /* more frames than a CPU's list holds */

int init_module(void)
{
        u32 order, address, free = nr_free_pages(), low = 0, high = 0, *page, *taken = NULL;

        for (order = 0; order < 6; order++) {
                address = __get_dma_pages(GFP_KERNEL, order);
                CHECK(1, address && virt_to_phys(address) + (PAGE_SIZE << order) <= LIMIT);
                CHECK(2, order > 4 || !dma_crosses(virt_to_phys(address), PAGE_SIZE << order, 64 << 10));
                CHECK(3, !dma_crosses(virt_to_phys(address), PAGE_SIZE << order, 128 << 10));
                free_pages(address, order);
        }
        CHECK(4, dma_crosses(0xFFFF, 2, 64 << 10) && !dma_crosses(0xFFFF, 1, 64 << 10));
        address = __get_free_page(GFP_KERNEL);
        CHECK(5, virt_to_phys(address) >= LIMIT);
        free_page(address);
        page = vmalloc(AREA);
        for (order = 0; order < AREA; order += PAGE_SIZE)
                CHECK(9, page != NULL && vmalloc_to_pfn((char *)page + order) >= LIMIT / PAGE_SIZE);
        vfree(page);

        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                if (virt_to_phys(page) >= LIMIT)
                        high++;
                else
                        low++;
                CHECK(6, virt_to_phys(page) < LIMIT || low == 0);
                page[0] = (u32)taken;
                taken = page;
        }
        CHECK(7, __get_dma_page(GFP_ATOMIC) == 0);
        while ((page = taken) != NULL) {
                taken = (u32 *)page[0];
                free_page((u32)page);
        }
        CHECK(8, nr_free_pages() == free && low + high == free && low && high);
        printk("dma-pages: below 16 MB, inside 64 KB, and the last to be taken by others\n");
        return 0;
}
