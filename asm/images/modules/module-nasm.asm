; The same by another assembler: a module needs nothing but an object file with init_module.

        global  init_module, cleanup_module
        extern  printk, vmalloc, vfree

        section .text
init_module:
        push    dword 8192
        call    vmalloc
        add     esp, 4
        test    eax, eax
        jz      .failed
        mov     [area], eax
        mov     dword [eax+8188], 7
        push    dword [eax+8188]
        push    hello
        call    printk
        add     esp, 8
        xor     eax, eax
        ret
.failed: mov    eax, -12
        ret

cleanup_module:
        push    dword [area]
        call    vfree
        add     esp, 4
        ret

        section .data
hello:  db      "module-nasm: %d at the end of two pages", 10, 0
        section .bss
area:   resd    1
        section .note.GNU-stack noalloc noexec nowrite progbits
