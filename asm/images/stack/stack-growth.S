# The stack grows downward by itself: a store just below its area is no error, the area is made larger.
#
# A function with a frame of one page calls itself 60 times and adds the numbers 1 to 60 on the way back.  Each level
# touches a page that was not there.  At the end the stack pointer must be where it was, and every frame must have held.
#
# Faults: user write not-present -> stack-growth, page after page downward (the address depends on where exec put the
# stack; natively the first 128 KB are there from the start).

        .include "linux.inc"

        .set    DEPTH, 60

        .globl  _start
_start:
        mov     esi, esp
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
