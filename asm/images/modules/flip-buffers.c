/*
 * Buffers that are held from start-up, beside blocks that have to be found when they are wanted (post 000).  Memory is
 * filled with single pages, every other one is given back, and then 64 KB in one piece are wanted: half of memory is free,
 * and there is no such hole.  The buffers that were taken at the start are there.  When the rest comes back, blocks join.
 */
#include "module.h"

#define ORDER 4
#define BUFFERS 8

static u32 held[BUFFERS];

/* All the blocks that there are, taken and given back. */
static u32 count_blocks(void)
{
        u32 block, count = 0, *page, *blocks = NULL;

        drain_free_lists();
        while ((block = __get_free_pages(GFP_ATOMIC, ORDER)) != 0) {
                *(u32 *)block = (u32)blocks;
                blocks = (u32 *)block;
                count++;
        }
        while ((page = blocks) != NULL) {
                blocks = (u32 *)page[0];
                free_pages((u32)page, ORDER);
        }
        return count;
}

/* Free the pages of a list that lie in one block; how many there were. */
static u32 free_those_of(u32 **list, u32 number)
{
        u32 *page, found = 0;

        while ((page = *list) != NULL)
                if (virt_to_phys(page) / PAGE_SIZE >> ORDER == number) {
                        *list = (u32 *)page[0];
                        free_page((u32)page);
                        found++;
                } else {
                        list = (u32 **)page;
                }
        return found;
}

int init_module(void)
{
        u32 at, free, early = 0, late = 0, index = 0, before = count_blocks(), *page, *odd = NULL, *even = NULL, block;

        for (at = 0; at < BUFFERS; at++)
                held[at] = __get_free_pages(GFP_KERNEL, ORDER);
        free = nr_free_pages();
        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                u32 **list = virt_to_phys(page) / PAGE_SIZE % 2 ? &odd : &even;
                page[0] = (u32)*list;
                *list = page;
                index++;
        }
        while ((page = odd) != NULL) {
                odd = (u32 *)page[0];
                free_page((u32)page);
        }
        drain_free_lists();
        CHECK(1, nr_free_pages() > index / 3);
        for (at = 0; at < BUFFERS; at++) {
                early += held[at] != 0;
                block = __get_free_pages(GFP_KERNEL, ORDER);
                late += block != 0;
                free_pages(block, ORDER);
        }
        for (page = even; virt_to_phys(page) < 8u << 20; page = (u32 *)page[0])
                ;
        block = virt_to_phys(page) / PAGE_SIZE >> ORDER;                /* one hole is made, out of single pages */
        CHECK(5, free_those_of(&even, block) == 1u << (ORDER - 1));
        block = __get_free_pages(GFP_KERNEL, ORDER);                    /* nobody has drained a list for it */
        CHECK(6, block != 0);
        free_pages(block, ORDER);
        while ((page = even) != NULL) {
                even = (u32 *)page[0];
                free_page((u32)page);
        }
        for (at = 0; at < BUFFERS; at++)
                free_pages(held[at], ORDER);
        CHECK(2, nr_free_pages() == free + (BUFFERS << ORDER));
        printk("flip-buffers: of %u blocks of 64 KB, held from the start: %u; found in fragments: %u\n", BUFFERS, early, late);
        CHECK(3, early == BUFFERS && late == 0 && before > free / 20);
        CHECK(4, count_blocks() == before);
        return 0;
}
