/*
 * "memory_start = whatever_init(memory_start, memory_end)" (post 002): boot calls the driver's boot_init before there is an
 * allocator, and what lies below the value that it returns is the driver's for ever: more than kmalloc has, in one piece,
 * good for DMA.  The code is gone after boot; the module finds by name what boot kept for it.
 */
#include "module.h"

#define BYTES (300u << 10)
#define PATTERN 0x5AA5C33Cu

static volatile u32 scales[] = { 7, 3 };        /* in .data, not in the code */

u32 boot_init(u32 memory_start, u32 memory_end)
{
        u32 at;

        if (memory_end - memory_start < BYTES)
                return memory_start;
        for (at = memory_start; at < memory_start + BYTES; at += 4)
                *(u32 *)at = at * scales[1] ^ PATTERN;
        return memory_start + BYTES;
}

static int whole(u32 area)
{
        u32 at;

        for (at = area; at < area + BYTES; at += 4)
                if (*(u32 *)at != (at * 3 ^ PATTERN))
                        return 0;
        return 1;
}

int init_module(void)
{
        u32 size = 0, area = (u32)boot_reservation("boot-driver", &size), at, free = nr_free_pages(), *page, *taken = NULL;

        CHECK(1, area != 0 && size == BYTES && virt_to_phys(area) + size < 16 << 20);
        CHECK(2, kmalloc(BYTES, GFP_KERNEL) == NULL);
        for (at = area; at < area + size; at += PAGE_SIZE) {
                CHECK(3, !(pfn_to_page(virt_to_phys(at) / PAGE_SIZE)->flags & PG_OPEN));
                free_page(at);
        }
        CHECK(4, nr_free_pages() == free && whole(area));
        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                memset(page, 0xEE, PAGE_SIZE);
                page[0] = (u32)taken;
                taken = page;
        }
        CHECK(5, whole(area));
        while ((page = taken) != NULL) {
                taken = (u32 *)page[0];
                free_page((u32)page);
        }
        printk("boot-driver: %u KB in one piece, taken by C code before there was an allocator\n", size >> 10);
        return 0;
}
