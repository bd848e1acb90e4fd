/*
 * 14 to 16 MB belong to a card (post 002).  outcome=1: the card works, and 2 MB of RAM are wasted (b).  outcome=2: the
 * chipset moves that RAM to the end of the rest (c).  outcome=3: nobody told the kernel, which is Bad Things (d), unless
 * memexclude= keeps it away from there.  outcome=4: nothing keeps it away, and it hands the card's bytes out as RAM.
 */
#include "module.h"

#define HOLE (14u << 20)
#define HOLE_END (16u << 20)

int outcome;

/* Every frame of the hole is handed out, and one of them does not keep what is stored in it. */
static int bad_things(void)
{
        u32 inside = 0, lost = 0, *page, *taken = NULL;

        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                u32 frame = virt_to_phys(page);

                CHECK(11, frame >= PAGE_SIZE);
                inside += frame >= HOLE && frame < HOLE_END;
                page[1023] = (u32)taken;
                taken = page;
                page[0] = frame;
                lost += readl(page) != frame;
        }
        while ((page = taken) != NULL) {
                taken = (u32 *)page[1023];
                free_page((u32)page);
        }
        CHECK(12, inside == (HOLE_END - HOLE) / PAGE_SIZE);
        CHECK(13, lost == 1);
        printk("isa-hole: %u frames that were handed out are the card's, and %u lost what was stored in it\n", inside, lost);
        return 0;
}

int init_module(void)
{
        u32 free = nr_free_pages(), inside = 0, at, *page, *taken = NULL;
        u8 *card = phys_to_virt(HOLE), *mapped;

        CHECK(1, high_memory == PAGE_OFFSET + ((outcome == 2 ? 34u : 32u) << 20));
        CHECK(2, card[0] == 'I' && card[1] == 'S' && card[2] == 'A');
        if (outcome == 4)
                return bad_things();
        for (at = HOLE; at < HOLE_END; at += PAGE_SIZE)
                CHECK(3, !(pfn_to_page(at / PAGE_SIZE)->flags & PG_OPEN));
        for (at = HOLE_END; at < high_memory - PAGE_OFFSET; at += PAGE_SIZE)
                CHECK(9, pfn_to_page(at / PAGE_SIZE)->flags & PG_OPEN); /* none is lost behind it */
        card[4096] = 0x5A;
        CHECK(4, card[4096] == 0x5A);

        mapped = ioremap(HOLE, PAGE_SIZE);
        CHECK(5, mapped != NULL && mapped != card && mapped[0] == 'I');
        iounmap(mapped);

        while ((page = (u32 *)__get_free_page(GFP_ATOMIC)) != NULL) {
                inside += virt_to_phys(page) >= HOLE && virt_to_phys(page) < HOLE_END;
                page[0] = (u32)taken;
                page[1] = ~(u32)page;
                taken = page;
        }
        while ((page = taken) != NULL) {
                CHECK(6, page[1] == ~(u32)page);
                taken = (u32 *)page[0];
                free_page((u32)page);
        }
        CHECK(7, inside == 0);
        CHECK(8, nr_free_pages() == free && card[4096] == 0x5A);
        printk("isa-hole: the card answers, and no frame that was handed out is the card's\n");
        return 0;
}
