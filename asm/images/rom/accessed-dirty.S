# A and D: who sets them and when, the processor's own pushes included.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    LOW_TABLE,      0x202000
        .set    FRAMES,         0x300000
        .set    WINDOW,         0x40000000
        .set    USER_STACK,     0x1A0000
        .set    STACK_ENTRY,    LOW_TABLE + ((RING0_STACK - 0x1000) >> 12)*4

        .macro  bits_are entry, bits, status
        mov     eax, [\entry]
        and     eax, A | D
        cmp     eax, \bits
        fail_if ne, \status
        .endm

main:
        mov     edi, DIRECTORY
        mov     ecx, 3
        call    clear
        mov     dword ptr [DIRECTORY], LOW_TABLE | P | RW | US
        mov     dword ptr [DIRECTORY + (WINDOW >> 22)*4], TABLE | P | RW
        mov     ecx, 1024
1:      lea     eax, [ecx - 1]
        shl     eax, 12
        or      eax, P | RW | US
        mov     [LOW_TABLE + ecx*4 - 4], eax
        loop    1b
        mov     dword ptr [TABLE], FRAMES | P | RW
        mov     dword ptr [TABLE + 4], FRAMES + 0x1000 | P | RW
        mov     dword ptr [TABLE + 8], FRAMES + 0x2000 | P
        mov     dword ptr [TABLE + 12], FRAMES + 0x3000 | P | RW
        mov     eax, DIRECTORY
        mov     cr3, eax
        mov     eax, cr0
        or      eax, CR0_PG | CR0_WP
        mov     cr0, eax

        bits_are TABLE, 0, 1
        mov     eax, [WINDOW]
        bits_are TABLE, A, 2
        mov     [WINDOW + 4], eax
        bits_are TABLE, A | D, 3
        say     "read: A; write: D"
        mov     [WINDOW + 0x1000], eax
        bits_are TABLE + 4, A | D, 4
        say     "write first: A and D at once"

        gate    14, on_fault
        mov     [WINDOW + 0x2000], eax
        cmp     dword ptr [fault_code], 3
        fail_if ne, 5
        test    dword ptr [TABLE + 8], D
        fail_if nz, 6
        say     "a write that faults: no D"

        mov     dword ptr [TABLE], FRAMES | P | RW
        invlpg  [WINDOW]
        mov     eax, [WINDOW]
        bits_are TABLE, A, 7
        say     "cleared by software, set again by the next walk"
        bits_are TABLE + 12, 0, 8
        test    dword ptr [DIRECTORY + (WINDOW >> 22)*4], A
        fail_if z, 9
        say     "the directory entry: A; an entry never used: nothing"

# An interrupt from ring 3 pushes onto a stack that nothing has touched.
        gate    0x30, on_int, USER_GATE
        bits_are STACK_ENTRY, 0, 10
        push    USER_DS
        push    USER_STACK
        push    2
        push    USER_CS
        push    offset in_user
        iretd
in_user:
        int     0x30
1:      jmp     1b

on_int:
        mov     ebx, [STACK_ENTRY]
        mov     eax, KERNEL_DS
        mov     ds, eax
        mov     es, eax
        mov     esp, STACK_TOP - 64
        and     ebx, A | D
        cmp     ebx, A | D
        fail_if ne, 11
        say     "the processor's pushes: A and D"
        xor     eax, eax
        jmp     exit

on_fault:
        pop     dword ptr [fault_code]
        or      dword ptr [TABLE + 8], RW
        invlpg  [WINDOW + 0x2000]
        add     dword ptr [esp], 5              # over the faulting mov
        iretd

        .data
fault_code: .long 0
