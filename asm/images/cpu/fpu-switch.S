# x87 and SSE registers belong to the task: two that use them in turn must not meet in them.
#
# Parent and child fill the same registers with different numbers, choose different rounding, and hand a byte to and fro
# through two pipes, 20 times.  After each exchange, so after many switches (and after the kernel's own copying), each
# looks whether its numbers are still there.  The numbers are never stored in between.  A child begins with its parent's.

        .include "linux.inc"

        .set    TURNS, 20

        .globl  _start
_start:
        sys     pipe, "offset to_child"
        sys     pipe, "offset to_parent"
        fninit
        fldpi
        fldcw   [round_up]
        movups  xmm6, [parents]
        fork_to child

        fninit
        fldpi                               # ST0 = pi, ST1 = 1
        fld1
        fxch
        fldcw   [round_up]
        movups  xmm0, [parents]
        movaps  xmm7, xmm0
        mov     esi, TURNS
1:      sys     write, [to_child+4], "offset byte_out", 1
        sys     read, [to_parent], "offset byte_in", 1
        expect  eax, 1, 1
        mov     edi, offset parents
        mov     ebp, 0x0B7F
        call    check
        expect  eax, 0, 2
        dec     esi
        jnz     1b
        expect_exit 0, 3                    # the kernel has stored a status of its own making
        mov     edi, offset parents
        mov     ebp, 0x0B7F
        call    check
        expect  eax, 0, 5
        fstp    qword ptr [double]          # and at last the number itself
        expect_at double+4, 0x400921FB, 4
        say     "fpu-switch: pi here, log2(10) there, 20 times\n"
        pass

child:  movups  xmm1, [parents]             # it begins with the parent's
        pcmpeqd xmm1, xmm6
        pmovmskb eax, xmm1
        expect  eax, 0xFFFF, 103
        sub     esp, 4
        fnstcw  [esp]
        pop     eax
        movzx   eax, ax
        expect  eax, 0x0B7F, 104
        fstp    qword ptr [double]
        expect_at double+4, 0x400921FB, 105

        fninit
        fldl2t                              # ST0 = log2(10), ST1 = 0
        fldz
        fxch
        fldcw   [round_down]
        movups  xmm0, [childs]
        movaps  xmm7, xmm0
        mov     esi, TURNS
1:      sys     read, [to_child], "offset byte_in", 1
        expect  eax, 1, 100
        mov     edi, offset childs
        mov     ebp, 0x077F
        call    check
        expect  eax, 0, 101
        sys     write, [to_parent+4], "offset byte_out", 1
        dec     esi
        jnz     1b
        fstp    qword ptr [double]
        expect_at double+4, 0x400A934F, 102
        pass

# edi: what must be in xmm0 and xmm7, ebp: the control word.  eax: 0 when it is so, and ST0 still the larger of two
check:  movups  xmm1, [edi]
        movaps  xmm2, xmm1
        pcmpeqd xmm1, xmm0
        pcmpeqd xmm2, xmm7
        pand    xmm1, xmm2
        pmovmskb eax, xmm1
        xor     eax, 0xFFFF
        sub     esp, 4
        fnstcw  [esp]
        pop     ecx
        movzx   ecx, cx
        xor     ecx, ebp
        or      eax, ecx
        fcom    st(1)                       # C0, C2 and C3 are all 0 when ST0 is greater
        push    eax
        fnstsw  ax
        and     eax, 0x4500
        pop     ecx
        or      eax, ecx
        ret

        .section .rodata
parents:
        .long   0x11111111, 0x22222222, 0x33333333, 0x44444444
childs: .long   0xAAAAAAAA, 0xBBBBBBBB, 0xCCCCCCCC, 0xDDDDDDDD
round_up:
        .word   0x0B7F
round_down:
        .word   0x077F
byte_out:
        .byte   1

        .bss
to_child:
        .skip   8
to_parent:
        .skip   8
byte_in:
        .skip   4
double: .skip   8
