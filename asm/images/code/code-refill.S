# A frame that held code comes back with other code in it, brought by the disk and not by a store of this CPU.
#
#   8 anonymous pages at HERE, each with `mov eax, 1; ret`: called, then unmapped; their frames are free
#   8 pages of this file at HERE, each with `mov eax, 2; ret`: read from the disk into frames, likely the same ones
#
# Every call of the second round must give 2.  A CPU that keeps translations (or a cache that does not see the disk's
# transfers) has to be told when a frame is filled with new code: same address, same frame, other bytes.
#
# Faults: HERE+0x7000, +0x6000 ... 0: user fetch not-present -> file-read (user read on two-level paging).

        .include "linux.inc"

        .set    HERE, 0x20000000
        .set    PAGES, 8

        .globl  _start
_start:
        mov     ebp, [esp+4]                # argv[0]
        sys     open, ebp, O_RDONLY
        test    eax, eax
        js      no_file
        push    eax

        map_pages PAGES, HERE, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, HERE, 1
        mov     edi, HERE
1:      mov     dword ptr [edi], 0x000001B8 # mov eax, 1
        mov     dword ptr [edi+4], 0x0000C300
        call    edi
        expect  eax, 1, 2
        add     edi, PAGE
        cmp     edi, HERE+PAGES*PAGE
        jne     1b
        sys     munmap, HERE, PAGES*PAGE
        expect  eax, 0, 3

        pop     edi                         # the file
        mov     ebp, offset templates       # where in the file: the text begins with its first byte
        sub     ebp, 0x08048000
        shr     ebp, 12
        sys     mmap2, HERE, PAGES*PAGE, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED
        expect  eax, HERE, 4
        mov     edi, HERE+PAGES*PAGE
2:      sub     edi, PAGE                   # last freed, first used again: the order downward meets old frames
        call    edi
        expect  eax, 2, 5
        cmp     edi, HERE
        jne     2b
        say     "code-refill: 8 pages said 1, then 2\n"
        pass

no_file:
        sys     exit, 6

        .balign PAGE
templates:
        .rept   PAGES
        mov     eax, 2
        ret
        .balign PAGE
        .endr
