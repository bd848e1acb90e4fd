# Global pages: a load of CR3 need not drop them, so a change needs INVLPG or a toggle of CR4.PGE.
#
# What a load of CR3 leaves of them is up to the CPU (SDM 3A, 4.10.4.1 only allows it to keep them), so this image
# does not look between the load and what must work everywhere.

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
        mov     dword ptr [TABLE], FRAME_A | P | RW | G
        mov     dword ptr [TABLE + 4], FRAME_A | P | RW
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE | CR4_PGE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax

        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 1
        cmp     dword ptr [WINDOW + 0x1000], 0xAAAAAAAA
        fail_if ne, 2
        mov     dword ptr [TABLE + 4], FRAME_B | P | RW
        mov     eax, cr3
        or      eax, 0x18                       # PWT and PCD: no part of the address
        mov     cr3, eax
        cmp     dword ptr [WINDOW + 0x1000], 0xBBBBBBBB
        fail_if ne, 3
        say     "a load of CR3 drops a page that is not global"

        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 4
        mov     dword ptr [TABLE], FRAME_B | P | RW | G
        gate    0x30, on_int
        int     0x30
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 7
        say     "the processor's own accesses, for an INT, drop nothing"
        invlpg  [WINDOW]
        cmp     dword ptr [WINDOW], 0xBBBBBBBB
        fail_if ne, 5
        say     "INVLPG drops a global page"

        mov     dword ptr [TABLE], FRAME_A | P | RW | G
        mov     eax, cr4
        and     eax, ~CR4_PGE
        mov     cr4, eax
        or      eax, CR4_PGE
        mov     cr4, eax
        cmp     dword ptr [WINDOW], 0xAAAAAAAA
        fail_if ne, 6
        say     "clearing CR4.PGE drops all of them"
        xor     eax, eax
        ret

on_int: iretd
