/*
 * A picture in a memory-mapped frame buffer: 320 by 200 pixels of a byte each, through ioremap.  (sandbox run --screen -)
 */
#include "module.h"

#define FRAME_BUFFER 0x90000000u
#define WIDTH 320
#define HEIGHT 200

#define PCD 0x10u

static u8 picture[HEIGHT][WIDTH], row[WIDTH];

/* The low word of the entry that maps a kernel address, by the tables that CR3 holds. */
static u32 entry(void *address)
{
        u32 at = (u32)address, cr3, cr4, *table;

        asm("mov %%cr3, %0\n\tmov %%cr4, %1" : "=r"(cr3), "=r"(cr4));
        if (!(cr4 & 0x20)) {
                table = phys_to_virt(((u32 *)phys_to_virt(cr3 & -PAGE_SIZE))[at >> 22] & -PAGE_SIZE);
                return table[at >> 12 & 1023];
        }
        table = phys_to_virt(((u32 *)phys_to_virt(cr3 & -32u))[(at >> 30) * 2] & -PAGE_SIZE);
        table = phys_to_virt(table[(at >> 21 & 511) * 2] & -PAGE_SIZE);
        return table[(at >> 12 & 511) * 2];
}

/* The Mandelbrot set in numbers of 20.12 bits. */
static u8 shade(int x, int y)
{
        int re = 0, im = 0, c = (x - 220) * 4096 / 110, d = (y - 100) * 4096 / 80, step;

        for (step = 0; step < 40 && re / 64 * (re / 64) + im / 64 * (im / 64) < 4 * 4096; step++) {
                int next = (re * (re / 64) - im * (im / 64)) / 64 + c;
                im = 2 * (re / 64) * (im / 64) + d;
                re = next;
        }
        return step * 6;
}

int init_module(void)
{
        u8 *screen = ioremap_nocache(FRAME_BUFFER, WIDTH * HEIGHT), *ram = kmalloc(64, GFP_KERNEL);
        int x, y;

        CHECK(4, entry(screen) & PCD && entry(screen + WIDTH * HEIGHT - 1) & PCD && !(entry(ram) & PCD));
        CHECK(1, screen != NULL);
        CHECK(2, ioremap_nocache(virt_to_phys(ram), 64) == NULL);
        kfree(ram);
        for (y = 0; y < HEIGHT; y++) {
                for (x = 0; x < WIDTH; x++)
                        picture[y][x] = shade(x, y);
                memcpy_toio(screen + y * WIDTH, picture[y], WIDTH);
        }
        for (y = 0; y < HEIGHT; y++) {                  /* each page has kept its own rows */
                memcpy_fromio(row, screen + y * WIDTH, WIDTH);
                for (x = 0; x < WIDTH; x++)
                        CHECK(5, row[x] == picture[y][x]);
        }
        CHECK(3, readb(screen + 100 * WIDTH + 220) == 240 && readb(screen) < 60);
        iounmap(screen);
        printk("framebuffer: %d pixels\n", WIDTH * HEIGHT);
        return 0;
}
