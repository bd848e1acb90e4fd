/*
 * One interface to mem_map, whatever the model: pfn_valid, pfn_to_page, page_to_pfn; a hole of 64 MB in memory, and RAM
 * added into it at run time.  (mem=64m@0 mem=64m@128m; model is 0 for flatmem, 1 for sparsemem, 2 for the virtual map)
 */
#include "module.h"

#define HOLE (64u << 20 >> 12)
#define HOLE_END (128u << 20 >> 12)
#define ADDED (HOLE_END - HOLE)

int model;

static int round_trips(u32 first, u32 end)
{
        u32 pfn;

        for (pfn = first; pfn < end; pfn += 37) {
                struct page *page = pfn_to_page(pfn);
                if (!pfn_valid(pfn) || page_to_pfn(page) != pfn || page->flags >> 15 << 15 != (page->flags & PG_OPEN))
                        return 0;
                if (pfn + 1 < end && pfn_to_page(pfn + 1) != page + 1)
                        return 0;
        }
        return 1;
}

static u32 valid(int (*how)(u32), u32 first, u32 end)
{
        u32 pfn, found = 0;

        for (pfn = first; pfn < end; pfn += 16)
                found += how(pfn);
        return found;
}

int init_module(void)
{
        u32 free = nr_free_pages(), pfn;
        struct page *page;

        CHECK(1, mem_model == (u32)model && max_pfn >= 192u << 20 >> 12);
        CHECK(2, round_trips(1, HOLE) && round_trips(HOLE_END, 192u << 20 >> 12));
        for (pfn = HOLE_END; pfn < 192u << 20 >> 12; pfn++)
                CHECK(17, pfn_to_page(pfn)->flags & PG_OPEN);           /* also where nobody has needed one yet */
        CHECK(3, !pfn_valid(max_pfn) && !pfn_valid(0xFFFFFFFF));
        CHECK(4, valid(pfn_valid, HOLE, HOLE_END) == (model == 0 ? ADDED / 16 : 0));
        if (model == 0)
                CHECK(5, pfn_to_page(HOLE + 5)->flags == 0);            /* a reserved entry, for nothing */
        if (model == 2) {
                CHECK(6, valid(pfn_valid_walk, HOLE, HOLE_END) == 0 && valid(pfn_valid_fault, HOLE, HOLE_END) == 0);
                for (pfn = 0; pfn < max_pfn; pfn += 999)
                        CHECK(7, pfn_valid_walk(pfn) == pfn_valid_fault(pfn) && pfn_valid(pfn) == pfn_valid_walk(pfn));
        }

        CHECK(8, add_memory(HOLE - 1, 16) == -EINVAL && add_memory(0x100000 >> 1, 16) == -EINVAL);
        CHECK(9, add_memory(HOLE, ADDED) == 0 && add_memory(HOLE, ADDED) == -EINVAL);
        CHECK(10, round_trips(HOLE, HOLE_END) && valid(pfn_valid, HOLE, HOLE_END) == ADDED / 16);
        for (pfn = HOLE; pfn < HOLE_END; pfn++)
                CHECK(15, pfn_to_page(pfn)->flags & PG_OPEN);           /* not one of them looks reserved */
        CHECK(11, nr_free_pages() > free + ADDED - 600);                /* less what its structures took */
        for (pfn = HOLE; pfn < HOLE_END && page_address(pfn_to_page(pfn)); pfn++)
                *(u32 *)page_address(pfn_to_page(pfn)) = pfn;           /* free frames: nobody's */
        for (pfn = HOLE; pfn < HOLE_END && page_address(pfn_to_page(pfn)); pfn++)
                CHECK(16, *(u32 *)phys_to_virt(pfn * PAGE_SIZE) == pfn);        /* each its own */
        for (pfn = 0; pfn < 20000; pfn++) {
                page = alloc_pages(GFP_ATOMIC, 0);
                CHECK(12, page != NULL && pfn_to_page(page_to_pfn(page)) == page && page->count == 1);
                if (page_to_pfn(page) >= HOLE && page_to_pfn(page) < HOLE_END)
                        break;
                page->mapping = 1;
        }
        CHECK(13, pfn < 20000);
        pfn = page_to_pfn(page);
        if (page_address(page)) {
                *(u32 *)page_address(page) = 0xC0FFEE;
                CHECK(14, *(u32 *)phys_to_virt(pfn * PAGE_SIZE) == 0xC0FFEE);
        }
        __free_pages(page, 0);
        for (pfn = 1; pfn < max_pfn; pfn++)
                if (pfn_valid(pfn) && pfn_to_page(pfn)->mapping == 1 && pfn_to_page(pfn)->count == 1) {
                        pfn_to_page(pfn)->mapping = 0;
                        __free_pages(pfn_to_page(pfn), 0);
                }
        printk("pfn: three questions, the same answers; %u MB added\n", ADDED >> 8);
        return 0;
}
