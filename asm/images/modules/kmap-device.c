/*
 * /dev/kmap, for the images of windows that need a program.
 *
 *      1             copy_highpage and clear_highpage between pages of highmem, for the calling task: 0, or what was wrong
 *      2 address     load the word at a program's address as any kernel pointer, add 1 and store it: the word that was there
 *      3             open a window and ring the card's bell, whose handler closes it
 */
#include "module.h"

#define CARD 0x80000000u
#define PAGES 3
#define WORDS (PAGE_SIZE / 4)

static u8 *card;
static u32 *window;

static u32 sum(struct page *page)
{
        u32 *words = kmap_atomic(page, KM_USER0), n, total = 0;

        for (n = 0; n < WORDS; n++)
                total += words[n];
        kunmap_atomic(words, KM_USER0);
        return total;
}

static int copies(void)
{
        struct page *page[PAGES];
        u32 *words, n, word, before[PAGES], wrong;

        for (n = 0; n < PAGES; n++) {
                page[n] = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);
                words = kmap_atomic(page[n], KM_USER0);
                for (word = 0; word < WORDS; word++)
                        words[word] = (n + 1) * 1000 + word;
                kunmap_atomic(words, KM_USER0);
                before[n] = sum(page[n]);
        }
        copy_highpage(page[1], page[0]);
        copy_highpage(page[0], page[2]);
        clear_highpage(page[2]);
        wrong = sum(page[1]) != before[0];
        wrong |= (sum(page[0]) != before[2]) << 1 | (sum(page[2]) != 0) << 2;
        for (n = 0; n < PAGES; n++)
                __free_pages(page[n], 0);
        return wrong;
}

static void on_bell(u32 vector) { kunmap_atomic(window, KM_USER0); }

static int ring(void)
{
        struct page *page = alloc_pages(GFP_KERNEL | GFP_HIGHMEM, 0);

        card = vremap(CARD, 2 << 20);
        if (request_irq(0x45, on_bell))
                return -EBUSY;
        writel(0x45, card + 0x10);
        window = kmap_atomic(page, KM_USER0);
        window[1] = 1;
        writel(1, card + 0x14);
        nr_free_pages();                /* a call, behind which interrupts come */
        window[1]++;
        kunmap_atomic(window, KM_USER0);
        free_irq(0x45);
        vfree(card);
        __free_pages(page, 0);
        return 0;
}

static int ioctl(int file, u32 request, u32 argument)
{
        switch (request) {
        case 1:
                return copies();
        case 2:
                return (*(volatile u32 *)argument)++;
        case 3:
                return ring();
        }
        return -EINVAL;
}

static const struct file_operations operations = { 0, 0, 0, 0, ioctl };

int init_module(void) { return register_chrdev("kmap", &operations) < 0; }
void cleanup_module(void) { unregister_chrdev("kmap"); }
