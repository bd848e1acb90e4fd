/*
 * A handler asks for memory as if it could sleep, with all gone but the reserve.  1.0 to 2.0 complain four times and take
 * the request for GFP_ATOMIC, which may use the reserve; the fifth goes on as GFP_KERNEL, finds nothing to reclaim, and fails.
 */
#include "module.h"

#define CARD 0x80000000u
#define RINGS 6
#define LOWERED 4

static u32 volatile got, refused;
static u32 page[RINGS];

static void on_bell(u32 vector)
{
        page[got] = __get_free_page(GFP_KERNEL);
        if (page[got])
                got++;
        else
                refused++;
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
        CHECK(2, got == LOWERED);
        CHECK(3, refused == RINGS - LOWERED);
        for (at = 0; at < got; at++)
                free_page(page[at]);
        while ((next = taken) != NULL) {
                taken = (u32 *)next[0];
                free_page((u32)next);
        }
        free_irq(0x45);
        vfree(card);
        printk("irq-alloc: %u pages from the reserve, %u requests refused\n", got, refused);
        return 0;
}
