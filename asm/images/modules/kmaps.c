/*
 * /dev/kmaps: kmap and kunmap of eight pages of highmem for programs, whose first words are 100, 101 and so on.  The argument
 * is the page's number; LOOK and STORE go through the address that KMAP found, on the CPU of who asks.
 */
#include "module.h"
#include "kmaps.h"

#define PKMAP_BASE 0xFF000000u

static struct page *page[KMAP_PAGES];
static u32 *at[KMAP_PAGES], asking;

static int ioctl(int file, u32 request, u32 n)
{
        if (request == ASKING)
                return asking;
        if (n % 0x10000 >= KMAP_PAGES)
                return -EINVAL;
        switch (request) {
        case KMAP:
                asking++;
                at[n] = kmap(page[n]);
                asking--;
                return ((u32)at[n] - PKMAP_BASE) / PAGE_SIZE;
        case KUNMAP:
                kunmap(page[n]);
                return 0;
        case LOOK:
                return *at[n];
        case STORE:
                *at[n % 0x10000] = n >> 16;
                return 0;
        case MAPPED:
                return page_address(page[n]) != NULL;
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void)
{
        u32 n, *window;

        for (n = 0; n < KMAP_PAGES; n++) {
                page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                CHECK(1, page[n] && page[n]->flags & PG_HIGHMEM);
                window = kmap_atomic(page[n], KM_USER0);
                *window = 100 + n;
                kunmap_atomic(window, KM_USER0);
        }
        return register_chrdev("kmaps", &operations) < 0;
}

void cleanup_module(void)
{
        u32 n;

        for (n = 0; n < KMAP_PAGES; n++)
                __free_pages(page[n], 0);
        unregister_chrdev("kmaps");
}
