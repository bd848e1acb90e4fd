/*
 * "In the i386 kernel the device area (640K-1Mbyte) is identity mapped so you can do things like hardware_ptr=0xD0000"
 * (post 002).  It was so because the kernel segments of 1.x and 2.0 began at 3 GB.  Through such a segment the literal
 * pointer reaches the card; through the flat ones of 2.1 and later it is a program's address, and faults.
 */
#include "module.h"

#define LITERAL 0xD0000
#define SLOT 15
#define BASE_3GB 0xC0C392000000FFFFull                          /* 2.0's kernel data: base 0xC0000000, 1 GB */

typedef unsigned long long u64;

struct __attribute__((packed)) pseudo_descriptor {
        u16 limit;
        u64 *base;
};

static u32 read_literal(u32 at)
{
        return ((const volatile u8 __seg_fs *)LITERAL)[at];
}

int init_module(void)
{
        volatile u8 __seg_fs *hardware_ptr = (volatile u8 __seg_fs *)LITERAL;
        u8 *direct = phys_to_virt(LITERAL), copy[8];
        struct pseudo_descriptor gdt;
        u32 at, value, fs = get_fs();
        int flat;

        set_fs(KERNEL_DS);
        flat = __get_user(&value, (void *)LITERAL, 4);
        set_fs(fs);
        CHECK(1, flat == -EFAULT);

        asm volatile("sgdt %0" : "=m"(gdt));
        CHECK(2, gdt.limit >= 8 * SLOT + 7 && gdt.base[SLOT] == 0);
        gdt.base[SLOT] = BASE_3GB;
        set_fs(8 * SLOT);
        for (at = 0; at < 8; at++)
                copy[at] = read_literal(at);
        hardware_ptr[100] = 0x5A;
        value = hardware_ptr[100];
        set_fs(fs);
        gdt.base[SLOT] = 0;

        for (at = 0; at < 8; at++)
                CHECK(3, copy[at] == (u8)"ISA CARD"[at]);
        CHECK(4, value == 0x5A && readb(direct + 100) == 0x5A);
        memcpy_fromio(copy, direct, 8);
        for (at = 0; at < 8; at++)
                CHECK(5, copy[at] == (u8)"ISA CARD"[at]);
        CHECK(6, ioremap(LITERAL, 16384) == direct);
        printk("literal-pointer: 0x%x is the card where segments begin at 3 GB, and nothing where they are flat\n", LITERAL);
        return 0;
}
