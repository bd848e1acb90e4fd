/*
 * Free blocks join up to the edge of a hole and never across it (post 003): a frame without struct page is nobody's buddy.
 * (mem=22m@0 mem=9m@23m, the virtual map, blocks of up to 4 MB: the hole is one megabyte, two pages of the map)
 */
#include "module.h"

#define HOLE (22u << 20 >> 12)
#define HOLE_END (23u << 20 >> 12)

int init_module(void)
{
        u32 pfn, at, free = nr_free_pages(), crossing = 0, touching = 0, *page, *taken = NULL;

        CHECK(1, pfn_valid(HOLE - 1) && !pfn_valid(HOLE) && !pfn_valid(HOLE_END - 1) && pfn_valid(HOLE_END));
        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                pfn = virt_to_phys(page) / PAGE_SIZE;
                CHECK(2, pfn < HOLE || pfn >= HOLE_END);
                page[0] = (u32)taken;
                taken = page;
        }
        while ((page = taken) != NULL) {
                taken = (u32 *)page[0];
                free_page((u32)page);
        }
        drain_free_lists();
        for (pfn = 0; pfn < max_pfn; pfn++)
                if (pfn_valid(pfn) && pfn_to_page(pfn)->flags & PG_BUDDY) {
                        u32 end = pfn + (1u << pfn_to_page(pfn)->index);
                        for (at = pfn; at < end; at++)
                                crossing += !pfn_valid(at);
                        touching += end == HOLE || pfn == HOLE_END;
                }
        CHECK(3, crossing == 0 && touching == 2);
        CHECK(4, nr_free_pages() == free);
        printk("buddy-hole: blocks up to both edges, none across\n");
        return 0;
}
