# 4 MB pages (CR4.PSE): one directory entry maps 4 MB, without a table, and carries A and D itself.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    LARGE_FRAME,    0x800000
        .set    WINDOW,         0x40000000
        .set    WINDOW_ENTRY,   DIRECTORY + (WINDOW >> 22)*4

main:
        mov     edi, DIRECTORY
        mov     ecx, 1
        call    clear
        mov     dword ptr [DIRECTORY], P | RW | PS
        mov     dword ptr [DIRECTORY + 2*4], LARGE_FRAME | P | RW | PS
        mov     dword ptr [WINDOW_ENTRY], LARGE_FRAME | P | RW | PS
        mov     dword ptr [LARGE_FRAME], 0
        mov     dword ptr [LARGE_FRAME + 0x3FFFFC], 0x11111111
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax

        cmp     dword ptr [WINDOW + 0x3FFFFC], 0x11111111
        fail_if ne, 1
        mov     eax, [WINDOW_ENTRY]
        and     eax, A | D
        cmp     eax, A
        fail_if ne, 2
        say     "read at the page's last word: A, not D"

        mov     dword ptr [WINDOW + 0x123454], 0xCAFEF00D
        mov     eax, [WINDOW_ENTRY]
        and     eax, A | D
        cmp     eax, A | D
        fail_if ne, 3
        say     "write in its middle: D"

        cmp     dword ptr [LARGE_FRAME + 0x123454], 0xCAFEF00D
        fail_if ne, 4
        test    dword ptr [DIRECTORY + 2*4], D
        fail_if nz, 5
        say     "seen through the identity mapping, whose own entry stays clean"

# A reserved bit (21) in a 4 MB entry: #PF with RSVD.
        gate    14, on_fault
        mov     dword ptr [WINDOW_ENTRY], LARGE_FRAME | 0x200000 | P | RW | PS
        invlpg  [WINDOW]
        mov     eax, [WINDOW]
        cmp     dword ptr [fault_code], 9
        fail_if ne, 6
        say     "bit 21 set: page fault, reserved bit"
        xor     eax, eax
        ret

on_fault:
        push    eax
        mov     eax, [esp + 4]
        mov     [fault_code], eax
        mov     dword ptr [WINDOW_ENTRY], LARGE_FRAME | P | RW | PS
        pop     eax
        add     esp, 4
        iretd

        .data
fault_code: .long 0
