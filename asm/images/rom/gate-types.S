# Gates: interrupt and trap, of 32 and of 16 bits, into conforming and plain code, absent, and what is no gate.

        .include "rom.inc"
        .set    LOW_STUB,       0x7000
        .set    CONFORMING_CS,  0x40
        .set    ABSENT_CS,      0x48
        .set    USER_STACK,     0x1A0000
        .set    NT,             0x4000

        .macro  flags_now register
        pushfd
        pop     \register
        .endm

main:
        mov     dword ptr [gdt_spare], 0x0000FFFF
        mov     dword ptr [gdt_spare + 4], 0x00CF9E00
        no_ticks
        sti

        gate    0x40, on_interrupt, INTERRUPT_GATE
        gate    0x41, on_trap, TRAP_GATE
        int     0x40
        test    dword ptr [seen_flags], 0x200
        fail_if nz, 1
        flags_now eax
        test    eax, 0x200
        fail_if z, 2
        int     0x41
        test    dword ptr [seen_flags], 0x200
        fail_if z, 3
        say     "an interrupt gate clears IF, a trap gate does not, IRET brings it back"

# NT would turn the handler's IRET into a task switch.
        pushfd
        or      dword ptr [esp], NT
        popfd
        int     0x40
        flags_now ecx
        pushfd
        and     dword ptr [esp], ~NT
        popfd
        test    dword ptr [seen_flags], NT
        fail_if nz, 17
        test    ecx, NT
        fail_if z, 18
        say     "NT is clear in the handler, and set again behind it"

# TF set when INT is met is clear in the handler, and set in what was pushed.
        gate    1, on_debug
        mov     dword ptr [trap_count], 0
        mov     dword ptr [seen_flags], 0
        pushfd
        or      dword ptr [esp], 0x100
        popfd
        nop
        pushfd
        and     dword ptr [esp], ~0x100
        popfd
        cmp     dword ptr [trap_count], 0
        fail_if e, 4
        test    dword ptr [seen_flags], 0x100
        fail_if z, 16
        say     "single steps trap, and the handler itself is not stepped"

# A 16-bit gate: six bytes, an offset of 16 bits.
        mov     byte ptr [LOW_STUB], 0xEA       # jmp far
        mov     dword ptr [LOW_STUB + 1], offset on_small
        mov     word ptr [LOW_STUB + 5], KERNEL_CS
        mov     dword ptr [idt + 0x43*8], KERNEL_CS << 16 | LOW_STUB
        mov     dword ptr [idt + 0x43*8 + 4], 0x00008600
        mov     ebx, esp
        int     0x43
after_small:
        cmp     ebx, esp
        fail_if ne, 5
        say     "a 16-bit gate pushes three 16-bit words"

        gate    0x44, on_interrupt, TRAP_GATE
        mov     word ptr [idt + 0x44*8 + 2], CONFORMING_CS
        int     0x44
        cmp     word ptr [seen_cs], CONFORMING_CS
        fail_if ne, 6

# From ring 3: no change of ring, so no change of stack.
        gate    0x4A, on_back, USER_GATE
        gate    0x4B, on_conforming, 0xEF00
        mov     word ptr [idt + 0x4B*8 + 2], CONFORMING_CS
        mov     [kernel_esp], esp
        push    USER_DS
        push    USER_STACK
        push    2
        push    USER_CS
        push    offset in_user
        iretd
in_user:
        mov     eax, USER_DS
        mov     ds, eax
        mov     es, eax
        int     0x4B
        int     0x4A
after_user:
        cmp     word ptr [seen_cs], CONFORMING_CS | 3
        fail_if ne, 19
        cmp     dword ptr [seen_esp], USER_STACK - 3*4
        fail_if ne, 20
        say     "a conforming handler: in the ring that it interrupts, on the same stack"

        gate    11, on_coded
        gate    13, on_coded
        gate    0x45, unexpected, 0x0E00
        int     0x45
        cmp     dword ptr [code], 0x45*8 + 2
        fail_if ne, 7
        cmp     dword ptr [code_cs], KERNEL_CS
        fail_if ne, 8
        say     "an absent gate: #NP with the IDT index, EXT clear after INT"
        gate    0x46, unexpected, 0x8200        # an LDT's type
        int     0x46
        cmp     dword ptr [code], 0x46*8 + 2
        fail_if ne, 9
        gate    0x47, unexpected
        mov     word ptr [idt + 0x47*8 + 2], 0
        int     0x47
        cmp     dword ptr [code], 0
        fail_if ne, 10
        gate    0x48, unexpected
        mov     word ptr [idt + 0x48*8 + 2], KERNEL_DS
        int     0x48
        cmp     dword ptr [code], KERNEL_DS
        fail_if ne, 11
        gate    0x49, unexpected
        mov     word ptr [idt + 0x49*8 + 2], 0x1000
        int     0x49
        cmp     dword ptr [code], 0x1000
        fail_if ne, 12
        say     "no gate, no selector, no code, no descriptor: #GP, each with its error code"
        mov     dword ptr [gdt_spare + 8], 0x0000FFFF
        mov     dword ptr [gdt_spare + 12], 0x00CF1A00  # code, not present
        gate    0x4C, unexpected
        mov     word ptr [idt + 0x4C*8 + 2], ABSENT_CS | 3
        int     0x4C
        cmp     dword ptr [code], ABSENT_CS
        fail_if ne, 21
        say     "a handler's segment that is absent: #NP with the selector less its RPL"
        gate    0x4D, unexpected
        mov     word ptr [idt + 0x4D*8 + 2], USER_CS
        int     0x4D
        cmp     dword ptr [code], USER_CS & ~3
        fail_if ne, 22
        mov     byte ptr [gdt_spare + 5], 0xFE          # conforming, DPL 3: only for ring 3
        mov     word ptr [idt + 0x4D*8 + 2], CONFORMING_CS
        int     0x4D
        cmp     dword ptr [code], CONFORMING_CS
        fail_if ne, 23
        say     "a handler in an outer ring, conforming or not: #GP"
        xor     eax, eax
        ret

on_interrupt:
on_trap:
        push    eax
        flags_now eax
        mov     [seen_flags], eax
        mov     [seen_cs], cs
        pop     eax
        iretd

on_conforming:
        mov     [seen_cs], cs
        mov     [seen_esp], esp
        iretd

on_back:
        mov     eax, KERNEL_DS
        mov     ds, eax
        mov     es, eax
        mov     esp, [kernel_esp]
        jmp     after_user

on_debug:
        inc     dword ptr [trap_count]
        push    eax
        flags_now eax
        test    eax, 0x100
        pop     eax
        jnz     unexpected
        push    eax
        mov     eax, [esp + 12]
        or      [seen_flags], eax
        pop     eax
        iretd

on_small:
        lea     eax, [esp + 6]
        cmp     eax, ebx
        fail_if ne, 13
        cmp     word ptr [esp], offset after_small - rom_entry  # 1 MB is no part of the low 16 bits
        fail_if ne, 14
        cmp     word ptr [esp + 2], KERNEL_CS
        fail_if ne, 15
        add     esp, 6
        mov     eax, offset after_small
        jmp     eax

# after INT nn: its error code, and on behind it
on_coded:
        pop     dword ptr [code]
        push    eax
        mov     eax, [esp + 8]
        mov     [code_cs], eax
        pop     eax
        add     dword ptr [esp], 2
        iretd

        .data
seen_flags: .long 0
seen_cs: .long  0
seen_esp: .long 0
kernel_esp: .long 0
trap_count: .long 0
code:   .long   0
code_cs: .long  0
