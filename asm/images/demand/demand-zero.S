# Demand zero: memory that a program has not written yet reads as 0, whatever its frames held before.
#
# 32 pages are filled with a pattern and given back.  Then 32 pages that were never touched get one word each: a store
# that finds no page makes the kernel find a frame, clear it and map it.  The frames are likely to be those of before,
# and still the program must find 32 words that are not 0, and no more.  In half of them a load comes first: it finds the
# page of zeros that all share, and the store that follows takes a frame, which has to be cleared as well.
#
# Faults at fresh, fresh+0x1000 and so on up to 0xF000: user write not-present -> demand-zero; at each from 0x10000 on:
# user read not-present -> zero-page; user write protection -> demand-zero.

        .include "linux.inc"

        .set    PAGES, 32

        .globl  _start
_start:
        cld
        map_pages PAGES
        mov     esi, eax
        mov     edi, eax                    # fill ...
        mov     ecx, PAGES*PAGE/4
        mov     eax, 0xDEADBEEF
        rep     stosd
        sys     munmap, esi, PAGES*PAGE     # ... and give back
        expect  eax, 0, 1

        mov     edi, offset fresh           # one word a page
        mov     ecx, PAGES
1:      cmp     ecx, PAGES/2
        ja      4f
        expect_at edi+0x124, 0, 4
4:      mov     dword ptr [edi+0x120], ecx
        add     edi, PAGE
        loop    1b

        mov     edi, offset fresh           # count what is not 0
        mov     ecx, PAGES*PAGE/4
        xor     eax, eax
        xor     esi, esi
2:      repe    scasd
        je      3f
        inc     esi
        jecxz   3f
        jmp     2b
3:      expect  esi, PAGES, 2
        expect_at fresh+0x120, PAGES, 3
        say     "demand-zero: 32 words written, the rest of 32 pages is 0\n"
        pass

        .bss
        .balign PAGE
fresh:  .skip   PAGES*PAGE
