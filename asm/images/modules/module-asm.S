# The smallest module that shows what a loader has to do: code and data of its own, relative calls to exported symbols
# (R_386_PC32), one through a PLT entry that is none (R_386_PLT32), absolute addresses (R_386_32), .bss and a common symbol.

        .intel_syntax noprefix
        .text
        .globl  init_module, cleanup_module
init_module:
        mov     eax, [numbers+4]
        add     eax, [zeros+60]
        add     eax, [everybodys]
        cmp     eax, 42
        jne     1f
        mov     dword ptr [zeros], 1    # each has its own memory
        mov     dword ptr [zeros+60], 2
        mov     dword ptr [kept], 3
        mov     dword ptr [everybodys], 4
        mov     ecx, [zeros]
        add     ecx, [zeros+60]
        add     ecx, [kept]
        add     ecx, [everybodys]
        cmp     ecx, 10
        jne     1f
        push    eax
        push    offset hello
        call    printk@PLT
        add     esp, 8
        push    3                       # GFP_KERNEL
        push    100
        call    [through]
        add     esp, 8
        test    eax, eax
        jz      1f
        mov     [kept], eax
        xor     eax, eax
        ret
1:      mov     eax, 1
        ret

cleanup_module:
        push    dword ptr [kept]
        call    kfree
        mov     dword ptr [esp], offset bye
        call    printk
        pop     ecx
        ret

        .data
numbers: .long  41, 42
through: .long  kmalloc
hello:  .asciz  "module-asm: relocated, %d\n"
bye:    .asciz  "module-asm: unloaded\n"

        .bss
zeros:  .skip   64
kept:   .skip   4
        .comm   everybodys, 4, 4

        .section .note.GNU-stack,"",@progbits
