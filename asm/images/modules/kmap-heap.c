/*
 * The heap of post 004, "hand out how ever much is requested", and what it comes to: "you could get fragmentation that way".
 * Runs of any length in any order; then every second window is free, half of them, and no two are in a row.
 */
#include "module.h"

#define WINDOWS 16
#define RUN 4

int init_module(void)
{
        struct page *run = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 2);    /* RUN frames in a row */
        u32 *window[WINDOWS], *area, *other, n, page;

        CHECK(1, run && run->flags & PG_HIGHMEM);
        area = kmap_atomic_pages(run, RUN, KM_USER0);
        other = kmap_atomic_pages(run, RUN, KM_USER1);
        CHECK(2, area != other);
        for (n = 0; n < RUN * PAGE_SIZE / 4; n++)
                area[n] = n ^ 0x5A5A5A5A;
        kunmap_atomic(area, KM_USER0);                  /* opened first, closed first */
        for (n = 0; n < RUN * PAGE_SIZE / 4; n++)
                CHECK(3, other[n] == (n ^ 0x5A5A5A5A));
        CHECK(4, kmap_atomic_to_page(other + 3 * PAGE_SIZE / 4) == run + 3);
        kunmap_atomic(other, KM_USER1);
        area = kmap_atomic_pages(run, 3, KM_USER0);     /* straddles what was two runs */
        other = kmap_atomic_pages(run, WINDOWS - 3, KM_USER0);
        CHECK(5, area[0] == 0x5A5A5A5A && other[0] == area[0]);
        kunmap_atomic(other, KM_USER0);
        kunmap_atomic(area, KM_USER0);
        for (n = 0; n < WINDOWS; n++)
                window[n] = kmap_atomic(run + n % RUN, KM_USER0);
        for (n = 0; n < WINDOWS; n += 2)
                kunmap_atomic(window[n], KM_USER0);
        printk("kmap-heap: runs of %u, %u and %u; then every second window is free\n", RUN, 3, WINDOWS - 3);
        area = kmap_atomic_pages(run, 2, KM_USER0);
        for (page = 0; page < 2; page++)
                CHECK(6, area[page * PAGE_SIZE / 4] == ((page * PAGE_SIZE / 4) ^ 0x5A5A5A5A));
        return 0;
}
