# REP MOVSD over demand pages: an instruction that is interrupted in the middle and goes on where it was.
#
# One instruction copies 4,000 dwords: from a table in the file, which comes in page by page, to memory that does not
# exist yet.  Both sides start at odd places, so that their faults alternate.  At each fault esi, edi and ecx tell how
# far it is; the kernel changes nothing but the page tables.
#
# What the frames held before must not show at either end of the copy, and what was copied is what the file says.
#
# Faults: source+0x123: user read not-present -> file-read; target+0xe40: user write not-present -> demand-zero;
# target+0x1000; source+0x1000 (by the dword at source+0xfff); and so on in turn.

        .include "linux.inc"

        .set    DWORDS, 4000
        .set    WORDS, 4*PAGE/4 + 0x140/4   # of the table: each five times the one before, and STEP more
        .set    SEED, 0x9E3779B9
        .set    STEP, 0x7F4A7C15

        .globl  _start
_start:
        cld
        map_pages 16                        # leave frames with something in them
        mov     esi, eax
        mov     edi, eax
        mov     ecx, 16*PAGE/4
        mov     eax, 0xDEADBEEF
        rep     stosd
        sys     munmap, esi, 16*PAGE

        mov     esi, offset source + 0x123
        mov     edi, offset target + 0xE40
        mov     ecx, DWORDS
        rep     movsd
        expect  ecx, 0, 1
        expect  esi, "offset source + 0x123 + DWORDS*4", 2
        expect  edi, "offset target + 0xE40 + DWORDS*4", 3

        mov     esi, offset source + 0x123
        mov     edi, offset target + 0xE40
        mov     ecx, DWORDS
        repe    cmpsd
        jne     different

        mov     edi, offset target          # before the copy and behind it: zeros
        mov     ecx, 0xE40/4
        xor     eax, eax
        repe    scasd
        jne     different
        mov     edi, offset target + 0xE40 + DWORDS*4
        mov     ecx, (5*PAGE - 0xE40 - DWORDS*4)/4
        repe    scasd
        jne     different

        mov     esi, offset source
        mov     ecx, WORDS
        mov     eax, SEED
1:      cmp     [esi], eax
        jne     different
        lea     eax, [eax+eax*4+STEP]
        add     esi, 4
        loop    1b
        say     "rep-movsd: 16000 bytes, one instruction\n"
        pass

different:
        sys     exit, 4

        .section .rodata
        .balign PAGE
source: .set    value, SEED
        .rept   WORDS
        .long   value & 0xFFFFFFFF
        .set    value, (value*5 + STEP) & 0xFFFFFFFF
        .endr

        .bss
        .balign PAGE
target: .skip   5*PAGE
