/*
 * /dev/kva: pages of highmem, marked with their numbers, whose addresses of the kva pool programs ask for.  ioctl GET gives the
 * word there, read through the address, PUT gives the address back, SEE the address that the page has now.
 */
#include "module.h"

#define PAGES 8
#define GET 1
#define PUT 2
#define SEE 3
#define MARK 0x4B564100u

static struct page *page[PAGES];

static int ioctl(int file, u32 request, u32 n)
{
        u32 *at;

        if (n >= PAGES)
                return -EINVAL;
        if (request == SEE)
                return (u32)page_kva(page[n]) / PAGE_SIZE;
        if (request == PUT) {
                kva_put(page[n]);
                return 0;
        }
        at = kva_get(page[n]);
        return readl(at) == MARK + n && readl(at + 1023) == MARK + n ? 0 : -EIO;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void)
{
        u32 n, *at;

        for (n = 0; n < PAGES; n++) {
                page[n] = alloc_pages(GFP_USER | GFP_HIGHMEM, 0);
                CHECK(1, page[n] != NULL);
                at = kva_get(page[n]);
                CHECK(2, at != NULL);
                at[0] = at[1023] = MARK + n;
                kva_put(page[n]);
        }
        return register_chrdev("kva", &operations) < 0;
}

void cleanup_module(void)
{
        u32 n;

        unregister_chrdev("kva");
        for (n = 0; n < PAGES; n++)
                __free_pages(page[n], 0);
}
