/*
 * get_free_page gives zeros, whatever was there; __get_free_page gives what was left.
 */
#include "module.h"

static int is(u32 address, u8 value, u32 size)
{
        u32 at;

        for (at = 0; at < size; at++)
                if (((volatile u8 *)address)[at] != value)
                        return 0;
        return 1;
}

int init_module(void)
{
        u32 order, dirty, clean;

        for (order = 0; order < 6; order++) {
                dirty = __get_free_pages(GFP_KERNEL, order);
                memset((void *)dirty, 0xA5, PAGE_SIZE << order);
                free_pages(dirty, order);
                CHECK(1, __get_free_pages(GFP_KERNEL, order) == dirty && is(dirty, 0xA5, PAGE_SIZE << order));
                free_pages(dirty, order);
                clean = get_free_pages(GFP_KERNEL, order);
                CHECK(2, clean == dirty && is(clean, 0, PAGE_SIZE << order));
                free_pages(clean, order);
        }
        dirty = __get_free_page(GFP_KERNEL);
        memset((void *)dirty, 0xA5, PAGE_SIZE);
        free_page(dirty);
        CHECK(3, __get_free_page(GFP_KERNEL) == dirty && is(dirty, 0xA5, PAGE_SIZE));
        free_page(dirty);
        CHECK(4, get_free_page(GFP_KERNEL) == dirty && is(dirty, 0, PAGE_SIZE));
        free_page(dirty);
        dirty = __get_dma_page(GFP_KERNEL);
        memset((void *)dirty, 0xA5, PAGE_SIZE);
        free_page(dirty);
        CHECK(5, __get_dma_page(GFP_KERNEL) == dirty && is(dirty, 0xA5, PAGE_SIZE));
        free_page(dirty);
        printk("page-clear: zeros from get_free_pages, leftovers from __get_free_pages\n");
        return 0;
}
