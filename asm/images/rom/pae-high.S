# PAE: frames above 4 GB, which no 32-bit pointer can name, and the NX bit.
#
# Needs RAM above 4 GB: 4 GB of it put some there on a PC with a hole for devices.

        .include "rom.inc"
        .set    POINTERS,       0x200000        # four entries of 8 bytes
        .set    DIRECTORY_0,    0x201000
        .set    DIRECTORY_1,    0x202000
        .set    TABLE,          0x203000
        .set    WINDOW,         0x40000000
        .set    LOW_FRAME,      0x00300000
        .set    HIGH_1,         1               # the high half of an entry: 4 GB
        .set    NX_HIGH,        0x80000000

main:
        mov     edi, POINTERS
        mov     ecx, 4
        call    clear
        mov     edi, LOW_FRAME
        mov     ecx, 2
        call    clear
        mov     dword ptr [POINTERS], DIRECTORY_0 | P
        mov     dword ptr [POINTERS + 8], DIRECTORY_1 | P
        mov     dword ptr [DIRECTORY_0], P | RW | PS
        mov     dword ptr [DIRECTORY_0 + 8], 0x200000 | P | RW | PS
        mov     dword ptr [DIRECTORY_1], TABLE | P | RW
# window page 0: frame 4 GB + 3 MB; page 1: the frame behind it; page 2: the low frame with the same low half
        mov     dword ptr [TABLE], LOW_FRAME | P | RW
        mov     dword ptr [TABLE + 4], HIGH_1
        mov     dword ptr [TABLE + 8], LOW_FRAME + 0x1000 | P | RW
        mov     dword ptr [TABLE + 12], HIGH_1
        mov     dword ptr [TABLE + 16], LOW_FRAME | P | RW

        mov     ecx, 0xC0000080
        rdmsr
        or      eax, 0x800                      # EFER.NXE
        wrmsr
        mov     eax, POINTERS
        mov     cr3, eax
        mov     eax, cr4
        or      eax, CR4_PAE
        mov     cr4, eax
        mov     eax, cr0
        or      eax, CR0_PG
        mov     cr0, eax

        mov     dword ptr [WINDOW], 0x12345678
        mov     dword ptr [WINDOW + 0x1000], 0x9ABCDEF0
        cmp     dword ptr [WINDOW], 0x12345678
        fail_if ne, 1
        cmp     dword ptr [WINDOW + 0x2000], 0
        fail_if ne, 2
        cmp     dword ptr [LOW_FRAME], 0
        fail_if ne, 3
        say     "the frame above 4 GB is not the low one with the same low half"

# The window's first page moves to the second high frame.
        mov     dword ptr [TABLE], LOW_FRAME + 0x1000 | P | RW
        invlpg  [WINDOW]
        cmp     dword ptr [WINDOW], 0x9ABCDEF0
        fail_if ne, 4
        say     "another frame above 4 GB through the same page"

# Code runs from above 4 GB, until NX forbids it.
        mov     dword ptr [WINDOW], 0x00C3172A  # sub dl, [edi]; ret
        mov     edi, offset seven
        mov     dl, 8
        mov     eax, WINDOW
        call    eax
        cmp     dl, 1
        fail_if ne, 5
        say     "code above 4 GB"
        gate    14, on_fault
        or      dword ptr [TABLE + 4], NX_HIGH
        invlpg  [WINDOW]
        mov     eax, WINDOW
        mov     ebp, esp
        call    eax
        mov     esp, ebp
        cmp     dword ptr [fault_code], 0x11
        fail_if ne, 6
        cmp     dword ptr [fault_address], WINDOW
        fail_if ne, 7
        cmp     dword ptr [WINDOW], 0x00C3172A
        fail_if ne, 8
        say     "NX: a fetch faults, a read does not"

# The IDT and the stack up there, and the table that maps them: what the processor walks, reads and pushes by itself.
        mov     dword ptr [TABLE + 24], LOW_FRAME + 0x2000 | P | RW
        mov     dword ptr [TABLE + 28], HIGH_1
        mov     dword ptr [WINDOW + 0x3000], LOW_FRAME + 0x1000 | P | RW
        mov     dword ptr [WINDOW + 0x3004], HIGH_1
        mov     dword ptr [DIRECTORY_1 + 8], LOW_FRAME + 0x2000 | P | RW
        mov     dword ptr [DIRECTORY_1 + 12], HIGH_1
        gate    0x30, on_int
        mov     esi, offset idt
        mov     edi, WINDOW + 0x1000
        mov     ecx, 256*8/4
        rep movsd
        lidt    [high_idt]
        mov     ebp, esp
        mov     esp, WINDOW + 0x201000
        int     0x30
        mov     esp, ebp
        lidt    [idt_pointer]
        cmp     dword ptr [WINDOW + 0x2000 - 8], KERNEL_CS
        fail_if ne, 9
        cmp     dword ptr [LOW_FRAME + 0x2000 - 8], 0
        fail_if ne, 10
        say     "IDT, stack and the table that maps them above 4 GB"
        xor     eax, eax
        ret

# The fetch faulted: go back to its caller instead.
on_fault:
        pop     dword ptr [fault_code]
        mov     eax, cr2
        mov     [fault_address], eax
        mov     eax, [esp + 12]
        mov     [esp], eax
        iretd

on_int: iretd

        .data
        .word   0
high_idt: .word 256*8 - 1
        .long   WINDOW + 0x200000
fault_code: .long 0
fault_address: .long 0
seven:  .byte   7
