# CR0.WP: whether ring 0 respects read-only pages.  COW in kernel mode depends on it.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    FRAME,          0x300000
        .set    WINDOW,         0x40000000
        .set    USER_STACK,     0x1A0000

main:
        mov     edi, DIRECTORY
        mov     ecx, 2
        call    clear
        mov     dword ptr [FRAME], 0
        mov     dword ptr [DIRECTORY], P | RW | US | PS
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
        gate    0x30, on_int
        mov     ebp, esp
        mov     esp, WINDOW + 0x800
        int     0x30
        mov     esp, ebp
        cmp     dword ptr [FRAME + 0x800 - 8], KERNEL_CS
        fail_if ne, 7
        say     "WP clear: ring 0 writes to a read-only page, and an interrupt's frame goes there"

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

# An interrupt's frame for ring 1 goes to that page; the page fault is ring 0's, on a stack of its own.
        and     dword ptr [TABLE], ~RW
        invlpg  [WINDOW]
        mov     dword ptr [faults], 0
        gate    0x31, on_back, USER_GATE
        gate    0x32, on_ring1, USER_GATE
        mov     word ptr [idt + 0x32*8 + 2], RING1_CS
        mov     dword ptr [tss + 12], WINDOW + 0x800
        push    USER_DS
        push    USER_STACK
        push    2
        push    USER_CS
        push    offset in_user
        iretd
in_user:
        mov     eax, USER_DS
        mov     ds, eax
        int     0x32
after_user:
        cmp     dword ptr [faults], 1
        fail_if ne, 8
        cmp     dword ptr [fault_code], 3       # the processor's own access is no user's
        fail_if ne, 9
        cmp     dword ptr [fault_address], WINDOW + 0x800 - 4
        fail_if ne, 10
        say     "WP set: the processor's pushes fault as well"
        xor     eax, eax
        jmp     exit

on_int: iretd

on_ring1:
        int     0x31

on_back:
        mov     eax, KERNEL_DS
        mov     ds, eax
        mov     esp, STACK_TOP
        jmp     after_user

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
