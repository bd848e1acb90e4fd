/*
 * mem_map as mem_init leaves it: frame 0, what lies from 0x9F000 to 1 MB and the kernel stay reserved, and the free
 * blocks that the other entries tell of add up to what the allocator says.
 */
#include "module.h"

static int reserved(u32 pfn)
{
        return !(pfn_to_page(pfn)->flags & PG_OPEN);
}

int init_module(void)
{
        u32 pfn, open = 0, listed = 0, held = 0;

        drain_free_lists();
        CHECK(1, max_pfn == (16u << 20) / PAGE_SIZE);
        CHECK(2, reserved(0));
        for (pfn = 0x9F; pfn < 0x100; pfn++)
                CHECK(3, reserved(pfn));
        CHECK(4, reserved(0x100) && reserved(virt_to_phys(&printk) / PAGE_SIZE));
        CHECK(5, reserved(swapper_pg_dir / PAGE_SIZE) && reserved(virt_to_phys(mem_map) / PAGE_SIZE));
        CHECK(6, !reserved(1) && !reserved(max_pfn - 1));
        for (pfn = 0; pfn < max_pfn; pfn++) {
                struct page *page = pfn_to_page(pfn);
                if (!(page->flags & PG_OPEN)) {
                        CHECK(7, page->flags == 0 && page->count == 0);
                        continue;
                }
                open++;
                held += page->count != 0;
                if (page->flags & PG_BUDDY) {
                        CHECK(8, page->count == 0 && pfn % (1u << page->index) == 0);
                        listed += 1u << page->index;
                }
        }
        CHECK(9, listed == nr_free_pages());
        CHECK(10, open > listed && open - listed >= held && held > 0);
        printk("mem-map: what is reserved stays so, and the free blocks add up\n");
        return 0;
}
