/*
 * A handler opens a kmap_atomic window while the code that it interrupted has one open, and again another page's window at
 * the same place: each shows its own page (kmap_types.h: KM_IRQ0 is for interrupts, so that they meet no task's).
 */
#include "module.h"

#define CARD 0x80000000u
#define RINGS 2

static struct page *its[RINGS];
static u32 volatile rings, wrong;

static void on_bell(u32 vector)
{
        u32 *window = kmap_atomic(its[rings], KM_IRQ0);

        if (window[1] != 100 + rings || kmap_atomic_to_page(window) != its[rings])
                wrong++;
        window[2] = 7;
        kunmap_atomic(window, KM_IRQ0);
        rings++;
}

int init_module(void)
{
        u8 *card = vremap(CARD, 2 << 20);
        struct page *mine = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
        u32 at, *window;

        for (at = 0; at < RINGS; at++) {
                its[at] = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
                window = kmap_atomic(its[at], KM_USER0);
                window[1] = 100 + at;
                window[2] = 0;
                kunmap_atomic(window, KM_USER0);
        }
        request_irq(0x45, on_bell);
        writel(0x45, card + 0x10);
        window = kmap_atomic(mine, KM_USER0);
        window[2] = 1;
        for (at = 0; at < RINGS; at++) {
                writel(at, card + 0x14);
                nr_free_pages();        /* a call, behind which interrupts come */
                CHECK(1, rings == at + 1 && window[2] == 1);
        }
        kunmap_atomic(window, KM_USER0);
        CHECK(2, wrong == 0);
        for (at = 0; at < RINGS; at++) {
                window = kmap_atomic(its[at], KM_USER0);
                CHECK(3, window[1] == 100 + at && window[2] == 7);
                kunmap_atomic(window, KM_USER0);
                __free_pages(its[at], 0);
        }
        __free_pages(mine, 0);
        free_irq(0x45);
        vfree(card);
        printk("kmap-irq: a window under a window, each on its own page\n");
        return 0;
}
