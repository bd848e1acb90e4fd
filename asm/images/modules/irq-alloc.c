/*
 * A handler asks for memory as if it could sleep: the kernel complains and takes the request for GFP_ATOMIC, which may use
 * the reserve.  Four complaints are enough (2.0).
 */
#include "module.h"

#define CARD 0x80000000u
#define RINGS 6

static u32 volatile got, freed;
static u32 page[RINGS];

static void on_bell(u32 vector)
{
        page[got] = __get_free_page(GFP_KERNEL);
        if (page[got])
                got++;
}

int init_module(void)
{
        u8 *card = vremap(CARD, 2 << 20);
        u32 at, *taken = NULL, *next;

        while ((next = (u32 *)__get_free_page(GFP_KERNEL)) != NULL) {
                next[0] = (u32)taken;
                taken = next;
        }
        CHECK(1, nr_free_pages() > RINGS);
        request_irq(0x45, on_bell);
        writel(0x45, card + 0x10);
        for (at = 0; at < RINGS; at++)
                writel(at, card + 0x14);
        schedule();
        CHECK(2, got == RINGS);
        for (at = 0; at < RINGS; at++)
                free_page(page[at]);
        while ((next = taken) != NULL) {
                taken = (u32 *)next[0];
                free_page((u32)next);
        }
        free_irq(0x45);
        vfree(card);
        printk("irq-alloc: %u pages from the reserve\n", got);
        return 0;
}
