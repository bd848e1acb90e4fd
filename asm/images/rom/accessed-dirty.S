# A and D: who sets them and when, the processor's own pushes included.

        .include "rom.inc"
        .set    DIRECTORY,      0x200000
        .set    TABLE,          0x201000
        .set    LOW_TABLE,      0x202000
        .set    FRAMES,         0x300000
        .set    WINDOW,         0x40000000
        .set    USER_STACK,     0x1A0000
        .set    STACK_TABLE,    0x203000
        .set    INNER_STACK,    0x40401000      # esp0 here: a page, a table and a directory entry of its own
        .set    STACK_PLACE,    DIRECTORY + ((INNER_STACK - 0x1000) >> 22)*4

        .macro  bits_are entry, bits, status
        mov     eax, [\entry]
        and     eax, A | D
        cmp     eax, \bits
        fail_if ne, \status
        .endm

main:
        mov     edi, DIRECTORY
        mov     ecx, 4
        call    clear
        mov     dword ptr [DIRECTORY], LOW_TABLE | P | RW | US
        mov     dword ptr [DIRECTORY + (WINDOW >> 22)*4], TABLE | P | RW
        mov     ecx, 1024
1:      lea     eax, [ecx - 1]
        shl     eax, 12
        or      eax, P | RW | US
        mov     [LOW_TABLE + ecx*4 - 4], eax
        loop    1b
        mov     dword ptr [STACK_PLACE], STACK_TABLE | P | RW
        mov     dword ptr [STACK_TABLE], FRAMES + 0x4000 | P | RW
        mov     dword ptr [tss + 4], INNER_STACK
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

# An interrupt from ring 3 pushes onto a stack that nothing has touched, and reads tables in a page that looks clean.
        gate    0x30, on_int, USER_GATE
        bits_are STACK_TABLE, 0, 10
        bits_are STACK_PLACE, 0, 12
        or      byte ptr [gdt + USER_CS - 3 + 5], 1     # lest IRET mark them
        or      byte ptr [gdt + USER_DS - 3 + 5], 1
        mov     esi, offset idt                 # in one page with the GDT and the TSS
        shr     esi, 12
        lea     esi, [LOW_TABLE + esi*4]
        and     dword ptr [esi], ~(A | D)
        invlpg  [idt]
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
        mov     ebx, ss:[STACK_TABLE]
        mov     ecx, ss:[STACK_PLACE]
        mov     edi, ss:[esi]
        mov     eax, KERNEL_DS
        mov     ds, eax
        mov     es, eax
        mov     esp, STACK_TOP - 64
        and     ebx, A | D
        cmp     ebx, A | D
        fail_if ne, 11
        test    ecx, A
        fail_if z, 13
        say     "the processor's pushes: A and D, and A in the directory"
        and     edi, A | D
        cmp     edi, A
        fail_if ne, 14
        say     "its reads of IDT, GDT and TSS: A"
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
