# One entry for each number of the table in sandbox/kernel/module/ksyms.py: what a module's call of an exported symbol lands
# in, unless the routine itself is here.

        .intel_syntax noprefix
        .text

        .balign 16
        .globl  export_stubs
export_stubs:
        .set    number, 0
        .rept   128
        .balign 16
        mov     eax, number
        jmp     kernel_gate
        .set    number, number + 1
        .endr

        .section .note.GNU-stack,"",@progbits
