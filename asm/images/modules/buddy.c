/*
 * Blocks of 2^n frames: aligned to their size, 128 KB at most (post 002), cut from larger ones and joined again, and one
 * count for all of them.  After everything came back, the largest blocks are there again.
 */
#include "module.h"

#define ORDERS 6
#define MANY 512

static u32 block[MANY];

static u32 blocks_of(u32 order)
{
        u32 pfn, found = 0;

        for (pfn = 0; pfn < max_pfn; pfn++)
                found += (pfn_to_page(pfn)->flags & PG_BUDDY) && pfn_to_page(pfn)->index == order;
        return found;
}

/* Frames of all free blocks. */
static u32 listed(void)
{
        u32 pfn, found = 0;

        for (pfn = 0; pfn < max_pfn; pfn++)
                if (pfn_to_page(pfn)->flags & PG_BUDDY)
                        found += 1u << pfn_to_page(pfn)->index;
        return found;
}

int init_module(void)
{
        u32 free, largest, order, at, seed = 1;

        drain_free_lists();
        free = nr_free_pages();
        largest = blocks_of(ORDERS - 1);
        for (order = 0; order < ORDERS; order++) {
                u32 address = __get_free_pages(GFP_KERNEL, order);
                CHECK(1, address && virt_to_phys(address) % (PAGE_SIZE << order) == 0);
                CHECK(2, nr_free_pages() == free - (1u << order));
                CHECK(3, pfn_to_page(virt_to_phys(address) / PAGE_SIZE)->count == 1);
                free_pages(address, order);
                CHECK(4, nr_free_pages() == free);
        }
        CHECK(5, __get_free_pages(GFP_KERNEL, ORDERS) == 0);

        for (at = 0; at < MANY; at++)
                block[at] = __get_free_pages(GFP_KERNEL, at % 3);
        for (at = 0; at < MANY; at++) {
                u32 one, other, kept;
                seed = seed * 1103515245u + 12345;
                one = at, other = (seed >> 16) % MANY;
                if (one % 3 == other % 3)
                        kept = block[one], block[one] = block[other], block[other] = kept;
        }
        for (at = 0; at < MANY; at++)
                free_pages(block[at], at % 3);
        drain_free_lists();
        CHECK(6, nr_free_pages() == free);
        CHECK(7, blocks_of(ORDERS - 1) == largest);
        CHECK(8, listed() == free);                     /* the half of a joined block is none */
        printk("buddy: %u orders, and every block whole again\n", ORDERS);
        return 0;
}
