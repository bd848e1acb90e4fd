# 4 MB pages (CR4.PSE): one directory entry maps 4 MB, without a table, and carries A and D itself.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    LARGE_FRAME,    0x800000
        .set    WINDOW,         0x40000000
        .set    WINDOW_ENTRY,   DIRECTORY + (WINDOW >> 22)*4
        .set    PAT,            0x1000
        .set    ABOVE_4GB,      0x2000          # bit 13 is bit 32 of the address

main:
        mov     edi, DIRECTORY
        mov     ecx, 1
        call    clear
        mov     dword ptr [DIRECTORY], PAT | P | RW | PS     # not a bit of the address
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

# PSE-36: the frame has more bits than an entry has upper ones.  An interrupt's frame goes there too.
        gate    0x30, on_int
        mov     dword ptr [WINDOW_ENTRY], LARGE_FRAME | ABOVE_4GB | P | RW | PS
        invlpg  [WINDOW]
        mov     dword ptr [WINDOW + 0x123454], 0x0DDBA11
        cmp     dword ptr [LARGE_FRAME + 0x123454], 0xCAFEF00D
        fail_if ne, 7
        mov     ebp, esp
        mov     esp, WINDOW + 0x200000
        int     0x30
        mov     esp, ebp
        cmp     dword ptr [WINDOW + 0x200000 - 8], KERNEL_CS
        fail_if ne, 8
        cmp     dword ptr [WINDOW + 0x123454], 0x0DDBA11
        fail_if ne, 9
        say     "bits 20 to 13: a page above 4 GB, for stores and for an interrupt's frame"
        xor     eax, eax
        ret

on_int: iretd

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
