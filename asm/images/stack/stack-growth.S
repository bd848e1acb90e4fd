# The stack grows downward by itself: a store just below its area is no error, the area is made larger.
#
# A function with a frame of one page calls itself 60 times and adds the numbers 1 to 60 on the way back.  Each level
# touches a page that was not there, and asks mprotect whether the area has it.  At the end the stack pointer must be where
# it was, and every frame must have held.  Before that: a push whose store is the first below a page's start, and a store of
# the kernel's own to a page that only the program could expect to be there.
#
# Faults: user write not-present -> stack-growth, page after page downward (the address depends on where exec put the
# stack; natively the first 128 KB are there from the start).

        .include "linux.inc"

        .set    DEPTH, 60

        .globl  _start
_start:
        mov     esi, esp
        lea     esp, [esp-2*PAGE]
        and     esp, -PAGE
        push    7
        lea     edi, [esp-4*PAGE]
        sys     pipe, edi
        expect  eax, 0, 4
        pop     eax
        expect  eax, 7, 6
        mov     esp, esi

        mov     eax, DEPTH
        call    sum
        expect  eax, DEPTH*(DEPTH+1)/2, 1
        expect  esp, esi, 2
        say     "stack-growth: 60 pages deep and back\n"
        pass

# eax: n.  eax: 1 + 2 + ... + n
sum:    push    eax
        sub     esp, PAGE                   # room for locals,
        mov     [esp], eax                  # of which one is used
        mov     ebx, esp
        and     ebx, -PAGE
        sys     mprotect, ebx, PAGE, PROT_READ|PROT_WRITE
        expect  eax, 0, 5
        mov     eax, [esp]
        dec     eax
        jz      1f
        call    sum
1:      add     eax, [esp]
        add     esp, PAGE
        pop     edx                         # still the n of this level
        lea     ecx, [edx+1]                # n * (n + 1) / 2
        imul    ecx, edx
        shr     ecx, 1
        expect  eax, ecx, 3
        ret
