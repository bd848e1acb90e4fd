# A module with an exception table of its own, whose entries are not in order of their addresses: the loader sorts it, for
# the search is binary.  Every load below faults; each has its own way out.

        .intel_syntax noprefix
        .text
        .globl  init_module
init_module:
        push    ebx
        xor     ebx, ebx
a:      mov     eax, [16]
        jmp     wrong
fa:     inc     ebx
b:      mov     eax, [0xBFFFF000]
        jmp     wrong
fb:     inc     ebx
c:      mov     byte ptr [0xFFFFF000], 1
        jmp     wrong
fc:     inc     ebx
d:      push    dword ptr [32]
        jmp     wrong
fd:     inc     ebx
e:      cmp     dword ptr [48], 3
        jmp     wrong
fe:     inc     ebx
        cmp     ebx, 5
        jne     wrong
        push    offset done
        call    printk
        pop     ecx
        xor     eax, eax
        pop     ebx
        ret
wrong:  mov     eax, 1
        pop     ebx
        ret

        .section __ex_table, "a"
        .long   d, fd, b, fb, e, fe, a, fa, c, fc

        .data
done:   .asciz  "module-extable: five faults, five ways out\n"
        .section .note.GNU-stack,"",@progbits
