/*
 * Fixed slots (2.3 to 2.6.36): a task copies through KM_USER0, and a handler that should have taken KM_IRQ0 takes the same.
 * Unnoticed, the task goes on in the handler's page.
 */
#include "module.h"

#define CARD 0x80000000u

static struct page *its;

static void on_bell(u32 vector)
{
        u32 *window = kmap_atomic(its, KM_USER0);

        window[1] = 2;
        kunmap_atomic(window, KM_USER0);
}

int init_module(void)
{
        u8 *card = vremap(CARD, 2 << 20);
        struct page *mine = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 *window;

        its = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        request_irq(0x45, on_bell);
        writel(0x45, card + 0x10);
        writel(1, card + 0x14);                         /* nothing is open: no harm */
        nr_free_pages();                                /* a call, behind which interrupts come */
        window = kmap_atomic(mine, KM_USER0);
        window[1] = 1;
        printk("kmap-clash: a window is open, and the bell rings\n");
        writel(2, card + 0x14);
        nr_free_pages();
        CHECK(1, window[1] == 1);
        kunmap_atomic(window, KM_USER0);
        return 0;
}
