# Frames that held code of one CPU are filled anew by another.
#
#   child A, on the other CPU     128 pages at HERE, each `mov eax, 1; ret`, called; then it exits, and its frames are free
#   parent, on this CPU           128 pages at HERE, each `mov eax, 2; ret`: in A's frames, stored by this CPU
#   child B, on the other CPU     inherits them and calls each: 2
#
# This CPU's stores tell only this CPU that its translations are stale.  The other one ran code at these addresses, in
# these frames: it must be told that they were handed out again.  No page is writable and executable at once, so that the
# kernel cannot tell by the mapping.  Which page gets which frame is the kernel's business;
# the round is repeated, the pages written in another order each time, so that sooner or later they coincide; and there are
# more pages than a CPU keeps on a list of its own.

        .include "linux.inc"

        .set    HERE,   0x20000000
        .set    PAGES,  128
        .set    ROUNDS, 32

        .globl  _start
_start:
        mov     dword ptr [round], 0

next:   fork_to first
        expect_exit 0, 2
        mov     bl, 2
        call    fill
        fork_to second
        expect_exit 0, 3
        sys     munmap, HERE, PAGES*PAGE
        inc     dword ptr [round]
        cmp     dword ptr [round], ROUNDS
        jne     next
        say     "smp-refill: every call found the new code\n"
        pass

first:  mov     bl, 1
        call    fill
        mov     ebp, 1
        jmp     calls
second: mov     ebp, 2
calls:  mov     esi, HERE
1:      call    esi
        cmp     eax, ebp
        jne     2f
        add     esi, PAGE
        cmp     esi, HERE+PAGES*PAGE
        jne     1b
        pass
2:      sys     exit, 1

# bl: what the code in each page returns, and, with the round, the order in which the pages are written
fill:   push    ebx
        map_pages PAGES, HERE, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        pop     ebx
        movzx   ebx, bl
        mov     eax, [round]                            # an odd number of pages further each time: each comes once
        imul    eax, ebx
        lea     eax, [eax*2+1]
        shl     eax, 12
        mov     ecx, PAGES
        xor     edi, edi
1:      add     edi, eax
        and     edi, PAGES*PAGE-1
        mov     byte ptr [HERE+edi], 0xB8
        mov     [HERE+edi+1], ebx
        mov     byte ptr [HERE+edi+5], 0xC3
        loop    1b
        sys     mprotect, HERE, PAGES*PAGE, PROT_READ|PROT_EXEC
        expect  eax, 0, 4
        ret

        .bss
round:  .skip   4
