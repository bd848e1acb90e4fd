/*
 * vmalloc: frames from anywhere in one row of addresses, a page behind each area that is never there, more than kmalloc
 * can give; and DMA from such an area, which the post says would be really hard, goes one page at a time.
 */
#include "module.h"

#define CARD 0x80000000u
#define PAGES 40

int init_module(void)
{
        u32 value, at, apart = 0;
        u8 *area = vmalloc(PAGES * PAGE_SIZE - 100), *next = vmalloc(1);
        u32 volatile *card = vremap(CARD, 0x200000);

        CHECK(1, area != NULL && next != NULL && card != NULL && card[0] == 0x44524143);
        CHECK(10, vmalloc(nr_free_pages() * PAGE_SIZE) == NULL);        /* the reserve stays; and so do tables */
        at = nr_free_pages();
        CHECK(11, vmalloc(nr_free_pages() * PAGE_SIZE) == NULL && nr_free_pages() == at);
        CHECK(12, vmalloc_to_pfn(phys_to_virt(9u << 20) + 5 * PAGE_SIZE) == (9u << 20) / PAGE_SIZE + 5);
        CHECK(2, vmalloc(0) == NULL && vmalloc(1u << 30) == NULL);
        memset(area, 0x11, PAGES * PAGE_SIZE);
        set_fs(KERNEL_DS);
        CHECK(3, __get_user(&value, area + PAGES * PAGE_SIZE - 4, 4) == 0);
        CHECK(4, __get_user(&value, area + PAGES * PAGE_SIZE, 4) == -EFAULT);
        CHECK(5, __get_user(&value, area + PAGES * PAGE_SIZE - 3, 4) == -EFAULT);
        CHECK(6, next == area + (PAGES + 1) * PAGE_SIZE);

        for (at = 0; at < PAGES; at++) {
                apart += at && vmalloc_to_pfn(area + at * PAGE_SIZE) != vmalloc_to_pfn(area + (at - 1) * PAGE_SIZE) + 1;
                card[0x20 / 4] = vmalloc_to_pfn(area + at * PAGE_SIZE) * PAGE_SIZE;
                card[0x24 / 4] = 0;
                card[0x28 / 4] = PAGE_SIZE;
                card[0x2C / 4] = 0x01010101 * at;
                card[0x34 / 4] = 1;
                CHECK(7, card[0x0C / 4] == 1);
                card[0x0C / 4] = 3;
        }
        for (at = 0; at < PAGES * PAGE_SIZE; at++)
                CHECK(8, area[at] == at / PAGE_SIZE);
        vfree(area);
        CHECK(9, __get_user(&value, area, 4) == -EFAULT);
        set_fs(USER_DS);
        vfree(next);
        vfree((void *)card);
        printk("vmalloc: %u pages in a row, %s frames, a card stored into each\n", PAGES, apart ? "scattered" : "adjacent");
        return 0;
}
