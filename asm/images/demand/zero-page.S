# The zero page: pages that are only read share one frame of zeros, and nobody may ever write to it.
#
#   load from first                maps the shared frame, read-only
#   store to first                 a protection fault: now it gets a frame of its own
#   load from second               maps the shared frame
#   read(2) into second            the kernel's own store meets the same read-only entry, and with CR0.WP set it
#                                  faults like the program's did; without, it would write into everybody's zeros
#   load from third                maps the shared frame, which is still zero
#
# Faults: first: user read not-present -> zero-page, user write protection -> demand-zero; second: user read
# not-present -> zero-page, kernel write protection -> demand-zero; third: user read not-present -> zero-page.

        .include "linux.inc"

        .globl  _start
_start:
        map_pages 16                        # leave frames with something in them
        mov     esi, eax
        mov     edi, eax
        mov     ecx, 16*PAGE/4
        mov     eax, 0xDEADBEEF
        cld
        rep     stosd
        sys     munmap, esi, 16*PAGE

        expect_at first, 0, 1
        mov     dword ptr [first], 0x11111111
        expect_at first, 0x11111111, 2
        mov     edi, offset first+4         # the rest of its own frame is as empty as the shared one
        mov     ecx, PAGE/4-1
        xor     eax, eax
        repe    scasd
        jne     dirty
        expect_at second, 0, 3

        sys     pipe, "offset ends"
        expect  eax, 0, 4
        sys     write, [ends+4], "offset text", 8
        expect  eax, 8, 5
        sys     read, [ends], "offset second", 8
        expect  eax, 8, 6
        expect_at second, 0x6F72657A, 7     # "zero"
        expect_at third, 0, 8
        say     "zero-page: first and second were written, third is still 0\n"
        pass

dirty:  sys     exit, 9

        .section .rodata
text:   .ascii  "zerozero"

        .bss
ends:   .skip   8
        .balign PAGE
first:  .skip   PAGE
second: .skip   PAGE
third:  .skip   PAGE
