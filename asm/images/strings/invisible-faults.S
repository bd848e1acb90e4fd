# A page fault that is resolved leaves no trace: registers, flags, x87 and SSE state are what they were.
#
# Everything a program can see is set to known values, all status flags and DF included.  Then one instruction after the
# other touches a fresh page: a load, a store, an SSE store, an x87 store, a carry chain.  The kernel clears each page
# with whatever registers it likes; here none of that may show.
#
# Faults at fresh: user read not-present -> zero-page, then user write protection -> demand-zero; at fresh+0x1000,
# +0x2000, +0x3000: user write not-present -> demand-zero.

        .include "linux.inc"

        .set    CF_PF_AF_ZF_SF_DF_OF, 0xCD5

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

        mov     [saved_esp], esp
        fninit
        fld1
        fldpi
        movups  xmm0, [pattern]
        movups  xmm1, [pattern+1]
        movups  xmm7, [pattern+7]
        mov     eax, 0xA0A0A0A0
        mov     ebx, 0xB0B0B0B0
        mov     ecx, 0xC0C0C0C0
        mov     edx, 0xD0D0D0D0
        mov     esi, 0x51515151
        mov     edi, 0xD1D1D1D1
        mov     ebp, 0xB9B9B9B9
        push    CF_PF_AF_ZF_SF_DF_OF | 0x202
        popf

        mov     eax, [fresh]                # 0, by the zero page
        mov     [fresh], ecx
        movups  [fresh+PAGE], xmm7
        fst     qword ptr [fresh+2*PAGE]    # pi
        adc     [fresh+3*PAGE], edx         # 0 + 0xD0D0D0D0 + CF

        pushf                               # adc set the flags: only DF and the stack pointer are as before
        pop     dword ptr [flags]
        cld
        expect  eax, 0, 1
        expect  ebx, 0xB0B0B0B0, 2
        expect  ecx, 0xC0C0C0C0, 3
        expect  edx, 0xD0D0D0D0, 4
        expect  esi, 0x51515151, 5
        expect  edi, 0xD1D1D1D1, 6
        expect  ebp, 0xB9B9B9B9, 7
        expect  esp, [saved_esp], 8
        expect_at fresh, 0xC0C0C0C0, 9
        expect_at fresh+3*PAGE, 0xD0D0D0D1, 10
        expect_at fresh+4, 0, 16            # the rest of each page is clear
        expect_at fresh+PAGE-4, 0, 17
        expect_at fresh+PAGE+16, 0, 18
        expect_at fresh+3*PAGE-4, 0, 19
        expect_at fresh+4*PAGE-4, 0, 20
        test    dword ptr [flags], 0x400    # DF
        jz      lost

        fstp    qword ptr [got]             # pi is still on top, 1.0 below
        expect_at got+4, 0x400921FB, 11
        expect_at fresh+2*PAGE+4, 0x400921FB, 12
        fstp    qword ptr [got]
        expect_at got+4, 0x3FF00000, 13

        movups  xmm2, [pattern]             # the three registers, and what the store left
        pcmpeqb xmm2, xmm0
        movups  xmm3, [pattern+1]
        pcmpeqb xmm3, xmm1
        pand    xmm2, xmm3
        movups  xmm3, [pattern+7]
        movups  xmm4, [fresh+PAGE]
        pcmpeqb xmm4, xmm3
        pcmpeqb xmm3, xmm7
        pand    xmm2, xmm3
        pand    xmm2, xmm4
        pmovmskb eax, xmm2
        expect  eax, 0xFFFF, 14
        say     "invisible-faults: five faults, and nothing to be seen of them\n"
        pass

lost:   sys     exit, 15

        .section .rodata
pattern:
        .byte   3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43, 38, 32, 79, 50, 28, 84, 19, 71, 69, 39

        .bss
saved_esp:
        .skip   4
flags:  .skip   4
got:    .skip   8
        .balign PAGE
fresh:  .skip   4*PAGE
