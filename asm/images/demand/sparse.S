# A sparse address space: 24 pages, each 32 MB from the next, cost 24 frames and 24 page tables, not 768 MB.
#
# mmap only draws an area on the map.  A frame, and the page table above it, come with the first touch; here every touch
# lies under another page-directory entry, in both paging modes: the last page of each 32 MB.  The machine has much less
# RAM than is mapped, and in the end everything is given back, the page tables too.
#
# Faults at 0x11fff000 + n * 0x2000000: user write not-present -> demand-zero; 0x11ffe000: user read not-present ->
# zero-page; 0x3ffff000: user read not-present -> sigsegv (a child, after it has unmapped everything).

        .include "linux.inc"

        .set    BASE, 0x10000000
        .set    STRIDE, 32<<20
        .set    COUNT, 24
        .set    FIRST, BASE+STRIDE-PAGE
        .set    LAST, BASE+COUNT*STRIDE-PAGE
        .set    MAP_NORESERVE, 0x4000

        .globl  _start
_start:
        map_pages COUNT*(STRIDE/PAGE), BASE, flags=MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_NORESERVE
        expect  eax, BASE, 1

        mov     edi, FIRST
        mov     ecx, COUNT
1:      mov     [edi], edi                  # each page holds its own address
        add     edi, STRIDE
        loop    1b

        mov     edi, FIRST
        mov     esi, COUNT
2:      expect  [edi], edi, 2
        expect_at edi-PAGE, 0, 3            # the neighbour reads as zero
        add     edi, STRIDE
        dec     esi
        jnz     2b

        fork_to child
        expect_killed SIGSEGV, 4
        expect_at LAST, LAST, 5
        say     "sparse: 24 pages in 768 MB\n"
        pass

child:  sys     munmap, BASE, COUNT*STRIDE  # all of it goes in one call
        expect  eax, 0, 100
        mov     eax, [LAST]
        sys     exit, 101
