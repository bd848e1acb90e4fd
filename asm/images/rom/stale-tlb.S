# A translation outlives its page-table entry until INVLPG.
#
# One page is mapped to frame A, read, then its entry is changed to frame B.  The manual allows the CPU to go on with A
# (SDM 3A, 4.10.2.3); this image wants to see that it does, through an interrupt and an OUT, and that INVLPG ends it.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    FRAME_A,        0x300000
        .set    FRAME_B,        0x301000
        .set    WINDOW,         0x40000000

main:
        mov     edi, DIRECTORY
        mov     ecx, 2
        call    clear
        mov     dword ptr [FRAME_A], 0xAAAAAAAA
        mov     dword ptr [FRAME_B], 0xBBBBBBBB
        mov     dword ptr [DIRECTORY], P | RW | PS
        mov     dword ptr [DIRECTORY + (WINDOW >> 22)*4], TABLE | P | RW
        mov     dword ptr [TABLE], FRAME_A | P | RW
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax

        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 1
        mov     dword ptr [TABLE], FRAME_B | P | RW
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 2
        gate    0x30, on_int
        int     0x30
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 5
        mov     dx, SERIAL + 7                  # the port's scratch register
        out     dx, al
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 6
        say     "the entry names frame B, the CPU still reads frame A"
        invlpg  [WINDOW]
        cmp     dword ptr [WINDOW], 0xBBBBBBBB
        fail_if ne, 3
        say     "after INVLPG it reads frame B"

        mov     dword ptr [TABLE], FRAME_A | P | RW
        mov     eax, cr3
        mov     cr3, eax
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 4
        say     "after a load of CR3 it reads frame A again"
        xor     eax, eax
        ret

on_int: iretd
