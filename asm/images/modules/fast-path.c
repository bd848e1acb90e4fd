/*
 * Requests for one page are served from a list of the CPU that asks (post 000: nine in ten are): hardly any of them takes
 * the zone's lock.  The lists go back to the zone on demand.
 */
#include "module.h"

#define ROUNDS 400

static u32 page[8];

int init_module(void)
{
        u32 round, at, free = nr_free_pages(), big;

        for (round = 0; round < ROUNDS; round++) {
                for (at = 0; at < 8; at++)
                        page[at] = __get_free_page(GFP_KERNEL);
                if (round % 100 == 0) {
                        big = __get_free_pages(GFP_KERNEL, 3);
                        free_pages(big, 3);
                }
                for (at = 0; at < 8; at++)
                        free_page(page[at]);
        }
        drain_free_lists();
        CHECK(1, nr_free_pages() == free);
        printk("fast-path: %d single pages\n", ROUNDS * 8);
        return 0;
}
