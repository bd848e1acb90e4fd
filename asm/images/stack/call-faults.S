# One call, three page faults; and a push of eight registers that is cut in the middle.
#
# `call [table]` loads its target from a page that is not there, pushes the return address to a page that is not there,
# and goes on in a page that is not there.  Each fault starts the instruction again from its beginning, with esp as it
# was, so in the end exactly one return address has been pushed.
#
# `pusha` stores 32 bytes; esp is placed so that 16 of them go to a page that exists and 16 to the one below, which does
# not.  Half of the stores may be done when the fault comes: done again, they must store the same.
#
# Faults: table: user read not-present -> file-read; the stack: user write not-present -> stack-growth; target: user
# fetch not-present -> file-read (user read on two-level paging, where error codes know no fetch); between the old stack
# and the new end: user write not-present -> demand-zero, for the area has grown to where the push was.

        .include "linux.inc"

        .globl  _start
_start:
        mov     ebp, esp
        lea     esp, [esp-3*PAGE]
        and     esp, -PAGE                  # the next push goes to the page below, never touched
        mov     esi, esp
        call    dword ptr [table]
back:   expect  eax, 0x600D, 1
        expect  esp, esi, 2
        expect_at esp-4, "offset back", 3   # what the call pushed
        mov     [esp+PAGE], ebp             # a page that the growth passed over

        lea     esp, [esp-4*PAGE+16]        # 16 bytes above a page's start
        mov     [esp], esp                  # that page exists now, the one below does not
        mov     edi, esp
        mov     eax, 0xA0
        mov     ecx, 0xC0
        mov     edx, 0xD0
        mov     ebx, 0xB0
        pusha
        expect_at edi-4, 0xA0, 4
        expect_at edi-8, 0xC0, 5
        expect_at edi-12, 0xD0, 6
        expect_at edi-16, 0xB0, 7
        expect  [edi-20], edi, 8            # the esp of before
        expect  [edi-24], ebp, 9
        expect  [edi-28], esi, 10
        expect  [edi-32], edi, 11
        popa
        expect  eax, 0xA0, 12
        expect  esp, edi, 13
        mov     esp, ebp
        say     "call-faults: three faults, one call; one fault, one pusha\n"
        pass

        .balign PAGE
target: cmp     dword ptr [esp], offset back
        jne     1f
        mov     eax, 0x600D
1:      ret

        .section .rodata
        .balign PAGE
        .skip   PAGE                        # away from the page that the program's texts are in
table:  .long   target
