# CR0.WP: whether ring 0 respects read-only pages.  COW in kernel mode depends on it.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    FRAME,          0x300000
        .set    WINDOW,         0x40000000

main:
        mov     edi, DIRECTORY
        mov     ecx, 2
        call    clear
        mov     dword ptr [FRAME], 0
        mov     dword ptr [DIRECTORY], P | RW | PS
        mov     dword ptr [DIRECTORY + (WINDOW >> 22)*4], TABLE | P | RW | US
        mov     dword ptr [TABLE], FRAME | P | US
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PSE
        mov     cr4, eax
        mov     eax, cr0
        and     eax, ~CR0_WP
        or      eax, CR0_PG
        mov     cr0, eax
        gate    14, on_fault

        mov     dword ptr [WINDOW], 1
        cmp     dword ptr [faults], 0
        fail_if ne, 1
        cmp     dword ptr [FRAME], 1
        fail_if ne, 2
        say     "WP clear: ring 0 writes to a read-only page"

        mov     eax, cr0
        or      eax, CR0_WP
        mov     cr0, eax
        mov     dword ptr [WINDOW], 2
        cmp     dword ptr [faults], 1
        fail_if ne, 3
        cmp     dword ptr [fault_code], 3
        fail_if ne, 4
        cmp     dword ptr [fault_address], WINDOW
        fail_if ne, 5
        cmp     dword ptr [FRAME], 2
        fail_if ne, 6
        say     "WP set: page fault, then, made writable, the same store again"
        xor     eax, eax
        ret

on_fault:
        inc     dword ptr [faults]
        pop     dword ptr [fault_code]
        push    eax
        mov     eax, cr2
        mov     [fault_address], eax
        or      dword ptr [TABLE], RW
        invlpg  [WINDOW]
        pop     eax
        iretd

        .data
faults: .long   0
fault_code: .long 0
fault_address: .long 0
