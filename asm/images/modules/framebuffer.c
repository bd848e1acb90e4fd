/*
 * A picture in a memory-mapped frame buffer: 320 by 200 pixels of a byte each, through ioremap.  (sandbox run --screen -)
 */
#include "module.h"

#define FRAME_BUFFER 0x90000000u
#define WIDTH 320
#define HEIGHT 200

static u8 row[WIDTH];

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

        CHECK(1, screen != NULL);
        CHECK(2, ioremap_nocache(virt_to_phys(ram), 64) == NULL);
        kfree(ram);
        for (y = 0; y < HEIGHT; y++) {
                for (x = 0; x < WIDTH; x++)
                        row[x] = shade(x, y);
                memcpy_toio(screen + y * WIDTH, row, WIDTH);
        }
        CHECK(3, readb(screen + 100 * WIDTH + 220) == 240 && readb(screen) < 60);
        iounmap(screen);
        printk("framebuffer: %d pixels\n", WIDTH * HEIGHT);
        return 0;
}
