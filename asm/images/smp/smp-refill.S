# Frames that held code of one CPU are filled anew by another.
#
#   child A, on the other CPU     16 pages at HERE, each `mov eax, 1; ret`, called; then it exits, and its frames are free
#   parent, on this CPU           16 pages at HERE, each `mov eax, 2; ret`: in A's frames, stored by this CPU
#   child B, on the other CPU     inherits them and calls each: 2
#
# This CPU's stores tell only this CPU that its translations are stale.  The other one ran code at these addresses, in
# these frames: it must be told that they were handed out again.  Which page gets which frame is the kernel's business;
# the round is repeated with a growing number of other pages in between, so that sooner or later they coincide.

        .include "linux.inc"

        .set    HERE,   0x20000000
        .set    OTHER,  0x30000000
        .set    PAGES,  16
        .set    ROUNDS, 16

        .globl  _start
_start:
        map_pages ROUNDS, OTHER, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        expect  eax, OTHER, 1
        mov     dword ptr [round], 0

next:   fork_to first
        expect_exit 0, 2
        mov     ecx, [round]
        shl     ecx, 12
        jz      1f
        mov     byte ptr [OTHER+ecx-PAGE], 1            # one more frame is taken away
1:      mov     bl, 2
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

# bl: what the code in each page returns; the last page is written first
fill:   push    ebx
        map_pages PAGES, HERE, PROT_READ|PROT_WRITE|PROT_EXEC, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED
        pop     ebx
        movzx   ebx, bl
        mov     edi, HERE+PAGES*PAGE
1:      sub     edi, PAGE
        mov     byte ptr [edi], 0xB8
        mov     [edi+1], ebx
        mov     byte ptr [edi+5], 0xC3
        cmp     edi, HERE
        jne     1b
        ret

        .bss
round:  .skip   4
