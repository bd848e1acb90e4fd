/*
 * Device memory: a card at 2 GB answers through vremap and ioremap, at another address than its own; what lies from 640 KB
 * to 1 MB is in the direct map already; RAM that may be somebody's is refused.
 */
#include "module.h"

#define CARD 0x80000000u
#define MEMORY 0x100000u
#define ISA 0xD0000u
#define ID 0x44524143u

static u32 volatile rung, depth, deepest;
static u8 *card;
static char text[] = "through the window and back, and not a multiple of four";
static char back[sizeof text];

static void on_bell(u32 vector)
{
        deepest = ++depth > deepest ? depth : deepest;
        rung += vector * in_interrupt();
        if (rung == 0x45)
                writel(2, card + 0x14);                 /* it waits until this one is answered */
        rung += in_interrupt() - 1;
        depth--;
}

int init_module(void)
{
        u8 *gap = vmalloc(1), *behind = vmalloc(1), *odd, *isa = phys_to_virt(ISA), *ram = kmalloc(64, GFP_KERNEL);
        u32 at;

        vfree(gap);
        card = vremap(CARD, 2 << 20);
        CHECK(17, card > behind);                                       /* the gap in front has room for a page only */
        vfree(behind);
        CHECK(1, card != NULL && (u32)card != CARD && readl(card) == ID);
        CHECK(2, vmalloc_to_pfn(card) == CARD / PAGE_SIZE);
        memcpy_toio(card + MEMORY + 1, text, sizeof text);
        memcpy_fromio(back, card + MEMORY + 1, sizeof text);
        for (at = 0; at < sizeof text; at++)
                CHECK(3, back[at] == text[at]);
        memset_io(card + MEMORY, 0xEE, 32);
        CHECK(4, readw(card + MEMORY + 30) == 0xEEEE && readb(card + MEMORY + 32) == (u8)text[31]);

        odd = ioremap(CARD + MEMORY + 5, 10);
        CHECK(5, odd != NULL && ((u32)odd & 0xFFF) == 5 && odd != card + MEMORY + 5);
        writeb(0x77, odd);
        CHECK(6, readb(card + MEMORY + 5) == 0x77);
        iounmap(odd);
        CHECK(7, vremap(CARD + 1, PAGE_SIZE) == NULL && vremap(CARD, 0) == NULL);
        CHECK(8, ioremap(0xFFFFF000, 2 * PAGE_SIZE) == NULL);

        CHECK(9, isa[0] == 'I' && isa[4] == 'C' && ioremap(ISA, 0x4000) == isa);
        writeb(0x42, isa + 100);
        CHECK(10, readb(isa + 100) == 0x42);
        iounmap(isa);

        CHECK(11, vremap(virt_to_phys(ram) & -PAGE_SIZE, PAGE_SIZE) == NULL);
        CHECK(12, ioremap(virt_to_phys(ram), 64) == NULL);
        kfree(ram);
        CHECK(15, ioremap(0, 2 * PAGE_SIZE) == NULL);                   /* frame 0 is reserved, frame 1 is not */
        CHECK(16, ioremap(0x9E000, 2 * PAGE_SIZE) == NULL);             /* and here the first is not */

        CHECK(13, request_irq(0x45, on_bell) == 0 && request_irq(0x45, on_bell) == -EBUSY);
        writel(0x45, card + 0x10);
        writel(1, card + 0x14);
        CHECK(14, rung == 2 * 0x45 && !in_interrupt());
        CHECK(18, deepest == 1);
        free_irq(0x45);
        vfree(card);
        printk("card: answers at another address than its own; RAM is refused\n");
        return 0;
}
