; kmap_atomic, copy_highpage and clear_highpage from assembly: the C convention, arguments on the stack, the result in EAX.  The window is
; closed with the address that kmap_atomic gave, last opened first.

        global  init_module
        extern  printk, alloc_pages, __free_pages, kmap_atomic, kunmap_atomic, copy_highpage, clear_highpage

GFP_HIGHUSER equ 3 | 0x100              ; GFP_KERNEL | GFP_HIGHMEM
KM_USER0 equ    3

        section .text
init_module:
        push    ebx
        push    esi
        push    edi
        push    dword 0                 ; alloc_pages(gfp, order 0), twice
        push    dword GFP_HIGHUSER
        call    alloc_pages
        mov     esi, eax
        call    alloc_pages
        mov     edi, eax
        add     esp, 8

        push    dword KM_USER0          ; fill the first page through a window
        push    esi
        call    kmap_atomic
        add     esp, 8
        push    dword KM_USER0
        push    eax
        mov     ecx, 1024
.fill:  mov     [eax + ecx * 4 - 4], ecx
        dec     ecx
        jnz     .fill
        call    kunmap_atomic           ; (address, KM_USER0), pushed above
        add     esp, 8

        push    esi                     ; copy_highpage(to, from)
        push    edi
        call    copy_highpage
        add     esp, 8
        push    esi
        call    clear_highpage
        add     esp, 4

        push    dword KM_USER0          ; look at the copy
        push    edi
        call    kmap_atomic
        add     esp, 8
        mov     ebx, [eax + 4092]
        push    dword KM_USER0
        push    eax
        call    kunmap_atomic
        add     esp, 8

        push    ebx
        push    hello
        call    printk
        add     esp, 8
        push    dword 0                 ; __free_pages(page, order 0)
        push    esi
        call    __free_pages
        mov     [esp], edi
        call    __free_pages
        add     esp, 8
        xor     eax, eax
        sub     ebx, 1024               ; 0 to stay
        jz      .stay
        inc     eax
.stay:  pop     edi
        pop     esi
        pop     ebx
        ret

        section .data
hello:  db      "kmap-nasm: the copy's last word is %u", 10, 0
        section .note.GNU-stack noalloc noexec nowrite progbits
